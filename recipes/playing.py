"""The run of a recipe: its stages, what it says on the way, and the figures that it ends with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import process_time
from typing import TypeAlias

import msgspec

from agents.figures import Figure as Drawing
from agents.scales import number
from recipes.rows import Case, Cells, Sheet, cases
from service import manifest as declarations
from service.manifest import Manifest
from service.outside import rows as files

STAGES = (
    "collect and prepare",
    "features",
    "choose",
    "train and validate",
    "evaluate and test",
    "deploy",
    "monitor and maintain",
)
"""The seven steps of developing a model, in order; every recipe goes through all of them."""

HEAD = ("figure", "value", "baseline", "best possible")

FED = 5_000
"""Rows that a service is fed when it starts, at most."""

Beside: TypeAlias = tuple[str, float]
"""Somebody else's value of a figure: who, and the value."""


@dataclass(frozen=True)
class Figure:
    """One figure of a recipe, beside what a simple rule reaches and, where it is known, what nothing can beat."""

    name: str
    value: float
    baseline: Beside | None = None
    best: Beside | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """As a row of a table under `HEAD`."""
        beside = (f"{number(one[1], 3)} ({one[0]})" if one else "" for one in (self.baseline, self.best))
        return (self.name, number(self.value, 3), *beside)


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


Part: TypeAlias = str | Table | Drawing
"""A paragraph, a table or a drawing."""


@dataclass
class Run:
    """One run of a recipe.

    Args:
        name: the recipe's.
        folder: where its `trimtab.toml` lies and all results go.
        tell: says a line to whoever waits.
        data: the user's own file, in place of the recipe's data.
        seed: of all chance.
        guests: commands that are played against the service when it starts, by name.
    """

    name: str
    folder: Path
    tell: Callable[[str], None]
    data: Path | None = None
    seed: int = 0
    figures: list[Figure] = field(default_factory=list)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    guests: dict[str, list[str]] = field(default_factory=dict)
    _new_figures: list[Figure] = field(default_factory=list)
    _since: float = field(default_factory=process_time)

    @cached_property
    def manifest(self) -> Manifest:
        """What the recipe declares. Raises `ManifestError`."""
        return declarations.load(self.folder / "trimtab.toml")

    @property
    def source(self) -> str:
        """What the rows are, for messages."""
        return str(self.data) if self.data else f"the recipe {self.name}"

    def stage(self, name: str) -> None:
        """Begin a stage.

        Raises:
            ValueError: it is not the next one: each has its place, and is played.
        """
        following = STAGES[len(self.parts)]
        if name != following:
            raise ValueError(f"the stage {name!r} of {self.name}: the next one is {following!r}")
        self._clock()
        self.parts[name] = []
        self.tell(f"{len(self.parts)} of {len(STAGES)}: {name}")

    def finish(self) -> None:
        """End the last stage. Raises `ValueError` where one was left out."""
        if len(self.parts) < len(STAGES):
            raise ValueError(f"{self.name} leaves out the stage {STAGES[len(self.parts)]!r}")
        self._clock()

    def _clock(self) -> None:
        now = process_time()
        if self.parts:
            last = next(reversed(self.parts))
            self.seconds[last] = now - self._since
            if not self.parts[last] and self._new_figures:
                self.show(Table(HEAD, [one.cells for one in self._new_figures]))
        self._since, self._new_figures = now, []

    def say(self, text: str) -> None:
        """A paragraph of the report, and a line on the terminal."""
        self.show(text)
        self.tell(f"  {text}")

    def show(self, part: Part) -> None:
        """A part of the report alone."""
        next(reversed(self.parts.values())).append(part)

    def figure(self, name: str, value: float, baseline: Beside | None = None, best: Beside | None = None) -> None:
        """One of the figures that the recipe ends with."""
        self.figures.append(Figure(name, value, baseline, best))
        self._new_figures.append(self.figures[-1])
        beside = ", ".join(f"{who} {number(reached, 3)}" for who, reached in filter(None, (baseline, best)))
        self.tell(f"  {name}: {number(value, 3)}" + (f" ({beside})" if beside else ""))

    def rows(self, made: Callable[[], Iterable[Cells]]) -> Iterable[Cells]:
        """The rows of the user's file where there is one, else those `made`. Raises `RowError`."""
        return files.read(self.data) if self.data else made()

    def cases(self, model: str, made: Callable[[], Iterable[Cells]], sheet: Sheet) -> Sequence[Case]:
        """The recipe's rows as cases of a model; what is dirty is set aside, and said.

        Raises:
            DirtyError: they cannot be used.
            RowError: the file cannot be read.
        """
        found = cases(self.rows(made), self.source, self.manifest.models[model], sheet)
        self.say(found.told(self.source))
        return found.taken

    def serve(self, model: str, cases: Sequence[Case], key: str | None = None) -> None:
        """Write the last cases as events, which the service is fed when it starts; `key` is a column beside."""
        path = self.folder / f"{model}.jsonl"
        events = [{"features": case.features, "label": case.label, **_keyed(case, key)} for case in cases[-FED:]]
        path.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
        self.play_along(model, "ingest", model, str(path))
        self.say(f"the last {len(events):,} rows wait in {path}: the service learns them when it starts")

    def play_along(self, name: str, *arguments: str) -> None:
        """A command of `trimtab` that is run against the service when it has started."""
        self.guests[name] = [*arguments, "--url", "{url}"]

    def markdown(self) -> str:
        """The figures as a table of a README."""
        lines = [HEAD, ("---",) * len(HEAD), *(one.cells for one in self.figures)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _keyed(case: Case, column: str | None) -> dict[str, str]:
    return {} if column is None else {"key": str(case.beside[column])}
