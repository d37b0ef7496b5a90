"""Atoms: the parameter values that a live estimator weighs, what is likely before any data, and how they drift.

Parameters that can be told apart from the others form a factor of their own (each component's wear, the rival's moves),
with its own atoms: a product grid for up to three parameters, Sobol points beyond. What a piece of evidence says about
all atoms of a factor is computed once and remembered, so that many filters of one world share the work.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from scipy.special import ndtri  # type: ignore[import-untyped]
from scipy.stats import qmc  # type: ignore[import-untyped]

from envs.conditioning import columns_of
from envs.dynamics import Array, Fields, World
from envs.likelihood import DISPERSION, NOTHING, Likelihood, dispersed, likelihood

POINTS = {1: 81, 2: 31, 3: 15}
"""Points of an axis, by how many parameters a factor has."""

SOBOL_ATOMS = 2048
REMEMBERED = 4_000_000
"""Numbers that a factor remembers at most: as many pieces of evidence as fit."""

_REACH = 2.5
_BEYOND = 0.7
_UNTOLD = 1e-9


@dataclass(frozen=True)
class Prior:
    """What is held possible before any data, in logs (logits of probabilities).

    Args:
        spread: standard deviation of a positive parameter's log round the world's value.
        probability_spread: of a probability's logit.
        local: standard deviation of a moderate change, as a share of the spread.
        dispersions: variances of demand over its mean that are weighed, where demand is counted; (1,) for Poisson.
        floor: likelihood that any outcome has at least, whatever the parameters: absurd outcomes say little.
    """

    spread: float = 0.8
    probability_spread: float = 1.5
    local: float = 0.45
    dispersions: tuple[float, ...] = (1.0, 1.4, 2.0, 3.0)
    floor: float = 1e-5


class Factor:
    """The atoms of parameters that are told together.

    Args:
        known: the likelihood of all columns.
        columns: those of this factor.
        prior: what is held possible.
        limits: (d, 2) values that the atoms must reach, by column.
    """

    def __init__(
        self, known: Likelihood, columns: tuple[str, ...], prior: Prior, limits: Mapping[str, tuple[float, float]]
    ) -> None:
        self._known, self._prior = known, prior
        self.columns = columns
        self.place = np.array([known.columns.index(column) for column in columns])
        d = len(set(columns) - {DISPERSION})
        axes = [self._axis(known, column, prior, limits, d) for column in columns]
        points, self._kernels, self._shape = _product(axes) if d <= max(POINTS) else _scattered(axes)
        self.m = len(points)
        centre = known.unbounded(known.nominal)
        full = np.repeat(centre[None], self.m, axis=0)
        full[:, self.place] = points
        values = known.physical(full)
        self.values: Array = values
        self.points: Array = points
        self.initial: Array = self._weighed(axes)
        levels = [np.unique(points[:, j], return_inverse=True) for j in range(len(columns))]
        self.levels: tuple[Array, ...] = tuple(level for level, _ in levels)
        self._codes = [code.ravel() for _, code in levels]
        self._axes = axes
        self._told: OrderedDict[tuple[float, ...], Array | None] = OrderedDict()

    @staticmethod
    def _axis(
        known: Likelihood, column: str, prior: Prior, limits: Mapping[str, tuple[float, float]], d: int
    ) -> "_Axis":
        if column == DISPERSION:
            steps = np.log(prior.dispersions)
            return _Axis(steps, float(steps[0]), np.inf, 0.0)
        at = known.columns.index(column)
        one = np.repeat(known.nominal[None], 2, axis=0)
        one[:, at] = limits.get(column, (known.nominal[at],) * 2)
        ends, centre = known.unbounded(one)[:, at], float(known.unbounded(known.nominal)[at])
        spread = prior.probability_spread if known.probability[at] else prior.spread
        low = min(centre - _REACH * spread, ends[0] - _BEYOND)
        high = max(centre + _REACH * spread, ends[1] + _BEYOND)
        count = POINTS.get(d, POINTS[3])
        # The world's own value is one of the points wherever nothing stretches the axis to one side.
        return _Axis(np.linspace(low, high, count), centre, spread, spread * prior.local)

    def _weighed(self, axes: list["_Axis"]) -> Array:
        logs = sum(-0.5 * ((self.points[:, j] - axis.centre) / axis.spread) ** 2 for j, axis in enumerate(axes))
        if self._shape is None:
            logs = np.zeros(self.m)  # Sobol points are drawn from the prior already
        weights = np.exp(np.asarray(logs) - np.max(logs))
        return np.asarray(weights / weights.sum())

    @property
    def dense(self) -> bool:
        """Whether the atoms are scattered, so that their drift is one large matrix."""
        return self._shape is None

    def close_to(self, point: Array, spread: float) -> Array:
        """Weights (m,) of a prior round a point (d,), with a spread in units of `Prior.spread`."""
        logs = np.zeros(self.m)
        for j, axis in enumerate(self._axes):
            if np.isfinite(axis.spread):
                step = float(np.diff(self.levels[j]).min()) if self._shape is not None else axis.spread / 4
                # Narrower than half a cell there would be nothing between the points.
                width = max(spread * axis.spread, step / 2)
                logs -= 0.5 * ((self.points[:, j] - point[j]) / width) ** 2
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum())

    def drifted(self, weights: Array) -> Array:
        """The weights (m,) after a moderate change of the parameters."""
        if self._shape is None:
            return np.asarray(weights @ self._kernels[0])
        cube = weights.reshape(self._shape)
        for j, kernel in enumerate(self._kernels):
            if kernel.size > 0:
                cube = np.moveaxis(np.tensordot(cube, kernel, (j, 0)), -1, j)
        return np.asarray(cube.reshape(-1))

    def told(self, row: tuple[float, ...]) -> Array | None:
        """Likelihood (m,) of a row of evidence, at least the floor; `None` where it says nothing of this factor."""
        if row in self._told:
            self._told.move_to_end(row)
            return self._told[row]
        found = self._known.loglik(self.values, np.array([row]))[:, 0]
        likely: Array | None = None
        if np.ptp(found) > _UNTOLD:
            likely = (np.exp(np.minimum(found, 50.0)) + self._prior.floor).astype(np.float32)
        self._told[row] = likely
        if len(self._told) * self.m > REMEMBERED and len(self._told) > 64:
            self._told.popitem(last=False)
        return likely

    def marginal(self, weights: Array, j: int) -> tuple[Array, Array]:
        """Values (k,) of the j-th parameter in unbounded form, ascending, and their weights (k,)."""
        masses = np.bincount(self._codes[j], weights=weights, minlength=len(self.levels[j]))
        return self.levels[j], np.asarray(masses, np.float64)


@dataclass(frozen=True, eq=False)
class _Axis:
    points: Array
    centre: float
    spread: float
    local: float


def _kernel(points: Array, local: float) -> Array:
    """Row-normalised Gaussian steps between points (k,) or (k, d) in units of `local`; empty for what stays."""
    if local == 0:
        return np.zeros((0, 0))
    apart = (points[:, None] - points[None]) / local
    squared = apart**2 if apart.ndim == 2 else (apart**2).sum(axis=2)
    steps = np.exp(-0.5 * squared)
    return np.asarray(steps / steps.sum(axis=1, keepdims=True))


def _product(axes: list[_Axis]) -> tuple[Array, list[Array], tuple[int, ...] | None]:
    mesh = np.meshgrid(*[axis.points for axis in axes], indexing="ij")
    points = np.stack([axis.ravel() for axis in mesh], axis=1)
    return points, [_kernel(axis.points, axis.local) for axis in axes], tuple(len(axis.points) for axis in axes)


def _scattered(axes: list[_Axis]) -> tuple[Array, list[Array], tuple[int, ...] | None]:
    """Sobol points of the prior, unscrambled, so that they are the same wherever they are made."""
    uniform = qmc.Sobol(len(axes), scramble=False).random(2 * SOBOL_ATOMS)[1 : SOBOL_ATOMS + 1]
    columns = []
    for share, axis in zip(uniform.T, axes, strict=True):
        if np.isfinite(axis.spread):
            columns.append(axis.centre + axis.spread * ndtri(share))
        else:
            columns.append(axis.points[np.minimum((share * len(axis.points)).astype(int), len(axis.points) - 1)])
    points = np.stack(columns, axis=1)
    locals_ = np.array([axis.local or 1.0 for axis in axes])
    return points, [_kernel(points / locals_, 1.0)], None


class Atoms:
    """All factors of a world: shared by every filter of a point.

    Args:
        world: its parameters are the centre of the prior.
        names: what is estimated; by default all that transitions can tell.
        prior: what is held possible.
        ranges: where policies were trained; the atoms reach beyond them.
    """

    def __init__(
        self,
        world: World,
        names: tuple[str, ...] | None = None,
        *,
        prior: Prior | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self.prior = prior or Prior()
        plain = likelihood(world, names)
        self.columns = plain.columns
        wide = dispersed(world) and len(self.prior.dispersions) > 1
        chosen = tuple(dict.fromkeys(column.split("[")[0] for column in plain.columns))
        self.likelihood: Likelihood = likelihood(world, (*chosen, DISPERSION)) if wide else plain
        given = ((name, limits) for name, limits in (ranges or {}).items() if name in world.tunable)
        self.ranges = {
            column: limits for name, limits in given for column in columns_of(world, name) if column in plain.columns
        }
        groups = self.likelihood.factors or (self.likelihood.columns,)
        self.factors = tuple(Factor(self.likelihood, group, self.prior, self.ranges) for group in groups)

    def rows(self, observations: Any, actions: Any, fields: Fields) -> list[list[tuple[float, ...]]]:
        """What each transition tells: rows of evidence, none where it says nothing."""
        found = self.likelihood.evidence(observations, actions, fields).tolist()
        return [[tuple(row) for row in rows if row[0] != NOTHING] for rows in found]


def quantile(levels: Array, weights: Array, share: float | Array) -> Array:
    """Quantiles of weights on points, each point's mass spread evenly to the middle between its neighbours.

    >>> float(quantile(np.array([0.0, 1.0]), np.array([0.5, 0.5]), 0.5))
    0.5
    """
    total = np.cumsum(weights)
    return np.asarray(np.interp(share, (total - weights / 2) / total[-1], levels))


def mixed(parts: list[tuple[float, Array]]) -> Array:
    """A weighted sum of arrays."""
    return np.asarray(reduce(np.add, (share * part for share, part in parts)))
