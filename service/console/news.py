"""Listens to what happens at the service, by its event stream, while somebody looks."""

import asyncio
from collections.abc import Callable

import httpx
import msgspec

PATH = "/v1/feed"
_SILENT_S = 20.0
_PAUSE_S = 1.0


class _Told(msgspec.Struct):
    """What is needed of a note: whom it is about, as `point:<name>` or `model:<name>`, `` for the whole."""

    subject: str = ""


_told = msgspec.json.Decoder(_Told)


class News:
    """Whom something has just happened to.

    It looks after every line whether anybody still wants it, and the service sends one every fifteen seconds at least.

    Args:
        key: API key; empty where the service has none.
        heard: Called with the subject of each note, each once.
        wanted: Whether somebody still looks.
    """

    def __init__(self, url: str, key: str, heard: Callable[[str], None], wanted: Callable[[], bool]) -> None:
        self._url = f"{url.rstrip('/')}{PATH}"
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._heard, self._wanted = heard, wanted
        self._last = ""
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Listens from now on, where it does not already."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Listens no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        timeout = httpx.Timeout(10.0, read=_SILENT_S)
        async with httpx.AsyncClient(headers=self._headers, timeout=timeout, trust_env=False) as client:
            while self._wanted():
                try:
                    await self._follow(client)
                except (httpx.HTTPError, msgspec.DecodeError):
                    await asyncio.sleep(_PAUSE_S)

    async def _follow(self, client: httpx.AsyncClient) -> None:
        """One connection, until it ends or nobody wants it."""
        resumed = {"last-event-id": self._last} if self._last else {}
        async with client.stream("GET", self._url, headers=resumed) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if not self._wanted():
                    return
                name, _, value = line.partition(":")
                if name == "id":
                    self._last = value.strip()
                elif name == "data":
                    self._heard(_told.decode(value).subject)
        await asyncio.sleep(_PAUSE_S)
