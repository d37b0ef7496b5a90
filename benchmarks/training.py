"""How near training comes to the exact optimum, how fast it is, and what a bundle costs to serve.

Every training case prints its gap to the exact optimum in percent, as served and by arg-max, the worst over the seeds.
Budgets are CPU-seconds of one core, so that a busy machine changes nothing but the time you wait. Without `--case` only
the quick ratios are measured: training throughput against the same learner on 16 Python environments, and one row
through a bundle against a forward pass written by hand in NumPy. The case `warm start` counts the steps to a gap of 1 %
in shifted worlds, from scratch, from a policy for the world before the shift, and from one for ranges around both.

    python benchmarks/training.py [--case NAME ...|all] [--seeds N] [--share F] [--json]
"""

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import baselines
from agents import train as training
from agents.algorithms import build
from agents.bundle import Bundle
from agents.evaluate import simulate
from agents.held_out import evaluate_over
from agents.presets import preset
from agents.ranges import Family
from agents.runtime import load
from agents.selection import starts_of
from agents.train import Progress, layout_of, train
from agents.vecenv import WorldVecEnv
from envs.env import WorldEnv
from envs.worlds import make

STEPS_PER_SECOND = 25_000
THROUGHPUT_RATIO = 2.0
LATENCY_RATIO = 3.0
WARM_STEPS, WARM_SHARE = 600_000, 0.2
# Chance of the evaluation against rules; no setting was chosen on it.
EVALUATION_SEED = 20_261


@dataclass(frozen=True)
class Case:
    """One instance with its budget and targets: gaps in percent, or gains over rules (which play in `rules_in`)."""

    world: str
    seconds: float
    params: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    served: float | None = None
    greedy: float | None = None
    mean: float | None = None
    maximum: float | None = None
    rules_in: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, float] = field(default_factory=dict)


MC10 = {"wear": [0.15] * 10, "crews": 3, "setup_cost": 3.0, "choice": "worst"}
MC20 = {
    "wear": np.linspace(0.08, 0.27, 20).tolist(),
    "levels": 6,
    "crews": 4,
    "setup_cost": 4.0,
    "corrective_cost": 5.0,
    "downtime_cost": 6.0,
    "choice": "worst",
}
E = float(np.e)
# A hub with three legs in and three out: six products that use one leg, nine that use two.
HUB = np.concatenate([np.eye(6), [[leg in (i, 3 + j) for i in range(3) for j in range(3)] for leg in range(6)]], axis=1)
THROUGH = [0.55 + 0.05 * ((i + 2 * j) % 4) for i in range(3) for j in range(3)]
NETL = {
    "usage": HUB.tolist(),
    "capacity": 30,
    "periods": 600,
    "volume": [0.07] * 6 + [0.06] * 9,
    "sensitivity": [1.0, 1.1, 1.2, 0.9, 1.0, 1.1, *THROUGH],
    "prices": {"geometric": [0.8, 5.0, 41]},
}
CASES = {
    "GVR-M": Case("pricing", 150, {"prices": {"geometric": [0.1, 8.0, 41]}}, served=0.7, greedy=0.5),
    "MC4": Case("maintenance", 150, served=0.7, greedy=0.5),
    "LS-M": Case("inventory", 150, served=0.7, greedy=0.5),
    "MC10": Case("maintenance", 120, MC10, greedy=0.5),
    "COMP": Case("pricing-rival", 120, greedy=0.6),
    "pricing over ranges": Case(
        "pricing", 300, {}, {"volume": (0.4 * E, 2 * E), "sensitivity": (0.5, 2.0)}, mean=0.4, maximum=1.5
    ),
    "maintenance over ranges": Case(
        "maintenance", 300, {}, {"wear": (0.05, 0.5), "setup_cost": (0.2, 6.0)}, mean=0.7, maximum=2.5
    ),
    "inventory over ranges": Case(
        "inventory", 300, {"lead_time": 2}, {"mean": (3.0, 9.0), "penalty_cost": (4.0, 40.0)}, mean=0.5, maximum=1.5
    ),
    "MC20": Case("maintenance", 120, MC20, rules={"opportunistic": 1.5, "points-rule": -0.1}),
    # The rule's own prices are any; a ladder four times as fine comes near enough to them.
    "NET-L": Case(
        "pricing-network",
        120,
        NETL,
        rules={"bid-price": -0.1},
        rules_in={"prices": {"geometric": [0.8, 5.0, 161]}},
    ),
}


@dataclass(frozen=True)
class Shift:
    """A world that turns into others, and the ranges of a policy that would have been ready for them."""

    world: str
    params: dict[str, Any]
    ranges: dict[str, tuple[float, float]]
    to: dict[str, dict[str, Any]]


SHIFTS = (
    Shift(
        "pricing",
        {"prices": {"geometric": [0.1, 8.0, 41]}},
        CASES["pricing over ranges"].ranges,
        {
            "sensitivity × .7": {"sensitivity": 0.7},
            "sensitivity × 1.5": {"sensitivity": 1.5},
            "volume × 1.5": {"volume": 1.5 * E},
            "volume × .6": {"volume": 0.6 * E},
        },
    ),
    Shift(
        "maintenance",
        {"wear": [0.1, 0.15, 0.2, 0.25]},
        CASES["maintenance over ranges"].ranges,
        {"wear × 1.5": {"wear": [0.15, 0.225, 0.3, 0.375]}, "wear reversed": {"wear": [0.25, 0.2, 0.15, 0.1]}},
    ),
    Shift(
        "inventory",
        # By default the largest order follows the parameters, and with it the number of actions.
        {"lead_time": 2, "mean": 5.0, "penalty_cost": 19.0, "max_order": 14},
        CASES["inventory over ranges"].ranges,
        {"mean × 1.4": {"mean": 7.0}, "penalty × 3": {"penalty_cost": 57.0}, "penalty / 3": {"penalty_cost": 6.5}},
    ),
)


def trained(case: Case, seed: int, share: float) -> Bundle:
    """The case's bundle after (a share of) its budget of CPU-seconds."""
    world = make(case.world, case.params, case.ranges)
    minutes = share * case.seconds / 60
    return train(world, minutes=minutes, seed=seed, ranges=case.ranges, clock=time.process_time)


def run(case: Case, seed: int, share: float) -> dict[str, float]:
    """The figures of one training."""
    bundle = trained(case, seed, share)
    world = make(case.world, case.params, case.ranges)
    policy = load(bundle)
    figures = {"steps": float(bundle.card.steps), "rate": bundle.card.metrics["steps_per_second"]}
    if case.ranges:
        gaps = evaluate_over(policy, Family(world, case.ranges)).gaps
        if gaps is not None:
            figures |= {"mean": float(gaps.mean()), "maximum": float(gaps.max())}
    elif case.rules:
        own = simulate(policy, world, 512, seed=EVALUATION_SEED)
        there = make(case.world, {**case.params, **case.rules_in})
        for name in case.rules:
            other = simulate(baselines.make(name, there), there, 512, seed=EVALUATION_SEED)
            if own.returns is not None and other.returns is not None:
                gain = own.returns - other.returns
                z = float(gain.mean() / gain.std() * len(gain) ** 0.5)
                figures |= {name: 100 * float(gain.mean()) / abs(other.value), f"{name} z": z}
    else:
        figures |= {"served": bundle.card.metrics["gap"], "greedy": bundle.card.metrics["gap_greedy"]}
    return figures


def misses(name: str, case: Case, rows: list[dict[str, float]]) -> list[str]:
    """Targets that the worst seed missed."""
    limits = {"served": case.served, "greedy": case.greedy, "mean": case.mean, "maximum": case.maximum}
    bad = [
        f"{name}: {key} {max(row[key] for row in rows):.3f} % where {limit} % was asked for"
        for key, limit in limits.items()
        if limit is not None and max(row[key] for row in rows) > limit
    ]
    gains = {rule: min(row[rule] for row in rows) for rule in case.rules}
    return bad + [
        f"{name}: {gain:+.3f} % against {rule} where {case.rules[rule]:+} % was asked for"
        for rule, gain in gains.items()
        if gain < case.rules[rule]
    ]


def throughput() -> tuple[float, float]:
    """Environment steps per second of PPO, learning included: batched, and on 16 Python environments."""
    world = make("pricing")
    family, settings = Family(world, {}), preset("pricing")
    rates = []
    for batched in (True, False):
        chosen = settings if batched else replace(settings, copies=16, rollout=512)
        env = WorldVecEnv(family, chosen, 0, starts_of(world)) if batched else _python_copies(world)
        algorithm: Any = build(env, chosen, layout_of(family), 0)
        algorithm.anneal(lambda: 0.0, chosen)
        algorithm.learn(chosen.copies * chosen.rollout, log_interval=None)
        begun = time.process_time()
        algorithm.learn(4 * chosen.copies * chosen.rollout, log_interval=None)
        rates.append(4 * chosen.copies * chosen.rollout / (time.process_time() - begun))
    return rates[0], rates[1]


def _python_copies(world: Any) -> DummyVecEnv:
    env = DummyVecEnv([lambda: WorldEnv(world)] * 16)
    env.observation_space = Box(-np.inf, np.inf, env.observation_space.shape, np.float32)
    return env


def warm_starts() -> dict[str, dict[str, int]]:
    """Environment steps to a gap of 1 % for each shift; compared after every update, so that none is rounded up."""
    chosen = training.PROGRESS_SECONDS, training.FIRST_SELECTION, training.SELECTION_EVERY
    training.PROGRESS_SECONDS = training.FIRST_SELECTION = training.SELECTION_EVERY = 0.0
    try:
        return {f"{shift.world}, {name}": steps for shift in SHIFTS for name, steps in _shifted(shift)}
    finally:
        training.PROGRESS_SECONDS, training.FIRST_SELECTION, training.SELECTION_EVERY = chosen


def _shifted(shift: Shift) -> Iterator[tuple[str, dict[str, int]]]:
    before = make(shift.world, shift.params)
    narrow = train(before, steps=WARM_STEPS, seed=0)
    wide = train(before, steps=3 * WARM_STEPS, seed=0, ranges=shift.ranges)
    for name, change in shift.to.items():
        after = make(shift.world, {**shift.params, **change})
        starts = {"scratch": None, "one world": narrow, "ranges": wide}
        yield name, {label: _steps_to(after, start) for label, start in starts.items()}


def _steps_to(world: Any, start: Bundle | None) -> int:
    seen: list[Progress] = []

    def told(progress: Progress) -> bool:
        seen.append(progress)
        return progress.gap is None or progress.gap > 1.0

    train(world, steps=WARM_STEPS, seed=1, start=start, progress=told)
    return seen[-1].steps


def _report_of_warm_starts(found: dict[str, dict[str, int]]) -> list[str]:
    """Print the steps; which starts took more than a fifth of those from scratch."""
    bad = []
    for name, steps in found.items():
        cold = steps["scratch"]
        warm = {label: took for label, took in steps.items() if label != "scratch"}
        words = [f"{took:,} from {label} ({took / cold:.2f})" for label, took in warm.items()]
        print(f"{name}: 1 % below the optimum after {cold:,} steps from scratch, {', '.join(words)}")
        bad += [f"{name} from {label}: {took / cold:.2f}" for label, took in warm.items() if took > WARM_SHARE * cold]
    return [f"warm start in a fifth: {'; '.join(bad)}"] if bad else []


def latency() -> tuple[float, float]:
    """Microseconds of one row: through a bundle, and through the same network in NumPy."""
    world = make("pricing")
    policy = load(train(world, steps=10_000))
    row, every = np.array([[12.0, 20.0]], np.float32), np.ones((1, world.actions.n), bool)
    rng = np.random.default_rng(0)
    widths = [7, 64, 64, 16, world.actions.n]
    pairs = list(itertools.pairwise(widths))
    layers = [(rng.normal(size=pair).astype(np.float32), np.zeros(pair[1], np.float32)) for pair in pairs]

    def by_hand() -> np.ndarray:
        stock, period = row[:, :1], row[:, 1:]
        left = 50 - period
        ratio = np.log((stock + 0.5) / (left + 0.5))
        x = np.concatenate([stock / 20, period / 50, ratio, np.sqrt(stock / 20), left / 50, left, stock], 1)
        for weights, bias in layers[:-2]:
            x = np.tanh(x @ weights + bias)
        for weights, bias in layers[-2:]:
            x = x @ weights + bias
        weights64 = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
        return np.asarray(weights64 / weights64.sum(axis=1, keepdims=True))

    return _microseconds(lambda: policy.probabilities(row, every)), _microseconds(by_hand)


def _microseconds(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(7):
        begun = time.process_time()
        for _ in range(1000):
            call()
        times.append((time.process_time() - begun) * 1000)
    return statistics.median(times)


def main() -> None:
    """Measure, print, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", default=[], choices=[*CASES, "warm start", "all"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the budgets; targets are for 1")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fast, slow = throughput()
    bundle, by_hand = latency()
    found: dict[str, Any] = {
        "steps_per_second": fast,
        "against_python_copies": fast / slow,
        "row_us": bundle,
        "against_numpy": bundle / by_hand,
    }
    bad = [f"{fast:,.0f} steps/s where {STEPS_PER_SECOND:,} were asked for"] if fast < STEPS_PER_SECOND else []
    bad += ["twice the Python copies"] if fast < THROUGHPUT_RATIO * slow else []
    bad += ["one row in 3 × NumPy"] if bundle > LATENCY_RATIO * by_hand else []
    with contextlib.redirect_stdout(sys.stderr) if given.json else contextlib.nullcontext():
        print(
            f"PPO {fast:,.0f} steps/s, {fast / slow:.1f} × 16 Python copies; one row {bundle:.1f} µs, "
            f"{bundle / by_hand:.1f} × NumPy"
        )
        if {"warm start", "all"} & set(given.case):
            found["warm start"] = warm_starts()
            bad += _report_of_warm_starts(found["warm start"])
        for name in CASES if "all" in given.case else [name for name in given.case if name in CASES]:
            rows = [run(CASES[name], seed, given.share) for seed in range(given.seeds)]
            found[name] = rows
            bad += misses(name, CASES[name], rows)
            for seed, row in enumerate(rows):
                print(f"{name} seed {seed}: " + ", ".join(f"{key} {figure:,.3f}" for key, figure in row.items()))
    if given.json:
        print(json.dumps(found))
    if bad:
        raise SystemExit("missed: " + "; ".join(bad))


if __name__ == "__main__":
    main()
