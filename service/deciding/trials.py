"""The evidence of a release under way: decisions of a point since a moment, by unit and arm, with what came of them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from agents.watch import Expectations, Watched
from online.events import Activated, Decided, EventError, Rewarded, decode, scoped_id
from online.log import Entry, EntryId, Log, Partition
from online.outcomes import Standing, parse_standing
from service.deciding.points import Point

_PAGE = 2000
_OPEN = 50_000
"""Decisions whose wait is not over and contexts that are kept; while there are so many, no further unit is taken in."""
_UNITS = 200_000
_WHOLE = 0.9


@dataclass(slots=True)
class _Unit:
    """An episode, else a key, else a decision, and its sums; `awaited` of its decisions do not count yet.

    Attributes:
        first: Whether it is the first episode of its key that was seen: it may have begun before the trial.
    """

    candidate: bool
    earned: float = 0.0
    advantage: float = 0.0
    luck: float = 0.0
    finished: bool = False
    episodic: bool = False
    first: bool = False
    awaited: int = 0
    last: "_Made | None" = None


@dataclass(slots=True)
class _Made:
    """A decision: its state's row among those listed (-1 for none), and its reward as far as it counts.

    Attributes:
        standing: As the learner has it; `None` where it has not got to it.
        following: What the world expects of the state that followed, once that is known.
        settled: Whether it is taken apart into advantage and luck.
    """

    unit: _Unit
    place: int
    index: int | list[int]
    standing: Standing | None = None
    reward: float | None = None
    following: float | None = None
    settled: bool = False

    @property
    def answer(self) -> float | None:
        """What it is worth so far."""
        standing = self.standing
        return standing.reward if standing is not None and standing.state in ("rewarded", "defaulted") else None

    @property
    def is_over(self) -> bool:
        """Whether nothing can change any more."""
        return self.standing is not None and self.standing.closed


@dataclass
class Trial:
    """What has come of a trial so far. `read` goes on where it stopped.

    Rewards are the learner's: all outcomes of a decision, as the point aggregates them. Where a missing outcome has a
    default, decisions count in the order in which they were made, each once all before it have an answer or are over:
    outcomes that come at once would else speak for those that never come.

    Args:
        candidate: Digest on trial.
        expected: What the world expects of each state and action; without it outcomes alone count.
        since: Seconds since the epoch from which on decisions count.
    """

    log: Log
    point: Point
    candidate: str
    expected: Expectations | None
    since: float
    share: float
    contexts: list[list[float]] = field(default_factory=list)
    decisions: int = 0
    _units: dict[str, _Unit] = field(default_factory=dict)
    _made: dict[str, _Made] = field(default_factory=dict)
    _awaited: deque[str] = field(default_factory=deque)
    _counted: deque[str] = field(default_factory=deque)
    _deferred: dict[str, Decided] = field(default_factory=dict)
    _under_way: dict[str | None, str] = field(default_factory=dict)
    _cursor: EntryId | None = None

    def read(self) -> None:
        """Take in what the learner has joined since the last time."""
        partition = Partition(f"point:{self.point.name}", 0)
        joined = self.log.head(partition).cursor
        cursor = self._cursor or EntryId(int(self.since * 1000), 0).before
        changed: dict[str, None] = {}
        while cursor < joined and (entries := self.log.read(partition, cursor, _PAGE)):
            for entry in entries:
                if entry.id <= joined and (name := self._take(entry)) is not None:
                    changed[name] = None
            cursor = min(entries[-1].id, joined)
        self._cursor = cursor
        self._look(partition, list(changed))
        self._advance(partition)

    def _take(self, entry: Entry) -> str | None:
        """Takes an entry in; the decision whose standing it changed."""
        try:
            event = decode(entry.payload)
        except EventError:
            # The learner has set it aside and says why.
            return None
        if isinstance(event, Decided):
            name = scoped_id(event.id, event.key)
            if event.deferred:
                if len(self._deferred) < _OPEN:
                    self._deferred[name] = event
            else:
                self._decide(name, event)
            return name
        if not isinstance(event, Activated | Rewarded):
            return None
        name = scoped_id(event.decision, event.key)
        if isinstance(event, Activated) and (decided := self._deferred.pop(name, None)) is not None:
            self._decide(name, decided)
        return name

    def _decide(self, decision: str, event: Decided) -> None:
        self.decisions += 1
        row = [float(event.context[entry.name]) for entry in self.point.context]
        if len(self.contexts) < _OPEN:
            self.contexts.append(row)
        if event.arm not in ("candidate", "incumbent"):
            return
        name = event.key if event.episode is None else scoped_id(event.episode, event.key)
        unit = self._unit(name or event.id, event)
        if unit is None:
            return
        place = self._place(row)
        if unit.last is not None:
            self._follows(unit.last, place)
        unit.last = self._made[decision] = _Made(unit, place, event.index)
        unit.awaited += 1
        self._awaited.append(decision)

    def _place(self, row: list[float]) -> int:
        if self.expected is None:
            return -1
        return int(self.expected.places(self.point.world.state_of(np.array([row])))[0])

    def _unit(self, name: str, event: Decided) -> _Unit | None:
        """The unit of a decision; `None` for one that began when there was no room."""
        unit = self._units.get(name)
        if unit is None and len(self._made) < _OPEN and len(self._units) < _UNITS:
            unit = self._units[name] = _Unit(event.arm == "candidate")
            if event.episode is not None:
                unit.episodic, unit.first = True, event.key not in self._under_way
                self._end_episode(event.key)
                self._under_way[event.key] = name
        return unit

    def _end_episode(self, key: str | None) -> None:
        """A key that begins another episode has ended the one before."""
        before = self._units.get(self._under_way.get(key, ""))
        if before is None:
            return
        before.finished = True
        if before.last is not None and before.last.following is None:
            before.last.following = 0.0
            self._settle(before.last)

    def _follows(self, made: _Made, place: int) -> None:
        if made.following is None and self.expected is not None and place >= 0:
            made.following = float(self.expected.values[place])
            self._settle(made)

    def _look(self, partition: Partition, names: Iterable[str]) -> None:
        """Takes in where decisions stand; what counts already is set right."""
        known = [name for name in names if name in self._made]
        at_once = self.point.spec.outcome.default is None
        for start in range(0, len(known), _PAGE):
            page = known[start : start + _PAGE]
            found = self.log.lookup_all(partition, [f"decision:{name}" for name in page])
            for made, data in zip((self._made[name] for name in page), found, strict=True):
                made.standing = None if data is None else parse_standing(data)
                if made.answer is not None and (at_once or made.reward is not None):
                    self._count(made, made.answer)

    def _advance(self, partition: Partition) -> None:
        """Counts in order what has an answer, as far as everything before it has one; forgets what is over."""
        for name in self._heads(partition, self._awaited, lambda made: made.is_over or made.answer is not None):
            made = self._made[name]
            if made.answer is None:
                made.unit.awaited -= 1
            elif made.reward is None:
                self._count(made, made.answer)
            self._counted.append(name)
        for name in self._heads(partition, self._counted, lambda made: made.is_over):
            del self._made[name]

    def _heads(self, partition: Partition, queue: deque[str], goes: Callable[[_Made], bool]) -> Iterator[str]:
        """Takes from the head of a queue what may go, as it stands now: a wait may have ended by time alone."""
        while queue:
            page = list(islice(queue, _PAGE))
            self._look(partition, [name for name in page if not self._made[name].is_over])
            for name in page:
                if not goes(self._made[name]):
                    return
                yield queue.popleft()

    def _count(self, made: _Made, reward: float) -> None:
        """Sets what a decision earned."""
        change = reward - (made.reward or 0.0)
        made.unit.earned += change
        if made.settled or self.expected is None:
            made.unit.luck += change
        if made.reward is None:
            made.unit.awaited -= 1
        made.reward = reward
        self._settle(made)

    def _settle(self, made: _Made) -> None:
        """Takes a decision apart, once both its reward and what followed are known."""
        known = self.expected
        if made.settled or known is None or made.reward is None or made.following is None or made.place < 0:
            return
        value = float(known.action_values[made.place, made.index])
        made.unit.advantage += value - float(known.values[made.place])
        made.unit.luck += made.reward + made.following - value
        made.settled = True

    def _whole(self) -> list[_Unit]:
        """Where nothing is expected of what follows: episodes that are over, in the order in which they began.

        They count up to where more than a tenth are not over yet, which may have been given up: who sells out early, or
        cheaply, must not report first. Those under way when the trial began are no whole ones.
        """
        units, over, last = [unit for unit in self._units.values() if not unit.first], 0, 0
        for number, unit in enumerate(units, start=1):
            over += _is_whole(unit)
            if over >= _WHOLE * number:
                last = number
        return [unit for unit in units[:last] if _is_whole(unit)]

    def watched(self) -> Watched:
        """The units as the test takes them."""
        units = list(self._units.values()) if self.expected is not None else self._whole()
        return Watched(
            candidate=np.array([unit.candidate for unit in units], bool),
            earned=np.array([unit.earned for unit in units], float),
            advantage=np.array([unit.advantage for unit in units], float),
            luck=np.array([unit.luck for unit in units], float),
            finished=np.array([unit.finished and not unit.awaited for unit in units], bool),
            share=min(max(self.share, 1e-6), 1 - 1e-6),
        )


def _is_whole(unit: _Unit) -> bool:
    return not unit.episodic or (unit.finished and not unit.awaited)
