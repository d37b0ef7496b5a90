"""The log: what an append-only store of entries must do, whoever keeps it.

One stream per partition; a learner's cursor, snapshot, parts, reports and index live beside it and change together, in
one fenced commit. `online.memory_log` keeps all this in memory, `online.redis_log` in Redis; one suite tests both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, Protocol


class LogUnavailable(ConnectionError):  # noqa: N818
    """The log did not answer. A write may have happened or not: repeat it with the same ids, or reload."""


class Restarted(LogUnavailable):
    """The log is another run than the one read from, or lost its tail: drop memory and load the snapshot."""


class Fenced(RuntimeError):  # noqa: N818
    """Another owner has taken the partition over: nothing was written, and nothing will be under this epoch."""


class EntryId(NamedTuple):
    """A place in a log. Two integers, compared as integers: as text ``1-9`` would come after ``1-10``.

    >>> EntryId.parse("1-9") < EntryId.parse("1-10")
    True
    """

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @property
    def before(self) -> "EntryId":
        """The greatest id that is smaller: what to read after, so that this one comes too."""
        return EntryId(self.ms, self.seq - 1) if self.seq else EntryId(self.ms - 1, (1 << 64) - 1)

    @classmethod
    def parse(cls, text: str | bytes) -> "EntryId":
        """The id written as ``<ms>-<seq>``. Raises ``ValueError`` for anything else."""
        ms, dash, seq = (text.decode("ascii", "replace") if isinstance(text, bytes) else text).partition("-")
        if not (dash and _is_digits(ms) and _is_digits(seq)):
            raise ValueError(f"{text!r} is no entry id: two integers joined by a dash, such as 1700000000000-0")
        return cls(int(ms), int(seq))


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


START = EntryId(0, 0)
"""Before the first entry."""


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One stream: a subject (``model:<name>``, ``point:<name>``, ``releases:<point>``) and a partition's index."""

    subject: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.subject}/{self.index}"

    @classmethod
    def of(cls, subject: str, key: str | None, partitions: int = 1) -> "Partition":
        """The partition where a key's entries live: the same in every process and release."""
        if partitions == 1 or key is None:
            return cls(subject, 0)
        return cls(subject, int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") % partitions)


def token(partition: Partition, entry_id: EntryId) -> str:
    """An entry's place as clients see it: opaque, ``<partition index>:<entry id>``."""
    return f"{partition.index}:{entry_id}"


def parse_token(text: str) -> tuple[int, EntryId]:
    """The partition's index and the entry id of a token. Raises ``ValueError`` for anything else.

    >>> parse_token("0:1700000000000-3")
    (0, EntryId(ms=1700000000000, seq=3))
    """
    index, colon, entry = text.partition(":")
    if not (colon and _is_digits(index)):
        raise ValueError(f"{text!r} is no entry token: give one back as it was answered, such as 0:1700000000000-0")
    return int(index), EntryId.parse(entry)


class Draft(NamedTuple):
    """An event about to be appended: ``id`` knows it again, ``digest`` says whether a retry asks for the same."""

    id: str
    digest: bytes
    payload: bytes


class Entry(NamedTuple):
    """An event with its place: ``number`` runs without gaps, ``at`` is the append time in seconds since the epoch.

    ``intact`` is false where the checksum, taken by the writer, no longer fits.
    """

    id: EntryId
    number: int
    at: float
    event_id: str
    payload: bytes
    intact: bool = True


class Appended(NamedTuple):
    """The entry under this id: appended now (``fresh``), or long ago, by an equal request."""

    entry: Entry
    fresh: bool


class Conflict(NamedTuple):
    """The id is taken by another request, whose entry this is; nothing was appended."""

    entry: Entry


class ReportEntry(NamedTuple):
    """All reports of one cause, under the id of that cause."""

    id: EntryId
    payload: bytes


class Saved(NamedTuple):
    """A learner's snapshot and the last entry it contains."""

    snapshot: bytes
    cursor: EntryId
    version: int


class Head(NamedTuple):
    """How far a partition's learner is: cheap to ask for, and unchanged where nothing was committed.

    ``cursor`` is the last entry reported, ``version`` counts snapshots, ``learned`` is the learner's own count,
    ``beat`` moves while ``owner`` is alive.
    """

    cursor: EntryId
    epoch: int
    learned: int
    version: int
    owner: str
    beat: int


@dataclass(frozen=True, slots=True)
class Commit:
    """What a learner makes visible at once.

    ``snapshot`` is its state at ``cursor`` (``None``: reports alone, the last snapshot stays), ``parts`` the pieces of
    that state kept outside the snapshot which changed since the last one (``None`` removes). ``reports`` are skipped
    where not newer than those already there. ``index`` fields, named ``<family>:<name>``, are looked up by name; beyond
    the log's window the oldest of a family is forgotten. ``verified`` says that the last snapshot was read back, so
    that it may become the fall-back.
    """

    cursor: EntryId
    snapshot: bytes | None = None
    reports: Sequence[tuple[EntryId, bytes]] = ()
    index: Mapping[str, bytes | None] = field(default_factory=dict)
    parts: Mapping[str, bytes | None] = field(default_factory=dict)
    learned: int = 0
    verified: bool = True

    def __post_init__(self) -> None:
        if self.parts and self.snapshot is None:
            raise ValueError(f"{len(self.parts)} parts without a snapshot: parts change together with a snapshot alone")


class Log(Protocol):
    """Entries and what learners made of them. Synchronous; one thread each.

    Every method may raise `LogUnavailable`.
    """

    def append(self, partition: Partition, drafts: Sequence[Draft]) -> list[Appended | Conflict]:
        """Append each draft whose id is new, durably, and answer for each in order."""

    def read(self, partition: Partition, after: EntryId, count: int, block: float = 0.0) -> list[Entry]:
        """Up to ``count`` entries after an id, waiting up to ``block`` seconds for the first.

        An owner that gets all it asked for may be given what follows from what was read ahead meanwhile.

        Raises:
            Restarted: This log object acquired the partition, and the store is not as it was then.
        """

    def read_back(self, partition: Partition, before: EntryId | None, count: int) -> list[Entry]:
        """The last entries before an id, or of all (``None``): at most so many, the oldest first."""

    def wait(self, after: Mapping[Partition, EntryId], seconds: float) -> bool:
        """Whether any of the partitions has an entry after the id given for it, within ``seconds``."""

    def find(self, partition: Partition, event_ids: Sequence[str]) -> list[Entry | None]:
        """The entries under these event ids, ``None`` where unknown or forgotten beyond the window."""

    def tail(self, partition: Partition) -> EntryId:
        """The last entry ever appended, `START` if none."""

    def first(self, partition: Partition) -> EntryId:
        """The oldest entry still there, `START` if none."""

    def length(self, partition: Partition) -> int:
        """The number of entries still there."""

    def acquire(self, partition: Partition, owner: str) -> int:
        """Become the partition's one writer; the new epoch fences all others."""

    def beat(self, partition: Partition, epoch: int) -> None:
        """Say that the owner is alive. Raises `Fenced`."""

    def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
        """Make a learner's progress visible, all or nothing.

        May return before it has happened. The next call that writes under this epoch waits until it has, and raises
        what went wrong instead of writing; `confirm` does so at once. Calls of this object that read see it.

        Raises:
            Fenced: The epoch is not the newest.
            Restarted: The store is another run, or its stream ends before the cursor.
        """

    def confirm(self, partition: Partition, epoch: int) -> None:
        """Wait until the last commit under this epoch has happened. Raises what `commit` raises."""

    def fall_back(self, partition: Partition, epoch: int) -> bool:
        """Return to the snapshot before the last, parts included; false where there is none. Raises `Fenced`."""

    def reset(self, partition: Partition, epoch: int) -> None:
        """Forget snapshots, parts, reports and index; the entries stay. Raises `Fenced`."""

    def trim(self, partition: Partition, epoch: int, before: EntryId) -> int:
        """Remove entries before an id, never one within the window of remembered ids. Raises `Fenced`."""

    def head(self, partition: Partition) -> Head:
        """How far the learner is."""

    def load(self, partition: Partition) -> Saved | None:
        """The last snapshot."""

    def previous(self, partition: Partition) -> EntryId:
        """The cursor of the snapshot before the last, `START` where there is none: keep entries after it."""

    def part(self, partition: Partition, name: str) -> bytes | None:
        """One part of the last snapshot."""

    def parts(self, partition: Partition, prefix: str) -> Iterator[tuple[str, bytes]]:
        """All parts of the last snapshot whose name begins so, in no order."""

    def reports(self, partition: Partition, after: EntryId, count: int) -> list[ReportEntry]:
        """Up to ``count`` report entries after an id."""

    def lookup(self, partition: Partition, field: str) -> bytes | None:
        """An index field as the last commit that named it left it."""

    def lookup_all(self, partition: Partition, fields: Sequence[str]) -> list[bytes | None]:
        """Many index fields of one family, in the order asked."""

    def fields(self, partition: Partition, family: str) -> Iterator[tuple[str, bytes]]:
        """All index fields ``<family>:...``, in no order."""


class History(Protocol):
    """Entries kept outside the log, for ever: what was copied here may be trimmed there."""

    def end(self, partition: Partition) -> EntryId:
        """The last entry kept, `START` if none."""

    def keep(self, partition: Partition, entries: Sequence[Entry]) -> None:
        """Keep entries that follow the last one, durably."""

    def read(self, partition: Partition, after: EntryId, count: int) -> list[Entry]:
        """Up to ``count`` entries after an id."""


class Blob(Protocol):
    """Named bytes, shared by all processes."""

    def put(self, name: str, data: bytes) -> None:
        """Store, replacing what was there."""

    def get(self, name: str) -> bytes | None:
        """What is stored under a name."""

    def names(self, prefix: str) -> list[str]:
        """All names that begin so, sorted."""

    def delete(self, name: str) -> None:
        """Forget a name; an unknown one is no error."""
