"""Who orders: the exact optimum for what is believed of the demand, kept or live; base stock; and sales as demand."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.heuristics_inventory import base_stock, tuned_base_stock
from envs import exact
from envs.atoms import Atoms
from envs.dynamics import Action, Array, Chance, Fields, State
from envs.hazard import HazardFilter
from envs.inventory import Inventory

STEP = 0.05
"""Step of the lattice of logarithms of demands: what one cell holds is ordered for alike."""


def cells(means: Array) -> NDArray[np.int64]:
    """The cells of demands (n,)."""
    return np.round(np.log(means) / STEP).astype(int)


class Given(Inventory):
    """The inventory world with a demand that is known: the chance of a period is the demand itself."""

    def demand(self, chance: Chance) -> Array:
        """What was given."""
        return np.asarray(chance[:, 0])


class Optimum:
    """Exact optima by demand, each solved once.

    Args:
        world: lead time and costs.
        range_: least and largest demand for which policies are made.
    """

    def __init__(self, world: Inventory, range_: tuple[float, float]) -> None:
        self.world, self._range = world, range_
        self._tables: dict[int, NDArray[Any]] = {}

    def orders(self, state: State, means: Array) -> Action:
        """The best order (n,) of each SKU were its demand the one in `means` (n,)."""
        places = self.world.place(state)
        listed = cells(np.clip(means, *self._range)).tolist()
        return np.array([self._table(cell)[place] for cell, place in zip(listed, places, strict=True)])

    def rule(self, means: Array) -> Callable[[State], Action]:
        """The policy that believes in one demand for good."""
        return lambda state: self.orders(state, means)

    def _table(self, cell: int) -> NDArray[Any]:
        if cell not in self._tables:
            self._tables[cell] = exact.solve(self.world.with_params({"mean": np.exp(cell * STEP)})).actions
        return self._tables[cell]


class Live:
    """Orders for the demand that each SKU's own outcomes tell, as a point with `estimates = "key"` does.

    Args:
        range_: as the point declares it.
        n: how many SKUs there are.
    """

    def __init__(self, best: Optimum, range_: tuple[float, float], n: int) -> None:
        atoms = Atoms(best.world, ("mean",), ranges={"mean": range_})
        self._best, self._filters = best, [HazardFilter(atoms) for _ in range(n)]
        self.means: list[Array] = []
        self.alarms: list[tuple[int, int]] = []
        """Of a changed demand: in which period, and of which SKU."""

    def act(self, period: int, state: State) -> Action:  # noqa: ARG002
        """The best order for what is believed now."""
        self.means.append(np.array([one.estimate().values[0] for one in self._filters]))
        return self._best.orders(state, self.means[-1])

    def learn(self, period: int, state: State, action: Action, outcome: Fields) -> None:
        """Learn from what was sold of what was on hand: what was asked for in vain nobody sees."""
        sold = outcome["sold"]
        for sku, one in enumerate(self._filters):
            if one.learn_one(state[sku], action[sku], {"sold": sold[sku]}) is not None:
                self.alarms.append((period, sku))


class Foretold:
    """Orders for demands (periods, n) that a model foretold."""

    def __init__(self, best: Optimum, means: Array) -> None:
        self._best, self._means = best, means

    def act(self, period: int, state: State) -> Action:
        """The best order for the forecast of this period."""
        return self._best.orders(state, self._means[period])

    def learn(self, period: int, state: State, action: Action, outcome: Fields) -> None:
        """Nothing: the model learns."""


class Stocks:
    """The exactly best base stocks by demand, each found once."""

    def __init__(self, world: Inventory) -> None:
        self._world = world
        self._levels: dict[int, int] = {}

    def rule(self, means: Array) -> Callable[[State], Action]:
        """Order each SKU up to the level that is the best for its demand in `means` (n,)."""
        rules = [base_stock(self._world, self._level(cell)) for cell in cells(means).tolist()]
        return lambda state: np.array([rule(row[None])[0] for rule, row in zip(rules, state, strict=True)])

    def _level(self, cell: int) -> int:
        if cell not in self._levels:
            self._levels[cell] = tuned_base_stock(self._world.with_params({"mean": np.exp(cell * STEP)}))
        return self._levels[cell]
