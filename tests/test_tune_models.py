"""Tuning a model: a planted optimum is found, the rows held out are never touched, idle features are named."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats

from online.backtest import Row, backtest
from online.memory_log import MemoryLog
from online.specs import ModelSpec, model_spec
from online.tune import Choice, TuneError, choices, placed, tune

PIPELINE = [
    {"use": "preprocessing.StandardScaler"},
    {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.SGD", "lr": 0.0001}},
]
PATH = "pipeline[1].optimizer.lr"
SPACE = choices({PATH: {"low": 1e-5, "high": 10.0, "log": True}})


def spec(**changes: Any) -> ModelSpec:
    return model_spec("a", {"task": "binary", "pipeline": PIPELINE, "metrics": ["Accuracy"]} | changes)


def rows(count: int = 400, seed: int = 1) -> list[Row]:
    """A label that depends on ``x`` alone; ``twin`` says the same as ``x``, ``idle`` nothing."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        x = chance.gauss(0, 1)
        features = {"idle": chance.gauss(0, 1), "need": chance.gauss(0, 1), "x": x, "twin": 3.0 * x + 1.0}
        found.append(Row(features, x + features["need"] > 0))
    return found


class Guarded(Sequence[Row]):
    """Rows of which those from ``cut`` on may not be looked at until `open`."""

    def __init__(self, inner: list[Row], cut: int) -> None:
        self.inner, self.cut, self.closed = inner, cut, True

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, place: Any) -> Any:
        if self.closed and (not isinstance(place, slice) or (place.stop or len(self)) > self.cut):
            raise PermissionError("the rows held out were touched")
        return self.inner[place]


def test_a_planted_optimum_is_found() -> None:
    # The decay that a mean needs is known: a level that jumps every 20 rows wants the last ones only.
    level = [Row({"row": 1.0}, 10.0 * (number // 20 % 2)) for number in range(600)]
    table = {
        "task": "regression",
        "pipeline": [{"use": "dummy.StatisticRegressor", "statistic": {"use": "stats.EWMean", "fading_factor": 0.01}}],
        "metrics": ["MAE"],
    }
    space = {"pipeline[0].statistic.fading_factor": Choice(0.001, 0.999)}
    found = tune(model_spec("level", table), space, level, trials=25, seed=2, features=False)
    # The error falls all the way to 1: of 25 trials the best must lie in the best fifth.
    assert found.settings["pipeline[0].statistic.fading_factor"] > 0.8
    assert found.after < 0.3 * found.before
    assert (found.searched, found.held_out, found.metric) == (480, 120, "MAE")


def test_the_rows_held_out_are_not_read_before_the_search_is_over() -> None:
    guarded = Guarded(rows(), 320)
    trials = 6

    def told(number: int, score: float | None) -> None:
        assert score is not None
        guarded.closed = number < trials

    found = tune(spec(), SPACE, guarded, trials=trials, features=False, told=told)
    assert found.after <= found.before
    with pytest.raises(PermissionError):
        tune(spec(), SPACE, Guarded(rows(), 320), trials=trials, features=False)


def test_poisoned_rows_held_out_change_nothing_but_the_final_figures() -> None:
    clean = rows()
    poisoned = clean[:320] + [
        Row({"x": 1e30, "need": -1e30, "twin": 0.0, "idle": 1e9}, not r.label) for r in clean[320:]
    ]
    first, second = (tune(spec(), SPACE, given, trials=6) for given in (clean, poisoned))
    assert first.settings == second.settings
    assert first.score == second.score
    assert (first.useless, first.redundant) == (second.useless, second.redundant)
    assert first.after != second.after


def test_the_search_is_the_same_for_the_same_seed() -> None:
    first, second, other = (tune(spec(), SPACE, rows(200), trials=5, seed=s, features=False) for s in (3, 3, 4))
    assert first == second
    assert first.settings != other.settings


def test_useless_and_redundant_features_are_named() -> None:
    lively = [PIPELINE[0], PIPELINE[1] | {"optimizer": {"use": "optim.SGD", "lr": 0.1}}]
    found = tune(spec(pipeline=lively), SPACE, rows(1_000), trials=1)
    ((name, worse),) = found.useless
    assert name == "idle"
    assert worse.low <= 0.0 <= worse.high
    assert (worse.high - worse.mean, worse.rows) == (pytest.approx(worse.mean - worse.low), 800)
    assert [(a, b) for a, b, _ in found.redundant] == [("twin", "x")]
    assert found.redundant[0][2] == pytest.approx(1.0)
    assert found.settings == {}


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({}, "nothing to search"),
        ({"a": {"low": 1}}, "low < high"),
        ({"a": {"low": 2, "high": 1}}, "low < high"),
        ({"a": {"low": 0, "high": 1, "log": True}}, "low < high"),
        ({"a": {"lower": 0, "high": 1}}, "low < high"),
        ({"a": []}, "or a list"),
    ],
)
def test_a_space_that_is_none_is_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(TuneError, match=told):
        choices(table)


def test_paths_that_lead_nowhere_and_settings_that_cannot_be_are_refused() -> None:
    for path in ("pipeline[7].lr", "nothing.lr", "pipeline.lr", "task.x"):
        with pytest.raises(TuneError, match="leads nowhere"):
            placed({"task": "binary", "pipeline": PIPELINE}, path, 1)
    with pytest.raises(TuneError, match="leads nowhere"):
        tune(spec(), {"pipeline[7].lr": Choice(1.0, 2.0)}, rows(200), trials=1, features=False)
    with pytest.raises(TuneError, match="cannot be"):
        tune(spec(), {"pipeline[1].optimizer.speed": Choice(1.0, 2.0)}, rows(200), trials=2, features=False)
    with pytest.raises(TuneError, match="20 or more on each side"):
        tune(spec(), SPACE, rows(50), trials=2)


def test_a_feature_that_a_detector_watches_is_kept() -> None:
    declared = {name: {"type": "number"} for name in ("idle", "need", "x", "twin")}
    watched = spec(features=declared, detectors={"idle": {"use": "drift.ADWIN"}})
    assert "idle" in dict(tune(spec(features=declared), SPACE, rows(), trials=1).useless)
    assert "idle" not in dict(tune(watched, SPACE, rows(), trials=1).useless)


def test_rows_of_which_none_is_scored_are_refused() -> None:
    unlike = [Row({"x": "a text"}, True) for _ in range(100)]
    with pytest.raises(TuneError, match="none of 80 rows was scored"):
        tune(spec(features={"x": {"type": "number"}}), SPACE, unlike, trials=2)


def test_a_first_row_without_a_score_does_not_end_the_search() -> None:
    found = [Row(rows(1)[0].features, None), *rows()]
    assert tune(spec(), SPACE, found, trials=2, features=False).trials == 2


def test_what_is_saved_on_the_rows_held_out_has_a_paired_interval() -> None:
    given = rows(1_000)
    found = tune(spec(), SPACE, given, trials=6, features=False)
    assert found.saved is not None
    # By hand: the differences of the errors of 200 rows, in twenty blocks of ten.
    best = spec(pipeline=[PIPELINE[0], PIPELINE[1] | {"optimizer": {"use": "optim.SGD", "lr": found.settings[PATH]}}])
    before, after = (backtest(model, given, MemoryLog()).errors[800:] for model in (spec(), best))
    blocks = [
        sum(b - a for b, a in zip(before[n : n + 10], after[n : n + 10], strict=True)) / 10 for n in range(0, 200, 10)
    ]
    interval = stats.ttest_1samp(blocks, 0.0).confidence_interval(0.95)
    assert (found.saved.low, found.saved.high) == pytest.approx((interval.low, interval.high))
    assert found.saved.mean == pytest.approx(found.before - found.after)


def test_challengers_are_left_as_they_are_and_named() -> None:
    lively = {"pipeline": [{"use": "naive_bayes.GaussianNB"}]}
    challenged = spec(challengers={"bayes": lively}, comparison={"labels": 20, "switch": "better"})
    alone, beside = (tune(given, SPACE, rows(), trials=4, features=False) for given in (spec(), challenged))
    assert beside.left == ("bayes",)
    assert (alone.settings, alone.score, alone.before, alone.after) == (
        beside.settings,
        beside.score,
        beside.before,
        beside.after,
    )


def test_features_are_judged_with_the_settings_found() -> None:
    # As declared the model hardly learns, and no feature could help it.
    found = tune(spec(), SPACE, rows(1_000), trials=8)
    assert found.settings[PATH] > 0.01
    assert [name for name, _ in found.useless] == ["idle"]
