"""`trimtab ingest`: the rows of a file, as events, through the public API."""

import asyncio
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from service.commands.output import CommandError, UsageError, console, finish
from service.outside import rows
from service.outside.client import Client, ServiceError, Stop
from service.outside.rows import RowError

_BATCH = 1000
_PATIENCE_S = 60.0
_SHOWN = 5


def run(
    model: str, source: str, label: str | None, key: str | None, at: str | None, drop: str, url: str, as_json: bool
) -> int:
    """Send every row; a line that the service refuses is named and does not stop the others."""
    if source != "-" and not Path(source).is_file():
        # Said before the service is waited for.
        raise UsageError(f"there is no file {source}")
    try:
        made = partial(_events, source, label, key, at, rows.names(drop))
        result = asyncio.run(_send(model, made, url.rstrip("/")))
    except RowError as error:
        raise UsageError(str(error)) from None
    except ServiceError as error:
        raise (UsageError if error.unknown else CommandError)(str(error)) from None
    finish(result, as_json, lambda out: _show(out, result))
    return 1 if result["rejected"] else 0


def _events(
    source: str, label: str | None, key: str | None, at: str | None, drop: Sequence[str], texts: Collection[str]
) -> Iterator[Mapping[str, Any]]:
    # One id per row and run: a batch that is repeated because its answer was lost counts once.
    run = uuid.uuid4().hex[:12]
    given = rows.lines(sys.stdin.buffer) if source == "-" else rows.read(Path(source), texts)
    for number, row in enumerate(given):
        yield {"id": f"{run}-{number}", **rows.event(row, label, key, at, drop)}


async def _send(model: str, made: Callable[[Collection[str]], Iterator[Mapping[str, Any]]], url: str) -> dict[str, Any]:
    client = Client(url, _PATIENCE_S, Stop())
    sent, accepted, rejected = 0, 0, []
    terminal = console()
    try:
        declared = (await client.get(f"/v1/models/{model}"))["spec"].get("features") or {}
        events = made({name for name, feature in declared.items() if feature.get("type") in rows.NAMES})
        while batch := list(islice(events, _BATCH)):
            answer = await client.post_lines(f"/v1/models/{model}/events", batch)
            accepted += answer["accepted"]
            rejected += [{**line, "line": sent + line["line"]} for line in answer.get("rejected", [])]
            sent += len(batch)
            terminal.print(f"{sent:,} rows sent")
    finally:
        await client.close()
    return {"model": model, "rows": sent, "accepted": accepted, "rejected": rejected}


def _show(out: Console, result: Mapping[str, Any]) -> None:
    out.print(f"{result['accepted']:,} of {result['rows']:,} rows accepted by {result['model']}")
    for line in result["rejected"][:_SHOWN]:
        out.print(f"  row {line['line']}: {line['reason']}")
    if len(result["rejected"]) > _SHOWN:
        out.print(f"  and {len(result['rejected']) - _SHOWN} more")
