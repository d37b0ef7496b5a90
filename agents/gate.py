"""Gates: evidence in, verdict out, with the reasons. Whoever calls one acts on the verdict and on nothing else."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.evaluate import Evaluation

Word = Literal["better", "worse", "not enough evidence"]
Array = NDArray[np.float64]

# Least variance of a canary's differences as a share of what both arms together suggest. The whole would widen ordinary
# canaries too, as the greater of two noisy variances; three quarters leave their power, and still cover rare outcomes.
FLOOR = 0.75
# Simulated episodes of each policy below which a normal interval of their mean says too much.
MIN_EPISODES = 30


@dataclass(frozen=True)
class Verdict:
    """`better`, `worse` or `not enough evidence`, and why."""

    verdict: Word
    reasons: tuple[str, ...]


def simulation_gate(
    candidate: Evaluation, incumbent: Evaluation, tolerance: float = 0.0, confidence: float = 0.95
) -> Verdict:
    """Verdict on two evaluations in the same world.

    `better`: the candidate's value is certainly above the incumbent's. `worse`: certainly below it by more than
    `tolerance` (a share of the incumbent's absolute value). Everything between is `not enough evidence`: it may not
    be promoted, and need not be taken back. Simulations with the same seed and length are compared pair by pair
    (common random numbers), others by the width of both intervals. Fewer than `MIN_EPISODES` are no evidence.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance {tolerance} is a share of the incumbent's value: give 0 or more")
    if not (math.isfinite(candidate.value) and math.isfinite(incumbent.value)):
        return Verdict("not enough evidence", ("a value is not finite: evaluate again",))
    fewest = min((e.episodes for e in (candidate, incumbent) if e.method == "simulation"), default=MIN_EPISODES)
    if fewest < MIN_EPISODES:
        reason = f"{fewest} simulated episodes: at least {MIN_EPISODES} of each policy are needed"
        return Verdict("not enough evidence", (reason,))
    margin = tolerance * abs(incumbent.value)
    gain, half, how = _difference(candidate, incumbent, confidence)
    scale = abs(incumbent.value) or 1.0
    figures = (
        f"candidate {candidate.value:.6g} against incumbent {incumbent.value:.6g}: "
        f"{gain / scale:+.2%} ± {half / scale:.2%} ({how})"
    )
    if gain - half > 0:
        return Verdict("better", (figures, "the whole interval of the gain is above zero"))
    if gain + half < -margin:
        return Verdict("worse", (figures, f"the whole interval of the gain is below −{tolerance:.2%}"))
    if half == 0:
        return Verdict(
            "not enough evidence", (figures, f"no gain, and no loss beyond the tolerance of {tolerance:.2%}")
        )
    return Verdict("not enough evidence", (figures, "the interval of the gain includes both outcomes: simulate longer"))


def paired_gain(candidate: Evaluation, incumbent: Evaluation, confidence: float = 0.95) -> tuple[float, float]:
    """The gain over another evaluation in the same world, and half the width of its interval.

    Simulations with the same seed and length are compared pair by pair, others by the width of both intervals.
    """
    gain, half, _ = _difference(candidate, incumbent, confidence)
    return gain, half


def _difference(candidate: Evaluation, incumbent: Evaluation, confidence: float) -> tuple[float, float, str]:
    """The gain, half the width of its interval, and how it was compared."""
    gain = candidate.value - incumbent.value
    if candidate.method == incumbent.method == "exact":
        return gain, 0.0, "exact"
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    a, b = candidate.returns, incumbent.returns
    if a is not None and b is not None and candidate.seed == incumbent.seed and len(a) == len(b) > 1:
        pairs = a - b
        return float(pairs.mean()), z * float(pairs.std(ddof=1)) / len(pairs) ** 0.5, f"{len(pairs)} pairs"
    widths = [(e.interval[1] - e.interval[0]) / 2 for e in (candidate, incumbent)]
    half = math.hypot(*widths) * z / NormalDist().inv_cdf(0.975)
    return gain, half, "independent simulations"


def posterior_gate(
    candidate: Array, incumbent: Array, weight: Array | None = None, tolerance: float = 0.0, confidence: float = 0.95
) -> Verdict:
    """Verdict on values in simulated worlds drawn from what is believed about the parameters.

    `better`: the candidate very probably gains, and gains on average: many small gains do not outweigh a rare ruin.
    `worse`: it very probably loses more than is bearable.

    Args:
        candidate: (m,) its value in each world.
        incumbent: (m,) the other's value in the same worlds.
        weight: (m,) belief in each world; even where None.
        tolerance: share of the incumbent's absolute value whose loss is still bearable.
        confidence: probability under the belief that `better` or `worse` needs.

    Raises:
        ValueError: values of different worlds, or weights that are no belief.
    """
    if len(candidate) != len(incumbent) or len(candidate) == 0:
        raise ValueError(f"{len(candidate)} and {len(incumbent)} values: give both policies' in the same worlds")
    if not (np.isfinite(candidate).all() and np.isfinite(incumbent).all()):
        return Verdict("not enough evidence", ("a value is not finite: evaluate again",))
    belief = _belief(weight, len(candidate))
    gain = candidate - incumbent
    gains = float(belief @ (gain > 0))
    losses = float(belief @ (gain < -tolerance * np.abs(incumbent)))
    mean = float(belief @ gain) / (abs(float(belief @ incumbent)) or 1.0)
    figures = (
        f"gain {mean:+.2%} on average; a gain with probability {gains:.1%}, "
        f"a loss beyond {tolerance:.2%} with probability {losses:.1%}"
    )
    if gains >= confidence and mean > 0:
        return Verdict("better", (figures,))
    if losses >= confidence:
        return Verdict("worse", (figures,))
    if gains >= confidence:
        return Verdict("not enough evidence", (figures, "the few losses outweigh the gains"))
    return Verdict("not enough evidence", (figures, f"neither reaches {confidence:.0%}"))


def _belief(weight: Array | None, worlds: int) -> Array:
    """Probabilities (m,) of the worlds; even where no weights are given."""
    if weight is None:
        return np.full(worlds, 1 / worlds)
    if len(weight) != worlds or not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any():
        raise ValueError(f"the weights of {worlds} worlds are no belief: give each one of at least 0, and not all 0")
    return np.asarray(weight / weight.sum())


@dataclass(frozen=True)
class Units:
    """The units of a canary (episodes, keys or decisions) in the order in which they started.

    Args:
        candidate: (n,) whether the unit was assigned to the candidate; by assignment, whatever was served then.
        value: (n,) what the unit earned after its horizon and waiting time.
        share: (n,) probability with which it was assigned to the candidate.
    """

    candidate: NDArray[np.bool_]
    value: Array
    share: Array

    def __post_init__(self) -> None:
        if not len(self.candidate) == len(self.value) == len(self.share):
            lengths = (len(self.candidate), len(self.value), len(self.share))
            raise ValueError(f"{lengths} assignments, values and shares: give one each for every unit")
        if not ((self.share > 0) & (self.share < 1)).all():
            raise ValueError("a share is not between 0 and 1: a canary needs both arms to be possible")


@dataclass(frozen=True)
class CanaryRule:
    """How a canary is judged.

    Args:
        tolerance: loss, as a share of the incumbent's mean, beyond which the candidate is `worse`.
        confidence: of the confidence sequence, over all looks together.
        budget: units after which the canary ends without a verdict.
        planned: the number of units at which the sequence is narrowest; `units_needed` gives it.
        warm_up: units of each arm before the first look; the first third of them only prepare the comparison.
    """

    tolerance: float = 0.01
    confidence: float = 0.95
    budget: int = 100_000
    planned: int = 2000
    warm_up: int = 30


@dataclass(frozen=True)
class Sequence:
    """The gain of the candidate per unit at each look, with its time-uniform interval.

    Args:
        looks: (m,) units that have ended at each look, one look after every unit beyond the warm-up.
        gain: (m,) estimate at each look.
        half: (m,) half the width of its interval.
        incumbent: (m,) the incumbent's mean.
    """

    looks: NDArray[np.int64]
    gain: Array
    half: Array
    incumbent: Array


def confidence_sequence(units: Units, rule: CanaryRule) -> Sequence:
    """The gain with an interval that holds at all looks together.

    Each unit gives an unbiased difference of the arms (augmented inverse probability weighting, its means from earlier
    units alone); their running mean has the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and
    Ramdas (2024), Annals of Statistics 52(6), theorem 2.2, tuned to be narrowest at `planned`.

    Asymptotic: it takes the empirical variance for the true one, and while the smaller arm has not yet seen a rare
    outcome that variance is far too small. So it is never taken below `FLOOR` of the variance that the differences
    would have if both arms spread as all values together do. That needs no further assumption, as it only ever widens
    the interval: in the limit not at all where the arms spread alike, and at the price of more units where the smaller
    one spreads much less. What it cannot mend is a rare outcome that nearly only the smaller arm has, or values so
    heavy-tailed that the warm-up says nothing about them: give a longer one.
    """
    arm, value, share = units.candidate, units.value, units.share
    mean_c, mean_i = _earlier_mean(value, arm), _earlier_mean(value, ~arm)
    psi = mean_c - mean_i + np.where(arm, (value - mean_c) / share, -(value - mean_i) / (1 - share))
    fewer = np.minimum(np.cumsum(arm), np.cumsum(~arm))
    first = min(int(np.searchsorted(fewer, max(1, rule.warm_up // 3))) + 1, len(value))
    psi = psi[first:]
    looks = np.arange(first, len(value)) + 1
    t = np.arange(1, len(psi) + 1)
    gain = np.cumsum(psi) / t
    alike = _running_variance(value)[first:] * np.cumsum(1 / (share * (1 - share))[first:]) / t
    variance = np.maximum(_running_variance(psi), FLOOR * alike)
    alpha = 1 - rule.confidence
    rho2 = _rho2(alpha, rule.planned)
    scale = t * rho2 + 1
    half = np.sqrt(variance * 2 * scale / (t**2 * rho2) * np.log(np.sqrt(scale) / alpha))
    seen = fewer[looks - 1] >= rule.warm_up
    return Sequence(looks[seen], gain[seen], half[seen], mean_i[looks - 1][seen])


def _rho2(alpha: float, planned: int) -> float:
    """The mixture's ρ² for which the sequence is narrowest at the planned time (appendix B.2 there)."""
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / planned


def _running_variance(value: Array) -> Array:
    """Variance (n,) of the values up to and with each; around the first, so that a large level costs no digits."""
    moved, count = value - value[:1], np.arange(1, len(value) + 1)
    return np.asarray(np.maximum(np.cumsum(moved**2) / count - (np.cumsum(moved) / count) ** 2, 0.0))


def _earlier_mean(value: Array, chosen: NDArray[np.bool_]) -> Array:
    """Mean (n,) of the chosen values before each unit; of all earlier ones where there is none, 0 for the first."""
    count, total = (np.concatenate([[0.0], np.cumsum(np.where(chosen, part, 0.0))[:-1]]) for part in (1.0, value))
    every = np.concatenate([[0.0], np.cumsum(value)[:-1]]) / np.maximum(np.arange(len(value)), 1)
    return np.where(count > 0, total / np.maximum(count, 1), every)


def canary_gate(units: Units, rule: CanaryRule) -> Verdict:
    """Verdict on a canary, which may be asked for after every unit: looking often does not make it wrong more often.

    `better`: the interval of the gain is above 0. `worse`: it is below −tolerance; roll back. When the budget is spent
    without either, the verdict stays `not enough evidence` and the canary should end.
    """
    n = len(units.value)
    spent = (f"the budget of {rule.budget} units is spent: end the canary",) if n >= rule.budget else ()
    found = confidence_sequence(units, rule)
    if len(found.looks) == 0:
        arms = int(units.candidate.sum())
        reason = f"{arms} units with the candidate and {n - arms} without: {rule.warm_up} of each are needed"
        return Verdict("not enough evidence", (reason, *spent))
    gain, half, level = float(found.gain[-1]), float(found.half[-1]), float(found.incumbent[-1])
    figures = f"gain {gain:+.4g} ± {half:.4g} per unit of {level:.4g} after {n} units, at every look"
    if gain - half > 0:
        return Verdict("better", (figures,))
    if gain + half < -rule.tolerance * abs(level):
        return Verdict("worse", (figures, f"a loss beyond the tolerance of {rule.tolerance:.2%}"))
    return Verdict("not enough evidence", (figures, *spent))


def units_needed(gain: float, spread: float, share: float, confidence: float = 0.95, power: float = 0.8) -> int:
    """Units after which `canary_gate` sees a gain with this power, when `planned` is set to the answer.

    Args:
        gain: difference of the arms' means per unit.
        spread: standard deviation of one unit's value.
        share: probability of the candidate's arm.

    Raises:
        ValueError: no gain, or a share that is not between 0 and 1.
    """
    if gain == 0 or not 0 < share < 1:
        raise ValueError(f"gain {gain} with share {share}: give a gain other than 0 and a share between 0 and 1")
    alpha = 1 - confidence
    # At t = planned: half = σψ / √t · √(2 (c + 1) / c · log(√(c + 1) / α)) with c = t ρ², which does not depend on t.
    c = _rho2(alpha, 1)
    width = math.sqrt(2 * (c + 1) / c * math.log(math.sqrt(c + 1) / alpha))
    spread_psi = spread / math.sqrt(share * (1 - share))
    return math.ceil(((width + NormalDist().inv_cdf(power)) * spread_psi / abs(gain)) ** 2)


def conclude(stages: Mapping[str, Verdict], needed: tuple[str, ...]) -> Verdict:
    """One verdict from several gates: `worse` where any says so, `better` where all that are needed say so."""
    reasons = tuple(f"{name}: {verdict.verdict}; {'; '.join(verdict.reasons)}" for name, verdict in stages.items())
    if any(verdict.verdict == "worse" for verdict in stages.values()):
        return Verdict("worse", reasons)
    missing = [name for name in needed if name not in stages or stages[name].verdict != "better"]
    if missing:
        return Verdict("not enough evidence", (*reasons, f"not yet better: {', '.join(missing)}"))
    return Verdict("better", reasons)
