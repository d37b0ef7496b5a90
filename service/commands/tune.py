"""`trimtab tune`: search the settings of an algorithm for a world."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.tune import StudyError, Tuned, as_toml, tune
from envs import worlds
from envs.dynamics import ParamsError
from service.commands.output import CommandError, UsageError, console, finish, percent, shown
from service.commands.train import require_listed
from service.outside import parameters
from service.outside.parameters import ParameterError

TUNED = ("ppo", "a2c", "maskable-ppo")


def run(
    world: str,
    algo: str,
    params: str,
    ranges: str,
    trials: int,
    steps: int,
    seed: int,
    study: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Search, and write the best preset for `trimtab train --preset`."""
    terminal = console()

    done = 0

    def told(trial: int, score: float | None) -> bool:
        nonlocal done
        done += 1
        earlier = "" if trial + 1 == done else f" (trial {trial + 1} of the study)"
        terminal.print(f"trial {done} of {trials}{earlier}, best score {shown(score)}")
        return True

    try:
        made = worlds.make(world, parameters.parse(params))
        require_listed(made)
        if algo not in TUNED:
            raise UsageError(f"{algo!r} cannot be tuned: give one of {', '.join(TUNED)}")
        given = parameters.ranges(ranges)
        tuned = tune(made, trials=trials, steps=steps, study=study, algo=algo, seed=seed, ranges=given, told=told)
    except (ParameterError, ParamsError, StudyError) as error:
        raise UsageError(str(error)) from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    path = out or Path(f"{world}-{algo}.toml")
    path.write_text(as_toml(tuned))
    drawn = _drawn(path.with_suffix(".png"), f"what mattered in {world}, {algo}", tuned)
    found = {name: value for name, value in asdict(tuned).items() if name != "preset"}
    result = {"out": str(path), "plot": drawn, "world": world, "algo": algo, "settings": asdict(tuned.preset), **found}
    finish(result, as_json, lambda out: _show(out, path, tuned, result))


def _drawn(path: Path, title: str, tuned: Tuned) -> str | None:
    """What each setting explains as a picture beside the preset, where enough trials can tell and it can be drawn."""
    if not tuned.importance:
        return None
    try:
        from agents.pictures import draw_shares
    except ImportError:
        return None
    path.write_bytes(draw_shares(title, tuned.importance))
    return str(path)


def _show(out: Console, path: Path, tuned: Tuned, result: Mapping[str, Any]) -> None:
    out.print(f"{path}: score {shown(tuned.score)} after {tuned.trials} trials, {tuned.pruned} of them given up early")
    for name, share in sorted(tuned.importance.items(), key=lambda item: -item[1]):
        out.print(f"  {name} explains {percent(share)}")
    if result["plot"]:
        out.print(f"drawn in {result['plot']}")
    elif not tuned.importance:
        out.print("no picture: what mattered can be told from four finished trials with different scores on")
    out.print(f"use it with `trimtab train {result['world']} --preset {path}`")
