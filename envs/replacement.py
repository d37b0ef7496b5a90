"""Replacing one unit that ages (Barlow and Hunter 1960), in unit periods, with Weibull life."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.dynamics import (
    Action,
    ActionSet,
    Array,
    Branches,
    Chance,
    Field,
    Fields,
    Mask,
    State,
    per_row,
    rescaled,
)

KEEP, REPLACE = 0, 1


@dataclass(frozen=True, eq=False)
class ReplacementParams:
    """Parameters of `Replacement`.

    Args:
        shape: of the Weibull life; above 1 the unit wears out. A number, or (n, 1) by row.
        scale: of the Weibull life, periods; shapes as shape.
        replace_cost: money for a planned replacement; shapes as shape.
        failure_cost: money for a failure, new unit included; shapes as shape.
        max_age: age at which a unit must be replaced, periods.
    """

    shape: Any = 3.0
    scale: Any = 20.0
    replace_cost: Any = 1.0
    failure_cost: Any = 10.0
    max_age: int = 40


class Replacement:
    """Keeping or replacing a unit that fails more and more often.

    Description:
        See the age k at the start of a unit period. *Replace*: pay `replace_cost`, the unit has age 0 and runs the
        period; or *keep*. It fails in the period with probability 1 - S(k+1)/S(k), S(k) = exp(-(k/scale)^shape); a
        failure costs `failure_cost`, and the unit is new at the next epoch (the rest of the failed period is free).

    Action Space:
        `Discrete(2)`: 0 keep, 1 replace. At `max_age` only replacing is allowed.

    Observation Space:
        `Box(1)`: age (periods, 0 to `max_age`).

    Rewards:
        Minus the cost of the period, in money; the average per period counts.

    Starting State:
        A new unit.

    Episode End:
        Never; the shells truncate.

    Source:
        Barlow and Hunter (1960), Operations Research 8(1); the discrete optimum follows renewal reward,
        g(N) = (replace_cost S(N) + failure_cost (1 - S(N))) / sum_{k<N} S(k).
    """

    id = "replacement"
    horizon: int | None = None
    stationary = True
    tunable: Mapping[str, int] = {"shape": 1, "scale": 1, "replace_cost": 1, "failure_cost": 1}
    outcomes: tuple[Field, ...] = (Field("failed", "", 0.0, 1.0, "whether the unit failed in the period", whole=True),)

    def __init__(self, params: ReplacementParams) -> None:
        self.params = params
        self.context: tuple[Field, ...] = (
            Field("age", "periods", 0.0, float(params.max_age), "age of the unit", whole=True),
        )
        self.actions = ActionSet(np.array([0.0, 1.0]), (2,), "", "replace", ("keep", "replace"))

    def failure(self, age: Array) -> Array:
        """Probability of failing in the period that starts at this age: 1 - S(age + 1) / S(age)."""
        shape, scale = per_row(self.params.shape), per_row(self.params.scale)
        return np.asarray(-np.expm1((age / scale) ** shape - ((age + 1.0) / scale) ** shape))

    def _failed(self, state: State, action: Action, chance: Chance) -> tuple[Array, Mask]:
        age = np.where(np.asarray(action) == REPLACE, 0.0, state[:, 0])
        return age, chance[:, 0] < self.failure(age)

    def initial(self, n: int, rng: np.random.Generator) -> State:  # noqa: ARG002
        """A new unit."""
        return np.zeros((n, 1))

    def draw(self, n: int, rng: np.random.Generator) -> Chance:
        """One uniform for the failure."""
        return rng.random((n, 1))

    def step(self, state: State, action: Action, chance: Chance) -> tuple[State, Array, Mask]:
        """Replace or keep, then run the period."""
        age, failed = self._failed(state, action, chance)
        following = np.where(failed, 0.0, np.minimum(age + 1.0, self.params.max_age))[:, None]
        planned = per_row(self.params.replace_cost) * (np.asarray(action) == REPLACE)
        return following, -(planned + per_row(self.params.failure_cost) * failed), np.zeros(len(state), bool)

    def observe(self, state: State) -> NDArray[np.float32]:
        """The age."""
        return state.astype(np.float32)

    def state_of(self, observation: NDArray[Any]) -> State:
        """The observation is the state."""
        return np.asarray(observation[:, :1], np.float64)

    def allowed(self, state: State) -> Mask:
        """Keeping, except at the greatest age; replacing, always."""
        keep = state[:, 0] < self.params.max_age
        return np.stack([keep, np.ones_like(keep)], axis=1)

    def allowed_of(self, observation: NDArray[Any]) -> Mask:
        """As `allowed`."""
        return self.allowed(self.state_of(observation))

    def outcome(self, state: State, action: Action, chance: Chance) -> dict[str, NDArray[Any]]:
        """Whether it failed."""
        return {"failed": self._failed(state, action, chance)[1].astype(np.float64)}

    def reward_of(self, observation: NDArray[Any], action: Action, fields: Fields) -> Array:  # noqa: ARG002
        """Minus the cost."""
        planned = per_row(self.params.replace_cost) * (np.asarray(action) == REPLACE)
        return np.asarray(-(planned + per_row(self.params.failure_cost) * np.asarray(fields["failed"], np.float64)))

    def expected_reward(self, state: State, action: Action) -> Array:
        """Minus the mean cost."""
        renewed = np.asarray(action) == REPLACE
        risk = self.failure(np.where(renewed, 0.0, state[:, 0]))
        return np.asarray(-(per_row(self.params.replace_cost) * renewed + per_row(self.params.failure_cost) * risk))

    def with_params(self, values: Mapping[str, ArrayLike]) -> "Replacement":
        """Life and costs replaced."""
        replaced = {name: rescaled(getattr(self.params, name), value) for name, value in values.items()}
        return Replacement(replace(self.params, **replaced))

    def grid(self, period: int = 0) -> State:  # noqa: ARG002
        """Age 0 to the greatest."""
        return np.arange(self.params.max_age + 1.0)[:, None]

    def place(self, state: State) -> NDArray[np.int64]:
        """The age."""
        return state[:, 0].astype(np.int64)

    def branches(self, state: State, action: Action) -> Branches:
        """Surviving and failing."""
        renewed = np.asarray(action) == REPLACE
        age = np.where(renewed, 0.0, state[:, 0])
        risk = self.failure(age)
        planned = self.params.replace_cost * renewed
        older = np.minimum(age + 1.0, self.params.max_age)
        following = np.stack([older, np.zeros_like(older)], axis=1)[:, :, None]
        reward = -np.stack([planned, planned + self.params.failure_cost], axis=1)
        probability = np.stack([1.0 - risk, risk], axis=1)
        return Branches(probability, following, reward, np.zeros(probability.shape, bool))
