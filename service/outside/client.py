"""A client of the public API with good manners: it tries again with the same ids, and not before it is asked to."""

import asyncio
import json
import os
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import msgspec

KEY = "TRIMTAB_KEY"

_AT_ONCE = 16
_TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_JSON = "application/json"
_NDJSON = "application/x-ndjson"
_BYTES = "application/octet-stream"

_encode = msgspec.json.Encoder().encode


class ServiceError(RuntimeError):
    """The service refuses, or does not answer; the message says why.

    Attributes:
        status: The HTTP status of the refusal, 0 where nothing answers.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def unknown(self) -> bool:
        """Whether what was asked for does not exist or cannot be, so that asking again would not help."""
        return self.status in (400, 404, 422)


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

    Args:
        key: API key, sent as a bearer token; empty for none, `None` for the one in the environment variable
            `TRIMTAB_KEY`.
    """

    def __init__(self, url: str, patience_s: float, stop: Stop, key: str | None = None) -> None:
        self.url = url
        self.retries = 0
        self._patience_s = patience_s
        self._stop = stop
        self._connections = _Connections(url, os.environ.get(KEY, "") if key is None else key)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="client")

    async def close(self) -> None:
        """Close its connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._connections.close()

    async def delete(self, path: str) -> Any:
        """The answer to a DELETE, decoded. Raises as `post` does."""
        return _decoded(await self._call("DELETE", path))

    async def get(self, path: str) -> Any:
        """The answer to a GET, decoded. Raises as `post` does."""
        return _decoded(await self._call("GET", path))

    async def text(self, path: str) -> str:
        """The answer to a GET that is no JSON. Raises as `post` does."""
        return (await self._call("GET", path)).decode()

    async def post(self, path: str, body: Any) -> Any:
        """The answer to a JSON body, decoded.

        Raises:
            ServiceError: The service refuses it, or does not answer for too long.
            Stopped: Somebody asked to stop while it was to be tried again.
        """
        return _decoded(await self._call("POST", path, _encode(body)))

    async def post_lines(self, path: str, lines: Sequence[Any]) -> Any:
        """The answer to many objects at once (NDJSON), decoded. Raises as `post` does."""
        return _decoded(await self._call("POST", path, b"\n".join(map(_encode, lines)), _NDJSON))

    async def post_bytes(self, path: str, body: bytes) -> Any:
        """The answer to a bundle, decoded. Raises as `post` does."""
        return _decoded(await self._call("POST", path, body, _BYTES))

    async def _call(self, method: str, path: str, body: bytes | None = None, media_type: str = _JSON) -> bytes:
        deadline = time.monotonic() + self._patience_s
        backoff = _FIRST_PAUSE_S
        while True:
            pause = 0.0
            try:
                answer = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._connections.exchange, method, path, body, media_type
                )
            except (OSError, HTTPException) as error:
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if answer.status not in _TRY_AGAIN:
                    return _accepted(answer, path)
                reason, pause = _problem(answer), answer.retry_after
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.url} has not answered for {self._patience_s:g} s ({reason})")
            if self._stop.asked:
                raise Stopped
            self.retries += 1
            # The jitter keeps clients that were refused together from coming back together.
            await self._stop.sleep(max(pause, backoff * random.uniform(0.5, 1.0)))
            backoff = min(2 * backoff, _LONGEST_PAUSE_S)


@dataclass(frozen=True)
class _Answer:
    """One response; `retry_after` is in seconds, 0 where the service does not say."""

    status: int
    body: bytes
    retry_after: float = 0.0


class _Connections:
    """One kept-alive connection for each thread. `http.client` costs a tenth of what a full-blown client does."""

    def __init__(self, url: str, key: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ServiceError(f"{url!r} is no address of a service: give one such as http://127.0.0.1:8080", 400)
        self._make = partial(
            HTTPSConnection if parts.scheme == "https" else HTTPConnection,
            parts.hostname,
            parts.port,
            timeout=_TIMEOUT_S,
        )
        self._prefix = parts.path.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._own = threading.local()
        self._all: list[HTTPConnection] = []

    def exchange(self, method: str, path: str, body: bytes | None, media_type: str) -> _Answer:
        """One request and its response.

        Raises:
            OSError, HTTPException: There is no response.
        """
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is not None and connection.sock is not None:
            try:
                return self._exchange(connection, method, path, body, media_type)
            except (ConnectionError, HTTPException):
                # It was idle for so long that the service hung up: that is no failure of the service.
                connection.close()
        if connection is None:
            connection = self._own.connection = self._make()
            self._all.append(connection)
        return self._exchange(connection, method, path, body, media_type)

    def _exchange(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None, media_type: str
    ) -> _Answer:
        try:
            headers = self._headers if body is None else {**self._headers, "content-type": media_type}
            connection.request(method, self._prefix + path, body, headers)
            response = connection.getresponse()
            return _Answer(response.status, response.read(), _seconds(response.getheader("retry-after")))
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close all."""
        for connection in self._all:
            connection.close()


def _decoded(body: bytes) -> Any:
    return msgspec.json.decode(body)


def _accepted(answer: _Answer, path: str) -> bytes:
    if 200 <= answer.status < 300:
        return answer.body
    raise ServiceError(f"{path}: {_problem(answer)}", answer.status)


def _problem(answer: _Answer) -> str:
    try:
        told = msgspec.json.decode(answer.body, type=dict[str, Any])
        words = [str(told.get("title", "")), str(told.get("detail", ""))]
        # The detail says in words what the list of errors says for programs.
        words += [] if words[1] else [json.dumps(error) for error in told.get("errors", [])]
    except msgspec.DecodeError:
        words = [answer.body[:200].decode(errors="replace")]
    return f"{answer.status} {': '.join(word for word in words if word)}"


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
