"""Gates: evidence in, verdict out, with the reasons. Whoever calls one acts on the verdict and on nothing else."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from agents.evaluate import Evaluation

Word = Literal["better", "worse", "not enough evidence"]


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
    (common random numbers), others by the width of both intervals.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance {tolerance} is a share of the incumbent's value: give 0 or more")
    if not (math.isfinite(candidate.value) and math.isfinite(incumbent.value)):
        return Verdict("not enough evidence", ("a value is not finite: evaluate again",))
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
