"""Lags, rolling figures and group averages: against the definition, and never from the case itself or from after it."""

import math
import random
import statistics

import pytest

from online.history import GROUPS, KEPT, Group, Hindsight, History, Past, Series, figure

PASTS = (
    Past("ago", "a", ago=10.0),
    Past("lag1", "a", lag=1),
    Past("lag3", "a", lag=3, default=-1.0),
    Past("max4", "a", stat="max", last=4),
    Past("mean5s", "a", stat="mean", seconds=5.0),
    Past("n5s", "a", stat="count", seconds=5.0),
    Past("std8", "a", stat="std", last=8),
)


def by_hand(past: Past, before: list[tuple[float, float]], at: float) -> float | None:
    known = [(t, v) for t, v in sorted(before, key=lambda item: item[0]) if t <= at]
    values = [v for _, v in known]
    if past.lag:
        return values[-past.lag] if len(values) >= past.lag else past.default
    if past.ago:
        old = [v for t, v in known if t <= at - past.ago]
        return old[-1] if old else None
    window = values[-past.last :] if past.last else [v for t, v in known if t >= at - past.seconds]
    if past.stat == "count":
        return float(len(window))
    if not window or (past.stat == "std" and len(window) < 2):
        return None
    named = {"max": max, "mean": statistics.fmean, "std": statistics.stdev}
    return float(named[past.stat](window))


def test_figures_are_those_of_the_definition_also_for_events_out_of_order() -> None:
    chance, hindsight, history = random.Random(4), Hindsight(PASTS), History()
    before: list[tuple[float, float]] = []
    for number in range(400):
        at, value = number + chance.uniform(-3.0, 3.0), chance.gauss(0.0, 5.0)
        found = hindsight.columns(history, at, {"a": value})
        for past in PASTS:
            expected = by_hand(past, before, at)
            assert found.get(past.name) == pytest.approx(expected), (past.name, number)
        hindsight.note(history, at, {"a": value})
        before.append((at, value))
    assert len(history.series["a"].times) < 30


def test_labels_are_averaged_by_the_hour_of_their_case_and_by_category() -> None:
    hour = Past("by hour", "label", stat="mean", by="hour")
    kind = Past("of kind", "label", stat="max", by="kind", default=0.0)
    hindsight, history = Hindsight((hour, kind)), History()
    for number, label in enumerate([5.0, 7.0, 9.0, 20.0]):
        hindsight.note_label(history, 3600.0 * 12 * number, {"kind": f"k{number % 2}"}, label)
    assert hindsight.columns(history, 48 * 3600.0, {"kind": "k1"}) == {"by hour": 7.0, "of kind": 20.0}
    assert hindsight.columns(history, 13 * 3600.0, {"kind": "new"}) == {"of kind": 0.0}
    assert hindsight.columns(None, 0.0, {}) == {"of kind": 0.0}


def test_a_group_has_the_figures_of_its_values() -> None:
    values = [3.0, -1.0, 4.0, 1.5]
    group = Group()
    for value in values:
        group.put(value)
    for stat in ("mean", "sum", "min", "max", "std", "count"):
        assert group.value(stat) == pytest.approx(figure(stat, values))
    assert Group(1, 2.0, 0.0, 2.0, 2.0).value("std") is None


def test_what_is_remembered_is_bounded() -> None:
    series = Series()
    for number in range(KEPT + 500):
        series.put(float(number), 1.0, 2 * KEPT, math.inf)
    assert len(series.times) == KEPT
    hindsight, history = Hindsight((Past("m", "a", stat="mean", by="k"),)), History()
    for number in range(GROUPS + 10):
        hindsight.note(history, 0.0, {"a": 1.0, "k": str(number)})
    assert len(history.groups["a", "k"]) == GROUPS
