"""Data that commands play: files, and the data sets that River ships."""

import csv
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet  # type: ignore[import-untyped]
from river import datasets
from river.datasets.base import FileDataset, RemoteDataset

from online.backtest import Row
from online.specs import ModelSpec
from service.commands.output import UsageError
from service.outside import rows as files

_DATA_SETS: Mapping[str, Callable[[], FileDataset]] = {
    name: kind
    for name, kind in inspect.getmembers(datasets, inspect.isclass)
    if issubclass(kind, FileDataset) and not issubclass(kind, RemoteDataset)
}

_LABEL = "the label"


def rows_of(
    data: str,
    label: str | None,
    at: str | None,
    entity: str | None,
    drop: Sequence[str] = (),
    texts: Collection[str] = (),
) -> Iterator[Row]:
    """The rows of a file, or of a data set that River ships.

    A row that is an event has its key and its time beside its features. Of one that is a line of columns, ``entity``,
    the model's ``key``, names that of the key, and ``at`` that of the time; those to ``drop`` are left out.
    ``texts`` are columns of names.
    """
    if data in _DATA_SETS:
        for features, y in _DATA_SETS[data]():
            yield _row(files.event({**features, _LABEL: y}, _LABEL, entity if entity in features else None, at, drop))
        return
    if not Path(data).exists():
        raise UsageError(f"there is no file {data!r}, and River ships: {', '.join(_DATA_SETS)}")
    for row in files.read(Path(data), texts):
        event = files.event(row, label, entity if entity in row else None, at, drop)
        if "label" not in event:
            raise UsageError(f"say which column of {data} holds the label, with --label: {', '.join(row)}")
        yield _row(event)


def named(spec: ModelSpec) -> frozenset[str]:
    """The columns that hold names, such as a postal code."""
    return frozenset(name for name, feature in (spec.features or {}).items() if feature.type in files.NAMES)


def _row(event: Mapping[str, Any]) -> Row:
    time = event.get("at")
    return Row(event["features"], event["label"], event.get("key"), None if time is None else files.moment("at", time))


def count_of(data: str) -> int | None:
    """How many rows there are; ``None`` where that cannot be told: reading them will say why."""
    if data in _DATA_SETS:
        return int(_DATA_SETS[data]().n_samples)
    try:
        return _count(Path(data))
    except (OSError, ValueError, csv.Error):
        return None


def _count(path: Path) -> int | None:
    """The rows of a file, which costs little beside learning them."""
    match path.suffix.lower():
        case ".parquet":
            return int(parquet.read_metadata(path).num_rows)
        case ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                return max(0, sum(bool(row) for row in csv.reader(file)) - 1)
        case ".jsonl" | ".ndjson":
            with path.open("rb") as file:
                return sum(bool(line.strip()) for line in file)
    return None
