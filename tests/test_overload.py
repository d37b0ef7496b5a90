"""More than the service can take, and what is no request at all: a clear refusal, and nobody else is harmed."""

import asyncio
import collections
import json
import os
import resource
import signal
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
import pytest
from running import QUIET, Run

from service.app import IN_FLIGHT

PATH = "/v1/decisions/price"
BODY = {"key": "sku-1", "context": {"stock": 5, "period": 3}}
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A service that is not restarted between these tests: each must leave it as it was."""
    # Each connection is a file on both sides.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    folder = tmp_path_factory.mktemp("busy")
    (folder / "trimtab.toml").write_text(QUIET)
    run = Run("--port", "0", cwd=folder)
    run.url()
    yield run
    run.clean_up()


def place(run):
    url = httpx.URL(run.url())
    return url.host, url.port


def raw(method, path, body=b"", *headers):
    head = "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "host: localhost", *headers))
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


REQUEST = raw("POST", PATH, json.dumps(BODY).encode(), "content-type: application/json")


class Caller(asyncio.Protocol):
    """One connection of a load: asks, waits for the answer, and is free for the next."""

    def __init__(self, load):
        self.load = load
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport
        self.load.callers.add(self)
        self.load.answered(self)

    def ask(self):
        self.since = time.monotonic()
        self.transport.write(REQUEST)

    def data_received(self, data):
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(body) < size:
            return
        self.load.note(int(head[9:12]), b"retry-after: " in head.lower(), time.monotonic() - self.since)
        self.data = b""
        self.load.answered(self)

    def connection_lost(self, exc):  # noqa: ARG002 - asyncio's own signature
        self.load.callers.discard(self)
        self.load.broken += self.load.going


class Load:
    """Many callers at once, for a while: each asks again as soon as it is answered, whatever the answer."""

    def __init__(self):
        self.callers, self.going, self.broken = set(), True, 0
        self.statuses, self.accepted, self.without = Counter(), [], 0
        self.took = 0.0

    def note(self, status, has_retry_after, seconds):
        self.statuses[status] += 1
        if status == 200:
            self.accepted.append(seconds)
        elif not has_retry_after:
            self.without += 1

    def answered(self, caller):
        if self.going:
            caller.ask()
        else:
            caller.transport.close()

    async def connect(self, run, connections):
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Caller(self), *place(run))

    async def run(self, run, connections, seconds):
        await self.connect(run, connections)
        started = time.monotonic()
        await asyncio.sleep(seconds)
        await self.end(started)
        return self

    async def end(self, started):
        self.going = False
        self.took = time.monotonic() - started
        deadline = time.monotonic() + 10
        while self.callers and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    @property
    def capacity(self):
        """Requests that were served in a second."""
        return self.statuses[200] / self.took


class Storm(Load):
    """So many requests a second, however long the answers take; each on a connection that has nothing else to do."""

    def __init__(self, rate):
        super().__init__()
        self.rate, self.free, self.asked = rate, collections.deque(), 0

    def answered(self, caller):
        if self.going:
            self.free.append(caller)
        else:
            caller.transport.close()

    async def run(self, run, connections, seconds):
        await self.connect(run, connections)
        started = time.monotonic()
        while (passed := time.monotonic() - started) < seconds:
            due = int(passed * self.rate) - self.asked
            for _ in range(min(due, len(self.free), 500)):
                self.free.popleft().ask()
                self.asked += 1
            await asyncio.sleep(0.002)
        while self.free:
            self.free.popleft().transport.close()
        await self.end(started)
        return self


def memory(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def flooded(run, connections, seconds):
    return asyncio.run(Load().run(run, connections, seconds))


@contextmanager
def slow(pid):
    """A Redis that stands still nine tenths of each second: what a service can do no longer hangs on its processors."""
    over = threading.Event()

    def freeze():
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait(0.9)
            os.kill(pid, signal.SIGCONT)
            over.wait(0.1)

    thread = threading.Thread(target=freeze)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("around", "seconds"),
    [(slow, 3), pytest.param(slow, 60, marks=pytest.mark.long), pytest.param(nullcontext, 60, marks=pytest.mark.long)],
    ids=["a slow store, 3 s", "a slow store, 60 s", "a fast store, 60 s"],
)
def test_at_three_times_its_capacity_it_answers_200_or_429_stays_small_and_recovers(busy, around, seconds, capsys):
    # With a fast store its processors are the limit, and of 1,800 callers each waits its turn even for a 429.
    pid = busy.member(" api")
    with around(busy.member("redis-server")):
        flooded(busy, 1000, 1)
        capacity = flooded(busy, 1000, 3).capacity
        before = memory(pid)
        storm = asyncio.run(Storm(3 * capacity).run(busy, 1800, seconds))
        after = memory(pid)
    started = time.monotonic()
    answer = httpx.post(f"{busy.url()}{PATH}", json=BODY, trust_env=False)
    recovered = time.monotonic() - started
    p99 = statistics.quantiles(storm.accepted, n=100)[98]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{capacity:.0f}/s alone; {storm.asked / storm.took:.0f}/s asked for {storm.took:.0f} s "
            f"({storm.asked / storm.took / capacity:.1f} x): {dict(storm.statuses)}, "
            f"{storm.capacity:.0f}/s served, p99 of accepted {p99:.2f} s, "
            f"memory {before / 2**20:.0f} -> {after / 2**20:.0f} MiB, then one request in {recovered * 1000:.0f} ms\n"
        )
    assert set(storm.statuses) == {200, 429}
    assert storm.without == 0, "each 429 says when to come back"
    assert storm.broken == 0
    # Little's law: whoever is let in waits for those in flight, however many ask; at worst twice, and the store once.
    assert p99 < 2 * IN_FLIGHT / storm.capacity + 1
    assert after < before + (32 << 20)
    assert answer.status_code == 200
    assert recovered < 2.0


HUGE = 5 << 20
WRONG = {
    "a body that is too large": (b"[" + b" " * HUGE + b"]", {413}),
    "10,000 levels": (b'{"context": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, {400, 422}),
    "10,000 lists": (b"[" * 10_000 + b"]" * 10_000, {400, 422}),
    "invalid UTF-8": (b'{"key": "\xff\xfe", "context": {"stock": 5, "period": 3}}', {400, 422}),
    "NaN": (b'{"key": "a", "context": {"stock": NaN, "period": 3}}', {400, 422}),
    "Infinity": (b'{"key": "a", "context": {"stock": Infinity, "period": 3}}', {400, 422}),
    "-Infinity": (b'{"key": "a", "context": {"stock": -Infinity, "period": 3}}', {400, 422}),
    "1e999": (b'{"key": "a", "context": {"stock": 1e999, "period": 3}}', {400, 422}),
    "an id of 1 MB": (json.dumps({**BODY, "id": "x" * 1_000_000}).encode(), {413, 422}),
    "a key of 1 MB": (json.dumps({**BODY, "key": "x" * 1_000_000}).encode(), {413, 422}),
    "nothing": (b"", {400, 422}),
    "half an object": (b'{"key": "a"', {400}),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_request_is_a_clear_4xx(busy, what):
    body, statuses = WRONG[what]
    with httpx.Client(trust_env=False) as client:
        answer = client.post(f"{busy.url()}{PATH}", content=body, headers={"content-type": "application/json"})
        assert answer.status_code in statuses
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 2000, "what was sent is not sent back"
        assert client.post(f"{busy.url()}{PATH}", json=BODY).status_code == 200


def test_whoever_sends_all_of_that_at_once_harms_nobody_else(busy):
    told = Counter()

    async def hostile(client, body, statuses):
        while not over.is_set():
            answer = await client.post(PATH, content=body, headers={"content-type": "application/json"})
            assert answer.status_code in statuses
            told[answer.status_code] += 1

    async def both():
        async with httpx.AsyncClient(base_url=busy.url(), trust_env=False, timeout=30) as client:
            tasks = [asyncio.create_task(hostile(client, *what)) for what in WRONG.values()]
            load = await Load().run(busy, 16, 2)
            over.set()
            await asyncio.gather(*tasks)
        return load

    over = asyncio.Event()
    alone = flooded(busy, 16, 1).accepted
    before = memory(busy.member(" api"))
    load = asyncio.run(both())
    assert set(load.statuses) == {200}
    assert load.broken == 0
    # A second, or what a machine that is busy with other things needs.
    assert statistics.quantiles(load.accepted, n=100)[98] < max(1.0, 20 * statistics.median(alone))
    assert set(told) <= {400, 413, 422}
    assert sum(told.values()) > len(WRONG)
    assert memory(busy.member(" api")) < before + (64 << 20)


ODD = (
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fsecret",
    "%00",
    "a%00b",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "..",
)


@pytest.mark.parametrize("name", ODD)
def test_an_encoded_name_is_never_a_path(busy, name):
    prefixes = ("/v1/policies/price/bundles/", "/v1/policies/price/bundles/../", "/v1/jobs/", "/v1/models/", "/")
    for path in (f"{prefix}{name}" for prefix in prefixes):
        with socket.create_connection(place(busy)) as client:
            client.sendall(raw("GET", path, b"", "connection: close"))
            told = b"".join(iter(lambda client=client: client.recv(1 << 16), b""))
        assert told.split(b" ")[1] in (b"400", b"404", b"405", b"422"), told[:200]
        assert b"root:" not in told


def test_a_name_of_1_mb_in_the_address_is_refused(busy):
    with socket.create_connection(place(busy)) as client:
        client.sendall(raw("GET", "/v1/decisions/price/" + "x" * 1_000_000))
        assert client.recv(100).split(b" ")[1] in (b"400", b"414", b"431")


def test_beyond_its_connections_it_says_429_and_goes_on(busy):
    idle = [socket.create_connection(place(busy)) for _ in range(2060)]
    try:
        idle[-1].sendall(REQUEST)
        answer = idle[-1].recv(4000)
    finally:
        for client in idle:
            client.close()
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nretry-after: 1\r\n" in answer
    assert busy.eventually(lambda: httpx.get(f"{busy.url()}/health/live", trust_env=False).is_success, 5)


def test_slow_clients_keep_nobody_else_waiting(busy):
    alone = flooded(busy, 32, 1).accepted
    slow = [socket.create_connection(place(busy)) for _ in range(200)]
    try:
        for number, client in enumerate(slow):
            client.sendall(REQUEST[: 20 + number])
        load = flooded(busy, 32, 2)
    finally:
        for client in slow:
            client.close()
    assert set(load.statuses) == {200}
    assert statistics.median(load.accepted) < max(0.5, 10 * statistics.median(alone))


def test_security_headers_come_with_every_answer(busy):
    for method, path in (("GET", "/"), ("GET", "/v1/points"), ("GET", "/nothing"), ("POST", PATH)):
        answer = httpx.request(method, f"{busy.url()}{path}", json=BODY if method == "POST" else None, trust_env=False)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
    assert "default-src 'none'" in httpx.get(busy.url(), trust_env=False).headers["content-security-policy"]
