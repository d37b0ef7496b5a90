"""A bank of named drift detectors, each on one signal, with the evidence for each alarm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from online.components import Component, construct

RECENT = 0.02
"""The weight of a value in the running mean that an alarm names as what the signal is now: about the last 50."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A detector's alarm: ``before`` is the mean since its last alarm, ``recent`` that of about the last 50 values."""

    detector: str
    signal: str
    value: float
    before: float
    recent: float
    seen: int

    @property
    def evidence(self) -> dict[str, float]:
        """The figures behind the alarm."""
        return {"value": self.value, "before": self.before, "recent": self.recent, "seen": float(self.seen)}


@dataclass(slots=True)
class Watch:
    """One detector on one signal, with what it saw since its last alarm."""

    name: str
    signal: str
    detector: Any
    count: int = 0
    total: float = 0.0
    recent: float = 0.0

    def update(self, value: float) -> Alarm | None:
        """One more value; the alarm it raised, if any. A value that is not finite is passed over.

        ADWIN never fires again after one NaN.
        """
        if value - value != 0.0:
            return None
        self.detector.update(value)
        count = self.count = self.count + 1
        self.total += value
        self.recent += (value - self.recent) * (RECENT if count > 50 else 1.0 / count)
        if not self.detector.drift_detected:
            return None
        alarm = Alarm(self.name, self.signal, value, self.total / count, self.recent, count)
        self.count, self.total, self.recent = 0, 0.0, 0.0
        return alarm


class Bank(dict[str, Watch]):
    """A watch for each signal."""

    @classmethod
    def of(cls, detectors: Mapping[str, Component]) -> "Bank":
        """A new bank of declared detectors."""
        watches = {s: Watch(found.use.rpartition(".")[2], s, construct(found)) for s, found in detectors.items()}
        return cls(watches)
