"""The archive: entries of the log as Parquet files, for ever, readable by pandas, R, Spark and DuckDB.

One folder per partition, one file per run of entries, named by their running numbers. A file appears whole or not at
all, and holds the original bytes of every event.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from online.log import START, Entry, EntryId, Partition

SCHEMA = pa.schema(
    [
        ("ms", pa.uint64()),
        ("seq", pa.uint64()),
        ("number", pa.uint64()),
        ("at", pa.float64()),
        ("event_id", pa.string()),
        ("payload", pa.binary()),
        ("intact", pa.bool_()),
    ]
)


WHOLE = 100_000
"""Entries of a file that is left as it is; shorter ones become part of the next file that is as long."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the archive holds of one partition: running numbers, files, bytes on disk, append times."""

    partition: Partition
    first: int
    last: int
    files: int
    size: int
    since: float
    until: float


class Archive:
    """A `History` in a folder of Parquet files; one object per thread.

    The owner of a partition writes; one that was frozen and does not know yet that it was replaced may write too. That
    is harmless: both copy the same entries, so that files may overlap, but never differ. A file that another one
    contains is removed once that one is durable.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: dict[Path, EntryId] = {}
        self._open: tuple[Path, pa.Table, list[EntryId]] | None = None

    def partitions(self) -> list[Partition]:
        """All partitions of which something is kept."""
        folders = sorted({file.parent for file in self._folder.glob("*/*/*.parquet")})
        return sorted(Partition(unquote(folder.parent.name), int(folder.name)) for folder in folders)

    def kept(self, partition: Partition) -> Kept:
        """What is kept of a partition; of one that `partitions` lists."""
        files = self._files(partition)
        since, until = (pq.read_table(file, columns=["at"])["at"] for file in (files[0], files[-1]))
        size = sum(file.stat().st_size for file in files)
        last = max(map(_last_number, files))
        return Kept(partition, _first_number(files[0]), last, len(files), size, since[0].as_py(), until[-1].as_py())

    def end(self, partition: Partition) -> EntryId:
        """The last entry kept, `START` if none."""
        return _again(lambda: self._last(partition)[1])

    def _last(self, partition: Partition) -> tuple[int, EntryId]:
        files = self._files(partition)
        if not files:
            return 0, START
        longest = max(files, key=_last_number)
        return _last_number(longest), self._end(longest)

    def _end(self, file: Path) -> EntryId:
        """The last entry of a file; files never change."""
        if file not in self._ends:
            about = json.loads(pq.read_schema(file).metadata[b"trimtab"])
            self._ends[file] = EntryId.parse(about["last"])
        return self._ends[file]

    def keep(self, partition: Partition, entries: Sequence[Entry]) -> None:
        """Keep entries that follow the last one, durably; those that are here already are passed over.

        Later entries under earlier numbers mean that the log lost its end, and what was kept of that with it.

        Raises:
            ValueError: Entries between the last one kept and these are missing.
        """
        number, end = _again(lambda: self._last(partition))
        entries = [entry for entry in entries if entry.id > end]
        if not entries:
            return
        if entries[0].number <= number:
            self._cut(partition, entries[0].number)
        elif entries[0].number != number + 1:
            raise ValueError(f"{partition}: the entry {entries[0].number} does not follow {number}, the last one kept")
        rows = [(*entry.id, *entry[1:]) for entry in entries]
        columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), SCHEMA.types, strict=True)]
        table = pa.Table.from_arrays(columns, schema=SCHEMA)
        first, absorbed = entries[0].number, []
        for file in reversed(self._files(partition)):
            # As with the digits of a binary counter: every entry is written again only a few times, ever.
            if _last_number(file) != first - 1 or not _count(file) <= table.num_rows <= WHOLE - _count(file):
                break
            table = pa.concat_tables([pq.read_table(file, schema=SCHEMA), table])
            first = _first_number(file)
            absorbed.append(file)
        self._write(partition, table, first, entries[-1].number, entries[-1].id)
        for file in absorbed:
            file.unlink(missing_ok=True)
            self._ends.pop(file, None)

    def _cut(self, partition: Partition, number: int) -> None:
        """Forget all entries from this number on."""
        self._open = None
        for file in reversed(self._files(partition)):
            if _last_number(file) < number:
                continue
            if _first_number(file) < number:
                table = pq.read_table(file, schema=SCHEMA).slice(0, number - _first_number(file))
                last = table.slice(table.num_rows - 1).to_pylist()[0]
                self._write(partition, table, _first_number(file), number - 1, EntryId(last["ms"], last["seq"]))
            file.unlink(missing_ok=True)
            self._ends.pop(file, None)

    def _write(self, partition: Partition, table: pa.Table, first: int, last: int, end: EntryId) -> None:
        about = {"partition": str(partition), "first": first, "last": str(end), "version": 1}
        folder = self._of(partition)
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / f"{first:020d}-{last:020d}.parquet"
        partial = final.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as sink:
            whole = table.replace_schema_metadata({"trimtab": json.dumps(about)})
            pq.write_table(whole, sink, compression="zstd")
            sink.flush()
            os.fsync(sink.fileno())
        partial.replace(final)
        _sync(folder)

    def read(self, partition: Partition, after: EntryId, count: int) -> list[Entry]:
        """Up to ``count`` entries after an id, from one file."""
        return _again(lambda: self._read(partition, after, count))

    def _read(self, partition: Partition, after: EntryId, count: int) -> list[Entry]:
        for file in self._files(partition):
            if self._end(file) > after:
                table, ids = self._loaded(file)
                begin = bisect_right(ids, after)
                rows = table.slice(begin, count).to_pylist()
                return [
                    Entry(entry_id, row["number"], row["at"], row["event_id"], row["payload"], row["intact"])
                    for entry_id, row in zip(ids[begin : begin + count], rows, strict=True)
                ]
        return []

    def _loaded(self, file: Path) -> tuple[pa.Table, list[EntryId]]:
        """A file's table and ids: whoever replays it reads it in hundreds of small steps."""
        if self._open is None or self._open[0] != file:
            table = pq.read_table(file, schema=SCHEMA)
            pairs = zip(table["ms"].to_pylist(), table["seq"].to_pylist(), strict=True)
            self._open = file, table, [EntryId(ms, seq) for ms, seq in pairs]
        return self._open[1:]

    def forget(self) -> None:
        """Let go of the file that was read last."""
        self._open = None

    def _files(self, partition: Partition) -> list[Path]:
        return sorted(self._of(partition).glob("*.parquet"))

    def _of(self, partition: Partition) -> Path:
        return self._folder / quote(partition.subject, safe="") / str(partition.index)


def _again(look: Callable[[], T]) -> T:
    """What a look at the files finds; once more if one of them has become part of another meanwhile."""
    for _ in range(3):
        try:
            return look()
        except FileNotFoundError:
            continue
    return look()


def _first_number(file: Path) -> int:
    return int(file.stem.partition("-")[0])


def _last_number(file: Path) -> int:
    return int(file.stem.partition("-")[2])


def _count(file: Path) -> int:
    return _last_number(file) - _first_number(file) + 1


def _sync(folder: Path) -> None:
    """A rename is durable once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
