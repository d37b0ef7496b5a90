"""The evidence of a release under way: decisions of a point since a moment, by unit and arm, with what came of them."""

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from agents.watch import Expectations, Watched
from online.events import Decided, EventError, Rewarded, decode, scoped_id
from online.log import EntryId, Log, Partition
from service.deciding.points import Point

_PAGE = 2000
_OPEN = 50_000


@dataclass(slots=True)
class _Unit:
    """An episode, else a key, else a decision, and its sums."""

    candidate: bool
    earned: float = 0.0
    advantage: float = 0.0
    luck: float = 0.0
    finished: bool = False
    last: "_Made | None" = None


@dataclass(slots=True)
class _Made:
    """A decision: its state's row among those listed (-1 for none), and the reward once it came."""

    unit: _Unit
    place: int
    index: int | list[int]
    reward: float | None = None
    following: float | None = None


@dataclass
class Trial:
    """What has come of a trial so far. `read` goes on where it stopped.

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
    _units: OrderedDict[str, _Unit] = field(default_factory=OrderedDict)
    _made: OrderedDict[str, _Made] = field(default_factory=OrderedDict)
    _decided: dict[str, Decided] = field(default_factory=dict)
    _under_way: dict[str | None, str] = field(default_factory=dict)
    _cursor: EntryId | None = None

    def read(self) -> None:
        """Take in what the log has since the last time."""
        partition = Partition(f"point:{self.point.name}", 0)
        cursor = self._cursor or EntryId(int(self.since * 1000), 0).before
        while entries := self.log.read(partition, cursor, _PAGE):
            for entry in entries:
                try:
                    event = decode(entry.payload)
                except EventError:
                    continue
                if isinstance(event, Decided) and not event.deferred:
                    self._decide(event)
                elif isinstance(event, Rewarded):
                    self._reward(event)
            cursor = entries[-1].id
        self._cursor = cursor

    def _decide(self, event: Decided) -> None:
        self.decisions += 1
        row = [float(event.context[entry.name]) for entry in self.point.context]
        if len(self.contexts) < _OPEN:
            self.contexts.append(row)
        if event.arm not in ("candidate", "incumbent"):
            return
        name = event.key if event.episode is None else scoped_id(event.episode, event.key)
        unit = self._unit(name or event.id, event)
        place = self._place(row)
        if unit.last is not None:
            self._follows(unit.last, place)
        decision = scoped_id(event.id, event.key)
        unit.last = self._made[decision] = _Made(unit, place, event.index)
        self._decided[decision] = event
        if len(self._made) > _OPEN:
            gone, _ = self._made.popitem(last=False)
            self._decided.pop(gone, None)

    def _place(self, row: list[float]) -> int:
        if self.expected is None:
            return -1
        return int(self.expected.places(self.point.world.state_of(np.array([row])))[0])

    def _unit(self, name: str, event: Decided) -> _Unit:
        unit = self._units.get(name)
        if unit is None:
            unit = self._units[name] = _Unit(event.arm == "candidate")
            if event.episode is not None:
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

    def _reward(self, event: Rewarded) -> None:
        name = scoped_id(event.decision, event.key)
        made, decided = self._made.get(name), self._decided.pop(name, None)
        if made is None or decided is None:
            return
        try:
            value = self.point.reward_of(decided, event.fields or {}) if event.value is None else event.value
        except (ValueError, KeyError, TypeError):
            # The learner has set it aside and says why.
            return
        made.reward = value
        made.unit.earned += value
        if self.expected is None:
            made.unit.luck += value
        self._settle(made)

    def _settle(self, made: _Made) -> None:
        """Once both its reward and what followed are known, a decision counts."""
        known = self.expected
        if known is None or made.reward is None or made.following is None or made.place < 0:
            return
        value = float(known.action_values[made.place, made.index])
        made.unit.advantage += value - float(known.values[made.place])
        made.unit.luck += made.reward + made.following - value

    def watched(self) -> Watched:
        """The units as the test takes them."""
        units = list(self._units.values())
        return Watched(
            candidate=np.array([unit.candidate for unit in units], bool),
            earned=np.array([unit.earned for unit in units], float),
            advantage=np.array([unit.advantage for unit in units], float),
            luck=np.array([unit.luck for unit in units], float),
            finished=np.array([unit.finished for unit in units], bool),
            share=min(max(self.share, 1e-6), 1 - 1e-6),
        )
