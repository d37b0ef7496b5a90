"""The part of `trimtab evaluate` that draws worlds from ranges and evaluates every policy in each of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from agents.evaluate import Evaluation
from agents.held_out import Draws, HeldOut, draw, evaluate_in, spread
from agents.pages import Map, Page, gap_maps, parameter_map
from agents.policy import Policy
from agents.ranges import Family
from envs.dynamics import World
from service.commands.output import CommandError, UsageError, gap, shown, table

Maker = Callable[[World], Policy]
Ranges = Mapping[str, tuple[float, float]]
# Cells of a map over pairs of parameters, each way, for so many draws; with fewer than the least most would be empty.
LEAST_DRAWS, FEW_DRAWS, FEW_BINS, BINS = 30, 50, 3, 5


def evaluated(
    world: World,
    ranges: Ranges,
    makers: Mapping[str, Maker | None],
    draws: int,
    episodes: int,
    seed: int,
    terminal: Console,
) -> tuple[dict[str, Any], Page]:
    """Every policy in the same drawn worlds, the first being the one that was asked for; None is the exact optimum."""
    family = Family(world, ranges)
    if not family.ranges:
        raise UsageError("--ranges names no parameter: give k=low:high,..")
    drawn = draw(family, draws, seed)
    found = {}
    for name, make in makers.items():
        terminal.print(f"{short(name)}: {draws} worlds")
        found[name] = _optimum(drawn) if make is None else evaluate_in(make, drawn, episodes)
    own = next(iter(found))
    result = {
        "world": world.id,
        "ranges": dict(ranges),
        "draws": draws,
        "seed": seed,
        **found[own].summary(),
        "baselines": {
            name: {**_figures(other), "gain_share": spread(found[own].gains(other) / 100)}
            for name, other in found.items()
            if name != own
        },
    }
    return result, _page(own, world, ranges, drawn, found)


def _optimum(drawn: Draws) -> HeldOut:
    if drawn.optima is None:
        raise CommandError("the exact optima of these worlds are out of reach: evaluate a bundle or a baseline")
    values = tuple(Evaluation(float(value), (float(value), float(value)), "exact") for value in drawn.optima)
    return HeldOut(drawn.columns, drawn.rows, values, drawn.optima)


def _figures(found: HeldOut) -> dict[str, Any]:
    summary = found.summary()
    del summary["worlds"]
    return {**summary, "values": found.values.tolist()}


def _page(own: str, world: World, ranges: Ranges, drawn: Draws, found: Mapping[str, HeldOut]) -> Page:
    below = "optimum" if drawn.optima is not None else "bound"
    maps = [parameter_map(found[own], below), *_pairs(found[own], below)]
    told = {name: f"{low:g} to {high:g}" for name, (low, high) in ranges.items()}
    name = short(own)
    return Page(
        f"{name} in {len(drawn.rows)} worlds of {world.id}",
        {"policy": own, "world": world.id, **told, "draws": len(drawn.rows), "seed": drawn.seed},
        spreads=[(short(name), *row) for name, one in found.items() if (row := _spread(one)) is not None],
        below=below,
        maps=[one for one in maps if one is not None],
    )


def _pairs(found: HeldOut, below: str) -> list[Map]:
    """Gaps by pairs of parameters, where there are worlds enough to fill most of the cells."""
    draws = len(found.rows)
    if draws < LEAST_DRAWS:
        return []
    maps = gap_maps(found, FEW_BINS if draws < FEW_DRAWS else BINS, below)
    white = " (white: no world fell there)"
    return [replace(one, title=one.title + white * bool(np.isnan(one.cells).any())) for one in maps]


def short(name: str) -> str:
    """A policy's name as people read it: of a digest the beginning."""
    return name[:12] if len(name) == 64 else name


def _spread(found: HeldOut) -> tuple[float, tuple[float, float], float, float] | None:
    gaps = found.gaps if found.gaps is not None else found.gaps_to_bound
    if gaps is None:
        return None
    figures = spread(gaps, least=0.0)
    low, high = figures["interval"]
    mean = figures["mean"]
    return mean, (mean if low is None else low, mean if high is None else high), figures["median"], figures["max"]


def show(out: Console, result: Mapping[str, Any]) -> None:
    """For people."""
    known = next((name for name in ("gap_share", "gap_to_bound_share") if name in result), None)
    below = {"gap_share": "the optimum", "gap_to_bound_share": "a proven bound", None: "anything: no bound is known"}
    over = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in result["ranges"].items())
    out.print(f"{result['world']}, {result['draws']} worlds with {over}: what is missing to {below[known]}")
    rows = [_row(short(result["policy"]), result.get(known or ""), None)]
    rows += [_row(name, told.get(known or ""), told["gain_share"]) for name, told in result["baselines"].items()]
    out.print(table(("policy", "mean", "95 % interval", "median", "maximum", "the policy earns more by"), rows))
    for name in ("html", "plot"):
        if name in result:
            out.print(f"drawn in {result[name]}")


def _row(name: str, figures: Mapping[str, Any] | None, gain: Mapping[str, Any] | None) -> tuple[str, ...]:
    more = "" if gain is None else f"{gain['mean']:+.2%} ({_between(gain['interval'], '+')})"
    if figures is None:
        return name, shown(None), "", "", "", more
    middle = gap(figures["median"]), gap(figures["max"])
    return name, gap(figures["mean"]), _between(figures["interval"]), *middle, more


def _between(interval: tuple[float | None, float | None], sign: str = "") -> str:
    low, high = interval
    return shown(None) if low is None else f"{low:{sign}.2%} to {high:{sign}.2%}"
