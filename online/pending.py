"""Ids that wait for a label or an outcome, those that stopped waiting, and labels or outcomes that came too early."""

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import msgspec

from online.log import Entry, EntryId


class Waiting(msgspec.Struct, kw_only=True):
    """What is kept for an id that waits: the entry that began it, and when its wait is over (event time, seconds)."""

    entry: EntryId
    deadline: float


W = TypeVar("W", bound=Waiting)
S = TypeVar("S")


class Pending(Generic[W]):
    """Waiting ids in the order in which their waits end, at most ``ceiling`` of them.

    Each one is a part of the fold's state under ``pending:<id>``, so that a snapshot writes only what changed.
    """

    def __init__(self, kind: type[W], ceiling: int) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._ceiling = ceiling
        self._waiting: dict[str, W] = {}
        self._queue: list[tuple[float, EntryId, str]] = []
        self._changed: set[str] = set()
        self._begun: list[tuple[EntryId, str]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, name: str) -> bool:
        return name in self._waiting

    def __iter__(self) -> Iterator[tuple[str, W]]:
        return iter(self._waiting.items())

    def get(self, name: str) -> W | None:
        """What waits under this id."""
        return self._waiting.get(name)

    def put(self, name: str, waiting: W) -> None:
        """Begin to wait, or go on with a changed state or deadline."""
        old = self._waiting.get(name)
        self._waiting[name] = waiting
        self._changed.add(name)
        if old is None or old.deadline != waiting.deadline:
            heapq.heappush(self._queue, (waiting.deadline, waiting.entry, name))
        if old is None:
            heapq.heappush(self._begun, (waiting.entry, name))

    def pop(self, name: str) -> W | None:
        """Stop waiting."""
        waiting = self._waiting.pop(name, None)
        if waiting is not None:
            self._changed.add(name)
        return waiting

    def ended(self, now: float) -> Iterator[tuple[str, W]]:
        """Takes out, in the order of their deadlines, those whose wait is over, then those beyond the ceiling."""
        while self._queue and (self._queue[0][0] <= now or len(self._waiting) > self._ceiling):
            deadline, entry, name = heapq.heappop(self._queue)
            waiting = self._waiting.get(name)
            if waiting is not None and (waiting.deadline, waiting.entry) == (deadline, entry):
                self.pop(name)
                yield name, waiting

    def deadline(self) -> float:
        """When the next wait ends; infinite where none will. May be too early, never too late."""
        return self._queue[0][0] if self._queue else math.inf

    def oldest(self) -> EntryId | None:
        """The first entry that something still waits for."""
        while self._begun:
            entry, name = self._begun[0]
            waiting = self._waiting.get(name)
            if waiting is not None and waiting.entry == entry:
                return entry
            heapq.heappop(self._begun)
        return None

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since this was asked last."""
        changed = {f"pending:{name}": self._encoded(name) for name in sorted(self._changed)}
        self._changed.clear()
        return changed

    def _encoded(self, name: str) -> bytes | None:
        waiting = self._waiting.get(name)
        return None if waiting is None else msgspec.msgpack.encode(waiting)

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take the parts back."""
        for name, data in parts.items():
            if name.startswith("pending:"):
                self.put(name.removeprefix("pending:"), self._decoder.decode(data))
        self._changed.clear()

    def by_entry(self) -> dict[EntryId, str]:
        """The id that waits for each entry."""
        return {waiting.entry: name for name, waiting in self._waiting.items()}


class Recent(Generic[S]):
    """The last ``ceiling`` ids that stopped waiting, and how: a second label, or a late outcome, is known by them."""

    def __init__(self, kind: type[S], ceiling: int) -> None:
        self._decoder = msgspec.msgpack.Decoder(tuple[int, kind])  # type: ignore[valid-type]
        self._ceiling = ceiling
        self._states: OrderedDict[str, tuple[int, S]] = OrderedDict()
        self._count = 0
        self._changed: set[str] = set()

    def get(self, name: str) -> S | None:
        """How this id stopped waiting, ``None`` if it did not, or too long ago."""
        found = self._states.get(name)
        return None if found is None else found[1]

    def put(self, name: str, state: S) -> None:
        """Keep how an id stopped waiting; the oldest is forgotten."""
        self._count += 1
        self._states[name] = (self._count, state)
        self._states.move_to_end(name)
        self._changed.add(name)
        if len(self._states) > self._ceiling:
            forgotten, _ = self._states.popitem(last=False)
            self._changed.add(forgotten)

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since this was asked last."""
        found = {name: self._states.get(name) for name in sorted(self._changed)}
        self._changed.clear()
        return {f"recent:{name}": None if s is None else msgspec.msgpack.encode(s) for name, s in found.items()}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take the parts back."""
        names = [name for name in parts if name.startswith("recent:")]
        found = {name.removeprefix("recent:"): self._decoder.decode(parts[name]) for name in names}
        for name in sorted(found, key=lambda name: found[name][0]):
            self._states[name] = found[name]
            self._count = found[name][0]


class Early:
    """Labels or outcomes that came before their cause: they wait ``seconds`` of event time, ``ceiling`` at most."""

    def __init__(self, seconds: float, ceiling: int) -> None:
        self._seconds = seconds
        self._ceiling = ceiling
        self._queue: OrderedDict[EntryId, tuple[float, str, Entry]] = OrderedDict()
        self._by_name: dict[str, list[EntryId]] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, name: str, entry: Entry, now: float) -> None:
        """Keep an entry for the id that it names."""
        self._queue[entry.id] = (now + self._seconds, name, entry)
        self._by_name.setdefault(name, []).append(entry.id)

    def take(self, name: str) -> list[Entry]:
        """Those that waited for this id, in the order in which they came."""
        return [self._queue.pop(entry_id)[2] for entry_id in self._by_name.pop(name, ())]

    def ended(self, now: float) -> Iterator[Entry]:
        """Takes out those whose wait is over, then the oldest beyond the ceiling."""
        while self._queue:
            entry_id, (deadline, name, entry) = next(iter(self._queue.items()))
            if deadline > now and len(self._queue) <= self._ceiling:
                return
            del self._queue[entry_id]
            self._by_name[name].remove(entry_id)
            if not self._by_name[name]:
                del self._by_name[name]
            yield entry

    def deadline(self) -> float:
        """When the next wait ends; infinite where none will."""
        return next(iter(self._queue.values()))[0] if self._queue else math.inf

    def dump(self) -> list[tuple[float, str, Entry]]:
        """Everything, for a snapshot."""
        return list(self._queue.values())

    def restore(self, items: Iterable[tuple[float, str, Entry]]) -> None:
        """Take everything back."""
        for deadline, name, entry in items:
            self._queue[entry.id] = (deadline, name, entry)
            self._by_name.setdefault(name, []).append(entry.id)
