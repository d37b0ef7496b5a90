"""`trimtab keys`: API keys, by the public routes."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from rich.console import Console

from online.durations import seconds
from service.access.keys import own_token
from service.commands.operate import ask
from service.commands.output import UsageError, finish, shown, table
from service.outside.client import KEY
from service.settings import is_loopback


def create(
    order: Mapping[str, Any], expires: str | None, actor: str, data: Path | None, url: str, as_json: bool
) -> None:
    """Make a key and show its token."""
    body = {**order, "actor": actor, "expires_in_s": None if expires is None else _seconds(expires, "--expires")}
    result = ask(url, lambda client: client.post("/v1/keys", body), key_for(url, data))
    finish(result, as_json, lambda out: _show_new(out, result))


def show(data: Path | None, url: str, as_json: bool) -> None:
    """List all keys."""
    result = ask(url, lambda client: client.get("/v1/keys"), key_for(url, data))
    rows = [
        (
            key["key"],
            key["name"],
            ", ".join(key["scopes"]),
            ", ".join(key["subjects"]) or "all",
            shown(key["rate"]),
            _ends(key),
            key["reason"],
        )
        for key in result["keys"]
    ]
    heads = ("key", "name", "scopes", "for", "rate", "ends", "reason")
    words = table(heads, rows) if rows else "there are no keys: the service answers whoever reaches it"
    finish(result, as_json, lambda out: out.print(words))


def rotate(key: str, overlap: str, reason: str, actor: str, data: Path | None, url: str, as_json: bool) -> None:
    """Replace a key."""
    body = {"reason": reason, "actor": actor, "overlap_s": _seconds(overlap, "--overlap")}
    path = f"/v1/keys/{quote(key, safe='')}/rotate"
    result = ask(url, lambda client: client.post(path, body), key_for(url, data))
    finish(result, as_json, lambda out: _show_new(out, result))


def revoke(key: str, reason: str, actor: str, data: Path | None, url: str, as_json: bool) -> None:
    """End a key."""
    path = f"/v1/keys/{quote(key, safe='')}?{urlencode({'reason': reason, 'actor': actor})}"
    result = ask(url, lambda client: client.delete(path), key_for(url, data))
    finish(result, as_json, lambda out: out.print(f"{result['key']} ({result['name']}) is of no use any more"))


def key_for(url: str, data: Path | None) -> str:
    """The key to send: the one in the environment; on the machine itself, one made from the service's secret.

    Whoever may read that secret has everything anyway. It lets in whoever has lost all keys, and is never sent abroad.
    """
    if given := os.environ.get(KEY):
        return given
    if not is_loopback(urlsplit(url).hostname or ""):
        return ""
    secret, path = os.environ.get("TRIMTAB_SECRET", ""), (data or Path(".trimtab")) / "secret"
    try:
        secret = secret or path.read_text().strip()
    except OSError:
        return ""
    return own_token(secret.encode(), "local")


def _show_new(out: Console, result: Mapping[str, Any]) -> None:
    key = result["key"]
    out.print(f"{key['key']} ({key['name']}): {', '.join(key['scopes'])} for {', '.join(key['subjects']) or 'all'}")
    out.print("its token is shown this once and stored nowhere; programs send it as Authorization: Bearer TOKEN,")
    out.print(f"commands take it from {KEY}:")
    out.print(result["token"])


def _ends(key: Mapping[str, Any]) -> str:
    if key["expires"] is None:
        return "never"
    when = datetime.fromtimestamp(key["expires"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"ended {when}" if key["ended"] else when


def _seconds(text: str, option: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: {error}") from None
