"""A model that is declared anew learns its past beside the one that serves, then takes its place."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from online.backtest import Row, backtest
from online.events import Observed, Rejected, Scored, decode_reports, digest, draft_id, encode
from online.learner import ModelLearner
from online.log import START, Draft, Log, Partition
from online.memory_log import MemoryBlob, MemoryLog
from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog
from online.snapshot import open_part, open_sealed
from online.specs import model_spec
from online.worker import Pace, Worker
from service.deciding.declarations import Declarations, Declared
from service.deciding.live_specs import forget_others, load_learner, progress_of, remember
from service.manifest import parse
from service.processes import learners
from service.processes.learners import Roster

HERE = Partition("model:demand")
SECRET = b"s" * 32
PATIENT_S = 120.0
"""For what takes a second on a quiet machine: a busy one starts a process in half a minute."""
SLOW = {"task": "regression", "pipeline": [{"use": "tree.HoeffdingTreeRegressor"}], "metrics": ["MAE"]}
OLD = {
    "task": "regression",
    "pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LinearRegression"}],
    "metrics": ["MAE"],
}
PROGRAM = """
import sys
from online.worker import Pace
from service.processes import learners
from service.settings import Settings
learners.PACE = Pace(tidy=0.2, patience=1.0, beat=0.2)
learners.run(Settings(redis=sys.argv[1], data=sys.argv[2], manifest=sys.argv[3], secret="s" * 32, window=1000))
"""


def events(begin: int, end: int) -> list[Observed]:
    return [
        Observed(
            id=f"e{n}", features={"x": float(n * 7919 % 101), "y": float(n % 13)}, label=float(n * 7919 % 101 > 50)
        )
        for n in range(begin, end)
    ]


def feed(log: Log, some: list[Observed]) -> None:
    log.append(HERE, [Draft(draft_id(event), digest(event.id), encode(event)) for event in some])


def expected(table: dict[str, Any], count: int) -> dict[str, float]:
    rows = [Row(event.features, event.label) for event in events(0, count)]
    return backtest(model_spec("demand", table), rows, MemoryLog()).metrics


def scored(log: Log) -> list[str]:
    found, after = [], START
    while entries := log.reports(HERE, after, 10_000):
        after = entries[-1].id
        found += [r.id for entry in entries for r in decode_reports(entry.payload) if isinstance(r, Scored)]
    return found


def wait(condition: Callable[[], bool], seconds: float = PATIENT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.02)


@contextmanager
def learner(socket: str, folder: Path, table: dict[str, Any]) -> Iterator["subprocess.Popen[bytes]"]:
    manifest = folder / "trimtab.toml"
    pipeline = ", ".join(f'{{use = "{step["use"]}"}}' for step in table["pipeline"])
    manifest.write_text(
        f'[models.demand]\ntask = "{table["task"]}"\npipeline = [{pipeline}]\nmetrics = {table["metrics"]}\n'
    )
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, socket, str(folder / "data"), str(manifest)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENT_S)


def served(log: Log, blob: RedisBlob) -> ModelLearner:
    """What an API process serves."""
    saved = log.load(HERE)
    assert saved is not None
    data = open_sealed(SECRET, HERE, saved.cursor, saved.snapshot)
    return load_learner(blob, model_spec("demand", SLOW), data)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_declared_change_is_replayed_over_archive_and_log_while_the_old_model_serves_and_learns(
    start_redis: Any, tmp_path: Path
) -> None:
    server = start_redis()
    client = connect(server.socket, timeout=PATIENT_S)
    log, blob = RedisLog(client, window=1000), RedisBlob(client)
    with learner(server.socket, tmp_path, OLD) as first:
        for begin in range(0, 8_000, 1000):
            feed(log, events(begin, begin + 1000))
            time.sleep(0.05)
        wait(lambda: log.head(HERE).learned == 8_000)
        count = 8_000
        while log.length(HERE) > 4_000:
            feed(log, events(count, count + 10))
            count += 10
            time.sleep(0.3)
        declare(log, SLOW)
        wait(lambda: progress_of(blob, "demand") is not None)
        # Killed in the middle: the old model is there, and the replay begins again.
        first.kill()
        assert served(log, blob).spec.source == OLD
    with learner(server.socket, tmp_path, OLD), learner(server.socket, tmp_path, OLD):
        seen, begun = [], count
        while served(log, blob).spec.source == OLD:
            seen.append((served(log, blob).learned, progress_of(blob, "demand")))
            feed(log, events(count, count + 20))
            count += 20
            time.sleep(0.05)
            assert len(seen) < 3_000
        wait(lambda: log.head(HERE).learned == count)
        feed(log, events(count, count + 100))
        wait(lambda: log.head(HERE).learned == count + 100 and served(log, blob).learned == count + 100)
        last = progress_of(blob, "demand")
    assert seen[-1][0] > begun, "the old model did not learn meanwhile"
    shares = [found.entries / found.of for _, found in seen if found is not None and found.state == "replaying"]
    assert len(set(shares)) >= 2
    assert last is not None
    assert (last.state, last.trouble, last.left_s) == ("live", "", 0.0)
    assert served(log, blob).metrics() == expected(SLOW, count + 100)
    names = scored(log)
    assert names == [f"e{n}" for n in range(count + 100)]


@pytest.mark.timeout(600)
def test_a_manifest_that_changed_between_two_runs_is_rebuilt_too(start_redis: Any, tmp_path: Path) -> None:
    server = start_redis()
    client = connect(server.socket, timeout=PATIENT_S)
    log, blob = RedisLog(client, window=1000), RedisBlob(client)
    with learner(server.socket, tmp_path, OLD):
        feed(log, events(0, 3_000))
        wait(lambda: log.head(HERE).learned == 3_000)
    with learner(server.socket, tmp_path, SLOW):
        assert served(log, blob).spec.source == OLD
        wait(lambda: served(log, blob).spec.source == SLOW)
    assert served(log, blob).metrics() == expected(SLOW, 3_000)


def declare(log: Log, table: dict[str, Any]) -> None:
    Declarations(log, parse({})).declare("change", Declared("model", "demand", table, "ana", "better", 0.0))


@pytest.fixture
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "_LOOK_EVERY_S", 0.0)


@pytest.mark.usefixtures("_look_always")
def test_instances_of_keys_and_rejects_of_the_old_model_go_with_it() -> None:
    log, blob = MemoryLog(), MemoryBlob()
    old = {**OLD, "key": "sku", "features": {"x": {"type": "number", "range": [0, 60]}, "y": {"type": "number"}}}
    new = {**OLD, "key": "sku", "features": {"x": {"type": "number"}, "y": {"type": "number", "range": [0, 11]}}}
    keyed = [msgspec.structs.replace(event, key=f"k{n % 5}") for n, event in enumerate(events(0, 400))]
    feed(log, keyed)

    def hire(partition: Partition, make: Any) -> Worker:
        return Worker(log, make, partition, "learner", secret=SECRET, pace=Pace(commit=0.0, calm=0.0))

    roster = Roster(Declarations(log, parse({"models": {"demand": old}})), hire, log, blob, SECRET)
    settle(roster)
    before = dict(log.fields(HERE, "reject"))
    declare(log, new)
    settle(roster)
    (worker,) = roster.workers
    assert isinstance(worker.fold, ModelLearner)
    assert worker.fold.spec.source == new
    fresh = MemoryLog()
    feed(fresh, keyed)
    other = Roster(
        Declarations(fresh, parse({"models": {"demand": new}})), lambda p, m: again(fresh, p, m), fresh, blob, SECRET
    )
    settle(other)
    (direct,) = other.workers
    assert isinstance(direct.fold, ModelLearner)
    assert worker.fold.metrics() == direct.fold.metrics()
    assert worker.fold.counts == direct.fold.counts
    for key in (f"k{n}" for n in range(5)):
        asked = {"x": 50.0, "y": 3.0}
        assert worker.fold.predict(key, asked) == direct.fold.predict(key, asked)
    rejected = [r for _, data in log.fields(HERE, "reject") for r in decode_reports(data) if isinstance(r, Rejected)]
    assert before
    assert {r.id for r in rejected} == {f"k{n % 5}\x1fe{n}" for n in range(400) if n % 13 > 11}
    for name, data in log.parts(HERE, ""):
        assert open_part(SECRET, HERE, name, data)


def again(log: MemoryLog, partition: Partition, make: Any) -> Worker:
    return Worker(log, make, partition, "learner", secret=SECRET, pace=Pace(commit=0.0, calm=0.0))


def settle(roster: Roster) -> None:
    for _ in range(20):
        roster()
        for worker in roster.workers:
            while worker.step():
                pass
        if not roster.rebuilds:
            for worker in roster.workers:
                worker.close()


def test_specs_of_no_snapshot_are_forgotten(blob: Any) -> None:
    specs = [model_spec("demand", {**OLD, "metrics": [metric]}) for metric in ("MAE", "RMSE", "R2")]
    for spec in specs:
        remember(blob, spec)
        remember(blob, spec)
    assert len(blob.names("spec/demand/")) == 3
    forget_others(blob, specs[2], specs[1])
    assert len(blob.names("spec/demand/")) == 2
