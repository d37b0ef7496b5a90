"""What a point's exploration costs and teaches, and what would not be known without it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from agents.policy import explore, sample_rows
from agents.watch import Expectations
from envs.dynamics import Array, World
from envs.information import Purchase, fisher, purchase, standard_errors, taught
from envs.likelihood import likelihood
from service.deciding.decide import Arm
from service.deciding.lessons import Lessons
from service.deciding.points import Point

DECISIONS = 1000
"""After so many decisions it is told how well the parameters will be known."""

_UNITS, _STEPS, _SAMPLED = 32, 200, 64


class Exploring(Struct, frozen=True):
    """What exploration costs, and what it buys.

    Attributes:
        share, over: As declared; `informative`: what `share` would cost otherwise is spent on what teaches most.
        cost: What it loses of the value of a decision, as a share; `None` where the world cannot be solved.
        errors: Parameter → standard error of its logarithm (its logit, for a probability) after 1,000 decisions;
            `None` where they tell nothing of it.
        without: The same without exploration.
        best: The same where the cost is spent on those states and actions that teach most for it; empty where there
            is no cost.
    """

    share: float
    over: str
    cost: float | None
    errors: dict[str, float | None]
    without: dict[str, float | None]
    best: dict[str, float | None] = {}


@dataclass(frozen=True)
class _Seen:
    """States that the policy comes to, with what it does there."""

    state: Array
    rows: NDArray[np.float32]
    masks: NDArray[np.bool_]
    policy: Array


@dataclass(frozen=True)
class _Explored:
    """What there is to tell, the states it is about, and what the cost buys at best."""

    told: Exploring
    seen: _Seen
    bought: Purchase | None = None


def exploring(point: Point, arm: Arm, believed: Mapping[str, float], seed: int = 0) -> Exploring | None:
    """What the point's exploration comes to under a policy and what is believed; `None` where nothing is estimated.

    The states are a sample of those that the policy comes to in the world as it is believed.
    """
    found = _explored(point, arm, believed, seed)
    return None if found is None else found.told


def lessons(point: Point, arm: Arm, believed: Mapping[str, float], seed: int = 0) -> Lessons | None:
    """What the point tries because it teaches most, at the cost of what it declares; `None` where that is nothing."""
    found = _explored(point, arm, believed, seed)
    if found is None or found.bought is None:
        return None
    return Lessons(found.seen.rows.astype(np.float64), found.bought.share, found.told.cost or 0.0, arm.name)


def _explored(point: Point, arm: Arm, believed: Mapping[str, float], seed: int) -> "_Explored | None":
    names = tuple(name for name in (point.spec.ranges or point.world.tunable) if name in point.world.tunable)
    if not names or point.factors > 1:
        return None
    world = point.world.with_params({name: believed[name] for name in names if name in believed})
    try:
        known = likelihood(world, names)
    except ValueError:
        # A world without a likelihood, or parameters that outcomes do not tell.
        return None
    declared = point.spec.exploration
    seen = _visited(world, arm, believed, seed)
    information = fisher(known, known.nominal, seen.rows)
    explored = explore(seen.policy, seen.masks, declared)
    lost = _lost(world, seen)
    found = Exploring(
        share=declared.share,
        over=declared.over,
        cost=None if lost is None else _cost(world, seen, explored, lost),
        errors=_named(known.columns, information, explored),
        without=_named(known.columns, information, seen.policy),
    )
    if lost is None or declared.share == 0:
        return _Explored(found, seen)
    bought = _bought(information, seen, explored, lost)
    best = bought.mixed(seen.policy)
    found = replace(found, best=_named(known.columns, information, best))
    if point.spec.informative:
        found = replace(found, over="informative", cost=_cost(world, seen, best, lost), errors=found.best)
    return _Explored(found, seen, bought)


def _visited(world: World, arm: Arm, believed: Mapping[str, float], seed: int) -> _Seen:
    rng = np.random.default_rng(seed)
    state, came = world.initial(_UNITS, rng), []
    for _ in range(world.horizon or _STEPS):
        came.append(state)
        rows, masks = world.observe(state), np.array(world.allowed(state))
        action = sample_rows(arm.probabilities(rows, masks, [believed] * len(rows)), rng.random(len(rows)))
        following, _, over = world.step(state, action, world.draw(len(rows), rng))
        state = np.where(over[:, None], world.initial(len(rows), rng), following)
    every = np.concatenate(came)
    chosen = every[rng.choice(len(every), min(_SAMPLED, len(every)), replace=False)]
    rows, masks = world.observe(chosen), np.array(world.allowed(chosen))
    return _Seen(chosen, rows, masks, np.array(arm.probabilities(rows, masks, [believed] * len(rows)), np.float64))


def _lost(world: World, seen: _Seen) -> Array | None:
    """(n, a) what each action loses against the best one in its state."""
    expected = Expectations.of(world)
    if expected is None:
        return None
    place = expected.places(seen.state)
    values = np.where(seen.masks, expected.action_values[place], -np.inf)
    lost = values.max(axis=1, keepdims=True) - values
    return np.where((place >= 0)[:, None] & seen.masks, lost, 0.0)


def _cost(world: World, seen: _Seen, explored: Array, lost: Array) -> float:
    """Value lost per decision, as a share of what the policy's decisions earn."""
    n, a = seen.policy.shape
    earned = world.expected_reward(np.repeat(seen.state, a, axis=0), np.tile(np.arange(a), n)).reshape(n, a)
    level = abs(float((seen.policy * np.where(seen.masks, earned, 0.0)).sum(axis=1).mean()))
    return float(((explored - seen.policy) * lost).sum(axis=1).mean()) / level if level > 0 else 0.0


def _bought(information: Array, seen: _Seen, explored: Array, lost: Array) -> Purchase:
    """What teaches most for what the declared exploration costs."""
    known = np.einsum("na,naij->ij", seen.policy, information)
    covariance = np.linalg.pinv(known + 1e-9 * np.eye(len(known)) * max(float(np.trace(known)), 1e-300))
    spent = float(((explored - seen.policy) * lost).sum(axis=1).mean())
    return purchase(seen.policy, seen.masks, taught(information, covariance), lost, max(spent, 0.0))


def _named(columns: tuple[str, ...], information: Array, probabilities: Array) -> dict[str, float | None]:
    errors = standard_errors(information, probabilities, DECISIONS)
    return {name: float(e) if np.isfinite(e) else None for name, e in zip(columns, errors.tolist(), strict=True)}
