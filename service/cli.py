"""The `trimtab` command line: names and options here, the work in `service.commands`.

A command's module is imported when it runs, so that `trimtab api` never loads torch and `--help` loads nothing.
"""

from pathlib import Path
from typing import Annotated

import typer

from service.cli_access import audit, keys
from service.cli_models import models
from service.invocation import LOCAL, Actor, Data, Json, ManifestFile, Reason, Seed, Url, do

app = typer.Typer(
    name="trimtab",
    help="Decisions and predictions that stay right while the world changes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(models)
app.add_typer(keys, name="keys")
app.add_typer(audit, name="audit")

Params = Annotated[str, typer.Option(help="World parameters: k=v,.. (lists as a:b:step or [..]) or @file.json.")]
Point = Annotated[str, typer.Argument(help="Decision point.")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"trimtab {version('trimtab')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Decisions and predictions that stay right while the world changes."""


@app.command()
def up(
    manifest: ManifestFile = None,
    data: Data = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Play the demo: train a policy while a simulated shop asks.")
    ] = False,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the API; 0 takes any free one.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Serve HTTPS with this certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate (PEM).")] = None,
    console: Annotated[bool, typer.Option("--console/--no-console", help="Run the console beside it.")] = True,
) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    do("up", manifest=manifest, data=data, demo=demo, port=port, tls=(tls_cert, tls_key), console=console)


@app.command()
def api() -> None:
    """Run one API process, with settings from the environment (TRIMTAB_*)."""
    do("processes", "api")


@app.command()
def learner() -> None:
    """Run one learner process, with settings from the environment (TRIMTAB_*)."""
    do("processes", "learner")


@app.command()
def adapter() -> None:
    """Run one adapter process (it trains), with settings from the environment (TRIMTAB_*)."""
    do("processes", "adapter")


@app.command()
def console(
    url: Annotated[str | None, typer.Option(help="Address of the service; http://127.0.0.1:8080 if left out.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 if left out.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 8081 if left out.")] = None,
) -> None:
    """Run the console of a running service, with settings from the environment (TRIMTAB_CONSOLE_*)."""
    do("console", url=url, host=host, port=port)


@app.command()
def worlds(
    name: Annotated[str | None, typer.Argument(help="Show this world alone.")] = None, json: Json = False
) -> None:
    """List the worlds with their parameters, units and ranges."""
    do("worlds", name=name, as_json=json)


@app.command()
def train(
    world: Annotated[str, typer.Argument(metavar="WORLD_OR_ENV_ID", help="World, or a registered Gymnasium id.")],
    algo: Annotated[
        str | None, typer.Option(help="ppo (the default), a2c, dqn, maskable-ppo, exact, or a baseline's name.")
    ] = None,
    preset: Annotated[Path | None, typer.Option(help="Settings as TOML, from `trimtab tune`.")] = None,
    params: Params = "",
    ranges: Annotated[str, typer.Option(help="Train over ranges of parameters: k=low:high,..")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to train.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Minutes to train.")] = None,
    seed: Seed = 0,
    start: Annotated[Path | None, typer.Option("--from", help="Bundle to start from.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training of the same call that was cut.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write the bundle.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Keep the training in this data folder; in .trimtab, where there is one.")
    ] = None,
    register: Annotated[str | None, typer.Option(metavar="POINT", help="Register the bundle for a point.")] = None,
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """Train a policy and write it as a bundle."""
    do(
        "train",
        world=world,
        algo=algo,
        preset=preset,
        params=params,
        ranges=ranges,
        steps=steps,
        minutes=minutes,
        seed=seed,
        start=start,
        resume=resume,
        out=out,
        data=data,
        register=register,
        url=url,
        as_json=json,
    )


@app.command()
def lineage(
    run: Annotated[str | None, typer.Argument(help="A run, by the beginning of its id; all if left out.")] = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the run's bundle.")] = None,
    register: Annotated[str | None, typer.Option(metavar="POINT", help="Register the bundle for a point.")] = None,
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """List the trainings that were kept, or bring the bundle of one back."""
    do("lineage", run=run, data=data, out=out, register=register, url=url, as_json=json)


@app.command()
def tune(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="WORLD_OR_MODEL", help="World, or model of the manifest.")],
    algo: Annotated[str, typer.Option(help="World: ppo, a2c or maskable-ppo.")] = "ppo",
    params: Params = "",
    ranges: Annotated[str, typer.Option(help="Train over ranges of parameters: k=low:high,..")] = "",
    trials: Annotated[int, typer.Option(min=1, help="Trainings, or back-tests, to start.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="World: steps of each training.")] = 300_000,
    study: Annotated[Path | None, typer.Option(help="World: SQLite file of a search that can go on.")] = None,
    out: Annotated[Path | None, typer.Option(help="World: where to write the preset.")] = None,
    manifest: ManifestFile = None,
    data: Annotated[str | None, typer.Option(help="Model: a file, or a data set of River.")] = None,
    label: Annotated[str | None, typer.Option(help="Model: column that holds the label.")] = None,
    at: Annotated[str | None, typer.Option(help="Model: column that holds the event time.")] = None,
    drop: Annotated[str, typer.Option(help="Model: columns to leave out: id,name.")] = "",
    search: Annotated[
        list[str] | None, typer.Option(help="Model: path=low:high[:log], or path=a|b; repeatable.")
    ] = None,
    held_out: Annotated[float, typer.Option(min=0.01, max=0.9, help="Model: share of the rows not searched.")] = 0.2,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Search the settings of an algorithm for a world, or of a declared model over a data set."""
    of_world = {"algo": algo, "params": params, "ranges": ranges, "steps": steps, "study": study, "out": out}
    of_model = {"data": data, "label": label, "at": at, "drop": drop, "search": search or [], "held_out": held_out}
    sources = {option: context.get_parameter_source(option) for option in context.params}
    written = {option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    do("tune_model", "either", name=name, manifest=manifest, of_world=of_world, of_model=of_model,
        written=written, trials=trials, seed=seed, as_json=json)  # fmt: skip


@app.command("import")
def import_(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="One ONNX file.")],
    card: Annotated[Path, typer.Option(help="TOML: world, params, actions, observation, output.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the bundle.")] = None,
    register: Annotated[str | None, typer.Option(metavar="POINT", help="Register the bundle for a point.")] = None,
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """Make a bundle of a model from elsewhere: an ONNX file and a card written by hand."""
    do("bring", model=model, card=card, out=out, register=register, url=url, as_json=json)


@app.command()
def evaluate(
    policy: Annotated[
        str, typer.Argument(metavar="BUNDLE|BASELINE|exact", help="A bundle's file, a baseline, or exact.")
    ],
    world: Annotated[str | None, typer.Option(help="World; a bundle knows its own.")] = None,
    params: Params = "",
    ranges: Annotated[str, typer.Option(help="In worlds drawn from ranges of parameters: k=low:high,..")] = "",
    draws: Annotated[int | None, typer.Option(min=2, help="How many worlds are drawn from the ranges; 24.")] = None,
    episodes: Annotated[int, typer.Option(min=2, help="Episodes, where the value has to be simulated.")] = 10_000,
    html: Annotated[Path | None, typer.Option(help="Also write a page: gaps, learning curve, maps.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the same as a PNG.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say what a policy is worth in a world, or over ranges, beside the baselines and the exact optimum."""
    do(
        "evaluate",
        policy=policy,
        world=world,
        params=params,
        ranges=ranges,
        draws=draws,
        episodes=episodes,
        seed=seed,
        html=html,
        plot=plot,
        as_json=json,
    )


@app.command()
def simulate(
    point: Point,
    url: Url = LOCAL,
    params: Params = "",
    shift: Annotated[
        list[str] | None, typer.Option(help='Change of the hidden parameters: "at=2000,k=v"; repeatable.')
    ] = None,
    schedule: Annotated[Path | None, typer.Option(help="JSON file with a list of shifts: {at: .., k: ..}.")] = None,
    entities: Annotated[
        int, typer.Option(min=1, max=10_000, help="How many at once, each with episodes of its own.")
    ] = 1,
    decisions: Annotated[int, typer.Option(min=0, help="Decisions in all; 0 goes on until Ctrl-C.")] = 2000,
    delay: Annotated[int, typer.Option(min=0, help="Tell outcomes so many decisions of the entity later.")] = 0,
    loss: Annotated[float, typer.Option(min=0, max=1, help="Share of outcomes that are never told.")] = 0.0,
    dup: Annotated[float, typer.Option(min=0, max=1, help="Share of outcomes that are told twice.")] = 0.0,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Decisions per second at most.")] = None,
    model: Annotated[str | None, typer.Option(help="Also send context, action and outcome to this model.")] = None,
    run: Annotated[str | None, typer.Option(help="Prefix of all ids; the same run asks the same again.")] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between lines of progress.")] = 5.0,
    plot: Annotated[Path | None, typer.Option(help="Write value over time beside all rivals as PNG.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Play the outside world against a running service, with hidden parameters of its own."""
    do(
        "simulate",
        point=point,
        url=url,
        params=params,
        shifts=shift or [],
        schedule=schedule,
        entities=entities,
        decisions=decisions,
        delay=delay,
        loss=loss,
        dup=dup,
        rate=rate,
        model=model,
        name=run,
        every=every,
        plot=plot,
        seed=seed,
        as_json=json,
    )


@app.command()
def report(
    point: Point,
    html: Annotated[Path | None, typer.Option(help="Write it there, with its figures, as one page to mail.")] = None,
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """Show what each policy of a point was worth."""
    do("operate", "report", point=point, html=html, url=url, as_json=json)


@app.command()
def policies(point: Point, url: Url = LOCAL, json: Json = False) -> None:
    """List the policies of a point and what has served it."""
    do("operate", "policies", point=point, url=url, as_json=json)


@app.command()
def promote(
    point: Point,
    digest: Annotated[str, typer.Argument(help="Bundle, by its digest or the beginning of it; or bandit:NAME.")],
    reason: Reason,
    actor: Actor = "",
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """Let a bundle, or one of its bandits, serve a point."""
    do("operate", "promote", point=point, digest=digest, reason=reason, actor=actor, url=url, as_json=json)


@app.command()
def rollback(point: Point, reason: Reason, actor: Actor = "", url: Url = LOCAL, json: Json = False) -> None:
    """Let serve again what served a point before."""
    do("operate", "rollback", point=point, reason=reason, actor=actor, url=url, as_json=json)


@app.command()
def mode(
    point: Point,
    mode: Annotated[str, typer.Argument(help="off, apprentice, shadow, canary or live.")],
    reason: Reason,
    share: Annotated[float | None, typer.Option(min=0, max=1, help="Share of a canary.")] = None,
    actor: Actor = "",
    url: Url = LOCAL,
    json: Json = False,
) -> None:
    """Set the mode in which a point serves."""
    do("operate", "mode", point=point, mode=mode, reason=reason, share=share, actor=actor, url=url, as_json=json)


@app.command()
def hold(point: Point, reason: Reason, actor: Actor = "", url: Url = LOCAL, json: Json = False) -> None:
    """Keep the service from releasing anything for a point by itself."""
    do("operate", "hold", point=point, reason=reason, actor=actor, url=url, as_json=json)


@app.command()
def release(point: Point, reason: Reason, actor: Actor = "", url: Url = LOCAL, json: Json = False) -> None:
    """Let the service release by itself again, after a hold."""
    do("operate", "release", point=point, reason=reason, actor=actor, url=url, as_json=json)


@app.command()
def archive(
    subject: Annotated[str | None, typer.Argument(help="A model or point; all if left out.")] = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Write its entries there, decoded, as one Parquet file.")] = None,
    json: Json = False,
) -> None:
    """List what the learners have copied out of the log, as Parquet; with --out, decode it into one file."""
    do("archive", subject=subject, data=data, out=out, as_json=json)


@app.command()
def recipe(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME_OR_FOLDER", help="One of the list, or a copy that you changed.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the recipes; so does no name at all.")] = False,
    into: Annotated[Path | None, typer.Option(help="Copy it into this folder, for you to change, instead.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; one of its name if left out.")] = None,
    data: Annotated[Path | None, typer.Option(help="Your own rows with the same columns: CSV, Parquet, ..")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve it at the end, until Ctrl-C.")] = False,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the API; 0 takes any free one.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Play an application from its data to a running service, with a report of how good it is."""
    name = None if list_ else name
    do("recipe", name=name, into=into, out=out, data=data, seed=seed, serve=serve, port=port, as_json=json)


@app.command()
def doctor(
    data: Data = None,
    manifest: ManifestFile = None,
    url: Annotated[
        str | None, typer.Option(envvar="TRIMTAB_URL", help="Address of a service that must be running.")
    ] = None,
    json: Json = False,
) -> None:
    """Check what the service needs on this machine, and what runs."""
    do("doctor", data=data, manifest=manifest, url=url, as_json=json)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
