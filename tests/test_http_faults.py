"""Never lost, never twice: a client that repeats itself through killed APIs, killed Redis servers and hang-ups."""

import asyncio
import collections
import os
import random
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from online.events import Decided, Rewarded, decode
from online.log import START, Partition
from online.redis_client import connect
from online.redis_log import RedisLog

MANIFEST = """
[points.price]
world = "pricing"
mode = "live"
exploration = 0.3
"""
PATH = "/v1/decisions/price"
CLIENTS = 16
TROUBLE = (httpx.TransportError, httpx.TimeoutException)


class Api:
    """One API process, which can be killed and started again at the same address."""

    def __init__(self, redis, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "trimtab.toml").write_text(MANIFEST)
        self.environment = os.environ | {
            "TRIMTAB_REDIS": redis.socket,
            "TRIMTAB_SECRET": "a secret of the tests, long enough",
            "TRIMTAB_MANIFEST": str(folder / "trimtab.toml"),
            "TRIMTAB_DATA": str(folder),
            "TRIMTAB_PORT": str(self.port),
            "TRIMTAB_LOG_LEVEL": "error",
        }
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "service.cli", "api"]
        self.process = subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Caller:
    """Sixteen clients that repeat every request, with the same id, until it is answered."""

    def __init__(self, port, seed):
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        self.rng = random.Random(seed)
        self.answers = {}
        self.dropped = 0
        self.number = 0
        self.stopping = False

    async def send(self, path, body):
        while True:
            # Now and then the client hangs up before it can have read the answer.
            impatient = self.rng.random() < 0.05
            try:
                response = await self.http.post(path, json=body, timeout=0.002 if impatient else 2.0)
            except TROUBLE:
                self.dropped += impatient
                await asyncio.sleep(0.02)
                continue
            if response.status_code in (429, 503):
                await asyncio.sleep(0.05)
                continue
            assert response.status_code == 200, response.text
            return response.json()

    async def run(self):
        while not self.stopping:
            self.number += 1
            name = f"d{self.number}"
            body = {"id": name, "context": {"stock": 5, "period": 3}}
            self.answers[name] = await self.send(PATH, body)
            await self.send(f"{PATH}/outcomes", {"id": name, "value": self.answers[name]["action"]})
            if self.rng.random() < 0.1:
                assert await self.send(PATH, body) == self.answers[name]


async def torment(redis, api, caller, faults):
    """Kills now one, now the other, until there were enough faults of each kind."""
    rng, done = random.Random(5), collections.Counter()
    while done["redis"] < faults["redis"] or done["api"] < faults["api"]:
        await asyncio.sleep(rng.uniform(0.1, 0.5))
        answered = len(caller.answers)
        kind = rng.choice([name for name in ("redis", "api") if done[name] < faults[name]])
        done[kind] += 1
        if kind == "redis":
            await asyncio.to_thread(redis.kill)
            await asyncio.sleep(rng.uniform(0.0, 0.3))
            await asyncio.to_thread(redis.start)
        else:
            await asyncio.to_thread(api.kill)
            api.start()
        deadline = time.monotonic() + 60
        # The next fault must hit a service that works again.
        while len(caller.answers) < answered + CLIENTS and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
    return done


async def play(redis, api, faults, hang_ups):
    caller = Caller(api.port, seed=4)
    clients = [asyncio.create_task(caller.run()) for _ in range(CLIENTS)]
    done = await torment(redis, api, caller, faults)
    while caller.dropped < hang_ups:
        await asyncio.sleep(0.1)
    caller.stopping = True
    await asyncio.wait_for(asyncio.gather(*clients), 60)
    await caller.http.aclose()
    return caller, done


def entries(redis):
    log, after = RedisLog(connect(redis.socket)), START
    while page := log.read(Partition("point:price"), after, 1000):
        yield from page
        after = page[-1].id


@pytest.mark.parametrize(
    ("faults", "hang_ups"),
    [
        ({"redis": 3, "api": 1}, 20),
        pytest.param({"redis": 40, "api": 10}, 60, marks=pytest.mark.long),
    ],
    ids=["a few", "a hundred and ten"],
)
@pytest.mark.timeout(1800)
def test_the_log_holds_each_decision_and_outcome_once(start_redis, tmp_path, faults, hang_ups):
    redis = start_redis()
    api = Api(redis, tmp_path)
    api.start()
    try:
        caller, done = asyncio.run(play(redis, api, faults, hang_ups))
    finally:
        api.kill()
    assert done == faults
    assert caller.dropped >= hang_ups
    found = list(entries(redis))
    assert [entry.number for entry in found] == list(range(1, len(found) + 1))
    assert all(entry.intact for entry in found)
    events = [decode(entry.payload) for entry in found]
    decided = {event.id: event for event in events if isinstance(event, Decided)}
    rewarded = {event.id: event for event in events if isinstance(event, Rewarded)}
    assert len(decided) + len(rewarded) == len(events)
    assert decided.keys() == caller.answers.keys()
    assert {event.decision for event in rewarded.values()} == decided.keys()
    for name, answer in caller.answers.items():
        assert (decided[name].action, decided[name].propensity) == (answer["action"], answer["propensity"])
