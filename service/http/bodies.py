"""Bodies of requests: bounded in size and in time, with one timer for all that are being read."""

import asyncio
from typing import Any

from starlette.types import Message, Receive

from service.http.problems import ProblemError

MOST = 4 * 1024 * 1024
"""Bytes of one body, where an operation does not say that it takes more."""
SECONDS = 10.0
_SWEEPS = 4


class Bodies:
    """Reads whole bodies, refused as soon as they are known to be too large or too slow.

    Nearly every body is there when it is asked for. A timer for each would cost more than reading it, so a few sweeps
    within the time that is allowed look for those that are late.

    Args:
        seconds: Until a body must have arrived (a quarter more at worst); in proportion for one that may be larger
            than `MOST`.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive, length: int | None, most: int = MOST) -> bytes:
        """The whole body, of at most so many bytes.

        Raises:
            ProblemError: 413 where it is too large, 408 where it takes too long.
        """
        if length is not None and length > most:
            raise too_large(most)
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is None:
            raise RuntimeError("a body is read within a task")
        seconds = self._seconds * max(1.0, most / MOST)
        self._reading[task] = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds / _SWEEPS, self._sweep, loop)
        try:
            message = await receive()
            body = message.get("body", b"")
            if not message.get("more_body") and len(body) <= most:
                return bytes(body)
            return await _rest(message, receive, most)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            detail = f"The body did not arrive within {seconds:g} s. Send it again."
            raise ProblemError("too-slow", detail) from None
        finally:
            del self._reading[task]
            self._late.discard(task)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, until in self._reading.items():
            if until <= now and task not in self._late:
                self._late.add(task)
                task.cancel()
        again = bool(self._reading)
        self._timer = loop.call_later(self._seconds / _SWEEPS, self._sweep, loop) if again else None


async def _rest(message: Message, receive: Receive, most: int) -> bytes:
    parts = [message.get("body", b"")]
    size = len(parts[0])
    while message.get("more_body") and size <= most:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if size > most:
        raise too_large(most)
    return b"".join(parts)


def too_large(most: int) -> ProblemError:
    """The 413 for a body beyond what an operation takes."""
    return ProblemError("too-large", f"At most {most} bytes are accepted here at once. Send less, or smaller batches.")
