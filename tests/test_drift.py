"""Detectors on streams whose change points are known, beside one that always fires."""

import random

import pytest
from river import drift

from online.components import Component, component
from online.drift import Bank, Watch


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
    watch = Watch("always", "error", drift.DummyDriftDetector(trigger_method="fixed", t_0=1))
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
    assert {signal: watch.name for signal, watch in watches.items()} == {"error": "ADWIN", "temperature": "KSWIN"}
