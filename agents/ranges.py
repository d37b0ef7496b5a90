"""Conditioning: parameters drawn from ranges, one world for each row, and shown at the end of the observation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import Array, Mask, Observation, Policy
from envs.dynamics import State, World

Ranges = Mapping[str, tuple[float, float]]
_PLACE = re.compile(r"^(.+)\[(\d+)\]$")


class RangeError(ValueError):
    """Ranges that cannot be trained over: which, what is allowed, what to do."""


@dataclass(frozen=True)
class Conditioning:
    """A world whose parameters in `ranges` vary from episode to episode.

    A parameter that has one value per component is drawn for each of them and fills as many columns (`wear[0]`,
    `wear[1]`, ...). One that is a profile over periods varies in its mean and fills one.

    Args:
        world: with its nominal parameters.
        ranges: (low, high) by parameter; drawn log-uniformly where low is above 0, else uniformly. May be empty.

    Raises:
        RangeError: a parameter that the world does not have, or bounds that are not finite and ascending.
    """

    world: World
    ranges: Ranges
    columns: tuple[str, ...] = field(init=False)
    _sizes: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes, columns = [], []
        taken = {entry.name for entry in self.world.context}
        for name, (low, high) in self.ranges.items():
            if not hasattr(self.world.params, name) or name in taken:
                raise RangeError(f"{name!r} is no parameter of {self.world.id} that can vary: remove its range")
            if not (np.isfinite([low, high]).all() and low < high):
                raise RangeError(f"the range of {name} is {low} to {high}: give two finite numbers, the lower first")
            value = np.asarray(getattr(self.world.params, name), np.float64)
            parts = value.size if value.ndim == 1 and value.size != self.world.horizon else 0
            columns += [f"{name}[{j}]" for j in range(parts)] or [name]
            sizes.append(parts)
        object.__setattr__(self, "columns", tuple(columns))
        object.__setattr__(self, "_sizes", tuple(sizes))

    @property
    def bounds(self) -> Array:
        """(k, 2) lowest and highest value of each entry of the observation."""
        context = [(entry.low, entry.high) for entry in self.world.context]
        pairs = [pair for pair, size in zip(self.ranges.values(), self._sizes, strict=True) for _ in range(size or 1)]
        return np.array([*context, *pairs], np.float64)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Values of the columns (n, c), one row for each world."""
        low, high = self.bounds[len(self.world.context) :].reshape(-1, 2).T
        u = rng.random((n, len(self.columns)))
        positive = low > 0
        safe_low, safe_high = np.where(positive, low, 1.0), np.where(positive, high, 1.0)
        return np.asarray(np.where(positive, safe_low * (safe_high / safe_low) ** u, low + (high - low) * u))

    def world_with(self, rows: Array) -> World:
        """A world with the parameters of each row (n, c)."""
        return self._replaced(rows.T) if self.ranges else self.world

    def world_at(self, values: Array) -> World:
        """The world with these values (c,) in every row; can be solved exactly."""
        return self._replaced(values) if self.ranges else self.world

    def _replaced(self, columns: Array) -> World:
        """`columns`: (c, n) for a world per row, (c,) for one world."""
        given: dict[str, Any] = {}
        start = 0
        for name, size in zip(self.ranges, self._sizes, strict=True):
            part = columns[start : start + (size or 1)]
            given[name] = part.T if size else part[0]
            start += size or 1
        return self.world.with_params(given)

    def observe(self, world: World, state: State, rows: Array) -> NDArray[np.float32]:
        """The context followed by the columns (n, k)."""
        context = world.observe(state)
        return np.concatenate([context, rows.astype(np.float32)], axis=1) if self.ranges else context


@dataclass(frozen=True)
class Conditioned:
    """A conditioned policy with the parameters filled in, so that it takes the context alone."""

    policy: Policy
    values: Array

    @property
    def kind(self) -> str:
        """That of the policy."""
        return self.policy.kind

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """Probabilities (n, a) of contexts (n, k)."""
        rows = np.broadcast_to(np.asarray(self.values, np.float32), (len(observation), len(self.values)))
        return self.policy.probabilities(np.concatenate([observation, rows], axis=1), allowed)


def values_of(world: World, columns: Sequence[str]) -> Array:
    """What the columns are in this world (c,): a number, an entry of a list, the mean of a profile.

    Raises:
        RangeError: a column that is no parameter of the world.
    """
    found = []
    for column in columns:
        match = _PLACE.match(column)
        name, place = (match[1], int(match[2])) if match else (column, None)
        if not hasattr(world.params, name):
            raise RangeError(f"{column!r} is no parameter of {world.id}: the policy belongs to another world")
        value = np.asarray(getattr(world.params, name), np.float64)
        found.append(float(value.reshape(-1)[place]) if place is not None else float(value.mean()))
    return np.array(found)


def in_world(policy: Policy, world: World) -> Policy:
    """The policy as served in this world with perfect estimates: the parameters that it takes are filled in."""
    columns: tuple[str, ...] = getattr(policy, "conditioned", ())
    return Conditioned(policy, values_of(world, columns)) if columns else policy
