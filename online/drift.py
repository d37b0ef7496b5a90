"""A bank of named drift detectors, each on one signal: warnings, alarms with their evidence, and how good they are."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from types import MappingProxyType
from typing import Any

from online.components import Component, construct
from online.detectors import figures, warner, warns

RECENT = 50
"""How many of the last values an alarm compares with those before."""

PATIENCE = 1_000
"""Values after which a warning that no alarm followed is over."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A detector's alarm: the mean of ``recent_size`` recent values against that of ``before_size`` before them.

    ``name`` is the watch's, ``detector`` the kind of its detector, such as ``ADWIN``. ``figures`` are the detector's
    own: ``p`` of its test, or ``statistic`` and the ``bound`` that it crossed. ``seen`` counts the values since the
    last alarm, ``warned`` those since the warning that came first, 0 for none.
    """

    name: str
    detector: str
    signal: str
    value: float
    before: float
    recent: float
    seen: int
    before_size: int = 0
    recent_size: int = 0
    warned: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def evidence(self) -> dict[str, float]:
        """The figures behind the alarm."""
        means = {"value": self.value, "before": self.before, "recent": self.recent}
        sizes = {"seen": self.seen, "before_size": self.before_size, "recent_size": self.recent_size}
        counts = {name: float(size) for name, size in sizes.items()}
        return {**means, **counts, "warned": float(self.warned), **self.figures}


@dataclass(slots=True)
class Watch:
    """One detector on one signal, with what it saw since its last alarm.

    ``name`` is the one that it is declared under, which no other has; ``kind`` is the detector's, such as ``ADWIN``.
    ``warner`` is a laxer detector whose firing is the warning, where the detector itself has none. For ``cooldown``
    values after an alarm, the detector goes on but raises no other.
    """

    name: str
    kind: str
    signal: str
    detector: Any
    warner: Any = None
    cooldown: int = 0
    count: int = 0
    total: float = 0.0
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    quiet: int = 0
    warned: int = 0
    patience: int = 0

    def update(self, value: float) -> Alarm | None:
        """One more value; the alarm it raised, if any. A value that is not finite is passed over.

        ADWIN never fires again after one NaN.
        """
        if value - value != 0.0:
            return None
        detector = self.detector
        detector.update(value)
        self.count += 1
        self.total += value
        self.latest.append(value)
        if self.warner is not None:
            self._heed(value)
        if self.quiet:
            self.quiet -= 1
            return None
        return self._raised(value) if detector.drift_detected else None

    @property
    def warning(self) -> bool:
        """Whether the signal looks as if it were about to change."""
        return self.patience > 0

    def _heed(self, value: float) -> None:
        """Look for a warning: a new one begins, or one that no alarm followed ends."""
        if warns(self.detector, self.warner, value):
            self.patience = PATIENCE
        elif self.patience:
            self.patience -= 1
        self.warned = self.warned + 1 if self.patience else 0

    def _raised(self, value: float) -> Alarm:
        size = len(self.latest)
        recent_total = math.fsum(self.latest)
        before = self.count - size
        alarm = Alarm(
            name=self.name,
            detector=self.kind,
            signal=self.signal,
            value=value,
            before=(self.total - recent_total) / before if before else self.total / self.count,
            recent=recent_total / size,
            seen=self.count,
            before_size=before,
            recent_size=size,
            warned=self.warned,
            figures=figures(self.detector),
        )
        self.count, self.total, self.warned, self.patience = 0, 0.0, 0, 0
        self.latest.clear()
        self.quiet = self.cooldown
        return alarm


class Bank(dict[str, Watch]):
    """Watches by name; a watch's name is its signal, unless it says on which other one it is."""

    @classmethod
    def of(
        cls,
        detectors: Mapping[str, Component],
        on: Mapping[str, str] = MappingProxyType({}),
        *,
        cooldown: int = 0,
        warned: bool = False,
    ) -> "Bank":
        """A new bank of declared detectors.

        Args:
            detectors: By name.
            on: The signals of those whose name is not their signal.
            cooldown: Values after an alarm in which the same watch raises no other.
            warned: Whether warnings are needed: where a detector gives none, a laxer one of its kind is run beside it.
        """
        return cls(
            {name: _watch(name, found, on.get(name, name), cooldown, warned) for name, found in detectors.items()}
        )

    def on(self, signal: str) -> tuple[Watch, ...]:
        """The watches of a signal."""
        return tuple(watch for watch in self.values() if watch.signal == signal)


def _watch(name: str, found: Component, signal: str, cooldown: int, warned: bool) -> Watch:
    detector = construct(found)
    return Watch(name, kind(found), signal, detector, warner(found, detector, twin=warned), cooldown)


def kind(found: Component) -> str:
    """The kind of a declared detector, as people call it."""
    return found.use.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Judged:
    """Alarms against known changes: the delay to the first alarm after each, ``None`` where none came in time."""

    changes: tuple[int, ...]
    delays: tuple[int | None, ...]
    false_alarms: int
    rows: int

    @property
    def detected(self) -> int:
        """The changes that were found."""
        return sum(delay is not None for delay in self.delays)

    @property
    def missed(self) -> int:
        """The changes that were not."""
        return len(self.changes) - self.detected

    @property
    def delay(self) -> float | None:
        """The median delay of those found."""
        found = [delay for delay in self.delays if delay is not None]
        return median(found) if found else None

    @property
    def per_thousand(self) -> float:
        """False alarms per 1,000 rows."""
        return 1_000.0 * self.false_alarms / self.rows if self.rows else 0.0


def judge(alarms: Sequence[int], changes: Sequence[int], rows: int, within: int | None = None) -> Judged:
    """How good alarms at these rows are, where the truth changed at those.

    The first alarm after a change, before the next one and ``within`` so many rows, finds it. Every other is false: one
    that comes again and again for the same change is no better than one for none.

    >>> found = judge([40, 120, 130, 400], [100, 300], 500, within=80)
    >>> found.delays, found.false_alarms, found.per_thousand
    ((20, None), 3, 6.0)
    """
    changes = sorted(changes)
    delays: list[int | None] = []
    for begin, end in pairwise([*changes, rows]):
        last = end if within is None else min(end, begin + within)
        first = min((row for row in alarms if begin <= row < last), default=None)
        delays.append(None if first is None else first - begin)
    found = sum(delay is not None for delay in delays)
    return Judged(tuple(changes), tuple(delays), len(alarms) - found, rows)


def always(changes: Sequence[int], rows: int) -> Judged:
    """The dummy that fires at every row: the delays cannot be beaten, the false alarms must be."""
    return judge(range(rows), changes, rows)
