"""A log in this process's memory: for back-tests, tests and simulated faults. Same rules as the one in Redis."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Condition
from typing import NamedTuple

from online.log import (
    START,
    Appended,
    Commit,
    Conflict,
    Draft,
    Entry,
    EntryId,
    Fenced,
    Head,
    Partition,
    ReportEntry,
    Restarted,
    Saved,
)

WINDOW = 1_000_000
"""Ids remembered per partition, counted in entries; index fields remembered per family."""


class _Snapshot(NamedTuple):
    data: bytes
    cursor: EntryId
    learned: int


@dataclass(slots=True)
class _Stream:
    """Everything of one partition."""

    entries: list[Entry] = field(default_factory=list)
    ids: dict[str, tuple[EntryId, bytes]] = field(default_factory=dict)
    number: int = 0
    last: EntryId = START
    epoch: int = 0
    owner: str = ""
    beat: int = 0
    cursor: EntryId = START
    learned: int = 0
    version: int = 0
    snapshot: _Snapshot | None = None
    previous: _Snapshot | None = None
    parts: dict[str, bytes] = field(default_factory=dict)
    undo: dict[str, bytes | None] = field(default_factory=dict)
    reports: list[ReportEntry] = field(default_factory=list)
    index: dict[str, dict[str, bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a worker needs of a partition to go on in another log: the last snapshot with its parts, some entries.

    ``number`` is the running number of the last entry, ``last`` its id; ``entries`` are those that the fold must still
    be able to read.
    """

    number: int
    last: EntryId
    learned: int
    snapshot: bytes
    parts: Mapping[str, bytes]
    entries: tuple[Entry, ...] = ()


class MemoryLog:
    """A `Log` in memory, safe to share between threads. ``clock`` gives append times in seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time, window: int = WINDOW) -> None:
        self._clock = clock
        self._window = window
        self._streams: dict[Partition, _Stream] = {}
        self._changed = Condition()

    def append(self, partition: Partition, drafts: Sequence[Draft]) -> list[Appended | Conflict]:
        """Append each draft whose id is new, and answer for each in order."""
        with self._changed:
            stream = self._stream(partition)
            at = self._clock()
            answers = [self._append_one(stream, draft, at) for draft in drafts]
            self._changed.notify_all()
        return answers

    def _append_one(self, stream: _Stream, draft: Draft, at: float) -> Appended | Conflict:
        known = stream.ids.get(draft.id)
        if known is not None:
            entry = self._entry(stream, known[0])
            return Appended(entry, fresh=False) if known[1] == draft.digest else Conflict(entry)
        ms = max(int(at * 1000), stream.last.ms)
        entry_id = EntryId(ms, stream.last.seq + 1 if ms == stream.last.ms else 0)
        stream.last = entry_id
        stream.number += 1
        entry = Entry(entry_id, stream.number, at, draft.id, draft.payload)
        stream.entries.append(entry)
        stream.ids[draft.id] = (entry_id, draft.digest)
        while len(stream.ids) > self._window:
            del stream.ids[next(iter(stream.ids))]
        return Appended(entry, fresh=True)

    def read(self, partition: Partition, after: EntryId, count: int, block: float = 0.0) -> list[Entry]:
        """Up to ``count`` entries after an id."""
        if block > 0:
            self.wait({partition: after}, block)
        with self._changed:
            entries = self._stream(partition).entries
            begin = bisect_right(entries, after, key=_id_of)
            return entries[begin : begin + count]

    def read_back(self, partition: Partition, before: EntryId | None, count: int) -> list[Entry]:
        """The last entries before an id, or of all."""
        with self._changed:
            entries = self._stream(partition).entries
            end = len(entries) if before is None else bisect_left(entries, before, key=_id_of)
            return entries[max(end - count, 0) : end]

    def wait(self, after: Mapping[Partition, EntryId], seconds: float) -> bool:
        """Whether any of the partitions has an entry after the id given for it, within ``seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: any(self._stream(p).last > at for p, at in after.items()), seconds)

    def find(self, partition: Partition, event_ids: Sequence[str]) -> list[Entry | None]:
        """The entries under these event ids."""
        with self._changed:
            stream = self._stream(partition)
            known = [stream.ids.get(event_id) for event_id in event_ids]
            return [None if place is None else self._entry(stream, place[0]) for place in known]

    def tail(self, partition: Partition) -> EntryId:
        """The last entry ever appended."""
        with self._changed:
            return self._stream(partition).last

    def first(self, partition: Partition) -> EntryId:
        """The oldest entry still there."""
        with self._changed:
            entries = self._stream(partition).entries
            return entries[0].id if entries else START

    def length(self, partition: Partition) -> int:
        """The number of entries still there."""
        with self._changed:
            return len(self._stream(partition).entries)

    def acquire(self, partition: Partition, owner: str) -> int:
        """Become the partition's one writer."""
        with self._changed:
            stream = self._stream(partition)
            stream.epoch += 1
            stream.owner = owner
            stream.beat += 1
            return stream.epoch

    def beat(self, partition: Partition, epoch: int) -> None:
        """Say that the owner is alive."""
        with self._changed:
            self._fenced(partition, epoch).beat += 1

    def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
        """Make a learner's progress visible, all or nothing."""
        with self._changed:
            stream = self._fenced(partition, epoch)
            if commit.cursor > stream.last:
                raise Restarted(f"the cursor {commit.cursor} is beyond the log's end {stream.last}: reload")
            stream.beat += 1
            last = stream.reports[-1].id if stream.reports else START
            begin = bisect_right(commit.reports, last, key=_cause_of)
            stream.reports.extend(map(ReportEntry._make, commit.reports[begin:]))
            if commit.snapshot is not None:
                _replace_snapshot(stream, commit, commit.snapshot)
            if commit.cursor > stream.cursor:
                self._update_index(stream, commit.index)
                stream.cursor, stream.learned = commit.cursor, commit.learned

    def confirm(self, partition: Partition, epoch: int) -> None:
        """Nothing to wait for: a commit happens at once."""

    def _update_index(self, stream: _Stream, changes: Mapping[str, bytes | None]) -> None:
        for name, value in changes.items():
            family = stream.index.setdefault(name.partition(":")[0], {})
            if value is None:
                family.pop(name, None)
            else:
                family[name] = value
                if len(family) > self._window:
                    del family[next(iter(family))]

    def fall_back(self, partition: Partition, epoch: int) -> bool:
        """Return to the snapshot before the last, parts included."""
        with self._changed:
            stream = self._fenced(partition, epoch)
            if stream.previous is None:
                return False
            stream.snapshot, stream.previous = stream.previous, None
            stream.version += 1
            for name, old in stream.undo.items():
                _set_or_remove(stream.parts, name, old)
            stream.undo.clear()
            return True

    def reset(self, partition: Partition, epoch: int) -> None:
        """Forget snapshots, parts, reports and index; the entries stay."""
        with self._changed:
            stream = self._fenced(partition, epoch)
            stream.snapshot = stream.previous = None
            stream.cursor, stream.learned = START, 0
            stream.version += 1
            for made in (stream.parts, stream.undo, stream.reports, stream.index):
                made.clear()

    def trim(self, partition: Partition, epoch: int, before: EntryId) -> int:
        """Remove entries before an id, never one within the window of remembered ids."""
        with self._changed:
            stream = self._fenced(partition, epoch)
            beyond_window = max(0, len(stream.entries) - len(stream.ids))
            count = min(bisect_left(stream.entries, before, key=_id_of), beyond_window)
            del stream.entries[:count]
            return count

    def head(self, partition: Partition) -> Head:
        """How far the learner is."""
        with self._changed:
            stream = self._stream(partition)
            return Head(stream.cursor, stream.epoch, stream.learned, stream.version, stream.owner, stream.beat)

    def load(self, partition: Partition) -> Saved | None:
        """The last snapshot."""
        with self._changed:
            stream = self._stream(partition)
            saved = stream.snapshot
            return None if saved is None else Saved(saved.data, saved.cursor, stream.version)

    def previous(self, partition: Partition) -> EntryId:
        """The cursor of the snapshot before the last."""
        with self._changed:
            before = self._stream(partition).previous
            return START if before is None else before.cursor

    def part(self, partition: Partition, name: str) -> bytes | None:
        """One part of the last snapshot."""
        with self._changed:
            return self._stream(partition).parts.get(name)

    def parts(self, partition: Partition, prefix: str) -> Iterator[tuple[str, bytes]]:
        """All parts of the last snapshot whose name begins so."""
        with self._changed:
            found = [(name, data) for name, data in self._stream(partition).parts.items() if name.startswith(prefix)]
        return iter(found)

    def reports(self, partition: Partition, after: EntryId, count: int) -> list[ReportEntry]:
        """Up to ``count`` report entries after an id."""
        with self._changed:
            reports = self._stream(partition).reports
            begin = bisect_right(reports, after, key=_id_of)
            return reports[begin : begin + count]

    def lookup(self, partition: Partition, field: str) -> bytes | None:
        """An index field as the last commit that named it left it."""
        with self._changed:
            return self._stream(partition).index.get(field.partition(":")[0], {}).get(field)

    def lookup_all(self, partition: Partition, fields: Sequence[str]) -> list[bytes | None]:
        """Many index fields of one family, in the order asked."""
        return [self.lookup(partition, field) for field in fields]

    def fields(self, partition: Partition, family: str) -> Iterator[tuple[str, bytes]]:
        """All index fields of a family."""
        with self._changed:
            found = list(self._stream(partition).index.get(family, {}).items())
        return iter(found)

    def keep(self, partition: Partition, oldest: EntryId | None) -> Kept | None:
        """What is needed to go on from the last snapshot, if that is of the last entry, and else ``None``.

        ``oldest`` is the first entry that the fold must still be able to read.
        """
        with self._changed:
            stream = self._stream(partition)
            saved = stream.snapshot
            if saved is None or saved.cursor != stream.last:
                return None
            begin = len(stream.entries) if oldest is None else bisect_left(stream.entries, oldest, key=_id_of)
            entries = tuple(stream.entries[begin:])
            return Kept(stream.number, stream.last, saved.learned, saved.data, dict(stream.parts), entries)

    def go_on(self, partition: Partition, kept: Kept) -> None:
        """Make an empty partition what it was when it was kept, without the entries and reports that are done with."""
        with self._changed:
            self._streams[partition] = _Stream(
                entries=list(kept.entries),
                ids={entry.event_id: (entry.id, b"") for entry in kept.entries},
                number=kept.number,
                last=kept.last,
                cursor=kept.last,
                learned=kept.learned,
                snapshot=_Snapshot(kept.snapshot, kept.last, kept.learned),
                parts=dict(kept.parts),
            )

    def _stream(self, partition: Partition) -> _Stream:
        return self._streams.setdefault(partition, _Stream())

    def _fenced(self, partition: Partition, epoch: int) -> _Stream:
        stream = self._stream(partition)
        if stream.epoch != epoch:
            raise Fenced(f"{partition} has another owner, {stream.owner!r}; epoch {epoch} is over")
        return stream

    @staticmethod
    def _entry(stream: _Stream, entry_id: EntryId) -> Entry:
        return stream.entries[bisect_left(stream.entries, entry_id, key=_id_of)]


def _id_of(entry: Entry | ReportEntry) -> EntryId:
    return entry.id


def _cause_of(report: tuple[EntryId, bytes]) -> EntryId:
    return report[0]


def _replace_snapshot(stream: _Stream, commit: Commit, data: bytes) -> None:
    if commit.verified and stream.snapshot is not None:
        stream.previous = stream.snapshot
        stream.undo.clear()
    for name, value in commit.parts.items():
        if stream.previous is not None:
            stream.undo.setdefault(name, stream.parts.get(name))
        _set_or_remove(stream.parts, name, value)
    stream.snapshot = _Snapshot(data, commit.cursor, commit.learned)
    stream.version += 1


def _set_or_remove(parts: dict[str, bytes], name: str, value: bytes | None) -> None:
    if value is None:
        parts.pop(name, None)
    else:
        parts[name] = value


class MemoryBlob:
    """A `Blob` in memory."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Store, replacing what was there."""
        self._blobs[name] = data

    def get(self, name: str) -> bytes | None:
        """What is stored under a name."""
        return self._blobs.get(name)

    def names(self, prefix: str) -> list[str]:
        """All names that begin so, sorted."""
        return sorted(name for name in list(self._blobs) if name.startswith(prefix))

    def delete(self, name: str) -> None:
        """Forget a name."""
        self._blobs.pop(name, None)
