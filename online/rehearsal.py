"""A rehearsal: a partition's whole log, from the archive on, read for a learner whose own state stays in memory.

A worker over it replays what another one has learned already, poison and all, and disturbs nobody. What it has made in
the end is taken over in one commit.
"""

from collections.abc import Sequence
from dataclasses import replace

from online.log import START, Appended, Commit, Conflict, Draft, Entry, EntryId, History, Log, Partition
from online.memory_log import MemoryLog


class Rehearsal(MemoryLog):
    """A `Log` that reads entries from another one and its history, and keeps everything else to itself.

    Nothing is appended. Reports are dropped, but for those of entries after `since`, once that is set.
    """

    def __init__(self, log: Log, history: History | None, partition: Partition) -> None:
        super().__init__()
        self.since: EntryId | None = None
        self._log, self._history = log, history
        self._begins = START if history is None else log.first(partition)

    def append(self, partition: Partition, drafts: Sequence[Draft]) -> list[Appended | Conflict]:  # noqa: ARG002
        """Nothing: whoever owns the partition lets event time move."""
        return []

    def read(self, partition: Partition, after: EntryId, count: int, block: float = 0.0) -> list[Entry]:
        """Up to ``count`` entries after an id, from the history where the log may have been trimmed."""
        history = self._history
        if history is not None and after < self._begins and (kept := history.read(partition, after, count)):
            return kept
        entries = self._log.read(partition, after, count, block)
        if history is None:
            return entries
        # Looked up last: the owner trims while this goes on, and would leave a gap that a look before does not show.
        self._begins = self._log.first(partition)
        return history.read(partition, after, count) or entries if after < self._begins else entries

    def read_back(self, partition: Partition, before: EntryId | None, count: int) -> list[Entry]:
        """The last entries before an id, or of all, of the log that is read."""
        return self._log.read_back(partition, before, count)

    def tail(self, partition: Partition) -> EntryId:
        """The last entry of the log that is read."""
        return self._log.tail(partition)

    def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
        """Keeps a learner's progress, in memory."""
        stream = self._stream(partition)
        stream.last = max(stream.last, commit.cursor)
        kept = [] if self.since is None else [report for report in commit.reports if report[0] > self.since]
        super().commit(partition, epoch, replace(commit, reports=kept))

    def outcome(self, partition: Partition, families: Sequence[str]) -> Commit:
        """Everything that was learned, as one commit."""
        stream = self._stream(partition)
        if stream.snapshot is None:
            raise ValueError(f"{partition}: nothing has been learned yet")
        index = {name: value for family in families for name, value in self.fields(partition, family)}
        return Commit(
            cursor=stream.snapshot.cursor,
            snapshot=stream.snapshot.data,
            reports=[(report.id, report.payload) for report in stream.reports],
            index=index,
            parts=dict(stream.parts),
            learned=stream.learned,
        )
