"""`trimtab backtest`: a declared model over a data set, through the same learner that serves."""

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec import structs
from rich.console import Console
from river.__version__ import __version__ as river_version

from online import durations
from online.backtest import BeyondError, Delay, Result, UntimedError, backtest
from online.drift import Judged, always, judge, kind
from online.ledger import Refused
from online.log import Log, LogUnavailable
from online.memory_log import MemoryLog
from online.redis_client import connect
from online.redis_log import RedisLog
from online.specs import ModelSpec
from service import manifest as declarations
from service.commands import pictures
from service.commands.data import count_of, named, rows_of
from service.commands.output import CommandError, UsageError, finish, shown, table
from service.commands.progress import Checkpoints, counted
from service.manifest import ManifestError
from service.outside import rows as files
from service.outside.rows import RowError
from service.processes.embedded import EmbeddedError, EmbeddedRedis, find_server
from service.processes.folder import DataFolder

_ALARMS = 20
_REFUSALS = 5
_HALTS = {
    "drift": 'an alarm stopped it, as on_drift = "raise" asks, and in a back-test nobody resumes it',
    "ceiling": "it has outgrown its ceiling",
}


def run(
    model: str,
    data: str,
    manifest: Path | None,
    label: str | None,
    at: str | None,
    label_delay: str | None,
    label_probability: float,
    drifts: str,
    restart_at: int | None,
    log: str,
    seed: int,
    as_json: bool,
    season: int | None = None,
    html: Path | None = None,
    plot: Path | None = None,
    resume: bool = False,
    drop: str = "",
) -> None:
    """Play the rows and say how well the model predicted them before it learned them."""
    pictures.check(html, ".html", "--html")
    pictures.check(plot, ".png", "--plot")
    changes = _changes(drifts)
    try:
        spec = declared(model, manifest or Path("trimtab.toml"))
        if season is not None and spec.task != "forecasting":
            raise UsageError(f"--season is for forecasting models, and {model} does {spec.task}")
        delay = _delay(label_delay, label_probability, seed)
        total = count_of(data)
        _check_changes(changes, total, data)
        options = [label, at, label_delay, label_probability, seed, restart_at, drop]
        checkpoints = Checkpoints(model, _facts(spec, data, options))
        begin = _begin(checkpoints, log) if resume else None
        with _interruptible(checkpoints), _log_of(log) as entries, counted(total) as progress:
            result = backtest(
                spec,
                rows_of(data, label, at, spec.key, files.names(drop), named(spec)),
                entries,
                delay=delay,
                restart_at=restart_at,
                season=season,
                progress=progress,
                keep=checkpoints.keep,
                resume=begin,
            )
    except (ManifestError, RowError) as error:
        raise UsageError(str(error)) from None
    except (LogUnavailable, EmbeddedError) as error:
        raise CommandError(str(error)) from None
    except BeyondError as error:
        raise UsageError(f"--restart-at: {error}") from None
    except UntimedError as error:
        raise UsageError(f"--label-delay {label_delay}: {error}; name its column with --at, or give 100rows") from None
    _check_changes(changes, result.rows, data)
    if _is_fruitless(result):
        hint = "--drop NAME,.. leaves columns out"
        raise CommandError(
            f"none of the {result.rows:,} rows of {data} was taken ({hint}):\n{_refusals(result.refused)}"
        )
    found = {"model": model, "data": data, "log": log, **_summary(result), **_against(spec, result, changes)}
    if spec.challengers:
        plan = spec.comparison
        found["comparison"] = {"labels": plan.labels, **asdict(plan.announcement(len(spec.challengers)))}
    if html is not None:
        facts = {**result.metrics, **result.baseline, **result.counts}
        html.write_text(pictures.page(f"{model} on {data}", facts, result, changes))
    if plot is not None:
        pictures.png(plot, f"{model} on {data}", result, changes)
    finish(found, as_json, lambda out: _show(out, found, result))


@contextmanager
def _interruptible(checkpoints: Checkpoints) -> Iterator[None]:
    """Says after an interrupt how to go on."""
    try:
        with checkpoints:
            yield
    except KeyboardInterrupt:
        kept = "the same line with --resume goes on from there" if checkpoints.load() else "nothing was kept yet"
        raise CommandError(f"interrupted; {kept}") from None


def _begin(checkpoints: Checkpoints, log: str) -> bytes:
    """The checkpoint to go on from. Raises `UsageError`."""
    if log != "memory":
        raise UsageError(f"--resume goes on in a log in memory; --log is {log}")
    data = checkpoints.load()
    if data is None:
        raise UsageError(
            f"nothing to resume: in {checkpoints.path.parent} there is no back-test of this model over this data with "
            "these options that was cut short"
        )
    return data


def _facts(spec: ModelSpec, data: str, options: Sequence[Any]) -> dict[str, Any]:
    """What makes a back-test this one and no other."""
    path = Path(data)
    state = (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None
    made_by = (metadata.version("trimtab"), river_version)
    return {"spec": spec.source, "data": data, "state": state, "options": options, "made_by": made_by}


def _check_changes(changes: Sequence[int], rows: int | None, data: str) -> None:
    """Whether all known changes lie within the data. Raises `UsageError`."""
    if changes and rows is not None and changes[-1] >= rows:
        given = ",".join(map(str, changes))
        raise UsageError(f"--drifts {given!r}: give rows below {rows:,}, as many as {data} has")


def declared(model: str, path: Path) -> ModelSpec:
    """The model that a manifest declares. Raises `UsageError`."""
    models = declarations.load(path).models
    if model not in models:
        raise UsageError(f"{path} declares no model {model!r}; it declares: {', '.join(models) or 'none'}")
    return models[model]


def _delay(text: str | None, probability: float, seed: int) -> Delay:
    rows, seconds, chance = 0, 0.0, random.Random(seed).random
    if text is not None and text.endswith("rows") and text.removesuffix("rows").strip().isdigit():
        rows = int(text.removesuffix("rows"))
    elif text is not None:
        try:
            seconds = durations.seconds(text)
        except ValueError:
            raise UsageError(f"--label-delay {text!r}: give a duration such as 30min, or rows as in 100rows") from None
    return Delay(rows=rows, seconds=seconds, probability=probability, chance=chance)


@contextmanager
def _log_of(kind: str) -> Iterator[Log]:
    """An empty log: in memory, or in a Redis of its own that leaves nothing behind."""
    if kind == "memory":
        yield MemoryLog()
    elif kind == "redis":
        with (
            tempfile.TemporaryDirectory(prefix="trimtab-") as home,
            DataFolder(Path(home)) as folder,
            EmbeddedRedis(folder, find_server()) as server,
        ):
            server.start()
            yield RedisLog(connect(server.url, server.password))
    else:
        raise UsageError(f"--log {kind!r}: give memory or redis")


def _changes(text: str) -> list[int]:
    """The rows of ``--drifts``. Raises `UsageError`."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    rows = [int(part) for part in parts if part.isascii() and part.isdigit()]
    if len(rows) < len(parts) or any(second <= first for first, second in pairwise(rows)):
        raise UsageError(
            f"--drifts {text!r}: give the rows where something changed, counted from 0, each once and in order, "
            "as in 100,200"
        )
    return rows


def _is_fruitless(result: Result) -> bool:
    """Whether all there was to learn was set aside: every row, or every label of them."""
    learned = result.counts["labelled"] + result.counts["learned"]
    of_labels = any(refused.field == "label" for refused in result.refused)
    return bool(result.refused) and (not result.answered or (not learned and of_labels))


def _refusals(refused: Sequence[Refused]) -> str:
    """The first refusals, a line each."""
    lines = [f"  row {one.row:,}{f', {one.field}' if one.field else ''}: {one.reason}" for one in refused[:_REFUSALS]]
    return "\n".join(lines)


def _summary(result: Result) -> dict[str, Any]:
    return {
        "rows": result.rows,
        "metrics": dict(result.metrics),
        "baseline": dict(result.baseline),
        "counts": dict(result.counts),
        "restarts": result.restarts,
        "alarms": [asdict(alarm) for alarm in result.alarms],
        "refused": [asdict(refused) for refused in result.refused],
        "champion": result.champion,
        "challengers": [standing._asdict() for standing in result.challengers],
        "findings": [structs.asdict(finding) for finding in result.findings],
        "halted": result.halted,
    }


def _against(spec: ModelSpec, result: Result, changes: Sequence[int]) -> dict[str, Any]:
    """Alarms against known changes: of each declared detector, of all together, and of the dummy that always fires."""
    if not changes:
        return {}
    total = judge([alarm.row for alarm in result.alarms], changes, result.rows)
    each = {
        _title(name, kind(found), spec.signals.get(name, name)): judge(
            [alarm.row for alarm in result.alarms if alarm.name == name], changes, result.rows
        )
        for name, found in spec.detectors.items()
    }
    lines = {**each, "all together": total, "always (dummy)": always(changes, result.rows)}
    return {
        "drifts": list(changes),
        "delays": list(total.delays),
        "missed": total.missed,
        "false_alarms": total.false_alarms,
        "false_alarms_per_1000": total.per_thousand,
        "detectors": {title: _judged(line) for title, line in lines.items()},
    }


def _title(name: str, detector: str, signal: str) -> str:
    """A detector in a table: a name of its own comes first."""
    of = f"{detector} on {signal}"
    return of if name == signal else f"{name}: {of}"


def _judged(line: Judged) -> dict[str, Any]:
    return {
        "detected": line.detected,
        "delay": line.delay,
        "false_alarms": line.false_alarms,
        "false_alarms_per_1000": line.per_thousand,
    }


def _show(out: Console, found: Mapping[str, Any], result: Result) -> None:
    counts = ", ".join(f"{number:,} {what}" for what, number in found["counts"].items() if number)
    out.print(f"{found['model']} on {found['rows']:,} rows of {found['data']}: {counts}")
    if found["refused"]:
        out.print(f"set aside, the first of {found['counts']['rejected']:,}:\n{_refusals(result.refused)}")
    if found["halted"]:
        out.print(f"it learned no more after {found['counts']['learned']:,} labels: {_HALTS[found['halted']]}")
    figures = [*found["metrics"].items(), *found["baseline"].items()]
    out.print(table(("metric", "value"), figures))
    if found["challengers"]:
        _show_challengers(out, found)
    for alarm in found["alarms"][:_ALARMS]:
        before, recent = (shown(alarm["evidence"].get(name)) for name in ("before", "recent"))
        title = _title(alarm["name"], alarm["detector"], alarm["signal"])
        out.print(f"  row {alarm['row']:,}: {title}, from {before} to {recent}")
    if len(found["alarms"]) > _ALARMS:
        out.print(f"  and {len(found['alarms']) - _ALARMS:,} more; --json lists all")
    if "drifts" in found:
        delays = ", ".join(shown(delay) for delay in found["delays"])
        out.print(f"changes at {found['drifts']}: found after {delays} rows, {found['false_alarms']} false alarms")
        columns = ("detector", "found", "median delay", "false alarms", "per 1,000 rows")
        out.print(table(columns, [(name, *line.values()) for name, line in found["detectors"].items()]))


def _show_challengers(out: Console, found: Mapping[str, Any]) -> None:
    """How the candidates did on the same rows, and what the comparisons found."""
    metrics = list(found["metrics"])
    champion = (f"{found['champion']} (champion)", *found["metrics"].values())
    lines = [
        (one["name"], *(one["metrics"].get(name) for name in metrics))
        if one["trouble"] is None
        else (f"{one['name']}: {one['trouble']}",)
        for one in found["challengers"]
    ]
    out.print(table(("candidate", *metrics), [champion, *lines]))
    plan = found["comparison"]
    out.print(
        f"judged every {plan['labels']:,} labels, each of {plan['rivals']} at level {shown(plan['level'])}: enough for "
        f"a difference of {plan['difference']:.4f} between classifiers that disagree on 9 cases in 100"
    )
    for finding in found["findings"]:
        low, difference, high = (f"{finding[name]:+.4f}" for name in ("low", "difference", "high"))
        out.print(
            f"  over {finding['labels']:,} labels {finding['challenger']} was {finding['verdict']}: "
            f"the champion's error less its own is {difference}, between {low} and {high}"
        )
