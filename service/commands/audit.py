"""`trimtab audit`: who changed what, and whether the record holds."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from service.commands.keys import key_for
from service.commands.operate import ask
from service.commands.output import finish, table


def show(last: int, before: int | None, data: Path | None, url: str, as_json: bool) -> None:
    """List the last entries."""
    path = f"/v1/audit?last={last}" + ("" if before is None else f"&before={before}")
    result = ask(url, lambda client: client.get(path), key_for(url, data))
    rows = [
        (
            entry["number"],
            datetime.fromtimestamp(entry["at"], UTC).strftime("%Y-%m-%d %H:%M:%S"),
            entry["actor"],
            entry["key"],
            entry["verb"],
            entry["target"],
            entry["reason"],
        )
        for entry in result["audit"]
    ]
    heads = ("number", "at (UTC)", "actor", "key", "verb", "target", "reason")
    finish(result, as_json, lambda out: out.print(table(heads, rows) if rows else "nothing was changed yet"))


def verify(head: str | None, data: Path | None, url: str, as_json: bool) -> int:
    """Check the chain; 1 where it does not hold."""
    path = "/v1/audit/check" + ("" if head is None else f"?head={head}")
    result = ask(url, lambda client: client.get(path), key_for(url, data))
    finish(result, as_json, lambda out: _show(out, result))
    return 0 if result["holds"] else 1


def _show(out: Console, result: Mapping[str, Any]) -> None:
    if result["holds"]:
        out.print(f"the chain holds: {result['entries']} entries, the last seal is {result['head']}")
        out.print("note that seal elsewhere: `trimtab audit verify --head SEAL` says later whether a tail was cut")
    else:
        out.print(f"the chain is broken at entry {result['broken']['number']}: {result['broken']['what']}")
