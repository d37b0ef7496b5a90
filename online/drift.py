"""A bank of named drift detectors, each on one signal, with the evidence for each alarm."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from online.components import Component, construct

RECENT = 50
"""Values whose mean an alarm names as evidence of what the signal is now."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A detector's alarm: ``before`` is the mean since its last alarm, ``recent`` that of the last 50 values."""

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
class _Watch:
    """One detector with what it saw since its last alarm."""

    name: str
    detector: Any
    count: int = 0
    total: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def update(self, signal: str, value: float) -> Alarm | None:
        self.detector.update(value)
        self.recent.append(value)
        self.count += 1
        self.total += value
        if not self.detector.drift_detected:
            return None
        old = self.count - len(self.recent)
        recent = sum(self.recent)
        before = (self.total - recent) / old if old else math.nan
        alarm = Alarm(self.name, signal, value, before, recent / len(self.recent), self.count)
        self.count, self.total = 0, 0.0
        self.recent.clear()
        return alarm


class Bank:
    """Detectors by the signal that they watch."""

    def __init__(self, detectors: Mapping[str, Component]) -> None:
        self._watches = {
            signal: _Watch(found.use.rpartition(".")[2], construct(found)) for signal, found in detectors.items()
        }

    @property
    def signals(self) -> tuple[str, ...]:
        """The signals that are watched."""
        return tuple(self._watches)

    def update(self, signal: str, value: float) -> Alarm | None:
        """One more value of a signal; the alarm it raised, if any. Values that are not finite are passed over.

        ADWIN never fires again after one NaN.
        """
        watch = self._watches.get(signal)
        if watch is None or value - value != 0.0:
            return None
        return watch.update(signal, value)
