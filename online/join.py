"""Decisions joined with their outcomes: which are pending, rewarded, defaulted or late, and what each policy earned."""

import math
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from online.events import (
    Activated,
    Decided,
    EventError,
    Replayed,
    Report,
    Rewarded,
    Settled,
    Ticked,
    bare_id,
    decode,
    scoped_id,
)
from online.fold import Parts, Place, reject_field, rejection
from online.log import Entry, EntryId
from online.outcomes import OutcomeSpec, Standing, aggregate, named_with
from online.pending import Early, Pending, Recent, Waiting


class Listener(Protocol):
    """Learns from decisions and what came of them; a part of the fold's state.

    It hears each decision once, with the first outcome that brings fields and comes in time; defaults never. Once its
    wait is over it hears what all outcomes came to, as they are aggregated.
    """

    def hear(self, entry: Entry, decided: Decided, fields: Mapping[str, Any], reward: float) -> list[Report]:
        """Change the state by an outcome, found in this entry; what there is to say about it."""

    def close(self, decided: Decided, reward: float | None) -> None:
        """Change the state by a decision whose wait is over; ``None`` where no outcome came."""

    def dump(self) -> bytes:
        """The state, parts apart."""

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since this was asked last."""

    def load(self, data: bytes) -> None:
        """Go on from what `dump` gave; parts are fetched when they are wanted."""


RewardOf = Callable[[Decided, Mapping[str, Any]], float]
"""Computes a reward from a decision and one outcome's fields. Raises ``ValueError`` where they do not fit."""


@dataclass(frozen=True, slots=True)
class Value:
    """What one policy earned in one arm: counts of decisions, sums over those with a reward.

    ``reward`` and ``squares`` sum over rewarded decisions, ``default`` over defaulted ones, which no learner may use.
    The wait of ``unheard`` ones ended without an outcome, whether or not there is a default. ``earned`` sums over the
    ``settled`` ones, whose reward may be set beside defaults: where there is a default, those whose wait is over, since
    good outcomes that come at once would else stand for all that are still open; where there is none,
    all rewarded ones.
    """

    decisions: int = 0
    rewarded: int = 0
    defaulted: int = 0
    late: int = 0
    reward: float = 0.0
    squares: float = 0.0
    default: float = 0.0
    unheard: int = 0
    settled: int = 0
    earned: float = 0.0

    @property
    def pending(self) -> int:
        """Decisions that still wait for their first outcome."""
        return self.decisions - self.rewarded - self.unheard

    @property
    def mean(self) -> float | None:
        """Reward per settled decision, defaults included."""
        counted = self.settled + self.defaulted
        return (self.earned + self.default) / counted if counted else None


class _Open(Waiting, kw_only=True):
    """A decision that waits for outcomes."""

    policy: str
    arm: str
    deferred: bool = False
    reward: float | None = None
    outcomes: int = 0
    at: float = 0.0
    named: tuple[str, ...] = ()


class _Closed(msgspec.Struct, frozen=True):
    """A decision whose wait is over."""

    policy: str
    arm: str
    standing: Standing


class PointLearner:
    """The fold of a point's partition. ``reward_of`` serves outcomes that bring fields instead of a value."""

    def __init__(self, spec: OutcomeSpec, reward_of: RewardOf | None = None, listener: Listener | None = None) -> None:
        self.spec = spec
        self.listener = listener
        self.heard: bytes | None = None
        """What the snapshot holds of the listener, for those who load one without."""
        self.place = Place()
        self.values: dict[tuple[str, str], Value] = {}
        self.settled = 0
        self._reward_of = reward_of
        self._open = Pending(_Open, spec.pending)
        self._closed = Recent(_Closed, min(spec.pending, 100_000))
        self._early = Early(spec.early, 1_000)
        self._decided: dict[EntryId, Decided] = {}
        self._index: dict[str, bytes | None] = {}

    @property
    def learned(self) -> int:
        """Outcomes joined."""
        return sum(value.rewarded for value in self.values.values())

    @property
    def pending(self) -> int:
        """Decisions and early outcomes that wait."""
        return len(self._open) + len(self._early)

    def apply(self, entry: Entry) -> list[Report]:
        """Change the state by an entry; what there is to say about it."""
        reports = self.place.follow(entry)
        if not entry.intact:
            return [*reports, *self._set_aside(entry, "its checksum does not fit: the entry was altered")]
        try:
            event = decode(entry.payload)
        except EventError as error:
            return [*reports, *self._set_aside(entry, str(error))]
        at = self.place.time(getattr(event, "at", None), entry.at)
        reports += self._end_waits()
        return reports + self._dispatch(entry, event, at)

    def _dispatch(self, entry: Entry, event: Any, at: float) -> list[Report]:
        match event:
            case Decided():
                return self._decide(entry, event, at)
            case Rewarded():
                return self._reward(entry, event)
            case Activated():
                return self._activate(entry, event, at)
            case Replayed():
                return self._replay(entry, event)
            case Ticked():
                return []
        return self._set_aside(entry, f"a point learns nothing from a {type(event).__name__!r} event")

    def _decide(self, entry: Entry, event: Decided, at: float) -> list[Report]:
        name = scoped_id(event.id, event.key)
        if name in self._open or self._closed.get(name) is not None:
            return self._set_aside(entry, f"the decision {event.id!r} was made already", "id")
        deadline = max(at, self.place.now - self.spec.wait) + self.spec.wait
        waiting = _Open(
            entry=entry.id, deadline=deadline, policy=event.policy, arm=event.arm, deferred=event.deferred, at=at
        )
        self._decided[entry.id] = event
        self._open.put(name, waiting)
        if not event.deferred:
            self._count(waiting, decisions=1)
        reports: list[Report] = []
        for early in self._early.take(name):
            reports += self._dispatch(early, decode(early.payload), early.at)
        return reports

    def _activate(self, entry: Entry, event: Activated, at: float) -> list[Report]:
        name = scoped_id(event.decision, event.key)
        waiting = self._open.get(name)
        if waiting is None:
            return self._unmatched(entry, name, event)
        if not waiting.deferred:
            return self._set_aside(entry, f"the decision {event.decision!r} is active already", "id")
        self._open.put(name, msgspec.structs.replace(waiting, deferred=False, deadline=at + self.spec.wait))
        self._count(waiting, decisions=1)
        if waiting.reward is None:
            return self._show(name, event.decision, Standing("pending"))
        # Outcomes that overtook the activation count from now on.
        self._pay(waiting, 1, waiting.reward, 0.0)
        standing = Standing("rewarded", waiting.reward, waiting.outcomes, named=waiting.named)
        return self._show(name, event.decision, standing)

    def _reward(self, entry: Entry, event: Rewarded) -> list[Report]:
        name = scoped_id(event.decision, event.key)
        waiting = self._open.get(name)
        if waiting is None:
            return self._unmatched(entry, name, event)
        try:
            value = self._value(waiting, event)
        except (ValueError, KeyError, TypeError, ArithmeticError) as error:
            return self._set_aside(entry, str(error), "fields" if event.value is None else "value")
        reward = aggregate(self.spec.aggregate, waiting.reward, waiting.outcomes, value)
        if not math.isfinite(reward):
            return self._set_aside(entry, f"with the value {value!r} the reward is no finite number", "value")
        named = named_with(waiting.named, event.decision, event.id)
        joined = msgspec.structs.replace(waiting, reward=reward, outcomes=waiting.outcomes + 1, named=named)
        self._open.put(name, joined)
        if joined.deferred:
            return self._show(name, event.decision, Standing("deferred", outcomes=joined.outcomes, named=named))
        old = waiting.reward or 0.0
        first = int(waiting.reward is None)
        self._pay(waiting, first, reward, old)
        heard = self._heard(entry, waiting, event, value) if first else []
        return heard + self._show(name, event.decision, Standing("rewarded", reward, joined.outcomes, named=named))

    def _heard(self, entry: Entry, waiting: _Open, event: Rewarded, reward: float) -> list[Report]:
        decided = self._decided.get(waiting.entry)
        if self.listener is None or event.fields is None or decided is None:
            return []
        return self.listener.hear(entry, decided, event.fields, reward)

    def _value(self, waiting: _Open, event: Rewarded) -> float:
        if event.value is not None:
            value = event.value
        elif self._reward_of is None:
            raise ValueError("the outcome has no value, and this point has no way to compute one from fields")
        else:
            decided = self._decided.get(waiting.entry)
            if decided is None:
                raise ValueError("the decision itself is gone from the log")
            value = float(self._reward_of(decided, event.fields or {}))
        if not math.isfinite(value):
            raise ValueError(f"the outcome's value is {value!r}; allowed is a finite number")
        return value

    def _unmatched(self, entry: Entry, name: str, event: Rewarded | Activated) -> list[Report]:
        closed = self._closed.get(name)
        if closed is None:
            self._early.put(name, entry, self.place.now)
            return self._end_early()
        standing = msgspec.structs.replace(closed.standing, late=closed.standing.late + 1)
        if isinstance(event, Rewarded):
            named = named_with(standing.named, event.decision, event.id)
            standing = msgspec.structs.replace(standing, named=named)
        self._closed.put(name, msgspec.structs.replace(closed, standing=standing))
        self._tally(closed.policy, closed.arm, late=1)
        self._index[f"decision:{name}"] = msgspec.msgpack.encode(standing)
        reward, outcomes = standing.reward, standing.outcomes
        return [Settled(id=event.decision, state="late", reward=reward, outcomes=outcomes, closed=True)]

    def _end_waits(self) -> list[Report]:
        reports: list[Report] = []
        for name, waiting in self._open.ended(self.place.now):
            reports += self._close(name, waiting)
        return reports + self._end_early()

    def _end_early(self) -> list[Report]:
        reports: list[Report] = []
        for entry in self._early.ended(self.place.now):
            reports += self._set_aside(entry, "it names a decision that is not known, or was closed long ago", "id")
        return reports

    def _close(self, name: str, waiting: _Open) -> list[Report]:
        decided = self._decided.pop(waiting.entry, None)
        if self.listener is not None and decided is not None and not waiting.deferred:
            self.listener.close(decided, waiting.reward)
        if waiting.deferred:
            standing = Standing("inactive", closed=True, named=waiting.named)
        elif waiting.reward is not None:
            standing = Standing("rewarded", waiting.reward, waiting.outcomes, closed=True, named=waiting.named)
            known = self.spec.default is not None
            self._count(waiting, settled=int(known), earned=waiting.reward if known else 0.0)
        else:
            standing = Standing("defaulted", self.spec.default, closed=True)
            known = self.spec.default is not None
            self._count(waiting, unheard=1, defaulted=int(known), default=self.spec.default or 0.0)
        self.settled += 1
        self._closed.put(name, _Closed(waiting.policy, waiting.arm, standing))
        return self._show(name, bare_id(name), standing)

    def _show(self, name: str, decision: str, standing: Standing) -> list[Report]:
        self._index[f"decision:{name}"] = msgspec.msgpack.encode(standing)
        reward, outcomes, closed = standing.reward, standing.outcomes, standing.closed
        return [Settled(id=decision, state=standing.state, reward=reward, outcomes=outcomes, closed=closed)]

    def _pay(self, waiting: _Open, first: int, reward: float, old: float) -> None:
        """Count a reward, in place of the old one unless it is the decision's first."""
        self._count(waiting, rewarded=first, reward=reward - old, squares=reward * reward - old * old)
        if self.spec.default is None:
            self._count(waiting, settled=first, earned=reward - old)

    def _count(self, waiting: _Open, **more: float) -> None:
        self._tally(waiting.policy, waiting.arm, **more)

    def _tally(self, policy: str, arm: str, **more: float) -> None:
        value = self.values.get((policy, arm), Value())
        changed: dict[str, Any] = {name: getattr(value, name) + change for name, change in more.items()}
        self.values[policy, arm] = replace(value, **changed)

    def _replay(self, entry: Entry, event: Replayed) -> list[Report]:
        try:
            again = decode(event.event)
        except EventError as error:
            return self._set_aside(entry, str(error), "event")
        if isinstance(again, Replayed):
            return self._set_aside(entry, "a replay of a replay", "event")
        self._index[f"reject:{event.entry}"] = None
        return self._dispatch(entry, again, entry.at)

    @property
    def warning(self) -> None:
        """Nothing to say."""
        return

    def run(self, entries: Sequence[Entry], made: list[tuple[EntryId, bytes]]) -> int:  # noqa: ARG002
        """No entry of a point is plain."""
        return 0

    def reject(self, entry: Entry, reason: str, field: str | None = None) -> list[Report]:
        """Set an entry aside that broke `apply`, on the state from before it."""
        return self.place.follow(entry) + self._set_aside(entry, reason, field)

    def _set_aside(self, entry: Entry, reason: str, field: str | None = None) -> list[Report]:
        self.place.rejected += 1
        rejected = rejection(entry, reason, field)
        name, data = reject_field(rejected)
        self._index[name] = data
        return [rejected]

    def dump(self) -> bytes:
        """The snapshot: everything but the parts."""
        heard = None if self.listener is None else self.listener.dump()
        return pickle.dumps((self.place, self.values, self.settled, self._early.dump(), heard), protocol=5)

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since this was asked last."""
        heard = {} if self.listener is None else self.listener.changes()
        return self._open.changes() | self._closed.changes() | heard

    def index(self) -> dict[str, bytes | None]:
        """The index fields that changed since this was asked last."""
        changed, self._index = self._index, {}
        return changed

    def oldest(self) -> EntryId | None:
        """The oldest decision that waits."""
        return self._open.oldest()

    def deadline(self) -> float:
        """When the next wait is over, in event time; infinite where none will be."""
        return min(self._open.deadline(), self._early.deadline())

    @classmethod
    def load(
        cls, spec: OutcomeSpec, reward_of: RewardOf | None, data: bytes, listener: Listener | None = None
    ) -> "PointLearner":
        """The learner that this snapshot was dumped from, parts apart."""
        learner = cls(spec, reward_of, listener)
        # Snapshots of before there were listeners hold nothing for them.
        learner.place, values, learner.settled, early, *heard = pickle.loads(data)
        learner.values = {arm: _whole(value) for arm, value in values.items()}
        learner._early.restore(early)
        learner.heard = heard[0] if heard else None
        if listener is not None and learner.heard is not None:
            listener.load(learner.heard)
        return learner

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take the parts back, after `load`."""
        self._open.restore(parts)
        self._closed.restore(parts)

    def remember(self, entries: Iterable[Entry]) -> None:
        """Take the contents of open decisions back, after `restore`."""
        wanted = self._open.by_entry()
        for entry in entries:
            if entry.id in wanted:
                event = decode(entry.payload)
                if isinstance(event, Decided):
                    self._decided[entry.id] = event


def _whole(value: Value) -> Value:
    """A value of before there were settled decisions: all that had a reward were taken for settled."""
    if hasattr(value, "unheard"):
        return value
    known = {name: getattr(value, name) for name in ("decisions", "rewarded", "defaulted", "late", "reward", "squares")}
    return Value(**known, default=value.default, unheard=value.defaulted, settled=value.rewarded, earned=value.reward)


def point_fold(
    spec: OutcomeSpec, reward_of: RewardOf | None, listen: Callable[[Parts], Listener | None] | None = None
) -> Callable[[bytes | None, Parts], PointLearner]:
    """Makes learners of a point, fresh or from a snapshot, for a worker; `listen` makes the listener of each."""

    def make(snapshot: bytes | None, parts: Parts) -> PointLearner:
        listener = None if listen is None else listen(parts)
        if snapshot is None:
            return PointLearner(spec, reward_of, listener)
        return PointLearner.load(spec, reward_of, snapshot, listener)

    return make
