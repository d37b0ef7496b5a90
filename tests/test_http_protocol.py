"""On a real socket: answers written at once are the same answers, in order, whatever the client does.

Paths under `/v1` are hot: they are answered without ASGI where the request has arrived whole, and through it otherwise.
"""

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from dataclasses import replace

import pytest
import uvicorn
from doors import OPEN
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from service.app import served_at
from service.http.bodies import Bodies
from service.http.guard import Guard
from service.http.operations import Answer, Endpoint, Gate, Operation, ShortWay
from service.http.protocol import Quick
from service.http.telemetry import Telemetry

LARGE = b"x" * 3_000_000


async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="text/plain")


async def large(_: Request) -> Response:
    return Response(LARGE)


async def drip(_: Request) -> StreamingResponse:
    async def parts():
        for number in range(3):
            yield b"part %d\n" % number

    return StreamingResponse(parts())


async def say(call):
    if delay := call.query.get("delay"):
        await asyncio.sleep(float(delay))
    return Answer(b"%s %s" % (call.path["name"].encode(), call.body), media_type="text/plain")


class Uncounted(Telemetry):
    """Fails at the last step before an answer is written."""

    def request(self, *_):
        raise RuntimeError("a secret of the inside")


class Application(Starlette):
    """As Trimtab's own: a hot path, taken without ASGI where that is possible."""

    guard = Guard(any_host=False)

    def __init__(self):
        operation = Operation("POST", "/v1/says/{name}", "Say", say, None, request=bytes, most=1_000_000, scope="none")
        self.telemetry = Telemetry()
        self.endpoint = Endpoint([operation], Gate(4), Bodies(seconds=0.4), self.telemetry, OPEN)
        other = replace(operation, path="/v1/fails/{name}")
        failing = Endpoint([other], Gate(4), Bodies(), Uncounted(), OPEN)
        self.short_way = ShortWay({operation.path: self.endpoint, other.path: failing})
        routes = [Route("/echo", echo, methods=["POST"]), Route("/large", large), Route("/drip", drip)]
        routes += [Route(operation.path, self.endpoint, methods=["POST"])]
        super().__init__(routes=[*routes, Route(other.path, failing, methods=["POST"])])
        self.by_asgi = 0

    async def __call__(self, scope, receive, send):
        self.by_asgi += scope["type"] == "http"
        await super().__call__(scope, receive, send)


@pytest.fixture(scope="module")
def app():
    return Application()


@pytest.fixture(scope="module")
def port(app):
    server = uvicorn.Server(served_at(app, "127.0.0.1", 0, "error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


def ask(port, sent, until):
    """Everything that comes back, until it matches or the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        got = b""
        while not re.search(until, got, re.DOTALL):
            part = connection.recv(1 << 20)
            if not part:
                break
            got += part
        return got


def post(body, *headers, path=b"/echo"):
    return b"\r\n".join(
        [b"POST " + path + b" HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *headers, b"", body]
    )


def test_requests_sent_ahead_are_answered_in_order(port):
    got = ask(port, b"".join(post(b"body %d" % number) for number in range(5)), b"body 4$")
    assert re.findall(rb"body \d", got) == [b"body %d" % number for number in range(5)]
    assert got.count(b"HTTP/1.1 200 OK") == 5


def test_a_connection_that_is_to_close_closes_after_the_whole_answer(port):
    got = ask(port, post(b"last", b"connection: close"), b"never")
    assert got.endswith(b"\r\n\r\nlast")
    assert b"connection: close" in got


def test_a_large_answer_comes_whole(port):
    got = ask(port, b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"never")
    assert got.partition(b"\r\n\r\n")[2] == LARGE


def test_a_stream_comes_in_its_parts(port):
    got = ask(port, b"GET /drip HTTP/1.1\r\nhost: x\r\n\r\n", b"0\r\n\r\n$")
    assert re.findall(rb"part \d", got) == [b"part 0", b"part 1", b"part 2"]


def test_what_is_no_http_is_refused_and_the_connection_closed(port):
    got = ask(port, b"hello\r\n\r\n", b"never")
    assert got.startswith(b"HTTP/1.1 400")


def test_a_body_that_comes_in_pieces_is_one_body(port):
    body = json.dumps({"a": list(range(100))}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 50):
            connection.sendall(body[at : at + 50])
            time.sleep(0.001)
        got = b""
        while not got.endswith(body):
            got += connection.recv(65536)
    assert got.startswith(b"HTTP/1.1 200 OK")


HOT = b"/v1/says/a"


def directly(app, port, sent, until):
    """What comes back, and how many requests went through ASGI."""
    before = app.by_asgi
    return ask(port, sent, until), app.by_asgi - before


def test_a_hot_request_that_arrives_whole_needs_no_asgi_and_is_counted(app, port):
    got, by_asgi = directly(app, port, post(b"body", path=HOT), b"a body$")
    assert by_asgi == 0
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert {b"content-type: text/plain", b"content-length: 6"} <= set(lines)
    assert any(line.startswith(b"date: ") for line in lines)
    assert body == b"a body"
    assert b'trimtab_http_requests_total{method="POST",route="/v1/says/{name}",status="200"}' in app.telemetry.text()


def test_hot_requests_sent_ahead_are_answered_in_order_however_long_each_takes(app, port):
    waits = (b"0.05", b"0", b"0.02", b"0")
    sent = b"".join(post(b"body %d" % i, path=HOT + b"?delay=" + wait) for i, wait in enumerate(waits))
    got, by_asgi = directly(app, port, sent, b"body 3$")
    assert re.findall(rb"body \d", got) == [b"body %d" % number for number in range(4)]
    # The first alone found nothing under way.
    assert by_asgi == 3


def test_a_connection_is_used_again_and_closed_where_the_client_asks(app, port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for number in range(3):
            connection.sendall(post(b"%d" % number, path=HOT))
            assert connection.recv(65536).endswith(b"a %d" % number)
    got, by_asgi = directly(app, port, post(b"last", b"connection: close", path=HOT), b"never")
    assert got.endswith(b"\r\n\r\na last")
    assert b"connection: close" in got
    assert by_asgi == 0
    old = post(b"old", path=HOT).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert ask(port, old, b"never").endswith(b"a old")


def test_a_hot_body_in_pieces_goes_the_long_way_to_the_same_answer(app, port):
    sent = post(b"in pieces", path=HOT)
    before = app.by_asgi
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for at in range(0, len(sent), 7):
            connection.sendall(sent[at : at + 7])
            time.sleep(0.002)
        assert connection.recv(65536).endswith(b"a in pieces")
    assert app.by_asgi == before + 1


def test_a_chunked_hot_body_is_one_body(app, port):
    head = b"POST /v1/says/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    got, by_asgi = directly(app, port, head + b"3\r\none\r\n4\r\n two\r\n0\r\n\r\n", b"a one two$")
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert by_asgi == 0


def test_a_client_that_asks_first_whether_it_may_send_is_told_so(port):
    head = b"POST /v1/says/a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(b"yes")
        assert connection.recv(65536).endswith(b"a yes")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(b"x", b"origin: http://evil.example", path=HOT), 403),
        (post(b"x" * 1_000_001, path=HOT), 413),
        (b"POST /v1/says/a HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nnever", 408),
        (b"POST /v1/says/a HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n", 400),
        (post(b"x", path=b"/v1/says"), 404),
    ],
    ids=["foreign page", "too large", "too slow", "no HTTP", "no such path"],
)
def test_what_is_wrong_is_refused_as_anywhere(port, sent, status):
    assert ask(port, sent, b"\r\n\r\n.").startswith(b"HTTP/1.1 %d" % status)


def test_beyond_the_requests_in_flight_a_hot_request_is_refused(port):
    sent = post(b"x", path=HOT + b"?delay=0.3")
    waiting = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(4)]
    for connection in waiting:
        connection.sendall(sent)
    time.sleep(0.1)
    assert ask(port, post(b"y", path=HOT), b"\r\n\r\n.").startswith(b"HTTP/1.1 429")
    for connection in waiting:
        assert connection.recv(65536).endswith(b"a x")
        connection.close()
    assert ask(port, post(b"y", path=HOT), b"a y$").startswith(b"HTTP/1.1 200")


def test_a_client_that_hangs_up_leaves_nothing_behind(app, port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(post(b"x", path=HOT + b"?delay=0.1"))
    connection.close()
    time.sleep(0.3)
    assert app.endpoint._gate.waiting == 0
    assert ask(port, post(b"y", path=HOT), b"a y$").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_a_body_after_an_upgrade_is_never_taken_for_a_request(port, protocol):
    smuggled = b"POST /v1/says/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    head = b"POST /v1/says/a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: %b\r\n" % protocol
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(smuggled))
        time.sleep(0.1)
        connection.sendall(smuggled)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"smuggled " not in answer
    assert b"connection: close" in answer.lower()


GARBAGE = b"\x16\x03 this is no HTTP\r\n\r\n"


@pytest.mark.parametrize("path", [HOT, b"/echo"], ids=["directly", "by ASGI"])
@pytest.mark.parametrize("apart", [False, True], ids=["in one packet", "apart"])
def test_what_was_asked_before_garbage_is_answered_before_it_is_refused(port, path, apart):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        if apart:
            connection.sendall(post(b"good", path=path + b"?delay=0.1"))
            time.sleep(0.03)
            connection.sendall(GARBAGE + post(b"too late", path=path))
        else:
            connection.sendall(post(b"good", path=path) + GARBAGE + post(b"too late", path=path))
        got = b"".join(iter(lambda: connection.recv(65536), b""))
    first, second = re.findall(rb"HTTP/1.1 (\d+)", got)
    assert (first, second) == (b"200", b"400")
    assert got.index(b"good") < got.index(b"HTTP/1.1 400")
    assert b"urn:trimtab:problem:malformed-request" in got
    assert b"too late" not in got


def test_requests_ahead_of_garbage_are_all_answered_in_order(port):
    waits = (b"0.05", b"0", b"0.02")
    sent = b"".join(post(b"body %d" % i, path=HOT + b"?delay=" + wait) for i, wait in enumerate(waits))
    got = ask(port, sent + GARBAGE, b"never")
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"200", b"200", b"200", b"400"]
    assert re.findall(rb"body \d", got) == [b"body 0", b"body 1", b"body 2"]


@pytest.mark.parametrize("path", [HOT, b"/echo"], ids=["directly", "by ASGI"])
@pytest.mark.parametrize("apart", [False, True], ids=["in one packet", "apart"])
def test_a_body_that_breaks_off_is_refused_in_its_own_place(port, path, apart):
    head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(post(b"good", path=path) + head + (b"" if apart else b"no length\r\n"))
        if apart:
            time.sleep(0.1)
            connection.sendall(b"no length\r\n")
        got = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"200", b"400"]


def big(size):
    return b"GET /drip HTTP/1.1\r\nhost: x\r\nx: " + b"y" * size + b"\r\n\r\n"


@pytest.mark.parametrize(
    "sent", [big(66_000), big(400_000), b"GET /" + b"p" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"]
)
def test_a_head_of_more_than_64_kib_is_refused(port, sent):
    got = ask(port, sent, b"never")
    assert got.startswith(b"HTTP/1.1 431")
    assert b"urn:trimtab:problem:head-too-large" in got


def test_a_head_without_an_end_is_refused_before_it_fills_the_memory(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /drip HTTP/1.1\r\nhost: x\r\nx: ")
        connection.sendall(b"y" * 1_000_000)
        got = connection.recv(65536)
    assert got.startswith(b"HTTP/1.1 431")


def test_a_head_of_63_kib_is_taken_and_a_large_body_is_no_head(port):
    assert ask(port, big(63_000), b"0\r\n\r\n$").startswith(b"HTTP/1.1 200")
    got = ask(port, post(b"z" * 300_000) + post(b"next"), b"next$")
    assert got.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("before", [b"", post(b"first", path=HOT)], ids=["at first", "on a connection in use"])
def test_a_head_that_takes_too_long_is_a_408(port, monkeypatch, before):
    monkeypatch.setattr(Quick, "head_s", 0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(before)
        time.sleep(0.05)
        started, got = time.monotonic(), b""
        connection.settimeout(0.05)
        for letter in b"POST /v1/says/a HTTP/1.1\r\nhost: slow":
            with contextlib.suppress(ConnectionError):
                connection.send(bytes([letter]))
            with contextlib.suppress(TimeoutError):
                part = connection.recv(65536)
                got += part
                if b"408" in got or not part:
                    break
    assert b"HTTP/1.1 408" in got
    assert time.monotonic() - started < 1.5


def test_a_connection_that_never_asks_is_closed(port, monkeypatch):
    monkeypatch.setattr(Quick, "head_s", 0.2)
    monkeypatch.setattr(Quick, "silent_s", 0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        assert connection.recv(65536) == b""


@pytest.mark.parametrize("whole", [True, False], ids=["directly", "by ASGI"])
def test_what_no_answer_can_be_made_of_is_a_500_without_its_reason(port, caplog, whole):
    sent = post(b"x" * 50, path=b"/v1/fails/a")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent if whole else sent[:-10])
        if not whole:
            time.sleep(0.05)
            connection.sendall(sent[-10:])
        got = connection.recv(65536)
    assert got.startswith(b"HTTP/1.1 500")
    assert b"urn:trimtab:problem:internal" in got
    assert len(caplog.records) == 1
    assert b"secret" not in got
