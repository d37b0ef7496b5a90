"""Parameters that change over time: constant, abrupt, gradual, seasonal, recurring, random walk.

A schedule says what holds at the step with a given number; it holds no state, so any step can be asked for, in any
order. Worlds run under one with `world.with_params(schedule.at(step))`, which is what the shells do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from envs.dynamics import Array, ParamsError

Values = Mapping[str, float]
_BLOCK = 1024


class Schedule(Protocol):
    """Parameters by step."""

    def at(self, step: int) -> dict[str, float]:
        """What holds at the step (from 0): parameters by name; what is not named stays as it is."""


@dataclass(frozen=True)
class Constant:
    """Always the same."""

    values: Values

    def at(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """The values."""
        return dict(self.values)


@dataclass(frozen=True)
class Abrupt:
    """Values that jump at given steps.

    >>> Abrupt({"volume": 2.0}, {100: {"volume": 3.0}}).at(100)
    {'volume': 3.0}
    """

    values: Values
    changes: Mapping[int, Values]

    def at(self, step: int) -> dict[str, float]:
        """The values with all changes up to the step."""
        found = dict(self.values)
        for since in sorted(self.changes):
            if since <= step:
                found.update(self.changes[since])
        return found


@dataclass(frozen=True)
class Gradual:
    """Values that move from one level to another, in equal ratios where both are positive, else in equal steps."""

    values: Values
    to: Values
    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ParamsError(f"a gradual change from step {self.start} to {self.end} must end after it starts")
        _same_names(self.values, self.to)

    def at(self, step: int) -> dict[str, float]:
        """What lies between, by the share of the way that is done."""
        share = min(1.0, max(0.0, (step - self.start) / (self.end - self.start)))
        return {name: _between(low, self.to[name], share) for name, low in self.values.items()}


@dataclass(frozen=True)
class Seasonal:
    """Values that swing round their level: value · (1 + amplitude · sin(2π (step + phase) / period))."""

    values: Values
    amplitude: float
    period: float
    phase: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.amplitude < 1 or self.period <= 0:
            raise ParamsError(
                f"a season of amplitude {self.amplitude:g} and period {self.period:g}: give an amplitude from 0 to "
                f"below 1, and a period above 0"
            )

    def at(self, step: int) -> dict[str, float]:
        """The swing at that step."""
        swing = 1.0 + self.amplitude * float(np.sin(2.0 * np.pi * (step + self.phase) / self.period))
        return {name: value * swing for name, value in self.values.items()}


@dataclass(frozen=True)
class Recurring:
    """Regimes that follow one another, each for so many steps, and come back."""

    regimes: tuple[Values, ...]
    length: int

    def __post_init__(self) -> None:
        if not self.regimes or self.length < 1:
            raise ParamsError("recurring regimes need at least one regime and a length of at least 1 step")
        for regime in self.regimes:
            _same_names(self.regimes[0], regime)

    def at(self, step: int) -> dict[str, float]:
        """The regime whose turn it is."""
        return dict(self.regimes[step // self.length % len(self.regimes)])


@dataclass(frozen=True)
class RandomWalk:
    """Values whose logs take independent normal steps, reflected at a factor of `limit` either way."""

    values: Values
    spread: float
    seed: int
    limit: float = 4.0

    def __post_init__(self) -> None:
        if self.spread < 0 or self.limit <= 1 or min(self.values.values()) <= 0:
            raise ParamsError("a random walk needs positive values, a spread of at least 0 and a limit above 1")

    def at(self, step: int) -> dict[str, float]:
        """Where the walk is after that many steps."""
        block, rest = divmod(step, _BLOCK)
        walk = _walk(self.seed, len(self.values), block)[rest] * self.spread
        top = float(np.log(self.limit))
        # A triangle wave of the free walk is the walk between two mirrors.
        reflected = top - np.abs((walk + top) % (4.0 * top) - 2.0 * top)
        return {
            name: value * float(np.exp(move))
            for (name, value), move in zip(self.values.items(), reflected, strict=True)
        }


@lru_cache(maxsize=256)
def _walk(seed: int, size: int, block: int) -> Array:
    """Positions (1024, size) of a standard walk in one block, beginning where the block before ended."""
    steps = np.random.default_rng([seed, block]).standard_normal((_BLOCK, size))
    if block == 0:
        steps[0] = 0.0
        return np.cumsum(steps, axis=0)
    # A loop rather than a recursion into the past: block by block, each kept.
    start = np.zeros(size)
    for earlier in range(block):
        moves = np.random.default_rng([seed, earlier]).standard_normal((_BLOCK, size))
        start += moves.sum(axis=0) - (moves[0] if earlier == 0 else 0.0)
    return np.asarray(start + np.cumsum(steps, axis=0))


def _between(low: float, high: float, share: float) -> float:
    if low > 0 and high > 0:
        return float(low * (high / low) ** share)
    return low + (high - low) * share


def _same_names(one: Values, other: Values) -> None:
    if set(one) != set(other):
        raise ParamsError(
            f"{', '.join(sorted(one))} on one side and {', '.join(sorted(other))} on the other: name the same"
        )


def _recurring(given: dict[str, Any]) -> Schedule:
    return Recurring(tuple(given.pop("regimes")), int(given.pop("length")), **given)


def _abrupt(given: dict[str, Any]) -> Schedule:
    changes = {int(step): values for step, values in given.pop("changes").items()}
    return Abrupt(given.pop("values"), changes, **given)


_KINDS: Mapping[str, Callable[[dict[str, Any]], Schedule]] = {
    "constant": lambda given: Constant(**given),
    "abrupt": _abrupt,
    "gradual": lambda given: Gradual(**given),
    "seasonal": lambda given: Seasonal(**given),
    "recurring": _recurring,
    "random-walk": lambda given: RandomWalk(**given),
}


def parse(given: Mapping[str, Any]) -> Schedule:
    """A schedule from a mapping, as in a JSON file: `kind` and the fields of its class.

    Raises:
        ParamsError: an unknown kind, or fields that do not fit.

    >>> parse({"kind": "abrupt", "values": {"volume": 2}, "changes": {"100": {"volume": 3}}}).at(99)
    {'volume': 2}
    """
    fields = dict(given)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise ParamsError(f"there is no schedule {kind!r}: give kind, one of {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise ParamsError(f"the schedule {kind!r} cannot be made of {sorted(given)}: {error}") from error
