"""A part that is away under load: Redis for ten seconds, the learner for a while. Two APIs serve, and are asked."""

import asyncio
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from conftest import _redis_binary
from containers import SECRETS, Machine, eventually, of_compose

from online.events import Decided, Observed, decode
from online.log import START, Partition
from online.redis_client import connect
from online.redis_log import RedisLog
from service.access.keys import own_token

KEY = own_token(SECRETS["TRIMTAB_SECRET"].encode(), "shop")
HEADERS = {"authorization": f"Bearer {KEY}"}
APIS = ("api-1", "api-2")
PRICE, DEMAND = "/v1/decisions/price", "/v1/models/demand"
FEATURES = {"price": 1.0, "stock": 3, "period": 4}
CALLERS = 16


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Redis, two APIs and a learner, each its own process that nobody starts again; tests leave them well."""
    made = Machine(tmp_path_factory.mktemp("away"), of_compose(), _redis_binary())
    try:
        made.start("redis")
        assert eventually(lambda: "Ready to accept connections" in made.logs())
        made.start("learner")
        for replica in APIS:
            made.start("api", replica)
        for replica in APIS:
            assert eventually(lambda replica=replica: is_ready(made, replica)), made.logs()
        yield made
    finally:
        made.clean_up()


def is_ready(machine: Machine, replica: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{machine.url(replica)}/health/ready", trust_env=False).status_code == 200
    return False


class Traffic:
    """Callers that write to both APIs without pause, and one that reads; what each was told, and when."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.name = uuid.uuid4().hex[:8]
        self.going = True
        self.since = time.monotonic()
        self.acknowledged: dict[str, Any] = {}
        self.learned: list[str] = []
        self.writes: list[tuple[float, int, float]] = []
        self.reads: list[tuple[float, int, float]] = []
        self.ages: list[tuple[float, float]] = []

    async def write(self, number: int) -> None:
        async with httpx.AsyncClient(headers=HEADERS, trust_env=False, timeout=30) as client:
            count = 0
            while self.going:
                count += 1
                name, url = f"{self.name}-{number}-{count}", self.machine.url(APIS[count % 2])
                if count % 4:
                    body = {"id": name, "key": f"sku-{number}", "context": {"stock": 5, "period": 3}}
                    answer = await self.timed(self.writes, client.post(f"{url}{PRICE}", json=body))
                    if answer.status_code == 200:
                        self.acknowledged[name] = answer.json()["action"]
                else:
                    body = {"id": name, "features": FEATURES, "label": 2.0}
                    answer = await self.timed(self.writes, client.post(f"{url}{DEMAND}/events", json=body))
                    if answer.status_code == 200:
                        self.learned.append(name)
                if answer.status_code != 200:
                    assert answer.headers["retry-after"], answer.text
                    await asyncio.sleep(0.2)

    async def read(self) -> None:
        body = {"features": FEATURES, "learn": False}
        async with httpx.AsyncClient(headers=HEADERS, trust_env=False, timeout=30) as client:
            while self.going:
                for replica in APIS:
                    url = self.machine.url(replica)
                    told = await self.timed(self.reads, client.post(f"{url}{DEMAND}/predict", json=body))
                    system = await self.timed(self.reads, client.get(f"{url}/v1/system"))
                    assert told.status_code == 200
                    if replica == APIS[0]:
                        self.ages.append((time.monotonic() - self.since, system.json()["age_s"]))
                await asyncio.sleep(0.1)

    async def timed(self, notes: list[tuple[float, int, float]], asking: Any) -> httpx.Response:
        started = time.monotonic()
        answer: httpx.Response = await asking
        notes.append((started - self.since, answer.status_code, time.monotonic() - started))
        return answer

    async def run(self, script: Callable[[], Any]) -> None:
        """Asks until the script is over."""
        tasks = [asyncio.create_task(self.write(number)) for number in range(CALLERS)]
        tasks.append(asyncio.create_task(self.read()))
        try:
            await script()
        finally:
            self.going = False
            await asyncio.gather(*tasks)


def stored(machine: Machine, partition: Partition, kind: type) -> Counter[str]:
    """How often each id is in the log."""
    log = RedisLog(connect(f"redis://127.0.0.1:{machine.ports['redis']}/0", SECRETS["REDIS_PASSWORD"]))
    found: Counter[str] = Counter()
    cursor = START
    while entries := log.read(partition, cursor, 1000):
        found.update(event.id for entry in entries if isinstance(event := decode(entry.payload), kind))
        cursor = entries[-1].id
    return found


def learned(machine: Machine, replica: str = APIS[0]) -> int:
    return int(httpx.get(f"{machine.url(replica)}{DEMAND}", headers=HEADERS, trust_env=False).json()["learned"])


def age_of_demand(system: httpx.Response) -> float:
    """How old the state of the model is that this process serves."""
    return float(next(one["age_s"] for one in system.json()["models"] if one["name"] == "demand"))


def nothing_is_lost(machine: Machine, traffic: Traffic) -> None:
    """What was acknowledged is in the log, once; what was learned is all of it."""
    decided = stored(machine, Partition("point:price"), Decided)
    assert set(traffic.acknowledged) <= set(decided)
    events = stored(machine, Partition("model:demand"), Observed)
    assert set(traffic.learned) <= set(events)
    assert {*decided.values(), *events.values()} == {1}
    assert eventually(lambda: learned(machine) == len(events)), (learned(machine), len(events))
    assert all(process.poll() is None for process in machine.running.values()), "nobody had to be started again"


def frozen(machine: Machine) -> Callable[[], None]:
    """Stops Redis as it is; the way back."""
    redis = machine.running["redis"]
    redis.send_signal(signal.SIGSTOP)
    return lambda: redis.send_signal(signal.SIGCONT)


def killed(machine: Machine) -> Callable[[], None]:
    """Kills Redis; the way back is another start on the same files."""
    machine.running["redis"].kill()
    machine.running["redis"].wait()
    return lambda: machine.start("redis")


@pytest.mark.parametrize(
    ("go_away", "seconds"),
    [
        (killed, 7.0),
        pytest.param(killed, 10.0, marks=pytest.mark.long),
        pytest.param(frozen, 10.0, marks=pytest.mark.long),
    ],
    ids=["killed for 7 s", "killed for 10 s", "frozen for 10 s"],
)
def test_redis_away_under_load_costs_nothing_that_was_acknowledged(
    machine: Machine, go_away: Callable[[Machine], Callable[[], None]], seconds: float
) -> None:
    traffic = Traffic(machine)
    times: dict[str, float] = {}

    async def script() -> None:
        await asyncio.sleep(1.5)
        times["away"] = time.monotonic() - traffic.since
        come_back = go_away(machine)
        await asyncio.sleep(seconds)
        come_back()
        times["back"] = time.monotonic() - traffic.since
        await asyncio.sleep(3.0)

    asyncio.run(traffic.run(script))
    away = [age for at, age in traffic.ages if times["away"] + 1 < at < times["back"]]
    assert away == sorted(away)
    assert away[-1] > seconds - 2
    assert {status for _, status, _ in traffic.reads} == {200}
    assert max(took for _, _, took in traffic.reads) < 2.0, "nobody who reads waits for Redis"
    refused = Counter(status for _, status, _ in traffic.writes)
    assert set(refused) <= {200, 429, 503}
    assert refused[503] > 0
    late = [status for at, status, _ in traffic.writes if at > times["back"] + 2]
    assert late
    assert set(late) == {200}, "two seconds later all is as before"
    assert traffic.ages[-1][1] < 1.0
    nothing_is_lost(machine, traffic)


def test_of_a_killed_learner_users_notice_nothing_but_the_age(machine: Machine) -> None:
    traffic, before = Traffic(machine), learned(machine)
    ages: list[float] = []

    async def script() -> None:
        await asyncio.sleep(1.5)
        machine.running["learner"].kill()
        machine.running["learner"].wait()
        async with httpx.AsyncClient(headers=HEADERS, trust_env=False) as client:
            for number in range(8):
                await asyncio.sleep(0.5)
                told = await client.get(f"{machine.url(APIS[number % 2])}/v1/system")
                ages.append(age_of_demand(told))
        machine.start("learner")
        caught_up = await asyncio.to_thread(
            eventually, lambda: learned(machine) > before + 0.9 * len(traffic.learned), 20.0
        )
        assert caught_up

    asyncio.run(traffic.run(script))
    assert ages == sorted(ages)
    assert ages[-1] > 3.0
    assert {status for _, status, _ in [*traffic.writes, *traffic.reads]} == {200}
    slowest = max(took for _, _, took in [*traffic.writes, *traffic.reads])
    assert slowest < 2.0
    nothing_is_lost(machine, traffic)
    told = httpx.get(f"{machine.url(APIS[1])}/v1/system", headers=HEADERS, trust_env=False)
    assert age_of_demand(told) < 3.0
