"""What a policy is worth in a world: exactly where the states can be listed, else by simulation on common chance."""

from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from agents.policy import Array, Policy, sample_rows
from agents.ranges import in_world
from envs import exact
from envs.dynamics import Enumerable, State, World
from envs.tabulate import StateSpaceTooLarge

WARM_UP = 200
PERIODS = 1000
# More rows than this at once would not fit the processor's cache, and be slower.
BATCH = 4096
# Larger tables are exact too, but slower than the simulation that is precise enough.
MAX_PAIRS = 4_000_000
# Consequences of one period that a rule's exact value may have to hold at once.
MAX_REACHED = 2_000_000


@dataclass(frozen=True)
class Evaluation:
    """The value of a policy, higher being better (a cost is a negative value).

    Args:
        value: expected return of an episode, or average reward per period where the world never ends.
        interval: 95 % interval of the value; both ends equal the value where it is exact.
        method: `exact` or `simulation`.
        episodes: simulated episodes (0 where exact).
        seed: of the simulation; equal seeds use the same chance and so can be compared pair by pair.
        returns: (episodes,) what each simulated episode gave.
    """

    value: float
    interval: tuple[float, float]
    method: Literal["exact", "simulation"]
    episodes: int = 0
    seed: int | None = None
    returns: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)

    def summary(self) -> dict[str, Any]:
        """Everything but the single returns, ready for JSON."""
        names = ("value", "interval", "method", "episodes", "seed")
        return {name: getattr(self, name) for name in names}


def evaluate(policy: Policy, world: World, episodes: int = 2000, seed: int = 0) -> Evaluation:
    """The value of a policy in a world; a policy that takes parameters is told the world's own.

    Exact where the world's states can be listed, and then `episodes` and `seed` are not used.
    """
    found = evaluate_exactly(policy, world)
    return found if found is not None else simulate(policy, world, episodes, seed)


def evaluate_exactly(policy: Policy, world: World) -> Evaluation | None:
    """The exact value, or None where it is out of reach.

    From a table of all states where these can be listed; else, of a policy that takes no chances in a world without
    end, from the states that it reaches.
    """
    table = tabulated(policy, world)
    if table is None:
        value = _value_where_it_goes(policy, world)
        return None if value is None else Evaluation(value, (value, value), "exact")
    try:
        value = exact.policy_value(world, table)
    except StateSpaceTooLarge:
        return None
    return Evaluation(value, (value, value), "exact")


def _value_where_it_goes(policy: Policy, world: World) -> float | None:
    """The exact value on the states that a policy reaches, or None where that is out of reach."""
    if world.horizon is not None or len(world.actions.nvec) != 1 or not hasattr(world, "branches"):
        return None
    known, served = cast(Enumerable, world), in_world(policy, world)
    start, branches = world.initial(1, np.random.default_rng(0)), 1

    def rule(state: State) -> NDArray[np.int64]:
        p = served.probabilities(world.observe(state), np.array(world.allowed(state)))
        if p.max(axis=1).min() < 1:
            raise ValueError(f"{policy.kind} takes chances: it is no rule")
        if len(state) * branches > MAX_REACHED:
            raise StateSpaceTooLarge(f"{policy.kind} reaches too many states")
        return np.asarray(p.argmax(axis=1), np.int64)

    try:
        branches = known.branches(start, rule(start)).probability.shape[1]
        return exact.rule_value(world, rule)
    except ValueError:
        return None


def tabulated(policy: Policy, world: World) -> Array | None:
    """Probabilities (S, a) in the order of `envs.exact.states`, or None where there are too many."""
    if not world.actions.nvec or not hasattr(world, "branches"):
        return None
    try:
        states = exact.states(world)
    except StateSpaceTooLarge:
        return None
    if len(states) * sum(world.actions.nvec) > MAX_PAIRS:
        return None
    return in_world(policy, world).probabilities(world.observe(states), np.array(world.allowed(states)))


def simulate(policy: Policy, world: World, episodes: int = 2000, seed: int = 0, periods: int = PERIODS) -> Evaluation:
    """The value by simulation.

    Chance is drawn for every row in every period, ended or not, and the draws of actions come from another stream:
    equal seeds give any two policies the same customers, failures and demands.

    Args:
        periods: counted periods of an unending world, after a warm-up of 200.
    """
    if episodes < 2:
        raise ValueError(f"{episodes} episodes have no interval: give at least 2")
    served = in_world(policy, world)
    parts = [
        _batch(served, world, min(BATCH, episodes - start), [seed, start], periods)
        for start in range(0, episodes, BATCH)
    ]
    returns = np.concatenate(parts)
    value = float(returns.mean())
    half = NormalDist().inv_cdf(0.975) * float(returns.std(ddof=1)) / len(returns) ** 0.5
    return Evaluation(value, (value - half, value + half), "simulation", len(returns), seed, returns)


def _sampled(probabilities: Array, nvec: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int64]:
    """Actions (n,), or (n, factors) where an action is a product of choices, each drawn by itself."""
    factors = np.split(probabilities, np.cumsum(nvec)[:-1], axis=1)
    picks = [sample_rows(factor, rng.random(len(factor))) for factor in factors]
    return picks[0] if len(picks) == 1 else np.stack(picks, axis=1)


def _batch(policy: Policy, world: World, n: int, seed: list[int], periods: int) -> Array:
    chance_rng, action_rng = (np.random.default_rng([*seed, stream]) for stream in (0, 1))
    state = world.initial(n, chance_rng)
    total, running = np.zeros(n), np.ones(n, bool)
    warm_up, length = (0, world.horizon) if world.horizon is not None else (WARM_UP, WARM_UP + periods)
    for period in range(length):
        probabilities = policy.probabilities(world.observe(state), np.array(world.allowed(state)))
        action = _sampled(probabilities, world.actions.nvec, action_rng)
        following, reward, terminated = world.step(state, action, world.draw(n, chance_rng))
        if period >= warm_up:
            total += np.where(running, reward, 0.0)
        state = np.where(running[:, None], following, state)
        running &= ~terminated
        if not running.any():
            break
    return total if world.horizon is not None else total / periods
