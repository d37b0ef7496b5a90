"""Maintenance rules: limits on the level or the age, opportunistic limits, points, and Lagrangian benefits.

A rule ranks the components by level, then by wear, and services at most as many as there are crews. Its settings are
chosen by the exact value where the states can be listed, else by simulation on common random numbers.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from agents.policy import Array
from envs import exact, renewal
from envs.dynamics import World
from envs.lagrangian import best_charge, relaxed
from envs.maintenance import Maintenance
from envs.replacement import KEEP, REPLACE, Replacement

Rule = Callable[[Array], NDArray[np.int64]]
Members = Callable[[Array], NDArray[np.bool_]]

_EXACT_PAIRS = 300_000
_COPIES, _WARM_UP, _PERIODS, _SEED = 256, 60, 400, 2026


def worst_first(world: Maintenance, state: Array) -> Array:
    """Rank (n, N) of each component: 0 for the one with the highest level, of equals the one that wears fastest."""
    key = state + np.asarray(world.params.wear, np.float64) * 0.5
    return np.argsort(np.argsort(-key, axis=1, kind="stable"), axis=1, kind="stable").astype(np.float64)


def as_rule(world: Maintenance, members: Members) -> Rule:
    """Indices of the actions that service these components."""
    if world.params.choice == "worst":
        return lambda seen: members(seen).sum(axis=1)
    weights = 2.0 ** np.arange(world.params.components)
    codes = np.asarray(world.actions.values) @ weights
    order = np.argsort(codes)
    return lambda seen: order[np.searchsorted(codes, members(seen) @ weights, sorter=order)]


def cost_of(world: Maintenance, members: Members) -> float:
    """Average cost of a rule: exact where that is quick, else simulated, with the same chance for every rule."""
    rule = as_rule(world, members)
    p = world.params
    if (world.lumped or p.levels**p.components <= _EXACT_PAIRS) and len(world.grid()) * world.actions.n < _EXACT_PAIRS:
        table = np.eye(world.actions.n)[rule(world.grid())]
        return -exact.policy_value(world, table)
    rng = np.random.default_rng(_SEED)
    state, total = world.initial(_COPIES, rng), 0.0
    for period in range(_WARM_UP + _PERIODS):
        state, reward, _ = world.step(state, rule(state), world.draw(_COPIES, rng))
        total -= float(reward.mean()) * (period >= _WARM_UP)
    return total / _PERIODS


def control_limit(world: Maintenance, limit: float) -> Members:
    """Service whatever has reached a level, worst first, as far as the crews go."""
    return lambda seen: (seen >= limit) & (worst_first(world, seen) < world.params.crews)


def opportunistic(world: Maintenance, high: float, low: float) -> Members:
    """Where one component has reached `high`, service whatever has reached `low`, worst first."""

    def members(seen: Array) -> NDArray[np.bool_]:
        due = (seen >= high).any(axis=1, keepdims=True)
        return np.asarray(due & (seen >= low) & (worst_first(world, seen) < world.params.crews))

    return members


def points(world: Maintenance, scores: Array, threshold: float, low: float) -> Members:
    """Where the worst components' points exceed the threshold, service those of them that have reached `low`."""

    def members(seen: Array) -> NDArray[np.bool_]:
        worst = worst_first(world, seen) < world.params.crews
        total = np.where(worst, scores[seen.astype(int)], 0.0).sum(axis=1, keepdims=True)
        return np.asarray((total > threshold) & worst & (seen >= low))

    return members


def benefit_sum(world: Maintenance, charge: float) -> Members:
    """Service the components with the largest Lagrangian benefits if these, in sum, exceed the set-up cost."""
    benefits, crews = relaxed(world, charge).benefits, world.params.crews
    each = np.arange(world.params.components)

    def members(seen: Array) -> NDArray[np.bool_]:
        benefit = benefits[each, seen.astype(int)]
        rank = np.argsort(np.argsort(-benefit, axis=1, kind="stable"), axis=1, kind="stable")
        chosen = (rank < crews) & (benefit > 0)
        worth = np.where(chosen, benefit, 0.0).sum(axis=1, keepdims=True)
        return np.asarray(chosen & (worth > float(world.params.setup_cost)))

    return members


def best_of(world: Maintenance, candidates: Iterable[Members]) -> Members:
    """The cheapest of some rules."""
    return min(candidates, key=lambda members: cost_of(world, members))


def _maintenance(world: World) -> Maintenance:
    if not isinstance(world, Maintenance):
        raise ValueError(f"a maintenance rule needs a maintenance world, not {world.id}")
    return world


def _corrective(world: World) -> Rule:
    known = _maintenance(world)
    return as_rule(known, control_limit(known, known.params.levels - 1))


def _best_limit(world: World) -> Rule:
    known = _maintenance(world)
    limits = range(1, known.params.levels)
    return as_rule(known, best_of(known, (control_limit(known, limit) for limit in limits)))


def _best_opportunistic(world: World) -> Rule:
    known = _maintenance(world)
    pairs = ((high, low) for high, low in product(range(1, known.params.levels), repeat=2) if low <= high)
    return as_rule(known, best_of(known, (opportunistic(known, high, low) for high, low in pairs)))


def _best_points(world: World) -> Rule:
    """1, 2, 5 and 99 points for the four highest levels."""
    known = _maintenance(world)
    levels = known.params.levels
    scores = np.zeros(levels)
    scores[-4:] = (1.0, 2.0, 5.0, 99.0)[-min(levels, 4) :]
    lows = range(max(1, levels - 4), max(2, levels - 2))
    thresholds = np.arange(0.5, 3.5 * known.params.crews, 1.0)
    grid = product(thresholds, lows)
    return as_rule(known, best_of(known, (points(known, scores, threshold, low) for threshold, low in grid)))


def _best_benefit(world: World) -> Rule:
    known = _maintenance(world)
    share = float(known.params.setup_cost) / known.params.crews
    charges = {best_charge(known).charge, *(share * part for part in (0.0, 0.25, 0.5, 0.75, 1.0, 1.25))}
    return as_rule(known, best_of(known, (benefit_sum(known, charge) for charge in sorted(charges))))


def _replacement(world: World) -> Replacement:
    if not isinstance(world, Replacement):
        raise ValueError(f"a replacement rule needs a replacement world, not {world.id}")
    return world


def _best_age(world: World) -> Rule:
    known = _replacement(world)
    age = 1 + int(np.argmin(renewal.age_costs(known)))
    return lambda seen: np.where(seen[:, 0] >= age, REPLACE, KEEP)


def _until_failure(world: World) -> Rule:
    _replacement(world)
    return lambda seen: np.full(len(seen), KEEP)


MAINTENANCE_RULES: Mapping[str, Callable[[World], Rule]] = {
    "opportunistic": _best_opportunistic,
    "run-to-failure": _corrective,
    "control-limit": _best_limit,
    "points-rule": _best_points,
    "lagrangian-index": _best_benefit,
}

REPLACEMENT_RULES: Mapping[str, Callable[[World], Rule]] = {"age": _best_age, "run-to-failure": _until_failure}
