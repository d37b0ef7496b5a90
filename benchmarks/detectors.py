"""Drift detectors on streams whose changes are known: what they find, how late, and how often they cry wolf.

Four kinds of stream, each of a signal: the ``error`` of a classifier (ones with probability .1, or .3 after a change)
or a ``feature`` (standard normal, its mean one deviation higher after a change). ``abrupt`` changes once, ``gradual``
over 500 values, ``recurring`` there and back again twice, ``none`` never. A change counts as found by the first alarm
within 1,000 values of it, every other alarm is false; the two dummies fire at every value, and never.

    python benchmarks/detectors.py [--seeds N] [--tune] [--only NAME] [--json]
    python benchmarks/detectors.py --sea [--seeds N]

``--tune`` tries the listed settings on seeds of its own and says which is best: most changes found among those with at
most ``LIMIT`` false alarms per 1,000, then the shortest delay.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from river import drift
from river.drift import binary

from online.backtest import Row, backtest
from online.drift import Judged, judge
from online.memory_log import MemoryLog
from online.specs import ModelSpec, model_spec

LENGTH = 4_000
WITHIN = 1_000
LIMIT = 0.2
"""False alarms per 1,000 values that a tuned setting may have: one in five streams of 1,000."""

CHANGES: Mapping[str, tuple[int, ...]] = {
    "abrupt": (2_000,),
    "gradual": (1_750,),
    "recurring": (800, 1_600, 2_400, 3_200),
    "none": (),
}
SIGNALS = ("error", "feature")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A detector: how to make it, what its settings may be, which of them the tuning chose for each signal."""

    make: Callable[..., Any]
    space: Mapping[str, tuple[float, ...]]
    tuned: Mapping[str, Mapping[str, Any]]
    signals: tuple[str, ...] = SIGNALS


CANDIDATES: Mapping[str, Candidate] = {
    "ADWIN": Candidate(
        drift.ADWIN,
        {"delta": (0.0002, 0.002, 0.01, 0.05), "clock": (8, 32)},
        {"error": {"delta": 0.05, "clock": 8}, "feature": {"delta": 0.05, "clock": 8}},
    ),
    "KSWIN": Candidate(
        lambda **given: drift.KSWIN(**({"seed": 1} | given)),
        {"alpha": (1e-6, 1e-5, 1e-4, 1e-3), "window_size": (100, 300), "stat_size": (30, 100)},
        {
            "error": {"alpha": 0.001, "window_size": 300, "stat_size": 100},
            "feature": {"alpha": 0.0001, "window_size": 300, "stat_size": 100},
        },
    ),
    "PageHinkley": Candidate(
        drift.PageHinkley,
        {"threshold": (5, 10, 20, 35, 50), "delta": (0.005, 0.02, 0.05, 0.1, 0.2), "alpha": (0.9999, 1.0)},
        {
            "error": {"threshold": 20, "delta": 0.02, "alpha": 0.9999},
            "feature": {"threshold": 20, "delta": 0.2, "alpha": 0.9999},
        },
    ),
    "DDM": Candidate(
        binary.DDM,
        {"drift_threshold": (2.5, 3, 3.5, 4, 5), "warm_start": (30, 100, 300)},
        {"error": {"drift_threshold": 2.5, "warm_start": 300}},
        ("error",),
    ),
    "EDDM": Candidate(
        binary.EDDM,
        {"beta": (0.9, 0.8, 0.7, 0.6, 0.5), "warm_start": (30, 100)},
        {"error": {"beta": 0.8, "warm_start": 100}},
        ("error",),
    ),
    "HDDM_A": Candidate(
        binary.HDDMA,
        {"drift_confidence": (1e-5, 1e-4, 0.001, 0.01), "two_sided_test": (False, True)},
        {"error": {"drift_confidence": 0.0001, "two_sided_test": True}},
        ("error",),
    ),
    "HDDM_W": Candidate(
        binary.HDDMW,
        {
            "drift_confidence": (1e-7, 1e-5, 1e-4, 0.001),
            "lambda_val": (0.01, 0.02, 0.05),
            "two_sided_test": (False, True),
        },
        {"error": {"drift_confidence": 0.001, "lambda_val": 0.02, "two_sided_test": True}},
        ("error",),
    ),
    "always": Candidate(lambda: drift.DummyDriftDetector(t_0=1), {}, {}),
    "never": Candidate(drift.NoDrift, {}, {}),
}


def stream(kind: str, signal: str, seed: int) -> list[float]:
    """Values of one stream."""
    rng = np.random.default_rng([seed, list(CHANGES).index(kind), SIGNALS.index(signal)])
    rows = np.arange(LENGTH)
    changed = np.searchsorted(CHANGES[kind], rows, side="right") % 2 if CHANGES[kind] else np.zeros(LENGTH)
    level = np.clip((rows - CHANGES[kind][0]) / 500.0, 0.0, 1.0) if kind == "gradual" else changed
    values = rng.random(LENGTH) < 0.1 + 0.2 * level if signal == "error" else rng.standard_normal(LENGTH) + level
    found: list[float] = values.astype(float).tolist()
    return found


SEA_CHANGES = (12_500, 25_000, 37_500)
SEA_LIMITS = (8.0, 9.0, 7.0, 9.5)


def sea_like(seed: int) -> Iterator[tuple[dict[str, float], bool]]:
    """50,000 rows of three numbers from 0 to 10 with a label: is x0 + x1 at most a limit that changes?

    One label in ten is turned round. After Street and Kim (2001), the SEA concepts.
    """
    rng = np.random.default_rng(seed)
    for row, (x, turned) in enumerate(zip(rng.random((50_000, 3)) * 10.0, rng.random(50_000) < 0.1, strict=True)):
        limit = SEA_LIMITS[row // 12_500]
        yield {f"x{n}": float(value) for n, value in enumerate(x)}, bool(x[0] + x[1] <= limit) != bool(turned)


def sea_model(on_drift: str) -> ModelSpec:
    """Gaussian naive Bayes with ADWIN on its error, and a reaction to it."""
    table = {"task": "binary", "pipeline": [{"use": "naive_bayes.GaussianNB"}], "metrics": ["Accuracy"]}
    return model_spec("sea", table | {"on_drift": on_drift, "detectors": {"error": {"use": "drift.ADWIN"}}})


def reactions(seeds: int) -> None:
    """Accuracy with each reaction on the SEA-like stream, and its alarms against the three changes."""
    for seed in range(seeds):
        for on_drift in ("keep", "reset", "replace"):
            found = backtest(sea_model(on_drift), (Row(x, y) for x, y in sea_like(seed)), MemoryLog())
            verdict = judge([alarm.row for alarm in found.alarms], SEA_CHANGES, found.rows)
            accuracy = found.metrics["Accuracy"]
            print(
                f"seed {seed}  {on_drift:8} accuracy {accuracy:.4f}  found after {verdict.delays}  "
                f"false alarms {verdict.false_alarms}",
                flush=True,
            )


def fired(detector: Any, values: list[float]) -> list[int]:
    """The rows at which a detector fires."""
    rows = []
    for row, value in enumerate(values):
        detector.update(value)
        if detector.drift_detected:
            rows.append(row)
    return rows


def judged(make: Callable[..., Any], given: Mapping[str, Any], kind: str, signal: str, seeds: range) -> list[Judged]:
    """One verdict for each seed."""
    return [judge(fired(make(**given), stream(kind, signal, n)), CHANGES[kind], LENGTH, WITHIN) for n in seeds]


@dataclass(frozen=True, slots=True)
class Line:
    """Many verdicts in one: the share of changes found, the median delay of those, false alarms per 1,000."""

    found: float | None
    delay: float | None
    false_alarms: float

    @classmethod
    def of(cls, verdicts: list[Judged]) -> "Line":
        """The figures of verdicts."""
        delays = [delay for verdict in verdicts for delay in verdict.delays]
        known = [delay for delay in delays if delay is not None]
        false_alarms = 1_000.0 * sum(verdict.false_alarms for verdict in verdicts) / sum(v.rows for v in verdicts)
        share = len(known) / len(delays) if delays else None
        return cls(share, float(np.median(known)) if known else None, false_alarms)


def settings(candidate: Candidate) -> Iterator[dict[str, Any]]:
    """Every combination of the listed settings."""
    for values in product(*candidate.space.values()):
        yield dict(zip(candidate.space, values, strict=True))


def tune(name: str, signal: str, seeds: range) -> tuple[dict[str, Any], Line]:
    """The best listed setting over all kinds of stream, and its figures there."""
    candidate = CANDIDATES[name]
    best: tuple[tuple[bool, float, float], dict[str, Any], Line] | None = None
    for given in settings(candidate):
        if given.get("stat_size", 0) * 2 > given.get("window_size", LENGTH):
            continue
        line = Line.of([v for kind in CHANGES for v in judged(candidate.make, given, kind, signal, seeds)])
        # Beyond the limit the fewer false alarms the better; within it, what is found and how soon.
        quiet = line.false_alarms <= LIMIT
        order = (quiet, (line.found or 0.0) if quiet else -line.false_alarms, -(line.delay or WITHIN))
        if best is None or order > best[0]:
            best = order, given, line
    if best is None:
        raise ValueError(f"{name} has no settings to try")
    return best[1], best[2]


def measured(seeds: range, only: str | None = None) -> Iterator[tuple[str, str, str, dict[str, Line]]]:
    """Detector, signal, setting, and a line for each kind of stream."""
    for name, candidate in CANDIDATES.items():
        for signal in candidate.signals if only in (None, name) else ():
            for setting, given in {"default": {}, "tuned": candidate.tuned.get(signal)}.items():
                if given is not None:
                    kinds = {k: Line.of(judged(candidate.make, given, k, signal, seeds)) for k in CHANGES}
                    yield name, signal, setting, kinds


def cell(line: Line) -> str:
    """A line as it is printed."""
    found = "    -" if line.found is None else f"{line.found:5.0%}"
    delay = "   -" if line.delay is None else f"{line.delay:4.0f}"
    return f"{found} {delay} {line.false_alarms:7.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--sea", action="store_true", help="reactions to drift on the SEA-like stream instead")
    parser.add_argument("--only")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.sea:
        reactions(given.seeds)
        return
    if given.tune:
        for name, candidate in CANDIDATES.items():
            for signal in candidate.signals if candidate.space and given.only in (None, name) else ():
                best, line = tune(name, signal, range(100_000, 100_000 + given.seeds))
                print(f"{name:12} {signal:8} {best}  {cell(line)}", flush=True)
        return
    if not given.json:
        print("changes found, median delay, false alarms per 1,000 values")
        print(" " * 29 + "".join(f"{kind:>20}" for kind in CHANGES))
    for name, signal, setting, kinds in measured(range(given.seeds), given.only):
        if given.json:
            figures = {kind: (line.found, line.delay, line.false_alarms) for kind, line in kinds.items()}
            print(json.dumps({"detector": name, "signal": signal, "setting": setting, "kinds": figures}), flush=True)
        else:
            print(
                f"{name:12} {signal:8} {setting:8}" + "".join(f"  {cell(kinds[kind])}" for kind in CHANGES), flush=True
            )


if __name__ == "__main__":
    main()
