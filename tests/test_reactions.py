"""What a model does about drift: which signals it watches, how often it alarms, and when a successor takes over."""

import random
from typing import Any

import pytest

from online.drift import Alarm
from online.model import DUEL, Model
from online.reading import SpecError
from online.specs import model_spec
from online.tasks import Guess

NAIVE = [{"use": "naive_bayes.GaussianNB"}]


def model(**table: Any) -> Model:
    return Model(model_spec("m", {"task": "binary", "pipeline": NAIVE, "metrics": ["Accuracy"]} | table))


def shown(watched: Model, x: dict[str, Any], y: bool) -> tuple[float | None, list[Alarm]]:
    """One labelled case, as the fold shows it."""
    checked = watched.state.schema.take(x)
    guess = watched.guess(None, checked)
    alarms = watched.observe(None, x, checked, checked, guess) if watched.observes else []
    error, more = watched.meet(None, checked, y, guess, learn=True)
    return error, [*alarms, *more]


def turning(seed: int, count: int, change: int) -> list[tuple[dict[str, float], bool]]:
    """The sign of a number is the label; from ``change`` on it is the opposite."""
    chance = random.Random(seed)
    xs = [chance.gauss(0.0, 1.0) for _ in range(count)]
    return [({"x": x}, (x > 0.0) != (row >= change)) for row, x in enumerate(xs)]


def test_a_successor_begun_at_the_warning_takes_over_sooner_than_one_begun_at_the_alarm() -> None:
    detectors = {"error": {"use": "drift.ADWIN", "delta": 0.0001, "clock": 1}}
    rows = turning(1, 1_600, 1_000)
    told: dict[bool, int] = {}
    for warned in (True, False):
        replaced = model(on_drift="replace", detectors=detectors)
        instance = replaced.state.shared
        assert instance is not None
        if not warned:
            replaced.heeds = False
        first, begun = instance.model, []
        for row, (x, y) in enumerate(rows):
            shown(replaced, x, y)
            if instance.successor is not None:
                begun.append(row)
            if instance.model is not first:
                told[warned] = row
                break
        assert begun[0] >= 1_000
        assert told[warned] - begun[0] >= DUEL - 1
    assert told[True] < told[False]


def test_a_successor_is_dropped_where_no_alarm_follows_the_warning() -> None:
    watched = model(on_drift="replace", detectors={"error": {"use": "drift.binary.DDM"}})
    instance = watched.state.shared
    assert instance is not None
    # One error in ten, then some more, then none: between two and three deviations above the best.
    errors = ([1.0] + [0.0] * 9) * 100 + ([1.0] + [0.0] * 3) * 20 + [0.0] * 3_000
    ready = []
    for error in errors:
        assert watched._watch(None, "error", error) == []
        ready.append(instance.successor is not None)
    assert any(ready)
    assert not ready[-1]
    assert not instance.drifted


def test_predictions_and_missing_features_are_signals_too() -> None:
    always = {"use": "drift.DummyDriftDetector", "t_0": 1}
    watched = model(
        detectors={"prediction": always, "missing": always},
        features={"x": "number", "y": {"type": "number", "required": False}},
    )
    for number in range(20):
        checked = watched.state.schema.take({"x": 1.0})
        alarms = watched.observe(None, {"x": 1.0}, checked, checked, Guess(number % 2 == 0))
        found = {alarm.signal: alarm.value for alarm in alarms}
        assert found == {"prediction": float(number % 2 == 0), "missing": 0.5}


def test_several_detectors_watch_one_signal_and_each_has_its_say() -> None:
    spoken = set()
    watched = model(
        detectors={"error": {"use": "drift.ADWIN"}, "hddm": {"use": "drift.binary.HDDMA", "on": "error"}},
    )
    for x, y in turning(3, 2_000, 1_000):
        spoken |= {(alarm.detector, alarm.signal) for alarm in shown(watched, x, y)[1]}
    assert spoken == {("ADWIN", "error"), ("HDDMA", "error")}


def test_the_cool_down_is_declared_with_the_model() -> None:
    always = {"error": {"use": "drift.DummyDriftDetector", "t_0": 1}}
    counts = []
    for cooldown in (0, 99):
        watched = model(detectors=always, cooldown=cooldown)
        counts.append(sum(len(shown(watched, x, y)[1]) for x, y in turning(1, 1_000, 1_000)))
    assert counts[0] > 900
    assert counts[1] == 10


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"detectors": {"hddm": {"use": "drift.binary.HDDMA", "on": "x"}}, "features": {"y": "number"}}, "hddm"),
        ({"cooldown": -1}, "cooldown"),
        ({"challengers": {"declared": {"pipeline": NAIVE}}}, "challengers.declared"),
        ({"challengers": {"tree": {"pipeline": NAIVE, "metrics": ["F1"]}}}, "challengers.tree"),
        ({"challengers": {"tree": {"pipeline": NAIVE}}, "key": "sku"}, "challengers"),
        ({"challengers": {"tree": {"pipeline": "linear_model.LinearRegression"}}}, "challengers.tree.pipeline"),
        ({"comparison": {"labels": 1_001}}, "comparison"),
        ({"comparison": {"switch": "always"}}, "comparison.switch"),
        ({"label_budget": 0}, "label_budget"),
        ({"search": 3}, "search"),
        ({"signals": {"error": "score"}}, "signals"),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(table: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as refused:
        model(**table)
    assert refused.value.path.startswith(f"models.m.{path}") or path in refused.value.path
