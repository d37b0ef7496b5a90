"""Real kills and freezes: two learner processes fight for each partition while Redis dies, hangs and loses its tail.

Each safeguard is also switched off, and must then be missed: a run that passes without the fence tests nothing.
"""

import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from killing import PARTITIONS, PATIENT_S, Learners, Plan, carry_out, drafts, expected_reports, observations, reported
from msgspec import UNSET

from online.events import Labelled, Observed, Predicted, Scored
from online.log import Log
from online.redis_client import connect
from online.redis_log import RedisLog

NONE = (0, 0, 0, 0, 0)


def test_twenty_faults_lose_and_double_nothing(start_redis: Any, tmp_path: Path, capsys: Any) -> None:
    plan = Plan(events=8_000, faults=16, window=500, redis_kills=2, redis_freezes=1, lost_tails=1, returns=1)
    assert carry_out(plan, start_redis(), tmp_path, capsys).violations == NONE


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("trims", [False, True], ids=["whole", "trimmed"])
def test_two_hundred_kills_and_freezes_over_200_000_events_lose_and_double_nothing(
    trims: bool, start_redis: Any, tmp_path: Path, capsys: Any
) -> None:
    plan = Plan(events=200_000, faults=200, redis_kills=12, redis_freezes=8, lost_tails=5, returns=5, trims=trims)
    counts = carry_out(plan, start_redis(), tmp_path, capsys)
    assert counts.violations == NONE
    assert counts.kills + counts.freezes + counts.redis_kills + counts.redis_freezes >= 200
    assert counts.trimmed > 100_000 if trims else counts.trimmed == 0


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("plan", "missing"),
    [
        (Plan(events=20_000, faults=40, window=200, freezes=(0.8, 1.5)), "fence"),
        (Plan(events=20_000, faults=5, redis_freezes=8), "duplicates"),
        (Plan(events=20_000, faults=5, returns=8), "run"),
    ],
    ids=["fence", "duplicates", "run"],
)
def test_each_safeguard_is_missed_by_real_processes_where_it_is_switched_off(
    plan: Plan, missing: str, start_redis: Any, tmp_path: Path, capsys: Any
) -> None:
    assert carry_out(plan, start_redis(), tmp_path / "with", capsys).violations == NONE
    assert sum(carry_out(replace(plan, without=missing), start_redis(), tmp_path / "without", capsys).violations) > 0


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_half_a_million_labels_that_are_waited_for_survive_kills(start_redis: Any, tmp_path: Path, capsys: Any) -> None:
    plan = Plan(events=500_000, faults=0, window=20_000, patience=3.0)
    each, told_at_once = plan.events // 4, 25_000
    server, begun = start_redis(), time.monotonic()
    client = connect(server.socket, timeout=PATIENT_S)
    log = RedisLog(client, window=plan.window)
    seen = {place: list(islice(observations(place.index), each)) for place in PARTITIONS}
    late = {place: msgspec.structs.replace(some[0], id="late") for place, some in seen.items()}
    learners = Learners(server.socket, str(tmp_path), plan)
    found: dict[str, float] = {}
    try:
        for stripped in (case, label):
            for begin in range(0, each, told_at_once):
                for place, some in seen.items():
                    log.append(place, drafts(map(stripped, some[begin : begin + told_at_once])))
                caught_up(log)
                if stripped is case and begin + told_at_once == each:
                    found["pending MB"] = round(max(map(private, learners.processes)) / 1e6)
                    found["Redis MB"] = round(client.info("memory")["used_memory"] / 1e6)  # type: ignore[index]
                for which in (0, 1):
                    learners.kill(which)
            if stripped is case:
                asked = time.monotonic()
                for place, event in late.items():
                    log.append(place, drafts([event]))
                caught_up(log)
                found["back after s"] = round(time.monotonic() - asked, 1)
                found["back MB"] = round(max(map(private, learners.processes)) / 1e6)
    finally:
        learners.end()
    missing = doubled = wrong = 0
    for place, some in seen.items():
        expected = expected_reports([*map(case, some), late[place], *map(label, some)])
        reports = list(reported(log, place))
        wrong += sum(one != other for one, other in zip(reports, expected, strict=False))
        kinds = Counter((type(report), report.id) for report in reports if isinstance(report, Scored | Predicted))
        missing += 2 * len(some) + 1 - len(kinds)
        doubled += sum(kinds.values()) - len(kinds)
        assert log.head(place).learned == len(some) + 1
    with capsys.disabled():
        told = {"pending": plan.events, "kills": learners.kills, "seconds": round(time.monotonic() - begun, 1)}
        print(f"\n{told | found | {'missing': missing, 'doubled': doubled, 'wrong': wrong}}")  # noqa: T201
    assert (missing, doubled, wrong) == (0, 0, 0)


def case(event: Observed) -> Observed:
    return msgspec.structs.replace(event, label=UNSET)


def label(event: Observed) -> Labelled:
    return Labelled(id=event.id, label=event.label)


def caught_up(log: Log) -> None:
    deadline = time.monotonic() + 900
    while any(log.head(place).cursor < log.tail(place) for place in PARTITIONS):
        assert time.monotonic() < deadline, "the learners did not catch up"
        time.sleep(0.05)


def private(process: Any) -> int:
    """Bytes of memory that a process shares with no other, its parent above all."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private"))
