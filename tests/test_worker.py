"""Workers over both logs: recovery, fencing, poison, and nothing learned twice or not at all."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from river import datasets

from online.backtest import Row, backtest
from online.events import Observed, Rejected, Scored, Ticked, decode, decode_reports, digest, draft_id, encode
from online.join import PointLearner, point_fold
from online.learner import ModelLearner, model_fold
from online.log import START, Commit, Draft, Log, LogUnavailable, Partition
from online.memory_log import MemoryLog
from online.outcomes import OutcomeSpec
from online.redis_client import connect
from online.redis_log import RedisLog
from online.specs import ModelSpec, model_spec
from online.worker import Pace, Worker

HERE = Partition("model:phishing", 0)
SECRET = b"k" * 32
TABLE = {
    "task": "binary",
    "pipeline": [
        {"use": "preprocessing.StandardScaler"},
        {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.SGD", "lr": 0.005}},
    ],
    "metrics": ["Accuracy"],
}


class Ticking:
    """A monotonic clock that moves a little with each look, so that time passes without waiting."""

    def __init__(self, step: float = 0.001) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def spec(**changes: Any) -> ModelSpec:
    return model_spec("phishing", TABLE | changes)


def events() -> list[Observed]:
    return [Observed(id=str(n), features=x, label=y) for n, (x, y) in enumerate(datasets.Phishing())]


def feed(log: Log, some: Iterable[Any], partition: Partition = HERE) -> None:
    payloads = [(draft_id(event), encode(event)) for event in some]
    log.append(partition, [Draft(name, digest(payload), payload) for name, payload in payloads])


def worker(log: Log, owner: str = "a", clock: Callable[[], float] | None = None, **changes: Any) -> Worker:
    return Worker(log, model_fold(spec(**changes)), HERE, owner, clock or Ticking(), SECRET)


def fold_of(kind: type[ModelLearner]) -> Any:
    return lambda data, parts: kind.load(spec(), data, parts) if data else kind(spec(), parts)


def settle(*workers: Worker, steps: int = 2_000) -> None:
    """Step until a whole second passes without anything to do."""
    quiet = 0
    for _ in range(steps):
        quiet = 0 if sum(one.step() for one in workers) else quiet + 1
        if quiet > 20:
            return
    raise AssertionError("the workers never came to rest")


def learner_of(one: Worker) -> ModelLearner:
    assert isinstance(one.fold, ModelLearner), one.trouble
    return one.fold


def all_reports(log: Log, partition: Partition = HERE) -> list[Any]:
    return [report for entry in log.reports(partition, START, 100_000) for report in decode_reports(entry.payload)]


def test_a_worker_learns_everything_and_says_so(log: Log) -> None:
    feed(log, events())
    one = worker(log)
    settle(one)
    head = log.head(HERE)
    assert learner_of(one).metrics() == {"Accuracy": 0.8872}
    assert (head.cursor, head.learned, head.owner) == (log.tail(HERE), 1250, "a")
    reports = all_reports(log)
    assert [report.id for report in reports] == [str(number) for number in range(1250)]
    assert sum(report.error == 0 for report in reports) == 1109  # 0.8872 of 1,250


def test_a_new_worker_goes_on_where_the_last_one_stopped(log: Log) -> None:
    feed(log, events()[:700])
    settle(worker(log))
    feed(log, events()[700:])
    second = worker(log)
    settle(second)
    assert learner_of(second).metrics() == {"Accuracy": 0.8872}
    assert len(all_reports(log)) == 1250


def test_predictions_from_a_snapshot_equal_those_of_the_learner_itself(log: Log) -> None:
    feed(log, events())
    one = worker(log)
    settle(one)
    saved = log.load(HERE)
    assert saved is not None
    from online.snapshot import open_sealed

    loaded = ModelLearner.load(spec(), open_sealed(SECRET, HERE, saved.cursor, saved.snapshot))
    for event in events()[:50]:
        assert loaded.predict(None, event.features) == learner_of(one).predict(None, event.features)
    assert loaded.metrics() == {"Accuracy": 0.8872}


def test_a_fenced_worker_writes_nothing_and_stands_by(log: Log) -> None:
    feed(log, events()[:500])
    first, second = worker(log, "first"), worker(log, "second", Ticking(0.2))
    settle(first)
    while second.fold is None:
        second.step()
    feed(log, events()[500:])
    settle(first, second)
    assert first.fold is None
    assert "owner" in str(first.trouble)
    assert learner_of(second).metrics() == {"Accuracy": 0.8872}
    assert log.head(HERE).owner == "second"
    assert [report.id for report in all_reports(log)] == [str(number) for number in range(1250)]


def test_a_rival_waits_while_the_owner_shows_that_it_lives(log: Log) -> None:
    clock = Ticking(0.01)
    owner = Worker(log, model_fold(spec()), HERE, "owner", clock, SECRET)
    rival = Worker(log, model_fold(spec()), HERE, "rival", clock, SECRET)
    for _ in range(2_000):
        owner.step()
        rival.step()
    assert clock.now > 20
    assert owner.fold is not None
    assert rival.fold is None
    begun = clock.now
    while rival.fold is None:
        rival.step()
    # The owner's last sign of life may be a second old by now.
    assert 4.0 <= clock.now - begun < 6.0


def test_two_that_are_slower_than_their_patience_still_come_further(log: Log) -> None:
    clock = Ticking(0.0)
    slow = Pace(patience=0.4, batch=50)
    pair = [Worker(log, model_fold(spec()), HERE, name, clock, SECRET, pace=slow) for name in ("first", "second")]
    feed(log, events())
    busy_until = dict.fromkeys(pair, 0.0)
    for _ in range(2_000):
        clock.now += 0.1
        for one in pair:
            # To look is quick; to work takes an owner a whole second.
            if busy_until[one] <= clock.now:
                one.step()
                busy_until[one] = clock.now + (0.0 if one.fold is None else 1.0)
    assert log.head(HERE).learned == 1250
    assert log.head(HERE).epoch < 30
    assert [report.id for report in all_reports(log)] == [str(number) for number in range(1250)]


def test_a_worker_of_the_same_name_takes_over_at_once(log: Log) -> None:
    feed(log, events()[:10])
    settle(worker(log, "learner-0"))
    again = worker(log, "learner-0", Ticking(1e-9))
    again.step()
    assert again.fold is not None


class BreakingLog(MemoryLog):
    """A log whose calls fail when asked to, before or after they took effect; a commit's failure may be told later."""

    def __init__(self) -> None:
        super().__init__()
        self.fail: Callable[[str], str | None] = lambda _: None
        self.failed: str | None = None

    def acquire(self, partition: Partition, owner: str) -> int:
        self.failed = None
        return super().acquire(partition, owner)

    def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
        self.confirm(partition, epoch)
        when = self.fail("commit") or ""
        if not when.startswith("before"):
            super().commit(partition, epoch, commit)
        if when:
            self.failed = f"the connection was closed {when}"
        if when in ("before", "after"):
            self.confirm(partition, epoch)

    def confirm(self, partition: Partition, epoch: int) -> None:  # noqa: ARG002
        failed, self.failed = self.failed, None
        if failed is not None:
            raise LogUnavailable(failed)

    def read(self, *arguments: Any, **options: Any) -> Any:
        if self.fail("read"):
            raise LogUnavailable("the connection was closed")
        return super().read(*arguments, **options)


@pytest.mark.parametrize("when", ["before", "after", "before, told later", "after, told later"])
def test_a_commit_in_doubt_is_neither_lost_nor_doubled(when: str) -> None:
    log = BreakingLog()
    calls = iter(range(10**9))
    log.fail = lambda call: when if call == "commit" and next(calls) % 3 == 0 else None
    feed(log, events())
    one = Worker(log, model_fold(spec()), HERE, "a", Ticking(0.003), SECRET)
    for _ in range(5_000):
        one.step()
    log.fail = lambda _: None
    settle(one)
    assert learner_of(one).metrics() == {"Accuracy": 0.8872}
    assert [report.id for report in all_reports(log)] == [str(number) for number in range(1250)]


def test_a_log_that_was_away_is_trouble_and_no_end() -> None:
    log = BreakingLog()
    feed(log, events()[:5])
    one = worker(log)
    settle(one)
    log.fail = lambda call: "before" if call == "read" else None
    assert not one.step()
    assert one.trouble == "the connection was closed"
    log.fail = lambda _: None
    feed(log, events()[5:10])
    settle(one)
    assert one.trouble is None
    assert learner_of(one).learned == 10


def test_a_broken_snapshot_falls_back_to_the_one_before(log: Log) -> None:
    feed(log, events()[:400])
    settle(worker(log))
    feed(log, events()[400:800])
    settle(worker(log))
    saved = log.load(HERE)
    assert saved is not None
    epoch = log.acquire(HERE, "a")
    log.commit(HERE, epoch, Commit(saved.cursor, b"TTS1" + bytes(100)))
    feed(log, events()[800:])
    third = worker(log)
    settle(third)
    assert learner_of(third).metrics() == {"Accuracy": 0.8872}
    assert len(all_reports(log)) == 1250


def test_snapshots_of_another_secret_are_not_opened_and_the_log_is_played_again(log: Log) -> None:
    feed(log, events())
    settle(worker(log))
    other = Worker(log, model_fold(spec()), HERE, "a", Ticking(), b"another secret")
    settle(other)
    assert learner_of(other).metrics() == {"Accuracy": 0.8872}


def test_nothing_is_unpickled_before_its_seal_was_checked(log: Log) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (os.abort, ())

    feed(log, events()[:5])
    epoch = log.acquire(HERE, "a")
    log.commit(HERE, epoch, Commit(log.tail(HERE), pickle.dumps(Trap())))
    one = worker(log)
    settle(one)
    assert learner_of(one).learned == 5


def test_without_snapshot_and_beginning_the_worker_says_what_is_lost() -> None:
    log = MemoryLog(window=10)
    feed(log, events()[:100])
    epoch = log.acquire(HERE, "a")
    log.trim(HERE, epoch, log.tail(HERE))
    one = worker(log)
    assert not one.step()
    assert one.fold is None
    assert "restore a backup" in str(one.trouble)


def test_a_changed_spec_learns_the_log_again(log: Log) -> None:
    feed(log, events())
    settle(worker(log))
    changed = worker(log, pipeline=[{"use": "tree.HoeffdingTreeClassifier"}])
    settle(changed)
    assert round(learner_of(changed).metrics()["Accuracy"], 6) == 0.879904  # published for this tree


def test_poison_is_set_aside_and_the_model_is_as_if_it_had_not_come(log: Log) -> None:
    good = events()
    bad = [
        Observed(id=f"bad-{number}", features={**event.features, "invented": "a text that no scaler takes"}, label=True)
        for number, event in enumerate(good[::10])
    ]
    mixed: list[Observed] = []
    for number, event in enumerate(good):
        mixed += [bad[number // 10], event] if number % 10 == 0 else [event]
    feed(log, mixed)
    one = worker(log)
    settle(one, steps=20_000)
    reports = all_reports(log)
    rejected = [report for report in reports if isinstance(report, Rejected)]
    assert learner_of(one).metrics() == {"Accuracy": 0.8872}
    assert [report.id for report in rejected] == [event.id for event in bad]
    assert {report.reason.split(":")[0] for report in rejected} == {"learning failed"}
    assert [report.id for report in reports if isinstance(report, Scored)] == [event.id for event in good]
    listed = dict(log.fields(HERE, "reject"))
    assert len(listed) == len(bad)
    assert decode(rejected[0].event) == bad[0]


def test_a_fold_with_a_fault_of_its_own_does_not_stop_the_stream(log: Log) -> None:
    class Faulty(ModelLearner):
        def apply(self, entry: Any) -> Any:
            found = super().apply(entry)
            if entry.event_id == "3":
                raise ZeroDivisionError("a fault")
            return found

        def run(self, entries: Any, made: Any) -> int:  # noqa: ARG002
            return 0

    feed(log, events()[:10])
    one = Worker(
        log, lambda data, parts: Faulty.load(spec(), data, parts) if data else Faulty(spec(), parts), HERE, "a"
    )
    settle(one)
    assert learner_of(one).learned == 9
    (rejected,) = [report for report in all_reports(log) if isinstance(report, Rejected)]
    assert (rejected.id, rejected.reason) == ("3", "ZeroDivisionError: a fault")


def test_event_time_goes_on_when_nothing_arrives(log: Log, clock: Any) -> None:
    point = Partition("point:price", 0)
    now = clock.now
    from online.events import Decided

    feed(log, [Decided(id="d", context={}, index=0, action=1.0, propensity=1.0, policy="p")], point)
    one = Worker(log, point_fold(OutcomeSpec(wait=60.0, default=0.0), None), point, "a", Ticking(), now=lambda: now)
    settle(one)
    assert log.length(point) == 1
    now += 61.0
    clock.now = now
    settle(one)
    assert log.length(point) == 2
    last = log.read(point, START, 10)[-1]
    assert decode(last.payload) == Ticked(at=now)
    assert isinstance(one.fold, PointLearner)
    assert one.fold.values["p", ""].defaulted == 1
    settle(one)
    assert log.length(point) == 2


LEARNER = """
    import sys
    from online.learner import model_fold
    from online.log import Partition
    from online.redis_client import connect
    from online.redis_log import RedisLog
    from online.specs import model_spec
    from online.worker import Pace, Worker, work

    import tests_table

    spec = model_spec("phishing", tests_table.TABLE)
    log = RedisLog(connect(sys.argv[1]))
    here, pace = Partition("model:phishing", 0), Pace(batch=20)
    worker = Worker(log, model_fold(spec), here, "learner-0", secret=b"k" * 32, pace=pace)
    work([worker], log, lambda: False)
"""


def test_a_learner_killed_in_mid_stream_learns_every_event_once(
    embedded_redis: Any, redis_client: Any, tmp_path: Any
) -> None:
    stream = [Observed(id=f"{r}-{e.id}", features=e.features, label=e.label) for r in range(4) for e in events()]
    unbroken = backtest(spec(), [Row(event.features, event.label) for event in stream], MemoryLog())
    (tmp_path / "tests_table.py").write_text(f"TABLE = {TABLE!r}\n")
    (tmp_path / "learner.py").write_text(textwrap.dedent(LEARNER))
    log = RedisLog(redis_client)
    kills, fed = 0, 0

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, str(tmp_path / "learner.py"), embedded_redis.socket])

    process = start()
    try:
        for begin in range(0, len(stream), 2_000):
            feed(log, stream[begin : begin + 2_000])
            fed += min(2_000, len(stream) - begin)
            deadline = time.monotonic() + 60
            while log.head(HERE).learned < fed - 1_500 and time.monotonic() < deadline:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            process = start()
        deadline = time.monotonic() + 60
        while log.head(HERE).cursor < log.tail(HERE) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    last = Worker(log, model_fold(spec()), HERE, "learner-0", secret=SECRET)
    settle(last)
    assert kills == 3
    assert learner_of(last).learned == len(stream)
    assert learner_of(last).metrics() == unbroken.metrics
    assert [report.id for report in all_reports(log)] == [event.id for event in stream]


def test_a_worker_survives_a_redis_that_was_killed(start_redis: Any) -> None:
    server = start_redis()
    with connect(server.socket) as client:
        log = RedisLog(client)
        one = Worker(log, model_fold(spec()), HERE, "a", secret=SECRET)
        feed(log, events()[:600])
        for _ in range(3):
            one.step()
        server.kill()
        assert not one.step()
        assert one.fold is None
        assert one.trouble is not None
        server.start()
        feed(log, events()[600:])
        settle(one, steps=100_000)
        assert learner_of(one).metrics() == {"Accuracy": 0.8872}
        # By a real clock idle steps are quick: what was learned last is committed once the worker has rested a moment.
        while log.head(HERE).cursor < log.tail(HERE):
            one.step()
        assert len(all_reports(log)) == 1250


def commit_now(log: RedisLog, epoch: int, commit: Commit) -> None:
    log.commit(HERE, epoch, commit)
    log.confirm(HERE, epoch)


def test_a_commit_after_an_unseen_restart_is_refused(start_redis: Any) -> None:
    server = start_redis()
    with connect(server.socket) as client:
        log = RedisLog(client)
        feed(log, events()[:10])
        epoch = log.acquire(HERE, "a")
        tail = log.tail(HERE)
        server.kill()
        server.start()
        with pytest.raises(LogUnavailable, match="restarted"):
            log.read(HERE, START, 10)
        with pytest.raises(LogUnavailable, match="restarted"):
            commit_now(log, epoch, Commit(tail, b"state"))
        epoch = log.acquire(HERE, "a")
        log.commit(HERE, epoch, Commit(tail, b"state"))
        assert len(log.read(HERE, START, 100)) == 10
