"""The archive: entries of the log as Parquet files, for ever, readable by pandas, R, Spark and DuckDB.

One folder per partition, one file per run of entries, named by their running numbers. A file appears whole or not at
all, and holds the original bytes of every event.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
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


class Archive:
    """A `History` in a folder of Parquet files. One writer per partition: the worker that owns it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def end(self, partition: Partition) -> EntryId:
        """The last entry kept, `START` if none."""
        files = self._files(partition)
        if not files:
            return START
        found = json.loads(pq.read_schema(files[-1]).metadata[b"trimtab"])
        return EntryId.parse(found["last"])

    def keep(self, partition: Partition, entries: Sequence[Entry]) -> None:
        """Keep entries that follow the last one, durably.

        Raises:
            ValueError: They do not follow the last one kept.
        """
        if not entries:
            return
        end = self.end(partition)
        if entries[0].id <= end:
            raise ValueError(f"{partition}: the entry {entries[0].id} does not follow {end}, the last one kept")
        about = {"partition": str(partition), "first": str(entries[0].id), "last": str(entries[-1].id), "version": 1}
        rows = [(*entry.id, *entry[1:]) for entry in entries]
        columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), SCHEMA.types, strict=True)]
        table = pa.Table.from_arrays(columns, schema=SCHEMA.with_metadata({"trimtab": json.dumps(about)}))
        folder = self._of(partition)
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / f"{entries[0].number:020d}-{entries[-1].number:020d}.parquet"
        partial = final.with_suffix(".partial")
        with partial.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(final)
        _sync(folder)

    def read(self, partition: Partition, after: EntryId, count: int) -> list[Entry]:
        """Up to ``count`` entries after an id, from one file."""
        for file in self._files(partition):
            about = json.loads(pq.read_schema(file).metadata[b"trimtab"])
            if EntryId.parse(about["last"]) > after:
                return list(_entries(pq.read_table(file), after, count))
        return []

    def _files(self, partition: Partition) -> list[Path]:
        return sorted(self._of(partition).glob("*.parquet"))

    def _of(self, partition: Partition) -> Path:
        return self._folder / quote(partition.subject, safe="") / str(partition.index)


def _entries(table: pa.Table, after: EntryId, count: int) -> Iterator[Entry]:
    ms, seq = pa.scalar(after.ms, pa.uint64()), pa.scalar(after.seq, pa.uint64())
    same_and_newer = pc.and_(pc.equal(table["ms"], ms), pc.greater(table["seq"], seq))
    newer = pc.or_(pc.greater(table["ms"], ms), same_and_newer)
    for row in table.filter(newer).slice(0, count).to_pylist():
        entry_id = EntryId(row["ms"], row["seq"])
        yield Entry(entry_id, row["number"], row["at"], row["event_id"], row["payload"], row["intact"])


def _sync(folder: Path) -> None:
    """A rename is durable once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
