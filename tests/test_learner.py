"""The fold of a model: labels late, never, twice or early; every task; replay, rejects and restarts."""

import copy
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import conf, datasets, linear_model, metrics, optim, preprocessing
from river.datasets import synth

from online.events import (
    Decided,
    Drifted,
    Labelled,
    Observed,
    Predicted,
    Rejected,
    Scored,
    Settled,
    Ticked,
    encode,
    encode_reports,
)
from online.features import FeatureError
from online.fold import Poisoned, Stale, replay_of
from online.learner import ModelLearner
from online.log import Entry, EntryId
from online.reading import SpecError
from online.specs import ModelSpec, model_spec

SGD = {"use": "optim.SGD", "lr": 0.005}
LOGISTIC = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}]


def spec(**changes: Any) -> ModelSpec:
    return model_spec("m", {"task": "binary", "pipeline": LOGISTIC, "metrics": ["Accuracy"]} | changes)


class Stream:
    """Entries for events, one after the other; restarts drop all but what a log would hold."""

    def __init__(self, given: ModelSpec) -> None:
        self.spec = given
        self.learner = ModelLearner(given)
        self.entries: list[Entry] = []
        self.parts: dict[str, bytes] = {}

    def __call__(self, *events: Any) -> list[Any]:
        return [report for event in events for report in self.put(encode(event), event.at or 0.0)]

    def put(self, payload: bytes, at: float = 0.0, *, intact: bool = True) -> list[Any]:
        number = len(self.entries) + 1
        self.entries.append(Entry(EntryId(1, number), number, at, f"e{number}", payload, intact))
        return self.learner.apply(self.entries[-1])

    def restart(self) -> None:
        for name, data in self.learner.changes().items():
            if data is None:
                self.parts.pop(name, None)
            else:
                self.parts[name] = data
        self.learner = ModelLearner.load(self.spec, self.learner.dump(), self.parts.get)
        self.learner.restore(self.parts)
        oldest = self.learner.oldest()
        self.learner.remember(entry for entry in self.entries if oldest is not None and entry.id >= oldest)


def cases(count: int = 300) -> list[tuple[dict[str, Any], bool]]:
    return [(x, y) for x, y in datasets.Phishing().take(count)]


def test_a_label_that_comes_late_is_learned_with_the_features_that_were_predicted_with() -> None:
    (x, y), *_ = cases()
    stream = Stream(spec())
    (predicted,) = stream(Observed(id="1", features=x))
    assert predicted == Predicted(id="1", prediction=False)
    assert stream.learner.learned == 0
    (scored,) = stream(Labelled(id="1", label=y))
    assert scored == Scored(id="1", prediction=False, label=y, error=float(y))
    by_hand = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
    by_hand.learn_one({name: x[name] for name in sorted(x)}, y)
    expected = by_hand.predict_proba_one({name: x[name] for name in sorted(x)})
    found = stream.learner.predict(None, x).probabilities
    assert found == {"false": expected[False], "true": expected[True]}


def test_a_wait_that_ends_defaults_and_a_label_after_it_is_late_and_not_learned() -> None:
    (x, y), *_ = cases()
    stream = Stream(spec(label_wait="60s"))
    stream(Observed(id="1", features=x, at=0.0))
    assert stream(Ticked(at=59.0)) == []
    assert stream(Ticked(at=60.0)) == [Settled(id="1", state="defaulted", closed=True)]
    (late,) = stream(Labelled(id="1", label=y, at=61.0))
    assert (late.state, late.prediction) == ("late", False)
    assert (stream.learner.learned, stream.learner.counts["late"], stream.learner.counts["defaulted"]) == (0, 1, 1)


def test_a_second_label_is_set_aside() -> None:
    (x, y), *_ = cases()
    stream = Stream(spec())
    stream(Observed(id="1", features=x), Labelled(id="1", label=y))
    (rejected,) = stream(Labelled(id="1", label=not y))
    assert isinstance(rejected, Rejected)
    assert "labelled already" in rejected.reason
    assert stream.learner.learned == 1


def test_a_label_may_come_before_its_features() -> None:
    (x, y), *_ = cases()
    stream = Stream(spec())
    assert stream(Labelled(id="1", label=y)) == []
    stream.restart()
    reports = stream(Observed(id="1", features=x))
    assert [type(report) for report in reports] == [Predicted, Scored]
    (rejected, *_) = stream(Labelled(id="ghost", label=y, at=1.0), Ticked(at=1_000.0))
    assert "no prediction waits" in rejected.reason


def test_learn_false_is_scored_and_not_learned() -> None:
    stream = Stream(spec())
    for number, (x, y) in enumerate(cases(50)):
        stream(Observed(id=str(number), features=x, label=y, learn=False))
    assert stream.learner.learned == 0
    assert stream.learner.metrics()["Accuracy"] == sum(not y for _, y in cases(50)) / 50


def test_predicting_changes_nothing() -> None:
    stream, watched = Stream(spec()), Stream(spec())
    for number, (x, y) in enumerate(cases()):
        for one in (stream, watched):
            one(Observed(id=str(number), features=x, label=y))
        watched.learner.predict(None, x)
        watched.learner.predict(None, {"never": "seen"} if number % 2 else {})
    assert stream.learner.metrics() == watched.learner.metrics()
    assert stream.learner.predict(None, x) == watched.learner.predict(None, x)


def test_a_gap_a_double_and_an_altered_entry_are_noticed() -> None:
    stream = Stream(spec())
    (x, y), *_ = cases()
    stream(Observed(id="1", features=x, label=y))
    stream.entries.append(stream.entries[-1])  # the number 2 is lost
    reports = stream(Observed(id="3", features=x, label=y))
    assert reports[0].count == 1
    (altered,) = stream.put(encode(Observed(id="4", features=x, label=y)), intact=False)
    assert "checksum" in altered.reason
    assert stream.learner.counts["missed"] == 1
    assert stream.learner.counts["rejected"] == 1


def test_every_reject_can_be_mended_and_replayed() -> None:
    (x, y), *_ = cases()
    stream = Stream(spec())
    stream(Observed(id="0", features=x, label=y))
    good = Observed(id="1", features=x, label=y)
    bad = Observed(id="1", features={**x, "ip_in_url": "a text"}, label=y)
    (rejected,) = stream(bad)
    assert rejected.field == "features.ip_in_url"
    listed = stream.learner.index()
    assert listed[f"reject:{rejected.entry}"] is not None
    (again,) = stream.put(encode(replay_of(rejected, "me")))
    assert isinstance(again, Rejected)
    (scored,) = stream.put(encode(replay_of(rejected, "me", encode(good))))
    assert isinstance(scored, Scored)
    assert stream.learner.index()[f"reject:{rejected.entry}"] is None
    assert stream.learner.learned == 2


def test_events_that_a_model_cannot_learn_are_set_aside() -> None:
    stream = Stream(spec())
    decided = Decided(id="d", context={}, index=0, action=0, propensity=1.0, policy="p")
    reports = [*stream(decided), *stream.put(b"\xc1"), *stream(Observed(id="1", features={"a": 1.0}, label="yes"))]
    assert [type(report) for report in reports] == [Rejected] * 3
    assert reports[2].field == "label"


def test_a_snapshot_of_another_spec_is_stale() -> None:
    data = ModelLearner(spec()).dump()
    with pytest.raises(Stale, match="replay the log"):
        ModelLearner.load(spec(label_wait="1h"), data)


def test_a_model_that_diverges_is_poisoned_by_the_event_that_broke_it() -> None:
    # Without clipping, each step multiplies the weight by about -2e7: past 1e308 in some forty events.
    step = {"use": "linear_model.LinearRegression", "optimizer": SGD | {"lr": 10.0}, "clip_gradient": 1e300}
    stream = Stream(model_spec("m", {"task": "regression", "pipeline": [step]}))
    events = [Observed(id=str(number), features={"x": 1e3}, label=1e3) for number in range(100)]
    with pytest.raises(Poisoned, match="OverflowError"):
        stream(*events)
    assert 20 < len(stream.entries) < 60


TREES = {"use": "anomaly.HalfSpaceTrees"}
TASKS: list[tuple[str, list[dict[str, Any]], Any]] = [
    ("binary", [{"use": "naive_bayes.GaussianNB"}], lambda r: r.random() < 0.4),
    ("binary", [{"use": "forest.ARFClassifier", "max_depth": 4, "n_models": 3}], lambda r: r.random() < 0.4),
    ("multiclass", [{"use": "tree.HoeffdingTreeClassifier"}], lambda r: r.choice(["a", "b", "c"])),
    ("regression", [LOGISTIC[0], {"use": "linear_model.LinearRegression"}], lambda r: r.gauss(0, 1)),
    ("regression", [{"use": "neighbors.KNNRegressor"}], lambda r: r.gauss(0, 1)),
    ("anomaly", [{"use": "anomaly.HalfSpaceTrees", "n_trees": 3}], lambda r: r.random() < 0.1),
    ("anomaly", [{"use": "anomaly.GaussianScorer"}], lambda r: r.gauss(0, 1)),
    (
        "anomaly",
        [{"use": "anomaly.QuantileFilter", "q": 0.95, "anomaly_detector": TREES}],
        None,
    ),
    ("clustering", [{"use": "cluster.KMeans", "n_clusters": 3}], None),
    ("clustering", [{"use": "cluster.DBSTREAM"}], None),
    ("clustering", [{"use": "cluster.CluStream"}], None),
    ("forecasting", [{"use": "time_series.SNARIMAX", "p": 2, "d": 1, "q": 1}], lambda r: r.gauss(10, 1)),
    ("forecasting", [{"use": "time_series.HoltWinters", "alpha": 0.3, "beta": 0.1}], lambda r: r.gauss(10, 1)),
]


@pytest.mark.parametrize(("task", "pipeline", "label"), TASKS, ids=[f"{t[0]}-{t[1][-1]['use']}" for t in TASKS])
def test_every_task_goes_on_after_a_restart_as_if_nothing_had_happened(task: str, pipeline: Any, label: Any) -> None:
    table = model_spec("m", {"task": task, "pipeline": pipeline, "threshold": 0.5})
    unbroken, restarted = Stream(table), Stream(table)
    chance = random.Random(3)
    for number in range(400):
        features = {} if task == "forecasting" else {"a": chance.gauss(0, 1), "b": chance.random()}
        given = {} if label is None else {"label": label(chance)}
        event = Observed(id=str(number), features=features, **given)
        assert unbroken(event) == restarted(event)
        if number in (0, 1, 57, 250):
            restarted.restart()
    assert unbroken.learner.metrics() == restarted.learner.metrics()
    assert unbroken.learner.counts == restarted.learner.counts
    assert unbroken.learner.counts["rejected"] == 0
    assert unbroken.learner.learned == 400


def test_a_recommender_learns_pairs() -> None:
    stream = Stream(model_spec("m", {"task": "recommendation", "pipeline": [{"use": "reco.Baseline"}]}))
    for number in range(200):
        user, item = f"u{number % 5}", f"i{number % 7}"
        stream(Observed(id=str(number), features={"user": user, "item": item}, label=float(number % 5)))
    low = stream.learner.predict(None, {"user": "u0", "item": "i1"}).value
    high = stream.learner.predict(None, {"user": "u4", "item": "i1"}).value
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < high


def test_a_useless_model_does_not_beat_its_baseline() -> None:
    stream = Stream(spec())
    chance = random.Random(1)
    for number in range(1_000):
        stream(Observed(id=str(number), features={"noise": chance.random()}, label=chance.random() < 0.9))
    figures = stream.learner.baseline()
    assert figures["majority accuracy"] > 0.85
    assert stream.learner.metrics()["Accuracy"] <= figures["majority accuracy"] + 0.01


def test_features_scores_and_labels_can_be_watched_too() -> None:
    detectors = {"x": {"use": "drift.ADWIN"}, "label": {"use": "drift.ADWIN"}, "score": {"use": "drift.ADWIN"}}
    stream = Stream(spec(detectors=detectors))
    chance = random.Random(1)
    reports: list[Any] = []
    for number in range(2_000):
        x = chance.gauss(0 if number < 1_000 else 5, 1)
        reports += stream(Observed(id=str(number), features={"x": x}, label=number >= 1_000))
    signals = {report.signal for report in reports if isinstance(report, Drifted)}
    assert signals == {"x", "label"}
    assert stream.learner.alarms[0].evidence["recent"] > stream.learner.alarms[0].evidence["before"]


def test_alarms_of_two_detectors_of_one_class_on_one_signal_are_told_apart() -> None:
    use = {"use": "drift.DummyDriftDetector", "t_0": 50}
    detectors = {"error": use, "second": use | {"on": "error"}}
    stream = Stream(spec(detectors=detectors))
    reports: list[Any] = []
    for number in range(100):
        reports += stream(Observed(id=str(number), features={"x": 1.0}, label=number % 2 == 0))
    alarms = [report for report in reports if isinstance(report, Drifted)]
    assert {alarm.name for alarm in alarms} == {"error", "second"}
    assert {(alarm.detector, alarm.signal) for alarm in alarms} == {("DummyDriftDetector", "error")}
    assert len({alarm.id for alarm in alarms}) == len(alarms) > 2


def test_a_key_must_be_named_where_the_model_is_keyed() -> None:
    stream = Stream(spec(key="sku"))
    (rejected,) = stream(Observed(id="1", features={"a": 1.0}, label=True))
    assert "sku" in rejected.reason
    with pytest.raises(FeatureError, match="sku"):
        stream.learner.predict(None, {"a": 1.0})


def oracle(actions: Iterable[tuple[str, int, int]], rows: list[Any], wait: float) -> tuple[list[Any], float, int]:
    """What a model with late labels must report, in plain Python over a bare River pipeline."""
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
    accuracy, said, now = metrics.Accuracy(), [], 0.0
    waiting: dict[str, Any] = {}
    done: dict[str, str] = {}
    for action, which, gap in actions:
        now += gap
        for name in [name for name, item in waiting.items() if item[3] <= now]:
            said.append(("defaulted", name))
            done[name] = "defaulted"
            del waiting[name]
        name = str(which)
        x, y = rows[which]
        if action == "observe" and name not in waiting and name not in done:
            waiting[name] = (x, y, model.predict_one(x), now + wait)
            said.append(("predicted", name, waiting[name][2]))
        elif action == "label" and name in waiting:
            features, label, predicted, _ = waiting.pop(name)
            accuracy.update(label, predicted)
            model.learn_one(features, label)
            done[name] = "labelled"
            said.append(("labelled", name, predicted))
        elif action == "label" and done.get(name) == "defaulted":
            done[name] = "late"
            said.append(("late", name))
        elif action != "tick":
            said.append(("rejected", name))
    return said, accuracy.get(), len(waiting)


def told(reports: list[Any]) -> list[Any]:
    said: list[Any] = []
    for report in reports:
        match report:
            case Predicted():
                said.append(("predicted", report.id, report.prediction))
            case Scored(state="late"):
                said.append(("late", report.id))
            case Scored():
                said.append(("labelled", report.id, report.prediction))
            case Settled():
                said.append(("defaulted", report.id))
            case Rejected():
                said.append(("rejected", report.id))
    return said


WORDS = ["observe", "observe", "label", "tick", "restart"]
ACTIONS = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 30), st.integers(0, 20)), max_size=80)


@settings(max_examples=120, deadline=None)
@given(ACTIONS)
def test_any_order_of_events_and_restarts_reports_what_an_oracle_reports(actions: list[Any]) -> None:
    rows = [({name: x[name] for name in sorted(x)}, y) for x, y in cases(31)]
    stream = Stream(spec(label_wait=100.0))
    seen: set[str] = set()
    plain, reports, now = [], [], 0.0
    for action, which, gap in actions:
        if action == "restart":
            stream.restart()
            continue
        name = str(which)
        if action == "label" and name not in seen:
            continue  # labels before their features have a test of their own
        plain.append((action, which, gap))
        now += gap
        x, y = rows[which]
        if action == "observe":
            seen.add(name)
            reports += stream(Observed(id=name, features=dict(x), at=now))
        elif action == "label":
            reports += stream(Labelled(id=name, label=y, at=now))
        else:
            reports += stream(Ticked(at=now))
    said, accuracy, waiting = oracle(plain, rows, 100.0)
    found = told(reports)
    assert [item for item in found if item[0] != "rejected"] == [item for item in said if item[0] != "rejected"]
    assert sum(item[0] == "rejected" for item in found) == sum(item[0] == "rejected" for item in said)
    assert stream.learner.metrics().get("Accuracy", 0.0) == accuracy
    assert stream.learner.counts["pending"] == waiting


def broken(chance: random.Random, number: int, x: dict[str, Any], y: float) -> list[Any]:
    """What a careless producer might send for a case."""
    name = str(number)
    match chance.randrange(12) if number else 12:
        case 0:
            return [Observed(id=name, features=x, at=float(number)), Labelled(id=name, label=y)]
        case 1:
            return [Observed(id=name, features=x | {next(iter(x)): "text"}, label=y)]
        case 2:
            return [Observed(id=name, features={key: float("nan") for key in x}, label=y)]
        case 3:
            return [Observed(id=name, features=x, label=y, learn=False), Ticked(at=float(number))]
        case 4:
            return [Observed(id=name, features=x, label="maybe"), Observed(id=name, features=x, at=float(number))]
    return [Observed(id=name, features=x, label=y if number < 400 else 1 - y, at=float(number))]


@pytest.mark.parametrize("on_drift", ["keep", "reset", "replace", "raise"])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_short_way_says_and_learns_what_the_long_one_does(task: str, on_drift: str) -> None:
    linear = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LinearRegression"}]
    given_spec = spec(on_drift=on_drift, label_wait="20s")
    if task == "regression":
        given_spec = spec(on_drift=on_drift, task=task, pipeline=linear, metrics=["MAE"], label_wait="20s")
    chance = random.Random(task + on_drift)
    long, entries, said = Stream(given_spec), [], []
    for number, (x, y) in enumerate(cases(900)):
        for event in broken(chance, number, x, float(y) if task == "regression" else y):
            reports = long(event)
            entries.append(long.entries[-1])
            if reports:
                said.append((entries[-1].id, encode_reports(reports)))
    short, made, index, taken = ModelLearner(given_spec), [], 0, 0
    while index < len(entries):
        count = short.run(entries[index : index + chance.randrange(1, 50)], made)
        taken += count
        if not count and (reports := short.apply(entries[index])):
            made.append((entries[index].id, encode_reports(reports)))
        index += count or 1
        if chance.random() < 0.05:
            short.dump()
    assert made == said
    assert (short.metrics(), short.counts, short.alarms) == (
        long.learner.metrics(),
        long.learner.counts,
        long.learner.alarms,
    )
    x, _ = cases(1)[0]
    assert short.predict(None, x) == long.learner.predict(None, x)
    assert short.place == long.learner.place
    assert taken > 200 or on_drift == "raise"


DEMAND = {
    "temperature": {"type": "number", "impute": "mean"},
    "warmest": {"type": "history", "of": "temperature", "stat": "max", "over": 3},
    "before": {"type": "history", "of": "label", "lag": 1, "default": 0.0},
    "usual": {"type": "history", "of": "label", "stat": "mean", "by": "hour", "default": 0.0},
}


def demand(**changes: Any) -> ModelSpec:
    linear = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LinearRegression"}]
    table = {"task": "regression", "pipeline": linear, "metrics": ["MAE"], "features": DEMAND}
    return model_spec("demand", table | changes)


def running_mean(values: list[float]) -> float:
    mean = 0.0
    for count, value in enumerate(values, 1):
        mean += (value - mean) / count
    return mean


def test_lags_rolling_figures_and_hourly_averages_are_those_of_a_loop_written_by_hand() -> None:
    stream, bare = Stream(demand()), preprocessing.StandardScaler() | linear_model.LinearRegression()
    chance = random.Random(8)
    given: list[float] = []
    filled: list[float] = []
    labels: list[float] = []
    by_hour: dict[int, list[float]] = {}
    for number in range(300):
        at, y = 1800.0 * number, chance.gauss(5.0, 2.0)
        features = {} if number % 7 == 3 else {"temperature": chance.gauss(20.0, 5.0)}
        seen = by_hour.setdefault(int(at // 3600) % 24, [])
        x = {"temperature": features.get("temperature", running_mean(given)), "before": labels[-1] if labels else 0.0}
        x |= {"usual": running_mean(seen)} | ({"warmest": max(filled[-3:])} if filled else {})
        x = {name: x[name] for name in ("temperature", "before", "usual", "warmest") if name in x}
        expected = bare.predict_one(x)
        assert stream.learner.predict(None, features).value == stream.learner.predict(None, features).value
        scored, *_ = stream(Observed(id=str(number), features=features, label=y, at=at))
        assert scored.prediction == expected
        bare.learn_one(x, y)
        given += features.values()
        filled.append(x["temperature"])
        labels.append(y)
        seen.append(y)


@pytest.mark.parametrize("key", [None, "station"])
def test_figures_of_the_past_and_imputed_values_survive_delays_and_restarts(key: str | None) -> None:
    unbroken, restarted = Stream(demand(key=key)), Stream(demand(key=key))
    chance = random.Random(9)
    late: list[Labelled] = []
    for number in range(200):
        name = f"s{number % 3}" if key else None
        features = {} if chance.random() < 0.2 else {"temperature": chance.gauss(20.0, 5.0)}
        events: list[Any] = [Observed(id=str(number), key=name, features=features, at=600.0 * number)]
        late.append(Labelled(id=str(number), key=name, label=chance.gauss(5.0, 2.0)))
        while late and chance.random() < 0.5:
            events.append(late.pop(chance.randrange(len(late))))
        for event in events:
            assert unbroken(event) == restarted(event)
        if chance.random() < 0.3:
            restarted.restart()
    assert unbroken.learner.metrics() == restarted.learner.metrics()
    assert unbroken.learner.learned > 100


def keyed(**changes: Any) -> ModelSpec:
    linear = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LinearRegression"}]
    return model_spec("k", {"task": "regression", "pipeline": linear, "metrics": ["MAE"], "key": "sku"} | changes)


def test_a_new_key_begins_with_what_was_learned_from_all_others() -> None:
    def make() -> Any:
        return preprocessing.StandardScaler() | linear_model.LinearRegression()

    stream, pool, own = Stream(keyed(pooled=True)), make(), {}
    chance = random.Random(5)
    for number in range(400):
        key = f"s{min(int(chance.expovariate(0.3)), 30)}"
        x = {"price": chance.gauss(3.0, 1.0), "stock": chance.gauss(0.0, 2.0)}
        y = 2.0 * x["price"] + chance.gauss(0.0, 0.1)
        if key not in own:
            assert stream.learner.predict(key, x).value == pool.predict_one(x)
            own[key] = copy.deepcopy(pool)
        scored, *_ = stream(Observed(id=str(number), key=key, features=x, label=y))
        assert scored.prediction == own[key].predict_one(x)
        own[key].learn_one(x, y)
        pool.learn_one(x, y)
        if number % 90 == 50:
            stream.restart()
    assert stream.learner.predict("never seen", x).value == pool.predict_one(x)
    with pytest.raises(SpecError, match="pooled: given True"):
        keyed(pooled=True, key=None)


def test_a_snapshot_writes_the_keys_that_changed_and_holds_no_more_than_it_may() -> None:
    stream = Stream(keyed(keys=10))
    for number in range(60):
        stream(Observed(id=str(number), key=f"s{number % 30}", features={"a": float(number)}, label=1.0))
    assert sorted(stream.learner.changes()) == sorted(f"key:s{number}" for number in range(30))
    assert len(stream.learner._model._keyed) == 10
    stream = Stream(keyed(keys=10))
    unbounded = Stream(keyed())
    for number in range(300):
        event = Observed(id=str(number), key=f"s{number * 7 % 31}", features={"a": float(number % 5)}, label=number % 3)
        assert stream(event) == unbounded(event)
        if number % 20 == 0:
            stream.parts |= {name: data for name, data in stream.learner.changes().items() if data is not None}
            stream.learner._model._keyed._parts = stream.parts.get
            assert len(stream.learner._model._keyed) <= 10


@pytest.mark.parametrize("delayed", [False, True])
def test_the_coverage_of_intervals_is_the_share_of_labels_within(delayed: bool) -> None:
    use = {"use": "conf.RegressionJackknife", "regressor": {"use": "linear_model.LinearRegression"}}
    pipeline = [{"use": "preprocessing.StandardScaler"}, use | {"confidence_level": 0.8}]
    stream = Stream(model_spec("c", {"task": "regression", "pipeline": pipeline, "metrics": ["MAE"]}))
    bare = preprocessing.StandardScaler() | conf.RegressionJackknife(
        linear_model.LinearRegression(), confidence_level=0.8
    )
    inside, intervals = 0, 0
    for number, (x, y) in enumerate(datasets.TrumpApproval().take(400)):
        x = {name: x[name] for name in sorted(x)}
        found = bare.predict_one(x, with_interval=True)
        if found.lower < found.upper:
            intervals += 1
            inside += y in found
        if delayed:
            stream(Observed(id=str(number), features=x), Labelled(id=str(number), label=y))
        else:
            stream(Observed(id=str(number), features=x, label=y))
        bare.learn_one(x, y)
        if number == 200:
            stream.restart()
    assert stream.learner.metrics()["Coverage"] == inside / intervals
    assert intervals > 390


def test_a_metric_without_data_is_absent() -> None:
    (x, _), *_ = cases()
    stream = Stream(spec(metrics=["Accuracy", "ROCAUC", "F1", "LogLoss"]))
    assert stream.learner.metrics() == {}
    stream(Observed(id="1", features=x))
    assert stream.learner.metrics() == {}
    stream(Observed(id="2", features=x, label=True), Observed(id="3", features=x, label=True))
    assert set(stream.learner.metrics()) == {"Accuracy", "F1", "LogLoss"}
    stream(Observed(id="4", features=x, label=False))
    assert set(stream.learner.metrics()) == {"Accuracy", "F1", "LogLoss", "ROCAUC"}


def test_a_model_that_outgrows_its_ceiling_stops_at_the_same_label_in_every_replay() -> None:
    growing = {"use": "forest.AMFClassifier", "n_estimators": 1}
    given_spec = spec(pipeline=[growing], allow_unbounded=True, ceiling=1 << 18)
    streams = [Stream(given_spec), Stream(given_spec)]
    rows = list(synth.Agrawal(seed=2).take(3_000))
    for number, (x, y) in enumerate(rows):
        event = Observed(id=str(number), features=x, label=bool(y))
        assert streams[0](event) == streams[1](event)
        if number % 700 == 300:
            streams[1].restart()
    first, second = (stream.learner for stream in streams)
    assert first.learned == second.learned < 3_000
    assert (first.warning, second.warning) == ("m learns no more: it has outgrown its ceiling of 0.25 MB",) * 2


def test_a_large_snapshot_is_warned_of_and_nothing_else() -> None:
    stream = Stream(spec(ceiling=100))
    for number, (x, y) in enumerate(cases(50)):
        stream(Observed(id=str(number), features=x, label=y))
    assert stream.learner.warning is None
    stream.restart()
    stream.learner.dump()
    assert "its ceiling is" in str(stream.learner.warning)
    assert not stream.learner.frozen
