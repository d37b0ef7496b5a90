"""What recipes measure: ranking at a budget, areas, calibration, rates by group. Arrays in, numbers out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


def flagged(scores: Array, budget: float, window: int, step: int) -> Flags:
    """Which cases a queue takes that may take a share `budget` of them, by their score, without knowing the future.

    Every `step` cases the threshold becomes the score that the share exceeded among the last `window`; before there
    are so many none is taken.

    >>> flagged(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 1.0]), 0.5, 4, 2).tolist()
    [False, False, False, False, True, False]
    """
    taken = np.zeros(len(scores), bool)
    for begin in range(window, len(scores), step):
        threshold = np.quantile(scores[begin - window : begin], 1.0 - budget)
        taken[begin : begin + step] = scores[begin : begin + step] > threshold
    return taken


def precision(taken: Flags, truth: Flags) -> float:
    """The share of those taken that are true; NaN where none is taken."""
    return float(truth[taken].mean()) if taken.any() else float("nan")


def recall(taken: Flags, truth: Flags) -> float:
    """The share of the true ones that are taken; NaN where there are none."""
    return float(taken[truth].mean()) if truth.any() else float("nan")


def roc_auc(scores: Array, truth: Flags) -> float:
    """The chance that a true case has a higher score than a false one, ties counted half (Mann and Whitney 1947).

    >>> roc_auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2.0)[place]
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return float("nan")
    return float((rank[truth].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


@dataclass(frozen=True)
class Bin:
    """Cases of similar predicted chance: how many, the mean chance, and the share that came true."""

    n: int
    predicted: float
    observed: float


def calibration(chances: Array, truth: Flags, bins: int = 10) -> list[Bin]:
    """Equally filled bins from the lowest chance to the highest."""
    parts = np.array_split(np.argsort(chances, kind="stable"), bins)
    return [Bin(len(part), float(chances[part].mean()), float(truth[part].mean())) for part in parts if len(part)]


def calibration_error(chances: Array, truth: Flags, bins: int = 10) -> float:
    """Mean distance between predicted and observed over the bins, by their size (Naeini et al. 2015).

    >>> calibration_error(np.array([0.0, 0.0, 1.0, 1.0]), np.array([False, False, True, False]), 2)
    0.25
    """
    found = calibration(chances, truth, bins)
    return sum(one.n * abs(one.predicted - one.observed) for one in found) / len(chances)


@dataclass(frozen=True)
class Group:
    """One group of people: how many, the share chosen, the share chosen among the true ones, and the truth."""

    name: str
    n: int
    chosen: float
    caught: float
    truth: float


def by_group(groups: Sequence[object], chosen: Flags, truth: Flags) -> list[Group]:
    """Rates for each group by name."""
    names = np.array([str(group) for group in groups])
    return [
        Group(
            name,
            int(member.sum()),
            float(chosen[member].mean()),
            recall(chosen[member], truth[member]),
            float(truth[member].mean()),
        )
        for name in sorted(set(names.tolist()))
        for member in (names == name,)
    ]


def half_width(values: ArrayLike) -> float:
    """Half of the 95 % interval of a mean."""
    found = np.asarray(values, float)
    return 1.96 * float(found.std(ddof=1)) / float(np.sqrt(len(found)))


def interval_score(low: Array, high: Array, truth: Array, level: float) -> float:
    """Mean width of intervals, each miss added 2 / (1 - level) times: least for the true ones (Gneiting, Raftery 2007).

    >>> round(interval_score(np.array([0.0, 0.0]), np.array([2.0, 2.0]), np.array([1.0, 2.5]), 0.9), 6)
    7.0
    """
    missed = np.maximum(low - truth, 0.0) + np.maximum(truth - high, 0.0)
    return float((high - low + 2.0 / (1.0 - level) * missed).mean())


def auc_half_width(area: float, positives: int, negatives: int) -> float:
    """Half of the 95 % interval of an area under the curve (Hanley and McNeil 1982, equation 1).

    >>> round(auc_half_width(0.9, 50, 50), 3)
    0.063
    """
    one, two = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    spread = area * (1.0 - area) + (positives - 1) * (one - area**2) + (negatives - 1) * (two - area**2)
    return 1.96 * float(np.sqrt(spread / (positives * negatives)))


def psi(before: Array, now: Array, bins: int = 10) -> float:
    """Population stability index: how far scores have moved, over bins that held equal shares of them before.

    >>> round(psi(np.arange(100.0), np.arange(100.0)), 6), round(psi(np.arange(4.0), np.array([3.0, 3.0]), 2), 2)
    (0.0, 6.91)
    """
    edges = np.quantile(before, np.linspace(0.0, 1.0, bins + 1)[1:-1])
    shares = [
        np.maximum(np.bincount(np.searchsorted(edges, one, side="right"), minlength=bins) / len(one), 1e-6)
        for one in (before, now)
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
