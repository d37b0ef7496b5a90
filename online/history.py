"""What the past of a key says about its next case: lags, rolling figures over event time, averages by group.

Each figure is computed before the case itself is remembered, and from values no younger than the case: a label or a
feature can never explain itself.
"""

import datetime
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATS = ("mean", "sum", "min", "max", "std", "count")
PARTS = ("year", "month", "day", "hour", "minute", "weekday", "yearday")
LABEL = "label"

KEPT = 10_000
"""Values remembered of one series of one key, whatever its windows ask for."""

GROUPS = 10_000
"""Groups of one figure; a further one has no figure."""


@dataclass(frozen=True, slots=True)
class Past:
    """A figure of earlier values of the number ``of``, which may be the label.

    One of: the value ``lag`` values ago; the one that was known ``ago`` seconds before; ``stat`` over the ``last``
    values, over those of the last ``seconds``, or over all with the same ``by`` (a part of the event's time, or a
    category). ``default`` stands in where there is none yet.
    """

    name: str
    of: str
    lag: int = 0
    ago: float = 0.0
    stat: str = ""
    last: int = 0
    seconds: float = 0.0
    by: str = ""
    default: float | None = None


@dataclass(slots=True)
class Series:
    """Values in the order of their event times."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def put(self, at: float, value: float, count: int, seconds: float) -> None:
        """Remember a value, and twice as many or as old as ``count`` and ``seconds`` ask for.

        The other half is for cases that come late: they look back from their own time.
        """
        place = bisect_right(self.times, at)
        self.times.insert(place, at)
        self.values.insert(place, value)
        # One value older than the window stays: it is what was known when the window began.
        old = min(len(self.times) - 2 * max(count, 1), bisect_right(self.times, self.times[-1] - 2 * seconds) - 1)
        old = max(old, len(self.times) - KEPT)
        if old > 0:
            del self.times[:old], self.values[:old]

    def value(self, past: Past, at: float) -> float | None:
        """A figure of the values up to a time."""
        end = bisect_right(self.times, at)
        if past.lag:
            return self.values[end - past.lag] if end >= past.lag else None
        if past.ago:
            place = bisect_right(self.times, at - past.ago, hi=end)
            return self.values[place - 1] if place else None
        begin = max(end - past.last, 0) if past.last else bisect_left(self.times, at - past.seconds, hi=end)
        return figure(past.stat, self.values[begin:end])


@dataclass(slots=True)
class Group:
    """Running figures of a group's values; mean and squares by Welford's update (1962)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def put(self, value: float) -> None:
        """One more value."""
        self.count += 1
        change = value - self.mean
        self.mean += change / self.count
        self.squares += change * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def value(self, stat: str) -> float | None:
        """A figure of all values; ``None`` for the deviation of a single one."""
        match stat:
            case "mean":
                return self.mean
            case "sum":
                return self.mean * self.count
            case "min":
                return self.low
            case "max":
                return self.high
            case "std":
                return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else None
        return float(self.count)


def figure(stat: str, values: list[float]) -> float | None:
    """A figure of values; ``None`` where there are too few.

    >>> figure("std", [1.0, 2.0, 3.0]), figure("mean", []), figure("count", [])
    (1.0, None, 0.0)
    """
    count = len(values)
    if stat == "count":
        return float(count)
    if not count:
        return None
    match stat:
        case "min":
            return min(values)
        case "max":
            return max(values)
    total = math.fsum(values)
    if stat == "sum":
        return total
    mean = total / count
    if stat == "mean":
        return mean
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (count - 1)) if count > 1 else None


@dataclass(slots=True)
class History:
    """What is remembered of one key: a series per number, groups per number and grouping."""

    series: dict[str, Series] = field(default_factory=dict)
    groups: dict[tuple[str, str], dict[str, Group]] = field(default_factory=dict)


_NONE = History()
_EMPTY = Series()


class Hindsight:
    """The declared figures of a model's past."""

    def __init__(self, pasts: tuple[Past, ...]) -> None:
        self._pasts = pasts
        self._windows: dict[str, tuple[int, float]] = {}
        self._groupings = sorted({(past.of, past.by) for past in pasts if past.by})
        self._noted = {past.of for past in pasts} - {LABEL}
        for past in pasts:
            if not past.by:
                count, seconds = self._windows.get(past.of, (0, 0.0))
                self._windows[past.of] = max(count, past.lag, past.last), max(seconds, past.ago, past.seconds)

    def __bool__(self) -> bool:
        return bool(self._pasts)

    def columns(self, history: History | None, at: float, checked: Mapping[str, Any]) -> dict[str, float]:
        """The figures for a case at this time; one that has no value and no default is left out."""
        found: dict[str, float] = {}
        for past in self._pasts:
            value = _value(history or _NONE, past, at, checked)
            value = past.default if value is None else value
            if value is not None:
                found[past.name] = value
        return found

    def note(self, history: History, at: float, checked: Mapping[str, Any]) -> None:
        """Remember a case's own features."""
        for name in self._noted & checked.keys():
            self._put(history, name, float(checked[name]), at, checked)

    def note_label(self, history: History, at: float, checked: Mapping[str, Any], y: float) -> None:
        """Remember a case's label, under the time of the case."""
        self._put(history, LABEL, float(y), at, checked)

    def _put(self, history: History, of: str, value: float, at: float, checked: Mapping[str, Any]) -> None:
        if of in self._windows:
            history.series.setdefault(of, Series()).put(at, value, *self._windows[of])
        for grouping in self._groupings:
            group = _group(grouping[1], at, checked) if grouping[0] == of else None
            if group is not None:
                groups = history.groups.setdefault(grouping, {})
                if group in groups or len(groups) < GROUPS:
                    groups.setdefault(group, Group()).put(value)


def _value(history: History, past: Past, at: float, checked: Mapping[str, Any]) -> float | None:
    if past.by:
        group = _group(past.by, at, checked)
        found = history.groups.get((past.of, past.by), {}).get(group or "")
        return None if found is None else found.value(past.stat)
    return history.series.get(past.of, _EMPTY).value(past, at)


def _group(by: str, at: float, checked: Mapping[str, Any]) -> str | None:
    if by in PARTS:
        return str(part(datetime.datetime.fromtimestamp(at, datetime.UTC), by)) if 0 <= at < 4e9 else None
    found = checked.get(by)
    return None if found is None else str(found)


def part(moment: datetime.datetime, name: str) -> int:
    """A part of a time, as a number; Monday is weekday 0, the first of January yearday 1."""
    if name == "weekday":
        return moment.weekday()
    if name == "yearday":
        return moment.timetuple().tm_yday
    return int(getattr(moment, name))
