"""Goodness of fit: whether one set of parameters explains the outcomes wherever the state and the action are.

A world whose shape is wrong (demand is linear where it says exponential, wear depends on age where it says it does not)
has no parameters that fit everywhere: low prices ask for others than high ones. So transitions are put into groups of
neighbouring values, by action and by each entry of the observation; each group is fitted by itself, and the estimates
are compared with one another (Cochran's Q for vectors, a Wald test of homogeneity). Only the likelihood is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2, norm  # type: ignore[import-untyped]

from envs.calibrate import Calibrator, Estimate
from envs.dynamics import Action, Array, Fields, World

GROUPS = 3
FIRST = 500
"""Transitions from which the limits of the groups are taken."""

LEAST = 200.0
"""Transitions that a group must have before it is compared."""

SURE = 5.0
"""Standard normal terms above which a misfit is no chance, however often one looks."""


@dataclass(frozen=True)
class Misfit:
    """How far the groups along one covariate are from having parameters in common.

    Args:
        covariate: `action`, or the name of an entry of the observation.
        statistic: the evidence in standard normal terms; above 5 it is no chance.
        limits: values between the groups.
        values: what each group asks for, by column, in the order of the groups.
        decisions: transitions that count.
    """

    covariate: str
    statistic: float
    limits: tuple[float, ...]
    values: Mapping[str, tuple[float, ...]]
    decisions: float

    @property
    def sure(self) -> bool:
        """Whether the outcomes disagree with the world whatever its parameters."""
        return self.statistic > SURE


class GoodnessOfFit:
    """Holds transitions of one set of parameters against the world's shape.

    Args:
        world: whose likelihood is held to account.
        names: parameters that are free; by default all that transitions can tell.
        memory: transitions that count; a change of the parameters is none of its business: `clear` on an alarm.
    """

    def __init__(self, world: World, names: tuple[str, ...] | None = None, *, memory: float = 20_000.0) -> None:
        if not memory > FIRST:
            raise ValueError(f"memory is {memory:g}: give more than {FIRST} transitions")
        self._world, self._names, self._memory = world, names, memory
        self.clear()

    def clear(self) -> None:
        """Forget everything: after a change."""
        self._waiting: list[tuple[Array, Array, dict[str, Array]]] = []
        self._seen = 0
        self._limits: dict[str, Array] = {}
        self._fits: dict[str, tuple[Calibrator, ...]] = {}

    def snapshot(self) -> dict[str, Any]:
        """All that was learned, for `restore`."""
        fits = {name: [fit.snapshot() for fit in group] for name, group in self._fits.items()}
        return {"waiting": list(self._waiting), "seen": self._seen, "limits": dict(self._limits), "fits": fits}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot of one for the same world and names."""
        self._waiting, self._seen = list(state["waiting"]), state["seen"]
        self._limits, self._fits = {}, {}
        for name, limits in state["limits"].items():
            self._compare(name, limits)
            for fit, known in zip(self._fits[name], state["fits"][name], strict=True):
                fit.restore(known)

    def learn_many(self, observations: Any, actions: Action, fields: Fields) -> None:
        """Take in transitions (n, k), (n,) in the order in which they happened."""
        seen, chosen = np.asarray(observations, np.float64), np.asarray(actions)
        told = {name: np.asarray(values) for name, values in fields.items()}
        if self._limits:
            self._learn(seen, chosen, told)
            return
        self._waiting.append((seen, chosen, told))
        self._seen += len(seen)
        if self._seen >= FIRST:
            waiting, self._waiting = self._waiting, []
            seen, chosen = (np.concatenate([one[i] for one in waiting]) for i in (0, 1))
            told = {name: np.concatenate([one[2][name] for one in waiting]) for name in told}
            self._divide(self._covariates(seen, chosen))
            self._learn(seen, chosen, told)

    def _covariates(self, seen: Array, actions: Array) -> dict[str, Array]:
        found = {"action": np.asarray(actions, np.float64)} if actions.ndim == 1 else {}
        return found | {entry.name: seen[:, j] for j, entry in enumerate(self._world.context)}

    def _divide(self, covariates: Mapping[str, Array]) -> None:
        shares = np.arange(1, GROUPS) / GROUPS
        for name, values in covariates.items():
            limits = np.unique(np.quantile(values, shares))
            limits = limits[limits > values.min()]
            if len(limits):
                self._compare(name, limits)

    def _compare(self, name: str, limits: Array) -> None:
        """Fit the groups between these limits by themselves from now on."""
        forgetting = 1.0 - len(limits) / self._memory
        self._limits[name] = limits
        self._fits[name] = tuple(
            Calibrator(self._world, self._names, forgetting=forgetting) for _ in range(len(limits) + 1)
        )

    def _learn(self, seen: Array, actions: Array, told: Mapping[str, Array]) -> None:
        for name, values in self._covariates(seen, actions).items():
            if name not in self._limits:
                continue
            group = np.searchsorted(self._limits[name], values, side="right")
            for place, fit in enumerate(self._fits[name]):
                chosen = group == place
                if chosen.any():
                    fit.learn_many(seen[chosen], actions[chosen], {field: v[chosen] for field, v in told.items()})

    def assess(self, dispersion: float = 1.0) -> tuple[Misfit, ...]:
        """The evidence along each covariate, the strongest first.

        Args:
            dispersion: variance of demand over its mean, as the live estimate has it: it widens all errors alike.
        """
        found = [self._along(name, max(1.0, dispersion)) for name in self._limits]
        return tuple(sorted((one for one in found if one is not None), key=lambda one: -one.statistic))

    def _along(self, name: str, dispersion: float) -> Misfit | None:
        estimates = [fit.estimate() for fit in self._fits[name]]
        if len([one for one in estimates if one.decisions >= LEAST]) < 2:
            return None
        told = [one for one in estimates if one.decisions >= LEAST]
        points = [self._fits[name][0].likelihood.unbounded(one.values) for one in told]
        statistic = _homogeneity(points, told, dispersion)
        values = {column: tuple(float(one.values[j]) for one in told) for j, column in enumerate(estimates[0].columns)}
        decisions = sum(one.decisions for one in estimates)
        return Misfit(name, statistic, tuple(self._limits[name].tolist()), values, decisions)


def _homogeneity(points: list[Array], estimates: list[Estimate], dispersion: float) -> float:
    """Weighted squared distances of the estimates (d,) from their common mean, in standard normal terms."""
    weights = [np.linalg.inv(one.covariance) / dispersion for one in estimates]
    weighted = np.sum([weight @ point for weight, point in zip(weights, points, strict=True)], axis=0)
    mean = np.linalg.solve(np.sum(weights, axis=0), weighted)
    apart = [point - mean for point in points]
    total = sum(float(one @ weight @ one) for one, weight in zip(apart, weights, strict=True))
    # Far out both tails are below what a double can hold: 37 says "beyond doubt".
    tail = float(chi2.logsf(total, len(mean) * (len(points) - 1)))
    return float(norm.isf(np.exp(max(tail, -680.0))))
