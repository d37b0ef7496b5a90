"""`trimtab worlds`."""

from rich.console import Console

from envs.dynamics import Field
from envs.worlds import WORLDS, WorldKind
from service.commands.output import UsageError, finish, shown, table


def run(name: str | None, as_json: bool) -> None:
    """List all worlds, or show one."""
    if name is not None and name not in WORLDS:
        raise UsageError(f"there is no world {name!r}; there are: {', '.join(WORLDS)}")
    chosen = list(WORLDS.values()) if name is None else [WORLDS[name]]
    finish({"worlds": [_described(kind) for kind in chosen]}, as_json, lambda out: _show(out, chosen))


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
    return {"id": kind.id, "doc": kind.doc, "timing": kind.timing, "source": kind.source, "parameters": parameters}


def _show(out: Console, kinds: list[WorldKind]) -> None:
    for kind in kinds:
        out.print(kind.id, style="bold")
        out.print(f"  {kind.doc}")
        if len(kinds) == 1:
            out.print(f"  {kind.timing}\n  Source: {kind.source}")
        rows = (
            (f"  {field.name}", field.unit, _range(field), _default(kind, field), field.doc)
            for field in kind.parameters
        )
        out.print(table(("  parameter", "unit", "range", "default", ""), rows))
        out.print()


def _range(field: Field) -> str:
    return f"{field.low:g} to {field.high:g}"


def _default(kind: WorldKind, field: Field) -> str:
    value = kind.defaults.get(field.name)
    return "derived" if value is None else shown(value)
