"""uvicorn's HTTP protocol, with one system call for an answer's head and body instead of two."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWrite(HttpToolsProtocol):
    """Writes what a turn of the event loop has to say all at once.

    uvicorn writes the head of an answer when it begins and the body when it comes; each is a packet of its own, and a
    fifth of what a short answer costs.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(cast(asyncio.Transport, Gathered(transport, self.loop)))


class Gathered:
    """A transport that writes at the end of the turn."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Notes what is to be written."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Writes what was noted, then closes."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))
