"""`trimtab worlds`."""

import inspect
from textwrap import indent

from rich.console import Console

from envs.dynamics import Field
from envs.worlds import WORLDS, WorldKind
from service.commands.output import UsageError, finish, table


def run(name: str | None, as_json: bool) -> None:
    """List all worlds, or show one."""
    if name is not None and name not in WORLDS:
        raise UsageError(f"there is no world {name!r}; there are: {', '.join(WORLDS)}")
    chosen = list(WORLDS.values()) if name is None else [WORLDS[name]]
    result = {"worlds": [_described(kind) for kind in chosen]}
    finish(result, as_json, lambda out: _show(out, chosen))


def _described(kind: WorldKind) -> dict[str, object]:
    parameters = [
        {
            "name": field.name,
            "unit": field.unit,
            "low": field.low,
            "high": field.high,
            "default": kind.defaults.get(field.name),
            "doc": field.doc,
        }
        for field in kind.parameters
    ]
    return {"id": kind.id, "doc": kind.doc, "parameters": parameters}


def _show(out: Console, kinds: list[WorldKind]) -> None:
    for kind in kinds:
        text = inspect.cleandoc(kind.doc)
        out.print(kind.id, style="bold")
        out.print(indent(text if len(kinds) == 1 else text.split("\n\n")[0], "  "))
        rows = (
            (f"  {field.name}", field.unit, _range(field), kind.defaults.get(field.name), field.doc)
            for field in kind.parameters
        )
        out.print(table(("  parameter", "unit", "range", "default", ""), rows))
        out.print()


def _range(field: Field) -> str:
    return f"{field.low:g} to {field.high:g}"
