"""Evaluation over ranges: a conditioned policy in worlds that were drawn anew, each against its own optimum."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluate import Evaluation, evaluate
from agents.policy import Array, Policy
from agents.ranges import Family
from envs import exact
from envs.dynamics import World
from envs.tabulate import StateSpaceTooLarge

DRAWS = 24
SEED = 99


@dataclass(frozen=True)
class HeldOut:
    """A policy in worlds that it was not trained on.

    Args:
        columns: names of the varied parameters.
        rows: (d, c) their values in each world.
        evaluations: one for each world.
        optima: (d,) exact optima, or None where they are out of reach.
    """

    columns: tuple[str, ...]
    rows: Array
    evaluations: tuple[Evaluation, ...]
    optima: Array | None

    @property
    def values(self) -> Array:
        """Values (d,)."""
        return np.array([evaluation.value for evaluation in self.evaluations])

    @property
    def gaps(self) -> Array | None:
        """Gaps (d,) to the optima in percent."""
        return None if self.optima is None else 100 * (self.optima - self.values) / np.abs(self.optima)

    def summary(self) -> dict[str, Any]:
        """Mean, median and maximum of the gaps, and every world, ready for JSON."""
        gaps = self.gaps
        figures = {} if gaps is None else {"mean": gaps.mean(), "median": np.median(gaps), "max": gaps.max()}
        worlds = [
            {
                "params": dict(zip(self.columns, row.tolist(), strict=True)),
                "value": evaluation.value,
                "method": evaluation.method,
                **({} if gaps is None else {"gap": float(gaps[i])}),
            }
            for i, (row, evaluation) in enumerate(zip(self.rows, self.evaluations, strict=True))
        ]
        return {"gap": {name: float(figure) for name, figure in figures.items()}, "worlds": worlds}


def evaluate_over(policy: Policy, family: Family, draws: int = DRAWS, seed: int = SEED) -> HeldOut:
    """The policy in `draws` worlds drawn from the family, told the parameters of each.

    A policy that takes no parameters (one for the nominal world, or a baseline) is evaluated as it is.
    """
    rows = family.draw(draws, np.random.default_rng(seed))
    worlds = [family.member(row) for row in rows]
    evaluations = tuple(evaluate(policy, world, seed=seed) for world in worlds)
    return HeldOut(family.columns, rows, evaluations, _optima(worlds))


def _optima(worlds: list[World]) -> Array | None:
    try:
        return np.array([exact.solve(world).value for world in worlds])
    except (StateSpaceTooLarge, ValueError):
        return None
