"""`trimtab archive`: what the learners have copied out of the log, as Parquet; all of one subject in one table."""

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from rich.console import Console

from online.archive import Archive, Kept
from online.events import EventError, decode
from online.log import START, Entry, Partition
from service.commands.output import UsageError, finish, table
from service.settings import ARCHIVE

_AT_ONCE = 10_000

SCHEMA = pa.schema(
    [
        ("entry", pa.string()),
        ("number", pa.int64()),
        ("appended", pa.timestamp("ms", tz="UTC")),
        ("kind", pa.string()),
        ("id", pa.string()),
        ("key", pa.string()),
        ("event", pa.string()),
    ]
)


def run(subject: str | None, data: Path | None, out: Path | None, as_json: bool) -> None:
    """List what is kept; with `out`, write all of one subject there, decoded, one row an entry."""
    folder = (data or Path(os.environ.get("TRIMTAB_DATA", ".trimtab"))) / ARCHIVE
    archive = Archive(folder)
    found = [partition for partition in archive.partitions() if subject is None or _is(partition, subject)]
    if subject is not None and not found:
        names = ", ".join(sorted({partition.subject for partition in archive.partitions()})) or "nothing yet"
        raise UsageError(f"nothing of {subject!r} is in the archive; there is: {names}")
    if out is not None and len({partition.subject for partition in found}) != 1:
        raise UsageError("--out takes one subject: name it, as `trimtab archive` lists them")
    rows = _export(archive, found, out) if out is not None else 0
    result: dict[str, Any] = {"folder": str(folder), "kept": [_row(archive.kept(each)) for each in found]}
    if out is not None:
        result |= {"out": str(out), "rows": rows}
    finish(result, as_json, lambda console: _show(console, result))


def _is(partition: Partition, subject: str) -> bool:
    return subject in (partition.subject, partition.subject.partition(":")[2])


def _row(kept: Kept) -> dict[str, Any]:
    about = {"subject": kept.partition.subject, "partition": kept.partition.index}
    counts = {"entries": kept.last - kept.first + 1, "first": kept.first, "last": kept.last}
    return about | counts | {"files": kept.files, "bytes": kept.size, "since": kept.since, "until": kept.until}


def _show(out: Console, result: Mapping[str, Any]) -> None:
    rows = [
        (
            one["subject"],
            one["partition"],
            f"{one['entries']:,}",
            one["files"],
            f"{one['bytes'] / 1e6:.1f}",
            _moment(one["since"]),
            _moment(one["until"]),
        )
        for one in result["kept"]
    ]
    heads = ("subject", "partition", "entries", "files", "MB", "since", "until")
    out.print(table(heads, rows) if rows else f"nothing is archived in {result['folder']} yet")
    if "out" in result:
        out.print(f"{result['rows']:,} entries written to {result['out']}")


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")


def _export(archive: Archive, partitions: list[Partition], out: Path) -> int:
    rows = 0
    try:
        with pq.ParquetWriter(out, SCHEMA, compression="zstd") as writer:
            for partition in partitions:
                for entries in _entries(archive, partition):
                    batch = [_decoded(partition, entry) for entry in entries]
                    writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
                    rows += len(batch)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error}") from None
    return rows


def _entries(archive: Archive, partition: Partition) -> Iterator[list[Entry]]:
    after = START
    while entries := archive.read(partition, after, _AT_ONCE):
        yield entries
        after = entries[-1].id


def _decoded(partition: Partition, entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"entry": f"{partition.index}:{entry.id}", "number": entry.number}
    row["appended"] = round(entry.at * 1000)
    try:
        event = decode(entry.payload)
    except EventError as error:
        return row | {"kind": "unreadable", "id": entry.event_id, "event": str(error)}
    fields = msgspec.to_builtins(event)
    about = {"kind": type(event).__name__.lower(), "id": entry.event_id, "key": fields.get("key")}
    return row | about | {"event": msgspec.json.encode(fields).decode()}
