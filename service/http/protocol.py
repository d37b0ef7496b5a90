"""uvicorn's HTTP protocol, with less work for each request.

A short answer costs more to carry than to make. Two things help: head and body leave in one system call, and a POST to
a hot path that has arrived whole is answered without an ASGI scope, its queue of messages and its two events.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.http.guard import Guard
from service.http.operations import Answer, Endpoint, Head, ShortWay, headers_of, problem, write
from service.http.problems import ProblemError, failure

HEAD_MOST = 64 * 1024
"""Bytes of one request's head."""
_LINGER_S = 1.0
_CLOSE = b"connection: close\r\n"

_log = logging.getLogger(__name__)


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

    A head is bounded in size and time. What cannot be understood is refused once everything that was asked before it
    is answered, and ends the connection: nothing after it is read.

    Attributes:
        head_s: Seconds within which a head must have arrived once it has begun (a quarter more at worst).
        silent_s: Seconds within which one must begin.
    """

    head_s: ClassVar[float] = 10.0
    silent_s: ClassVar[float] = 30.0
    _told: ClassVar[tuple[Sequence[tuple[bytes, bytes]], bytes]] = ((), b"")
    _hot: tuple[Endpoint, Head] | None = None
    _parts: list[bytes]
    _in_head = _in_body = False
    _owed = _read = _first = _more = 0
    _why: ProblemError | None = None
    _refused: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(cast(asyncio.Transport, Gathered(transport, self.loop)))
        # Our own limit from here on: uvicorn's would answer 503 in plain text, with no word about when to come back.
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self._direct = cast(Direct, self.app) if hasattr(self.app, "short_way") else None
        self._since = self.loop.time()
        self._watch = self.loop.call_later(self.head_s / 4, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if self._refused is not None:
            return
        before, self._read = self._in_head, len(data)
        super().data_received(data)
        if self._in_head:
            # What came with the head's first bytes may be another request's body.
            self._more += self._read if before else 0
            if self._more > HEAD_MOST:
                self._refuse(_too_large())
        elif self._hot is not None:
            self._hot = None
            if not self.transport.is_closing():
                super().on_headers_complete()
                super().on_body(b"".join(self._parts))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._first, self._more, self._since = True, self._read, 0, self.loop.time()

    def on_headers_complete(self) -> None:
        """The head is there: decides which way the request goes."""
        self._in_head = False
        if self._first + self._more + self._read > HEAD_MOST and self._head_size() > HEAD_MOST:
            self._why = _too_large()
            raise self._why
        self._take()
        self._in_body = True
        self._owed += 1

    def _take(self) -> None:
        """Begins with a request on the way that it goes."""
        if self._direct is None or not self._is_plain():
            app = self.app
            if self._is_crowded():
                self.app = _crowded
            super().on_headers_complete()
            self.app = app
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
        self._in_body = False
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
            and not self._is_crowded()
        )

    def _is_crowded(self) -> bool:
        """Whether there are more connections or requests than uvicorn was told to hold."""
        return self._most is not None and max(len(self.connections), len(self.tasks)) >= self._most

    async def _exchange(self, exchange: _Exchange, endpoint: Endpoint, head: Head, body: bytes) -> None:
        try:
            written = self._written(await self._answer(endpoint, head, body), exchange.keep_alive)
        except Exception:  # noqa: BLE001 - whoever waits must hear of it
            _log.exception("a request could not be answered")
            exchange.keep_alive = False
            written = self._written(problem(failure()), keep_alive=False)
        if self.flow.write_paused and not exchange.disconnected:
            await self.flow.drain()
        if exchange.disconnected:
            return
        cast(Gathered, self.transport).write_now(written)
        exchange.response_complete = True
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    async def _answer(self, endpoint: Endpoint, head: Head, body: bytes) -> Answer:
        refusal = self._direct.guard.refusal("POST", head.headers) if self._direct else None
        return await endpoint.post(head, body) if refusal is None else problem(refusal)

    def on_response_complete(self) -> None:
        """An answer is written: the next request's turn, or the end where what came then was refused."""
        self._owed -= 1
        self._since = self.loop.time()
        super().on_response_complete()
        if self._refused is not None and not self._owed:
            self._end(self._refused)

    def send_400_response(self, msg: str) -> None:
        """The parser gave up."""
        self._refuse(self._why or ProblemError("malformed-request", f"{msg} Send HTTP/1.1, one request after another."))

    def _refuse(self, error: ProblemError) -> None:
        """Reads no more; says why as soon as all that was asked before is answered."""
        self._refused = problem(error)
        if self._in_body:
            self._give_up()
        if not self._owed:
            self._end(self._refused)

    def _give_up(self) -> None:
        """Leaves the request whose body broke off without an answer of its own."""
        self._in_body = False
        if self._hot is not None:
            self._hot = None
        elif self.pipeline:
            self.pipeline.popleft()
        elif not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
        else:
            return
        self._owed -= 1

    def _end(self, answer: Answer) -> None:
        """Says the last word; hangs up a little later, since what is still under way would tear it from the client."""
        if self.transport.is_closing():
            return
        cast(Gathered, self.transport).write_now(self._written(answer, keep_alive=False))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(_LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def _look(self) -> None:
        """Ends a connection whose next head takes too long, or never comes."""
        waited = 0.0 if self._owed or self._refused else self.loop.time() - self._since
        if self._in_head and waited > self.head_s:
            detail = f"The head of the request did not arrive within {self.head_s:g} s. Send it again."
            self._refuse(ProblemError("too-slow", detail))
        elif not self._in_head and waited > self.silent_s:
            self.transport.close()
        if not self.transport.is_closing():
            self._watch = self.loop.call_later(self.head_s / 4, self._look)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _written(self, answer: Answer, keep_alive: bool) -> bytes:
        """A whole response as bytes."""
        common = self._common()
        text = b"".join([b"%b: %b\r\n" % line for line in headers_of(answer)])
        return b"".join((STATUS_LINE[answer.status], common, text, b"" if keep_alive else _CLOSE, b"\r\n", answer.body))

    def _common(self) -> bytes:
        """The headers of every response; uvicorn makes them anew each second, with the date."""
        made = self.server_state.default_headers
        if Quick._told[0] is not made:
            Quick._told = made, b"".join([b"%b: %b\r\n" % line for line in made])
        return Quick._told[1]


def _too_large() -> ProblemError:
    return ProblemError("head-too-large", f"A head has at most {HEAD_MOST} bytes. Send fewer or shorter headers.")


async def _crowded(_: Scope, __: Receive, send: Send) -> None:
    detail = "More connections are open than the service holds. Close some, or try again in a second."
    await write(send, problem(ProblemError("overloaded", detail, headers={"Retry-After": "1"})))


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
