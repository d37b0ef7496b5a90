"""`trimtab recipe`: an application from real data to a running service, played from beginning to end."""

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from service.commands import up
from service.commands.output import CommandError, UsageError, console, finish, table
from service.manifest import ManifestError
from service.outside.rows import RowError

REPORT = "report.html"


def run(
    name: str | None,
    into: Path | None,
    out: Path | None,
    data: Path | None,
    seed: int,
    serve: bool,
    port: int | None,
    as_json: bool,
) -> int:
    """List the recipes, copy one, or play one."""
    # The recipes stand above the service: it finds them by name, and imports none.
    catalogue = _extra("recipes.catalogue")
    if name is None:
        listed = {known: recipe.title for known, recipe in catalogue.recipes().items()}
        finish({"recipes": listed}, as_json, lambda at: at.print(table(("recipe", "what it is"), list(listed.items()))))
        return 0
    try:
        recipe = catalogue.find(name)
    except LookupError as error:
        raise UsageError(str(error)) from None
    if into is not None:
        _copy(recipe, into)
        finish({"recipe": recipe.name, "into": str(into)}, as_json, lambda at: at.print(_copied(into)))
        return 0
    folder = _folder(recipe, out)
    played = _played(recipe, folder, data, seed)
    (folder / REPORT).write_text(_extra("recipes.pages").render(played, recipe.title), encoding="utf-8")
    result = _result(played, folder)
    finish(result, as_json, lambda at: _show(at, result))
    if not serve:
        return 0
    manifest, home = folder / "trimtab.toml", folder / ".trimtab"
    return up.run(manifest, home, False, port, (None, None), True, played.guests)


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise CommandError(f"recipes need more packages ({error}): pip install 'trimtab[recipes]'") from None


def _copy(recipe: Any, into: Path) -> None:
    try:
        recipe.copy(into)
    except OSError as error:
        raise UsageError(str(error)) from None


def _copied(into: Path) -> str:
    return f"copied; change what you like, then: trimtab recipe {into if into.is_absolute() else Path() / into}"


def _folder(recipe: Any, out: Path | None) -> Path:
    """Where the results go: its own folder for a copy, else one of its name here, with the manifest."""
    home = Path(recipe.folder)
    folder = out or (Path(recipe.name) if recipe.shipped else home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if recipe.shipped or folder.resolve() != home.resolve():
            shutil.copyfile(home / "trimtab.toml", folder / "trimtab.toml")
    except OSError as error:
        raise UsageError(f"results cannot be written to {folder} ({error}): name another folder with --out") from None
    return folder


def _played(recipe: Any, folder: Path, data: Path | None, seed: int) -> Any:
    terminal = console()
    dirty = _extra("recipes.rows").DirtyError
    playing = _extra("recipes.playing").Run(recipe.name, folder, terminal.print, data, seed)
    try:
        recipe.play(playing)
        playing.finish()
    except (dirty, RowError, ManifestError) as error:
        raise UsageError(str(error)) from None
    except ImportError as error:
        raise CommandError(f"this recipe needs more packages ({error}): pip install 'trimtab[recipes]'") from None
    return playing


def _result(played: Any, folder: Path) -> dict[str, Any]:
    return {
        "recipe": played.name,
        "data": played.source,
        "seed": played.seed,
        "figures": [
            {"name": one.name, "value": one.value, "baseline": one.baseline, "best": one.best} for one in played.figures
        ],
        "table": played.markdown(),
        "seconds": sum(played.seconds.values()),
        "report": str(folder / REPORT),
        "serve": [
            f"trimtab up --manifest {folder / 'trimtab.toml'} --data {folder / '.trimtab'}",
            *("trimtab " + " ".join(arguments[:-2]) for arguments in played.guests.values()),
        ],
    }


def _show(out: Console, result: dict[str, Any]) -> None:
    head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in result["table"].splitlines())
    out.print(table(head, lines, f"{result['recipe']}, {result['seconds']:.0f} s of one core"))
    out.print(f"the report is {result['report']}; to serve it, the same line with --serve, or by hand:")
    for command in result["serve"]:
        out.print(f"  {command}")
