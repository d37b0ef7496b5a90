"""Off-policy estimators: the value of a target policy from the decisions of another one; arrays in, estimates out.

Notation: n decisions or episodes, weight w = target probability / logged propensity of the action taken. Every estimate
keeps one influence value per unit, so that two estimates on the same log can be compared pair by pair.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """One estimator's value with its interval; `value` is `None` where the log does not identify it.

    Args:
        name: the estimator.
        value: estimated value of the target policy.
        se: standard error, from the influence values.
        interval: normal interval at the asked confidence.
        note: why there is no value, or what to mind about it.
        influence: (n,) the units' parts: their mean is the value, their spread gives the standard error.
    """

    name: str
    value: float | None
    se: float | None
    interval: tuple[float, float] | None
    note: str = ""
    influence: Array | None = field(default=None, repr=False, compare=False)

    def summary(self) -> dict[str, Any]:
        """Everything but the single influence values, ready for JSON."""
        return {name: getattr(self, name) for name in ("name", "value", "se", "interval", "note")}


def from_influence(name: str, influence: Array, confidence: float, note: str = "") -> Estimate:
    """The estimate whose value is the mean of the influence values, with its normal interval."""
    n = len(influence)
    value = float(influence.mean())
    if n < 2:
        return Estimate(name, value, None, None, "one unit has no standard error", influence)
    se = float(influence.std(ddof=1)) / n**0.5
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * se
    return Estimate(name, value, se, (value - half, value + half), note, influence)


def unidentified(name: str, why: str) -> Estimate:
    """No value, and why: instead of 0/0."""
    return Estimate(name, None, None, None, f"not identifiable: {why}")


def ips(reward: Array, weight: Array, confidence: float = 0.95) -> Estimate:
    """Inverse propensity scoring, mean of w r (Horvitz and Thompson 1952); unbiased where the log covers the target."""
    if not weight.any():
        return unidentified("ips", "no logged action could have been the target's")
    return from_influence("ips", weight * reward, confidence)


def clipped_ips(reward: Array, weight: Array, ceiling: float = 10.0, confidence: float = 0.95) -> Estimate:
    """IPS with weights cut at a ceiling (Ionides 2008): less variance, biased towards 0 by what is cut."""
    if not weight.any():
        return unidentified("clipped-ips", "no logged action could have been the target's")
    lost = float(np.maximum(weight - ceiling, 0).mean())
    note = f"weights cut at {ceiling:g} lose {lost:.2%} of the target's probability" if lost > 0 else ""
    return from_influence("clipped-ips", np.minimum(weight, ceiling) * reward, confidence, note)


def snips(reward: Array, weight: Array, confidence: float = 0.95, name: str = "snips") -> Estimate:
    """Self-normalised IPS, Σ w r / Σ w, with its delta-method error (Swaminathan and Joachims 2015, section 5)."""
    if not weight.any():
        return unidentified(name, "no logged action could have been the target's")
    mean = float(weight.mean())
    value = float((weight * reward).mean()) / mean
    return from_influence(name, value + weight * (reward - value) / mean, confidence)


def clipped_snips(reward: Array, weight: Array, ceiling: float = 10.0, confidence: float = 0.95) -> Estimate:
    """SNIPS with weights cut at a ceiling."""
    return snips(reward, np.minimum(weight, ceiling), confidence, "clipped-snips")


class Regression(Protocol):
    """A reward model: fitted on (context, action, reward), it predicts (m, a) rewards for contexts (m, k)."""

    def __call__(self, context: Array, action: Index, reward: Array, actions: int) -> Callable[[Array], Array]:
        """The fitted predictor."""


def cell_means(context: Array, action: Index, reward: Array, actions: int) -> Callable[[Array], Array]:
    """A mean for each (context, action); where a cell is empty, the action's mean, else the overall mean."""
    # Adding 0 makes -0 a 0: both are one number, but not the same bytes.
    cells, place = np.unique(context + 0.0, axis=0, return_inverse=True)
    shape = (len(cells), actions)
    flat = np.ravel_multi_index((place.reshape(-1), action), shape)
    count = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
    total = np.bincount(flat, reward, minlength=shape[0] * shape[1]).reshape(shape)
    overall = float(reward.mean()) if len(reward) else 0.0
    by_action = np.where(count.sum(0) > 0, total.sum(0) / np.maximum(count.sum(0), 1), overall)
    means = np.where(count > 0, total / np.maximum(count, 1), by_action)
    known = {row.tobytes(): i for i, row in enumerate(cells)}

    def predict(asked: Array) -> Array:
        distinct, back = np.unique(asked + 0.0, axis=0, return_inverse=True)
        rows = [means[known[row.tobytes()]] if row.tobytes() in known else by_action for row in distinct]
        return np.asarray(np.array(rows)[back.reshape(-1)])

    return predict


def ridge(context: Array, action: Index, reward: Array, actions: int) -> Callable[[Array], Array]:
    """One ridge regression per action on the standardised context, shrunk towards the pooled one."""
    centre, spread = context.mean(axis=0), context.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)

    def design(rows: Array) -> Array:
        scaled = (rows - centre) / spread
        return np.column_stack([np.ones(len(rows)), scaled, scaled**2])

    X = design(context)
    penalty = np.eye(X.shape[1])
    pooled = np.linalg.solve(X.T @ X + penalty, X.T @ reward)
    coefficients = np.empty((actions, X.shape[1]))
    for a in range(actions):
        mine = X[action == a]
        residual = reward[action == a] - mine @ pooled
        coefficients[a] = pooled + np.linalg.solve(mine.T @ mine + 5 * penalty, mine.T @ residual)

    def predict(asked: Array) -> Array:
        return np.asarray(design(asked) @ coefficients.T)

    return predict


def cross_fit(
    context: Array, action: Index, reward: Array, actions: int, regression: Regression, folds: int = 2
) -> Array:
    """Predicted rewards (n, a), each row's from a model that never saw it (Chernozhukov et al. 2018).

    Folds are blocks of the log: neighbours are often of one key, and alternating rows would put it into both.
    """
    predicted = np.empty((len(reward), actions))
    fold = np.arange(len(reward)) * folds // len(reward)
    for k in range(folds):
        held = fold == k
        if held.all():
            # A log of one row leaves nothing to learn from: nothing is expected.
            predicted[held] = 0.0
        elif held.any():
            model = regression(context[~held], action[~held], reward[~held], actions)
            predicted[held] = model(context[held])
    return predicted


def direct_method(target: Array, predicted: Array, confidence: float = 0.95) -> Estimate:
    """Direct method, mean of Σ_a π(a|x) q(x, a): as good as the reward model, and its interval does not know that."""
    note = "the interval leaves out the error of the reward model"
    return from_influence("dm", (target * predicted).sum(axis=1), confidence, note)


def doubly_robust(
    reward: Array, weight: Array, action: Index, target: Array, predicted: Array, confidence: float = 0.95
) -> Estimate:
    """Doubly robust: the direct method, corrected by weighted residuals (Dudík, Langford and Li 2011, equation 1).

    With weights cut at a ceiling (Su et al. 2020) it keeps the model's error where they were cut.
    """
    residual = reward - predicted[np.arange(len(action)), action]
    return from_influence("dr", (target * predicted).sum(axis=1) + weight * residual, confidence)


def trajectory_is(reward: Array, ratio: Array, discount: float = 1.0, confidence: float = 0.95) -> Estimate:
    """Importance sampling of whole episodes, mean of (Π_t ρ_t) Σ_t γ^t r_t (Precup, Sutton and Singh 2000).

    Args:
        reward: (n, T) rewards, 0 after the end of an episode.
        ratio: (n, T) weights of the single decisions, 1 after the end.
    """
    gain = reward @ discount ** np.arange(reward.shape[1])
    return replace(ips(gain, np.prod(ratio, axis=1), confidence), name="trajectory-is")


def trajectory_snis(reward: Array, ratio: Array, discount: float = 1.0, confidence: float = 0.95) -> Estimate:
    """Self-normalised importance sampling of whole episodes; arguments as in `trajectory_is`."""
    gain = reward @ discount ** np.arange(reward.shape[1])
    return snips(gain, np.prod(ratio, axis=1), confidence, "trajectory-snis")


def per_decision_is(reward: Array, ratio: Array, discount: float = 1.0, confidence: float = 0.95) -> Estimate:
    """Per-decision importance sampling: each reward weighted by the decisions up to it (Precup et al. 2000, eq. 5)."""
    weight = np.cumprod(ratio, axis=1)
    if not weight[:, 0].any():
        return unidentified("pdis", "no logged first action could have been the target's")
    gains = (weight * reward) @ discount ** np.arange(reward.shape[1])
    return from_influence("pdis", gains, confidence)


def self_normalised_per_decision_is(
    reward: Array, ratio: Array, discount: float = 1.0, confidence: float = 0.95
) -> Estimate:
    """Per-decision importance sampling, normalised in each period (Thomas 2015, section 3.6); delta-method error."""
    weight = np.cumprod(ratio, axis=1)
    mean = weight.mean(axis=0)
    if (mean == 0).any():
        period = int(np.argmax(mean == 0))
        return unidentified("sn-pdis", f"from period {period} on, no logged episode could have been the target's")
    factor = discount ** np.arange(reward.shape[1])
    values = (weight * reward).mean(axis=0) / mean
    influence = float(values @ factor) + (weight * (reward - values) / mean) @ factor
    return from_influence("sn-pdis", influence, confidence)


def sequential_doubly_robust(
    reward: Array, ratio: Array, value: Array, action_value: Array, discount: float = 1.0, confidence: float = 0.95
) -> Estimate:
    """Doubly robust for episodes (Jiang and Li 2016, equation 10, unrolled).

    Args:
        reward: (n, T) rewards, 0 after the end.
        ratio: (n, T) weights of the single decisions, 1 after the end.
        value: (n, T) a model's value of the target at the states met, 0 after the end.
        action_value: (n, T) the model's value of the actions taken there, 0 after the end.
    """
    factor = discount ** np.arange(reward.shape[1])
    after = np.cumprod(ratio, axis=1)
    before = np.column_stack([np.ones(len(reward)), after[:, :-1]])
    terms = before * value + after * (reward - action_value)
    return from_influence("sequential-dr", terms @ factor, confidence)


def model_based(
    value: Callable[[Array], float], estimate: Array, covariance: Array, confidence: float = 0.95, step: float = 1e-3
) -> Estimate:
    """The target's value in the world with calibrated parameters; delta-method interval from their covariance.

    Args:
        value: the exact value of the target policy for parameters (d,).
        estimate: (d,) calibrated parameters.
        covariance: (d, d) of the calibration.
        step: relative step of the central differences.
    """
    gradient = np.empty(len(estimate))
    for j, centre in enumerate(estimate):
        h = step * (abs(float(centre)) or 1.0)
        shift = np.eye(len(estimate))[j] * h
        gradient[j] = (value(estimate + shift) - value(estimate - shift)) / (2 * h)
    centre = float(value(estimate))
    se = float(np.sqrt(max(0.0, float(gradient @ covariance @ gradient))))
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * se
    note = "right only where the world's family is: it carries no width for a wrong one"
    return Estimate("model", centre, se, (centre - half, centre + half), note)
