"""Policies played in a world, period by period; each rival meets the same chance, so that costs compare in pairs."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from envs.dynamics import Action, Array, Chance, Fields, State, World


class Rival(Protocol):
    """Whoever decides for n copies of a world at once."""

    def act(self, period: int, state: State) -> Action:
        """The action (n,) in each copy."""

    def learn(self, period: int, state: State, action: Action, outcome: Fields) -> None:
        """What came of it."""


class Steady:
    """A rule that learns nothing."""

    def __init__(self, rule: Callable[[State], Action]) -> None:
        self._rule = rule

    def act(self, period: int, state: State) -> Action:  # noqa: ARG002
        """What the rule says."""
        return self._rule(state)

    def learn(self, period: int, state: State, action: Action, outcome: Fields) -> None:
        """Nothing."""


class Told:
    """One rule until a change, the next from then on: whoever is told of the change at once."""

    def __init__(self, rules: Sequence[Callable[[State], Action]], change: int) -> None:
        self._rules, self._change = rules, change

    def act(self, period: int, state: State) -> Action:
        """What the rule of this period says."""
        return self._rules[period >= self._change](state)

    def learn(self, period: int, state: State, action: Action, outcome: Fields) -> None:
        """Nothing."""


def costs(world_of: Callable[[int], World], rival: Rival, chances: Sequence[Chance]) -> Array:
    """Cost (periods, n) of each period; `world_of` says in which world a period is."""
    world = world_of(0)
    state = world.initial(len(chances[0]), np.random.default_rng(0))
    found = np.empty((len(chances), len(state)))
    for period, chance in enumerate(chances):
        world = world_of(period)
        action = rival.act(period, state)
        outcome = world.outcome(state, action, chance)
        following, reward, _ = world.step(state, action, chance)
        rival.learn(period, state, action, outcome)
        found[period], state = -reward, following
    return found
