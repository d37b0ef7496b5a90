"""SIGTERM in the middle of a write: what was taken is answered, what was answered is kept, everybody ends in time."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import _redis_binary
from containers import SECRETS, Machine, eventually, of_compose

from online.events import Decided, decode
from online.log import START, Partition
from online.redis_client import connect
from online.redis_log import RedisLog
from service.access.keys import own_token

HEADERS = {"authorization": f"Bearer {own_token(SECRETS['TRIMTAB_SECRET'].encode(), 'shop')}"}
BODY = {"key": "sku-1", "context": {"stock": 5, "period": 3}}
DEMAND = "/v1/models/demand"
ENDS_WITHIN_S = 10.0
EVENTS = 3000


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Redis, an API and a learner."""
    made = Machine(tmp_path, of_compose(), _redis_binary())
    try:
        made.start("redis")
        assert eventually(lambda: "Ready to accept connections" in made.logs())
        up(made)
        yield made
    finally:
        made.running["redis"].send_signal(signal.SIGCONT)
        made.clean_up()


def up(machine: Machine) -> None:
    machine.start("learner")
    machine.start("api", "api-1")
    assert eventually(lambda: learned(machine) >= 0), machine.logs()


def learned(machine: Machine) -> int:
    try:
        answer = httpx.get(f"{machine.url('api-1')}{DEMAND}", headers=HEADERS, trust_env=False)
    except httpx.TransportError:
        return -1
    return int(answer.json()["learned"]) if answer.is_success else -1


async def tell(client: httpx.AsyncClient, count: int) -> None:
    """Many events, so that the learner has something to commit."""
    features = '{"price": 1.0, "stock": 3, "period": 4}'
    lines = "\n".join(f'{{"id": "e{n}", "features": {features}, "label": 2.0}}' for n in range(count))
    headers = {"content-type": "application/x-ndjson"}
    answer = await client.post(f"{DEMAND}/events", content=lines, headers=headers)
    assert answer.json()["accepted"] == count


async def stopped_with_writes_under_way(machine: Machine, frozen_s: float | None) -> tuple[list[Any], float]:
    """Freezes Redis under 32 decisions and the learner, sends SIGTERM, thaws it `frozen_s` later (`None`: never).

    The answers, and how long API and learner took to end.
    """
    async with httpx.AsyncClient(base_url=machine.url("api-1"), headers=HEADERS, trust_env=False, timeout=30) as client:
        await tell(client, EVENTS)
        redis = machine.running["redis"]
        redis.send_signal(signal.SIGSTOP)
        asked = [
            asyncio.create_task(client.post("/v1/decisions/price", json={**BODY, "id": f"d{n}"})) for n in range(32)
        ]
        await asyncio.sleep(0.5)
        assert not any(one.done() for one in asked)
        started = time.monotonic()
        for name in ("api-1", "learner"):
            machine.running[name].terminate()
        if frozen_s is not None:
            await asyncio.sleep(frozen_s)
            redis.send_signal(signal.SIGCONT)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for name in ("api-1", "learner"):
            assert await asyncio.to_thread(machine.running[name].wait, 30) == 0, machine.logs()
        return answers, time.monotonic() - started


def decided(machine: Machine) -> Counter[str]:
    log = RedisLog(connect(f"redis://127.0.0.1:{machine.ports['redis']}/0", SECRETS["REDIS_PASSWORD"]))
    events = (decode(entry.payload) for entry in log.read(Partition("point:price"), START, 1000))
    return Counter(event.id for event in events if isinstance(event, Decided))


def test_a_signal_in_the_middle_of_a_commit_leaves_no_request_unanswered_and_nothing_lost(machine: Machine) -> None:
    answers, took = asyncio.run(stopped_with_writes_under_way(machine, 1.0))
    assert [answer.status_code for answer in answers] == [200] * 32, "what was taken is answered"
    assert took < ENDS_WITHIN_S
    assert decided(machine) == Counter({f"d{n}": 1 for n in range(32)})
    up(machine)
    assert eventually(lambda: learned(machine) == EVENTS), "the learner goes on where it had committed"


@pytest.mark.long
def test_a_store_that_stays_away_keeps_nobody_from_ending_and_nobody_is_told_that_it_was_kept(machine: Machine) -> None:
    answers, took = asyncio.run(stopped_with_writes_under_way(machine, None))
    assert took < ENDS_WITHIN_S
    # Whose connection ends without an answer knows nothing, and repeats it with the same id.
    told = {answer.status_code for answer in answers if not isinstance(answer, httpx.TransportError)}
    assert told <= {503}, machine.logs()
