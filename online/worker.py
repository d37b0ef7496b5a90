"""The worker: one partition's fold, kept going whatever happens to the log, to this process, or to a single event.

Acquire the partition, load the snapshot, then read, apply and commit. Any doubt (another owner, a log that was away or
restarted, an event that broke the model) has one answer: drop what is in memory and load the snapshot again.
"""

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from online.events import Report, Ticked, draft_id, encode, encode_reports
from online.fold import Fold, Make, Poisoned, Stale
from online.log import (
    START,
    Commit,
    Draft,
    Entry,
    EntryId,
    Fenced,
    History,
    Log,
    LogUnavailable,
    Partition,
    Restarted,
)
from online.snapshot import SealBroken, open_part, open_sealed, seal, seal_part, sealed_parts

Clock = Callable[[], float]

_KEPT_TOGETHER = 50_000
_WARIEST = 16.0
_STRIDE = 32


@dataclass(frozen=True, slots=True)
class Pace:
    """How a worker spreads its work, in seconds.

    While there is news it commits every ``commit`` seconds, every ``calm`` when it has caught up. Snapshots take at
    most the share ``dumping`` of the time. An idle owner shows that it lives every ``beat``; a rival takes over once it
    has seen no sign of life for ``patience``. ``batch`` entries are read at once. Every ``tidy`` seconds entries are
    copied into the history, where there is one, and trimmed from the log.
    """

    commit: float = 0.1
    calm: float = 0.02
    dumping: float = 0.03
    beat: float = 1.0
    patience: float = 5.0
    batch: int = 2_000
    tidy: float = 60.0


class LogLost(RuntimeError):  # noqa: N818
    """Neither a snapshot that can be opened nor the beginning of the log is left: restore a backup."""


class Worker:
    """Keeps one partition's fold going. `step` never blocks for long; `run` goes on until it is told to stop.

    Args:
        log: Used by this worker's thread alone.
        make: Makes the fold, fresh or from a snapshot.
        partition: The partition to own.
        owner: A name for this worker, the same after a restart: whoever has it takes over at once.
        clock: Monotonic seconds, for waiting alone.
        secret: Seals snapshots.
        now: Seconds since the epoch: moves event time when nothing else does.
        spent: This thread's seconds of processor time: what a snapshot costs, however busy the machine is.
        pace: How work is spread.
        history: Where entries are kept before they are trimmed; without one, nothing is trimmed.
    """

    def __init__(
        self,
        log: Log,
        make: Make,
        partition: Partition,
        owner: str,
        clock: Clock = time.monotonic,
        secret: bytes = b"",
        *,
        now: Clock = time.time,
        spent: Clock = time.thread_time,
        pace: Pace | None = None,
        history: History | None = None,
    ) -> None:
        self.partition = partition
        self.owner = owner
        self.trouble: str | None = None
        self._log, self._make, self._secret = log, make, secret
        self._clock, self._now, self._spent, self._pace, self._history = clock, now, spent, pace or Pace(), history
        self._epoch: int | None = None
        self._fold: Fold | None = None
        self._seen: tuple[int, int] | None = None
        self._seen_at = 0.0
        self._was_fenced = False
        self._warned = False
        self._per_byte: deque[float] = deque(maxlen=4)
        self._wary = 1.0
        self._owned_at = 0.0
        self._reports: list[tuple[EntryId, bytes]] = []
        self._poisons: dict[EntryId, Poisoned] = {}
        self._committed = self._snapshotted = self._beaten = self._tidied = float("-inf")
        self._between = 0.0
        self._retry_at = float("-inf")
        self._shown: EntryId = START
        self._kept: EntryId = START
        self._trimmed: EntryId = START
        self._sealed: bytes | None = None

    @property
    def fold(self) -> Fold | None:
        """The fold, while this worker owns the partition."""
        return self._fold

    @property
    def cursor(self) -> EntryId:
        """The last entry applied; the end of the log for a worker that stands by."""
        return START if self._fold is None else self._fold.place.cursor

    def step(self) -> bool:
        """Do what there is to do now; whether there was anything. What stands in the way is told by ``trouble``."""
        try:
            if self._fold is None and not self._take_over():
                return False
            return self._advance()
        except Fenced as error:
            self._drop(error)
            self._was_fenced = True
            # Two that are slower than their patience would take from each other for ever, and neither come further.
            self._wary = min(2.0 * self._wary, _WARIEST)
        except LogUnavailable as error:
            # A write in doubt may have happened: what is in memory may be ahead of the log, or behind.
            self._drop(error)
        except LogLost as error:
            self._drop(error)
            self._retry_at = self._clock() + self._pace.patience
        return False

    def run(self, stop: Callable[[], bool]) -> None:
        """Step until ``stop`` says so, then commit what is there."""
        work([self], self._log, stop)

    def close(self) -> None:
        """Commit what is there, with a snapshot; failure to do so loses nothing."""
        try:
            if self._fold is not None and self._kept < self._fold.place.cursor:
                self._commit(self._fold, snapshot=True)
            self._confirm()
        except (Fenced, LogUnavailable) as error:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        self.trouble = str(error)
        self._fold, self._epoch, self._seen = None, None, None
        self._forget()

    def _forget(self) -> None:
        self._reports = []

    def _take_over(self) -> bool:
        if self._clock() < self._retry_at:
            return False
        head = self._log.head(self.partition)
        mine = head.owner == self.owner and not self._was_fenced
        now = self._clock()
        if self._seen != (head.epoch, head.beat):
            self._seen, self._seen_at = (head.epoch, head.beat), now
        if head.epoch and not mine and now - self._seen_at < self._pace.patience * self._wary:
            return False
        self._epoch = self._log.acquire(self.partition, self.owner)
        self._was_fenced = False
        self._trimmed = START if self._history is None else self._log.first(self.partition)
        self._fold = self._load(self._epoch)
        self.trouble = None
        self._poisons.clear()
        self._shown = self._fold.place.cursor
        self._committed = self._snapshotted = self._beaten = self._owned_at = now
        return True

    def _load(self, epoch: int) -> Fold:
        """The fold of the last snapshot, of the one before if that is broken, or a fresh one."""
        parts = sealed_parts(self._log, self.partition, self._secret)
        while (saved := self._log.load(self.partition)) is not None:
            try:
                data = open_sealed(self._secret, self.partition, saved.cursor, saved.snapshot)
                fold = self._make(data, parts)
                self._restore(fold)
            except Stale:
                break
            except SealBroken:
                if not self._log.fall_back(self.partition, epoch):
                    break
            else:
                self._kept, self._sealed = saved.cursor, saved.snapshot
                return fold
        first = self._read(START, 1)
        if first and first[0].number != 1:
            gone = f"no snapshot can be opened, and the log begins at entry {first[0].number}, not at the first"
            raise LogLost(f"{self.partition}: {gone}: restore a backup")
        self._log.reset(self.partition, epoch)
        self._kept, self._sealed = START, None
        return self._make(None, parts)

    def _restore(self, fold: Fold) -> None:
        for prefix in ("pending:", "recent:"):
            opened: dict[str, bytes] = {}
            for name, data in self._log.parts(self.partition, prefix):
                opened[name] = open_part(self._secret, self.partition, name, data)
                self._beat()
            fold.restore(opened)
        oldest = fold.oldest()
        if oldest is not None:
            fold.remember(self._entries(oldest.before, fold.place.cursor))

    def _entries(self, after: EntryId, last: EntryId) -> Iterable[Entry]:
        while after < last:
            entries = self._read(after, self._pace.batch)
            if not entries:
                raise Restarted(f"{self.partition} ends at {after}, before {last}")
            yield from (entry for entry in entries if entry.id <= last)
            after = entries[-1].id
            self._beat()

    def _beat(self) -> None:
        """Show that this owner lives, where it is time: also while it loads or replays for longer than any patience."""
        now = self._clock()
        if self._epoch is not None and now - max(self._beaten, self._committed) >= self._pace.beat:
            self._log.beat(self.partition, self._epoch)
            self._beaten = now

    def _read(self, after: EntryId, count: int) -> list[Entry]:
        """Entries after an id, from the history where the log has been trimmed beyond it."""
        if self._history is not None and after < self._trimmed:
            kept = self._history.read(self.partition, after, count)
            if kept:
                return kept
        return self._log.read(self.partition, after, count)

    def _advance(self) -> bool:
        fold, pace = self._fold, self._pace
        if fold is None:
            return False
        entries = self._read(fold.place.cursor, pace.batch)
        if not entries:
            return self._rest(fold)
        for begin in range(0, len(entries), _STRIDE):
            stride = entries[begin : begin + _STRIDE]
            while stride:
                fold, count = self._apply(fold, stride)
                stride = stride[count:]
            # On a machine so busy that a commit's own time passes between any two entries, a stride comes between them.
            if self._clock() - self._committed >= pace.commit:
                self._commit(fold)
        return True

    def _apply(self, fold: Fold, entries: Sequence[Entry]) -> tuple[Fold, int]:
        """Apply the first entry, and those after it that are plain; how many that were."""
        before = len(self._reports)
        try:
            count = fold.run(entries, self._reports)
        except (LogUnavailable, Fenced):
            raise
        except Exception:  # noqa: BLE001 - no event whatever may stop the stream
            count = len(self._reports) - before
            return self._without(entries[count]), count + 1
        if count:
            return fold, count
        try:
            self._take(entries[0], fold.apply(entries[0]))
        except (LogUnavailable, Fenced):
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._poisons[entries[0].id] = _poison(error)
            return self._without(entries[0]), 1
        return fold, 1

    def _rest(self, fold: Fold) -> bool:
        """What is left to do when every entry has been applied."""
        self._confirm()
        now = self._clock()
        unseen = fold.place.cursor > self._shown
        unkept = fold.place.cursor > self._kept and now - self._snapshotted >= self._between
        if (unseen or unkept) and now - self._committed >= self._pace.calm:
            self._commit(fold)
            return True
        if fold.deadline() <= self._now():
            tick = Ticked(at=self._now())
            self._log.append(self.partition, [Draft(draft_id(tick), b"", encode(tick))])
            return True
        self._beat()
        return False

    def _take(self, entry: Entry, reports: list[Report]) -> None:
        if reports:
            self._reports.append((entry.id, encode_reports(reports)))

    def _without(self, poison: Entry) -> Fold:
        """The fold as it would be had this entry been set aside at once: from the snapshot, all others again."""
        while True:
            self._forget()
            self._fold = fold = self._load(self._epoch or 0)
            try:
                for entry in self._entries(fold.place.cursor, poison.id):
                    found = self._poisons.get(entry.id)
                    if found is None:
                        self._take(entry, fold.apply(entry))
                    else:
                        self._take(entry, fold.reject(entry, found.reason, found.field))
            except (LogUnavailable, Fenced):
                raise
            except Exception as error:  # noqa: BLE001 - as above
                self._poisons[entry.id] = _poison(error)
            else:
                # The next one may be near: it must not replay all this again.
                self._commit(fold, snapshot=True)
                return fold

    def _commit(self, fold: Fold, *, snapshot: bool = False) -> None:
        if self._epoch is None:
            raise Fenced(f"{self.partition} is not owned by {self.owner!r}")
        begun = self._spent()
        due = snapshot or self._clock() - self._snapshotted >= self._between
        cursor = fold.place.cursor
        commit = Commit(
            cursor=cursor,
            snapshot=seal(self._secret, self.partition, cursor, fold.dump()) if due else None,
            reports=self._reports,
            index=fold.index(),
            parts=self._parts(fold) if due else {},
            learned=fold.learned,
            verified=due and self._is_verified(),
        )
        self._log.commit(self.partition, self._epoch, commit)
        self._forget()
        self._shown = cursor
        self._committed = self._clock()
        if self._committed - self._owned_at > 10.0 * self._pace.patience:
            self._wary = 1.0
        if due:
            self._kept, self._sealed = cursor, commit.snapshot
            self._poisons.clear()
            self._snapshotted = self._committed
            # Others on the machine can only add to what a byte costs, and what grows is dumped as it is now.
            size = sum(len(data or b"") for data in (commit.snapshot, *commit.parts.values()))
            self._per_byte.append((self._spent() - begun) / size)
            self._between = size * min(self._per_byte) / self._pace.dumping
            if fold.warning is not None or self._warned:
                self.trouble, self._warned = fold.warning, fold.warning is not None
            if self._history is not None and self._committed - self._tidied >= self._pace.tidy:
                self._tidy(fold, self._history, self._epoch)
                # However long that took: more entries come before the next commit, and before this is done again.
                self._tidied = self._committed = self._clock()

    def _confirm(self) -> None:
        """Wait until the last commit has happened."""
        if self._epoch is not None:
            self._log.confirm(self.partition, self._epoch)

    def _tidy(self, fold: Fold, history: History, epoch: int) -> None:
        """Keep what the last snapshot contains, then trim what both snapshots, and all that waits, have passed."""
        self._confirm()
        try:
            while settled := self._settled(history.end(self.partition)):
                history.keep(self.partition, settled)
        except (OSError, ValueError) as error:
            if isinstance(error, LogUnavailable):
                raise
            # Learning goes on without an archive; the log grows meanwhile, and nothing of it is lost.
            self.trouble = f"the history of {self.partition} could not be written: {error}"
            return
        passed = [self._log.previous(self.partition), history.end(self.partition), fold.oldest()]
        self._log.trim(self.partition, epoch, min(entry_id for entry_id in passed if entry_id is not None))
        self._trimmed = self._log.first(self.partition)

    def _settled(self, after: EntryId) -> list[Entry]:
        """Entries after an id that the last snapshot contains. What comes after it, which may be much, is not read."""
        settled: list[Entry] = []
        while after < self._kept and len(settled) < _KEPT_TOGETHER:
            entries = self._log.read(self.partition, after, self._pace.batch)
            if not entries:
                break
            settled += (entry for entry in entries if entry.id <= self._kept)
            after = entries[-1].id
            self._beat()
        return settled

    def _parts(self, fold: Fold) -> dict[str, bytes | None]:
        changed = fold.changes()
        sealed: dict[str, bytes | None] = {}
        while changed:
            # Taken out one by one: there may be a hundred megabytes, which nobody needs twice.
            name, data = changed.popitem()
            sealed[name] = None if data is None else seal_part(self._secret, self.partition, name, data)
        return sealed

    def _is_verified(self) -> bool:
        """Whether the log holds the last snapshot as it was written: only then may it be the one to fall back on."""
        saved = self._log.load(self.partition)
        return saved is not None and saved.snapshot == self._sealed


def _poison(error: Exception) -> Poisoned:
    return error if isinstance(error, Poisoned) else Poisoned(f"{type(error).__name__}: {error}")


def work(workers: Sequence[Worker], log: Log, stop: Callable[[], bool], idle: float = 0.05) -> None:
    """Step all workers in turn until ``stop`` says so, waiting for entries when none has anything to do."""
    with rare_collections():
        while not stop():
            busy = [worker.step() for worker in workers]
            if not any(busy):
                _wait(workers, log, idle)
    for worker in workers:
        worker.close()


@contextmanager
def rare_collections() -> Iterator[None]:
    """Looks for reference cycles after 50,000 allocations, not 700, and never among what is there already.

    A fold makes many small objects and no cycles; looking for some took a quarter of its time.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _wait(workers: Sequence[Worker], log: Log, idle: float) -> None:
    owned = {worker.partition: worker.cursor for worker in workers if worker.fold is not None}
    try:
        if owned:
            log.wait(owned, idle)
            return
    except LogUnavailable:
        # The next step says so, and tries again.
        pass
    time.sleep(idle)
