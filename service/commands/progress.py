"""How far a back-test is: a bar for people, and a checkpoint from which an interrupted one goes on."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from online.events import digest
from service.commands.output import console

FOLDER = Path(".trimtab") / "backtests"

_EVERY = 2.0
"""Seconds between lines of progress, and between checkpoints at least."""

_SHARE = 20.0
"""Checkpoints take at most one part in so many of the time."""


@contextmanager
def counted(total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Counts rows aloud: with a bar where there is a terminal, with a line now and then where there is none.

    ``total`` are the rows there are, where that is known.
    """
    terminal = console()
    if terminal.is_terminal:
        ends = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        columns = ends if total else (TextColumn("{task.completed:,} rows"), TimeElapsedColumn())
        with Progress(*columns, console=terminal, transient=True) as bar:
            task = bar.add_task("rows", total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    told, of = monotonic(), f" of {total:,}" if total else ""

    def tell(done: int) -> None:
        nonlocal told
        if monotonic() - told >= _EVERY:
            told = monotonic()
            terminal.print(f"{done:,}{of} rows")

    yield tell


class Checkpoints:
    """The checkpoint of one back-test: of one model, with these options, over this very data.

    It lies in a folder of the working directory and is renamed into place, so that a kill leaves the one before. Within
    ``with``, an interrupt leaves it too; any other end forgets it. It is a pickle, as snapshots are: resume in folders
    of your own alone.
    """

    def __init__(self, model: str, facts: Mapping[str, Any], folder: Path = FOLDER) -> None:
        self.path = folder / f"{model}-{digest(dict(facts)).hex()[:16]}.checkpoint"
        self._due = monotonic() + _EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self.path.unlink(missing_ok=True)

    def load(self) -> bytes | None:
        """The last one written, ``None`` where there is none."""
        return self.path.read_bytes() if self.path.is_file() else None

    def keep(self, make: Callable[[], bytes | None]) -> None:
        """Write another where it is time for one; where none can be written, that is said, and the run goes on."""
        begun = monotonic()
        if begun < self._due:
            return
        data = make()
        try:
            if data is not None:
                self._write(data)
        except OSError as error:
            console().print(f"no checkpoint can be kept, this run cannot be resumed: {error}")
            self._due = math.inf
        else:
            self._due = monotonic() + max(_EVERY, _SHARE * (monotonic() - begun))

    def _write(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(f".{os.getpid()}")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)
