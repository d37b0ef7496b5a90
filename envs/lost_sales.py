"""The optimum of a lost-sales system: relative value iteration on exactly the states that an optimal policy can visit.

Demand touches the stock on hand alone, so one sweep is a product of the values (pipelines, on hand) with one small
matrix for each quantity that can arrive. Zipkin's bounds keep the pipelines few.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.dynamics import Array
from envs.inventory import Inventory
from envs.tabulate import StateSpaceTooLarge

_TOLERANCE = 1e-11
_MAX_SWEEPS = 20_000
_MAX_WORK = 2_000_000_000
"""Multiplications of one sweep, at most: about a second."""


@dataclass(frozen=True, eq=False)
class LostSalesOptimum:
    """The optimum of a lost-sales system.

    Args:
        cost: average cost per period.
        states: number of states of the iteration.
        orders: (S,) best order in the states of `Inventory.grid`; 0 where an optimal policy never comes.
        values: (S,) relative values (of rewards), `nan` where an optimal policy never comes.
    """

    cost: float
    states: int
    orders: NDArray[np.int64]
    values: Array


@dataclass(frozen=True, eq=False)
class _Pipelines:
    """Pipelines (r, L - 1) within the bounds, and where an order leads: index (r, z), -1 where it is out of bounds."""

    listed: NDArray[np.int64]
    following: NDArray[np.int64]
    arriving: NDArray[np.int64]
    total: NDArray[np.int64]


def optimum(world: Inventory) -> LostSalesOptimum:
    """The optimum of the average cost.

    Raises:
        StateSpaceTooLarge: too many pipelines; the message says how many.
    """
    params = world.params
    most = min(params.newsvendor(params.lead_time + 1), params.capacity)
    if params.lead_time == 1:
        return _without_pipeline(world, most)
    pipelines = _pipelines(world)
    work = (pipelines.arriving.max() + 1) * len(pipelines.listed) * (most + 1) ** 2
    if work > _MAX_WORK:
        raise _too_large(world, len(pipelines.listed) * (most + 1))
    reward, kernels = _reward(world, most), _kernels(world, most, int(pipelines.arriving.max()))
    value = np.zeros((len(pipelines.listed), most + 1))
    for _ in range(_MAX_SWEEPS):
        updated, order = _sweep(value, reward, kernels, pipelines, most)
        change = updated - value
        value = updated - updated[0, 0]
        if np.ptp(change) <= _TOLERANCE * max(1.0, float(np.abs(change).max())):
            return _spread(world, pipelines, -float(change.max() + change.min()) / 2.0, order, value)
    raise ValueError(f"value iteration has not converged in {_MAX_SWEEPS} sweeps: use a smaller lead time or penalty")


def _too_large(world: Inventory, states: int) -> StateSpaceTooLarge:
    return StateSpaceTooLarge(
        f"inventory with lead time {world.params.lead_time} has {states:,} states within Zipkin's bounds, too many to "
        f"be swept: use a shorter lead time, a smaller max_order, or simulate the rule capped-base-stock"
    )


def _pipelines(world: Inventory) -> _Pipelines:
    """All pipelines whose last j orders sum to at most the newsvendor level of j periods, for every j."""
    params = world.params
    largest = min(params.max_order, params.newsvendor(1))
    if (largest + 1) ** (params.lead_time - 1) > 5_000_000:
        raise _too_large(world, (largest + 1) ** (params.lead_time - 1))
    axes = np.meshgrid(*[np.arange(largest + 1)] * (params.lead_time - 1), indexing="ij")
    listed = np.stack([axis.ravel() for axis in axes], axis=1)
    limits = [params.newsvendor(j) for j in range(1, params.lead_time + 1)]
    sums = np.cumsum(listed[:, ::-1], axis=1)
    listed = listed[(sums <= limits[:-1]).all(axis=1)]
    radix = (largest + 1) ** np.arange(params.lead_time - 2, -1, -1)
    index = np.full((largest + 1) ** (params.lead_time - 1), -1)
    index[listed @ radix] = np.arange(len(listed))
    orders = np.arange(largest + 1)
    shifted = (listed[:, 1:] @ radix[:-1])[:, None] + orders
    total = listed.sum(axis=1)
    # An order must also keep the whole lead time's orders within their bound.
    following = np.where(total[:, None] + orders <= limits[-1], index[shifted], -1)
    return _Pipelines(listed, following, listed[:, 0], total)


def _reward(world: Inventory, most: int) -> Array:
    state = np.zeros((most + 1, world.params.lead_time))
    state[:, 0] = np.arange(most + 1)
    return world.expected_reward(state, np.zeros(most + 1))


def _left(world: Inventory, most: int) -> Array:
    """P((x - D)^+ = y), (x, y)."""
    x, y = np.arange(most + 1)[:, None], np.arange(most + 1)
    pmf = np.append(world.params.demand_pmf(), np.zeros(most + 1))
    sold = np.clip(x - y, 0, most)
    return np.where((y <= x) & (y > 0), pmf[sold], np.where(y == 0, world.reach(x.astype(float)), 0.0))


def _kernels(world: Inventory, most: int, largest: int) -> Array:
    """(q, y', x): probability of y' on hand after x, when q arrive."""
    left = _left(world, most)
    kernels = np.zeros((largest + 1, most + 1, most + 1))
    for arriving in range(largest + 1):
        target = np.minimum(np.arange(most + 1) + arriving, most)
        np.add.at(kernels[arriving], target, left.T)
    return kernels


def _sweep(
    value: Array, reward: Array, kernels: Array, pipelines: _Pipelines, most: int
) -> tuple[Array, NDArray[np.int64]]:
    updated = np.empty_like(value)
    order = np.empty(value.shape, np.int64)
    room = most - np.arange(most + 1)
    for arriving in range(len(kernels)):
        rows = np.flatnonzero(pipelines.arriving == arriving)
        ahead = value @ kernels[arriving]
        best, choice = ahead[pipelines.following[rows, 0]], np.zeros((len(rows), most + 1), np.int64)
        for quantity in range(1, pipelines.following.shape[1]):
            target = pipelines.following[rows, quantity]
            # The position never rises above its bound.
            fits = (target >= 0)[:, None] & (pipelines.total[rows, None] + quantity <= room)
            worth = np.where(fits, ahead[target], -np.inf)
            better = worth > best
            best, choice = np.where(better, worth, best), np.where(better, quantity, choice)
        updated[rows], order[rows] = best + reward, choice
    return updated, order


def _without_pipeline(world: Inventory, most: int) -> LostSalesOptimum:
    """Lead time 1: what is ordered now is there next period, whatever is sold."""
    reward, left = _reward(world, most), _left(world, most)
    largest = min(world.params.max_order, most)
    target = np.arange(most + 1)[:, None] + np.arange(largest + 1)
    value = np.zeros(most + 1)
    for _ in range(_MAX_SWEEPS):
        ahead = left @ value[np.minimum(target, most)]
        ahead[target > most] = -np.inf
        updated = reward + ahead.max(axis=1)
        change = updated - value
        value = updated - updated[0]
        if np.ptp(change) <= _TOLERANCE * max(1.0, float(np.abs(change).max())):
            break
    orders = np.zeros(world.params.capacity + 1, np.int64)
    orders[: most + 1] = ahead.argmax(axis=1)
    values = np.full(world.params.capacity + 1, np.nan)
    values[: most + 1] = value
    return LostSalesOptimum(-float(change.max() + change.min()) / 2.0, most + 1, orders, values)


def _spread(
    world: Inventory, pipelines: _Pipelines, cost: float, order: NDArray[np.int64], value: Array
) -> LostSalesOptimum:
    """Orders and values at their places in the whole grid, where that is small enough to be listed."""
    most = value.shape[1] - 1
    size = (world.params.max_order + 1) ** (world.params.lead_time - 1) * (world.params.capacity + 1)
    if size > 20_000_000:
        return LostSalesOptimum(cost, value.size, np.zeros(0, np.int64), np.zeros(0))
    states = np.empty((value.size, world.params.lead_time))
    states[:, 0] = np.tile(np.arange(most + 1), len(pipelines.listed))
    states[:, 1:] = np.repeat(pipelines.listed, most + 1, axis=0)
    orders, values = np.zeros(size, np.int64), np.full(size, np.nan)
    place = world.place(states)
    orders[place], values[place] = order.ravel(), value.ravel()
    return LostSalesOptimum(cost, value.size, orders, values)


def policy_value(world: Inventory, probabilities: Array) -> float:
    """Average reward of a policy that is given as probabilities (S, a) in the order of `Inventory.grid`.

    Raises:
        StateSpaceTooLarge: too many pipelines to be swept.
        ValueError: an average that has not settled.
    """
    params = world.params
    most, orders = params.capacity, params.max_order + 1
    rows = orders ** (params.lead_time - 1)
    if orders * rows * (most + 1) ** 2 > _MAX_WORK:
        raise _too_large(world, rows * (most + 1))
    reward, kernels = _reward(world, most), _kernels(world, most, params.max_order)
    table = probabilities.reshape(rows, most + 1, orders)
    value = np.zeros((rows, most + 1))
    for _ in range(_MAX_SWEEPS):
        change = _under(value, table, kernels, params.lead_time == 1) + reward - value
        value = value + change
        value -= value[0, 0]
        if np.ptp(change) <= _TOLERANCE * max(1.0, float(np.abs(change).max())):
            return float(change.max() + change.min()) / 2.0
    raise ValueError(
        "the average reward has not settled: under this policy it depends on which states are reached first"
    )


def _under(value: Array, table: Array, kernels: Array, arrives_at_once: bool) -> Array:
    """Mean value (r, x) of what follows under a policy."""
    rows, _, orders = table.shape
    if arrives_at_once:
        return np.asarray(sum(table[:, :, z] * (value @ kernels[z]) for z in range(orders)))
    ahead = np.zeros_like(value)
    block = rows // orders
    for arriving in range(orders):
        these = slice(arriving * block, (arriving + 1) * block)
        # The pipeline loses its first order and gains the new one: (q_1, rest) becomes (rest, z).
        following = (value @ kernels[arriving]).reshape(block, orders, -1)
        ahead[these] = np.einsum("rxz,rzx->rx", table[these], following)
    return ahead
