"""Whole ranges of worlds at once: parameters that differ from row to row and can be part of the observation."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from envs.dynamics import Array, Field, ParamsError, World


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Parameters of a world that are drawn anew for each episode, as columns of numbers.

    A parameter that the world holds as a list (the wear of each component) takes one column per entry, each over the
    same range; one that is a profile over time takes one column, its mean.

    Args:
        world: what is varied; everything else stays, the action set above all.
        ranges: low and high of each parameter; drawn log-uniformly where low is above 0, else uniformly.

    Raises:
        ParamsError: a parameter that cannot vary, or a range that does not ascend.
    """

    world: World
    ranges: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if name not in self.world.tunable:
                raise ParamsError(f"{name} of {self.world.id} cannot vary: give any of {', '.join(self.world.tunable)}")
            if not -np.inf < low < high < np.inf:
                raise ParamsError(f"the range {low:g} to {high:g} of {name} must be finite and ascend")

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """One entry for each column, with the range as its bounds."""
        columns = ((name, column) for name in self.ranges for column in columns_of(self.world, name))
        return tuple(Field(column, "", *self.ranges[name], f"parameter {column}") for name, column in columns)

    @cached_property
    def _bounds(self) -> tuple[Array, Array, NDArray[np.bool_]]:
        low = np.array([field.low for field in self.fields])
        return low, np.array([field.high for field in self.fields]), low > 0

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Parameter columns (n, d)."""
        return self.unscaled(2.0 * rng.random((n, len(self.fields))) - 1.0)

    def scaled(self, values: Array) -> Array:
        """Columns (n, d) taken from their ranges to [-1, 1], on a log scale where they are drawn on one."""
        low, high, log = self._bounds
        safe = np.where(log, low, 1.0)
        ratio = np.log(np.where(log, values, 1.0) / safe) / np.log(np.where(log, high, np.e) / safe)
        return np.asarray(2.0 * np.where(log, ratio, (values - low) / (high - low)) - 1.0)

    def unscaled(self, scaled: Array) -> Array:
        """The inverse of `scaled`."""
        low, high, log = self._bounds
        share = (scaled + 1.0) / 2.0
        safe = np.where(log, low, 1.0)
        return np.asarray(np.where(log, safe * (np.where(log, high, 1.0) / safe) ** share, low + (high - low) * share))

    def world_of(self, values: Array) -> World:
        """The world with these columns (n, d) as the parameters of its n rows."""
        return with_columns(self.world, tuple(self.ranges), values)


def columns_of(world: World, name: str) -> tuple[str, ...]:
    """Names of the columns that a parameter takes: its own name, or one for each entry of a list."""
    width = world.tunable[name]
    return (name,) if width == 1 else tuple(f"{name}[{place}]" for place in range(width))


def nominal(world: World) -> dict[str, float]:
    """The numbers that a world's parameters are, by column; none for a parameter that changes over time or by row."""
    found: dict[str, float] = {}
    for name in world.tunable:
        columns, value = columns_of(world, name), np.atleast_1d(np.asarray(getattr(world.params, name), np.float64))
        if value.shape == (len(columns),):
            found.update(zip(columns, value.tolist(), strict=True))
    return found


def with_columns(world: World, names: tuple[str, ...], values: Array) -> World:
    """The world whose parameters `names` are given as columns (n, d), parameter after parameter."""
    widths = [world.tunable[name] for name in names]
    parts = np.split(np.asarray(values, np.float64), np.cumsum(widths)[:-1], axis=1)
    return world.with_params(
        {name: part[:, 0] if width == 1 else part for name, width, part in zip(names, widths, parts, strict=True)}
    )
