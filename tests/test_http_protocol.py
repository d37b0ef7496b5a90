"""On a real socket: answers written at once are the same answers, in order, whatever the client does."""

import json
import re
import socket
import threading
import time

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from service.app import served_at

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


@pytest.fixture(scope="module")
def port():
    app = Starlette(routes=[Route("/echo", echo, methods=["POST"]), Route("/large", large), Route("/drip", drip)])
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


def post(body, *headers):
    return b"\r\n".join([b"POST /echo HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *headers, b"", body])


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
