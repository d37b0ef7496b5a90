"""A world written out: every state, every action, every consequence, as sparse arrays."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from envs.dynamics import Array, Enumerable, Mask, State

MAX_CONSEQUENCES = 60_000_000
"""How many (state, action, consequence) triples of one period are written out at most."""

MAX_STATES = 4_000_000
"""How many states are listed at most, over all periods."""

_CHUNK = 400_000


class StateSpaceTooLarge(ValueError):  # noqa: N818
    """The world has too many states to be solved exactly; the message says how many and what to use instead."""


@dataclass(frozen=True, eq=False)
class Tabulation:
    """One period of a world written out.

    Args:
        states: (m, s).
        allowed: (m, a).
        reward: (m, a) expected reward.
        kernel: (p, m') probabilities of the states of the next period that are not terminal, after each of p situations
            that an action can lead to. Rows sum to less than 1 where the episode can end.
        after: (m, a) the row of `kernel` to which a state comes by an action.
    """

    states: State
    allowed: Mask
    reward: Array
    kernel: sparse.csr_array
    after: NDArray[np.int64]

    def values(self, following: Array, discount: float = 1.0) -> Array:
        """Action values (m, a) given the values (m',) of what follows; -inf where not allowed."""
        ahead = (self.kernel @ following)[self.after]
        return np.where(self.allowed, self.reward + discount * ahead, -np.inf)

    def under(self, probabilities: Array) -> tuple[Array, sparse.csr_array]:
        """Reward (m,) and transition (m, m') of a policy that is given as probabilities (m, a)."""
        m, a = self.reward.shape
        rows = np.repeat(np.arange(m), a)
        mix = sparse.csr_array((probabilities.ravel(), (rows, self.after.ravel())), shape=(m, self.kernel.shape[0]))
        mix.eliminate_zeros()
        reward = np.where(probabilities > 0, self.reward, 0.0)
        return (probabilities * reward).sum(axis=1), sparse.csr_array(mix @ self.kernel)


def tabulate(world: Enumerable, period: int = 0) -> Tabulation:
    """One period of a world written out: states, expected rewards and transition probabilities.

    A world that knows a shorter way offers `tabulation(period)`.

    Raises:
        StateSpaceTooLarge: too much to write down.
    """
    shorter = getattr(world, "tabulation", None)
    if shorter is not None:
        known: Tabulation = shorter(period)
        return known
    states = world.grid(period)
    allowed = np.array(world.allowed(states))
    m, a = allowed.shape
    index, action = np.divmod(np.arange(m * a), a)
    blocks, rewards = [], []
    for rows in _chunks(world, states, m * a):
        branches = world.branches(states[index[rows]], action[rows])
        q, b = branches.probability.shape
        place = world.place(branches.state.reshape(q * b, -1))
        weight = np.where(branches.terminated, 0.0, branches.probability).ravel()
        kept = weight > 0
        where = np.repeat(np.arange(q), b)
        entries = (weight[kept], (where[kept], place[kept]))
        blocks.append(sparse.csr_array(entries, shape=(q, len(world.grid(period + 1)))))
        rewards.append((branches.probability * branches.reward).sum(axis=1))
    kernel = sparse.csr_array(sparse.vstack(blocks, format="csr"))
    return Tabulation(states, allowed, np.concatenate(rewards).reshape(m, a), kernel, np.arange(m * a).reshape(m, a))


def _chunks(world: Enumerable, states: State, pairs: int) -> Iterator[NDArray[np.int64]]:
    width = world.branches(states[:1], np.zeros(1, np.int64)).probability.shape[1]
    if pairs * width > MAX_CONSEQUENCES:
        raise StateSpaceTooLarge(
            f"{world.id} has {len(states):,} states with {pairs // len(states):,} actions and {width} consequences "
            f"each in one period, {pairs * width:,} triples where {MAX_CONSEQUENCES:,} are allowed: "
            f"use a smaller instance, `exact.bound`, or simulation"
        )
    size = max(1, _CHUNK // width)
    for start in range(0, pairs, size):
        yield np.arange(start, min(start + size, pairs))


def all_states(world: Enumerable) -> State:
    """Every state (S, s), period after period where the horizon is finite.

    Raises:
        StateSpaceTooLarge: more than can be listed.
    """
    require_listable(world)
    return np.concatenate([world.grid(period) for period in range(world.horizon or 1)])


def require_listable(world: Enumerable) -> None:
    """Refuse a world whose states over all periods are too many to list, before any work is done on them.

    A world whose one period can already be too large for memory offers `grid_size()`, which counts without listing.

    Raises:
        StateSpaceTooLarge: more than can be listed.
    """
    counted = getattr(world, "grid_size", None)
    size = (counted() if counted else len(world.grid(0))) * (world.horizon or 1)
    if world.horizon is not None and size > MAX_STATES:
        raise StateSpaceTooLarge(
            f"{world.id} has {size:,} states, at most {MAX_STATES:,} are listed: use a smaller instance or simulation"
        )
