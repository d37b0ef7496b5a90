"""Reads the service for those who look: each answer is fetched once for all of them, and only while somebody looks."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from service.console.news import News
from service.outside.client import Client, ServiceError, Stop

_KEPT = 512
_FORGET_S = 300.0
_LOOKS_S = 30.0
_LONG_AGO_S = 3600.0

SYSTEM = "/v1/system"


Ask = Callable[[str], Awaitable[Any]]


class Unreachable(Exception):  # noqa: N818 - a state of the service, not of the program
    """The service does not answer, and nothing is known of what was asked."""


@dataclass
class _Known:
    """The last answer to one path: when it was asked for, and whoever fetches it just now."""

    value: Any = None
    at: float = float("-inf")
    used: float = 0.0
    error: ServiceError | None = None
    fetching: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        return self.at == float("-inf")


class Reader:
    """What one API key may see of a service.

    A service that is away leaves what was known last, with `trouble` set: pages show both.

    Args:
        key: API key; empty where the service has none.

    Attributes:
        news: How many notes were heard since `listen`: where it has risen, what is known should be asked for again.
    """

    def __init__(self, url: str, key: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self.trouble = ""
        self.answered = float("-inf")
        self.news = 0
        self._used = float("-inf")
        self._news = News(url, key, self._heard, lambda: self._clock() - self._used < _LOOKS_S)
        self._client = Client(url, patience_s=0.0, stop=Stop(), key=key)
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def listen(self) -> None:
        """Follows what happens at the service, for as long as something is read."""
        self._used = self._clock()
        self._news.listen()

    async def close(self) -> None:
        """Ends what is being fetched and followed."""
        await self._news.close()
        for known in self._known.values():
            if known.fetching is not None:
                known.fetching.cancel()
        await self._client.close()

    async def get(self, path: str, fresh_s: float = 2.0) -> Any:
        """The answer to a GET, at most so many seconds old where the service answers, else the last known.

        Raises:
            Unreachable: Nothing is known and the service is away.
            ServiceError: The service refuses.
        """
        known = self._entry(path)
        if self._clock() - known.at > fresh_s:
            await asyncio.shield(self._fetched(path, known))
        return self._value(known)

    async def text(self, path: str, fresh_s: float = 15.0) -> str:
        """As `get`, of an answer that is no JSON."""
        known = self._entry(path)
        if self._clock() - known.at > fresh_s:
            await asyncio.shield(self._fetched(path, known, self._client.text))
        return str(self._value(known))

    def peek(self, path: str, fresh_s: float = 10.0) -> Any:
        """What is known already, `None` for nothing; asks in the background where it is older than that."""
        known = self._entry(path)
        if self._clock() - known.at > fresh_s:
            self._fetched(path, known)
        return None if known.error is not None else known.value

    async def post(self, path: str, body: Any) -> Any:
        """The answer to an order; what was known is asked for again. Raises `ServiceError`."""
        try:
            return await self._client.post(path, body)
        finally:
            self._doubt("")

    @property
    def silent_s(self) -> float:
        """Seconds since the service answered last."""
        return self._clock() - self.answered

    def _heard(self, subject: str) -> None:
        """Something has happened to a point or a model: what is told of it, and of the whole, has changed."""
        self.news += 1
        self._doubt(subject.partition(":")[2])

    def _doubt(self, name: str) -> None:
        """What is known of that point or model, and of the whole, is old; of everything where the name is empty."""
        now = self._clock()
        for path, known in self._known.items():
            if not known.empty and (name in path or path == SYSTEM):
                known.at = min(known.at, now - _LONG_AGO_S)

    def _entry(self, path: str) -> _Known:
        now = self._used = self._clock()
        if len(self._known) > _KEPT:
            self._known = {
                p: known for p, known in self._known.items() if now - known.used < _FORGET_S or known.fetching
            }
        known = self._known.setdefault(path, _Known())
        known.used = now
        return known

    def _fetched(self, path: str, known: _Known, ask: Ask | None = None) -> "asyncio.Task[None]":
        if known.fetching is None or known.fetching.done():
            known.fetching = asyncio.create_task(self._fetch(path, known, ask or self._client.get))
        return known.fetching

    async def _fetch(self, path: str, known: _Known, ask: Ask) -> None:
        begun = self._clock()
        try:
            known.value, known.error = await ask(path), None
        except ServiceError as error:
            if error.status in (0, 429, 503):
                self.trouble = str(error)
                return
            known.error = error
        known.at = begun
        self.trouble, self.answered = "", self._clock()

    def _value(self, known: _Known) -> Any:
        if known.error is not None:
            raise known.error
        if known.empty:
            raise Unreachable(self.trouble)
        return known.value
