"""Evaluation over ranges: policies in worlds that were drawn anew, each against that world's own optimum or bound."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

from agents.evaluate import Evaluation, evaluate
from agents.policy import Array, Policy
from agents.ranges import Family
from envs import exact
from envs.dynamics import World
from envs.tabulate import StateSpaceTooLarge

DRAWS = 24
SEED = 99
EPISODES = 2000


@dataclass(frozen=True)
class Draws:
    """Worlds drawn from a family, and what is known of their best.

    Args:
        columns: names of the varied parameters.
        rows: (d, c) their values in each world.
        worlds: the worlds themselves.
        optima: (d,) exact optima, or None where they are out of reach.
        bounds: (d,) proven upper bounds, or None where the optima are known or no bound is.
        seed: of the draws, and of every simulation in them.
    """

    columns: tuple[str, ...]
    rows: Array
    worlds: tuple[World, ...]
    optima: Array | None
    bounds: Array | None
    seed: int


@dataclass(frozen=True)
class HeldOut:
    """A policy in worlds that it was not trained on.

    Args:
        columns: names of the varied parameters.
        rows: (d, c) their values in each world.
        evaluations: one for each world.
        optima: (d,) exact optima, or None where they are out of reach.
        bounds: (d,) proven upper bounds where the optima are not known.
    """

    columns: tuple[str, ...]
    rows: Array
    evaluations: tuple[Evaluation, ...]
    optima: Array | None
    bounds: Array | None = None

    @property
    def values(self) -> Array:
        """Values (d,)."""
        return np.array([evaluation.value for evaluation in self.evaluations])

    @property
    def gaps(self) -> Array | None:
        """Gaps (d,) to the optima in percent."""
        return None if self.optima is None else self._below(self.optima)

    @property
    def gaps_to_bound(self) -> Array | None:
        """Gaps (d,) to the bounds in percent; the gaps to the optima are at most these."""
        return None if self.bounds is None else self._below(self.bounds)

    def _below(self, best: Array) -> Array:
        return np.asarray(100 * (best - self.values) / np.abs(best))

    def gains(self, other: "HeldOut") -> Array:
        """How much better (d,) than another policy in the same worlds, in percent of its value."""
        return np.asarray(100 * (self.values - other.values) / np.abs(other.values))

    def summary(self) -> dict[str, Any]:
        """Shares of the optimum (or bound) that are missing, over all worlds and in each, ready for JSON."""
        gaps = {"gap_share": self.gaps, "gap_to_bound_share": self.gaps_to_bound}
        known = {name: percents / 100 for name, percents in gaps.items() if percents is not None}
        worlds = [
            {
                "params": dict(zip(self.columns, row.tolist(), strict=True)),
                "value": evaluation.value,
                "interval": evaluation.interval,
                "method": evaluation.method,
                **{name: float(shares[i]) for name, shares in known.items()},
            }
            for i, (row, evaluation) in enumerate(zip(self.rows, self.evaluations, strict=True))
        ]
        return {**{name: spread(shares, least=0.0) for name, shares in known.items()}, "worlds": worlds}


def spread(figures: Array, confidence: float = 0.95, least: float = -np.inf) -> dict[str, Any]:
    """Mean of figures (d,) with its Student interval over the draws, median and maximum.

    Args:
        figures: one for each draw.
        confidence: of the interval.
        least: what the true mean cannot lie below, as no gap lies below 0; the interval is cut there.

    >>> spread(np.array([1.0, 3.0]))["mean"]
    2.0
    """
    n, mean = len(figures), float(figures.mean())
    low = high = None
    if n > 1:
        half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * float(figures.std(ddof=1)) / n**0.5
        low, high = max(mean - half, min(mean, least)), mean + half
    return {
        "mean": mean,
        "interval": (low, high),
        "median": float(np.median(figures)),
        "max": float(figures.max()),
    }


def draw(family: Family, draws: int = DRAWS, seed: int = SEED) -> Draws:
    """So many worlds of the family, with their optima, or else bounds, where these are within reach."""
    rows = family.draw(draws, np.random.default_rng(seed))
    worlds = tuple(family.member(row) for row in rows)
    optima = _optima(worlds)
    return Draws(family.columns, rows, worlds, optima, None if optima is not None else _bounds(worlds), seed)


def evaluate_in(
    policy_of: Callable[[World], Policy],
    drawn: Draws,
    episodes: int = EPISODES,
    told: Callable[[int], None] | None = None,
) -> HeldOut:
    """A policy in drawn worlds, all simulations on the same chance.

    Args:
        policy_of: the policy for a world: the same for all, or a rule that is tuned on each.
        drawn: the worlds.
        episodes: of each world, where its value has to be simulated.
        told: called with the number of worlds that are done.
    """
    found = []
    for world in drawn.worlds:
        found.append(evaluate(policy_of(world), world, episodes, drawn.seed))
        if told is not None:
            told(len(found))
    return HeldOut(drawn.columns, drawn.rows, tuple(found), drawn.optima, drawn.bounds)


def evaluate_over(policy: Policy, family: Family, draws: int = DRAWS, seed: int = SEED) -> HeldOut:
    """The policy in `draws` worlds drawn from the family, told the parameters of each.

    A policy that takes no parameters (one for the nominal world, or a baseline) is evaluated as it is.
    """
    return evaluate_in(lambda _: policy, draw(family, draws, seed))


def _optima(worlds: tuple[World, ...]) -> Array | None:
    try:
        return np.array([exact.solve(world).value for world in worlds])
    except (StateSpaceTooLarge, ValueError):
        return None


def _bounds(worlds: tuple[World, ...]) -> Array | None:
    try:
        return np.array([exact.bound(world)[0] for world in worlds])
    except ValueError:
        return None
