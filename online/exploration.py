"""Exploration: ways of choosing among arms by what each is thought to earn, exact probabilities where they exist."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

_NORMAL = NormalDist()

Draw = Callable[[int], float]
"""Uniform numbers in [0, 1) by index: the same index gives the same number, so that a choice can be made again."""

_NO_OVERLAP = (
    "{} takes one arm for certain, and the others have probability 0: what they would have earned cannot be told; "
    "explore with InverseGap or EpsilonGreedy where choices are to be used off-policy"
)


class ExplorationError(ValueError):
    """A setting that a way of exploring cannot take."""


class Estimate(NamedTuple):
    """What an arm is thought to earn: mean, and the standard deviation of that mean (0 where the arm gives none)."""

    mean: float
    deviation: float = 0.0


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """The best arm, and with probability ``epsilon`` any arm; ties share. ``epsilon = 1`` is the uniform choice.

    Regret grows linearly for a fixed ``epsilon`` (Auer, Cesa-Bianchi, Fischer 2002, section 3).

    >>> EpsilonGreedy(0.5).probabilities([Estimate(1.0), Estimate(2.0)], 50)
    [0.25, 0.75]
    """

    epsilon: float = 0.1
    spreads = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.epsilon <= 1.0:
            raise ExplorationError(f"epsilon is {self.epsilon!r}; allowed is a number from 0 to 1")

    def probabilities(self, estimates: Sequence[Estimate], rewards: int) -> list[float]:  # noqa: ARG002
        """A share of ``epsilon`` for each arm; the rest for the best ones."""
        best = max(mean for mean, _ in estimates)
        winners = sum(mean == best for mean, _ in estimates)
        share = self.epsilon / len(estimates)
        return [share + (1.0 - self.epsilon) / winners * (mean == best) for mean, _ in estimates]

    def refusal(self, arms: int) -> str | None:
        """Only where nothing is explored."""
        return _NO_OVERLAP.format("ε-greedy with ε = 0") if self.epsilon == 0.0 and arms > 1 else None


@dataclass(frozen=True, slots=True)
class InverseGap:
    """SquareCB: an arm's probability is the inverse of its gap to the best (Foster and Rakhlin 2020, algorithm 1).

    ``p_a = 1 / (K + γ (best - mean_a))`` and what is left for the best, with ``γ = scale √(K · rewards)``. Rewards are
    taken to vary over about 1: for others, divide ``scale`` by their range. Regret is O(√(K T Reg(T))), where Reg(T) is
    the regressors' own squared-error regret (theorem 1).

    >>> [round(p, 3) for p in InverseGap(1.0).probabilities([Estimate(0.5), Estimate(1.0)], 50)]
    [0.143, 0.857]
    """

    scale: float = 4.0
    spreads = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.scale < math.inf:
            raise ExplorationError(f"scale is {self.scale!r}; allowed is a finite number from 0")

    def probabilities(self, estimates: Sequence[Estimate], rewards: int) -> list[float]:
        """The inverse gaps; the first of the best arms takes what is left."""
        count = len(estimates)
        means = [mean for mean, _ in estimates]
        best = means.index(max(means))
        gamma = self.scale * math.sqrt(count * rewards)
        found = [1.0 / (count + gamma * (means[best] - mean)) for mean in means]
        found[best] = 1.0 - sum(p for arm, p in enumerate(found) if arm != best)
        return found

    def refusal(self, arms: int) -> str | None:  # noqa: ARG002
        """None: every arm has a positive probability."""
        return None


@dataclass(frozen=True, slots=True)
class LinUCB:
    """The arm with the highest upper confidence bound, ``mean + alpha · deviation`` (Li et al. 2010, algorithm 1).

    Regret is of the order √T up to logarithms (Chu et al. 2011). It takes one arm for certain, so that its choices say
    nothing about the others: they are refused for off-policy use.
    """

    alpha: float = 1.5
    spreads = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha < math.inf:
            raise ExplorationError(f"alpha is {self.alpha!r}; allowed is a finite number from 0")

    def probabilities(self, estimates: Sequence[Estimate], rewards: int) -> list[float]:  # noqa: ARG002
        """1 for the arm of the highest bound, shared by ties, 0 for the others."""
        bounds = [mean + self.alpha * deviation for mean, deviation in estimates]
        best = max(bounds)
        winners = bounds.count(best)
        return [(bound == best) / winners for bound in bounds]

    def refusal(self, arms: int) -> str | None:
        """Always, where there is a choice."""
        return _NO_OVERLAP.format("LinUCB") if arms > 1 else None


@dataclass(frozen=True, slots=True)
class Thompson:
    """The arm that is best in one draw of each arm's posterior (Agrawal and Goyal 2013, algorithm 1).

    ``scale`` multiplies the posterior's deviation. The probability that an arm is taken is Φ(gap / √(s₁² + s₂²)) for
    two arms; for more there is no closed form, and none is made up from draws.
    """

    scale: float = 1.0
    spreads = True

    def __post_init__(self) -> None:
        if not 0.0 < self.scale < math.inf:
            raise ExplorationError(f"scale is {self.scale!r}; allowed is a positive number")

    def probabilities(self, estimates: Sequence[Estimate], rewards: int) -> list[float] | None:  # noqa: ARG002
        """Exact for one arm and for two."""
        if len(estimates) == 1:
            return [1.0]
        if len(estimates) > 2:
            return None
        (first, s_1), (second, s_2) = estimates
        spread = self.scale * math.hypot(s_1, s_2)
        if spread == 0.0:
            return [
                0.5 + 0.5 * ((first > second) - (first < second)),
                0.5 + 0.5 * ((second > first) - (second < first)),
            ]
        p = _NORMAL.cdf((first - second) / spread)
        return [p, 1.0 - p]

    def pick(self, estimates: Sequence[Estimate], draw: Draw) -> int:
        """The arm whose own draw is highest."""
        values = [mean + self.scale * deviation * _normal(draw(arm)) for arm, (mean, deviation) in enumerate(estimates)]
        return values.index(max(values))

    def refusal(self, arms: int) -> str | None:
        """From three arms on."""
        if arms <= 2:
            return None
        return (
            f"the probability that Thompson sampling takes an arm has no closed form among {arms} arms: explore with "
            "InverseGap or EpsilonGreedy where choices are to be used off-policy"
        )


Explorer = EpsilonGreedy | InverseGap | LinUCB | Thompson


def invert(probabilities: Sequence[float], uniform: float) -> int:
    """The first index whose cumulative probability exceeds a uniform number; never one of probability 0."""
    total, last = 0.0, 0
    for index, probability in enumerate(probabilities):
        if probability > 0.0:
            total, last = total + probability, index
            if uniform < total:
                return index
    return last


def _normal(uniform: float) -> float:
    """A standard normal number from a uniform one; 0 and 1 are kept off."""
    return _NORMAL.inv_cdf(min(max(uniform, 1e-16), 1.0 - 1e-16))
