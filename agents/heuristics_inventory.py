"""Ordering rules for lost sales: base stock, capped, myopic, projected level, constant.

Settings are chosen by simulating all candidates side by side on the same demand, and then by exact value among the
best few where that is quick. Zipkin (2008); Xin (2021) for the cap; van Jaarsveld and Arts (2024) for the level.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import comb

import numpy as np
from numpy.typing import NDArray

from agents.policy import Array
from envs import exact
from envs.dynamics import World
from envs.inventory import ON_HAND, Inventory

Rule = Callable[[Array], NDArray[np.int64]]

_COPIES, _WARM_UP, _PERIODS, _SEED = 48, 60, 500, 2026
_FINALISTS = 3
_QUICK = 8_000
"""States that a rule may reach for its value to be computed exactly while tuning."""


def base_stock(world: Inventory, level: float, cap: float = np.inf) -> Rule:
    """Order up to a position of `level`, at most `cap` (and at most what can be ordered)."""
    most = min(cap, world.params.max_order)
    return lambda seen: np.clip(level - seen.sum(axis=1), 0, most).astype(np.int64)


def constant_order(world: Inventory, quantity: int) -> Rule:
    """The same quantity, always."""
    index = min(quantity, world.params.max_order)
    return lambda seen: np.full(len(seen), index)


class Projection:
    """What will be on hand when an order arrives: distributions (n, x) before the order is added."""

    def __init__(self, world: Inventory) -> None:
        self.world = world
        self._size = world.params.capacity + 1
        x, y = np.arange(self._size)[:, None], np.arange(self._size)
        pmf = np.append(world.params.demand_pmf(), np.zeros(self._size))
        sold_out = world.reach(x.astype(np.float64))
        self._left = np.where((y > 0) & (y <= x), pmf[np.clip(x - y, 0, None)], np.where(y == 0, sold_out, 0.0))

    def before_arrival(self, seen: Array) -> Array:
        """P(left = 0, 1, ...) (n, x) after the demands of a lead time, all earlier orders having arrived."""
        law = np.eye(self._size)[seen[:, ON_HAND].astype(int)] @ self._left
        for column in seen[:, 1:].T.astype(int):
            law = self._shifted(law, column) @ self._left
        return np.asarray(law, np.float64)

    def _shifted(self, law: Array, quantity: NDArray[np.int64]) -> Array:
        shifted = np.zeros_like(law)
        target = np.minimum(np.arange(self._size) + quantity[:, None], self._size - 1)
        np.add.at(shifted, (np.arange(len(law))[:, None], target), law)
        return shifted


def myopic(world: Inventory) -> Rule:
    """The order that is best for the period in which it arrives alone (Morton 1971)."""
    projection, params = Projection(world), world.params
    pmf = np.append(params.demand_pmf(), np.zeros(params.capacity + params.max_order + 2))
    enough = np.cumsum(pmf)

    def rule(seen: Array) -> NDArray[np.int64]:
        law = projection.before_arrival(seen)
        levels = np.arange(law.shape[1])[:, None] + np.arange(params.max_order + 1)
        served = law @ enough[levels]
        met = served >= params.critical_ratio
        return np.where(met.any(axis=1), met.argmax(axis=1), params.max_order)

    return rule


def projected_level(world: Inventory, level: float) -> Rule:
    """Raise the expected stock on hand at arrival to `level`, in whole orders below it."""
    projection, most = Projection(world), world.params.max_order

    def rule(seen: Array) -> NDArray[np.int64]:
        law = projection.before_arrival(seen)
        expected = law @ np.arange(law.shape[1])
        return np.clip(np.floor(level - expected), 0, most).astype(np.int64)

    return rule


def simulated_costs(world: Inventory, rules: Sequence[Rule]) -> Array:
    """Average cost of each rule, all on the same demand."""
    rng = np.random.default_rng(_SEED)
    chances = [world.draw(_COPIES, rng) for _ in range(_WARM_UP + _PERIODS)]
    costs = []
    for rule in rules:
        state, total = world.initial(_COPIES, rng), 0.0
        for period, chance in enumerate(chances):
            if period >= _WARM_UP:
                total -= float(world.expected_reward(state, np.zeros(0)).mean())
            state, _, _ = world.step(state, rule(state), chance)
        costs.append(total / _PERIODS)
    return np.array(costs)


def best_of(world: Inventory, rules: Sequence[Rule], reached: float = np.inf) -> int:
    """Index of the cheapest rule; `reached` says how many states the largest of them visits, roughly."""
    costs = simulated_costs(world, rules)
    if reached > _QUICK:
        return int(np.argmin(costs))
    finalists = np.argsort(costs)[:_FINALISTS]
    values = [exact.rule_value(world, rules[index]) for index in finalists]
    return int(finalists[int(np.argmax(values))])


def _inventory(world: World) -> Inventory:
    if not isinstance(world, Inventory):
        raise ValueError(f"an ordering rule needs an inventory world, not {world.id}")
    return world


def _levels(world: Inventory) -> range:
    """Positions worth trying: up to the newsvendor level of the lead time and one period, which bounds the optimum."""
    top = world.params.newsvendor(world.params.lead_time + 1)
    return range(max(1, round(0.6 * top)), top + 1)


def tuned_base_stock(world: Inventory) -> int:
    """The best level."""
    levels = _levels(world)
    found = best_of(world, [base_stock(world, level) for level in levels], _compositions(world, levels[-1]))
    return levels[found]


def tuned_capped(world: Inventory) -> tuple[int, int]:
    """The best level and cap."""
    mean, start = float(np.max(world.params.mean)), tuned_base_stock(world)
    levels = range(max(1, start - 1), start + 3)
    caps = range(max(1, int(mean)), min(world.params.max_order, int(2 * mean) + 2) + 1)
    pairs = list(product(levels, caps))
    rules = [base_stock(world, *pair) for pair in pairs]
    # Under a cap the pipeline alone takes (cap + 1)^(lead time - 1) forms, and mostly decides what is on hand.
    return pairs[best_of(world, rules, (caps[-1] + 1) ** (world.params.lead_time - 1))]


def tuned_projected(world: Inventory) -> float:
    """The best level in half units: whole steps of two first, then round the best of them."""
    coarse = np.arange(0.5 * float(np.max(world.params.mean)), world.params.newsvendor(2) + 2.0, 2.0)
    start = coarse[best_of(world, [projected_level(world, level) for level in coarse])]
    fine = np.round(2.0 * start) / 2.0 + np.arange(-1.5, 2.0, 0.5)
    return float(fine[best_of(world, [projected_level(world, level) for level in fine], _QUICK)])


def tuned_constant(world: Inventory) -> int:
    """The best quantity; below the mean, or stock would grow for ever."""
    most = min(world.params.max_order, max(0, int(np.ceil(float(np.max(world.params.mean)))) - 1))
    values = [exact.rule_value(world, constant_order(world, quantity)) for quantity in range(most + 1)]
    return int(np.argmax(values))


def _compositions(world: Inventory, level: int) -> float:
    return comb(level + world.params.lead_time - 1, world.params.lead_time - 1)


def _base_stock(world: World) -> Rule:
    known = _inventory(world)
    return base_stock(known, tuned_base_stock(known))


def _capped(world: World) -> Rule:
    known = _inventory(world)
    return base_stock(known, *tuned_capped(known))


def _myopic(world: World) -> Rule:
    return myopic(_inventory(world))


def _projected(world: World) -> Rule:
    known = _inventory(world)
    return projected_level(known, tuned_projected(known))


def _constant(world: World) -> Rule:
    known = _inventory(world)
    return constant_order(known, tuned_constant(known))


INVENTORY_RULES: Mapping[str, Callable[[World], Rule]] = {
    "capped-base-stock": _capped,
    "base-stock": _base_stock,
    "myopic-stock": _myopic,
    "projected-level": _projected,
    "constant-order": _constant,
}
