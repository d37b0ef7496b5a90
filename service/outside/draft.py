"""A first declaration of a model, read off a file: what each column is, which task its label asks for, a pipeline.

It is a draft for a person to read and change: every guess stands beside what it was made from.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

CLASSES = 20
"""Integers are classes up to so many different ones, and numbers to be predicted beyond."""

CATEGORIES = 64
"""Different words that a column of categories may have; beyond, they are hashed."""

LISTED = 5
_WORDY = 3.0
_UNIQUE = 0.95
_MOSTLY = 0.9
_WRITTEN: Mapping[re.Pattern[str], str] = {
    re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?:[ T][\d:.]+)?"): "times? write them as 2026-01-31",
    re.compile(r"\D{0,4}\d[\d.,]*\D{0,3}"): "numbers? write them plain, as 1234.5",
}
_YES_NO = frozenset({"yes", "no", "y", "n", "ja", "nein", "t", "f"})
_NAMED_ID = re.compile(r"(?:^|[_\W])id$|Id$|^index$|^$")


class DraftError(ValueError):
    """Nothing can be declared from these rows; the message says why."""


@dataclass(frozen=True)
class Column:
    """One column of a file: the declaration as TOML (``None``: it is left out), and why."""

    name: str
    declared: str | None
    seen: str


@dataclass(frozen=True)
class Draft:
    """What would be declared: the label's task, the pipelines, and each column."""

    model: str
    label: str
    task: str
    reason: str
    columns: Sequence[Column]
    at: str | None = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """The columns that are no features, for ``--drop``."""
        return tuple(column.name for column in self.columns if column.declared is None and column.name != self.at)

    @property
    def toml(self) -> str:
        """The manifest, with what every line was guessed from."""
        pipeline, rival = _PIPELINES[self.task]
        kept = [column for column in self.columns if column.declared is not None]
        others = [column for column in self.columns if column.declared is None]
        width = max((len(_key(column.name)) for column in kept), default=0)
        lines = [
            f"[models.{_key(self.model)}]",
            f"# the label {self.label!r} has {self.reason}",
            f'task = "{self.task}"',
            f"pipeline = {pipeline}",
            "# a rival that learns beside it and is judged by an announced test: docs/learning.md",
            f"challengers = {{{rival}}}",
            "",
            f"[models.{_key(self.model)}.features]",
            *(f"{_key(column.name).ljust(width)} = {column.declared}  # {column.seen}" for column in kept),
            *(f"# {_key(column.name)} is left out: {column.seen}" for column in others),
        ]
        return "\n".join(lines) + "\n"


_SCALE = '{use = "preprocessing.StandardScaler"}'
_LINEAR = '{use = "preprocessing.TargetStandardScaler", regressor = {use = "linear_model.LinearRegression"}}'
_PIPELINES: Mapping[str, tuple[str, str]] = {
    "binary": (
        f'[{_SCALE}, {{use = "linear_model.LogisticRegression"}}]',
        'tree = {pipeline = [{use = "tree.HoeffdingTreeClassifier"}]}',
    ),
    "multiclass": (
        f'[{_SCALE}, {{use = "linear_model.SoftmaxRegression"}}]',
        'tree = {pipeline = [{use = "tree.HoeffdingTreeClassifier"}]}',
    ),
    "regression": (
        f"[{_SCALE}, {_LINEAR}]",
        'tree = {pipeline = [{use = "tree.HoeffdingTreeRegressor"}]}',
    ),
}


def draft(
    model: str, label: str, rows: Sequence[Mapping[str, Any]], drop: Sequence[str] = (), at: str | None = None
) -> Draft:
    """What these rows ask for.

    Args:
        rows: Rows as `service.outside.rows` reads them: a blank cell is ``None``.
        drop: Columns that are no features, whatever is in them.
        at: The column that holds the time of each row, which is no feature either.

    Raises:
        DraftError: There are no rows, no such columns, or no label to learn.

    >>> found = draft("churn", "left", [{"age": 31, "left": True}, {"age": 44, "left": False}])
    >>> found.task, [column.declared for column in found.columns]
    ('binary', ['{type = "number"}'])
    """
    if not rows:
        raise DraftError("there are no rows")
    for name in (label, *drop, *([at] if at else ())):
        if name not in rows[0]:
            raise DraftError(f"there is no column {name!r}; there are: {', '.join(rows[0])}")
    task, reason = _task([row[label] for row in rows if row.get(label) is not None])
    labels = [row.get(label) for row in rows]
    columns = [
        Column(name, None, "the time of each row" if name == at else "as asked for")
        if name == at or name in drop
        else _suspected(_column(name, [row.get(name) for row in rows]), [row.get(name) for row in rows], labels)
        for name in rows[0]
        if name != label
    ]
    if all(column.declared is None for column in columns):
        raise DraftError("no column but the label tells anything: every other is constant, or another in each row")
    return Draft(model, label, task, reason, columns, at)


def _task(labels: Sequence[Any]) -> tuple[str, str]:
    different = set(labels)
    if len(different) < 2:
        raise DraftError(f"the label is {', '.join(map(repr, different)) or 'missing'} in all rows: nothing to learn")
    shown = _listed(different)
    if different <= {True, False}:
        return "binary", f"two values: {shown}"
    if any(isinstance(label, str) for label in different):
        if len(different) > max(CLASSES, len(labels) // 10):
            raise DraftError(f"the label has {len(different):,} different texts in {len(labels):,} rows: {shown}")
        advice = "; written true and false it makes a binary model" if _is_yes_or_no(different) else ""
        return "multiclass", f"{len(different)} classes: {shown}{advice}"
    if len(different) <= CLASSES and all(isinstance(label, int) for label in different):
        return "multiclass", f"{len(different)} whole numbers, taken for classes: {shown}"
    return "regression", f"numbers from {min(labels):g} to {max(labels):g}"


def _is_yes_or_no(different: set[Any]) -> bool:
    return len(different) == 2 and {str(one).lower() for one in different} <= _YES_NO


def _column(name: str, cells: Sequence[Any]) -> Column:
    values = [cell for cell in cells if cell is not None]
    blank = 1.0 - len(values) / len(cells)
    different = set(values)
    if len(different) < 2:
        return Column(name, None, f"always {_listed(different)}" if different else "always blank")
    share = f", {max(blank, 0.001):.1%} blank" if blank else ""
    numbers = [value for value in values if _is_number(value)]
    if _MOSTLY * len(values) <= len(numbers) < len(values):
        return _spoilt(name, values, numbers, share)
    kind = next(kind for holds, kind in _KINDS if all(holds(value) for value in values))
    return kind(name, values, different, share)


def _suspected(column: Column, cells: Sequence[Any], labels: Sequence[Any]) -> Column:
    """The column with a warning, where its blank cells nearly tell the label."""
    known = {label for label in labels if label is not None}
    if column.declared is None or len(known) > CLASSES or None not in cells:
        return column
    blanks = [[cell is None for cell, other in zip(cells, labels, strict=True) if other == label] for label in known]
    shares = [sum(blank) / len(blank) for blank in blanks]
    if max(shares) - min(shares) < _MOSTLY:
        return column
    return replace(column, seen=f"{column.seen}; blank or not as the label is: known only after it? then --drop it")


def _spoilt(name: str, values: Sequence[Any], numbers: Sequence[Any], blank: str) -> Column:
    others = [value for value in values if not _is_number(value)]
    found = _number(name, numbers, set(numbers), blank)
    told = f"{len(others) / len(values):.1%} are none ({_listed(set(others))}): these rows are set aside, so blank them"
    return Column(name, found.declared, f"{found.seen}; {told}")


def _number(name: str, values: Sequence[Any], different: set[Any], blank: str) -> Column:
    whole = all(isinstance(value, int) for value in values)
    if whole and len(different) == len(values) and (_NAMED_ID.search(name) or _counts(values)):
        return Column(name, None, "another number in each row")
    filled = ', impute = "median", default = 0' if blank else ""
    return Column(name, f'{{type = "number"{filled}}}', f"{min(values):g} to {max(values):g}{blank}")


def _counts(values: Sequence[int]) -> bool:
    return values[-1] - values[0] == len(values) - 1 and list(values) == sorted(values)


def _boolean(name: str, values: Sequence[Any], different: set[Any], blank: str) -> Column:  # noqa: ARG001
    filled = ", default = false" if blank else ""
    return Column(name, f'{{type = "boolean"{filled}}}', f"true in {sum(values) / len(values):.0%}{blank}")


def _timestamp(name: str, values: Sequence[Any], different: set[Any], blank: str) -> Column:  # noqa: ARG001
    optional = ", required = false" if blank else ""
    return Column(name, f'{{type = "timestamp"{optional}}}', f"{values[0]} ..{blank}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(name: str, values: Sequence[Any], different: set[Any], blank: str) -> Column:
    words = [str(value) for value in values]
    filled = ', default = "missing"' if blank else ""
    if sum(len(word.split()) for word in words) / len(words) > _WORDY:
        return Column(name, f'{{type = "text", encode = "tfidf"{filled}}}', f"texts{blank}")
    if len(different) > max(LISTED, _UNIQUE * len(values)):
        return Column(name, None, "another text in each row")
    encoded = "" if len(different) <= CATEGORIES else ', encode = "hash"'
    told = f"{len(different)} kinds: {_listed(different)}{blank}{_advice(words)}"
    return Column(name, f'{{type = "category"{encoded}{filled}}}', told)


def _advice(words: Sequence[str]) -> str:
    """What a person would write otherwise, where most words only look unlike a number or a time."""
    for written, advice in _WRITTEN.items():
        if sum(bool(written.fullmatch(word)) for word in words) >= _MOSTLY * len(words):
            return f"; {advice}"
    return ""


def _is_moment(value: Any) -> bool:
    if isinstance(value, datetime):
        return True
    try:
        return isinstance(value, str) and "-" in value and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


_KINDS: Sequence[tuple[Callable[[Any], bool], Callable[[str, Sequence[Any], set[Any], str], Column]]] = (
    (lambda value: isinstance(value, bool), _boolean),
    (_is_number, _number),
    (_is_moment, _timestamp),
    (lambda _: True, _text),
)


def _listed(different: set[Any]) -> str:
    shown = sorted(map(_shown, different))
    return ", ".join(shown[:LISTED]) + (", .." if len(shown) > LISTED else "")


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())
    return text if len(text) <= 20 else f"{text[:19]}…"


def _key(name: str) -> str:
    """A name as a key of TOML."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return json.dumps(name, ensure_ascii=False)
