"""Off-policy evaluation: what a target policy would have earned on logged decisions, and whether the log can say so.

A report holds every estimator, diagnostics of the weights, a self-check of the logged propensities and one verdict.
The verdict is *not enough evidence* whenever the propensities look wrong, too few units carry the estimate, or the
target does what the log never did: intervals alone would hide each of these.
"""

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.estimators import (
    Array,
    Estimate,
    Index,
    Regression,
    cell_means,
    clipped_ips,
    clipped_snips,
    cross_fit,
    direct_method,
    doubly_robust,
    from_influence,
    ips,
    per_decision_is,
    ridge,
    self_normalised_per_decision_is,
    snips,
    trajectory_is,
    trajectory_snis,
    unidentified,
)
from agents.gate import Verdict, Word

# Below this many effective units the normal interval is wrong (trajectory estimators covered 0.6 or less there).
MIN_EFFECTIVE = 50.0
# One unit that carries more than this share of all weight decides the estimate alone.
MAX_SHARE = 0.1
# Probability that the target puts on actions which the log gives none.
MAX_UNSUPPORTED = 0.01
# z at which a propensity check fails: 4 tests with heavy tails should fail by chance less than once in 1,000 logs.
CHECK_Z = 4.5
MAX_CELLS = 50
# Rounding of probabilities in single precision that is let pass.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Decisions:
    """Logged decisions that do not influence one another.

    Args:
        context: (n, k) what was observed.
        action: (n,) index of what was done.
        propensity: (n,) the probability it was done with, every random choice included.
        reward: (n,) what came of it.
        behaviour: (n, a) the whole logged distribution, where it was kept: makes the self-check sharper.
    """

    context: Array
    action: Index
    propensity: Array
    reward: Array
    behaviour: Array | None = None

    def __post_init__(self) -> None:
        n = len(self.reward)
        parts = {"context": self.context, "action": self.action, "propensity": self.propensity}
        wrong = {name: len(part) for name, part in parts.items() if len(part) != n}
        if wrong or n == 0:
            raise ValueError(f"{n} rewards and {wrong}: give as many of each, and at least one")
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():
            bad = int(np.argmin((self.propensity > 0) & (self.propensity <= 1)))
            raise ValueError(f"propensity {self.propensity[bad]} of decision {bad}: give what was logged, 0 < p ≤ 1")
        if not np.isfinite(self.reward).all():
            raise ValueError(f"the reward of decision {int(np.argmin(np.isfinite(self.reward)))} is not finite")
        if (self.action < 0).any():
            bad = int(np.argmax(self.action < 0))
            raise ValueError(f"action {self.action[bad]} of decision {bad}: give indices from 0")


@dataclass(frozen=True)
class Episodes:
    """Logged episodes, padded to the longest.

    Args:
        reward: (n, T) rewards.
        propensity: (n, T) logged probabilities of the actions taken.
        target: (n, T) the target's probabilities of the same actions.
        active: (n, T) where a decision was taken at all; what the others hold is not used.
    """

    def __post_init__(self) -> None:
        parts = (self.reward, self.propensity, self.target, self.active)
        shapes = [part.shape for part in parts]
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
            raise ValueError(f"rewards, propensities, targets and activity of shapes {shapes}: give (n, T) each")
        sound = {
            "propensity": ((self.propensity > 0) & (self.propensity <= 1), "what was logged, 0 < p ≤ 1"),
            "target": ((self.target >= 0) & (self.target <= 1 + ROUNDING), "a probability"),
            "reward": (np.isfinite(self.reward), "a finite number"),
        }
        for name, (right, allowed) in sound.items():
            if not (right | ~self.active).all():
                episode, period = np.argwhere(~right & self.active)[0].tolist()
                value = getattr(self, name)[episode, period]
                raise ValueError(f"{name} {value} of episode {episode}, period {period}: give {allowed}")

    reward: Array
    propensity: Array
    target: Array
    active: NDArray[np.bool_]

    @property
    def ratio(self) -> Array:
        """Weights of the single decisions (n, T), 1 after the end."""
        safe, target = np.where(self.active, self.propensity, 1.0), np.where(self.active, self.target, 1.0)
        return np.asarray(target / safe)


@dataclass(frozen=True)
class Overlap:
    """One action in the log and under the target: shares of the decisions, and the effective number behind it."""

    action: int
    logged: float
    target: float
    effective: float


@dataclass(frozen=True)
class Diagnostics:
    """What the weights look like.

    Args:
        n: units (decisions, or episodes).
        effective: effective sample size (Σ w)² / Σ w² (Kish 1965).
        max_weight: the largest weight.
        max_share: the largest weight as a share of their sum.
        mean_weight: near 1 where the propensities are right and the log covers the target.
        unsupported: the target's probability on actions that the log gives none.
        overlap: by action, where the target puts probability or the log has decisions.
    """

    n: int
    effective: float
    max_weight: float
    max_share: float
    mean_weight: float
    unsupported: float
    overlap: tuple[Overlap, ...]


@dataclass(frozen=True)
class SelfCheck:
    """Whether the logged propensities can be the ones that were used; the z-scores that say so."""

    passed: bool
    z: dict[str, float]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Estimates by name, the value of what was logged, the gain over it, and the verdict with its reasons."""

    estimates: dict[str, Estimate]
    logged: Estimate
    gain: Estimate
    diagnostics: Diagnostics
    check: SelfCheck
    verdict: Word
    reasons: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The report ready for JSON."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "logged": self.logged.summary(),
            "gain": self.gain.summary(),
            "estimates": {name: estimate.summary() for name, estimate in self.estimates.items()},
            "diagnostics": {
                **{k: v for k, v in vars(self.diagnostics).items() if k != "overlap"},
                "overlap": [vars(entry) for entry in self.diagnostics.overlap],
            },
            "check": {"passed": self.check.passed, "z": self.check.z, "reasons": list(self.check.reasons)},
        }


def report(
    log: Decisions,
    target: Array,
    *,
    tolerance: float = 0.0,
    confidence: float = 0.95,
    ceiling: float = 10.0,
    regression: Regression | None = None,
) -> Report:
    """Evaluate a target policy on logged decisions.

    Args:
        log: decisions of the policy that was served.
        target: (n, a) the target's probabilities in the logged contexts.
        tolerance: loss, as a share of the logged value, from which on the verdict is `worse`.
        confidence: of all intervals.
        ceiling: where the clipped variants cut the weights.
        regression: reward model of DM and DR; by default cell means, or ridge beyond 50 distinct contexts.

    Raises:
        ValueError: a target that is no distribution over the logged actions in each context.
    """
    _require_distributions(target, log)
    n, actions = target.shape
    weight = target[np.arange(n), log.action] / log.propensity
    if regression is None:
        regression = cell_means if len(np.unique(log.context, axis=0)) <= MAX_CELLS else ridge
    predicted = cross_fit(log.context, log.action, log.reward, actions, regression)
    clipped = np.minimum(weight, ceiling)
    found = [
        ips(log.reward, weight, confidence),
        clipped_ips(log.reward, weight, ceiling, confidence),
        snips(log.reward, weight, confidence),
        clipped_snips(log.reward, weight, ceiling, confidence),
        direct_method(target, predicted, confidence),
        doubly_robust(log.reward, weight, log.action, target, predicted, confidence),
        replace(
            doubly_robust(log.reward, clipped, log.action, target, predicted, confidence),
            name="clipped-dr",
        ),
    ]
    logged = from_influence("logged", log.reward, confidence)
    diagnostics = diagnose(weight, log, target)
    check = self_check(weight, log, actions)
    best = found[5] if weight.any() else unidentified("gain", "no logged action could have been the target's")
    return _conclude({e.name: e for e in found}, logged, best, diagnostics, check, (tolerance, confidence))


def _require_distributions(target: Array, log: Decisions) -> None:
    """Refuse a target that does not give a distribution over the actions for each logged decision."""
    n, least = len(log.action), int(log.action.max()) + 1
    if target.ndim != 2 or len(target) != n or target.shape[1] < least:
        raise ValueError(f"target of shape {target.shape}: give ({n}, a) probabilities of at least {least} actions")
    right = (target >= 0).all(axis=1) & np.isclose(target.sum(axis=1), 1.0, rtol=0, atol=ROUNDING)
    if not right.all():
        row = int(np.argmin(right))
        raise ValueError(f"target {target[row].tolist()} of decision {row}: give probabilities that sum to 1")


def report_episodes(
    log: Episodes, *, discount: float = 1.0, tolerance: float = 0.0, confidence: float = 0.95
) -> Report:
    """Evaluate a target policy on logged episodes by the weights of their decisions.

    Whole-episode weights degenerate with length: with 50 periods nearly always, and the verdict then refuses. Use the
    calibrated world (`estimators.model_based`) or a canary instead.
    """
    ratio = log.ratio
    reward = np.where(log.active, log.reward, 0.0)
    found = [
        trajectory_is(reward, ratio, discount, confidence),
        trajectory_snis(reward, ratio, discount, confidence),
        per_decision_is(reward, ratio, discount, confidence),
        self_normalised_per_decision_is(reward, ratio, discount, confidence),
    ]
    logged = from_influence("logged", reward @ discount ** np.arange(reward.shape[1]), confidence)
    weight = np.prod(ratio, axis=1)
    diagnostics = _weights(weight, 0.0, ())
    z = _z(weight, 1.0)
    # After many periods a mean weight below 1 says that the weights are degenerate, not that they are wrong.
    first = _z(ratio[:, 0], 1.0)
    failed = abs(first) > CHECK_Z
    why = (f"the first decisions' mean weight is {ratio[:, 0].mean():.3g} instead of 1",) if failed else ()
    check = SelfCheck(not failed, {"first weight": first, "episode weight": z}, why)
    return _conclude({e.name: e for e in found}, logged, found[3], diagnostics, check, (tolerance, confidence))


def diagnose(weight: Array, log: Decisions, target: Array) -> Diagnostics:
    """Effective size, tails and overlap by action."""
    actions = target.shape[1]
    count = np.bincount(log.action, minlength=actions)
    if log.behaviour is not None:
        unsupported = float(np.where(log.behaviour > 0, 0.0, target).sum(axis=1).mean())
    else:
        unsupported = float(target[:, count == 0].sum(axis=1).mean())
    share = target.mean(axis=0)
    overlap = tuple(
        Overlap(a, float(count[a]) / len(weight), float(share[a]), effective_size(weight[log.action == a]))
        for a in np.flatnonzero((count > 0) | (share > 0)).tolist()
    )
    return _weights(weight, unsupported, overlap)


def _weights(weight: Array, unsupported: float, overlap: tuple[Overlap, ...]) -> Diagnostics:
    total = float(weight.sum())
    largest = float(weight.max())
    share = largest / total if total > 0 else 0.0
    mean = total / len(weight)
    return Diagnostics(len(weight), effective_size(weight), largest, share, mean, unsupported, overlap)


def effective_size(weight: Array) -> float:
    """Effective sample size (Σ w)² / Σ w², 0 where no weight is left.

    >>> effective_size(np.array([1.0, 1.0, 2.0, 0.0]))
    2.6666666666666665
    """
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def self_check(weight: Array, log: Decisions, actions: int) -> SelfCheck:
    """Whether the logged propensities can be true.

    Under true propensities the target's weights have mean 1, and so have those of the even policy; in each context,
    the inverse propensities of one action sum to at most the number of decisions there. With whole distributions
    logged, each action must also be taken as often as they say, and the propensity must be their entry.
    """
    z = {
        "target weight": _z(weight, 1.0),
        "even weight": _z(1 / (actions * log.propensity), 1.0),
        "weight of one action": _largest_excess(log, actions),
    }
    reasons = []
    if log.behaviour is not None:
        rows = log.behaviour[np.arange(len(log.action)), log.action]
        if not np.allclose(rows, log.propensity, rtol=1e-6, atol=1e-12):
            reasons.append("logged propensities are not the entries of the logged distributions")
        expected, variance = log.behaviour.sum(axis=0), (log.behaviour * (1 - log.behaviour)).sum(axis=0)
        count = np.bincount(log.action, minlength=actions)
        scores = (count - expected) / np.sqrt(np.maximum(variance, 1.0))
        z["action counts"] = float(scores[np.argmax(np.abs(scores))])
    # An even policy needs every action to be possible; a log that never tries some of them has a mean below 1.
    covers = log.behaviour is not None and bool((log.behaviour > 0).all())
    for name, score in z.items():
        low_is_wrong = name == "action counts" or covers
        if score > CHECK_Z or (low_is_wrong and score < -CHECK_Z):
            reasons.append(f"{name}: {score:+.1f} standard errors from what true propensities give")
    if not reasons and z["target weight"] < -CHECK_Z:
        reasons.append(
            f"mean weight {weight.mean():.3f} instead of 1: the propensities are wrong, or the target does what was "
            "never logged"
        )
    return SelfCheck(not reasons, z, tuple(reasons))


def _largest_excess(log: Decisions, actions: int) -> float:
    """The largest z by which Σ 1{a}/b exceeds the number of decisions, over the actions of each context (or of all)."""
    cells, place = np.unique(log.context, axis=0, return_inverse=True)
    if len(cells) > MAX_CELLS:
        cells, place = cells[:1], np.zeros(len(log.action), np.int64)
    flat, size = place.reshape(-1) * actions + log.action, len(cells) * actions
    inverse = 1 / log.propensity
    sums = np.bincount(flat, inverse, minlength=size).reshape(-1, actions)
    variance = np.bincount(flat, inverse**2 - inverse, minlength=size).reshape(-1, actions)
    decisions = np.bincount(place.reshape(-1), minlength=len(cells))[:, None]
    return float(((sums - decisions) / np.sqrt(np.maximum(variance, 1.0))).max())


def _z(values: Array, expected: float) -> float:
    """Distance of the mean from what is expected, in standard errors."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    gap = float(values.mean()) - expected
    if abs(gap) < 1e-12:
        return 0.0
    return gap / error if error > 0 else float(np.sign(gap)) * 1e6


def _conclude(
    estimates: dict[str, Estimate],
    logged: Estimate,
    best: Estimate,
    diagnostics: Diagnostics,
    check: SelfCheck,
    levels: tuple[float, float],
) -> Report:
    tolerance, confidence = levels
    if best.influence is None or logged.influence is None:
        gain = unidentified("gain", best.note.removeprefix("not identifiable: "))
    else:
        gain = from_influence("gain", best.influence - logged.influence, confidence, f"{best.name} against the log")
    against = _objections(gain, diagnostics, check)
    if against:
        return Report(estimates, logged, gain, diagnostics, check, "not enough evidence", against)
    verdict = judge(gain, tolerance * abs(logged.value or 0.0))
    return Report(estimates, logged, gain, diagnostics, check, verdict.verdict, verdict.reasons)


def _objections(gain: Estimate, diagnostics: Diagnostics, check: SelfCheck) -> tuple[str, ...]:
    """Why no verdict may be given, whatever the interval says."""
    reasons = list(check.reasons)
    if gain.interval is None:
        reasons.append(gain.note)
    # Asked this way round, a value that is no number is an objection as well.
    if not diagnostics.effective >= MIN_EFFECTIVE:
        reasons.append(
            f"{diagnostics.n} logged units are worth {diagnostics.effective:.3g}: at least {MIN_EFFECTIVE:.0f} are "
            "needed; log more, explore more, or compare a policy nearer to the logged one"
        )
    if not diagnostics.max_share <= MAX_SHARE:
        reasons.append(f"one unit carries {diagnostics.max_share:.0%} of all weight (at most {MAX_SHARE:.0%})")
    if not diagnostics.unsupported <= MAX_UNSUPPORTED:
        reasons.append(
            f"the target puts {diagnostics.unsupported:.1%} of its probability on actions that were never possible "
            f"in the log (at most {MAX_UNSUPPORTED:.0%}): explore them first"
        )
    return tuple(reasons)


def judge(gain: Estimate, margin: float) -> Verdict:
    """`better` where the whole interval of the gain is above 0, `worse` where it is below −margin."""
    if gain.interval is None or gain.value is None:
        return Verdict("not enough evidence", (gain.note,))
    low, high = gain.interval
    figures = f"gain {gain.value:+.4g}, interval {low:+.4g} to {high:+.4g} ({gain.note})"
    if low > 0:
        return Verdict("better", (figures,))
    if high < -margin:
        return Verdict("worse", (figures, f"beyond the tolerance of {margin:.4g}"))
    return Verdict("not enough evidence", (figures, "the interval includes no gain, or a loss within the tolerance"))


def decisions_needed(gain: float, spread: float, confidence: float = 0.95, power: float = 0.8) -> int:
    """Units after which a gain is seen with this power, for influence values of this spread (two-sided normal)."""
    if gain == 0 or spread < 0:
        raise ValueError(f"gain {gain} and spread {spread}: give a gain other than 0 and a spread of at least 0")
    z = NormalDist().inv_cdf(0.5 + confidence / 2) + NormalDist().inv_cdf(power)
    return int(np.ceil((z * spread / gain) ** 2))
