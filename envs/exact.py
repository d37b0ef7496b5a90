"""Exact answers: the optimum of a world, and the exact value of any given policy.

Backward induction where the horizon is finite, relative value iteration (White 1963; Puterman 1994, section 8.5) where
the average reward counts, discounted value iteration with MacQueen's bounds on request. Where the optimum is out of
reach, a proven bound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from envs import lost_sales, network
from envs.continuum import solve_continuum, value_of_prices
from envs.dynamics import Action, Array, Enumerable, State, World
from envs.fluid import fluid_bound
from envs.inventory import Inventory
from envs.lagrangian import cost_bound
from envs.maintenance import Maintenance
from envs.pricing import Pricing
from envs.pricing_network import PricingNetwork
from envs.tabulate import StateSpaceTooLarge, all_states, require_listable, tabulate

TOLERANCE = 1e-12
"""Relative span at which an iteration has converged."""

MAX_ITERATIONS = 200_000

MAX_REACHED = 400_000
"""How many states a rule may reach at most when its value is computed exactly."""

Rule = Callable[[State], Action]
"""States (n, s) → one action for each."""


@dataclass(frozen=True, eq=False)
class Solution:
    """The optimum of a world.

    Args:
        value: expected return of an episode from the start; average reward per period where the world never ends.
        method: how it was found, in words.
        actions: (S,) index of the best action in each state of `states(world)`; (S,) prices where any price is allowed,
            (S, factors) where an action has several factors.
        values: (S,) value of each state; relative to the start where the average reward counts.
        states: (S, s).
        n: number of actions, 0 for a continuum.
    """

    value: float
    method: str
    actions: NDArray[np.int64] | Array
    values: Array
    states: State
    n: int

    @cached_property
    def policy(self) -> Array:
        """The optimal policy as probabilities (S, a), all on one action.

        Raises:
            ValueError: the actions are no single list.
        """
        if self.actions.ndim != 1 or self.n == 0:
            raise ValueError("the optimum of this world is no table over a single list of actions: use `actions`")
        return np.asarray(np.arange(self.n) == self.actions[:, None], np.float64)


def states(world: World) -> State:
    """All states (S, s) in the order of `Solution.actions` and of the probabilities that `policy_value` takes.

    Raises:
        StateSpaceTooLarge: more than can be listed.
    """
    return all_states(_enumerable(world))


def solve(world: World, discount: float | None = None) -> Solution:
    """The optimum of a world.

    Args:
        world: with the same parameters in all rows.
        discount: `None` for the world's own criterion; otherwise the optimum of the discounted return from the start
            of a world without horizon.

    Raises:
        StateSpaceTooLarge: no exact answer within reach.
        ValueError: a discount where there is a horizon, or outside (0, 1).
    """
    if discount is not None and (world.horizon is not None or not 0 < discount < 1):
        raise ValueError(f"discount {discount} is for worlds without horizon, and lies between 0 and 1: leave it out")
    known = _enumerable(world)
    if isinstance(world, PricingNetwork):
        value, best, values = network.optimum(world)
        actions = best if not world.actions.nvec else best.astype(np.int64)
        return Solution(value, "backward induction, product by product", actions, values, states(world), 0)
    if known.horizon is not None:
        require_listable(known)
    if isinstance(world, Pricing) and not world.actions.nvec:
        value, prices, values = solve_continuum(world)
        return Solution(value, "backward induction, continuous price", prices, values, states(world), 0)
    if isinstance(world, Inventory) and discount is None:
        return _lost_sales(world)
    if known.horizon is not None:
        return _backward(known)
    return _discounted(known, discount) if discount is not None else _average(known)


def policy_value(world: World, probabilities: Array, discount: float | None = None) -> float:
    """The exact value of a policy: expected return of an episode, or average reward per period.

    Args:
        world: with the same parameters in all rows.
        probabilities: (S, a) for the states in the order of `states(world)`, factor after factor where an action has
            several; (S,) prices where any price is allowed.
        discount: as in `solve`.

    Raises:
        ValueError: probabilities of another shape, rows that do not sum to 1, mass where an action is not allowed, or
            an average reward that depends on chance for ever (several recurrent classes).
        StateSpaceTooLarge: no exact answer within reach.
    """
    known = _enumerable(world)
    if isinstance(world, Pricing) and not world.actions.nvec:
        return value_of_prices(world, np.asarray(probabilities, np.float64))
    table = _checked(known, np.asarray(probabilities, np.float64))
    if isinstance(world, PricingNetwork):
        return network.policy_value(world, table)
    if known.horizon is not None:
        return _evaluate_backward(known, table)
    if isinstance(world, Inventory) and discount is None:
        return lost_sales.policy_value(world, table)
    tabulation = tabulate(known)
    reward, transition = tabulation.under(table)
    start = _start(known)
    if discount is not None:
        identity = sparse.eye_array(len(reward), format="csc")
        values = sparse.linalg.spsolve(sparse.csc_array(identity - discount * transition), reward)
        return float(values[start])
    return _gain(reward, transition, start)


def rule_value(world: World, rule: Rule) -> float:
    """The exact average reward of a rule, on the states that it reaches from the start, however many others there are.

    Raises:
        StateSpaceTooLarge: the rule reaches too many states.
        ValueError: a world with a horizon, or an average that depends on which states are reached first.
    """
    known = _enumerable(world)
    if known.horizon is not None:
        raise ValueError(f"{world.id} has a horizon: give `policy_value` the rule's table over `states`")
    frontier = known.initial(1, np.random.default_rng(0))
    codes = known.place(frontier)
    rows, columns, weights, rewards = [], [], [], []
    seen = codes
    while len(frontier):
        branches = known.branches(frontier, rule(frontier))
        q, b = branches.probability.shape
        following = branches.state.reshape(q * b, -1)
        kept = branches.probability.ravel() > 0
        target = known.place(following)
        rows.append(np.repeat(codes, b)[kept])
        columns.append(target[kept])
        weights.append(branches.probability.ravel()[kept])
        rewards.append((branches.probability * branches.reward).sum(axis=1))
        fresh, first = np.unique(target[kept], return_index=True)
        new = ~np.isin(fresh, seen)
        frontier, codes = following[kept][first[new]], fresh[new]
        seen = np.concatenate([seen, codes])
        if len(seen) > MAX_REACHED:
            raise StateSpaceTooLarge(f"the rule reaches more than {MAX_REACHED:,} states: simulate it")
    order = np.argsort(seen)
    locate = [order[np.searchsorted(seen, np.concatenate(part), sorter=order)] for part in (rows, columns)]
    kernel = sparse.csr_array((np.concatenate(weights), tuple(locate)), shape=(len(seen), len(seen)))
    return _gain(np.concatenate(rewards), kernel, 0)


def bound(world: World) -> tuple[float, str]:
    """A proven upper bound of the optimal value (of rewards: costs are negative), and how it was found.

    Raises:
        ValueError: a world for which none is known; `solve` is then the way.
    """
    if isinstance(world, Pricing):
        return fluid_bound(world), "fluid model, Gallego and van Ryzin (1994)"
    if isinstance(world, PricingNetwork):
        return network.decomposition(world).bound, "decomposition by legs, Talluri and van Ryzin (2004)"
    if isinstance(world, Maintenance):
        return -cost_bound(world), "Lagrangian relaxation, component by component"
    raise ValueError(f"no bound is known for {world.id}: use `solve`")


def _lost_sales(world: Inventory) -> Solution:
    found = lost_sales.optimum(world)
    listed = world.grid() if len(found.orders) else np.zeros((0, world.params.lead_time))
    method = f"relative value iteration on {found.states:,} states within Zipkin's bounds"
    return Solution(-found.cost, method, found.orders, found.values, listed, world.actions.n)


def _enumerable(world: World) -> Enumerable:
    if not hasattr(world, "branches"):
        raise ValueError(f"{world.id} cannot be enumerated: give it `grid`, `place` and `branches`, or simulate it")
    return world  # type: ignore[return-value]


def _checked(world: Enumerable, probabilities: Array) -> Array:
    listed = states(world)
    expected = (len(listed), sum(world.actions.nvec))
    if probabilities.shape != expected:
        raise ValueError(
            f"a policy of {world.id} is probabilities {expected} in the order of `states`, not {probabilities.shape}"
        )
    for factor in np.split(probabilities, np.cumsum(world.actions.nvec)[:-1], axis=1):
        if not np.allclose(factor.sum(axis=1), 1.0, atol=1e-6) or factor.min() < 0:
            row = int(np.argmax(np.abs(factor.sum(axis=1) - 1.0)))
            raise ValueError(f"row {row} of the policy sums to {factor[row].sum():.6g}: probabilities sum to 1")
    if (probabilities[~world.allowed(listed)] > 0).any():
        raise ValueError("the policy puts probability on an action that is not allowed there: mask it first")
    return probabilities


def _start(world: Enumerable) -> int:
    return int(world.place(world.initial(1, np.random.default_rng(0)))[0])


def _backward(world: Enumerable) -> Solution:
    horizon = world.horizon or 0
    last = tabulate(world, horizon - 1)
    value = np.zeros(last.kernel.shape[1])
    inner = tabulate(world) if world.stationary and horizon > 1 else None
    actions, values = [], []
    for period in reversed(range(horizon)):
        stage = last if period == horizon - 1 else inner or tabulate(world, period)
        q = stage.values(value)
        value = q.max(axis=1)
        actions.append(q.argmax(axis=1))
        values.append(value)
    every = np.concatenate(actions[::-1])
    start = float(value[_start(world)])
    return Solution(start, "backward induction", every, np.concatenate(values[::-1]), states(world), world.actions.n)


def _evaluate_backward(world: Enumerable, probabilities: Array) -> float:
    horizon = world.horizon or 0
    last = tabulate(world, horizon - 1)
    value = np.zeros(last.kernel.shape[1])
    inner = tabulate(world) if world.stationary and horizon > 1 else None
    size = len(last.states)
    for period in reversed(range(horizon)):
        stage = last if period == horizon - 1 else inner or tabulate(world, period)
        rows = probabilities[period * size : (period + 1) * size]
        q = np.where(rows > 0, stage.values(value), 0.0)
        value = (rows * q).sum(axis=1)
    return float(value[_start(world)])


def _average(world: Enumerable) -> Solution:
    table = tabulate(world)
    start = _start(world)
    value = np.zeros(len(table.states))
    for _ in range(MAX_ITERATIONS):
        # A lazy step (half of the time nothing happens) would be safe for periodic chains; .9 is, and costs less.
        updated = 0.9 * table.values(value).max(axis=1) + 0.1 * value
        change = updated - value
        value = updated - updated[start]
        if np.ptp(change) <= TOLERANCE * max(1.0, float(np.abs(change).max())):
            gain = float(change.max() + change.min()) / 2.0 / 0.9
            best = table.values(value).argmax(axis=1)
            return Solution(gain, "relative value iteration", best, value, table.states, world.actions.n)
    raise ValueError(f"relative value iteration of {world.id} has not converged: its best average depends on the start")


def _discounted(world: Enumerable, discount: float) -> Solution:
    table = tabulate(world)
    value = np.zeros(len(table.states))
    for _ in range(MAX_ITERATIONS):
        updated = table.values(value, discount).max(axis=1)
        change = updated - value
        value = updated
        if np.ptp(change) * discount / (1 - discount) <= TOLERANCE * max(1.0, float(np.abs(value).max())):
            break
    # MacQueen: what is still to come lies between the extremes of the last change.
    value = value + discount / (1 - discount) * (change.max() + change.min()) / 2.0
    best = table.values(value, discount).argmax(axis=1)
    found = float(value[_start(world)])
    return Solution(found, f"value iteration, discount {discount:g}", best, value, table.states, world.actions.n)


def _gain(reward: Array, transition: sparse.csr_array, start: int) -> float:
    """Average reward of a Markov chain, by iterating on the states that can be reached from the start."""
    order = sparse.csgraph.breadth_first_order(transition, start, return_predecessors=False)
    reward, kernel = reward[order], sparse.csr_array(transition[order][:, order])
    value = np.zeros(len(reward))
    for _ in range(MAX_ITERATIONS):
        change = 0.9 * (reward + kernel @ value - value)
        value = value + change
        value -= value[0]
        if np.ptp(change) <= TOLERANCE * max(1.0, float(np.abs(change).max())):
            return float(change.max() + change.min()) / 2.0 / 0.9
    raise ValueError(
        "the average reward has not settled: under this policy it depends on which states are reached first"
    )
