"""Operations: what the HTTP interface can do, as values, and the ASGI shell that runs one.

A handler is `async (call) -> Answer`: raw bytes in, raw bytes out, decoded with msgspec. Hot routes pay for nothing
else; the OpenAPI document is made from the same values (`service.http.openapi`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from service.http.bodies import MOST, Bodies, too_large
from service.http.decoding import too_wide
from service.http.door import NEEDS, Caller, Door, Needs, Order
from service.http.problems import MEDIA_TYPE, Kind, ProblemError, failure, invalid

JSON = "application/json"
NDJSON = "application/x-ndjson"
_PATHS, _LONGEST = 1024, 512
_REFUSED = 400
_JSON_TYPE = (b"content-type", JSON.encode())

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Call(NamedTuple):
    """One request as a handler sees it: the path's names, the query's parameters, the media type and the body.

    `caller` is whoever asks, `None` while nobody is asked for a key.
    """

    path: Mapping[str, str]
    query: Mapping[str, str]
    media_type: str
    body: bytes
    caller: Caller | None = None


class Answer(NamedTuple):
    """One response: bytes, their media type, a status; `about` is what was changed, where the path does not say."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = _NO_HEADERS
    about: str = ""


Handler: TypeAlias = Callable[[Call], Awaitable[Answer]]
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Parameter:
    """One query parameter: its name, its JSON schema and what it means."""

    name: str
    schema: Mapping[str, Any]
    doc: str
    required: bool = False


SWITCH: Mapping[str, Any] = {"anyOf": [{"type": "boolean"}, {"enum": ["", "0", "1"]}]}
"""What `flag` takes."""


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Attributes:
        path: With `{name}` for variables, as Starlette writes them.
        request: The struct of the body, or its JSON schema; `None` where there is none.
        answer: The struct of a successful answer; `None` where it is no JSON.
        consumes: The media type of the body.
        problems: The kinds of problem details that it may answer with, besides those of every route.
        scope: What an API key must hold to be let in; `any` good key, or `none` at all.
        batch: Whether the body may be NDJSON.
        most: Bytes that the body may have.
        others: Media types that an answer may have instead of `media_type`.
        kind: The path of all of its kind, where this one is of a single point or model.
        hot: Whether it is worth a short way past FastAPI's own layers.
        limited: Whether it counts against the requests in flight; probes and metrics do not.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answer: Any
    request: Any = None
    consumes: str = JSON
    problems: tuple[Kind, ...] = ()
    scope: Needs | Literal[""] = ""
    tag: str = "system"
    batch: bool = False
    most: int = MOST
    hot: bool = False
    limited: bool = True
    status: int = 200
    media_type: str = JSON
    others: tuple[str, ...] = ()
    kind: str = ""
    query: tuple[Parameter, ...] = ()
    example: Any = None

    def __post_init__(self) -> None:
        if self.scope not in NEEDS:
            raise ValueError(
                f"{self.method} {self.path} has the scope {self.scope!r}: it needs one of {', '.join(NEEDS)}"
            )

    @property
    def route(self) -> str:
        """Method and path, as of all of its kind."""
        return f"{self.method} {self.kind or self.path}"

    @property
    def audited(self) -> bool:
        """Whether a person changes something by it: it is in the audit chain before it is answered."""
        return self.scope in ("operate", "admin") and self.method != "GET"

    def tagged(self, tag: str) -> "Operation":
        """The same operation under another heading of the document."""
        return replace(self, tag=tag)


class Observer(Protocol):
    """Whoever counts what was answered."""

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request to `route` was answered with `status` after `seconds`."""

    def refusal(self, route: str, kind: str) -> None:
        """One request to `route` was answered with this kind of problem."""


@dataclass
class Gate:
    """How many requests may be at work at once; the rest is refused before it is decoded.

    An unbounded queue answers nobody in time: at twice the capacity its 99th percentile is its length.
    """

    limit: int
    waiting: int = 0

    def enter(self) -> None:
        """Counts one in; a 429 where the service is full."""
        if self.waiting >= self.limit:
            detail = f"{self.limit} requests are being answered already. Try again in a second."
            raise ProblemError("overloaded", detail, headers={"Retry-After": "1"})
        self.waiting += 1

    def leave(self) -> None:
        """Counts one out."""
        self.waiting -= 1


class Head(NamedTuple):
    """What comes with a request before its body: the path's names, the query as it was sent, the headers."""

    path: Mapping[str, str]
    query: bytes
    headers: Headers


class Endpoint:
    """The ASGI application of one path: reads a bounded body, calls the method's handler, writes its answer."""

    def __init__(
        self, operations: Iterable[Operation], gate: Gate, bodies: Bodies, observer: Observer, door: Door
    ) -> None:
        self._operations = {operation.method: operation for operation in operations}
        self.methods = list(self._operations)
        self._gate = gate
        self._bodies = bodies
        self._observer = observer
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._operations["GET" if scope["method"] == "HEAD" else scope["method"]]
        head = Head(scope["path_params"], scope["query_string"], scope["headers"])
        try:
            answer = await self._answer(operation, head, receive)
        except Exception:  # noqa: BLE001 - what counts or words an answer may fail too
            _log.exception("%s %s could not be answered", operation.method, operation.path)
            answer = problem(failure())
        await write(send, answer)

    def post(self, head: Head, body: bytes) -> Coroutine[Any, Any, Answer]:
        """The answer to a POST whose body is there already."""
        return self._answer(self._operations["POST"], head, body)

    async def _answer(self, operation: Operation, head: Head, source: bytes | Receive) -> Answer:
        started = time.perf_counter()
        entered, body = False, b""
        try:
            caller = self._door.admit(operation.scope, head.path, head.headers)
            if operation.limited:
                self._gate.enter()
                entered = True
            media_type, length = _described(head.headers)
            if operation.request is not None:
                body = await self._body(source, length, operation.most)
            query = dict(parse_qsl(head.query.decode("latin-1"), keep_blank_values=True)) if head.query else {}
            answer = await operation.handler(Call(head.path, query, media_type, body, caller))
            if operation.audited and answer.status < _REFUSED:
                path = operation.path.format_map(head.path)
                await self._door.record(Order(operation.summary, path, head.path, query, body, answer.about), caller)
        except asyncio.CancelledError:
            # Only the end of the process breaks a request off.
            answer = problem(_ending())
        except Exception as error:  # noqa: BLE001 - the last line: a client sees a problem, never a traceback
            refusal = _refusal(operation, error, body)
            self._observer.refusal(operation.path, refusal.kind)
            answer = problem(refusal)
        finally:
            if entered:
                self._gate.leave()
        self._observer.request(operation.path, operation.method, answer.status, time.perf_counter() - started)
        return answer

    async def _body(self, source: bytes | Receive, length: int | None, most: int) -> bytes:
        if not isinstance(source, bytes):
            return await self._bodies.read(source, length, most)
        if len(source) > most:
            raise too_large(most)
        return source


def _ending() -> ProblemError:
    detail = "The service is ending; a write may have happened or not. Repeat it with the same id."
    return ProblemError("unavailable", detail, headers={"Retry-After": "1"})


def _refusal(operation: Operation, error: Exception, body: bytes) -> ProblemError:
    """What a client hears of an error."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, OverflowError) and (refused := too_wide(body)) is not None:
        # JSON's integers have no bounds, the log's have 64 bits; nothing has been appended.
        return refused
    _log.error("%s %s failed", operation.method, operation.path, exc_info=error)
    return failure()


class ShortWay:
    """Finds the endpoints of hot paths (`/v1/<things>/{name}` and what may follow) without trying routes in turn."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        split = {tuple(path.split("/")): endpoint for path, endpoint in endpoints.items()}
        self._endpoints = {(parts[2], *parts[4:]): (parts[3][1:-1], endpoint) for parts, endpoint in split.items()}
        self._known: dict[str, tuple[Endpoint, Mapping[str, str]]] = {}

    def find(self, path: str) -> tuple[Endpoint, Mapping[str, str]] | None:
        """The endpoint of a path, and the path's variable."""
        known = self._known.get(path)
        if known is not None:
            return known
        parts = path.split("/")
        if len(parts) < 4 or parts[1] != "v1" or not parts[3]:
            return None
        found = self._endpoints.get((parts[2], *parts[4:]))
        if found is None:
            return None
        named = found[1], {found[0]: parts[3]}
        if len(path) <= _LONGEST:
            if len(self._known) >= _PATHS:
                self._known.clear()
            self._known[path] = named
        return named


def reply(value: Any, status: int = 200) -> Answer:
    """A value as a JSON answer."""
    return Answer(_encode(value), status)


def problem(error: ProblemError) -> Answer:
    """A problem as an answer."""
    return Answer(_encode(error.problem()), error.status, MEDIA_TYPE, error.headers)


def flag(call: Call, name: str) -> bool:
    """Whether a switch stands in the query: `?full`, `?full=1` and `?full=true` turn it on."""
    value = call.query.get(name)
    if value is None or value in ("0", "false"):
        return False
    if value in ("", "1", "true"):
        return True
    raise invalid(name, "one of: true, false", value)


def integer(call: Call, name: str, default: int, low: int, high: int) -> int:
    """An integer of the query, between `low` and `high`."""
    text = call.query.get(name)
    if text is None:
        return default
    allowed = f"an integer from {low} to {high}"
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not low <= int(text) <= high:
        raise invalid(name, allowed, text)
    return int(text)


def _described(headers: Headers) -> tuple[str, int | None]:
    """The media type, without its parameters, and the announced length of the body."""
    media_type, length = "", None
    for name, value in headers:
        if name == b"content-type":
            media_type = JSON if value == _JSON_TYPE[1] else value.decode("latin-1").partition(";")[0].strip().lower()
        elif name == b"content-length" and value.isdigit():
            length = int(value)
    return media_type, length


def headers_of(answer: Answer) -> list[tuple[bytes, bytes]]:
    """The headers of a complete response."""
    kind = _JSON_TYPE if answer.media_type is JSON else (b"content-type", answer.media_type.encode("latin-1"))
    headers = [kind, (b"content-length", b"%d" % len(answer.body))]
    if answer.headers:
        headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    return headers


async def write(send: Send, answer: Answer) -> None:
    """Sends a complete response."""
    await send({"type": "http.response.start", "status": answer.status, "headers": headers_of(answer)})
    await send({"type": "http.response.body", "body": answer.body})
