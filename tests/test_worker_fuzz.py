"""Broken events among good ones: the learner goes on, and the good ones give exactly the model of the clean stream."""

import math
import random
from typing import Any

import msgspec
import pytest

from online.events import Labelled, Observed, Rejected, Scored, decode_reports, digest, draft_id, encode
from online.learner import ModelLearner, model_fold
from online.log import START, Draft, Log, Partition
from online.memory_log import MemoryLog
from online.specs import ModelSpec, model_spec
from online.worker import Pace, Worker

HERE = Partition("model:m", 0)
SGD = {"use": "optim.SGD", "lr": 0.05}
TABLE = {
    "task": "binary",
    "pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}],
    "metrics": ["Accuracy", "LogLoss"],
    "features": {
        "a": {"type": "number", "range": [-100, 100]},
        "b": {"type": "number", "required": False},
        "kind": {"type": "category", "values": ["x", "y", "z"], "required": False},
    },
}


def good(number: int, chance: random.Random) -> list[Any]:
    x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1), "kind": chance.choice("xyz")}
    y = x["a"] + (x["kind"] == "x") + chance.gauss(0, 1) > 0
    name = f"good-{number}"
    if number % 3:
        return [Observed(id=name, features=x, label=y)]
    return [Observed(id=name, features=x), Labelled(id=name, label=y)]


def raw(number: int, **fields: Any) -> tuple[str, bytes]:
    return f"bad-{number}", msgspec.msgpack.encode({"type": "observed/1", "id": f"bad-{number}", **fields})


def broken(number: int, chance: random.Random) -> tuple[str, bytes]:
    """One event that no model may learn, of one of many kinds."""
    x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1), "kind": "x"}
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    kinds: list[dict[str, Any]] = [
        {"features": x | {"a": "a text"}, "label": True},
        {"features": x | {"b": True}, "label": True},
        {"features": x | {"a": math.nan}, "label": True},
        {"features": x | {"b": math.inf}, "label": True},
        {"features": x | {"b": 1e308}, "label": True},
        {"features": x | {"a": 101.0}, "label": True},
        {"features": x | {"kind": "invented"}, "label": True},
        {"features": x | {"surprise": 1.0}, "label": True},
        {"features": {"b": 1.0, "kind": "x"}, "label": True},
        {"features": {}, "label": True},
        {"features": x | {"a": deep}, "label": True},
        {"features": x, "label": "maybe"},
        {"features": x, "label": 2},
        {"features": x, "label": math.nan},
        {"label": True},
        {"features": [1, 2, 3]},
        {"features": x, "label": True, "at": "noon"},
    ]
    kind = chance.randrange(len(kinds) + 4)
    if kind < len(kinds):
        return raw(number, **kinds[kind])
    payloads = [b"", b"\xc1\x00", msgspec.msgpack.encode({"type": "observed/9"}), msgspec.msgpack.encode([1])]
    return f"bad-{number}", payloads[kind - len(kinds)]


def learn(log: Log, drafts: list[Draft], spec: ModelSpec) -> ModelLearner:
    for begin in range(0, len(drafts), 1_000):
        log.append(HERE, drafts[begin : begin + 1_000])
    worker = Worker(log, model_fold(spec), HERE, "a", now=lambda: -math.inf, pace=Pace(calm=0.0))
    while worker.step():
        pass
    assert isinstance(worker.fold, ModelLearner), worker.trouble
    return worker.fold


def as_draft(event: Any) -> Draft:
    return Draft(draft_id(event), digest(draft_id(event)), encode(event))


def check(count: int, log: Log) -> None:
    chance = random.Random(5)
    clean: list[Draft] = []
    mixed: list[Draft] = []
    bad = 0
    for number in range(count):
        if number % 10 == 9:
            name, payload = broken(number, chance)
            mixed.append(Draft(name, b"", payload))
            bad += 1
        else:
            some = [as_draft(event) for event in good(number, chance)]
            clean += some
            mixed += some
    spec = model_spec("m", TABLE)
    expected = learn(MemoryLog(), clean, spec)
    found = learn(log, mixed, spec)
    assert found.metrics() == expected.metrics()
    assert found.learned == expected.learned
    reports = [r for entry in log.reports(HERE, START, 10**6) for r in decode_reports(entry.payload)]
    rejected = [report for report in reports if isinstance(report, Rejected)]
    assert [report.id for report in rejected] == [draft.id for draft in mixed if draft.id.startswith("bad")]
    assert all(report.reason for report in rejected)
    assert len(dict(log.fields(HERE, "reject"))) == len(rejected) == bad
    assert sum(isinstance(report, Scored) for report in reports) == found.learned
    probe = {"a": 0.3, "b": -1.0, "kind": "y"}
    assert found.predict(None, probe) == expected.predict(None, probe)


def test_broken_events_leave_the_model_of_the_clean_stream(log: Log) -> None:
    check(3_000, log)


@pytest.mark.long
def test_fifty_thousand_events_one_in_ten_broken(log: Log) -> None:
    check(50_000, log)


def test_a_label_given_twice_with_another_value_is_a_conflict_and_changes_nothing(log: Log) -> None:
    first, second = Labelled(id="1", label=True), Labelled(id="1", label=False)
    drafts = [Draft(draft_id(event), digest(event.label), encode(event)) for event in (first, second, first)]
    log.append(HERE, [as_draft(Observed(id="1", features={"a": 1.0}))])
    answers = log.append(HERE, drafts)
    assert [type(answer).__name__ for answer in answers] == ["Appended", "Conflict", "Appended"]
    learner = learn(log, [], model_spec("m", TABLE))
    assert learner.counts["labelled"] == 1
    assert learner.counts["rejected"] == 0
