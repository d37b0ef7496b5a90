"""Alarms: whether parameters have changed since they were last accepted, with few false ones.

The mixture Shiryaev-Roberts procedure (Pollak 1985, Annals of Statistics 13(1)): for each alternative R <- (1 + R) ·
likelihood ratio, alarm when the mean over the alternatives exceeds a threshold. While nothing has changed that mean
grows by one per transition on average, so alarms come no oftener than once in `threshold` transitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from envs.atoms import Factor
from envs.dynamics import Array

ACCEPTED_SPREAD = 0.125
"""How exactly accepted parameters are believed at first, in units of the prior's spread: a tenth in the log."""

NEAR_SPREAD = 0.375
"""Spread of the local half of the alternatives."""

SOON = 1000
"""Transitions within which a change in earnest is noticed again."""


@dataclass(frozen=True)
class Alarm:
    """A change that was noticed.

    Args:
        decision: number of the transition at which it was noticed, from 1.
        since: number of the transition at which it probably happened.
        statistic: the evidence; `threshold` is what it exceeded.
        threshold: transitions between two false alarms, at least, on average.
        before: parameters that were accepted until then, by column.
        after: parameters as estimated now, by column.
    """

    decision: int
    since: int
    statistic: float
    threshold: float
    before: Mapping[str, float]
    after: Mapping[str, float]


class ShiryaevRoberts:
    """The alarm of one factor.

    Args:
        factor: its atoms are the alternatives.
        accepted: (d,) parameters in unbounded form.
    """

    def __init__(self, factor: Factor, accepted: Array) -> None:
        self._factor = factor
        self.reset(factor.close_to(accepted, ACCEPTED_SPREAD), accepted)

    def reset(self, believed: Array, accepted: Array) -> None:
        """Start anew from parameters (d,) and what is believed of them, weights (m,)."""
        self.accepted: Array = np.asarray(accepted, np.float64)
        self.believed: Array = np.asarray(believed, np.float64)
        self.ratios: Array = np.zeros(self._factor.m)
        self.starts: Array = np.zeros(self._factor.m)
        self.noticed: int | None = None
        self._near()

    def notice(self, decision: int, believed: Array, accepted: Array) -> None:
        """An alarm was raised: go on against what was accepted, and after the second soon after from what is believed.

        Most of the evidence of an alarm by mistake dissolves at once: it must neither be accepted nor hide a change
        just after. A change in earnest is soon noticed again, when more is known of what came of it.
        """
        if self.noticed is not None and decision - self.noticed <= SOON:
            self.reset(believed, accepted)
            return
        self.noticed = decision
        self.ratios, self.starts = np.zeros(self._factor.m), np.zeros(self._factor.m)

    def _near(self) -> None:
        near = self._factor.close_to(self.accepted, NEAR_SPREAD)
        self._alternatives = 0.5 * self._factor.initial + 0.5 * near

    def learn(self, likely: Array, decision: int) -> None:
        """Take in the likelihoods (m,) of one piece of evidence."""
        posterior = self.believed * likely
        total = float(posterior.sum())
        self.believed = posterior / total
        ratio = likely / total
        self.ratios = (1.0 + self.ratios) * ratio
        # The same sum with each start's number as its weight tells when the change began.
        self.starts = (decision + self.starts) * ratio

    @property
    def statistic(self) -> float:
        """Evidence for a change, about the number of transitions while there is none."""
        return float(self._alternatives @ self.ratios)

    @property
    def since(self) -> int:
        """When the change probably began."""
        return round(float(self._alternatives @ self.starts) / max(self.statistic, 1e-300))

    def restore(self, accepted: Array, believed: Array, ratios: Array, starts: Array, *, noticed: int | None) -> None:
        """Go on from what was saved."""
        self.reset(believed, accepted)
        self.noticed = noticed
        self.ratios, self.starts = np.asarray(ratios, np.float64), np.asarray(starts, np.float64)
