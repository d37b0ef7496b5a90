"""Families of worlds: one world, or all those whose parameters lie in given ranges, as training sees them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.policy import Array, Mask, Observation, Policy
from envs.conditioning import Conditioning
from envs.dynamics import ParamsError, State, World

_PLACE = re.compile(r"^(.+)\[(\d+)\]$")


@dataclass(frozen=True, eq=False)
class Family(Conditioning):
    """A world with ranges, which may be empty: then every member is the world itself.

    The columns of the varied parameters follow the context in the observation.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the parameter columns."""
        return tuple(entry.name for entry in self.fields)

    @property
    def bounds(self) -> Array:
        """(k, 2) lowest and highest value of each entry of the observation."""
        return np.array([(entry.low, entry.high) for entry in (*self.world.context, *self.fields)], np.float64)

    def members(self, rows: Array) -> World:
        """The worlds of these columns (n, c), one in each row."""
        return self.world_of(rows) if self.ranges else self.world

    def member(self, values: Array) -> World:
        """The world of these columns (c,); can be solved exactly."""
        given, start = {}, 0
        for name in self.ranges:
            width = self.world.tunable[name]
            part = values[start : start + width]
            given[name] = float(part[0]) if width == 1 else part
            start += width
        return self.world.with_params(given) if given else self.world

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
        ParamsError: a column that is no parameter of the world.
    """
    found = []
    for column in columns:
        match = _PLACE.match(column)
        name, place = (match[1], int(match[2])) if match else (column, None)
        if not hasattr(world.params, name):
            raise ParamsError(f"{column!r} is no parameter of {world.id}: the policy belongs to another world")
        value = np.asarray(getattr(world.params, name), np.float64)
        found.append(float(value.reshape(-1)[place]) if place is not None else float(value.mean()))
    return np.array(found)


def in_world(policy: Policy, world: World) -> Policy:
    """The policy as served in this world with perfect estimates: the parameters that it takes are filled in."""
    columns: tuple[str, ...] = getattr(policy, "conditioned", ())
    return Conditioned(policy, values_of(world, columns)) if columns else policy
