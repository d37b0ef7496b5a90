"""Bodies of requests: bounded in size and in time, with one timer for all that are being read."""

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.types import Message, Receive

from service.http.problems import ProblemError

_SWEEPS = 4


@dataclass(frozen=True)
class Limits:
    """What one request may cost: bytes of body, seconds until it has arrived (a quarter more at worst)."""

    body: int = 4 * 1024 * 1024
    seconds: float = 10.0


class Bodies:
    """Reads whole bodies, refused as soon as they are known to be too large or too slow.

    Nearly every body is there when it is asked for. A timer for each would cost more than reading it, so a few sweeps
    within the time that is allowed look for those that are late.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # In the order in which they began, so that a sweep ends at the first one that still has time.
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive, length: int | None) -> bytes:
        """The whole body.

        Raises:
            ProblemError: 413 where it is too large, 408 where it takes too long.
        """
        if length is not None and length > self._limits.body:
            raise self._too_large()
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is None:
            raise RuntimeError("a body is read within a task")
        self._reading[task] = loop.time() + self._limits.seconds
        if self._timer is None:
            self._timer = loop.call_later(self._limits.seconds / _SWEEPS, self._sweep, loop)
        try:
            message = await receive()
            body = message.get("body", b"")
            if not message.get("more_body") and len(body) <= self._limits.body:
                return bytes(body)
            return await self._rest(message, receive)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            detail = f"The body did not arrive within {self._limits.seconds:g} s. Send it again."
            raise ProblemError("too-slow", detail) from None
        finally:
            del self._reading[task]
            self._late.discard(task)

    async def _rest(self, message: Message, receive: Receive) -> bytes:
        parts = [message.get("body", b"")]
        size = len(parts[0])
        while message.get("more_body") and size <= self._limits.body:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        if size > self._limits.body:
            raise self._too_large()
        return b"".join(parts)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, until in self._reading.items():
            if until > now:
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()
        again = bool(self._reading)
        self._timer = loop.call_later(self._limits.seconds / _SWEEPS, self._sweep, loop) if again else None

    def _too_large(self) -> ProblemError:
        most = self._limits.body
        return ProblemError("too-large", f"At most {most} bytes are accepted at once. Send smaller batches.")
