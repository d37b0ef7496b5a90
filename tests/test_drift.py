"""Detectors on streams whose change points are known, beside one that always fires."""

import random

import pytest
from river import drift

from online.components import Component, component
from online.drift import Bank, Watch, always, judge


def stream(seed: int, change: int | None, length: int = 2_000) -> list[float]:
    """Zeros and ones; the share of ones goes from .2 to .6 at the change point."""
    chance = random.Random(seed)
    return [float(chance.random() < (0.6 if change is not None and n >= change else 0.2)) for n in range(length)]


def alarms(watch: Watch, values: list[float]) -> list[int]:
    return [number for number, value in enumerate(values) if watch.update(value) is not None]


def bank(name: str, **arguments: float) -> Watch:
    return Bank.of({"error": component({"use": name, **arguments}, "p", "drift")})["error"]


DETECTORS = ["ADWIN", "PageHinkley", "drift.binary.DDM", "drift.binary.HDDMA"]


@pytest.mark.parametrize("name", DETECTORS)
def test_a_change_is_found_soon_and_quiet_streams_stay_quiet(name: str) -> None:
    false_alarms, delays = 0, []
    for seed in range(10):
        false_alarms += len(alarms(bank(name), stream(seed, None)))
        after = [n for n in alarms(bank(name), stream(seed, 1_000)) if n >= 1_000]
        delays.append(after[0] - 1_000 if after else 1_000)
    # 20,000 values without a change: a detector that fires on every tenth run of 2,000 is still of use.
    assert false_alarms <= 10
    assert sorted(delays)[5] <= 250


def test_the_one_that_always_fires_is_quick_and_useless() -> None:
    watch = Watch("error", "always", "error", drift.DummyDriftDetector(trigger_method="fixed", t_0=1))
    fired = alarms(watch, stream(0, 1_000))
    assert len(fired) > 1_500


def test_an_alarm_brings_its_evidence() -> None:
    watch = bank("ADWIN")
    values = stream(3, 1_000)
    found = [alarm for value in values if (alarm := watch.update(value)) is not None]
    assert found[0].detector == "ADWIN"
    assert found[0].before == pytest.approx(0.2, abs=0.05)
    assert found[0].recent == pytest.approx(0.6, abs=0.2)
    assert found[0].seen > 1_000
    assert watch.count == len(values) - sum(alarm.seen for alarm in found)


def test_values_that_are_not_finite_are_passed_over() -> None:
    clean, dirty = bank("ADWIN"), bank("ADWIN")
    values = stream(3, 1_000)
    expected = alarms(clean, values)
    found = []
    for number, value in enumerate(values):
        for broken in (float("nan"), float("inf")):
            assert dirty.update(broken) is None
        if dirty.update(value) is not None:
            found.append(number)
    assert found == expected


def test_a_bank_has_a_detector_for_each_signal() -> None:
    found: dict[str, Component] = {
        "error": component("drift.ADWIN", "p"),
        "temperature": component({"use": "drift.KSWIN", "seed": 1}, "p"),
    }
    watches = Bank.of(found)
    assert {signal: watch.kind for signal, watch in watches.items()} == {"error": "ADWIN", "temperature": "KSWIN"}


def named(name: str, **arguments: float) -> Component:
    return component({"use": name, **arguments}, "p", "drift")


ALL = [
    "ADWIN",
    "PageHinkley",
    "KSWIN",
    "drift.binary.DDM",
    "drift.binary.EDDM",
    "drift.binary.HDDMA",
    "drift.binary.HDDMW",
]


@pytest.mark.parametrize("name", ALL)
def test_every_detector_shows_the_figures_behind_its_alarm(name: str) -> None:
    chance = random.Random(3)
    # The test of KSWIN sees little in zeros and ones.
    values = stream(3, 1_000) if name != "KSWIN" else [chance.gauss(n // 1_000, 0.5) for n in range(2_000)]
    watch = Bank.of({"error": named(name)})["error"]
    found = next(alarm for n, value in enumerate(values) if (alarm := watch.update(value)) is not None and n >= 1_000)
    evidence = found.evidence
    assert evidence["recent"] > evidence["before"] or name == "drift.binary.EDDM"
    assert evidence["before_size"] + evidence["recent_size"] == evidence["seen"]
    figures = found.figures
    if "p" in figures:
        assert figures["p"] <= figures["p_at_most"]
    elif "bound" in figures and name != "drift.binary.EDDM":
        assert figures["statistic"] >= figures["bound"] > 0
    elif "bound" in figures:
        assert figures["statistic"] < figures["bound"]
    else:
        assert figures["p_at_most"] == 0.002
        assert 0 < figures["window"] < evidence["seen"]
        assert figures["window_mean"] > evidence["before"]


def test_the_window_means_are_those_of_the_values() -> None:
    values = stream(3, 1_000)
    for name in ("ADWIN", "PageHinkley", "KSWIN"):
        watch = Bank.of({"error": named(name)})["error"]
        begin = 0
        for number, value in enumerate(values):
            alarm = watch.update(value)
            if alarm is not None:
                recent = values[number + 1 - alarm.recent_size : number + 1]
                before = values[begin : number + 1 - alarm.recent_size]
                assert alarm.recent_size == min(50, alarm.seen)
                assert alarm.recent == pytest.approx(sum(recent) / len(recent))
                assert alarm.before == pytest.approx(sum(before) / len(before))
                begin = number + 1


@pytest.mark.parametrize("name", ["ADWIN", "PageHinkley", "drift.binary.DDM", "drift.binary.HDDMA"])
def test_a_warning_comes_before_the_alarm_and_changes_no_alarm(name: str) -> None:
    earlier = 0
    for seed in range(5):
        values = stream(seed, 1_000)
        plain, warned = (Bank.of({"error": named(name)}, warned=flag)["error"] for flag in (False, True))
        assert not plain.warning
        expected, found = [], []
        for number, value in enumerate(values):
            if plain.update(value) is not None:
                expected.append(number)
            alarm = warned.update(value)
            if alarm is not None:
                found.append(number)
                earlier += alarm.warned > 0
                assert not warned.warning
        assert found == expected
    assert earlier >= 4


def test_a_warning_that_no_alarm_follows_ends() -> None:
    watch = Bank.of({"error": named("drift.binary.DDM")}, warned=True)["error"]
    # One error in ten, then some more, then none: between two and three deviations above the best.
    values = ([1.0] + [0.0] * 9) * 100 + ([1.0] + [0.0] * 3) * 20 + [0.0] * 3_000
    warned = []
    for value in values:
        assert watch.update(value) is None
        warned.append(watch.warning)
    assert any(warned)
    assert not warned[-1]


def test_in_the_cool_down_no_other_alarm_is_raised() -> None:
    values = stream(0, None, 1_000)
    eager = component({"use": "drift.DummyDriftDetector", "t_0": 1}, "p")
    watch = Bank.of({"error": eager}, cooldown=99)["error"]
    assert alarms(watch, values) == list(range(0, 1_000, 100))


def test_several_watches_share_a_signal() -> None:
    found = Bank.of({"error": named("ADWIN"), "slow": named("PageHinkley")}, {"slow": "error"})
    assert [(watch.name, watch.kind) for watch in found.on("error")] == [("error", "ADWIN"), ("slow", "PageHinkley")]
    assert found.on("score") == ()


def test_alarms_are_judged_by_the_first_after_each_change_and_all_others_are_false() -> None:
    found = judge([90, 105, 110, 230, 350], [200, 100, 300], 400)
    assert found.delays == (5, 30, 50)
    assert (found.detected, found.missed, found.false_alarms, found.per_thousand) == (3, 0, 2, 5.0)
    assert found.delay == 30
    assert judge([90, 230, 350], [100, 200, 300], 400, within=40).delays == (None, 30, None)
    nothing = judge([], [100], 1_000)
    assert (nothing.delays, nothing.delay, nothing.false_alarms) == ((None,), None, 0)
    # 1,000 rows: 998 alarms that found nothing new.
    dummy = always([100, 500], 1_000)
    assert (dummy.delays, dummy.false_alarms, dummy.per_thousand) == ((0, 0), 998, 998.0)
