"""Evaluations as one HTML page without outside parts: values side by side, policy map, learning curve, held-out gaps.

Text and numbers in, a string out. Colours are chosen so that they can be told apart in grey.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.evaluate import tabulated
from agents.held_out import HeldOut
from agents.policy import Policy
from envs import exact
from envs.dynamics import World

Array = NDArray[np.float64]
WIDTH, HEIGHT, MARGIN = 640, 260, 46
MAX_CELLS = 200
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}svg text{font-size:11px;fill:#444}"
)


@dataclass(frozen=True)
class Map:
    """A number for each pair of two coordinates; NaN leaves a cell empty.

    Args:
        title: what the numbers are, with their unit.
        across: name and values of the horizontal coordinate.
        down: name and values of the vertical one.
        cells: (down, across).
    """

    title: str
    across: tuple[str, Sequence[float]]
    down: tuple[str, Sequence[float]]
    cells: Array


@dataclass(frozen=True)
class Page:
    """What a page shows; empty parts are left out.

    Args:
        title: of the page.
        facts: what was evaluated, by name.
        values: rows of a table: name, value, interval, gap in percent (None where unknown).
        curve: steps and gap to the optimum in percent during training.
        maps: policy maps, or gaps over parameters.
    """

    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    values: Sequence[tuple[str, float, tuple[float, float], float | None]] = ()
    curve: Sequence[tuple[int, float]] = ()
    maps: Sequence[Map] = ()


def policy_map(policy: Policy, world: World) -> Map | None:
    """The mean action of a policy over the first two entries of the context, or None where that is no picture.

    States that share both entries are averaged.
    """
    table = tabulated(policy, world)
    values = world.actions.values if world.actions.values is not None else np.arange(world.actions.n)
    if table is None or len(world.context) < 2 or np.ndim(values) != 1:
        return None
    seen = world.observe(exact.states(world))[:, :2]
    (rows, i), (columns, j) = (np.unique(column, return_inverse=True) for column in seen.T)
    if len(rows) > MAX_CELLS or len(columns) > MAX_CELLS:
        return None
    total, count = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
    np.add.at(total, (i, j), table @ np.asarray(values, np.float64))
    np.add.at(count, (i, j), 1)
    cells = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    down, across = world.context[0].name, world.context[1].name
    title = f"{world.actions.name} ({world.actions.unit})" if world.actions.unit else world.actions.name
    return Map(title, (across, columns.tolist()), (down, rows.tolist()), cells)


def gap_maps(found: HeldOut, bins: int = 4) -> list[Map]:
    """Mean gap in percent by pairs of varied parameters, each cut into quantiles."""
    if found.gaps is None:
        return []
    maps = []
    for a, b in combinations(range(len(found.columns)), 2):
        cuts = [np.quantile(found.rows[:, c], np.linspace(0, 1, bins + 1)) for c in (a, b)]
        i, j = (np.searchsorted(cut[1:-1], found.rows[:, c]) for cut, c in zip(cuts, (a, b), strict=True))
        total, count = np.zeros((bins, bins)), np.zeros((bins, bins))
        np.add.at(total, (i, j), found.gaps)
        np.add.at(count, (i, j), 1)
        cells = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        middles = [((cut[1:] + cut[:-1]) / 2).tolist() for cut in cuts]
        down, across = (found.columns[a], middles[0]), (found.columns[b], middles[1])
        maps.append(Map("gap to the optimum (%)", across, down, cells))
    return maps


def render(page: Page) -> str:
    """The page as HTML."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(page.title)}</title>",
        f"<style>{STYLE}</style><h1>{html.escape(page.title)}</h1>",
        _facts(page.facts),
        _values(page.values),
        _curve(page.curve),
        *(_map(found) for found in page.maps),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _facts(facts: dict[str, Any]) -> str:
    rows = "".join(f"<tr><td>{html.escape(name)}<td>{html.escape(str(value))}" for name, value in facts.items())
    return f"<table>{rows}</table>" if rows else ""


def _values(values: Sequence[tuple[str, float, tuple[float, float], float | None]]) -> str:
    rows = []
    for name, value, (low, high), gap in values:
        below = "" if gap is None else f"{gap:.2f} %"
        rows.append(f"<tr><td>{html.escape(name)}<td>{value:.6g}<td>{low:.6g} to {high:.6g}<td>{below}")
    head = "<tr><th>policy<th>value<th>95 % interval<th>below the optimum"
    return f"<h2>Values</h2><table>{head}{''.join(rows)}</table>" if rows else ""


def _curve(curve: Sequence[tuple[int, float]]) -> str:
    """Gap against steps, the gap on a logarithmic axis; gaps of 0 and below lie on its lower end."""
    if len(curve) < 2:
        return ""
    steps, gaps = np.array(curve, np.float64).T
    shown = np.maximum(gaps, 0.01)
    low, high = np.floor(np.log10(shown.min())), np.ceil(np.log10(shown.max()) + 1e-9)
    x = MARGIN + (WIDTH - 2 * MARGIN) * (steps - steps[0]) / max(steps[-1] - steps[0], 1)
    y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (np.log10(shown) - low) / max(high - low, 1)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    ticks = []
    for power in range(int(low), int(high) + 1):
        at = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (power - low) / max(high - low, 1)
        ticks.append(f"<line x1={MARGIN} x2={WIDTH - MARGIN} y1={at:.1f} y2={at:.1f} stroke=#ddd />")
        ticks.append(f"<text x=4 y={at + 4:.1f}>{10.0**power:g} %</text>")
    ends = f"<text x={MARGIN} y={HEIGHT - 20}>{steps[0]:,.0f}</text>"
    ends += f"<text x={WIDTH - MARGIN} y={HEIGHT - 20} text-anchor=end>{steps[-1]:,.0f} steps</text>"
    drawn = f"<polyline points='{line}' fill=none stroke=#205080 stroke-width=2 />"
    return f"<h2>Below the optimum while learning</h2>{_svg(HEIGHT, ''.join(ticks) + ends + drawn)}"


def _map(found: Map) -> str:
    down, across = found.cells.shape
    side = min(40.0, (WIDTH - 2 * MARGIN) / max(across, 1))
    height = side * down + 2 * MARGIN
    low, high = float(np.nanmin(found.cells)), float(np.nanmax(found.cells))
    cells = []
    for i in range(down):
        for j in range(across):
            value = found.cells[i, j]
            if np.isnan(value):
                continue
            place = f"x={MARGIN + j * side:.1f} y={MARGIN + i * side:.1f} width={side:.1f} height={side:.1f}"
            label = f"{found.down[0]} {found.down[1][i]:g}, {found.across[0]} {found.across[1][j]:g}: {value:.4g}"
            share = (value - low) / (high - low) if high > low else 0.5
            cells.append(f"<rect {place} fill='{_colour(share)}'><title>{html.escape(label)}</title></rect>")
    names = f"<text x={MARGIN} y={height - 12:.0f}>{html.escape(_axis(found.across))}</text>"
    names += f"<text x={MARGIN} y=30>{html.escape(_axis(found.down))} downwards</text>"
    scale = f"{low:.4g} (dark) to {high:.4g} (light)"
    return f"<h2>{html.escape(found.title)}</h2><p>{scale}</p>{_svg(height, ''.join(cells) + names)}"


def _axis(axis: tuple[str, Sequence[float]]) -> str:
    return f"{axis[0]}: {axis[1][0]:g} to {axis[1][-1]:g}"


def _svg(height: float, inside: str) -> str:
    return f"<svg viewBox='0 0 {WIDTH} {height:.0f}' width={WIDTH} role=img>{inside}</svg>"


def _colour(share: float) -> str:
    """From dark blue to light yellow, lightness growing with the share."""
    dark, light = np.array([24, 42, 96]), np.array([250, 226, 130])
    red, green, blue = np.rint(dark + (light - dark) * share).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
