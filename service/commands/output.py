"""Where commands speak: results to stdout, one JSON object if asked for, everything else to stderr."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 160


class CommandError(Exception):
    """The command failed; the message says why and what to do."""


class UsageError(CommandError):
    """The command was asked for what cannot be done; the message says what can."""


def console() -> Console:
    """The terminal for progress and remarks."""
    return _plain_console(stderr=True)


def results() -> Console:
    """The terminal for results."""
    return _plain_console(stderr=False)


class _Plain(Console):
    """A terminal that obeys nothing of what it shows."""

    def print(self, *objects: Any, **how: Any) -> None:
        """Prints; of text, line by line, only what can be seen."""
        super().print(*(_lines(one) if isinstance(one, str) else one for one in objects), **how)


def visible(text: str) -> str:
    """Text of others, on one line, whose control characters are spelled out: a terminal would obey them.

    >>> print(visible("ana\\x1b[2J\\nforged"))
    ana\\x1b[2J\\nforged
    """
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _lines(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))


def _plain_console(stderr: bool) -> Console:
    # What is printed is other people's text: no markup, no emoji. A pipe has no width of its own.
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return _Plain(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def finish(result: Mapping[str, Any], as_json: bool, show: Callable[[Console], None]) -> None:
    """Write a result: as one JSON object, or as `show` presents it to a person."""
    if as_json:
        print_json(result)
    else:
        show(results())


def print_json(result: Mapping[str, Any]) -> None:
    """One JSON object on stdout; what JSON cannot say (NaN, infinity) becomes null."""
    text = msgspec.json.format(msgspec.json.encode(_plain(result), enc_hook=_encode), indent=2).decode()
    results().out(text, highlight=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _encode(value: Any) -> Any:
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> Table:
    """A table for people."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column)
    for row in rows:
        made.add_row(*(Text(visible(cell if isinstance(cell, str) else shown(cell))) for cell in row))
    return made


def shown(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def percent(share: float | None) -> str:
    """A share in percent."""
    return "–" if share is None else f"{share:.1%}"


def gap(share: float | None) -> str:
    """What is missing to the best, in percent: small differences count."""
    return "–" if share is None else f"{share:.2%}"
