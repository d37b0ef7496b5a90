"""Performance foreseen: how often a classifier will prove right, from its own probabilities, before labels come."""

import math
from collections import deque
from dataclasses import dataclass, field

LEAST = 200
"""Labels before which nothing is known of the calibration."""

BINS = 20
FORGET = 0.9995
"""What a bin keeps of its labels with each further one: it is about the last 2,000."""

REACH = 5
"""Windows of predictions after which a label says nothing of the model of today: where labels are few, they get old."""

PRIOR = 10.0
"""Labels that a confidence itself is worth, as long as its bin has few."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """An accuracy estimated before its labels, and what became of earlier ones.

    Attributes:
        accuracy: The mean calibrated confidence of the last predictions; ``None`` before the first.
        predictions: How many those are.
        gap: Accuracy less what was foreseen, over the predictions labelled last; ``None`` before the first label.
        error: The standard error of the gap; ``None`` before the second label.
        labels: How many those are.
        calibrated: Whether the estimate can be believed: the gap is within the tolerance, its standard error included.
            ``None`` as long as there are too few labels to tell.
    """

    accuracy: float | None
    predictions: int
    gap: float | None
    error: float | None
    labels: int
    calibrated: bool | None


@dataclass(slots=True)
class Mean:
    """A mean over a sliding window."""

    size: int
    values: deque[float] = field(default_factory=deque)
    total: float = 0.0
    squares: float = 0.0

    def update(self, value: float) -> None:
        """One more value; the oldest leaves."""
        self.values.append(value)
        self.total += value
        self.squares += value * value
        if len(self.values) > self.size:
            self.drop()

    def drop(self) -> None:
        """Forget the oldest value."""
        gone = self.values.popleft()
        self.total -= gone
        self.squares -= gone * gone

    def get(self) -> float | None:
        """The mean; ``None`` of nothing."""
        return self.total / len(self.values) if self.values else None

    def error(self) -> float | None:
        """The standard error of the mean of independent values; ``None`` of fewer than two."""
        count = len(self.values)
        if count < 2:
            return None
        return math.sqrt(max(0.0, self.squares - self.total * self.total / count) / (count - 1) / count)


@dataclass(slots=True)
class Foreseen:
    """Confidence-based performance estimation: where probabilities are calibrated, mean confidence is mean accuracy.

    Confidences are calibrated first, by how often predictions of the same confidence were right (histogram binning,
    Zadrozny and Elkan 2001, with forgetting). The estimate is over the last ``window`` predictions, and believed while
    the accuracy of as many labelled ones was, with its standard error, within ``tolerance`` of what was foreseen for
    them. A change of concept is invisible to it until labels come (Garg et al. 2022).

    How the truth lies for one confidence can be learned from any label that was asked for knowing no more than that
    confidence; how far the estimate is off, from those alone that represent the stream.
    """

    window: int = 2_000
    tolerance: float = 0.02
    _right: list[float] = field(default_factory=lambda: [0.0] * BINS)
    _count: list[float] = field(default_factory=lambda: [0.0] * BINS)
    _foreseen: Mean = field(init=False)
    _gap: Mean = field(init=False)
    _noted: int = 0
    _settled: deque[int] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._foreseen = Mean(self.window)
        self._gap = Mean(self.window)

    def note(self, confidence: float) -> float:
        """A prediction, with the probability of the class it names; the probability that it is right, to keep."""
        if not math.isfinite(confidence):
            return math.nan
        self._noted += 1
        place = _bin(confidence)
        foreseen = (self._right[place] + PRIOR * confidence) / (self._count[place] + PRIOR)
        self._foreseen.update(foreseen)
        while self._settled and self._settled[0] < self._noted - REACH * self.window:
            self._settled.popleft()
            self._gap.drop()
        return foreseen

    def settle(self, confidence: float, foreseen: float, *, right: bool, fair: bool = True) -> None:
        """The label of a prediction that was made with this confidence, and of which `note` said that.

        ``fair`` where it came whatever the model had said.
        """
        if not math.isfinite(foreseen):
            return
        if fair:
            self._gap.update(right - foreseen)
            self._settled.append(self._noted)
            while len(self._settled) > len(self._gap.values):
                self._settled.popleft()
        place = _bin(confidence)
        self._right[place] = FORGET * self._right[place] + right
        self._count[place] = FORGET * self._count[place] + 1.0

    def estimated(self) -> Estimated:
        """The estimate now."""
        gap, error, labels = self._gap.get(), self._gap.error(), len(self._gap.values)
        calibrated = None
        if gap is not None and error is not None and labels >= LEAST:
            calibrated = False if abs(gap) > self.tolerance else abs(gap) + error <= self.tolerance or None
        return Estimated(self._foreseen.get(), len(self._foreseen.values), gap, error, labels, calibrated)


def _bin(confidence: float) -> int:
    return min(BINS - 1, int(BINS * confidence))
