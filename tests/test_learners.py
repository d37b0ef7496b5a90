"""The learner process: a worker for each model and point, a note for each alarm, a heartbeat."""

from itertools import count
from typing import Any

import pytest

from online.events import Drifted, Observed, Switched, digest, draft_id, encode
from online.log import Draft, EntryId, Partition
from online.memory_log import MemoryBlob, MemoryLog
from online.worker import Worker
from service.deciding import feed
from service.manifest import parse
from service.processes import learners
from service.processes.learners import Watch, alarm, folds

DEMAND = Partition("model:demand")
DECLARED: dict[str, Any] = {
    "models": {
        "demand": {
            "task": "regression",
            "pipeline": [{"use": "dummy.StatisticRegressor", "statistic": {"use": "stats.Mean"}}],
            "metrics": ["MAE"],
            "detectors": {"error": {"use": "drift.ADWIN"}},
        }
    },
    "points": {"price": {"world": "pricing", "baseline": "best-fixed-price"}},
}


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "_LOOK_EVERY_S", 0.0)


class Bench:
    """The workers of a manifest over memory, and who watches them."""

    def __init__(self) -> None:
        self.log, self.blob = MemoryLog(), MemoryBlob()
        self.ids = count()
        self.start()

    def start(self) -> None:
        made = folds(parse(DECLARED), MemoryBlob()).items()
        self.workers = [Worker(self.log, make, partition, "learner", secret=b"s" * 32) for partition, make in made]
        self.watch = Watch(self.log, self.blob, self.workers)

    def observe(self, label: float, times: int) -> None:
        events = [Observed(id=str(next(self.ids)), features={"price": 1.0}, label=label + i % 2) for i in range(times)]
        self.log.append(DEMAND, [Draft(draft_id(e), digest(e.id), encode(e)) for e in events])
        self.settle()

    def settle(self) -> None:
        for worker in self.workers:
            while worker.step():
                pass
        for worker in self.workers:
            worker.close()
        self.watch()

    def notes(self) -> list[feed.Note]:
        return [note for _, note in feed.read(self.log, EntryId(0, 0), 1000)]


def test_each_model_and_each_point_has_a_worker() -> None:
    assert set(folds(parse(DECLARED), MemoryBlob())) == {DEMAND, Partition("point:price")}


def test_an_alarm_is_told_once_with_its_evidence_also_after_a_restart() -> None:
    bench = Bench()
    bench.watch()
    bench.observe(1.0, 1000)
    assert bench.notes() == []
    bench.observe(50.0, 500)
    (note, *_) = bench.notes()
    assert (note.kind, note.source, note.subject) == ("drift", "learner", "model:demand")
    assert "demand" in note.text
    assert "ADWIN" in note.text
    assert note.data
    told = len(bench.notes())
    bench.start()
    bench.settle()
    assert len(bench.notes()) == told


def test_a_change_of_the_champion_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    demand = DECLARED["models"]["demand"]
    challengers = {"mean": {"pipeline": demand["pipeline"]}}
    monkeypatch.setitem(DECLARED["models"], "demand", demand | {"challengers": challengers})
    bench = Bench()
    call = Switched(id="s-1", champion="mean", actor="ann", reason="to try")
    bench.log.append(DEMAND, [Draft(draft_id(call), digest(call.id), encode(call))])
    bench.settle()
    bench.settle()
    (note,) = bench.notes()
    assert (note.kind, note.text) == ("champion", "demand: mean answers instead of declared (ann: to try)")


def test_the_heartbeat_says_what_is_owned_and_learned() -> None:
    bench = Bench()
    bench.observe(1.0, 30)
    (heartbeat,) = feed.heartbeats(bench.blob)
    assert heartbeat.process == "learner"
    told = {name: heartbeat.detail[name] for name in ("learned", "standing_by")}
    assert told == {"learned": {"model:demand/0": 30, "point:price/0": 0}, "standing_by": []}
    assert heartbeat.detail["memory"] > 10 * 2**20


def test_a_second_learner_stands_by_and_says_so() -> None:
    bench = Bench()
    bench.observe(1.0, 10)
    made = folds(parse(DECLARED), MemoryBlob()).items()
    rivals = [Worker(bench.log, make, partition, "another", secret=b"s" * 32) for partition, make in made]
    watch = Watch(bench.log, MemoryBlob(), rivals)
    for rival in rivals:
        assert not rival.step()
    watch()
    (heartbeat,) = feed.heartbeats(watch.blob)
    assert heartbeat.detail["learned"] == {}
    assert heartbeat.detail["standing_by"] == ["model:demand/0", "point:price/0"]


def test_an_alarm_is_told_with_the_name_of_its_detector_where_that_is_not_its_signal() -> None:
    told = []
    for name in ("error", "hddm"):
        drifted = Drifted(id="1", name=name, detector="HDDMA", signal="error", at=0.0, evidence={"recent": 0.5})
        told.append(alarm(Partition("model:m", 0), drifted).text)
    assert told == [
        "drift in m: the error has changed (HDDMA: recent 0.5)",
        "drift in m: the error has changed (hddm, HDDMA: recent 0.5)",
    ]
