"""The console's way in: what is open without a session, whatever a request calls the place."""

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from service.console.gate import Gate, handlers
from service.console.sessions import Access
from service.console.settings import ConsoleSettings
from service.http.guard import Guard

TOKEN = "a token of the tests"
GATE = Gate(
    PlainTextResponse("inside"),
    Access(ConsoleSettings(operator_token=TOKEN), time.time),
    Guard(any_host=True),
)


def asked(path: str, host: str = "localhost", query: bytes = b"") -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of the answer."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query}
    scope |= {"scheme": "http", "server": ("127.0.0.1", 8081), "root_path": "", "http_version": "1.1"}
    asyncio.run(GATE({**scope, "headers": [(b"host", host.encode())]}, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


def test_the_log_in_is_open_and_a_page_is_not():
    assert asked("/login")[0] == 200
    status, headers = asked("/points/price", query=b"last=20")
    assert status == 303
    assert headers[b"location"] == b"/login?next=%2Fpoints%2Fprice%3Flast%3D20"


@pytest.mark.parametrize("host", ["x/login?", "x/login#", "x/_nicegui/?", "x:1/login?", "x/login", ""])
@pytest.mark.parametrize("path", ["/", "/points/price", "//login", "/audit"])
def test_a_name_with_a_path_in_it_opens_nothing(host, path):
    status, headers = asked(path, host)
    assert status == 303
    assert headers[b"location"].startswith(b"/login?next=")


class WithoutKeys(BaseHTTPRequestHandler):
    """A service that has no keys."""

    def do_GET(self):
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        return


@pytest.mark.parametrize("https", [False, True])
def test_behind_a_proxy_with_https_the_log_in_travels_by_nothing_else(https):
    server = ThreadingHTTPServer(("127.0.0.1", 0), WithoutKeys)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        access = Access(ConsoleSettings(url=url, operator_token=TOKEN, https=https), time.time)
        routes = [Route(path, handler, methods=[method]) for (method, path), handler in handlers(access).items()]
        answer = TestClient(Starlette(routes=routes)).post("/login", data={"token": TOKEN}, follow_redirects=False)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert answer.status_code == 303, answer.text
    cookie = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")}
    assert {"httponly", "samesite=strict"} <= cookie
    assert ("secure" in cookie) == https
