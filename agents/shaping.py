"""Potentials: training rewards with less noise and less delay, and the same optimal policies.

Ng, Harada and Russell (1999), theorem 1: adding γ Φ(s') − Φ(s) changes no optimal policy. For maintenance Φ is minus
the sum of the components' relative costs in the Lagrangian relaxation, and E Φ(s') is known, so that a decision is
charged at once for what it does to every component.
"""

from collections.abc import Callable

import numpy as np

from agents.ranges import Family
from envs.dynamics import Action, Array, State
from envs.lagrangian import best_charge
from envs.maintenance import Maintenance

Reward = Callable[[State, Action], Array]


def shaped_reward(family: Family, discount: float) -> Reward | None:
    """The expected shaped reward (n,) of states and actions, or None where this world has no potential.

    Over ranges there is none: the relaxation would have to be solved again for every row.
    """
    world = family.world
    if family.ranges or not isinstance(world, Maintenance):
        return None
    return _of_maintenance(world, discount)


def _of_maintenance(world: Maintenance, discount: float) -> Reward:
    biases = best_charge(world).biases
    later = np.einsum("nij,nj->ni", world.moves(), biases)
    each = np.arange(world.params.components)

    def reward(state: State, action: Action) -> Array:
        members = world.members(state, action)
        now = biases[each, state.astype(np.int64)].sum(axis=1)
        then = later[each, np.where(members, 0, state).astype(np.int64)].sum(axis=1)
        return np.asarray(-world.cost(state, members) - discount * then + now)

    return reward
