"""Performance foreseen: how often a classifier will prove right, from its own probabilities, before labels come."""

import math
from collections import deque
from dataclasses import dataclass, field

from scipy import stats  # type: ignore[import-untyped]

from online.comparison import BLOCKS, block_means, standard_error

LEAST = 200
"""Labels before which nothing is known of the calibration."""

BINS = 20
FORGET = 0.9995
"""What all bins keep of their labels with each further one: they are of about the last 2,000."""

REACH = 5
"""Windows of predictions after which a label says nothing of the model of today: where labels are few, they get old."""

JUDGED = 2
"""Windows of labels over which it is judged how far the estimate is off."""

CONFIDENCE = 0.95

PRIOR = 10.0
"""Labels that a confidence itself is worth, as long as its bin has few."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """An accuracy estimated before its labels, and what became of earlier ones.

    Attributes:
        accuracy: The mean calibrated confidence of the last predictions; ``None`` before the first.
        predictions: How many those are.
        gap: Accuracy less what was foreseen, over the predictions labelled last; ``None`` before the first label.
        error: The standard error of the gap, from the means of `BLOCKS` blocks; ``None`` before as many labels.
        labels: How many those are.
        within: How far from the estimate the accuracy of these predictions will prove, with 95 % confidence: the gap,
            its uncertainty and that of the truth itself. ``None`` as long as there are too few labels to tell.
        calibrated: Whether the estimate can be believed: ``within`` is at most the tolerance. False where the gap alone
            is more; ``None`` where there are too few labels to tell, or these disagree too much.
    """

    accuracy: float | None
    predictions: int
    gap: float | None
    error: float | None
    labels: int
    within: float | None
    calibrated: bool | None


@dataclass(slots=True)
class Foreseen:
    """Confidence-based performance estimation: where probabilities are calibrated, mean confidence is mean accuracy.

    Confidences are calibrated first, by how often predictions of the same confidence were right (histogram binning,
    Zadrozny and Elkan 2001, with forgetting). The estimate is over the last ``window`` predictions, all of them
    calibrated by the labels known today. How far it is off is told by labelled predictions, each against what was
    foreseen when it was made: they, too, were calibrated by labels that were late. It is believed while the accuracy
    yet to come is within ``tolerance`` with 95 % confidence. Errors in one direction that make up for earlier ones in
    the other are no calibration: the means of blocks in time then differ, and the interval is wide. A change of concept
    is invisible until labels come (Garg et al. 2022).

    How the truth lies for one confidence can be learned from any label that was asked for knowing no more than that
    confidence; how far the estimate is off, from those alone that represent the stream.
    """

    window: int = 2_000
    tolerance: float = 0.03
    _right: list[float] = field(default_factory=lambda: [0.0] * BINS)
    _count: list[float] = field(default_factory=lambda: [0.0] * BINS)
    _confidences: deque[float] = field(init=False)
    _gaps: deque[float] = field(init=False)
    _settled: deque[int] = field(init=False)
    _noted: int = 0

    def __post_init__(self) -> None:
        self._confidences = deque(maxlen=self.window)
        self._gaps, self._settled = deque(maxlen=JUDGED * self.window), deque(maxlen=JUDGED * self.window)

    def note(self, confidence: float) -> float:
        """A prediction, with the probability of the class it names; the probability that it is right, to keep."""
        if not math.isfinite(confidence):
            return math.nan
        self._noted += 1
        self._confidences.append(confidence)
        while self._settled and self._settled[0] < self._noted - REACH * self.window:
            self._settled.popleft()
            self._gaps.popleft()
        return self._calibrated(confidence)

    def settle(self, confidence: float, foreseen: float, *, right: bool, fair: bool = True) -> None:
        """The label of a prediction that was made with this confidence, and of which `note` said that.

        ``fair`` where it came whatever the model had said.
        """
        if not math.isfinite(foreseen):
            return
        if fair:
            self._gaps.append(right - foreseen)
            self._settled.append(self._noted)
        self._right = [FORGET * kept for kept in self._right]
        self._count = [FORGET * kept for kept in self._count]
        place = _bin(confidence)
        self._right[place] += right
        self._count[place] += 1.0

    def estimated(self) -> Estimated:
        """The estimate now."""
        predictions, labels = len(self._confidences), len(self._gaps)
        accuracy = math.fsum(map(self._calibrated, self._confidences)) / predictions if predictions else None
        gap = math.fsum(self._gaps) / labels if labels else None
        error = standard_error(block_means(self._gaps)) if labels >= BLOCKS else None
        within = calibrated = None
        if gap is not None and error is not None and labels >= LEAST:
            # The truth is a mean of as many predictions as the window has, and varies as that of the labels does.
            within = abs(gap) + _T * error * math.sqrt(1.0 + labels / self.window)
            calibrated = False if abs(gap) > self.tolerance else within <= self.tolerance or None
        return Estimated(accuracy, predictions, gap, error, labels, within, calibrated)

    def _calibrated(self, confidence: float) -> float:
        """How often predictions of this confidence are right, by the labels so far."""
        place = _bin(confidence)
        return (self._right[place] + PRIOR * confidence) / (self._count[place] + PRIOR)


_T = float(stats.t.ppf(0.5 + CONFIDENCE / 2.0, BLOCKS - 1))


def _bin(confidence: float) -> int:
    return min(BINS - 1, int(BINS * confidence))
