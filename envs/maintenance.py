"""Servicing several components that wear, with few crews and a set-up cost: preventive, corrective, opportunistic."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs import lumping
from envs.dynamics import (
    Action,
    ActionSet,
    Array,
    Branches,
    Chance,
    Field,
    Fields,
    Mask,
    ParamsError,
    State,
    every,
    per_row,
    rescaled,
)
from envs.tabulate import StateSpaceTooLarge, Tabulation

CHOICES = ("sets", "worst")
MAX_SETS = 20_000
_MAX_LISTED = 20_000
_MAX_PAIRS = 20_000_000


@dataclass(frozen=True, eq=False)
class MaintenanceParams:
    """Parameters of `Maintenance`.

    Args:
        levels: condition levels of a component, 0 (new) to levels - 1 (failed).
        wear: chance that a component moves in a period, (N,) by component, or (n, N) by row.
        jump: chance that a move is by two levels; a number, or (n, 1) by row.
        crews: most components serviced in a period.
        setup_cost: money per period in which anything is serviced; shapes as jump.
        preventive_cost: money per serviced component that has not failed; shapes as jump.
        corrective_cost: money per serviced component that has failed; shapes as jump.
        downtime_cost: money per period and failed component that is not serviced; shapes as jump.
        choice: `sets`: an action is any set of at most `crews` components; `worst`: it is how many of the worst are
            serviced (by level, then wear), for systems with too many sets.
    """

    levels: int
    wear: Any
    jump: Any
    crews: int
    setup_cost: Any
    preventive_cost: Any
    corrective_cost: Any
    downtime_cost: Any
    choice: str = "sets"

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise ParamsError(f"choice is {self.choice!r}: give one of {', '.join(CHOICES)}")
        if self.crews > self.components:
            raise ParamsError(f"crews is {self.crews} for {self.components} components: give 1 to {self.components}")
        if self.choice == "sets" and self.sets > MAX_SETS:
            raise ParamsError(
                f"{self.components} components and {self.crews} crews make {self.sets:,} sets, at most {MAX_SETS:,} "
                f"are allowed: give choice=worst, or fewer crews"
            )

    @property
    def components(self) -> int:
        """Number of components."""
        return int(np.shape(self.wear)[-1])

    @property
    def sets(self) -> int:
        """Number of sets of at most `crews` components."""
        return sum(comb(self.components, k) for k in range(self.crews + 1))

    @property
    def exchangeable(self) -> bool:
        """Whether all components wear alike, so that only the number at each level matters."""
        return bool(np.ptp(self.wear, axis=-1).max() == 0)


class Maintenance:
    """Choosing which components to service before they fail, sharing a set-up.

    Description:
        See the level of each component, 0 to levels - 1 (failed). Choose a set A of at most `crews`. Pay
        setup · 1{A not empty} + preventive per working and corrective per failed member of A + downtime per failed
        component not in A. Members of A go to 0; then every component, also a serviced one, moves: +1 with probability
        wear_i (1 - jump), +2 with wear_i · jump, at most to the last level.

    Action Space:
        `Discrete`: index into the list of sets (`actions.values` holds them as 0/1 rows, smaller sets first), or the
        number of worst components to service.

    Observation Space:
        `Box(N)`: level of each component.

    Rewards:
        Minus the cost of the period, in money; the average per period counts.

    Starting State:
        All new.

    Episode End:
        Never; the shells truncate.

    Source:
        Multi-component replacement with economic dependence; Dekker, Wildeman and van der Duyn Schouten (1997).
    """

    id = "maintenance"
    horizon: int | None = None
    stationary = True

    def __init__(self, params: MaintenanceParams) -> None:
        self.params = params
        n, top = params.components, float(params.levels - 1)
        self.tunable: Mapping[str, int] = {"wear": n} | dict.fromkeys(
            ("jump", "setup_cost", "preventive_cost", "corrective_cost", "downtime_cost"), 1
        )
        self.context: tuple[Field, ...] = tuple(
            Field(f"levels[{i}]", "", 0.0, top, f"level of component {i}, {top:g} is failed", whole=True)
            for i in range(n)
        )
        self.outcomes: tuple[Field, ...] = tuple(
            Field(f"levels[{i}]", "", 0.0, top, f"level of component {i} at the end of the period", whole=True)
            for i in range(n)
        )
        self.actions = self._action_set()

    def _action_set(self) -> ActionSet:
        n, crews = self.params.components, self.params.crews
        if self.params.choice == "worst":
            return ActionSet(np.arange(crews + 1.0), (crews + 1,), "components", "count")
        chosen = [set(members) for size in range(crews + 1) for members in combinations(range(n), size)]
        values = np.array([[float(i in members) for i in range(n)] for members in chosen])
        return ActionSet(values, (len(values),), "", "components", tuple(str(sorted(members)) for members in chosen))

    def members(self, state: State, action: Action) -> Mask:
        """Which components (n, N) are serviced."""
        if self.params.choice == "sets":
            return np.asarray(self._sets[action])
        wear = np.broadcast_to(self.params.wear, state.shape)
        # Wear lies in 0 to 1, so it only decides among equal levels; index decides what is left.
        order = np.argsort(-(state + wear * 0.5), axis=1, kind="stable")
        rank = np.argsort(order, axis=1, kind="stable")
        return np.asarray(rank < np.asarray(action)[:, None])

    @cached_property
    def _sets(self) -> Mask:
        return np.asarray(self.actions.values, np.float64) > 0

    def cost(self, state: State, members: Mask) -> Array:
        """Cost (n,) of servicing these components."""
        p, each = self.params, np.ones(state.shape[1])
        failed, serviced = (state >= p.levels - 1).astype(np.float64), members.astype(np.float64)
        # Counts by matrix product: exact in any order, and much faster than sums over a short axis.
        count, down, corrected = serviced @ each, failed @ each, (serviced * failed) @ each
        return np.asarray(
            per_row(p.setup_cost) * (count > 0)
            + per_row(p.preventive_cost) * (count - corrected)
            + per_row(p.corrective_cost) * corrected
            + per_row(p.downtime_cost) * (down - corrected)
        )

    def _worn(self, state: State, members: Mask, chance: Chance) -> State:
        wear = self.params.wear
        moved = (chance < wear).astype(np.float64) + (chance < wear * self.params.jump)
        return np.asarray(np.minimum(np.where(members, 0.0, state) + moved, self.params.levels - 1))

    def initial(self, n: int, rng: np.random.Generator) -> State:  # noqa: ARG002
        """All new."""
        return np.zeros((n, self.params.components))

    def draw(self, n: int, rng: np.random.Generator) -> Chance:
        """One uniform for each component."""
        return rng.random((n, self.params.components))

    def step(self, state: State, action: Action, chance: Chance) -> tuple[State, Array, Mask]:
        """Service, pay, wear."""
        members = self.members(state, action)
        return self._worn(state, members, chance), -self.cost(state, members), np.zeros(len(state), bool)

    def observe(self, state: State) -> NDArray[np.float32]:
        """The levels."""
        return state.astype(np.float32)

    def state_of(self, observation: NDArray[Any]) -> State:
        """The observation is the state."""
        return np.asarray(observation[:, : self.params.components], np.float64)

    def allowed(self, state: State) -> Mask:
        """Every set, always."""
        return every(len(state), self.actions.n)

    def allowed_of(self, observation: NDArray[Any]) -> Mask:
        """Every set, always."""
        return self.allowed(observation)

    def outcome(self, state: State, action: Action, chance: Chance) -> dict[str, NDArray[Any]]:
        """The levels at the end of the period."""
        worn = self._worn(state, self.members(state, action), chance)
        return {f"levels[{i}]": worn[:, i] for i in range(worn.shape[1])}

    def reward_of(self, observation: NDArray[Any], action: Action, fields: Fields) -> Array:  # noqa: ARG002
        """Minus the cost, which the levels before and the action decide."""
        state = self.state_of(observation)
        return -self.cost(state, self.members(state, action))

    def expected_reward(self, state: State, action: Action) -> Array:
        """The reward: it holds no chance."""
        return -self.cost(state, self.members(state, action))

    def with_params(self, values: Mapping[str, ArrayLike]) -> "Maintenance":
        """Wear and costs replaced; one number for the wear sets its mean over the components."""
        replaced = {
            name: rescaled(getattr(self.params, name), value, listed=name == "wear") for name, value in values.items()
        }
        return Maintenance(replace(self.params, **replaced))

    @property
    def lumped(self) -> bool:
        """Whether states are listed as numbers of components at each level, the worst component first."""
        p = self.params
        return p.exchangeable and p.levels**p.components > _MAX_LISTED

    def grid(self, period: int = 0) -> State:  # noqa: ARG002
        """All combinations of levels, the last component's running fastest; of exchangeable ones one of each kind."""
        if self.lumped:
            return lumping.multisets(self.params.components, self.params.levels)
        size = self.params.levels**self.params.components
        if size > 4_000_000:
            raise StateSpaceTooLarge(
                f"maintenance of {self.params.components} different components with {self.params.levels} levels has "
                f"{size:,} states: use `exact.bound`, a rule such as points-rule, or simulation"
            )
        digits = np.indices((self.params.levels,) * self.params.components)
        return digits.reshape(self.params.components, -1).T.astype(np.float64)

    def place(self, state: State) -> NDArray[np.int64]:
        """Mixed-radix index of the levels, or place among the kinds."""
        if self.lumped:
            return lumping.place(state, self.params.levels)
        radix = self.params.levels ** np.arange(self.params.components - 1, -1, -1)
        # Sums of small integers are exact in any order, so the product may be a matrix product.
        return np.asarray(state @ radix, np.int64)

    def moves(self) -> Array:
        """Transition matrices (N, levels, levels) of the components when they are not serviced."""
        wear = np.asarray(self.params.wear, np.float64)
        kernels = np.zeros((len(wear), self.params.levels, self.params.levels))
        for level in range(self.params.levels):
            for step, chance in ((0, 1 - wear), (1, wear * (1 - self.params.jump)), (2, wear * self.params.jump)):
                kernels[:, level, min(level + step, self.params.levels - 1)] += chance
        return kernels

    def branches(self, state: State, action: Action) -> Branches:
        """Every component staying, moving by one, moving by two."""
        n, wear = self.params.components, np.asarray(self.params.wear, np.float64)
        if 3**n > 100_000:
            raise StateSpaceTooLarge(f"{n} components have {3**n:,} joint moves: use simulation")
        steps = np.indices((3,) * n).reshape(n, -1).T
        each = np.stack([1 - wear, wear * (1 - self.params.jump), wear * self.params.jump])
        probability = np.prod(each[steps, np.arange(n)], axis=1)
        members = self.members(state, action)
        after = np.where(members, 0.0, state)
        following = np.minimum(after[:, None, :] + steps, self.params.levels - 1)
        shape = following.shape[:2]
        reward = np.broadcast_to(-self.cost(state, members)[:, None], shape)
        return Branches(np.broadcast_to(probability, shape), following, reward, np.zeros(shape, bool))

    def tabulation(self, period: int = 0) -> Tabulation:
        """Written out by way of the levels right after service, of which there are no more than states."""
        states = self.grid(period)
        m, a = len(states), self.actions.n
        if m * a > _MAX_PAIRS:
            raise StateSpaceTooLarge(
                f"maintenance has {m:,} states with {a:,} actions each, {m * a:,} pairs where {_MAX_PAIRS:,} are "
                f"allowed: use fewer components or crews, `exact.bound`, or simulation"
            )
        after, reward = np.empty((m, a), np.int64), np.empty((m, a))
        for action in range(a):
            members = self.members(states, np.full(m, action))
            after[:, action] = self.place(np.where(members, 0.0, states))
            reward[:, action] = -self.cost(states, members)
        moves = self.moves()
        kernel = lumping.kernel(moves[0], self.params.components) if self.lumped else lumping.product(moves)
        return Tabulation(states, np.ones((m, a), bool), reward, kernel, after)
