"""The client's outbox against the real service: what was queued while it was down arrives once, whoever is killed."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import _redis_binary
from containers import ROOT, SECRETS, Machine, eventually, of_compose
from trimtab_client.client import Client
from trimtab_client.outbox import Outbox

from online.events import Rewarded, decode
from online.log import START, Partition
from online.redis_client import connect
from online.redis_log import RedisLog
from service.access.keys import own_token

TOKEN = own_token(SECRETS["TRIMTAB_SECRET"].encode(), "shop")
BODY = '{{"id": "d{}", "key": "sku-1", "context": {{"stock": 12, "period": 30}}}}'
PROGRAM = """
import sys
from trimtab_client.client import Client
from trimtab_client.outbox import Outbox

url, key, path, first, last = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
with Client(url, api_key=key) as client:
    outbox = Outbox(client, path, pause=0.05)
    for number in range(first, last):
        outbox.outcome("price", f"d{number}", key="sku-1", fields={"sold": 1})
    print("queued", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Redis and one API."""
    made = Machine(tmp_path, of_compose(), _redis_binary())
    try:
        made.start("redis")
        assert eventually(lambda: "Ready to accept connections" in made.logs())
        up(made)
        yield made
    finally:
        made.clean_up()


def up(machine: Machine) -> None:
    machine.start("api", "api-1")

    def is_ready() -> bool:
        try:
            return httpx.get(f"{machine.url('api-1')}/health/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False

    assert eventually(is_ready), machine.logs()


def down(machine: Machine, how: signal.Signals) -> None:
    machine.running["api-1"].send_signal(how)
    machine.running["api-1"].wait(20)


def decided(machine: Machine, count: int) -> int:
    """Makes all decisions, sent ahead on one connection; how many were accepted."""
    accepted = 0
    with socket.create_connection(("127.0.0.1", machine.ports["api-1"])) as client:
        for begin in range(0, count, 50):
            bodies = (BODY.format(number) for number in range(begin, begin + 50))
            head = f"POST /v1/decisions/price HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
            client.sendall("".join(f"{head}content-length: {len(body)}\r\n\r\n{body}" for body in bodies).encode())
            told = b""
            while told.count(b"HTTP/1.1 ") < 50 or not told.endswith(b"}"):
                told += client.recv(1 << 16)
            accepted += told.count(b"HTTP/1.1 200")
    return accepted


def program(machine: Machine, box: Path, first: int, last: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, machine.url("api-1"), TOKEN, str(box), str(first), str(last)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "clients" / "python")}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def killed(client: "subprocess.Popen[str]") -> None:
    client.send_signal(signal.SIGKILL)
    client.communicate()


def waiting(box: Path) -> int:
    with sqlite3.connect(box) as file:
        return int(file.execute("select count(*) from waiting").fetchone()[0])


def outcomes(machine: Machine) -> Counter[str]:
    """How many outcomes each decision has in the log."""
    log = RedisLog(connect(f"redis://127.0.0.1:{machine.ports['redis']}/0", SECRETS["REDIS_PASSWORD"]))
    found: Counter[str] = Counter()
    cursor = START
    while entries := log.read(Partition("point:price"), cursor, 1000):
        events = (decode(entry.payload) for entry in entries)
        found.update(event.decision for event in events if isinstance(event, Rewarded))
        cursor = entries[-1].id
    return found


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_outcomes_queued_while_the_service_is_down_arrive_once_each_whoever_is_killed(machine, tmp_path, count):
    box = tmp_path / "box.sqlite"
    assert decided(machine, count) == count
    down(machine, signal.SIGTERM)
    queued = program(machine, box, 0, count)
    assert queued.stdout is not None
    assert queued.stdout.readline() == "queued\n"
    killed(queued)
    assert waiting(box) == count
    up(machine)
    for left in (8 * count // 10, 4 * count // 10):
        sender = program(machine, box, 0, 0)
        assert eventually(lambda left=left: waiting(box) <= left)
        killed(sender)
        if left > count // 2:
            down(machine, signal.SIGKILL)
            up(machine)
    with Client(machine.url("api-1"), api_key=TOKEN) as client, Outbox(client, box, pause=0.05) as outbox:
        assert eventually(lambda: outbox.waiting == 0), outbox.trouble
        assert outbox.refused() == []
    assert outcomes(machine) == Counter({f"d{number}": 1 for number in range(count)})
