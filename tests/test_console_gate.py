"""The console's way in: what is open without a session, whatever a request calls the place."""

import asyncio
import time

import pytest
from starlette.responses import PlainTextResponse

from service.console.gate import Gate
from service.console.sessions import Access
from service.console.settings import ConsoleSettings
from service.http.guard import Guard

GATE = Gate(
    PlainTextResponse("inside"),
    Access(ConsoleSettings(operator_token="a token of the tests"), time.time),
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
