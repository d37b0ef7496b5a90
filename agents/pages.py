"""Evaluations as one HTML page without outside parts: values side by side, learning curve, policy maps, held-out gaps.

Text and numbers in, a string out; `agents.pictures` draws the same pages as PNG. Colours are chosen so that they can be
told apart in grey.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
Axis = tuple[str, Sequence[float | str]]
WIDTH, HEIGHT = 680, 260
LEFT, RIGHT, TOP, BOTTOM = 96, 110, 14, 44
MAX_CELLS, MAX_TICKS, MAX_NUMBERS = 200, 8, 60
DARK, LIGHT = (24, 42, 96), (250, 226, 130)
QUARTERS = ("lowest quarter", "second", "third", "highest quarter")
# A pair of parameters needs some worlds in most of its cells to say anything.
MAX_PAIRED = 3
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}h2{margin-top:2rem;font-size:1.1rem}"
    ".facts td{text-align:left;overflow-wrap:anywhere}"
    "svg{max-width:100%;height:auto}rect{shape-rendering:crispEdges}"
    "svg text{font-size:11px;fill:#444}svg text.on-dark{fill:#fff}"
)


@dataclass(frozen=True)
class Map:
    """A number for each pair of two coordinates; NaN leaves a cell empty.

    Args:
        title: what the numbers are, with their unit.
        across: name and values of the horizontal coordinate.
        down: name and values of the vertical one; numbers grow upwards, names are listed downwards.
        cells: (down, across).
        scale: numbers of the darkest and the lightest colour; the smallest and the largest cell where None.
    """

    title: str
    across: Axis
    down: Axis
    cells: Array
    scale: tuple[float, float] | None = None

    @property
    def upwards(self) -> bool:
        """Whether the first row stands at the bottom."""
        return not isinstance(self.down[1][0], str)

    @property
    def ends(self) -> tuple[float, float]:
        """The scale that is drawn."""
        return self.scale or (float(np.nanmin(self.cells)), float(np.nanmax(self.cells)))


@dataclass(frozen=True)
class Page:
    """What a page shows; empty parts are left out.

    Args:
        title: of the page.
        facts: what was evaluated, by name.
        values: rows of a table: name, value, interval, percent below the optimum (None where unknown).
        curve: steps and gap to the optimum in percent during training.
        maps: policy maps, or gaps over parameters.
        spreads: rows over held-out worlds, in percent: name, mean, its interval, median, maximum.
        below: what the spreads are below: the optimum, or a proven bound.
    """

    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    values: Sequence[tuple[str, float, tuple[float, float], float | None]] = ()
    curve: Sequence[tuple[int, float]] = ()
    maps: Sequence[Map] = ()
    spreads: Sequence[tuple[str, float, tuple[float, float], float, float]] = ()
    below: str = "optimum"


def policy_map(policy: Policy, world: World, whose: str = "") -> Map | None:
    """The mean action of a policy over the first two entries of the context, or None where that is no picture.

    States that share both entries are averaged. An action that is a set counts its members. States where no action
    makes a difference to the reward (nothing left to sell) are left out, unless that is so in all of them.
    """
    table = tabulated(policy, world)
    if table is None or len(world.context) < 2 or len(world.actions.nvec) != 1:
        return None
    values = np.asarray(world.actions.values if world.actions.values is not None else np.arange(world.actions.n), float)
    numbers = values.sum(axis=1) if values.ndim == 2 else values
    seen = world.observe(exact.states(world))[:, :2]
    (rows, i), (columns, j) = (np.unique(column, return_inverse=True) for column in seen.T)
    if len(rows) > MAX_CELLS or len(columns) > MAX_CELLS:
        return None
    matters = _matters(world)
    cells = _means((i[matters], j[matters]), (len(rows), len(columns)), (table @ numbers)[matters])
    down, across = world.context[0].name, world.context[1].name
    name = f"number of {world.actions.name}" if values.ndim == 2 else world.actions.name
    title = f"{name} ({world.actions.unit})" if world.actions.unit and values.ndim == 1 else name
    return Map(f"{title}, {whose}" if whose else title, (across, columns.tolist()), (down, rows.tolist()), cells)


def _matters(world: World) -> NDArray[np.bool_]:
    """Where (S,) the reward of a period depends on what is done; everywhere, where it never does."""
    states = exact.states(world)
    rewards = [world.expected_reward(states, np.full(len(states), action)) for action in range(world.actions.n)]
    matters = np.ptp(rewards, axis=0) > 0
    return np.asarray(matters if matters.any() else ~matters)


def on_one_scale(maps: Sequence[Map]) -> list[Map]:
    """The maps with the same colours for the same numbers."""
    if not maps:
        return []
    ends = np.array([found.ends for found in maps])
    return [replace(found, scale=(float(ends[:, 0].min()), float(ends[:, 1].max()))) for found in maps]


def parameter_map(found: HeldOut, below: str = "optimum") -> Map | None:
    """Mean gap in percent for each varied parameter by itself, whose draws are cut into four quarters."""
    gaps = _gaps(found)
    if gaps is None or len(gaps) < len(QUARTERS):
        return None
    parts = len(QUARTERS)
    cells = np.array([_means((_quantile(column, parts),), (parts,), gaps) for column in found.rows.T])
    return Map(f"below the {below} (%), by parameter", ("", QUARTERS), ("parameter", found.columns), cells)


def gap_maps(found: HeldOut, bins: int = 4, below: str = "optimum") -> list[Map]:
    """Mean gap in percent by pairs of up to three varied parameters, each cut into quantiles."""
    gaps = _gaps(found)
    if gaps is None or len(found.columns) > MAX_PAIRED:
        return []
    maps = []
    for a, b in combinations(range(len(found.columns)), 2):
        places = tuple(_quantile(found.rows[:, c], bins) for c in (a, b))
        cuts = [np.quantile(found.rows[:, c], np.linspace(0, 1, bins + 1)) for c in (a, b)]
        middles = [[float(f"{middle:.3g}") for middle in (cut[1:] + cut[:-1]) / 2] for cut in cuts]
        cells = _means(places, (bins, bins), gaps)
        down, across = (found.columns[a], middles[0]), (found.columns[b], middles[1])
        maps.append(Map(f"below the {below} (%), by pairs", across, down, cells))
    return maps


def _gaps(found: HeldOut) -> Array | None:
    return found.gaps if found.gaps is not None else found.gaps_to_bound


def _quantile(figures: Array, bins: int) -> NDArray[np.int64]:
    """Which of so many equally likely parts each figure lies in (n,)."""
    cuts = np.quantile(figures, np.linspace(0, 1, bins + 1))[1:-1]
    return np.searchsorted(cuts, figures)


def _means(places: tuple[NDArray[np.int64], ...], shape: tuple[int, ...], figures: Array) -> Array:
    """The mean of the figures at each place, NaN where there is none."""
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, places, figures)
    np.add.at(count, places, 1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def render(page: Page) -> str:
    """The page as HTML."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(page.title)}</title>",
        f"<style>{STYLE}</style><h1>{html.escape(page.title)}</h1>",
        _facts(page.facts),
        _values(page.values),
        _spreads(page.spreads, page.below),
        _curve(page.curve),
        *(_map(found) for found in page.maps),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _facts(facts: dict[str, Any]) -> str:
    rows = "".join(f"<tr><td>{html.escape(name)}<td>{html.escape(str(value))}" for name, value in facts.items())
    return f"<table class=facts>{rows}</table>" if rows else ""


def _values(values: Sequence[tuple[str, float, tuple[float, float], float | None]]) -> str:
    rows = []
    for name, value, (low, high), gap in values:
        missing = "" if gap is None else f"{gap:.2f} %"
        interval = "exact" if low == high else f"{low:.6g} to {high:.6g}"
        rows.append(f"<tr><td>{html.escape(name)}<td>{value:.6g}<td>{interval}<td>{missing}")
    head = "<tr><th>policy<th>value<th>95 % interval<th>below the optimum"
    return f"<h2>Values</h2><table>{head}{''.join(rows)}</table>" if rows else ""


def _spreads(spreads: Sequence[tuple[str, float, tuple[float, float], float, float]], below: str) -> str:
    rows = [
        f"<tr><td>{html.escape(name)}<td>{mean:.2f} %<td>{low:.2f} to {high:.2f} %<td>{median:.2f} %<td>{most:.2f} %"
        for name, mean, (low, high), median, most in spreads
    ]
    head = "<tr><th>policy<th>mean<th>95 % interval<th>median<th>maximum"
    return f"<h2>Below the {html.escape(below)}</h2><table>{head}{''.join(rows)}</table>" if rows else ""


def _curve(curve: Sequence[tuple[int, float]]) -> str:
    """The best gap so far against steps, on a logarithmic axis; gaps of 0 and below lie on its lower end."""
    if len(curve) < 2:
        return ""
    steps, gaps = np.array(curve, np.float64).T
    shown = np.maximum(gaps, 0.01)
    low, high = np.floor(np.log10(shown.min())), np.ceil(np.log10(shown.max()) + 1e-9)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x = LEFT + (right - LEFT) * (steps - steps[0]) / max(steps[-1] - steps[0], 1)
    y = bottom - (bottom - TOP) * (np.log10(shown) - low) / max(high - low, 1)
    corners = zip(x[1:], y[1:], y[:-1], strict=True)
    line = " ".join([f"{x[0]:.1f},{y[0]:.1f}", *(f"{a:.1f},{was:.1f} {a:.1f},{b:.1f}" for a, b, was in corners)])
    ticks = []
    for power in range(int(low), int(high) + 1):
        at = bottom - (bottom - TOP) * (power - low) / max(high - low, 1)
        ticks.append(f"<line x1={LEFT} x2={right} y1={at:.1f} y2={at:.1f} stroke=#ddd />")
        ticks.append(_text(LEFT - 8, at + 4, f"{10.0**power:g} %", "end"))
    ends = _text(LEFT, bottom + 18, f"{steps[0]:,.0f}", "start") + _text(
        right, bottom + 18, f"{steps[-1]:,.0f} steps", "end"
    )
    drawn = f"<polyline points='{line}' fill=none stroke=#205080 stroke-width=2 />"
    return f"<h2>Below the optimum while learning</h2>{_svg(HEIGHT, ''.join(ticks) + ends + drawn)}"


def _map(found: Map) -> str:
    down, across = found.cells.shape
    wide, tall = min(96.0, (WIDTH - LEFT - RIGHT) / across), min(40.0, 400 / down)
    low, high = found.ends
    place = (LEFT, wide), (TOP + tall * (down - 1 if found.upwards else 0), -tall if found.upwards else tall)
    drawn = []
    for (i, j), value in np.ndenumerate(found.cells):
        if np.isnan(value):
            continue
        x, y = (start + step * k for (start, step), k in zip(place, (j, i), strict=True))
        share = (value - low) / (high - low) if high > low else 0.5
        label = f"{_named(found.down, i)}, {_named(found.across, j)}: {value:.4g}"
        drawn.append(
            f"<rect x={x:.1f} y={y:.1f} width={wide + 0.5:.1f} height={tall + 0.5:.1f} fill='{colour(share)}'>"
            f"<title>{html.escape(label)}</title></rect>"
        )
        if found.cells.size <= MAX_NUMBERS:
            shade = "on-dark" if share < 0.5 else ""
            drawn.append(_text(x + wide / 2, y + tall / 2 + 4, f"{value:.3g}", "middle", shade))
    bottom = TOP + tall * down
    middle = place[1][0] + tall / 2 + 4
    drawn += [
        *(_text(LEFT + wide * (j + 0.5), bottom + 15, _label(found.across[1][j]), "middle") for j in ticks_of(across)),
        *(_text(LEFT - 6, middle + place[1][1] * i, _label(found.down[1][i]), "end") for i in ticks_of(down)),
    ]
    drawn.append(_text(LEFT + wide * across / 2, bottom + 32, found.across[0], "middle"))
    drawn.append(_scale(low, high, bottom, LEFT + wide * across + 16))
    if found.upwards:
        centre = f"transform='translate(40 {(TOP + bottom) / 2:.1f}) rotate(-90)'"
        drawn.append(f"<text {centre} text-anchor=middle>{html.escape(found.down[0])}</text>")
    title = found.title[:1].upper() + found.title[1:]
    return f"<h2>{html.escape(title)}</h2>{_svg(bottom + BOTTOM, ''.join(drawn))}"


def _scale(low: float, high: float, bottom: float, x: float) -> str:
    """The colours from low to high, beside a map."""
    if not high > low:
        return _text(x, TOP + 10, f"{low:.4g}", "start")
    tall = (bottom - TOP) / 8
    steps = "".join(
        f"<path d='M{x:.0f} {bottom - tall * (k + 1):.1f}h12v{tall + 0.5:.1f}h-12z' fill='{colour((k + 0.5) / 8)}' />"
        for k in range(8)
    )
    return steps + _text(x + 16, TOP + 9, f"{high:.4g}", "start") + _text(x + 16, bottom, f"{low:.4g}", "start")


def ticks_of(n: int) -> list[int]:
    """Places of an axis of n cells that get a label, at most eight, the first among them.

    >>> ticks_of(21)
    [0, 5, 10, 15, 20]
    """
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50, n) if n <= MAX_TICKS * s)
    return list(range(0, n, step))


def _named(axis: Axis, place: int) -> str:
    return f"{axis[0]} {_label(axis[1][place])}".strip()


def _label(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _text(x: float, y: float, words: str, anchor: str, shade: str = "") -> str:
    shaded = f" class={shade}" if shade else ""
    return f"<text x={x:.1f} y={y:.1f} text-anchor={anchor}{shaded}>{html.escape(words)}</text>"


def _svg(height: float, inside: str) -> str:
    return f"<svg viewBox='0 0 {WIDTH} {height:.0f}' width={WIDTH} role=img>{inside}</svg>"


def colour(share: float) -> str:
    """From dark blue to light yellow, lightness growing with the share."""
    dark, light = np.array(DARK), np.array(LIGHT)
    red, green, blue = np.rint(dark + (light - dark) * share).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
