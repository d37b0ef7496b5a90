"""What policies are worth, exactly, over the parameters of a world: optimum and rivals side by side. Pure.

The value is that of an episode, or the average reward of a period where the world never ends. Rewards per decision
would mislead: a rule that sells out early earns more with each of its few decisions and less in all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from agents.evaluate import tabulated
from agents.policy import Array, Mask, Observation, Policy
from agents.ranges import values_of
from envs import exact
from envs.dynamics import World
from envs.tabulate import StateSpaceTooLarge

OPTIMUM = "optimum"
MAX_PAIRS = 200_000
"""States times actions of a world that is solved again and again."""

_LINE, _SQUARE = 17, 7
_BEYOND = 2.0


@dataclass(frozen=True)
class Worth:
    """Values over a grid of parameters.

    Args:
        axes: name and values of each varied parameter, at most two; none where nothing varies.
        values: by name of the policy, one number for each cell, the last axis fastest.
    """

    axes: tuple[tuple[str, tuple[float, ...]], ...]
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Rival:
    """A policy to be compared, and the ranges of the parameters that it takes: it sees nothing beyond."""

    policy: Policy
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Clipped:
    """A policy that takes parameters, served as it was trained: what lies outside its ranges is moved to their ends."""

    policy: Policy
    params: Array
    low: Array
    high: Array

    @property
    def kind(self) -> str:
        """That of the policy."""
        return self.policy.kind

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """Probabilities (n, a) of contexts (n, k)."""
        row = np.clip(self.params, self.low, self.high).astype(np.float32)
        rows = np.broadcast_to(row, (len(observation), len(row)))
        return self.policy.probabilities(np.concatenate([observation, rows], axis=1), allowed)


def worth(world: World, ranges: Mapping[str, tuple[float, float]], rivals: Mapping[str, Rival]) -> Worth:
    """What each policy, and the optimum, are worth over the ranges and a little beyond.

    Args:
        ranges: at most two are varied; of more, none is, and the world stays as it is.

    Raises:
        StateSpaceTooLarge: a world that is not solved in a moment.
    """
    _require_small(world)
    axes = _axes(world, ranges)
    found: dict[str, list[float]] = {name: [] for name in (OPTIMUM, *rivals)}
    for cell in product(*(values for _, values in axes)):
        there = world.with_params({name: value for (name, _), value in zip(axes, cell, strict=True)}) if axes else world
        found[OPTIMUM].append(exact.solve(there).value)
        for name, rival in rivals.items():
            table = tabulated(_served(rival, there), there)
            if table is None:
                raise StateSpaceTooLarge(f"{world.id} has too many states to evaluate a policy in each")
            found[name].append(exact.policy_value(there, table))
    return Worth(axes, {name: tuple(values) for name, values in found.items()})


def _require_small(world: World) -> None:
    if len(world.actions.nvec) != 1 or not hasattr(world, "branches"):
        raise StateSpaceTooLarge(f"{world.id} has no exact optimum over single actions")
    pairs = len(exact.states(world)) * world.actions.n
    if pairs > MAX_PAIRS:
        raise StateSpaceTooLarge(f"{world.id} has {pairs:,} states with actions; {MAX_PAIRS:,} are solved at once")


def _axes(world: World, ranges: Mapping[str, tuple[float, float]]) -> tuple[tuple[str, tuple[float, ...]], ...]:
    varied = {name: ends for name, ends in ranges.items() if world.tunable.get(name) == 1}
    if not 1 <= len(varied) <= 2 or len(varied) < len(ranges):
        return ()
    count = _LINE if len(varied) == 1 else _SQUARE
    return tuple((name, _grid(low, high, count)) for name, (low, high) in varied.items())


def _grid(low: float, high: float, count: int) -> tuple[float, ...]:
    """Values over a range and beyond it, to twice its upper and half its lower end, both ends among them."""
    inner = np.geomspace(low, high, count - 4) if low > 0 else np.linspace(low, high, count - 4)
    if low <= 0:
        return tuple(inner.tolist())
    steps = np.geomspace(1.0, _BEYOND, 3)[1:]
    return tuple(np.concatenate([low / steps[::-1], inner, high * steps]).tolist())


def _served(rival: Rival, world: World) -> Policy:
    columns: tuple[str, ...] = getattr(rival.policy, "conditioned", ())
    if not columns:
        return rival.policy
    ends = np.array([rival.bounds.get(name, (-np.inf, np.inf)) for name in columns])
    return Clipped(rival.policy, values_of(world, columns), ends[:, 0], ends[:, 1])
