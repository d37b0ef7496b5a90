"""Live estimates of a world's parameters: quick after a change and calm before it.

With a constant hazard, Bayesian change-point detection (Adams and MacKay 2007, arXiv:0710.3742) summed over all run
lengths is a hidden-Markov filter on the parameters (fixed share; Herbster and Warmuth 1998, Machine Learning 32): no
windows, no run lengths, no restarts. Weights on atoms are mixed with the prior and with moderate steps, then multiplied
by the likelihood of what was seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from envs.atoms import Atoms, Factor, mixed, quantile
from envs.change import Alarm, ShiryaevRoberts
from envs.dynamics import Array
from envs.likelihood import DISPERSION

MEMORY = 400.0
"""Transitions over which the share of absurd outcomes is counted."""

_ENDS = np.array([0.025, 0.5, 0.975])
_SCATTERED_EVERY = 4


@dataclass(frozen=True)
class Hazard:
    """How often the world is expected to change, and when that is worth an alarm.

    Both chances are for outcomes that scatter like counts; where they scatter more, and each tells as much less, they
    are divided by the estimated dispersion: as many outcomes more are needed before they are forgotten.

    Args:
        anew: chance per transition that the parameters are drawn anew from the wide prior.
        moderate: chance per transition that they move by a moderate step.
        threshold: transitions between two false alarms, at least, on average; 0 for no alarms.
    """

    anew: float = 0.0005
    moderate: float = 0.002
    threshold: float = 30_000.0

    def shared(self, entities: int) -> "Hazard":
        """The same chances per period where so many entities tell of the same parameters in each."""
        return replace(self, anew=self.anew / entities, moderate=self.moderate / entities)

    def __post_init__(self) -> None:
        if min(self.anew, self.moderate) < 0 or self.anew + self.moderate >= 1:
            given = f"{self.anew:g} and {self.moderate:g}"
            raise ValueError(f"hazards {given} are chances: give at least 0, below 1 in sum")
        if self.threshold < 0:
            raise ValueError(f"threshold is {self.threshold:g}: give a number of transitions, or 0 for no alarms")


@dataclass(frozen=True, eq=False)
class Estimate:
    """What is believed of a world's parameters now.

    Args:
        columns: names.
        values: (d,) posterior medians, physical units.
        standard_errors: (d,) in the same units.
        lower, upper: (d,) ends of the 95 % intervals.
        dispersion: variance of demand over its mean, 1 where it is Poisson or not counted.
        outside: chance that a parameter lies outside the range for which policies were trained, by column.
        absurd: share of the recent outcomes that no parameters explain.
        decisions: transitions that told something.
    """

    columns: tuple[str, ...]
    values: Array
    standard_errors: Array
    lower: Array
    upper: Array
    dispersion: float
    outside: Mapping[str, float]
    absurd: float
    decisions: int

    def params(self) -> dict[str, float]:
        """Estimates by column."""
        return dict(zip(self.columns, self.values.tolist(), strict=True))


class HazardFilter:
    """Follows the parameters of one world (or of several that share them) from transitions as they come in.

    Args:
        atoms: shared by all filters of a point.
        hazard: how often the world is expected to change.

    >>> from envs import worlds
    >>> world = worlds.make("inventory", {"mean": 5.0})
    >>> live = HazardFilter(Atoms(world, ("mean",)))
    >>> _ = [live.learn_one([30, 5, 5, 5], 5, {"sold": 10}) for _ in range(50)]
    >>> round(live.estimate().params()["mean"])
    10
    """

    def __init__(self, atoms: Atoms, hazard: Hazard | None = None) -> None:
        self.atoms = atoms
        self.hazard = hazard or Hazard()
        self._weights: list[Array] = [factor.initial for factor in atoms.factors]
        self._scatter = [_scatter(atoms, factor) for factor in atoms.factors]
        nominal = atoms.likelihood.unbounded(atoms.likelihood.nominal)
        self._tests = [ShiryaevRoberts(factor, nominal[factor.place]) for factor in atoms.factors]
        self._decisions, self._absurd = 0, 0.0

    def learn_one(self, observation: Any, action: Any, fields: Mapping[str, Any]) -> Alarm | None:
        """Take in one transition; the alarm that it caused, if any."""
        several = {name: np.asarray([value]) for name, value in fields.items()}
        rows = self.atoms.rows(np.asarray(observation)[None], np.asarray([action]), several)
        return self._learn(rows[0])

    def learn_many(self, observations: Any, actions: Any, fields: Mapping[str, Any]) -> tuple[Alarm, ...]:
        """Take in transitions (n, k), (n,) in the order in which they happened; the alarms that they caused."""
        every = {name: np.asarray(values) for name, values in fields.items()}
        rows = self.atoms.rows(np.asarray(observations), np.asarray(actions), every)
        return tuple(alarm for alarm in map(self._learn, rows) if alarm is not None)

    def _learn(self, rows: Sequence[tuple[float, ...]]) -> Alarm | None:
        if not rows:
            return None
        self._decisions += 1
        alarm = None
        for place, factor in enumerate(self.atoms.factors):
            told = [likely for row in rows if (likely := factor.told(row)) is not None]
            self._weights[place] = self._updated(place, told)
            if self.hazard.threshold and told:
                for likely in told:
                    self._tests[place].learn(likely, self._decisions)
                alarm = alarm or self._alarmed(place)
        return alarm

    def _updated(self, place: int, told: list[Array]) -> Array:
        factor, weights, scatter = self.atoms.factors[place], self._weights[place], self._scatter[place]
        slower = 1.0 if scatter is None else float(weights @ scatter)
        anew, moderate = self.hazard.anew / slower, self.hazard.moderate / slower
        if factor.dense:
            # Matrices of scattered atoms are too large to be applied each time.
            moderate *= _SCATTERED_EVERY * (self._decisions % _SCATTERED_EVERY == 0)
        parts = [(1.0 - anew - moderate, weights), (anew, factor.initial)]
        if moderate:
            parts.append((moderate, factor.drifted(weights)))
        updated = mixed(parts)
        for likely in told:
            updated = updated * likely
            total = float(updated.sum())
            updated /= total
            share = self.atoms.prior.floor / total
            self._absurd += (share - self._absurd) / MEMORY
        return updated

    def _alarmed(self, place: int) -> Alarm | None:
        """Each factor may alarm by mistake: together no oftener than announced."""
        test, threshold = self._tests[place], self.hazard.threshold
        statistic = test.statistic / len(self.atoms.factors)
        if statistic <= threshold:
            return None
        before, after = self._named(place, test.accepted), self._median(place)
        alarm = Alarm(self._decisions, test.since, statistic, threshold, before, self._named(place, after))
        test.notice(self._decisions, self._weights[place], after)
        return alarm

    def _median(self, place: int) -> Array:
        factor = self.atoms.factors[place]
        marginals = (factor.marginal(self._weights[place], j) for j in range(len(factor.columns)))
        return np.array([float(quantile(*marginal, 0.5)) for marginal in marginals])

    def _named(self, place: int, point: Array) -> dict[str, float]:
        values = self._physical(place, point)
        return dict(zip(self.atoms.factors[place].columns, values.tolist(), strict=True))

    def _physical(self, place: int, point: Array) -> Array:
        known, factor = self.atoms.likelihood, self.atoms.factors[place]
        full = known.unbounded(known.nominal)
        full[factor.place] = point
        return np.asarray(known.physical(full)[factor.place])

    def accept(self, values: Mapping[str, float]) -> None:
        """Take parameters as those from which a change is to be noticed: after a recalibration or a release."""
        known = self.atoms.likelihood
        full = known.nominal.copy()
        for column, value in values.items():
            full[known.columns.index(column)] = value
        for factor, test, weights in zip(self.atoms.factors, self._tests, self._weights, strict=True):
            test.reset(weights, known.unbounded(full)[factor.place])

    def estimate(self) -> Estimate:
        """What is believed now; the prior's centre where nothing was seen."""
        known = self.atoms.likelihood
        found, outside = np.empty((3, len(known.columns))), {}
        spread = np.empty(len(known.columns))
        for factor, weights in zip(self.atoms.factors, self._weights, strict=True):
            for j, column in enumerate(factor.columns):
                levels, mass = factor.marginal(weights, j)
                at = factor.place[j]
                found[:, at] = quantile(levels, mass, _ENDS)
                mean = float(mass @ levels)
                spread[at] = np.sqrt(float(mass @ (levels - mean) ** 2))
                if column in self.atoms.ranges:
                    outside[column] = self._beyond(levels, mass, column, int(at))
        physical = known.physical(found)
        told = [i for i, column in enumerate(known.columns) if column != DISPERSION]
        dispersion = float(physical[1, known.columns.index(DISPERSION)]) if len(told) < len(known.columns) else 1.0
        return Estimate(
            self.atoms.columns,
            physical[1, told],
            (spread * known.slope(physical[1]))[told],
            physical[0, told],
            physical[2, told],
            dispersion,
            outside,
            self._absurd,
            self._decisions,
        )

    def _beyond(self, levels: Array, mass: Array, column: str, at: int) -> float:
        known = self.atoms.likelihood
        ends = np.repeat(known.nominal[None], 2, axis=0)
        ends[:, at] = self.atoms.ranges[column]
        total = np.cumsum(mass)
        below, above = np.interp(known.unbounded(ends)[:, at], levels, total - mass / 2, left=0.0, right=1.0)
        return float(min(1.0, max(0.0, below + 1.0 - above)))

    def snapshot(self) -> dict[str, Any]:
        """The state as plain arrays and numbers; `restore` goes on from it bit for bit."""
        tests = [
            {
                "accepted": t.accepted,
                "believed": t.believed,
                "ratios": t.ratios,
                "starts": t.starts,
                "noticed": t.noticed,
            }
            for t in self._tests
        ]
        return {"decisions": self._decisions, "absurd": self._absurd, "weights": list(self._weights), "tests": tests}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot of a filter with the same atoms.

        Raises:
            ValueError: a snapshot of other atoms.
        """
        sizes = [factor.m for factor in self.atoms.factors]
        given = [len(weights) for weights in state["weights"]]
        if given != sizes:
            raise ValueError(f"the snapshot has {given} atoms, this filter {sizes}: start it anew")
        self._decisions, self._absurd = int(state["decisions"]), float(state["absurd"])
        self._weights = [np.asarray(weights, np.float64) for weights in state["weights"]]
        for test, saved in zip(self._tests, state["tests"], strict=True):
            arrays = (saved["accepted"], saved["believed"], saved["ratios"], saved["starts"])
            test.restore(*arrays, noticed=saved.get("noticed"))


def _scatter(atoms: Atoms, factor: Factor) -> Array | None:
    """The dispersion (m,) of each atom; `None` where none is counted."""
    if DISPERSION not in factor.columns:
        return None
    return np.asarray(factor.values[:, atoms.likelihood.columns.index(DISPERSION)])
