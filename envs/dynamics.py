"""The contract of a world: batched pure functions over arrays whose first axis is n independent copies.

Chance is drawn apart from the step (`draw`), as uniforms that depend on neither state nor action, so that two policies
can be compared on the same chance and a batch equals its rows bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
State = NDArray[np.float64]
Chance = NDArray[np.float64]
Action = NDArray[Any]
Mask = NDArray[np.bool_]
Fields = Mapping[str, NDArray[Any]]


class ParamsError(ValueError):
    """Parameters that make no world; the message names the field, what was given, what is allowed, what to do."""


@dataclass(frozen=True)
class Field:
    """One entry of an observation, one parameter, or one part of an outcome.

    Entries of a list carry their place in the name (`pipeline[0]`, `pipeline[1]`); `flattened` makes such names from a
    mapping that holds lists.

    Args:
        name: as in the CLI, the manifest and over HTTP.
        unit: physical unit, empty for a pure number.
        low: smallest allowed value, `-inf` where there is none.
        high: largest allowed value, `inf` where there is none.
        doc: what it is, in one line.
        whole: whether only whole numbers are meant.
    """

    name: str
    unit: str
    low: float
    high: float
    doc: str
    whole: bool = False


@dataclass(frozen=True, eq=False)
class ActionSet:
    """The actions of a world: one list of choices, or a product of such lists.

    Args:
        values: physical values by index: (a,) for numbers, (a, j) for sets of j components as 0/1 rows; for a product
            of factors, (a,) shared by all factors. `None`: the action is the physical number itself (a continuum).
        nvec: number of choices of each factor; empty for a continuum.
        unit: unit of the values.
        name: what an action is called, e.g. `price`.
        labels: short texts by index, empty where the value says it.
    """

    values: NDArray[Any] | None
    nvec: tuple[int, ...]
    unit: str
    name: str
    labels: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of choices of a single list.

        Raises:
            ValueError: a product of lists, or a continuum.
        """
        if len(self.nvec) != 1:
            what = f"a product of {len(self.nvec)} lists" if self.nvec else "a continuum"
            raise ValueError(f"the action set {self.name!r} is {what}, not a single list: use nvec")
        return self.nvec[0]

    @cached_property
    def physical(self) -> tuple[float | tuple[int, ...], ...]:
        """What each index means to people: a number, or the numbers of the components in a set.

        >>> ActionSet(np.array([[0, 0], [1, 0], [1, 1]]), (3,), "", "components").physical
        ((), (0,), (0, 1))
        """
        if self.values is None:
            return tuple(map(float, range(self.n)))
        if self.values.ndim == 2:
            return tuple(tuple(np.flatnonzero(row).tolist()) for row in self.values)
        return tuple(np.asarray(self.values, np.float64).tolist())

    @cached_property
    def _index(self) -> dict[Any, int]:
        values = np.arange(self.n) if self.values is None else self.values
        return {_key(value): index for index, value in enumerate(values.tolist())}

    def index_of(self, value: Any) -> int:
        """Index of a physical value; a set of components is given as the list of their numbers.

        Raises:
            ValueError: no action has this value; the message lists what there is.

        >>> ActionSet(np.array([0.5, 0.75]), (2,), "money", "price").index_of(0.75)
        1
        """
        try:
            return self._index[self._key_of(value)]
        except (KeyError, TypeError, ValueError, IndexError):
            known = self.labels or tuple(f"{v:g}" for v in np.asarray(self.values).ravel()[:20])
            shown = ", ".join(known[:12]) + (f", … ({self.n} in all)" if len(known) > 12 else "")
            raise ValueError(f"{self.name} {value!r} is not among the actions: give one of {shown}") from None

    def _key_of(self, value: Any) -> Any:
        if self.values is not None and self.values.ndim == 2:
            members = np.zeros(self.values.shape[1], self.values.dtype)
            members[np.asarray(value, dtype=int)] = 1
            return _key(members.tolist())
        return _key(float(value))


def _key(value: Any) -> Any:
    """A number as 12 significant digits, so that a value which went through text is still found."""
    return tuple(value) if isinstance(value, list) else float(f"{value:.12g}")


class World(Protocol):
    """A business environment as pure functions; `n` is the batch, `k` observation entries, `a` actions.

    Parameters may hold arrays with a leading axis n: a different world in each row. Rewards are to be maximised; costs
    are negative rewards. A world with `horizon` `None` never terminates and is judged by its average reward.
    """

    id: str
    params: Any
    context: tuple[Field, ...]
    outcomes: tuple[Field, ...]
    actions: ActionSet
    horizon: int | None
    tunable: Mapping[str, int]
    """Parameters that can differ from row to row, with the number of columns each takes."""

    def initial(self, n: int, rng: np.random.Generator) -> State:
        """States (n, s) at the start."""

    def draw(self, n: int, rng: np.random.Generator) -> Chance:
        """Everything random in one step: uniforms (n, c) in [0, 1)."""

    def step(self, state: State, action: Action, chance: Chance) -> tuple[State, Array, Mask]:
        """Next states (n, s), rewards (n,), terminated (n,); row i depends on row i alone, no input is changed."""

    def observe(self, state: State) -> NDArray[np.float32]:
        """Observations (n, k) in physical units, in the order of `context`."""

    def allowed(self, state: State) -> Mask:
        """Which actions may be taken, (n, a); for a product of lists (n, sum of nvec), factor after factor."""

    def outcome(self, state: State, action: Action, chance: Chance) -> dict[str, NDArray[Any]]:
        """What the step shows to the outside, (n,) each, named as in `outcomes`."""

    def reward_of(self, observation: NDArray[Any], action: Action, fields: Fields) -> Array:
        """Rewards (n,) computed from what is logged."""

    def state_of(self, observation: NDArray[Any]) -> State:
        """States (n, s) that show these observations (n, k)."""

    def allowed_of(self, observation: NDArray[Any]) -> Mask:
        """The mask from observations (n, k)."""

    def expected_reward(self, state: State, action: Action) -> Array:
        """Mean reward (n,) of a step: the same optimum as the reward, with less noise."""

    def with_params(self, values: Mapping[str, ArrayLike]) -> "World":
        """The same world, on the same action set, with some parameters replaced.

        A number (or one number per row, shape (n,)) given for a parameter that is a profile (per period, per component)
        sets its mean and keeps its shape.
        """


@dataclass(frozen=True, eq=False)
class Branches:
    """All that can come of one step from each of q states under one action each.

    Args:
        probability: (q, b), rows summing to 1.
        state: (q, b, s) next states.
        reward: (q, b) expected reward given that branch.
        terminated: (q, b).
    """

    probability: Array
    state: State
    reward: Array
    terminated: Mask


class Enumerable(World, Protocol):
    """A world whose steps can be enumerated, which is what every exact answer is made from."""

    def grid(self, period: int = 0) -> State:
        """All states (m, s) of that period, in a fixed order."""

    def place(self, state: State) -> NDArray[np.int64]:
        """Index (n,) of states in `grid` of their period."""

    def branches(self, state: State, action: Action) -> Branches:
        """Everything that can follow, with its probability."""

    @property
    def stationary(self) -> bool:
        """Whether one period is like any other."""


W = TypeVar("W")


def profile_at(values: Any, period: NDArray[np.int64]) -> Any:
    """A parameter at the period of each row: a number as it is, (T,) by period, (n, 1 or T) by row and period."""
    if np.ndim(values) == 0:
        return values
    if np.ndim(values) == 1:
        return values[np.minimum(period, len(values) - 1)]
    if values.shape[1] == 1:
        return values[:, 0]
    return values[np.arange(len(period)), np.minimum(period, values.shape[1] - 1)]


def rescaled(base: Any, value: ArrayLike, listed: bool = False) -> Any:
    """A parameter with its level set to `value`: a number, or one number per row (n,), or a whole (n, w) array.

    Where the base is a profile its shape is kept and its mean becomes `value`.

    `listed`: the base is a list of different things (components, products), so that (w,) means its entries.

    >>> rescaled(np.array([1.0, 3.0]), 4.0)
    array([2., 6.])
    >>> rescaled(2.0, np.array([1.0, 5.0])).shape
    (2, 1)
    """
    level = np.asarray(value, np.float64)
    if level.ndim > 1 or (listed and level.ndim == 1):
        return level
    if np.ndim(base) == 0:
        return float(level) if level.ndim == 0 else level[:, None]
    shape = np.asarray(base) / np.mean(base, axis=-1, keepdims=True)
    return shape * (level if level.ndim == 0 else level[:, None])


def flattened(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping whose lists are spread over names with their place.

    >>> flattened({"on_hand": 3, "pipeline": [5, 4]})
    {'on_hand': 3, 'pipeline[0]': 5, 'pipeline[1]': 4}
    """
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
            flat.update({f"{name}[{place}]": entry for place, entry in enumerate(value)})
        else:
            flat[name] = value
    return flat


def bounds(fields: Sequence[Field]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lower and upper bounds (k,) of observation entries, as float32."""
    low = np.array([field.low for field in fields], np.float32)
    high = np.array([field.high for field in fields], np.float32)
    return low, high


@lru_cache(maxsize=64)
def every(n: int, a: int) -> Mask:
    """A mask (n, a) that allows everything; read-only, as it is shared."""
    mask = np.ones((n, a), bool)
    mask.flags.writeable = False
    return mask


def per_row(value: Any) -> Any:
    """A parameter as it enters a sum over rows: a number as it is, (n, 1) as (n,)."""
    return value if np.ndim(value) == 0 else value[:, 0]
