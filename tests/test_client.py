"""A client with good manners: the same ids again, not before it is asked to, and never for ever."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from service.outside import client as module
from service.outside.client import Client, ServiceError, Stop, Stopped

Reply = tuple[int, dict[str, str], bytes]


class Server:
    """A server that gives prepared answers and remembers what it was asked; a status of 0 hangs up without one."""

    def __init__(self, replies: list[Reply]) -> None:
        self.asked: list[tuple[str, str, str, bytes]] = []
        self.replies = replies
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                server.asked.append((self.command, self.path, self.headers.get("content-type", ""), body))
                status, headers, content = server.replies.pop(0) if server.replies else (200, {}, b"{}")
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in ({"content-length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self._thread.join()
        self.http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(*replies: Reply) -> Server:
        made.append(Server(list(replies)))
        return made[-1]

    yield start
    for server in made:
        server.close()


def ask(url: str, question: Callable[[Client], Any], patience_s: float = 5.0, stop_after: float | None = None) -> Any:
    async def run() -> Any:
        stop = Stop()
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, stop)
        client = Client(url, patience_s, stop)
        try:
            return await question(client), client.retries
        finally:
            await client.close()

    return asyncio.run(run())


def test_an_answer_is_decoded_and_the_body_sent_as_its_kind(serve: Callable[..., Server]) -> None:
    server = serve((200, {}, b'{"a": 1}'), (200, {}, b"{}"), (200, {}, b"{}"))
    assert ask(server.url, lambda client: client.post("/v1/x", {"id": "é"})) == ({"a": 1}, 0)
    ask(server.url, lambda client: client.post_lines("/v1/y", [{"n": 1}, {"n": 2}]))
    ask(server.url, lambda client: client.post_bytes("/v1/z", b"\x00\x01"))
    kinds = [(path, kind) for _, path, kind, _ in server.asked]
    assert kinds == [
        ("/v1/x", "application/json"),
        ("/v1/y", "application/x-ndjson"),
        ("/v1/z", "application/octet-stream"),
    ]
    assert json.loads(server.asked[0][3]) == {"id": "é"}
    assert server.asked[1][3] == b'{"n":1}\n{"n":2}'
    assert server.asked[2][3] == b"\x00\x01"


@pytest.mark.parametrize("first", [(503, {}, b"{}"), (429, {}, b"{}"), (0, {}, b"")])
def test_what_may_be_tried_again_is_with_the_very_same_bytes(first: Reply, serve: Callable[..., Server]) -> None:
    server = serve(first, (200, {}, b"{}"))
    _, retries = ask(server.url, lambda client: client.post("/v1/x", {"id": "1"}))
    assert retries == 1
    assert server.asked[0] == server.asked[1]


def test_it_does_not_come_back_before_the_service_says_so(serve: Callable[..., Server]) -> None:
    server = serve((429, {"retry-after": "1"}, b"{}"), (200, {}, b"{}"))
    began = time.monotonic()
    ask(server.url, lambda client: client.get("/v1/x"))
    assert time.monotonic() - began >= 1.0


def test_a_connection_that_was_hung_up_while_idle_is_no_failure(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    server = serve((200, {"connection": "keep-alive"}, b"{}"), (0, {}, b""), (200, {}, b"{}"))

    async def twice(client: Client) -> None:
        await client.get("/v1/x")
        await client.get("/v1/x")

    _, retries = ask(server.url, twice)
    assert retries == 0
    assert len(server.asked) == 3


def test_a_refusal_is_told_in_the_words_of_the_service(serve: Callable[..., Server]) -> None:
    problem = {"title": "No such model", "detail": "There is no 'x'.", "errors": [{"field": "model"}]}
    server = serve((404, {}, json.dumps(problem).encode()), (500, {}, b"not JSON"))
    with pytest.raises(ServiceError, match=r"/v1/x: 404 No such model: There is no 'x'\.$") as caught:
        ask(server.url, lambda client: client.get("/v1/x"))
    assert caught.value.unknown
    with pytest.raises(ServiceError, match="500 not JSON"):
        ask(server.url, lambda client: client.get("/v1/x"))


def test_its_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9 has not answered for 0.1 s \(Connection"):
        ask("http://127.0.0.1:9", lambda client: client.get("/v1/x"), patience_s=0.1)


def test_a_request_to_stop_ends_the_waiting_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(Stopped):
        ask("http://127.0.0.1:9", lambda client: client.get("/v1/x"), patience_s=60, stop_after=0.5)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://"])
def test_what_is_no_address_is_named(url: str) -> None:
    with pytest.raises(ServiceError, match="no address"):
        ask(url, lambda client: client.get("/v1/x"))
