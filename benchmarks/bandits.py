"""Regret of each way of exploring: a Bernoulli test bed, a linear contextual one, and an arm added at half time.

The regret is what the best arm would have earned on average less what the taken arm earns on average. Under a fixed
ε it grows in proportion to the steps; published orders of growth are log T for Thompson sampling and confidence bounds
on fixed arms (Lai and Robbins 1985), √T up to logarithms for linear ones (Chu et al. 2011; Foster and Rakhlin 2020).
``growth`` is the slope of log regret on log steps over the second half of the doublings: 1 for uniform choices.

    python benchmarks/bandits.py [--steps N] [--seeds N] [--plot FILE.png] [--json]
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from river import dummy, linear_model, optim, stats

from online.bandit import Bandit
from online.exploration import EpsilonGreedy, Explorer, InverseGap, LinUCB, Thompson

ARMS = 5
FEATURES = 4
MEANS = (0.3, 0.4, 0.5, 0.6, 0.7)
NEWCOMER = 0.9
"""The mean of the arm that the Bernoulli bed adds at half time."""


@dataclass(frozen=True, slots=True)
class Bed:
    """A test bed: features of a step, every arm's mean there, a reward drawn around one."""

    name: str
    features: Callable[[np.random.Generator], dict[str, float]]
    means: Callable[[Mapping[str, float]], Sequence[float]]
    reward: Callable[[float, np.random.Generator], float]


def bernoulli(means: Sequence[float] = MEANS) -> Bed:
    """Arms that pay 1 with a fixed probability, and 0 otherwise."""
    return Bed("bernoulli", lambda _: {}, lambda _: means, lambda mean, rng: float(rng.random() < mean))


def linear(seed: int) -> Bed:
    """Means linear in features that are uniform on the unit cube, noise of standard deviation .25."""
    weights = np.random.default_rng(seed).uniform(-0.5, 0.5, (ARMS, FEATURES))

    def features(rng: np.random.Generator) -> dict[str, float]:
        return {f"x{n}": value for n, value in enumerate(rng.random(FEATURES).tolist())}

    def means(x: Mapping[str, float]) -> Sequence[float]:
        found: list[float] = (weights @ np.fromiter(x.values(), float)).tolist()
        return found

    return Bed("linear", features, means, lambda mean, rng: mean + 0.25 * float(rng.standard_normal()))


def explorers(bed: str) -> dict[str, tuple[Explorer, Any]]:
    """Each way of exploring with the regressor of its arms."""
    posterior = linear_model.BayesianLinearRegression()
    plain = dummy.StatisticRegressor(stats.Mean()) if bed == "bernoulli" else linear_model.BayesianLinearRegression()
    sgd = linear_model.LinearRegression(optimizer=optim.SGD(0.05))
    found: dict[str, tuple[Explorer, Any]] = {
        "uniform": (EpsilonGreedy(1.0), plain),
        "epsilon-greedy .1": (EpsilonGreedy(0.1), plain),
        "inverse gap": (InverseGap(), plain),
        "LinUCB": (LinUCB(), posterior),
        "Thompson": (Thompson(0.5), posterior),
    }
    return found if bed == "bernoulli" else found | {"inverse gap, SGD": (InverseGap(), sgd)}


def play(bed: Bed, bandit: Bandit, steps: int, seed: int, newcomer: int | None = None) -> tuple[np.ndarray, list[str]]:
    """The regret so far after each step, and the arms taken; ``newcomer`` is the step before which an arm is added."""
    rng = np.random.default_rng(seed)
    regret, taken = np.zeros(steps), []
    for step in range(steps):
        if step == newcomer:
            bandit.add("newcomer")
        x = bed.features(rng)
        means = dict(zip((f"arm {n}" for n in range(ARMS)), bed.means(x), strict=True))
        means = {name: (means | {"newcomer": NEWCOMER})[name] for name in bandit.arms}
        uniforms: list[float] = rng.random(ARMS + 1).tolist()
        arm = bandit.choose(x, uniforms.__getitem__).arm
        bandit.learn_one(x, arm, bed.reward(means[arm], rng))
        regret[step] = max(means.values()) - means[arm]
        taken.append(arm)
    return np.cumsum(regret), taken


def growth(curve: np.ndarray) -> float:
    """The slope of log regret on log steps from an eighth of the steps on."""
    marks = np.array([len(curve) // 8, len(curve) // 4, len(curve) // 2, len(curve)])
    return float(np.polyfit(np.log(marks), np.log(np.maximum(curve[marks - 1], 1e-9)), 1)[0])


def measured(kind: str, steps: int, seeds: int) -> dict[str, dict[str, Any]]:
    """Mean regret curve, its growth and its standard error for each way of exploring."""
    found = {}
    for name, (explorer, blank) in explorers(kind).items():
        curves = []
        for seed in range(seeds):
            bed = bernoulli() if kind == "bernoulli" else linear(seed)
            bandit = Bandit([f"arm {n}" for n in range(ARMS)], explorer, blank)
            curves.append(play(bed, bandit, steps, seed + 1_000)[0])
        mean = np.mean(curves, axis=0)
        error = float(np.std([curve[-1] for curve in curves], ddof=1) / math.sqrt(seeds)) if seeds > 1 else 0.0
        found[name] = {"regret": float(mean[-1]), "error": error, "growth": growth(mean), "curve": mean}
    return found


def found_newcomers(steps: int, seeds: int) -> dict[str, float]:
    """The share of the last tenth of the steps in which the arm added at half time is taken."""
    found = {}
    for name, (explorer, blank) in explorers("bernoulli").items():
        shares = []
        for seed in range(seeds):
            bandit = Bandit([f"arm {n}" for n in range(ARMS)], explorer, blank)
            taken = play(bernoulli(), bandit, steps, seed + 2_000, steps // 2)[1]
            last = taken[-(steps // 10) :]
            shares.append(last.count("newcomer") / len(last))
        found[name] = float(np.mean(shares))
    return found


def plot(path: Path, beds: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Regret curves on logarithmic axes, one panel a bed."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (bed, rows) in zip(figure.subplots(1, len(beds)), beds.items(), strict=True):
        steps = np.arange(1, len(next(iter(rows.values()))["curve"]) + 1)
        for name, row in rows.items():
            axes.loglog(steps, row["curve"], label=f"{name} ({row['growth']:.2f})")
        axes.loglog(steps, np.sqrt(steps), ":", color="#888888", label="√T")
        axes.loglog(steps, 1.0 + np.log(steps), "--", color="#888888", label="1 + log T")
        axes.set(title=f"{bed}, growth in brackets", xlabel="steps T", ylabel="regret, mean of seeds")
        axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    beds = {kind: measured(kind, given.steps, given.seeds) for kind in ("bernoulli", "linear")}
    newcomers = found_newcomers(given.steps, given.seeds)
    if given.plot:
        plot(given.plot, beds)
    if given.json:
        for row in (row for rows in beds.values() for row in rows.values()):
            row["curve"] = row["curve"][:: max(1, given.steps // 100)].tolist()
        print(json.dumps(beds | {"newcomers": newcomers}))
        return
    marks = [given.steps // 8, given.steps // 4, given.steps // 2, given.steps]
    for bed, rows in beds.items():
        print(f"{bed}: mean regret of {given.seeds} seeds after {marks} steps, growth")
        for name, row in rows.items():
            curve = "  ".join(f"{row['curve'][mark - 1]:8.1f}" for mark in marks)
            print(f"  {name:20} {curve} ± {row['error']:5.1f}   {row['growth']:.2f}")
    print("an arm of mean .9 added at half time: its share of the last tenth of the steps")
    for name, share in newcomers.items():
        print(f"  {name:20} {share:.3f}")


if __name__ == "__main__":
    main()
