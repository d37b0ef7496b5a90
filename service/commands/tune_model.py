"""`trimtab tune MODEL`: search the settings of a declared model through the back-test."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from online.specs import ModelSpec
from online.tune import TuneError, choices, tune
from service import manifest as declarations
from service.commands.backtest import declared
from service.commands.data import named, rows_of
from service.commands.output import CommandError, UsageError, console, finish, shown, table
from service.manifest import ManifestError
from service.outside import rows as files
from service.outside.rows import RowError


def either(
    name: str,
    manifest: Path | None,
    of_world: Mapping[str, Any],
    of_model: Mapping[str, Any],
    written: Collection[str],
    trials: int,
    seed: int,
    as_json: bool,
) -> None:
    """Tune a model where the manifest declares one of this name, else a world.

    Args:
        written: Options that were given, whatever their value.

    Raises:
        UsageError: An option of the other kind was given.
    """
    is_for_model = of_model["data"] is not None or is_model(name, manifest)
    kind, others = ("model", of_world) if is_for_model else ("world", of_model)
    if strange := [f"--{option.replace('_', '-')}" for option in others if option in written]:
        raise UsageError(f"{name} is a {kind}, and {', '.join(strange)} means nothing there: leave it out")
    if is_for_model:
        run(name, manifest=manifest, trials=trials, seed=seed, as_json=as_json, **of_model)
        return
    from service.commands import tune as worlds

    worlds.run(name, trials=trials, seed=seed, as_json=as_json, **of_world)


def is_model(name: str, manifest: Path | None) -> bool:
    """Whether the manifest declares a model of this name."""
    path = manifest or Path("trimtab.toml")
    if not path.is_file():
        return False
    try:
        return name in declarations.load(path).models
    except ManifestError as error:
        raise UsageError(str(error)) from None


def run(
    model: str,
    *,
    data: str | None,
    manifest: Path | None,
    label: str | None,
    at: str | None,
    drop: str,
    search: Sequence[str],
    trials: int,
    held_out: float,
    seed: int,
    as_json: bool,
) -> None:
    """Search, judge the best on the rows held out, and show the lines that declare it."""
    if data is None:
        raise UsageError(f"tune {model} needs --data: a file, or a data set of River such as Phishing")
    terminal = console()

    def told(trial: int, score: float | None) -> None:
        terminal.print(f"trial {trial} of {trials}, the best so far scores {shown(score)}")

    try:
        spec = declared(model, manifest or Path("trimtab.toml"))
        space = choices(_space(spec, search))
        rows = list(rows_of(data, label, at, spec.key, files.names(drop), named(spec)))
        found = tune(spec, space, rows, trials=trials, held_out=held_out, seed=seed, told=told)
    except (ManifestError, RowError, TuneError) as error:
        raise UsageError(str(error)) from None
    except ConnectionError as error:
        raise CommandError(str(error)) from None
    result = {"model": model, "data": data, **asdict(found)}
    finish(result, as_json, lambda out: _show(out, result))


def _space(spec: ModelSpec, search: Sequence[str]) -> dict[str, Any]:
    """What the manifest declares under ``search``, and on top what is given: ``path=low:high[:log]``, ``path=a|b``."""
    found: dict[str, Any] = dict(spec.search)
    for text in search:
        path, equals, values = text.partition("=")
        if not equals:
            raise UsageError(f'--search {text!r}: give "pipeline[1].optimizer.lr=0.001:0.1:log", or a|b for choices')
        if "|" in values:
            found[path] = [_scalar(value) for value in values.split("|")]
            continue
        low, _, rest = values.partition(":")
        high, _, scale = rest.partition(":")
        if scale not in ("", "log"):
            raise UsageError(f'--search {text!r}: the third part is "log" or left out')
        found[path] = {"low": _scalar(low), "high": _scalar(high), "log": scale == "log"}
    return found


def _scalar(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _show(out: Console, found: Mapping[str, Any]) -> None:
    out.print(
        f"{found['model']}: {found['metric']} {shown(found['score'])} after {found['trials']} trials on the first "
        f"{found['searched']:,} rows"
    )
    if found["settings"]:
        out.print(table(("setting", "value"), list(found["settings"].items())))
    else:
        out.print("the model as declared was not beaten")
    out.print(f"mean error on the {found['held_out']:,} rows held out, which the search never saw:")
    out.print(f"  {shown(found['before'])} as declared, {shown(found['after'])} with these settings")
    if found["saved"] is not None:
        out.print(f"  saved, row by row: {_interval(found['saved'])}{_verdict(found['saved'])}")
    for name, worse in found["useless"]:
        out.print(f"the feature {name} was not found to help: without it the mean error changed by {_interval(worse)}")
    for first, second, correlation in found["redundant"]:
        out.print(f"the features {first} and {second} say the same, correlation {shown(correlation)}")
    if found["left"]:
        out.print(f"left as declared, and not played: the challengers {', '.join(found['left'])}")


def _verdict(saved: Mapping[str, Any]) -> str:
    """What an interval means that reaches down to 0."""
    if saved["low"] > 0.0:
        return ""
    return f"\n  {'that may be nothing' if saved['high'] >= 0.0 else 'they are worse'}: keep what is declared"


def _interval(difference: Mapping[str, Any]) -> str:
    mean, low, high = (f"{difference[name]:+.4f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high} with 95 % confidence, {difference['rows']:,} rows)"
