"""How far off-policy estimates and canaries can be believed, measured where the truth is known.

One-step logs: four customer segments, 16 prices, Poisson sales; a smoothed policy with a wrong sensitivity was logged,
a smoothed optimum is evaluated (largest weight 3.4). Printed are the coverage of nominal 95 % intervals and their mean
half-width, how often corrupted propensities are noticed, and what a canary that is looked at after every unit does.

    python benchmarks/ope.py [--logs N] [--decisions N] [--canaries N] [--json]
"""

import argparse
import json
from typing import Any

import numpy as np

from agents.gate import CanaryRule, Units, confidence_sequence, units_needed
from agents.ope import Decisions, report

PRICES = np.arange(0.5, 4.26, 0.25)
SEGMENTS = np.array([[0.6, 1.4], [1.0, 1.0], [1.4, 0.8], [0.8, 0.6]])
SALES = np.e * SEGMENTS[:, :1] * np.exp(-SEGMENTS[:, 1:] * PRICES)
REVENUE = PRICES * SALES
MEAN, SPREAD, SHARE = 36.0, 4.4, 0.1


def softened(best: np.ndarray, spread: float, floor: float = 0.05) -> np.ndarray:
    """Gaussian in the price around the best index of each segment, with an even floor; (4, 16)."""
    weight = np.exp(-0.5 * ((PRICES - PRICES[best][:, None]) / spread) ** 2)
    return (1 - floor) * weight / weight.sum(1, keepdims=True) + floor / len(PRICES)


LOGGED = softened((PRICES * np.exp(-1.3 * SEGMENTS[:, 1:] * PRICES)).argmax(axis=1), 0.5)
TARGET = softened(REVENUE.argmax(axis=1), 0.3)
TRUTH = float((TARGET * REVENUE).sum(axis=1).mean())


def log_of(seed: int, n: int) -> tuple[Decisions, np.ndarray, np.ndarray]:
    """A log, the target's probabilities beside it, and the segments."""
    rng = np.random.default_rng([2, seed])
    segment = rng.integers(0, 4, n)
    cumulative = LOGGED.cumsum(axis=1)[segment]
    action = (cumulative <= rng.random(n)[:, None] * cumulative[:, -1:]).sum(axis=1)
    reward = PRICES[action] * rng.poisson(SALES[segment, action])
    log = Decisions(SEGMENTS[segment], action, LOGGED[segment, action], reward, LOGGED[segment])
    return log, TARGET[segment], segment


def coverage(logs: int, decisions: int) -> dict[str, dict[str, float]]:
    """By estimator: coverage, mean half-width and root mean square error, both as a share of the truth."""
    found: dict[str, list[tuple[bool, float, float]]] = {}
    for seed in range(logs):
        log, target, _ = log_of(seed, decisions)
        for name, estimate in report(log, target).estimates.items():
            low, high = estimate.interval or (np.nan, np.nan)
            row = (low <= TRUTH <= high, (high - low) / 2 / TRUTH, (estimate.value or np.nan) / TRUTH - 1)
            found.setdefault(name, []).append(row)
    figures = {}
    for name, rows in found.items():
        hit, half, error = np.array(rows, float).T
        rmse = float(np.sqrt((error**2).mean()))
        figures[name] = {"coverage": float(hit.mean()), "half_width": float(half.mean()), "rmse": rmse}
    return figures


def noticed(logs: int, decisions: int) -> dict[str, float]:
    """Share of logs with corrupted propensities in which the self-check fails; `true` are sound ones."""
    scores = np.exp(2 * REVENUE) / np.exp(2 * REVENUE).sum(axis=1, keepdims=True)
    failed: dict[str, int] = {}
    for seed in range(logs):
        log, target, segment = log_of(seed, decisions)
        propensities = {
            "true": log.propensity,
            "shifted": np.roll(log.propensity, 1),
            "constant": np.full(decisions, log.propensity.mean()),
            "softmax": scores[segment, log.action],
        }
        for name, propensity in propensities.items():
            told = Decisions(log.context, log.action, propensity, log.reward)
            failed[name] = failed.get(name, 0) + (not report(told, target).check.passed)
    return {name: count / logs for name, count in failed.items()}


def promoted(rng: np.random.Generator, units: int, gain: float, planned: int) -> bool:
    """Whether a canary of so many units ever says `better`, looked at after every unit."""
    arm = rng.random(units) < SHARE
    found = confidence_sequence(
        Units(arm, rng.normal(MEAN, SPREAD, units) + gain * arm, np.full(units, SHARE)), CanaryRule(planned=planned)
    )
    return bool((found.gain > found.half).any())


def misjudged(rng: np.random.Generator, units: int, probability: float, share: float) -> bool:
    """Whether a canary of two equal arms, with a rare success of value 1, is ever `better` or `worse`."""
    value = (rng.random(units) < probability).astype(float)
    rule = CanaryRule()
    found = confidence_sequence(Units(rng.random(units) < share, value, np.full(units, share)), rule)
    worse = found.gain + found.half < -rule.tolerance * np.abs(found.incumbent)
    return bool(((found.gain > found.half) | worse).any())


def canaries(repetitions: int) -> dict[str, float]:
    """Promotions of a candidate that is no better, or 1 % worse; and of one 5 % better at the announced size.

    `rare`: verdicts of either side on equal arms that succeed once in a hundred, with a share of 5 %.
    """
    rng = np.random.default_rng(3)
    needed = units_needed(0.05 * MEAN, SPREAD, SHARE)
    return {
        "equal": float(np.mean([promoted(rng, 4000, 0.0, 1500) for _ in range(repetitions)])),
        "worse": float(np.mean([promoted(rng, 4000, -0.01 * MEAN, 1500) for _ in range(repetitions)])),
        "announced": float(needed),
        "power": float(np.mean([promoted(rng, needed, 0.05 * MEAN, needed) for _ in range(repetitions)])),
        "rare": float(np.mean([misjudged(rng, 20_000, 0.01, 0.05) for _ in range(repetitions)])),
    }


def misses(found: dict[str, Any]) -> list[str]:
    """Targets that were not met."""
    rows = {name: found["coverage"][name] for name in ("snips", "dr")}
    bad = [
        f"{name}: coverage at least 0.91 with a half-width of at most 3.3 %"
        for name, row in rows.items()
        if row["coverage"] < 0.91 or row["half_width"] > 0.033
    ]
    corrupted = ("shifted", "constant", "softmax")
    bad += [f"{kind}: noticed in 99 of 100" for kind in corrupted if found["noticed"][kind] < 0.99]
    if max(found["canaries"]["equal"], found["canaries"]["worse"]) > 0.05:
        bad.append("false promotions at most 5 %")
    if found["canaries"]["rare"] > 0.05:
        bad.append("false verdicts on rare outcomes at most 5 %")
    if found["canaries"]["power"] < 0.8:
        bad.append("power at least 80 % at the announced size")
    return bad


def main() -> None:
    """Measure, print, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=400)
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--canaries", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = {
        "coverage": coverage(given.logs, given.decisions),
        "noticed": noticed(min(given.logs, 100), given.decisions),
        "canaries": canaries(given.canaries),
    }
    if given.json:
        print(json.dumps(found))
    else:
        for name, row in found["coverage"].items():
            print(
                f"{name:14} coverage {row['coverage']:.3f}  half-width {row['half_width']:.2%}  rmse {row['rmse']:.2%}"
            )
        print("propensities noticed:", ", ".join(f"{name} {share:.0%}" for name, share in found["noticed"].items()))
        print("canaries promoted:", ", ".join(f"{name} {figure:.4g}" for name, figure in found["canaries"].items()))
    if bad := misses(found):
        raise SystemExit("missed: " + "; ".join(bad))


if __name__ == "__main__":
    main()
