"""A point over time: what its decisions earned, which actions they took and what they believed, by bucket of time.

A bucket is told by its first decisions, at most so many: the whole past of a point costs the same to look at, however
long it is. Buckets lie on a fixed grid, so one that is past stays as it was told; `Buckets` reads again only what may
have changed since.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from online.events import (
    Decided,
    Event,
    EventError,
    Labelled,
    Observed,
    Scored,
    decode,
    decode_reports,
    scoped_id,
)
from online.log import Entry, EntryId, Log, Partition
from online.outcomes import Standing, parse_standing, standing_field
from online.tasks import Guess, Task
from service.deciding.joined import tail

WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800)
"""Seconds that a bucket may last; weeks beyond."""

SAMPLE = 128
"""Entries of the log by which a bucket is told."""

_Z = 1.959963984540054
_GROUPS = 9
_FRESH = 1.25


class Interval(Struct, frozen=True):
    """A mean, or a median, and what lies about it; `None` where too little is known."""

    mid: float
    low: float | None = None
    high: float | None = None


class Earned(Struct, frozen=True):
    """What one policy earned in one arm within a bucket, per decision of which that is known: `rewarded` of them."""

    policy: str
    kind: str
    arm: str
    decisions: int
    rewarded: int
    value: Interval | None


class Bucket(Struct, frozen=True):
    """What was seen of one stretch of time.

    Attributes:
        at: Its beginning, in seconds since 1970.
        decisions: How many decisions tell it: all of it, or its first ones.
        actions: Share of each group of actions.
        estimates: By parameter, the median and the 10 % and 90 % quantiles over the decisions.
        waiting: How many of the decisions have no reward yet.
    """

    at: float
    decisions: int
    earned: list[Earned]
    actions: list[float]
    estimates: dict[str, Interval]
    waiting: int


class Errors(Struct, frozen=True):
    """What a model's predictions missed within one stretch of time, on its first labels.

    Attributes:
        error: The mean of the learner's own predictions, each made as its case came in.
        served: The mean of what was answered to those who asked for a prediction, from a state that may be older;
            `null` where nobody did.
    """

    at: float
    labels: int
    error: Interval | None
    served: Interval | None = None


class Seen(NamedTuple):
    """One decision, when it was made, its reward where it has one, and whether its wait is over."""

    decided: Decided
    at: float
    reward: float | None
    closed: bool = False


def width_of(span: float, buckets: int) -> float:
    """The shortest width that covers so many seconds with at most so many buckets.

    >>> width_of(95.0, 100), width_of(3600.0, 100), width_of(1e9, 10)
    (1, 60, 100396800)
    """
    fitting = next((width for width in WIDTHS if span <= width * buckets), None)
    return fitting or WIDTHS[-1] * math.ceil(span / buckets / WIDTHS[-1])


def groups_of(actions: int) -> list[tuple[int, int]]:
    """The actions put together in at most nine groups of neighbours, as (first, last) index.

    >>> groups_of(3), groups_of(20)[:2]
    ([(0, 0), (1, 1), (2, 2)], [(0, 2), (3, 5)])
    """
    size = math.ceil(actions / _GROUPS)
    return [(first, min(first + size, actions) - 1) for first in range(0, actions, size)]


def told(at: float, seen: Sequence[Seen], actions: int, defaults: bool = False) -> Bucket:
    """One bucket from its decisions, the oldest first.

    Args:
        defaults: Whether a decision without outcomes earns something once its wait is over. Outcomes that come at once
            say nothing of those that are still to default: then values are of decisions whose wait is over, or that
            were made before the first one that still waits.
    """
    awaited = next((place for place, one in enumerate(seen) if one.reward is None and not one.closed), len(seen))
    by_arm: dict[tuple[str, str, str], list[tuple[Seen, bool]]] = defaultdict(list)
    for place, one in enumerate(seen):
        counts = one.reward is not None and (not defaults or one.closed or place < awaited)
        by_arm[one.decided.policy, one.decided.kind, one.decided.arm].append((one, counts))
    groups = groups_of(actions)
    # The factors of a product share one list of actions, and are counted together.
    index = np.array([one.decided.index for one in seen], np.int64).ravel()
    shares = np.bincount(index // (groups[0][1] + 1), minlength=len(groups)) if seen else np.zeros(len(groups))
    names = sorted({name for one in seen for name in one.decided.estimates or ()})
    return Bucket(
        at=at,
        decisions=len(seen),
        earned=[_earned(arm, rows) for arm, rows in by_arm.items()],
        actions=(shares / max(len(index), 1)).tolist(),
        estimates={name: _quantiles([(one.decided.estimates or {}).get(name) for one in seen]) for name in names},
        waiting=sum(one.reward is None for one in seen),
    )


def _earned(arm: tuple[str, str, str], rows: Sequence[tuple[Seen, bool]]) -> Earned:
    paid = [one for one, counts in rows if counts]
    units = [one.decided.episode or one.decided.id for one in paid]
    value = mean_of([one.reward or 0.0 for one in paid], units) if paid else None
    return Earned(*arm, decisions=len(rows), rewarded=len(paid), value=value)


def mean_of(values: Sequence[float], units: Sequence[str]) -> Interval:
    """The mean per value with its 95 % interval; values of one unit depend on one another and count together.

    >>> mean_of([1.0, 3.0], ["a", "b"])
    Interval(mid=2.0, low=0.04003601545994595, high=3.959963984540054)
    >>> mean_of([1.0, 3.0], ["a", "a"])
    Interval(mid=2.0, low=None, high=None)
    """
    places = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
    belongs = [places[unit] for unit in units]
    mean, n, k = float(np.mean(values)), len(values), len(places)
    if k < 2:
        return Interval(mean)
    apart = np.bincount(belongs, weights=np.asarray(values) - mean, minlength=k)
    half = _Z * float(np.sqrt((apart**2).sum() * k / (k - 1))) / n
    return Interval(mean, mean - half, mean + half)


def _quantiles(values: Iterable[float | None]) -> Interval:
    low, mid, high = np.quantile([value for value in values if value is not None], [0.1, 0.5, 0.9]).tolist()
    return Interval(mid, low, high)


def read(log: Log, partition: Partition, since: float, until: float, count: int) -> list[Seen]:
    """The first decisions of a stretch of time among its first `count` entries, with their rewards."""
    entries = log.read(partition, EntryId(int(since * 1000), 0).before, count)
    within = (entry for entry in entries if entry.id.ms < until * 1000)
    return _seen(log, partition, [(event, at) for event, at in _decisions(within) if not event.deferred])


def _seen(log: Log, partition: Partition, found: Sequence[tuple[Decided, float]]) -> list[Seen]:
    standings = log.lookup_all(partition, [standing_field(event.id, event.key) for event, _ in found])
    return [
        Seen(event, at if event.at is None else event.at, *_reward(data))
        for (event, at), data in zip(found, standings, strict=True)
    ]


def _reward(data: bytes | None) -> tuple[float | None, bool]:
    standing = Standing("pending") if data is None else parse_standing(data)
    return standing.reward if standing.state in ("rewarded", "defaulted") else None, standing.closed


def read_errors(log: Log, partition: Partition, since: float, until: float, count: int, task: Task) -> Errors:
    """What a model missed on the first labels of a stretch of time."""
    after = EntryId(int(since * 1000), 0).before
    errors: list[float] = []
    labels: dict[EntryId, Any] = {}
    for entry in log.reports(partition, after, count):
        if entry.id.ms >= until * 1000:
            break
        for one in decode_reports(entry.payload):
            if isinstance(one, Scored) and one.error is not None:
                errors.append(one.error)
                labels[entry.id] = one.label
    asked = _missed(log, partition, _labelled(log, partition, after, count, labels), task) if labels else []
    return Errors(since, len(errors), _mean(errors), _mean(asked))


def _labelled(
    log: Log, partition: Partition, after: EntryId, count: int, labels: Mapping[EntryId, Any]
) -> dict[str, Any]:
    """The labels that came later than their case, under what the log knows the case by."""
    found = {}
    for entry in log.read(partition, after, count):
        event = _event(entry) if entry.id in labels else None
        if isinstance(event, Labelled):
            found[scoped_id(event.id, event.key)] = labels[entry.id]
    return found


def _missed(log: Log, partition: Partition, labels: Mapping[str, Any], task: Task) -> list[float]:
    """How wrong the answers to predictions were whose labels are known."""
    errors = []
    for label, found in zip(labels.values(), log.find(partition, list(labels)), strict=True):
        event = None if found is None else _event(found)
        if isinstance(event, Observed) and event.served is not None:
            errors.append(task.error(label, Guess(event.served.value, score=event.served.score)))
    return [error for error in errors if error is not None]


def _mean(errors: Sequence[float]) -> Interval | None:
    """The mean of errors that do not depend on one another."""
    return mean_of(errors, list(map(str, range(len(errors))))) if errors else None


def latest(log: Log, partition: Partition, count: int) -> list[Seen]:
    """The last decisions of a partition, the newest first."""
    found = _decisions(tail(log, partition, count))
    return _seen(log, partition, found[-count:][::-1])


def _decisions(entries: Iterable[Entry]) -> list[tuple[Decided, float]]:
    """The decisions among the entries, with the time of their append."""
    events = ((_event(entry), entry.at) for entry in entries)
    return [(event, at) for event, at in events if isinstance(event, Decided)]


def _event(entry: Entry) -> Event | None:
    """What an entry says; `None` for what the learner has set aside, with the reason."""
    try:
        return decode(entry.payload)
    except EventError:
        return None


@dataclass(frozen=True)
class _Kept:
    """A bucket as it was told when the clock showed `at`."""

    bucket: Bucket | Errors
    at: float


class Buckets:
    """The buckets of one subject on one grid; those that cannot have changed are not read again.

    A bucket that was complete when it was told and waits for nothing stays. One that waits is read again when its age
    has grown by a quarter, so that a year of waiting costs no more than a few dozen reads.
    """

    def __init__(self, width: float) -> None:
        self.width = width
        self._kept: dict[float, _Kept] = {}

    def missing(self, since: float, until: float, now: float) -> list[float]:
        """The beginnings of the buckets that must be read (again)."""
        first = math.floor(since / self.width) * self.width
        starts = [first + i * self.width for i in range(math.ceil((until - first) / self.width))]
        self._kept = {at: kept for at, kept in self._kept.items() if at >= first}
        return [at for at in starts if self._is_stale(at, now)]

    def keep(self, buckets: Mapping[float, Bucket | Errors], now: float) -> None:
        """Remember what was read."""
        self._kept |= {at: _Kept(bucket, now) for at, bucket in buckets.items()}

    def all(self) -> list[Any]:
        """Every bucket that is known, the oldest first."""
        return [self._kept[at].bucket for at in sorted(self._kept)]

    def _is_stale(self, at: float, now: float) -> bool:
        kept = self._kept.get(at)
        if kept is None or kept.at < at + self.width + 1.0:
            return True
        if isinstance(kept.bucket, Bucket) and kept.bucket.decisions and not kept.bucket.waiting:
            return False
        return now - at > _FRESH * (kept.at - at)
