"""`trimtab keys` and `trimtab audit`: names and options here, the work in `service.commands`."""

from typing import Annotated

import typer

from service.invocation import LOCAL, Actor, Data, Json, Reason, Url, do

keys = typer.Typer(help="Make, list, replace and end API keys.", no_args_is_help=True, rich_markup_mode=None)
audit = typer.Typer(help="Read and check the record of who changed what.", no_args_is_help=True, rich_markup_mode=None)

Key = Annotated[str, typer.Argument(help="Public name of the key, the middle part of its token.")]


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What people call it: who or what uses it.")],
    reason: Reason,
    scope: Annotated[list[str], typer.Option(help="predict, decide, ingest, read, operate or admin; repeatable.")],
    only: Annotated[
        list[str] | None, typer.Option(metavar="SUBJECT", help="For model:NAME, point:NAME or bandit:NAME; repeatable.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Ends after this time: 12h, 90d.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second, in each API process.")] = None,
    actor: Actor = "",
    data: Data = None,
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """Make a key and show its token, this once."""
    do(
        "keys",
        "create",
        order={"name": name, "scopes": scope, "subjects": only or [], "rate": rate, "reason": reason},
        expires=expires,
        actor=actor,
        data=data,
        url=url,
        as_json=json,
    )


@keys.command("list")
def list_(data: Data = None, url: Url = LOCAL, json: Json = False) -> None:
    """List the keys; their tokens are stored nowhere."""
    do("keys", "show", data=data, url=url, as_json=json)


@keys.command()
def rotate(
    key: Key,
    reason: Reason,
    overlap: Annotated[str, typer.Option(help="How long the old one stays good: 1h, 7d.")] = "1d",
    actor: Actor = "",
    data: Data = None,
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """Make a key that may do what another may; the old one ends a little later."""
    do("keys", "rotate", key=key, overlap=overlap, reason=reason, actor=actor, data=data, url=url, as_json=json)


@keys.command()
def revoke(
    key: Key, reason: Reason, actor: Actor = "", data: Data = None, url: Url = LOCAL, json: Json = False
) -> None:
    """End a key at once."""
    do("keys", "revoke", key=key, reason=reason, actor=actor, data=data, url=url, as_json=json)


@audit.command("list")
def entries(
    last: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, help="Entries with a smaller number alone.")] = None,
    data: Data = None,
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """List what was changed: when, by whom, why."""
    do("audit", "show", last=last, before=before, data=data, url=url, as_json=json)


@audit.command()
def verify(
    head: Annotated[str | None, typer.Option(help="A seal that was noted earlier: it must be in the chain.")] = None,
    data: Data = None,
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """Check the whole chain; 1 where an entry was edited, deleted, inserted or reordered, or the tail was cut."""
    do("audit", "verify", head=head, data=data, url=url, as_json=json)
