"""`trimtab report`, `policies`, `promote`, `rollback`, `mode`, `hold`, `release`, `rejects`: the operator's routes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from service.commands.output import CommandError, UsageError, finish, gap, percent, shown, table
from service.console.report import page as drawn_report
from service.outside.client import Client, ServiceError, Stop

_PATIENCE_S = 2.0


def report(point: str, html: Path | None, url: str, as_json: bool) -> None:
    """What each policy of a point was worth; with `html`, drawn on a page too."""
    result = _get(url, f"/v1/decisions/{point}/report")
    if html is not None:
        parts = {
            "system": "/v1/system",
            "point": f"/v1/points/{point}",
            "series": f"/v1/points/{point}/series",
            "beliefs": f"/v1/points/{point}/beliefs",
            "worth": f"/v1/points/{point}/worth",
            "adaptation": f"/v1/points/{point}/adaptation",
            "policies": f"/v1/policies/{point}",
            "releases": f"/v1/policies/{point}/releases",
        }
        html.write_text(drawn_report({"report": result} | {name: _get(url, path) for name, path in parts.items()}))
    finish(result, as_json, lambda out: _show_report(out, result))


def policies(point: str, url: str, as_json: bool) -> None:
    """The bundles of a point, and which of them serves."""
    result = _get(url, f"/v1/policies/{point}")
    finish(result, as_json, lambda out: _show_policies(out, result))


def rejects(model: str, entry: str | None, event: str | None, reason: str, actor: str, url: str, as_json: bool) -> None:
    """What a model's learner has set aside, and why; or bring one of these entries back."""
    if entry is not None:
        mended = {} if event is None else {"event": _table(event)}
        _order(url, f"/v1/models/{model}/rejects/{entry}/replay", mended, reason, actor, as_json)
        return
    if event is not None:
        raise UsageError("--event says what is mended of one entry: name it with --replay ENTRY")
    result = _get(url, f"/v1/models/{model}/rejects")
    rows = [(one["entry"], one["id"], one["field"], one["reason"], _line(one["event"])) for one in result["rejects"]]
    heads = ("entry", "id", "field", "reason", "event")
    words = table(heads, rows) if rows else "nothing was set aside"
    finish(result, as_json, lambda out: out.print(words))


def _line(event: Mapping[str, Any] | None) -> str:
    return shown(None) if event is None else msgspec.json.encode(event).decode()


def _table(text: str) -> dict[str, Any]:
    """An event's fields as JSON, written out or in a file named @FILE."""
    try:
        data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return msgspec.json.decode(data, type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        example = '{"features": {"x": 1.5}, "label": true}'
        raise UsageError(f"--event {text}: {error}; give JSON such as {example}, or @FILE") from None


def promote(point: str, digest: str, reason: str, actor: str, url: str, as_json: bool) -> None:
    """Let a bundle, or one of its bandits, serve a point."""
    _order(url, f"/v1/policies/{point}/promote", {"digest": _named(url, point, digest)}, reason, actor, as_json)


def _named(url: str, point: str, digest: str) -> str:
    """A policy by its whole name; that of a bandit (`bandit:NAME`) is whole already."""
    if digest.startswith("bandit:"):
        return digest
    known = [policy["digest"] for policy in _get(url, f"/v1/policies/{point}")["policies"]]
    chosen = [name for name in known if name.startswith(digest)]
    if len(chosen) != 1:
        few = ", ".join(name[:12] for name in known) or "none"
        raise UsageError(f"{digest!r} is the beginning of {len(chosen)} of the bundles of {point!r}; there are: {few}")
    return str(chosen[0])


def rollback(point: str, reason: str, actor: str, url: str, as_json: bool) -> None:
    """Let serve again what served before."""
    _order(url, f"/v1/policies/{point}/rollback", {}, reason, actor, as_json)


def mode(point: str, mode: str, reason: str, share: float | None, actor: str, url: str, as_json: bool) -> None:
    """Set the mode of a point."""
    order = {"mode": mode} if share is None else {"mode": mode, "share": share}
    _order(url, f"/v1/policies/{point}/mode", order, reason, actor, as_json)


def hold(point: str, reason: str, actor: str, url: str, as_json: bool) -> None:
    """Keep the service from releasing anything for a point by itself."""
    _order(url, f"/v1/policies/{point}/hold", {}, reason, actor, as_json, _show_policies)


def release(point: str, reason: str, actor: str, url: str, as_json: bool) -> None:
    """Let the service release by itself again."""
    _order(url, f"/v1/policies/{point}/release", {}, reason, actor, as_json, _show_policies)


def register(point: str, data: bytes, url: str) -> None:
    """Register a bundle for a point."""
    ask(url, lambda client: client.post_bytes(f"/v1/policies/{point}", data))


def _order(
    url: str,
    path: str,
    order: Mapping[str, Any],
    reason: str,
    actor: str,
    as_json: bool,
    show: Callable[[Console, Mapping[str, Any]], None] | None = None,
) -> None:
    by = {"actor": actor} if actor else {}
    result = ask(url, lambda client: client.post(path, {**order, **by, "reason": reason}))
    finish(result, as_json, lambda out: out.print_json(data=result) if show is None else show(out, result))


def _get(url: str, path: str) -> Any:
    return ask(url, lambda client: client.get(path))


def ask(url: str, question: Callable[[Client], Awaitable[Any]], key: str | None = None) -> Any:
    """What a service answers; `key` is sent instead of the one in the environment."""

    async def put() -> Any:
        client = Client(url.rstrip("/"), _PATIENCE_S, Stop(), key)
        try:
            return await question(client)
        finally:
            await client.close()

    try:
        return asyncio.run(put())
    except ServiceError as error:
        raise (UsageError if error.unknown else CommandError)(str(error)) from None


def _show_report(out: Console, result: Mapping[str, Any]) -> None:
    states = ", ".join(f"{count:,} {state}" for state, count in result["states"].items())
    out.print(f"{result['point']}: the last {result['decisions']:,} decisions: {states or 'none yet'}")
    rows = [
        (policy["policy"][:16], policy["arm"], policy["kind"], policy["decisions"], _interval(policy["value"]))
        for policy in result["policies"]
    ]
    if rows:
        out.print(table(("policy", "arm", "kind", "decisions", "value of a decision"), rows))
    for other in result["comparisons"]:
        found = other["report"]
        out.print(f"{other['role']} {other['policy'][:16]}, judged by what is logged: {found['verdict']}")
        for reason in found["reasons"]:
            out.print(f"  {reason}")


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return shown(None)
    if value.get("low") is None:
        return shown(value["mean"])
    return f"{shown(value['mean'])}  ({shown(value['low'])} to {shown(value['high'])})"


def _metric(name: str, value: float) -> str:
    return f"{name.removesuffix('_share')} {gap(value)}" if name.endswith("_share") else f"{name} {shown(value)}"


def _show_policies(out: Console, result: Mapping[str, Any]) -> None:
    release = result["release"]
    serves = (release["incumbent"] or "the baseline")[:12]
    trial = f", {release['candidate'][:12]} on trial for {percent(release['share'])}" if release["candidate"] else ""
    out.print(f"{result['point']}: {release['mode']}, {serves} serves{trial}")
    if release.get("reason"):
        out.print(f"  because {release['reason']} ({release['actor']})")
    held = result.get("held")
    if held and held["on"]:
        out.print(f"  held: nothing is released by itself, because {held['reason']} ({held['actor']})")
    rows = [
        (
            policy["digest"][:12],
            policy["role"],
            policy["algo"],
            policy["steps"],
            ", ".join(_metric(name, value) for name, value in policy["metrics"].items()),
        )
        for policy in result["policies"]
    ]
    out.print(table(("digest", "role", "algo", "steps", "metrics"), rows) if rows else "no bundle is registered")
