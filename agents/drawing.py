"""Figures drawn as HTML: text that keeps its size beside curves that fill whatever room there is.

A page needs `STYLE` once, and `SCRIPT` for what is under the pointer and for times in the reader's zone; without it all
is still there, with times in UTC. Nothing is fetched from anywhere.
"""

import html
import json
import math
from collections.abc import Sequence
from importlib import resources

from agents.figures import Bars, Chart, Figure, Heat, Line, Numbers, Shares
from agents.scales import Scale, known, number, shade, time_labels
from agents.scales import labels as labels_at

STYLE = (resources.files("agents") / "figures.css").read_text()
SCRIPT = (resources.files("agents") / "figures.js").read_text()

TALL = 1000.0
"""Units of a drawing in both directions; the browser stretches them over the room there is."""


def draw(figure: Figure) -> str:
    """A figure as one HTML element."""
    if isinstance(figure, Chart):
        return _chart(figure)
    if isinstance(figure, Shares):
        return _shares(figure)
    return _bars(figure) if isinstance(figure, Bars) else _heat(figure)


def document(title: str, body: str, style: str = "") -> str:
    """One self-contained page around drawn figures."""
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>{_titled(title)}"
    return (
        f"<!doctype html><html lang=en><head>{head}<style>{STYLE}{style}</style></head>"
        f"<body class=tt-page>{body}<script>{SCRIPT}</script></body></html>\n"
    )


def _titled(title: str) -> str:
    return f"<title>{html.escape(title)}</title>"


def _chart(chart: Chart) -> str:
    seen = [value for line in chart.lines for part in (line.y, line.low, line.high) for value in part if known(value)]
    if not chart.x or not seen:
        return _empty(chart.title, chart.note or "Nothing has been seen yet.")
    across = Scale(chart.x[0], chart.x[-1] if len(chart.x) > 1 else chart.x[0] + 1.0)
    up = _upwards(chart, seen)
    drawn = [_grid(up)]
    for zone in chart.zones:
        top, bottom = (TALL * (1 - min(max(up(v), 0.0), 1.0)) for v in (zone.high, zone.low))
        drawn.append(f"<rect class=tt-zone x=0 y={top:.0f} width=1000 height={max(bottom - top, 0):.0f} />")
    marks = [mark for mark in chart.marks if across.low <= mark.x <= across.high]
    drawn += [f"<path class='tt-mark tt-{m.kind}' d='M{TALL * across(m.x):.1f} 0V1000'/>" for m in marks]
    drawn += [_line(line, chart.x, across, up) for line in chart.lines]
    flags = "".join(
        f"<i class='tt-flag tt-{mark.kind}' style='left:{100 * across(mark.x):.2f}%' title='{_text(mark.text)}'></i>"
        for mark in marks
    )
    zones = "".join(
        f"<span class=tt-zone-name style='bottom:{100 * min(max(up(zone.high), 0.0), 1.0):.1f}%'>"
        f"{_text(zone.text)}</span>"
        for zone in chart.zones
    )
    data = {
        "x": [round(x, 3) for x in chart.x],
        "timed": chart.timed,
        "label": chart.label,
        "unit": chart.unit,
        "lines": [
            {
                "name": line.name,
                "role": line.role,
                "y": _short(line.y),
                "low": _short(line.low),
                "high": _short(line.high),
            }
            for line in chart.lines
        ],
        "marks": [{"x": mark.x, "text": mark.text, "kind": mark.kind} for mark in marks],
    }
    labels = time_labels(across) if chart.timed else labels_at(across.ticks(), across)
    legend = [(line.name, f"tt-{line.role}{' tt-dashed' if line.dashed else ''}") for line in chart.lines]
    area = f"{_svg(''.join(drawn))}{flags}{zones}"
    return _framed(chart.title, chart.unit, legend, area, labels, _heights(up), data, chart)


def _upwards(chart: Chart, seen: Sequence[float]) -> Scale:
    """The vertical scale: what is seen with some air; of a zone what is not far off."""
    low, high = min(seen), max(seen)
    for zone in chart.zones:
        span = (high - low) or abs(high) or 1.0
        low = zone.low if zone.low > low - 4 * span else low
        high = zone.high if zone.high < high + 4 * span else high
        low, high = min(low, *seen), max(high, *seen)
    if chart.logarithmic and low > 0:
        return Scale(low / 1.08, high * 1.08, logarithmic=True)
    air = 0.06 * ((high - low) or abs(high) or 1.0)
    return Scale(0.0 if 0 <= low < 0.35 * high else low - air, high + air)


def _line(line: Line, xs: Sequence[float], across: Scale, up: Scale) -> str:
    def place(x: float, y: float) -> str:
        return f"{TALL * across(x):.1f} {TALL * (1 - up(y)):.1f}"

    role = f"tt-{line.role}"
    parts = []
    if line.low and line.high:
        for run in _runs(xs, line.low, line.high):
            there = "L".join(place(x, high) for x, _, high in run)
            back = "L".join(place(x, low) for x, low, _ in reversed(run))
            parts.append(f"<path class='tt-band {role}' d='M{there}L{back}Z'/>")
    paths = []
    for run in _runs(xs, line.y, line.y):
        points = [(x, y) for x, y, _ in run]
        if line.stepped:
            points = [
                p for (x, y), (x2, _) in zip(points, [*points[1:], points[-1]], strict=True) for p in ((x, y), (x2, y))
            ]
        # A single value is a dot: a line of no length with round ends.
        paths.append("M" + "L".join(place(*point) for point in (points if len(points) > 1 else points * 2)))
    dashed = " tt-dashed" if line.dashed else ""
    return "".join(parts) + f"<path class='tt-line {role}{dashed}' d='{''.join(paths)}'/>"


def _runs(xs: Sequence[float], low: Numbers, high: Numbers) -> list[list[tuple[float, float, float]]]:
    """Stretches without a gap."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for x, a, b in zip(xs, low, high, strict=True):
        if known(a) and known(b):
            runs[-1].append((x, a, b))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _shares(shares: Shares) -> str:
    if not shares.x:
        return _empty(shares.title, shares.note or "Nothing has been seen yet.")
    across = Scale(shares.x[0], shares.x[-1] + shares.width)
    drawn = []
    for place in range(len(shares.names)):
        columns = []
        for x, row in zip(shares.x, shares.rows, strict=True):
            if sum(row) > 0 and row[place] > 0:
                left, right = TALL * across(x), TALL * across(x + shares.width)
                top, bottom = TALL * (1 - sum(row[: place + 1])), TALL * (1 - sum(row[:place]))
                columns.append(f"M{left:.1f} {top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}Z")
        colour = shade(place / max(len(shares.names) - 1, 1))
        drawn.append(f"<path class=tt-share fill='{colour}' d='{''.join(columns)}'/>")
    lines = [
        {
            "name": name,
            "fill": shade(i / max(len(shares.names) - 1, 1)),
            "y": [round(100 * row[i], 1) for row in shares.rows],
        }
        for i, name in enumerate(shares.names)
    ]
    data = {"x": list(shares.x), "timed": True, "unit": "%", "lines": lines[::-1], "half": shares.width / 2}
    legend = [(name, shade(i / max(len(shares.names) - 1, 1))) for i, name in enumerate(shares.names)]
    heights = [(0.0, "0"), (0.5, "50"), (1.0, "100")]
    return _framed(shares.title, "%", legend, _svg("".join(drawn)), time_labels(across), heights, data, shares)


def _bars(bars: Bars) -> str:
    if not bars.values:
        return _empty(bars.title, bars.note or "There is nothing to show.")
    most = max(*bars.values, 1e-12)
    n, drawn = len(bars.values), []
    for i, value in enumerate(bars.values):
        possible = not bars.possible or bars.possible[i]
        state = "tt-chosen" if i == bars.chosen else "" if possible else "tt-out"
        left, wide = TALL * i / n, TALL / n
        tall = max(TALL * value / most, 0.0)
        place = f"x={left + 0.1 * wide:.1f} y={TALL - tall:.1f} width={0.8 * wide:.1f} height={tall:.1f}"
        drawn.append(f"<rect class='tt-bar {state}' {place} />")
    step = max(1, math.ceil(n / 9))
    labels = [((i + 0.5) / n, _text(bars.names[i])) for i in range(0, n, step)]
    data = {
        "x": list(range(n)),
        "names": list(bars.names),
        "unit": bars.unit,
        "columns": True,
        "lines": [{"name": "", "role": "incumbent", "y": _short(bars.values)}],
    }
    up = Scale(0.0, most)
    return _framed(bars.title, bars.unit, [], _svg(_grid(up) + "".join(drawn)), labels, _heights(up), data, bars)


def _heat(heat: Heat) -> str:
    told = [value for row in heat.cells for value in row if known(value)]
    if not told:
        return _empty(heat.title, heat.note or "There is nothing to show.")
    low, high = heat.scale or (min(told), max(told))
    tall, wide = len(heat.cells), len(heat.cells[0])
    drawn = [
        f"<rect x={TALL * j / wide:.2f} y={TALL * (tall - 1 - i) / tall:.2f} width={TALL / wide + 0.6:.2f} "
        f"height={TALL / tall + 0.6:.2f} fill='{shade((value - low) / (high - low) if high > low else 0.5)}'/>"
        for i, row in enumerate(heat.cells)
        for j, value in enumerate(row)
        if known(value)
    ]
    labels = [((j + 0.5) / wide, number(heat.across[1][j], 3)) for j in _spread(wide, 6)]
    heights = [((i + 0.5) / tall, number(heat.down[1][i], 3)) for i in _spread(tall, 6)]
    data = {
        "across": [heat.across[0], list(heat.across[1])],
        "down": [heat.down[0], list(heat.down[1])],
        "cells": [_short(row) for row in heat.cells],
        "unit": heat.unit,
    }
    stops = ",".join(shade(i / 5) for i in range(6))
    scale = (
        f"<div class=tt-scale><span>{number(low, 3)}</span><i style='background:linear-gradient(90deg,{stops})'></i>"
        f"<span>{number(high, 3)} {_text(heat.unit)}</span></div>"
    )
    names = f"<div class=tt-axes>{_text(heat.down[0])} ↑ · {_text(heat.across[0])} →</div>"
    return _framed(heat.title, "", [], _svg("".join(drawn)), labels, heights, data, heat, scale + names)


def _spread(n: int, most: int) -> list[int]:
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50, n) if n <= most * s or s == n)
    return list(range(0, n, step))


def _framed(
    title: str,
    unit: str,
    legend: Sequence[tuple[str, str]],
    area: str,
    labels: Sequence[tuple[float, str]],
    heights: Sequence[tuple[float, str]],
    data: dict[str, object],
    figure: Figure,
    below: str = "",
) -> str:
    across = "".join(f"<span style='left:{100 * share:.2f}%'>{label}</span>" for share, label in labels)
    up = "".join(f"<span style='bottom:{100 * share:.2f}%'>{label}</span>" for share, label in heights)
    keys = "".join(
        f"<li><i style='background:{how}'></i>{_text(name)}</li>"
        if how.startswith("#")
        else f"<li><i class='{how}'></i>{_text(name)}</li>"
        for name, how in legend
    )
    kind = "tt-heat" if isinstance(figure, Heat) else ""
    note = f"<p class=tt-note>{_text(figure.note)}</p>" if figure.note else ""
    plot = _text(json.dumps(data, separators=(",", ":")))
    return (
        f"<figure class='tt-figure {kind}'><figcaption><b>{_text(title)}</b>"
        f"{f'<span class=tt-unit>{_text(unit)}</span>' if unit else ''}"
        f"{f'<ul>{keys}</ul>' if keys else ''}</figcaption>"
        f"<div class=tt-frame style='--tt-h:{figure.height}px'><div class=tt-up>{up}</div>"
        f"<div class=tt-area tabindex=0 role=img aria-label='{_text(title)}' data-plot='{plot}'>{area}</div>"
        f"<div class=tt-across>{across}</div></div>{below}{note}</figure>"
    )


def _empty(title: str, why: str) -> str:
    return (
        f"<figure class='tt-figure tt-empty'><figcaption><b>{_text(title)}</b></figcaption><p>{_text(why)}</p></figure>"
    )


def _svg(inside: str) -> str:
    return f"<svg viewBox='0 0 1000 1000' preserveAspectRatio=none aria-hidden=true>{inside}</svg>"


def _grid(up: Scale) -> str:
    return "".join(f"<path class=tt-grid d='M0 {TALL * (1 - up(value)):.1f}H1000'/>" for value in up.ticks())


def _heights(up: Scale) -> list[tuple[float, str]]:
    return labels_at(up.ticks(), up)


def _short(values: Numbers) -> list[float | None]:
    return [float(f"{value:.5g}") if known(value) else None for value in values]


def _text(words: str) -> str:
    return html.escape(words, quote=True)


def spark(values: Numbers) -> str:
    """A small curve without axes."""
    seen = [value for value in values if known(value)]
    if not seen:
        return _svg("")
    low, high = min(seen), max(seen)
    air = 0.08 * ((high - low) or abs(high) or 1.0)
    xs = [float(place) for place in range(len(values))]
    drawn = _line(Line("", values, "incumbent"), xs, Scale(0.0, max(xs[-1], 1.0)), Scale(low - air, high + air))
    return _svg(drawn)
