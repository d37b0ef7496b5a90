"""Potentials: training rewards with less noise and less delay, and the same optimal policies.

Ng, Harada and Russell (1999), theorem 1: adding γ Φ(s') − Φ(s) changes no optimal policy. E Φ(s') is known, so that a
decision is charged at once for what it does to every component, or to every leg. Undiscounted, the shaped rewards of an
episode add up to its return less Φ at the start, with far less noise: a control variate for comparing policies.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agents.ranges import Family
from envs.dynamics import Action, Array, State, World
from envs.lagrangian import best_charge, bound_at
from envs.maintenance import Maintenance
from envs.network import decomposition
from envs.pricing_network import PricingNetwork


@dataclass(frozen=True, eq=False)
class Shaping:
    """A potential of one world.

    Args:
        potential: Φ (n,) of states.
        reward: the expected shaped reward (n,) of states, actions and a discount; Φ counts 0 where an episode is over.
        level: what is taken off every period's reward, near the best average of a world that never ends: values are
            then small, and a critic soon knows them.
    """

    potential: Callable[[State], Array]
    reward: Callable[[State, Action, float], Array]
    level: float = 0.0


def shaping(family: Family) -> Shaping | None:
    """The potential of these worlds, or None where there is none.

    Over ranges there is none: the relaxation would have to be solved again for every row.
    """
    world: World = family.world
    if family.ranges:
        return None
    if isinstance(world, Maintenance):
        return _of_maintenance(world)
    return _of_network(world) if isinstance(world, PricingNetwork) else None


def _of_maintenance(world: Maintenance) -> Shaping:
    """Φ is minus the sum of the components' relative costs in the Lagrangian relaxation."""
    relaxed = best_charge(world)
    biases, bound = relaxed.biases, bound_at(world, relaxed)
    later = np.einsum("nij,nj->ni", world.moves(), biases)
    each = np.arange(world.params.components)

    def potential(state: State) -> Array:
        return np.asarray(-biases[each, state.astype(np.int64)].sum(axis=1))

    def reward(state: State, action: Action, discount: float) -> Array:
        members = world.members(state, action)
        then = later[each, np.where(members, 0, state).astype(np.int64)].sum(axis=1)
        return np.asarray(bound - world.cost(state, members) - discount * then - potential(state))

    return Shaping(potential, reward, -bound)


def _of_network(world: PricingNetwork) -> Shaping:
    """Φ falls with what the legs lose by each sale in the decomposition, from near the value of a full stock."""
    found, params = decomposition(world), world.params
    tables = [table - table[:, -1:] for table in found.values]
    full = np.sum([table[:, -1] - table[:, 0] for table in found.values], axis=0)
    level = full * found.bound / full[0]

    def potential(state: State) -> Array:
        period = np.minimum(state[:, -1].astype(np.int64), params.periods)
        left = state[:, :-1].astype(np.int64)
        return np.asarray(level[period] + sum(table[period, left[:, leg]] for leg, table in enumerate(tables)))

    def reward(state: State, action: Action, discount: float) -> Array:
        every = world.branches(state, action)
        after = potential(every.state.reshape(-1, state.shape[1])).reshape(every.terminated.shape)
        each = every.reward + discount * np.where(every.terminated, 0.0, after)
        return np.asarray((every.probability * each).sum(axis=1) - potential(state))

    return Shaping(potential, reward)
