"""The Python client: requests repeated with the same ids, typed answers, and an outbox that survives."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from trimtab_client import calls
from trimtab_client.async_client import AsyncClient
from trimtab_client.client import Client
from trimtab_client.errors import RefusedError, UnreachableError
from trimtab_client.outbox import Outbox
from trimtab_client.retry import Retry

CLIENT = Path(__file__).resolve().parent.parent / "clients" / "python"
CONTEXT = {"stock": 3, "period": 2}
QUICK = Retry(patience=5.0, first=0.001, longest=0.002)
WRITTEN = {"accepted": 1, "rejected": [], "entry": "0:1-0"}

Handler = Callable[[httpx.Request], httpx.Response]


def client_over(handler: Handler, **more: Any) -> Client:
    http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(handler))
    return Client("http://service", http=http, **({"retry": QUICK} | more))


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def ours(service):
    """The client over the real API."""
    return Client("http://testserver", http=service.client)


def test_a_decision_comes_typed_with_its_propensity_and_the_id_that_was_made(ours):
    decision = ours.decide("price", CONTEXT)
    trace = ours.trace("price", decision.id)
    assert (decision.action, decision.propensity) == (trace["action"], trace["propensity"])
    assert 0 < decision.propensity <= 1
    assert decision.mode == "live"


def test_an_outcome_reaches_its_decision_once_however_often_it_is_sent(service, ours):
    decision = ours.decide("price", CONTEXT, id="d1")
    assert ours.outcome("price", decision.id, 2.5).accepted == 1
    assert ours.outcome("price", decision.id, 2.5).duplicates == 1
    service.settle()
    assert ours.trace("price", "d1")["reward"] == 2.5


def test_one_wrong_line_of_a_batch_is_named_and_the_others_are_accepted(ours):
    for number in range(3):
        ours.decide("price", CONTEXT, id=f"d{number}")
    lines = [calls.outcome_line(f"d{number}", float(number)) for number in range(3)]
    answer = ours.outcomes("price", [*lines, calls.outcome_line("nobody", 1.0)])
    assert answer.accepted == 3
    assert [(line.line, line.status) for line in answer.rejected] == [(4, 404)]


def test_a_refusal_names_the_field_and_what_is_allowed(ours):
    with pytest.raises(RefusedError, match="stock") as refusal:
        ours.decide("price", {"stock": -1, "period": 2})
    assert refusal.value.status == 422


def test_an_outcome_of_both_kinds_or_of_none_is_refused_before_it_is_sent(ours):
    for given in ({}, {"value": 1.0, "fields": {"sold": 1}}):
        with pytest.raises(ValueError, match="either a value or fields"):
            ours.outcome("price", "d1", **given)


def test_an_address_that_cannot_work_is_refused_at_once():
    with pytest.raises(ValueError, match=r"'127\.0\.0\.1:8080' is no address"):
        Client("127.0.0.1:8080")


def stubborn(failures: list[Any], seen: list[bytes]) -> Handler:
    """Fails in each of these ways, then answers."""

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.content)
        if not failures:
            return httpx.Response(200, json=WRITTEN)
        failure = failures.pop(0)
        if isinstance(failure, Exception):
            raise failure
        return httpx.Response(failure, json={"title": "later", "detail": "not now"})

    return handle


def test_a_request_is_repeated_byte_for_byte_until_it_is_answered():
    seen: list[bytes] = []
    failures: list[Any] = [httpx.ConnectError("refused"), 503, httpx.ReadTimeout("slow"), 429, 500]
    service = client_over(stubborn(failures, seen))
    assert service.event("demand", {"price": 1.0}).accepted == 1
    assert len(seen) == 6
    assert len(set(seen)) == 1
    assert json.loads(seen[0])["id"]


def test_the_asynchronous_client_repeats_the_same_request_too():
    seen: list[bytes] = []

    async def ask() -> int:
        transport = httpx.MockTransport(stubborn([httpx.ConnectError("refused"), 503], seen))
        http = httpx.AsyncClient(base_url="http://service", transport=transport)
        async with AsyncClient("http://service", http=http, retry=QUICK) as service:
            return (await service.label("demand", "e1", 3.0)).accepted

    assert asyncio.run(ask()) == 1
    assert seen == [b'{"id":"e1","label":3.0}'] * 3


@pytest.mark.parametrize("body", [b"<html>log in first</html>", b"[]", b'{"hello": 1}', b"null"])
def test_what_answers_in_the_place_of_the_service_is_not_taken_for_it(body):
    answers = [httpx.Response(200, content=body), httpx.Response(200, json=WRITTEN)]
    assert client_over(lambda _: answers.pop(0)).label("demand", "e1", 3.0).accepted == 1
    assert answers == []


def test_what_is_refused_is_not_repeated():
    seen: list[bytes] = []
    with pytest.raises(RefusedError, match="409 later: not now"):
        client_over(stubborn([409], seen)).label("demand", "e1", 3.0)
    assert len(seen) == 1


def test_a_service_that_asks_for_time_gets_it_and_patience_ends():
    with pytest.raises(UnreachableError, match="busy"):
        QUICK.pause(1, 0.0, 6.0, "busy")
    assert QUICK.pause(1, 0.0, 2.5, "busy") == 2.5
    assert 0.05 <= Retry(first=0.1).pause(1, 0.0, 0.0, "busy") <= 0.1
    assert Retry(longest=5.0).pause(20, 0.0, 0.0, "busy") <= 5.0


def test_patience_over_a_real_closed_port_ends_with_the_reason():
    with (
        Client("http://127.0.0.1:9", retry=Retry(patience=0.05, first=0.01)) as away,
        pytest.raises(UnreachableError, match="ConnectError"),
    ):
        away.get("/v1/points")


class Counting:
    """A small service: keeps each line once by its id, counts how often it came, and can hang up after it kept them."""

    def __init__(self, hang_up_every: int = 0) -> None:
        self.kept: Counter[str] = Counter()
        self._posts = 0
        counting = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                counting.kept.update(json.loads(line)["id"] for line in body.split(b"\n"))
                counting._posts += 1
                if hang_up_every and counting._posts % hang_up_every == 0:
                    self.close_connection = True
                    return
                answer = json.dumps(WRITTEN | {"accepted": body.count(b"\n") + 1}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def counting(**how: Any) -> Iterator[Counting]:
    service = Counting(**how)
    thread = threading.Thread(target=service.server.serve_forever)
    thread.start()
    try:
        yield service
    finally:
        service.server.shutdown()
        thread.join()
        service.server.server_close()


def test_what_waits_in_an_outbox_is_delivered_by_a_later_process(tmp_path):
    with Client("http://127.0.0.1:9") as away, Outbox(away, tmp_path / "box", pause=0.01) as outbox:
        for number in range(20):
            outbox.outcome("price", f"d{number}", 1.0)
        assert eventually(lambda: outbox.trouble != "")
        assert outbox.waiting == 20
    with counting() as there, Client(there.url) as client, Outbox(client, tmp_path / "box") as outbox:
        assert eventually(lambda: outbox.waiting == 0)
        assert there.kept == Counter({f"d{number}": 1 for number in range(20)})
        assert (outbox.trouble, outbox.refused()) == ("", [])


def test_an_outbox_keeps_apart_what_the_service_refuses_and_sends_it_again_when_asked(tmp_path, service):
    client = Client("http://testserver", http=service.client)
    with Outbox(client_over(lambda _: httpx.Response(503, json={})), tmp_path / "box", pause=60) as outbox:
        outbox.outcome("price", "d1", 2.0)
        outbox.outcome("price", "d2", 3.0)
    client.decide("price", CONTEXT, id="d1")
    with Outbox(client, tmp_path / "box") as outbox:
        assert eventually(lambda: outbox.waiting == 0)
        assert [json.loads(refused.line)["id"] for refused in outbox.refused()] == ["d2"]
        client.decide("price", CONTEXT, id="d2")
        outbox.retry_refused()
        assert eventually(lambda: outbox.waiting == 0)
        assert outbox.refused() == []
    service.settle()
    assert client.trace("price", "d2")["reward"] == 3.0


def test_an_outbox_whose_file_is_held_by_another_goes_on_when_it_is_free(tmp_path):
    with counting() as there, Client(there.url) as client, Outbox(client, tmp_path / "box", pause=0.01) as outbox:
        outbox._file.execute("pragma busy_timeout = 10")
        other = sqlite3.connect(tmp_path / "box", isolation_level=None)
        outbox._delivering.acquire()
        outbox.label("demand", "e1", 1.0)
        other.execute("begin immediate")
        outbox._delivering.release()
        assert eventually(lambda: "locked" in outbox.trouble)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            outbox.label("demand", "e2", 1.0)
        other.execute("rollback")
        other.close()
        outbox.label("demand", "e3", 1.0)
        assert eventually(lambda: outbox.waiting == 0)
        assert set(there.kept) == {"e1", "e3"}


def test_a_key_that_may_not_write_leaves_everything_waiting_and_says_so(tmp_path):
    refusing = client_over(lambda _: httpx.Response(403, json={"title": "forbidden", "detail": "scope ingest"}))
    with Outbox(refusing, tmp_path / "box", pause=0.01) as outbox:
        outbox.label("demand", "e1", 1.0)
        assert eventually(lambda: "scope ingest" in outbox.trouble)
        assert outbox.waiting == 1


def test_a_line_that_is_no_json_is_refused_at_once_with_all_that_came_with_it(tmp_path):
    with Client("http://127.0.0.1:9") as away, Outbox(away, tmp_path / "box") as outbox:
        with pytest.raises(ValueError, match="JSON compliant"):
            outbox.outcome("price", "d1", float("nan"))
        assert outbox.waiting == 0


PROGRAM = """
import sys
from trimtab_client.client import Client
from trimtab_client.outbox import Outbox

url, path, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with Client(url) as client:
    outbox = Outbox(client, path, pause=0.05)
    for number in range(first, last):
        outbox.outcome("price", f"d{number}", 1.0)
    print("queued", flush=True)
    sys.stdin.read()
"""


def program(url: str, box: Path, first: int, last: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, url, str(box), str(first), str(last)]
    environment = os.environ | {"PYTHONPATH": str(CLIENT)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_outcomes_arrive_once_each_though_the_service_was_down_and_the_client_killed(tmp_path, count):
    box = tmp_path / "box"
    queued = program("http://127.0.0.1:9", box, 0, count)
    assert queued.stdout is not None
    assert queued.stdout.readline() == "queued\n"
    queued.send_signal(signal.SIGKILL)
    queued.communicate()
    # Its second answer is lost after the lines were kept: they are sent again.
    with counting(hang_up_every=2) as there:
        for kill_after in (count // 10, count // 2):
            sender = program(there.url, box, 0, 0)
            assert eventually(lambda enough=kill_after: len(there.kept) >= enough)
            sender.send_signal(signal.SIGKILL)
            sender.communicate()
        with Client(there.url) as client, Outbox(client, box, pause=0.05) as outbox:
            assert eventually(lambda: outbox.waiting == 0)
            assert outbox.refused() == []
        assert set(there.kept) == {f"d{number}" for number in range(count)}
