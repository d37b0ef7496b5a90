"""Who sends the crews: fixed intervals, the risk that a model foretells, and the optimum for the wear as estimated."""

from collections.abc import Callable

import numpy as np

from agents.heuristics_maintenance import as_rule
from envs import exact
from envs.atoms import Atoms
from envs.dynamics import Action, Array, Fields, State
from envs.hazard import Hazard, HazardFilter
from envs.maintenance import Maintenance
from recipes.rivals import costs

WEEK = 7
MOVED = 0.1
"""Share by which an estimate must have moved for the optimum to be solved anew."""


def sent(world: Maintenance, urgency: Array) -> Action:
    """Actions that service, as far as the crews go, the machines (n, N) of highest urgency; none at or below 0."""
    rank = np.argsort(np.argsort(-urgency, axis=1, kind="stable"), axis=1, kind="stable")
    chosen = (rank < world.params.crews) & (urgency > 0)
    return as_rule(world, lambda _: chosen)(urgency)


class Interval:
    """Service each machine so many days after the last time, or when it has failed: failed ones first, then the oldest.

    Args:
        together: whether all crews go when one has to, to the machines that are next.
    """

    def __init__(self, world: Maintenance, days: int, n: int, *, together: bool = False) -> None:
        self._world, self._days, self._together = world, days, together
        self.age = np.zeros((n, world.params.components))

    def act(self, period: int, state: State) -> Action:  # noqa: ARG002
        """Who is due."""
        failed = state >= self._world.params.levels - 1
        due = failed | (self.age >= self._days)
        if self._together:
            due = due | due.any(axis=1, keepdims=True)
        action = sent(self._world, np.where(due, 1.0 + self.age + 1e6 * failed, 0.0))
        self.age = np.where(self._world.members(state, action), 1.0, self.age + 1.0)
        return action

    def learn(self, period: int, state: State, action: Action, outcome: Fields) -> None:
        """Nothing."""


def best_interval(world: Maintenance, n: int, seed: int) -> tuple[int, bool]:
    """The cheapest interval, and whether crews go together, in a long run on chance of its own."""
    rng = np.random.default_rng([seed, 9])
    chances = [world.draw(n, rng) for _ in range(300)]
    tried = [(days, together) for days in range(4, 41, 2) for together in (False, True)]
    means = [
        costs(lambda _: world, Interval(world, days, n, together=together), chances)[50:].mean()
        for days, together in tried
    ]
    return tried[int(np.argmin(means))]


class ByRisk:
    """Service whatever has failed, or has a foretold risk above a threshold, the riskiest first.

    Args:
        risk: levels and days since the last service (n, N) → what the model says after a look at the sensors.
    """

    def __init__(self, world: Maintenance, threshold: float, n: int, risk: Callable[[State, Array], Array]) -> None:
        self._world, self._threshold, self._risk = world, threshold, risk
        self.age = np.zeros((n, world.params.components))

    def act(self, period: int, state: State) -> Action:  # noqa: ARG002
        """Who is due."""
        risk = self._risk(state, self.age)
        urgency = np.where(risk > self._threshold, risk, 0.0) + 2.0 * (state >= self._world.params.levels - 1)
        action = sent(self._world, urgency)
        self.age = np.where(self._world.members(state, action), 1.0, self.age + 1.0)
        return action

    def learn(self, period: int, state: State, action: Action, outcome: Fields) -> None:
        """Nothing: the model has learned before."""


class Live:
    """The optimum for the wear that the outcomes of all halls tell, solved anew in weeks in which that has moved."""

    def __init__(self, world: Maintenance, ranges: dict[str, tuple[float, float]], n: int) -> None:
        self._world = world
        self._filter = HazardFilter(Atoms(world, tuple(ranges), ranges=ranges), Hazard().shared(n))
        self._best = optimum(world)
        self._solved: dict[str, float] = {}
        self.alarms: list[int] = []
        self.estimates: list[dict[str, float]] = []

    def act(self, period: int, state: State) -> Action:
        """The best action for what was believed on Monday."""
        if period % WEEK == 0:
            self.estimates.append(self._filter.estimate().params())
            if self._moved(self.estimates[-1]):
                self._solved = self.estimates[-1]
                self._best = optimum(worn(self._world, self._solved))
        return self._best(state)

    def _moved(self, estimate: dict[str, float]) -> bool:
        return any(abs(value / self._solved.get(name, np.inf) - 1.0) > MOVED for name, value in estimate.items())

    def learn(self, period: int, state: State, action: Action, outcome: Fields) -> None:
        """Learn from the levels at the end of the day."""
        self.alarms += [period for _ in self._filter.learn_many(state, action, outcome)]


def worn(world: Maintenance, estimate: dict[str, float]) -> Maintenance:
    """The world with estimated parameters."""
    wear = [value for name, value in estimate.items() if name.startswith("wear")]
    return world.with_params({"wear": np.array(wear), "jump": estimate["jump"]})


def optimum(world: Maintenance) -> Callable[[State], Action]:
    """The exact optimum as a rule."""
    actions = exact.solve(world).actions
    return lambda state: np.asarray(actions[world.place(state)], np.int64)
