"""Rows from outside: files (CSV, JSON lines, Parquet) and the data sets that River ships, one dict at a time."""

import csv
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as parquet  # type: ignore[import-untyped]

NAMES = frozenset({"category", "text"})
"""Types of features whose cells are names, whatever they look like."""

EVENT_FIELDS = frozenset({"id", "key", "at", "features", "label"})
_BLANK = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL"})


class RowError(ValueError):
    """The rows cannot be read; the message names the file, the line and what is allowed."""


def read(path: Path, texts: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a file, by its ending.

    Args:
        texts: Columns that hold names, such as a postal code: their cells stay as written, digits or not.

    Raises:
        RowError: it is not there, of no known kind, or broken at a line that is named.
    """
    if not path.is_file():
        raise RowError(f"there is no file {path}")
    match path.suffix.lower():
        case ".csv":
            return _csv(path, texts)
        case ".jsonl" | ".ndjson":
            return _named(_json_lines(path), texts)
        case ".parquet":
            return _named(_parquet(path), texts)
        case other:
            raise RowError(f"{path} ends in {other!r}: .csv, .jsonl, .ndjson and .parquet can be read")


def lines(source: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The rows of JSON lines; empty lines are skipped."""
    for number, line in enumerate(source, 1):
        if line.strip():
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise RowError(f"line {number} is no JSON object: {error}") from None


def names(given: str) -> tuple[str, ...]:
    """Names of columns as a command takes them.

    >>> names('id, name,"total, EUR"')
    ('id', 'name', 'total, EUR')
    """
    listed = next(csv.reader([given], skipinitialspace=True), [])
    return tuple(name.strip() for name in listed if name.strip())


def listed(columns: Iterable[str]) -> str:
    """The text that `names` reads.

    >>> listed(("id", "total, EUR"))
    'id,"total, EUR"'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(columns)
    return text.getvalue()


def event(
    row: Mapping[str, Any],
    label: str | None,
    key: str | None = None,
    at: str | None = None,
    drop: Sequence[str] = (),
) -> dict[str, Any]:
    """A row as an event: itself where it is one already, else its columns as features and one of them as the label.

    Args:
        label: Column of the label; without one a row that is an event is taken as it stands.
        key: Column of the key, in text.
        at: Column of the time, in seconds since 1970.
        drop: Columns that are left out.

    Raises:
        RowError: The row lacks one of these columns, or its time is none.

    >>> event({"price": 2.5, "sold": 1}, "sold")
    {'features': {'price': 2.5}, 'label': 1}
    >>> event({"price": 2.5, "sold": 1, "sku": 7, "day": "2026-01-01"}, "sold", "sku", "day")
    {'features': {'price': 2.5}, 'label': 1, 'key': '7', 'at': 1767225600.0}
    """
    if label is None and isinstance(row.get("features"), Mapping) and row.keys() <= EVENT_FIELDS:
        return dict(row)
    named = (label, key, at, *drop)
    for column in named:
        if column is not None and column not in row:
            raise RowError(f"a row has no column {column!r}; it has: {', '.join(row)}")
    features = {name: _plain(value) for name, value in row.items() if name not in named}
    found: dict[str, Any] = {"features": features}
    if label is not None:
        found["label"] = row[label]
    if key is not None and row[key] is not None:
        found["key"] = str(row[key])
    if at is not None:
        found["at"] = moment(at, row[at])
    return found


def moment(column: str, given: Any) -> float:
    """A time in seconds since 1970; one without a zone is taken as UTC. Raises `RowError`.

    >>> moment("day", "2026-01-01"), moment("day", 12)
    (1767225600.0, 12)
    """
    if isinstance(given, float | int) and not isinstance(given, bool):
        return given
    try:
        time = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise RowError(f"{given!r} in column {column!r} is no time: give seconds since 1970 or ISO 8601") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _plain(value: Any) -> Any:
    """A date is what data has, and no feature that a model takes: it becomes seconds."""
    return moment("", value) if isinstance(value, datetime) else value


def _csv(path: Path, texts: Collection[str]) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            _require_columns(path, reader.fieldnames or ())
            yield from _cells(path, reader, texts)
        except UnicodeDecodeError:
            raise RowError(f"{path} is not written in UTF-8: save it as CSV in UTF-8") from None
        except csv.Error as error:
            raise RowError(f"{path} line {reader.line_num}: {error}") from None


def _require_columns(path: Path, names: Sequence[str]) -> None:
    """Refuse a first line that names no columns, or one twice. Raises `RowError`."""
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise RowError(f"{path} has one column, {names[0]!r}: save it with commas between the columns")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RowError(f"{path} has more than one column of the name {', '.join(map(repr, twice))}")


def _cells(path: Path, reader: "csv.DictReader[str]", texts: Collection[str]) -> Iterator[dict[str, Any]]:
    for row in reader:
        if None in row or None in row.values():
            raise RowError(f"{path} line {reader.line_num} does not have the columns of the first line")
        yield {name: _text(text) if name in texts else _cell(text) for name, text in row.items()}


def _text(text: str) -> str | None:
    text = text.strip()
    return None if text in _BLANK else text


def _named(rows: Iterator[dict[str, Any]], texts: Collection[str]) -> Iterator[dict[str, Any]]:
    """Rows whose numbers are names in these columns."""
    for row in rows:
        codes = {name: str(row[name]) for name in texts if type(row.get(name)) in (int, float)}
        yield {**row, **codes} if codes else row


def _cell(text: str) -> bool | int | float | str | None:
    """A CSV cell as what it looks like; blanks are missing values.

    >>> [_cell(text) for text in ("3", "2.5", "true", "red", "", "1e999")]
    [3, 2.5, True, 'red', None, '1e999']
    """
    text = text.strip()
    if text in _BLANK:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else text
    return text


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        try:
            yield from lines(file)
        except RowError as error:
            raise RowError(f"{path}: {error}") from None


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    for batch in parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()
