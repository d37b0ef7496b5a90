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
    """A `History` in a folder of Parquet files.

    The owner of a partition writes; one that was frozen and does not know yet that it was replaced may write too. That
    is harmless: both copy the same entries, so that files may overlap, but never differ.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def end(self, partition: Partition) -> EntryId:
        """The last entry kept, `START` if none."""
        return self._last(partition)[1]

    def _last(self, partition: Partition) -> tuple[int, EntryId]:
        files = self._files(partition)
        if not files:
            return 0, START
        longest = max(files, key=_last_number)
        return _last_number(longest), EntryId.parse(_about(longest)["last"])

    def keep(self, partition: Partition, entries: Sequence[Entry]) -> None:
        """Keep entries that follow the last one, durably; those that are here already are passed over.

        Raises:
            ValueError: Entries between the last one kept and these are missing.
        """
        number, end = self._last(partition)
        entries = [entry for entry in entries if entry.id > end]
        if not entries:
            return
        if entries[0].number != number + 1:
            raise ValueError(f"{partition}: the entry {entries[0].number} does not follow {number}, the last one kept")
        about = {"partition": str(partition), "first": str(entries[0].id), "last": str(entries[-1].id), "version": 1}
        rows = [(*entry.id, *entry[1:]) for entry in entries]
        columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), SCHEMA.types, strict=True)]
        table = pa.Table.from_arrays(columns, schema=SCHEMA.with_metadata({"trimtab": json.dumps(about)}))
        folder = self._of(partition)
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / f"{entries[0].number:020d}-{entries[-1].number:020d}.parquet"
        partial = final.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(final)
        _sync(folder)

    def read(self, partition: Partition, after: EntryId, count: int) -> list[Entry]:
        """Up to ``count`` entries after an id, from one file."""
        for file in self._files(partition):
            if EntryId.parse(_about(file)["last"]) > after:
                return list(_entries(pq.read_table(file), after, count))
        return []

    def _files(self, partition: Partition) -> list[Path]:
        return sorted(self._of(partition).glob("*.parquet"))

    def _of(self, partition: Partition) -> Path:
        return self._folder / quote(partition.subject, safe="") / str(partition.index)


def _last_number(file: Path) -> int:
    return int(file.stem.partition("-")[2])


def _about(file: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(pq.read_schema(file).metadata[b"trimtab"])
    return found


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
