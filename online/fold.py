"""What a learner is to the log: a deterministic fold over entries, with its place, its rejects and its event time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from online.events import Missed, Rejected, Replayed, Report, encode_reports
from online.log import START, Entry, EntryId

AHEAD = 300.0
"""Seconds that an event's own time may be ahead of its append: beyond, the append time counts."""


class Poisoned(Exception):  # noqa: N818
    """An entry broke the learner half-way: drop its state, load the snapshot, replay, and reject this entry."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


class Stale(ValueError):  # noqa: N818
    """A snapshot that fits no longer: of another spec or library version. Replay the log instead."""


class Fold(Protocol):
    """State that entries change one by one, and nothing else does.

    State is the snapshot together with the parts; an object that was made from both goes on like the one it came from.
    """

    place: "Place"

    @property
    def warning(self) -> str | None:
        """What people should know about its state; ``None`` for nothing."""

    @property
    def learned(self) -> int:
        """The number of facts learned, as shown to people."""

    def apply(self, entry: Entry) -> list[Report]:
        """Change the state by an entry; what there is to say about it.

        Raises:
            Poisoned: The state is half-changed and must be dropped.
        """

    def run(self, entries: Sequence[Entry], made: list[tuple[EntryId, bytes]]) -> int:
        """`apply`, faster, for as many of these as are plain, which may be none: adds the reports of each to ``made``.

        Whatever it raises, the state is half-changed and must be dropped; `apply` on the same entry says why.
        """

    def reject(self, entry: Entry, reason: str, field: str | None = None) -> list[Report]:
        """Set an entry aside: the state is as if it had not come, but for the place and the counts."""

    def dump(self) -> bytes:
        """The snapshot: everything but the parts."""

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since this was asked last; ``None`` for one that is gone."""

    def index(self) -> dict[str, bytes | None]:
        """The index fields that changed since this was asked last."""

    def oldest(self) -> EntryId | None:
        """The oldest entry that the fold must still be able to read again; ``None`` for none."""

    def deadline(self) -> float:
        """When, in event time, the next wait is over; infinite where none will be."""

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take back the parts, after the snapshot was loaded."""

    def remember(self, entries: Iterable[Entry]) -> None:
        """Take back the contents of pending entries, after the parts were restored."""


@dataclass(slots=True)
class Place:
    """Where a fold is in its log: last entry, running number, event time."""

    cursor: EntryId = START
    number: int = 0
    now: float = float("-inf")
    missed: int = 0
    rejected: int = 0

    def follow(self, entry: Entry) -> list[Report]:
        """Move on to an entry; says so where the running number shows that others are gone, or came twice."""
        gap = entry.number - self.number - 1
        self.cursor = entry.id
        self.number = entry.number
        if not gap:
            return []
        self.missed += abs(gap)
        return [Missed(entry=str(entry.id), count=gap)]

    def time(self, at: float | None, appended: float) -> float:
        """An event's time; event time as a whole never goes back, and never ahead of the log.

        What a caller says may bring the clock up to the append, as a replayed past does, but not beyond: nobody ends
        the waits of others by a date in the future.
        """
        time = appended if at is None else min(at, appended + AHEAD)
        if (now := min(time, appended)) > self.now:
            self.now = now
        return time


def rejection(entry: Entry, reason: str, field: str | None = None) -> Rejected:
    """The report that an entry was set aside, with the bytes to look at, mend and replay."""
    return Rejected(id=entry.event_id, entry=str(entry.id), reason=reason, field=field, event=entry.payload)


def reject_field(rejected: Rejected) -> tuple[str, bytes]:
    """The index field under which a rejected entry is listed."""
    return f"reject:{rejected.entry}", encode_reports([rejected])


def replay_of(rejected: Rejected, actor: str, event: bytes | None = None) -> Replayed:
    """The event that brings a rejected entry back, mended where ``event`` is given."""
    return Replayed(id=f"replay/{rejected.entry}", entry=rejected.entry, event=event or rejected.event, actor=actor)


Parts = Callable[[str], bytes | None]
"""Fetches a part of a fold's state by its name."""

Make = Callable[[bytes | None, Parts], Fold]
"""Makes a fold: fresh (``None``) or from a snapshot. Raises `Stale`."""
