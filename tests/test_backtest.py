"""The back-test against bare River loops, written out here; rows are River's own data, keys sorted."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from river import datasets, drift, linear_model, metrics, optim, preprocessing

from benchmarks.detectors import SEA_CHANGES, sea_like, sea_model
from online.backtest import Delay, Row, backtest
from online.drift import judge
from online.log import Log
from online.memory_log import MemoryLog
from online.specs import ModelSpec, build, model_spec

LOGISTIC = [
    {"use": "preprocessing.StandardScaler"},
    {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.SGD", "lr": 0.005}},
]


def spec(**changes: Any) -> ModelSpec:
    table = {"task": "binary", "pipeline": LOGISTIC, "metrics": ["Accuracy", "ROCAUC", "LogLoss"]}
    return model_spec("phishing", table | changes)


def bare_model() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))


def rows() -> list[tuple[dict[str, Any], bool]]:
    return [({name: x[name] for name in sorted(x)}, y) for x, y in datasets.Phishing()]


def cases() -> list[Row]:
    return [Row(x, y) for x, y in rows()]


def test_phishing_gives_the_published_accuracy_and_that_of_a_bare_loop(log: Log) -> None:
    model, accuracy, auc, loss = bare_model(), metrics.Accuracy(), metrics.ROCAUC(), metrics.LogLoss()
    for x, y in rows():
        probabilities = model.predict_proba_one(x)
        accuracy.update(y, model.predict_one(x))
        auc.update(y, probabilities)
        loss.update(y, probabilities)
        model.learn_one(x, y)
    found = backtest(spec(), cases(), log)
    assert found.metrics == {"Accuracy": accuracy.get(), "ROCAUC": auc.get(), "LogLoss": loss.get()}
    assert found.metrics["Accuracy"] == 0.8872
    assert found.rows == found.counts["learned"] == 1250
    # Published for NoChangeClassifier, which has no prediction for the first row.
    assert round(found.baseline["no-change accuracy"], 6) == 0.515612


@pytest.mark.parametrize("restart_at", [0, 1, 600, 1249])
def test_a_restart_changes_nothing(log: Log, restart_at: int) -> None:
    unbroken = backtest(spec(), cases(), MemoryLog())
    restarted = backtest(spec(), cases(), log, restart_at=restart_at)
    assert restarted.restarts == 1
    assert (restarted.metrics, restarted.counts, restarted.alarms) == (
        unbroken.metrics,
        unbroken.counts,
        unbroken.alarms,
    )


@pytest.mark.parametrize("delay", [1, 7, 300, 5_000])
def test_with_delayed_labels_every_figure_is_that_of_a_bare_loop_with_the_same_delay(log: Log, delay: int) -> None:
    model, accuracy = bare_model(), metrics.Accuracy()
    waiting: deque[tuple[dict[str, Any], bool, Any]] = deque()
    for number, (x, y) in enumerate(rows()):
        if number > delay:
            features, label, predicted = waiting.popleft()
            accuracy.update(label, predicted)
            model.learn_one(features, label)
        waiting.append((x, y, model.predict_one(x)))
    for features, label, predicted in waiting:
        accuracy.update(label, predicted)
        model.learn_one(features, label)
    found = backtest(spec(metrics=["Accuracy"]), cases(), log, delay=Delay(rows=delay), restart_at=777)
    assert found.metrics == {"Accuracy": accuracy.get()}
    assert found.counts["labelled"] == 1250
    assert found.counts["pending"] == 0


def test_labels_that_never_come_leave_the_rest_exact(log: Log) -> None:
    chance = random.Random(7)
    known = [chance.random() < 0.3 for _ in range(1250)]
    model, accuracy = bare_model(), metrics.Accuracy()
    for (x, y), labelled in zip(rows(), known, strict=True):
        if labelled:
            accuracy.update(y, model.predict_one(x))
            model.learn_one(x, y)
    model_table = spec(metrics=["Accuracy"], label_wait=100.0)
    found = backtest(model_table, cases(), log, delay=Delay(probability=0.3, chance=random.Random(7).random))
    assert found.metrics == {"Accuracy": accuracy.get()}
    assert found.counts["labelled"] == sum(known)
    # Rows are one second apart: what was asked 100 s before the end still waits.
    never = [number for number, labelled in enumerate(known) if not labelled]
    assert found.counts["defaulted"] == sum(number + 100.0 <= 1249 for number in never)
    assert found.counts["pending"] == len(never) - found.counts["defaulted"]


def test_labels_delayed_in_time_wait_for_event_time() -> None:
    hourly = [Row(row.features, row.label, at=3_600.0 * number) for number, row in enumerate(cases())]
    by_time = backtest(spec(), hourly, MemoryLog(clock=lambda: 1e10), delay=Delay(seconds=3.5 * 3_600))
    by_rows = backtest(spec(), cases(), MemoryLog(), delay=Delay(rows=3))
    assert by_time.metrics == by_rows.metrics


def test_alarms_are_those_of_a_bare_detector_with_their_rows_and_evidence(log: Log) -> None:
    flipped = [Row(x, y if number < 800 else not y) for number, (x, y) in enumerate(rows())]
    model, detector, expected = bare_model(), drift.ADWIN(), []
    for number, row in enumerate(flipped):
        detector.update(float(model.predict_one(row.features) != row.label))
        if detector.drift_detected:
            expected.append(number)
        model.learn_one(row.features, row.label)
    found = backtest(spec(), flipped, log, restart_at=820)
    assert [alarm.row for alarm in found.alarms] == expected
    first = found.alarms[0]
    assert (first.signal, first.detector) == ("error", "ADWIN")
    assert first.evidence["recent"] > first.evidence["before"] + 0.2
    assert 800 < first.row < 900


@pytest.mark.parametrize("on_drift", ["reset", "replace"])
def test_acting_on_a_drift_beats_keeping_the_model(on_drift: str) -> None:
    flipped = [Row(x, y if number < 625 else not y) for number, (x, y) in enumerate(rows())] * 2
    keeping = backtest(spec(on_drift="keep"), flipped, MemoryLog())
    acting = backtest(spec(on_drift=on_drift), flipped, MemoryLog())
    assert keeping.alarms
    assert acting.metrics["Accuracy"] > keeping.metrics["Accuracy"]


def test_a_model_that_raises_stops_learning_at_the_alarm() -> None:
    flipped = [Row(x, y if number < 800 else not y) for number, (x, y) in enumerate(rows())]
    found = backtest(spec(on_drift="raise"), flipped, MemoryLog())
    assert found.counts["learned"] == found.alarms[0].row
    assert found.counts["labelled"] == 1250


def test_progress_is_told_now_and_then() -> None:
    told: list[int] = []
    backtest(spec(), cases() * 2, MemoryLog(), progress=told.append)
    assert told == [1_000, 2_000]


def test_a_key_has_a_model_of_its_own(make_log: Callable[..., Log]) -> None:
    mixed = [Row(row.features, row.label, key=f"site-{number % 3}") for number, row in enumerate(cases())]
    accuracy = metrics.Accuracy()
    models = {f"site-{number}": bare_model() for number in range(3)}
    for row in mixed:
        model = models[str(row.key)]
        accuracy.update(row.label, model.predict_one(row.features))
        model.learn_one(row.features, row.label)
    found = backtest(spec(key="site", metrics=["Accuracy"]), mixed, make_log(), restart_at=500)
    assert found.metrics == {"Accuracy": accuracy.get()}


def test_keys_that_leave_memory_come_back(log: Log) -> None:
    mixed = [Row(row.features, row.label, key=f"site-{number % 50}") for number, row in enumerate(cases())]
    all_in_memory = backtest(spec(key="site"), mixed, MemoryLog())
    two_in_memory = backtest(spec(key="site", keys=2), mixed, log)
    assert two_in_memory.metrics == all_in_memory.metrics


def test_a_restart_beyond_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"restart after 1,250 rows.* less than the 1,250 rows"):
        backtest(spec(), cases(), MemoryLog(), restart_at=1250)


def test_errors_over_time_are_those_of_the_rows(log: Log) -> None:
    model, errors = bare_model(), []
    for x, y in rows():
        errors.append(float(model.predict_one(x) != y))
        model.learn_one(x, y)
    found = backtest(spec(), cases(), log)
    # 1,250 rows in at most 200 stretches: 7 each, the last one shorter.
    assert [row for row, _ in found.stretches()] == list(range(0, 1250, 7))
    for row, error in found.stretches():
        part = errors[row : row + 7]
        assert error == pytest.approx(sum(part) / len(part))
    assert found.curve[-1] == (1250, found.metrics)


def test_alarms_are_placed_where_they_are_raised_also_with_late_labels() -> None:
    flipped = [Row(x, y if number < 625 else not y) for number, (x, y) in enumerate(rows())]
    at_once = backtest(spec(), flipped, MemoryLog())
    late = backtest(spec(), flipped, MemoryLog(), delay=Delay(rows=100))
    first, later = (
        next(alarm.row for alarm in found.alarms if alarm.evidence["recent"] > alarm.evidence["before"])
        for found in (at_once, late)
    )
    assert 625 < first < 725 <= later


MANNER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"on_drift": "replace"}, {"delay": lambda: Delay(rows=70)}),
    ({"label_wait": 500.0}, {"delay": lambda: Delay(rows=30, probability=0.3, chance=random.Random(7).random)}),
    ({"key": "site", "keys": 2}, {"delay": lambda: Delay(rows=70)}),
    ({"challengers": {"bayes": {"pipeline": [{"use": "naive_bayes.GaussianNB"}]}}, "comparison": {"labels": 400}}, {}),
    ({}, {"restart_at": 1_700}),
]


@pytest.mark.parametrize(("changes", "options"), MANNER)
def test_a_run_that_is_resumed_from_any_checkpoint_ends_as_if_never_cut(
    changes: dict[str, Any], options: dict[str, Any]
) -> None:
    model = spec(**changes)
    given = [
        Row(row.features, row.label, key=f"site-{n % 3}" if model.key else None) for n, row in enumerate(cases() * 3)
    ]

    def fresh() -> dict[str, Any]:
        return {name: option() if callable(option) else option for name, option in options.items()}

    checkpoints: list[bytes] = []

    def keep(make: Callable[[], bytes | None]) -> None:
        made = make()
        assert made is not None
        checkpoints.append(made)

    unbroken = backtest(model, given, MemoryLog(), **fresh())
    kept = backtest(model, given, MemoryLog(), keep=keep, **fresh())
    assert len(checkpoints) >= 3
    for found in (kept, *(backtest(model, given, MemoryLog(), resume=one, **fresh()) for one in checkpoints)):
        # Errors that are not known are not equal to themselves.
        assert [repr(error) for error in found.errors] == [repr(error) for error in unbroken.errors]
        assert replace(found, errors=()) == replace(unbroken, errors=())


def test_a_checkpoint_taken_while_a_run_goes_on_changes_nothing_in_it() -> None:
    flipped = [Row(x, y if number < 1_800 else not y) for number, (x, y) in enumerate(rows() * 2)]
    told: list[int] = []
    found = backtest(spec(), flipped, MemoryLog(), keep=lambda make: told.append(len(make() or b"")))
    assert found == backtest(spec(), flipped, MemoryLog())
    assert len(told) == 2


def test_labels_late_by_rows_keep_the_time_of_the_rows() -> None:
    # Rows are one second apart: a label 30 rows late is in time for a wait of 100 seconds.
    found = backtest(spec(label_wait=100.0), cases(), MemoryLog(), delay=Delay(rows=30))
    assert found.counts["labelled"] == 1_250
    assert found.counts["defaulted"] == 0


AIRLINE = {
    "task": "forecasting",
    "horizon": 12,
    "metrics": ["MAE"],
    "pipeline": [
        {
            "use": "time_series.SNARIMAX",
            "p": 0,
            "d": 0,
            "q": 0,
            "m": 12,
            "sp": 3,
            "sq": 6,
            "regressor": [
                {"use": "preprocessing.StandardScaler"},
                {
                    "use": "linear_model.LinearRegression",
                    "intercept_init": 110,
                    "intercept_lr": 0.3,
                    "optimizer": {"use": "optim.SGD", "lr": 0.01},
                },
            ],
        }
    ],
}


def test_forecasts_a_year_ahead_are_better_than_the_same_month_of_last_year() -> None:
    passengers = [y for _, y in datasets.AirlinePassengers()]
    found = backtest(model_spec("air", AIRLINE), [Row({}, y) for y in passengers], MemoryLog(), season=12)
    naive = [abs(passengers[row] - passengers[row - 12]) for row in range(12, 144)]
    figures = found.baseline
    assert figures["seasonal-naive MAE"] == pytest.approx(sum(naive) / 132)
    assert figures["no-change MAE"] == figures["seasonal-naive MAE"]
    assert figures["model's MAE on the same rows"] < 0.75 * figures["seasonal-naive MAE"]


def test_a_forecast_is_made_from_what_was_known_a_horizon_before() -> None:
    passengers = [y for _, y in datasets.AirlinePassengers()]
    table = AIRLINE | {"horizon": 3}
    model = model_spec("air", table)
    bare, expected = build(model), []
    for row in range(144):
        # The label of row - 3 is the last one known when row is asked for.
        if row >= 3:
            bare.learn_one(passengers[row - 3])
        expected.append(abs(bare.forecast(3)[-1] - passengers[row]) if row > 60 else 0.0)
    found = backtest(model, [Row({}, y) for y in passengers], MemoryLog())
    assert found.errors[61:] == pytest.approx(expected[61:])


@pytest.mark.long
def test_the_model_that_is_replaced_finds_three_changes_and_ends_above_the_one_that_is_kept() -> None:
    keeping, replacing = (
        backtest(sea_model(on_drift), (Row(x, y) for x, y in sea_like(1)), MemoryLog())
        for on_drift in ("keep", "replace")
    )
    found = judge([alarm.row for alarm in replacing.alarms], SEA_CHANGES, 50_000)
    assert found.detected == 3
    assert found.false_alarms <= 1
    assert replacing.metrics["Accuracy"] >= keeping.metrics["Accuracy"] + 0.025
