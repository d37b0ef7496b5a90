"""Rows of a recipe as cases: checked against the features that its model declares, the dirty ones set aside."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from online.events import Scalar
from online.features import Feature, FeatureError, Schema
from online.specs import ModelSpec

Cells = Mapping[str, Any]
"""A row as it was read: cells by column."""

_SHOWN = 5
_MOST_REFUSED = 0.5
_APART = 365 * 86_400.0
"""Seconds without a row between times that belong together, at most: a date of 1970 is a mistake, not a history."""

_TEXTS = ("text", "category")
_TIME = Feature("at", "timestamp", required=True)


class DirtyError(ValueError):
    """Rows that cannot be used; the message says which, what was given and what is allowed."""


def shown(cell: object) -> str:
    """A cell as a message has it."""
    return "blank" if cell is None else repr(cell)


@dataclass(frozen=True)
class Label:
    """The column that holds the label.

    Args:
        meaning: what each cell means, by its text in lower case; `None` for a number.
    """

    column: str
    meaning: Mapping[str, Scalar] | None = None

    def read(self, cell: object) -> Scalar:
        """The label in a cell. Raises `DirtyError`."""
        if self.meaning is None:
            return amount(self.column, cell)
        text = "" if cell is None else str(cell).strip().lower()
        if text not in self.meaning:
            raise DirtyError(f"the label {self.column!r} is {shown(cell)}; allowed is one of {', '.join(self.meaning)}")
        return self.meaning[text]


YES_NO: Mapping[str, Scalar] = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
"""Labels that say whether something happened."""


@dataclass(frozen=True)
class Sheet:
    """What the rows of a recipe look like.

    Args:
        beside: columns that are kept where they are there, and hidden from the model; `False` for one that may be
            missing.
        prepare: makes columns of others, row by row; raises `DirtyError` for cells that it cannot take.
        derived: features that `prepare` makes, and that no file has.
        least: how many rows must be left.
        time: the column beside that holds the time; rows of which it is far from most are set aside.
    """

    label: Label
    beside: Mapping[str, bool]
    prepare: Callable[[Cells], Cells] = dict
    derived: Sequence[str] = ()
    least: int = 200
    time: str = ""


@dataclass(frozen=True)
class Case:
    """One row: the features that the model takes, the label, and columns that it must not see."""

    features: Mapping[str, Scalar]
    label: Scalar
    beside: Cells


@dataclass(frozen=True)
class Cases:
    """The cases that were taken, in order; how many rows were set aside, and why the first of them were."""

    taken: Sequence[Case]
    refused: int = 0
    reasons: Sequence[str] = ()
    unused: Sequence[str] = ()

    def told(self, name: str) -> str:
        """In words."""
        told = f"{len(self.taken):,} rows of {name}"
        if self.refused:
            told += f"; {self.refused:,} were set aside, the first: {'; '.join(self.reasons)}"
        if self.unused:
            told += f"; columns that nobody uses: {', '.join(self.unused)}"
        return told


def cases(rows: Iterable[Cells], name: str, spec: ModelSpec, sheet: Sheet) -> Cases:
    """Rows as cases of a model; `name` is what they are, for messages.

    Raises:
        DirtyError: a column is missing, most rows are dirty, too few are left, or all have the same label.
    """
    features = {known: one for known, one in (spec.features or {}).items() if one.past is None}
    schema = Schema(spec.features)
    taken: list[Case] = []
    lines: list[int] = []
    refused = 0
    reasons: list[str] = []
    unused: tuple[str, ...] = ()
    for line, row in enumerate(rows, 1):
        if line == 1:
            unused = _columns(row, name, features, sheet)
        try:
            taken.append(_case(sheet.prepare(row), features, schema, sheet))
            lines.append(line)
        except (FeatureError, DirtyError) as error:
            refused += 1
            if len(reasons) < _SHOWN:
                reasons.append(f"row {line}: {error}")
    if sheet.time and taken:
        taken, away = _near(taken, lines, sheet.time)
        refused, reasons = refused + len(away), [*reasons, *away][:_SHOWN]
    require_enough(name, len(taken), refused, reasons, sheet.least)
    if sheet.label.meaning is not None and len({case.label for case in taken}) < 2:
        raise DirtyError(f"all rows of {name} have the label {taken[0].label!r}: there is nothing to tell apart")
    return Cases(taken, refused, reasons, unused)


def together(times: Sequence[float]) -> list[bool]:
    """Which times belong to the largest part without a gap of a year.

    >>> together([1.7e9, 0.0, 1.7e9 + 5])
    [True, False, True]
    """
    found = np.asarray(times, float)
    order = np.argsort(found, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(found[order]) > _APART) + 1)
    near = np.zeros(len(found), bool)
    near[max(parts, key=len)] = True
    return [bool(one) for one in near]


def _near(taken: Sequence[Case], lines: Sequence[int], column: str) -> tuple[list[Case], list[str]]:
    """The cases whose time is near most others, and what is said of each of the rest."""
    near = together([case.beside[column] for case in taken])
    told = "is more than a year from the rows of most"
    return (
        [case for case, one in zip(taken, near, strict=True) if one],
        [f"row {line}: the time {column!r} {told}" for line, one in zip(lines, near, strict=True) if not one],
    )


def require_enough(name: str, taken: int, refused: int, reasons: Sequence[str], least: int) -> None:
    """Refuse rows of which too few, or too small a share, can be used. Raises `DirtyError`."""
    rows = taken + refused
    if rows == 0:
        raise DirtyError(f"{name} has no rows")
    if refused > _MOST_REFUSED * rows:
        raise DirtyError(f"{refused:,} of {rows:,} rows of {name} cannot be used, the first: {'; '.join(reasons)}")
    if taken < least:
        told = f"; set aside, the first: {'; '.join(reasons)}" if reasons else ""
        raise DirtyError(f"{name} has {taken:,} rows that can be used: give {least:,} at least{told}")


def require_columns(row: Cells, name: str, needed: Iterable[str]) -> None:
    """Refuse a file without these columns. Raises `DirtyError`."""
    missing = [column for column in needed if column not in row]
    if missing:
        listed = ", ".join(map(repr, missing))
        raise DirtyError(f"{name} has no column {listed}; it has: {', '.join(map(str, row))}")


def amount(column: str, cell: object, low: float = float("-inf"), high: float = float("inf")) -> float:
    """A number in a cell, between two bounds. Raises `DirtyError`."""
    if isinstance(cell, int | float) and not isinstance(cell, bool) and low <= cell <= high:
        return float(cell)
    least = "" if low == float("-inf") else f" from {low:g}"
    most = "" if high == float("inf") else f" up to {high:g}"
    raise DirtyError(f"the column {column!r} is {shown(cell)}; allowed is a finite number{least}{most}")


def moment(column: str, cell: object) -> float:
    """A time in a cell, in seconds since 1970. Raises `DirtyError`.

    >>> moment("at", "1970-01-01T01:00:00Z"), moment("at", 5)
    (3600.0, 5.0)
    """
    try:
        return float(_TIME.check(cell))  # type: ignore[arg-type]
    except FeatureError:
        raise DirtyError(f"the column {column!r} is {shown(cell)}; allowed is {_TIME.allowed}") from None


def _columns(row: Cells, name: str, features: Mapping[str, Feature], sheet: Sheet) -> tuple[str, ...]:
    """The columns that nobody uses. Raises `DirtyError` where one is missing that must be there."""
    needed = [known for known, one in features.items() if known not in sheet.derived and _must_be_there(one)]
    beside = [column for column, must in sheet.beside.items() if must]
    require_columns(row, name, [*needed, *beside, sheet.label.column])
    return tuple(column for column in row if column not in {*features, *sheet.beside, sheet.label.column})


def _must_be_there(feature: Feature) -> bool:
    return feature.required and feature.default is None and not feature.impute


def _case(row: Cells, features: Mapping[str, Feature], schema: Schema, sheet: Sheet) -> Case:
    given = {column: _as_declared(one, row[column]) for column, one in features.items() if column in row}
    schema.check(dict(given))
    hidden = {column: row[column] for column in sheet.beside if column in row}
    return Case(given, sheet.label.read(row.get(sheet.label.column)), hidden)


def _as_declared(feature: Feature, cell: Any) -> Scalar:
    """A cell of a file may look like a number where the column holds names; what is no number stays what it is."""
    return str(cell) if feature.type in _TEXTS and isinstance(cell, int | float) else cell
