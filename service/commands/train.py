"""`trimtab train`."""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from agents import train as training
from agents.baselines import BASELINES
from agents.bundle import Bundle, BundleError, pack, unpack
from agents.cards import in_shares
from agents.curves import columns
from agents.environments import train_environment
from agents.presets import Preset
from agents.tune import read_preset
from envs import worlds
from envs.dynamics import ParamsError, World
from service.commands import lineage, operate
from service.commands.output import CommandError, UsageError, console, finish, gap, percent, shown
from service.outside import parameters
from service.outside.parameters import ParameterError

LEARNED = ("ppo", "a2c", "dqn", "maskable-ppo")
EXACT = "exact"
_LINE_EVERY = 10


def run(
    world: str,
    algo: str | None,
    preset: Path | None,
    params: str,
    ranges: str,
    steps: int | None,
    minutes: float | None,
    seed: int,
    start: Path | None,
    resume: bool,
    out: Path | None,
    data: Path | None,
    register: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Train, write the bundle, keep it in the lineage, and register it where asked to."""
    if out is not None:
        _writable(out)
    if steps is not None and minutes is not None:
        raise UsageError(f"--steps {steps} and --minutes {minutes:g} were given: give one of them")
    chosen = None if preset is None else _preset(preset, algo)
    algo, checkpoint = algo or LEARNED[0], None
    how: dict[str, Any] = {"algo": algo, "steps": steps, "minutes": minutes, "seed": seed}
    try:
        if world in worlds.WORLDS:
            made = worlds.make(world, parameters.parse(params))
            require_listed(made)
            _require_algo(algo, (EXACT, *BASELINES.get(world, ())), preset=preset, ranges=ranges, start=start)
            before = None if start is None else _start(start)
            checkpoint = _checkpoint(world, out, resume)
            how |= {"ranges": parameters.ranges(ranges), "start": before, "checkpoint": checkpoint}
            bundle = _watched(lambda tell: training.train(made, chosen, progress=tell, **how))
        elif world in gymnasium.registry:
            _refuse(params=params, ranges=ranges, start=start, resume=resume)
            _require_algo(algo, ())
            bundle = _watched(lambda tell: train_environment(world, chosen, progress=tell, **how))
        else:
            raise UsageError(f"{world!r} is no world ({', '.join(worlds.WORLDS)}) and no registered Gymnasium id")
    except (ParameterError, ParamsError, training.StartError) as error:
        raise UsageError(str(error)) from None
    except (BundleError, ValueError) as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        raise CommandError(_stopped(checkpoint)) from None
    path = out or Path(f"{world.replace('/', '-')}-{bundle.digest[:12]}.trimtab")
    deliver(bundle, path, register, url, as_json, keep=lambda: lineage.keep(bundle, data))


def deliver(
    bundle: Bundle,
    path: Path,
    register: str | None,
    url: str,
    as_json: bool,
    keep: Callable[[], str | None] | None = None,
) -> None:
    """Write a bundle, keep it in the lineage, register it where asked to, and say what it is."""
    data = pack(bundle.card, bundle.onnx, bundle.weights)
    path.write_bytes(data)
    run = None if keep is None else keep()
    if register is not None:
        operate.register(register, data, url)
    result = {**_result(bundle, path, register), "run": run}
    finish(result, as_json, lambda terminal: _show(terminal, result))


def _writable(out: Path) -> None:
    """Say before a long training, not after it, that its result could not be written."""
    if out.is_dir() or not out.parent.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise UsageError(f"--out {out}: give a file in a folder that exists and can be written to")


def _preset(file: Path, algo: str | None) -> Preset:
    """The preset in a file, which says the algorithm too."""
    try:
        chosen = read_preset(tomllib.loads(read_file(file).decode()))
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from None
    if algo in LEARNED and algo != chosen.algo:
        raise UsageError(f"--algo {algo} was given, and {file} is a preset for {chosen.algo}: leave one of them out")
    return chosen


def require_listed(world: World) -> None:
    """Refuse a continuum of actions before the libraries do, in words that nobody outside knows."""
    if not world.actions.nvec:
        raise UsageError(
            "prices=any lets every price be asked, from which no policy is learned: give a list of prices, such as "
            "prices=0.5:4.25:0.25"
        )


def _require_algo(algo: str, written_out: Sequence[str], **learned: Any) -> None:
    """An algorithm that exists, and no option of learning for a policy that is written out without any."""
    if algo not in (*LEARNED, *written_out):
        raise UsageError(f"there is no algorithm {algo!r}: give one of {', '.join((*LEARNED, *written_out))}")
    for name, value in learned.items():
        if value and algo not in LEARNED:
            option = name.replace("start", "from")
            raise UsageError(f"{algo} is written out for one world without learning: leave --{option} out")


def _refuse(**given: Any) -> None:
    for name, value in given.items():
        if value:
            raise UsageError(f"--{name.replace('start', 'from')} is for worlds; a Gymnasium environment takes none")


def _checkpoint(world: str, out: Path | None, resume: bool) -> Path:
    """Where a training that is cut can be taken up by the same call with --resume."""
    beside = out or Path(world)
    path = beside.with_name(f"{beside.name}.checkpoint")
    if resume and not path.exists():
        raise UsageError(f"there is no {path} to resume from: leave --resume out")
    if path.exists() and not resume:
        raise UsageError(f"{path} is left of a training that was cut: go on with --resume, or delete it")
    return path


def _stopped(checkpoint: Path | None) -> str:
    if checkpoint is not None and checkpoint.exists():
        return "stopped on the way; the same call with --resume goes on from the last checkpoint"
    return "stopped on the way, before there was a checkpoint: nothing is kept"


def _start(file: Path) -> Bundle:
    try:
        return unpack(read_file(file))
    except BundleError as error:
        raise CommandError(f"{file}: {error}") from None


def read_file(path: Path) -> bytes:
    """A file's bytes. Raises `UsageError` where they cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _watched(fit: Callable[[Callable[[training.Progress], bool]], Bundle]) -> Bundle:
    """Train with a bar where there is a terminal, with a line now and then where there is none."""
    terminal = console()
    if not terminal.is_terminal:
        return fit(_Lines(terminal))
    parts = (
        TextColumn("training"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*parts, console=terminal) as bar:
        task = bar.add_task("", total=1.0)

        def tell(progress: training.Progress) -> bool:
            bar.update(task, completed=progress.steps / max(progress.total, 1), description=_in_words(progress))
            return True

        return fit(tell)


class _Lines:
    """Progress for a pipe or a file: a line now and then."""

    def __init__(self, terminal: Console) -> None:
        self._terminal = terminal
        self._told = 0

    def __call__(self, progress: training.Progress) -> bool:
        self._told += 1
        if self._told % _LINE_EVERY == 1:
            done = percent(progress.steps / max(progress.total, 1))
            self._terminal.print(f"training {done:>6}  {_in_words(progress)}, {progress.seconds_left:.0f} s left")
        return True


def _in_words(progress: training.Progress) -> str:
    below = "" if progress.gap is None else f", {gap(progress.gap / 100)} below the optimum"
    return f"{progress.steps:,} steps, {progress.rate:,.0f}/s, value {shown(progress.value)}{below}"


def _result(bundle: Bundle, path: Path, register: str | None) -> dict[str, Any]:
    card = bundle.card
    return {
        "bundle": str(path),
        "digest": bundle.digest,
        "world": card.world,
        "algo": card.algo,
        "preset": card.preset,
        "seed": card.seed,
        "steps": card.steps,
        "temperature": card.temperature,
        "metrics": in_shares(card.metrics),
        "curve": columns(card.curve),
        "registered": register,
    }


def _show(out: Console, result: Mapping[str, Any]) -> None:
    metrics = result["metrics"]
    effort = f", {result['steps']:,} steps in {metrics['seconds']:.0f} s" if result["steps"] else ""
    out.print(f"{result['bundle']}  {result['algo'] or 'imported'}{effort}")
    below = f", {gap(metrics['gap_share'])} below the optimum as served" if "gap_share" in metrics else ""
    if "value" in metrics:
        out.print(f"value {shown(metrics['value'])}{below}")
    if result["registered"]:
        out.print(
            f"registered for {result['registered']}: `trimtab promote {result['registered']} {result['digest'][:12]}`"
        )
