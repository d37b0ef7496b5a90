"""A client of the public API with good manners: it tries again with the same ids, and not before it is asked to."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from typing import Any

import httpx

_AT_ONCE = 32
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_NDJSON = {"content-type": "application/x-ndjson"}


class ServiceError(RuntimeError):
    """The service refuses, or does not answer; the message says why."""


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """Asked to stop in the middle of a call that would be tried again."""


class Stop:
    """A request to stop, from a signal handler or a test."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self) -> None:
        """Ask."""
        self._event.set()

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, or less when asked to stop."""
        try:
            await asyncio.wait_for(self._event.wait(), max(seconds, 0.0))
        except TimeoutError:
            return


class Client:
    """The public API of a running service, with the patience of a good client.

    What can be tried again (no connection, 429, 502 to 504) is, with the same ids, slower and slower, and not before
    the service says so.
    """

    def __init__(self, url: str, patience_s: float, stop: Stop) -> None:
        limits = httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE)
        self._http = httpx.AsyncClient(base_url=url, timeout=10.0, limits=limits, trust_env=False)
        self.url = url
        self._patience_s = patience_s
        self._stop = stop
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self.retries = 0

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def get(self, path: str) -> Any:
        """The answer to a GET, decoded. Raises as `post` does."""
        return await self._call("GET", path)

    async def post(self, path: str, body: Any) -> Any:
        """The answer to a JSON body, decoded.

        Raises:
            ServiceError: The service refuses it, or does not answer for too long.
            Stopped: Somebody asked to stop while it was to be tried again.
        """
        return await self._call("POST", path, json=body)

    async def post_lines(self, path: str, lines: Sequence[Any]) -> Any:
        """The answer to many objects at once (NDJSON), decoded. Raises as `post` does."""
        content = "\n".join(json.dumps(line) for line in lines)
        return await self._call("POST", path, content=content, headers=_NDJSON)

    async def _call(self, method: str, path: str, **request: Any) -> Any:
        deadline = time.monotonic() + self._patience_s
        backoff = _FIRST_PAUSE_S
        while True:
            pause = 0.0
            try:
                async with self._at_once:
                    response = await self._http.request(method, path, **request)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if response.status_code not in _TRY_AGAIN:
                    return _accepted(response, path)
                reason, pause = _problem(response), _seconds(response.headers.get("retry-after"))
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.url} has not answered for {self._patience_s:g} s ({reason})")
            if self._stop.asked:
                raise Stopped
            self.retries += 1
            # The jitter keeps clients that were refused together from coming back together.
            await self._stop.sleep(max(pause, backoff * random.uniform(0.5, 1.0)))
            backoff = min(2 * backoff, _LONGEST_PAUSE_S)


def _accepted(response: httpx.Response, path: str) -> Any:
    if response.is_success:
        return response.json()
    raise ServiceError(f"{path}: {_problem(response)}")


def _problem(response: httpx.Response) -> str:
    try:
        told = response.json()
        words = [str(told.get("title", "")), str(told.get("detail", ""))]
        words += [json.dumps(error) for error in told.get("errors", [])]
    except ValueError:
        words = [response.text[:200]]
    return f"{response.status_code} {': '.join(word for word in words if word)}"


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
