"""`trimtab declare`: a first declaration of a model, read off a file."""

import itertools
import re
import shlex
import tomllib
from pathlib import Path

from rich.console import Console

from service import manifest as declarations
from service.commands.output import UsageError, console, finish
from service.manifest import ManifestError
from service.outside import rows
from service.outside.draft import Draft, DraftError, draft
from service.outside.rows import RowError

ROWS = 10_000
"""So many rows are looked at, from the first."""


def run(data: Path, label: str, name: str | None, at: str | None, drop: str, out: Path | None, as_json: bool) -> None:
    """Write what the file asks for, to be read, changed and played."""
    try:
        given = list(itertools.islice(rows.read(data), ROWS))
        found = draft(name or _named(data), label, given, rows.names(drop), at)
        # What is drafted must hold: a name or a text that the manifest refuses is said here, not later.
        declarations.parse(tomllib.loads(found.toml))
    except (RowError, DraftError) as error:
        raise UsageError(f"{data}: {error}") from None
    except ManifestError as error:
        raise UsageError(f"{data}: {error}; give --name, or leave the column out with --drop") from None
    if out is not None:
        _write(out, found.toml)
    result = {"model": found.model, "task": found.task, "left_out": found.left_out, "toml": found.toml}
    finish(result, as_json, lambda at: at.out(found.toml, end="", highlight=False) if out is None else None)
    _say_what_next(console(), data, found, out or Path("trimtab.toml"))


def _named(data: Path) -> str:
    """A model's name from a file's."""
    return "-".join(re.findall(r"[^\W_]+", data.stem.lower())) or "model"


def _write(out: Path, text: str) -> None:
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{out} is there already: name another file with --out, or add the model by hand") from None
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None


def _say_what_next(at: Console, data: Path, found: Draft, manifest: Path) -> None:
    drop = f" --drop {shlex.quote(rows.listed(found.left_out))}" if found.left_out else ""
    at_column = f" --at {shlex.quote(found.at)}" if found.at else ""
    given = f"{shlex.quote(str(data))} --label {shlex.quote(found.label)}{at_column}{drop}"
    kept = shlex.quote(str(manifest))
    at.print(f"# read it, change what is wrong, keep it as {manifest}; then:")
    at.print(f"#   trimtab backtest {found.model} --manifest {kept} --data {given}")
    at.print(f"#   trimtab up --manifest {kept}")
    at.print(f"#   trimtab ingest {found.model} {given}")
