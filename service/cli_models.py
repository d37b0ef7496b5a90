"""Commands that are about prediction models: declared, played over data, fed, mended."""

from pathlib import Path
from typing import Annotated

import typer

from service.invocation import LOCAL, Actor, Json, ManifestFile, Seed, Url, do

models = typer.Typer(rich_markup_mode=None)

Drop = Annotated[str, typer.Option(help="Columns to leave out: id,name.")]


@models.command()
def declare(
    data: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSON lines or Parquet.")],
    label: Annotated[str, typer.Option(help="Column that is to be predicted.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; the file's if left out.")] = None,
    at: Annotated[str | None, typer.Option(help="Column that holds the event time: it becomes no feature.")] = None,
    drop: Drop = "",
    out: Annotated[Path | None, typer.Option(help="Write the manifest here, not on stdout.")] = None,
    json: Json = False,
) -> None:
    """Draft the declaration of a model from a file's columns."""
    do("declare", data=data, label=label, name=name, at=at, drop=drop, out=out, as_json=json)


@models.command()
def backtest(
    model: Annotated[str, typer.Argument(help="Model of the manifest.")],
    data: Annotated[str, typer.Option(help="A file (CSV, JSON lines, Parquet) or a data set of River, e.g. Phishing.")],
    manifest: ManifestFile = None,
    label: Annotated[str | None, typer.Option(help="Column that holds the label.")] = None,
    at: Annotated[str | None, typer.Option(help="Column that holds the event time.")] = None,
    drop: Drop = "",
    label_delay: Annotated[str | None, typer.Option(help="Labels come later: 30min, or 100rows.")] = None,
    label_probability: Annotated[float, typer.Option(min=0, max=1, help="Share of rows that get a label.")] = 1.0,
    drifts: Annotated[str, typer.Option(help="Rows where something is known to change: 100,200.")] = "",
    restart_at: Annotated[
        int | None, typer.Option(min=1, help="Stop the learner after so many rows and resume.")
    ] = None,
    log: Annotated[str, typer.Option(help="memory, or redis: through the whole path.")] = "memory",
    season: Annotated[int | None, typer.Option(min=1, help="Rows in a season, to compare forecasts with.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page: error and metrics over time, with alarms.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the same as a PNG picture.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same line was cut short.")] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Run a declared model over a data set, through the same learner that serves."""
    do(
        "backtest",
        model=model,
        data=data,
        manifest=manifest,
        label=label,
        at=at,
        drop=drop,
        label_delay=label_delay,
        label_probability=label_probability,
        drifts=drifts,
        restart_at=restart_at,
        log=log,
        season=season,
        html=html,
        plot=plot,
        resume=resume,
        seed=seed,
        as_json=json,
    )


@models.command()
def ingest(
    model: Annotated[str, typer.Argument(help="Model of the running service.")],
    source: Annotated[str, typer.Argument(metavar="FILE_OR_-", help="CSV, JSON lines or Parquet; - reads JSON lines.")],
    label: Annotated[str | None, typer.Option(help="Column that holds the label.")] = None,
    key: Annotated[str | None, typer.Option(help="Column that holds the key, of a model with one.")] = None,
    at: Annotated[str | None, typer.Option(help="Column that holds the time: seconds since 1970, or ISO 8601.")] = None,
    drop: Drop = "",
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """Send a file's rows to a model as events."""
    do("ingest", model=model, source=source, label=label, key=key, at=at, drop=drop, url=url, as_json=json)


@models.command()
def rejects(
    model: Annotated[str, typer.Argument(help="Model of the running service.")],
    replay: Annotated[str | None, typer.Option(metavar="ENTRY", help="Bring this entry back.")] = None,
    event: Annotated[
        str | None, typer.Option(help='What is mended: JSON, {"features": {..}, "label": ..}, or @FILE.')
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "replayed by hand",
    actor: Actor = "",
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """List the events that a model's learner has set aside, and why; with --replay, bring one back."""
    do("operate", "rejects", model=model, entry=replay, event=event, reason=reason, actor=actor, url=url, as_json=json)
