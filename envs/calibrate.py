"""Calibrators: the parameters of a world from its logged transitions, with standard errors, as they come in.

What was seen is kept as a table of counts of different pieces of evidence, which are few; so an estimate after a
million updates costs no more than after a thousand, and learning one by one gives what learning at once gives.
Maximum a posteriori by Newton's method on log (or logit) parameters; standard errors from the observed information.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm  # type: ignore[import-untyped]

from envs.dynamics import Action, Array, Fields, World
from envs.likelihood import NOTHING, Likelihood, likelihood

PRIOR_SPREAD = 1.5
"""Standard deviation of the prior in the log (or logit) of a parameter: a factor of 4.5 either way."""

IDENTIFIED = 0.5
"""A parameter counts as told by the data when its spread is below this share of the prior's."""

_GRADIENT_STEP, _HESSIAN_STEP = 1e-4, 1e-3
_MAX_STEPS = 60
_CONVERGED = 1e-9
_RESCALE = 1e9
_NO_EVIDENCE = (NOTHING,) * 5


@dataclass(frozen=True, eq=False)
class Estimate:
    """What the data say about some parameters.

    Args:
        columns: names.
        values: (d,) estimates, physical units.
        standard_errors: (d,) in the same units.
        lower, upper: (d,) ends of the 95 % intervals.
        identified: whether the data, rather than the prior, decide each of them.
        advice: what to try for those that are not identified, by column.
        decisions: how many transitions count, after forgetting.
        covariance: (d, d) of the log (or logit) parameters.
    """

    columns: tuple[str, ...]
    values: Array
    standard_errors: Array
    lower: Array
    upper: Array
    identified: tuple[bool, ...]
    advice: Mapping[str, str]
    decisions: float
    covariance: Array

    def params(self) -> dict[str, float]:
        """Estimates by column."""
        return dict(zip(self.columns, self.values.tolist(), strict=True))


class Calibrator:
    """Estimates parameters of a world from transitions, one by one or many at once.

    Args:
        world: its parameters are the centre of the prior.
        names: what is estimated; by default all that transitions can tell.
        prior_spread: standard deviation of the prior in the log (or logit) of each parameter.
        forgetting: weight of all that was seen before each new transition; 1 forgets nothing, .99 remembers about 100.
    """

    def __init__(
        self,
        world: World,
        names: tuple[str, ...] | None = None,
        *,
        prior_spread: float = PRIOR_SPREAD,
        forgetting: float = 1.0,
    ) -> None:
        if not 0 < forgetting <= 1:
            raise ValueError(f"forgetting is {forgetting:g}: give a share above 0, at most 1")
        if not prior_spread > 0:
            raise ValueError(f"prior_spread is {prior_spread:g}: give a positive standard deviation")
        self.likelihood: Likelihood = likelihood(world, names)
        self._prior_spread, self._forgetting = prior_spread, forgetting
        self._counts: dict[tuple[float, ...], float] = {}
        self._decisions, self._unit = 0.0, 1.0
        self._start: Array | None = None

    def learn_one(self, observation: Any, action: Any, fields: Mapping[str, Any]) -> None:
        """Take in one transition: an observation (k,), an action, and the fields of its outcome."""
        several = {name: np.asarray([value]) for name, value in fields.items()}
        rows = self.likelihood.evidence(np.asarray(observation)[None], np.asarray([action]), several)[0]
        self._age(1)
        for row in rows[rows[:, 0] != NOTHING].tolist():
            key = tuple(row)
            self._counts[key] = self._counts.get(key, 0.0) + self._unit
        self._decisions += self._unit

    def learn_many(self, observations: NDArray[Any], actions: Action, fields: Fields) -> None:
        """Take in transitions (n, k), (n,), in the order in which they happened."""
        rows = self.likelihood.evidence(observations, actions, fields)
        n, r, c = rows.shape
        units = np.full(n, self._unit)
        if self._forgetting < 1:
            units = self._unit * self._forgetting ** -np.arange(1.0, n + 1)
        if not np.isfinite(units).all():
            half = n // 2
            for part in (slice(0, half), slice(half, n)):
                self.learn_many(observations[part], actions[part], {name: v[part] for name, v in fields.items()})
            return
        flat, weight = rows.reshape(n * r, c), np.repeat(units, r)
        told = flat[:, 0] != NOTHING
        keys, index = np.unique(flat[told], axis=0, return_inverse=True)
        sums = np.bincount(index.ravel(), weights=weight[told], minlength=len(keys))
        for key, total in zip(map(tuple, keys.tolist()), sums.tolist(), strict=True):
            self._counts[key] = self._counts.get(key, 0.0) + total
        self._decisions += float(units.sum())
        self._unit = float(units[-1]) if n else self._unit
        self._age(0)

    def _age(self, transitions: int) -> None:
        """Rather than shrinking all counts the new ones grow; now and then everything is scaled back."""
        self._unit *= self._forgetting**-transitions
        if self._unit > _RESCALE:
            kept = ((key, count / self._unit) for key, count in self._counts.items())
            self._counts = {key: count for key, count in kept if count > 1e-12}
            self._decisions /= self._unit
            self._unit = 1.0

    def snapshot(self) -> dict[str, Any]:
        """All that was learned, of numbers alone, for `restore`."""
        return {"counts": dict(self._counts), "told": (self._decisions, self._unit), "start": self._start}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot of a calibrator that was made alike."""
        self._counts, (self._decisions, self._unit) = dict(state["counts"]), state["told"]
        self._start = state["start"]

    @property
    def pieces(self) -> int:
        """How many different pieces of evidence are kept: what the memory depends on."""
        return len(self._counts)

    def estimate(self) -> Estimate:
        """The estimate from all that was seen; the prior's centre where nothing was."""
        rows = np.array(list(self._counts) or [_NO_EVIDENCE], np.float64)
        weights = np.array(list(self._counts.values()) or [0.0]) / self._unit
        objective = _Objective(self.likelihood, rows, weights, self._prior_spread)
        point = objective.maximise(objective.centre if self._start is None else self._start)
        self._start = point
        information = -objective.hessian(point)
        covariance = np.linalg.inv(information)
        return self._described(objective, point, np.asarray((covariance + covariance.T) / 2.0, np.float64))

    def _described(self, objective: "_Objective", point: Array, covariance: Array) -> Estimate:
        spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        values = objective.physical(point[None])[0]
        half = float(norm.ppf(0.975)) * spread
        identified = spread < IDENTIFIED * self._prior_spread
        names = [name for name, known in zip(self.likelihood.columns, identified, strict=True) if not known]
        advice = {name: self.likelihood.advice.get(name.split("[")[0], "explore more") for name in names}
        return Estimate(
            self.likelihood.columns,
            values,
            spread * objective.slope(point),
            objective.physical((point - half)[None])[0],
            objective.physical((point + half)[None])[0],
            tuple(identified.tolist()),
            advice,
            self._decisions / self._unit,
            covariance,
        )


class _Objective:
    """Log posterior of log (or logit, or plain) parameters, with numerical derivatives by vectorised evaluation."""

    def __init__(self, known: Likelihood, rows: Array, weights: Array, prior_spread: float) -> None:
        self._known, self._rows, self._weights, self._prior_spread = known, rows, weights, prior_spread
        self.centre: Array = known.unbounded(known.nominal)

    def physical(self, points: Array) -> Array:
        """Parameters (m, d) of transformed ones."""
        return self._known.physical(points)

    def slope(self, point: Array) -> Array:
        """Derivative (d,) of the parameters."""
        return self._known.slope(self.physical(point[None])[0])

    def at(self, points: Array) -> Array:
        """Log posterior (m,)."""
        prior = -0.5 * (((points - self.centre) / self._prior_spread) ** 2).sum(axis=1)
        return np.asarray(self._known.loglik(self.physical(points), self._rows) @ self._weights + prior, np.float64)

    def gradient(self, point: Array) -> Array:
        """Central differences."""
        steps = np.eye(len(point)) * _GRADIENT_STEP
        found = self.at(np.concatenate([point + steps, point - steps]))
        return np.asarray((found[: len(point)] - found[len(point) :]) / (2 * _GRADIENT_STEP))

    def hessian(self, point: Array) -> Array:
        """Central differences of second order, all pairs at once; made negative definite where it is not."""
        d = len(point)
        first, second = np.triu_indices(d)
        steps = np.eye(d) * _HESSIAN_STEP
        plus, minus = steps[first] + steps[second], steps[first] - steps[second]
        found = self.at(np.concatenate([point + plus, point - plus, point + minus, point - minus])).reshape(4, -1)
        entries = (found[0] + found[1] - found[2] - found[3]) / (4 * _HESSIAN_STEP**2)
        matrix = np.zeros((d, d))
        matrix[first, second] = matrix[second, first] = entries
        values, vectors = np.linalg.eigh(matrix)
        # The prior alone curves by this much; anything flatter is noise of the differences.
        limited = np.minimum(values, -0.5 / self._prior_spread**2)
        return np.asarray(vectors @ (limited[:, None] * vectors.T))

    def maximise(self, start: Array) -> Array:
        """Newton's method with halved steps where a whole one does not improve."""
        # From the last estimate or from the prior's centre, whichever is likelier: a change can be large.
        starts = np.stack([start, self.centre])
        point: Array = starts[int(np.argmax(self.at(starts)))]
        best = float(self.at(point[None])[0])
        for _ in range(_MAX_STEPS):
            step = -np.linalg.solve(self.hessian(point), self.gradient(point))
            step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
            shares = 0.5 ** np.arange(12.0)
            tried = self.at(point + shares[:, None] * step)
            place = int(np.argmax(tried))
            if tried[place] <= best or float(np.abs(step).max()) < _CONVERGED:
                # The differences resolve the top better than the values do: a last small step is taken on trust.
                return np.asarray(point + step if float(np.abs(step).max()) < 1e-5 else point, np.float64)
            point, best = np.asarray(point + shares[place] * step, np.float64), float(tried[place])
        return point
