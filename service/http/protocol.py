"""uvicorn's HTTP protocol, with less work for each request.

A short answer costs more to carry than to make. Two things help: head and body leave in one system call, and a POST to
a hot path that has arrived whole is answered without an ASGI scope, its queue of messages and its two events.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.http.guard import Guard
from service.http.operations import Answer, Endpoint, Head, ShortWay, headers_of, problem

_CLOSE = b"connection: close\r\n"


class Direct(Protocol):
    """An application whose hot paths may be asked without ASGI."""

    short_way: ShortWay
    guard: Guard


class _Told:
    """Takes the place of the event that tells an ASGI application of more: nobody waits for it."""

    def set(self) -> None:
        """Nothing to do."""


class _Exchange:
    """One request that is answered directly; stands where uvicorn keeps its own, with what it looks at there."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")
    message_event = _Told()

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False


class Quick(HttpToolsProtocol):
    """Writes what a turn of the event loop has to say all at once, and answers hot paths directly.

    What has not arrived whole in one read, was sent ahead of an answer, or asks for anything special goes uvicorn's
    own way, as does everything where the application has no hot paths.
    """

    _hot: tuple[Endpoint, Head] | None = None
    _parts: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(cast(asyncio.Transport, Gathered(transport, self.loop)))
        self._direct = cast(Direct, self.app) if hasattr(self.app, "short_way") else None

    def data_received(self, data: bytes) -> None:
        """Something came."""
        super().data_received(data)
        if self._hot is not None:
            self._hot = None
            if not self.transport.is_closing():
                super().on_headers_complete()
                super().on_body(b"".join(self._parts))

    def on_headers_complete(self) -> None:
        """The head is there: decides which way the request goes."""
        if self._direct is None or not self._is_plain():
            super().on_headers_complete()
            if self.parser.should_upgrade():
                # The parser stops at this head: what follows is its body, and must never be taken for a request.
                self.cycle.keep_alive = False
            return
        path, _, query = self.url.partition(b"?")
        found = self._direct.short_way.find(path.decode("latin-1"))
        if found is None:
            super().on_headers_complete()
            return
        endpoint, names = found
        self._hot = endpoint, Head(names, query, self.headers)
        self._parts = []

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        if self._hot is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """All is there."""
        if self._hot is None:
            super().on_message_complete()
            return
        exchange = _Exchange(self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0")
        self.cycle = cast(Any, exchange)
        task = self.loop.create_task(self._exchange(exchange, *self._hot, b"".join(self._parts)))
        self._hot = None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _is_plain(self) -> bool:
        """Whether the request is a POST with nothing special about it, on a connection where nothing is under way."""
        return (
            self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not (self.expect_100_continue or self.parser.should_upgrade())
            and not (b"%" in self.url or b"#" in self.url)
            and (self.limit_concurrency is None or self._open() < self.limit_concurrency)
        )

    def _open(self) -> int:
        """What uvicorn's own limit counts."""
        return max(len(self.connections), len(self.tasks))

    async def _exchange(self, exchange: _Exchange, endpoint: Endpoint, head: Head, body: bytes) -> None:
        refusal = self._direct.guard.refusal("POST", head.headers) if self._direct else None
        answer = await endpoint.post(head, body) if refusal is None else problem(refusal)
        if self.flow.write_paused and not exchange.disconnected:
            await self.flow.drain()
        if exchange.disconnected:
            return
        cast(Gathered, self.transport).write_now(self._written(answer, exchange.keep_alive))
        exchange.response_complete = True
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _written(self, answer: Answer, keep_alive: bool) -> bytes:
        """A whole response as bytes."""
        lines: Sequence[tuple[bytes, bytes]] = (*self.server_state.default_headers, *headers_of(answer))
        text = b"".join([b"%b: %b\r\n" % line for line in lines])
        return b"".join((STATUS_LINE[answer.status], text, b"" if keep_alive else _CLOSE, b"\r\n", answer.body))


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

    def write_now(self, data: bytes) -> None:
        """Writes at once, after what was noted."""
        self._flush()
        self._transport.write(data)

    def close(self) -> None:
        """Writes what was noted, then closes."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))
