"""`trimtab lineage`: the trainings that were kept in the data folder, and their bundles brought back."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.bundle import Bundle, BundleError, pack
from agents.cards import in_shares
from service.commands import operate
from service.commands.output import CommandError, UsageError, console, finish, gap, shown, table

FOLDER = "lineage"
_DEFAULT = Path(".trimtab")


def keep(bundle: Bundle, data: Path | None) -> str | None:
    """Keep a training in the data folder, if there is one or one was named; the id of its run."""
    folder = data or _DEFAULT
    if data is None and not folder.is_dir():
        return None
    # MLflow takes seconds to load, and most commands do without it.
    from agents.lineage import Lineage, code_state

    run = Lineage(folder / FOLDER).record(bundle, code_state(Path.cwd()))
    console().print(f"kept as run {run}: `trimtab lineage --data {folder}`")
    return run


def run(run: str | None, data: Path | None, out: Path | None, register: str | None, url: str, as_json: bool) -> None:
    """List the runs, or write the bundle of one, and register it where asked to."""
    from agents.lineage import Lineage

    folder = (data or _DEFAULT) / FOLDER
    if not folder.is_dir():
        raise CommandError(f"no training was kept in {folder}: `trimtab train --data DIR` keeps one")
    if run is None:
        if out is not None or register is not None:
            raise UsageError("--out and --register take the bundle of a run: name the run")
        result = {"folder": str(folder), "runs": [_plain(asdict(one)) for one in Lineage(folder).runs()]}
        return finish(result, as_json, lambda terminal: _show(terminal, result))
    try:
        bundle = Lineage(folder).restore(_whole(run, [one.id for one in Lineage(folder).runs()]))
    except BundleError as error:
        raise CommandError(str(error)) from None
    path = out or Path(f"{bundle.card.world.replace('/', '-')}-{bundle.digest[:12]}.trimtab")
    content = pack(bundle.card, bundle.onnx, bundle.weights)
    path.write_bytes(content)
    if register is not None:
        operate.register(register, content, url)
    brought = {"run": run, "bundle": str(path), "digest": bundle.digest, "registered": register}
    return finish(
        brought, as_json, lambda terminal: terminal.print(f"{path}: bundle {bundle.digest[:12]} of run {run}")
    )


def _whole(beginning: str, known: list[str]) -> str:
    found = [one for one in known if one.startswith(beginning)]
    if len(found) != 1:
        few = ", ".join(one[:8] for one in known[:8]) or "none"
        raise UsageError(f"{beginning!r} is the beginning of {len(found)} runs; there are: {few}")
    return found[0]


def _plain(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "metrics": in_shares(one["metrics"])}


def _show(out: Console, result: Mapping[str, Any]) -> None:
    rows = [
        (
            one["id"][:8],
            datetime.fromtimestamp(one["at"], UTC).strftime("%Y-%m-%d %H:%M"),
            one["world"],
            one["algo"],
            one["digest"][:12],
            shown(one["metrics"].get("value")),
            gap(one["metrics"].get("gap_share")),
            one["code"][:12] + ("+" if one["code"].endswith("+") else ""),
        )
        for one in result["runs"]
    ]
    out.print(table(("run", "at (UTC)", "world", "algo", "bundle", "value", "gap", "code"), rows))
