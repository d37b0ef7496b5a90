"""Pictures of a back-test: its error and metrics over the rows, with alarms and known changes, as HTML or PNG."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from online.backtest import Result
from service.commands.output import UsageError, shown

WIDTH, HEIGHT, MARGIN = 860, 240, 48
POINTS = 400
COLOURS = ("#1b6ca8", "#b5541c", "#3c7d3c", "#7a4fa3", "#8a6d1b")
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}"
    "svg{max-width:100%;height:auto}svg text{font-size:11px;fill:#444}"
)

Line = Sequence[tuple[float, float]]


def check(path: Path | None, ending: str, option: str) -> None:
    """Say before a long run, not after it, that its picture could not be written. Raises `UsageError`."""
    if path is not None and (path.suffix.lower() != ending or path.is_dir() or not path.parent.is_dir()):
        raise UsageError(f"{option} {path}: give a file ending in {ending} in a folder that exists")
    if path is not None and ending == ".png":
        _figure()


def panels(result: Result) -> dict[str, Line]:
    """A line for each panel: the mean error of each stretch of rows, and each metric so far."""
    found: dict[str, Line] = {"error": result.stretches()} if result.stretches() else {}
    for name in result.metrics:
        curve = [(float(row), values[name]) for row, values in result.curve if values[name] == values[name]]
        if len(curve) > 1:
            found[f"{name} so far"] = curve[:: max(1, len(curve) // POINTS)]
    return found


def page(title: str, facts: Mapping[str, Any], result: Result, drifts: Sequence[int]) -> str:
    """One HTML page without outside parts."""
    cells = "".join(f"<tr><td>{_text(name)}<td>{_text(shown(value))}" for name, value in facts.items())
    alarms = "".join(
        f"<tr><td>{alarm.row:,}<td>{_text(alarm.name)}<td>{_text(alarm.detector)}<td>{_text(alarm.signal)}"
        f"<td>{shown(alarm.evidence.get('before'))}<td>{shown(alarm.evidence.get('recent'))}"
        for alarm in result.alarms
    )
    marks = [alarm.row for alarm in result.alarms]
    drawn = [
        f"<h2>{_text(name)}</h2>{_svg(line, result.rows, marks, drifts, COLOURS[n % len(COLOURS)])}"
        for n, (name, line) in enumerate(panels(result).items())
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(title)}</title><style>{STYLE}</style>"
        f"<h1>{_text(title)}</h1><table>{cells}</table>{''.join(drawn)}"
        "<p>Dashed: known changes. Thin, dark: alarms.</p>"
        + (
            f"<h2>alarms</h2><table><tr><th>row<th>name<th>detector<th>on<th>before<th>then{alarms}</table>"
            if alarms
            else ""
        )
        + "\n"
    )


def png(path: Path, title: str, result: Result, drifts: Sequence[int]) -> None:
    """The same panels as a picture."""
    lines = panels(result)
    figure = _figure()(figsize=(9, 2.6 * max(1, len(lines))), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(max(1, len(lines)), 1, sharex=True, squeeze=False)[:, 0]
    for n, (axes, (name, line)) in enumerate(zip(grid, lines.items(), strict=False)):
        axes.plot(*zip(*line, strict=True), color=COLOURS[n % len(COLOURS)])
        axes.set_ylabel(name)
        for row in drifts:
            axes.axvline(row, color="#666666", linestyle="--")
        for alarm in result.alarms:
            axes.axvline(alarm.row, color="#222222", linewidth=0.7)
    grid[-1].set_xlabel("row (dashed: known changes; thin, dark: alarms)")
    figure.savefig(path, dpi=110)


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install matplotlib, or ask for --html instead") from None
    return Figure


def _svg(line: Line, rows: int, marks: Sequence[int], drifts: Sequence[int], colour: str) -> str:
    low, high = min(y for _, y in line), max(y for _, y in line)
    span = (high - low) or 1.0

    def x(row: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * row / max(rows, 1)

    def y(value: float) -> float:
        return HEIGHT - MARGIN / 2 - (HEIGHT - MARGIN) * (value - low) / span

    points = " ".join(f"{x(row):.1f},{y(value):.1f}" for row, value in line)
    top, bottom = y(high), y(low)
    rules = "".join(
        f'<line x1="{x(row):.1f}" x2="{x(row):.1f}" y1="{top:.1f}" y2="{bottom:.1f}" {look}/>'
        for places, look in (
            (drifts, 'stroke="#666" stroke-dasharray="5 4"'),
            (marks, 'stroke="#222" stroke-width=".7"'),
        )
        for row in places
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{rules}'
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        f'<text x="2" y="{top + 4:.0f}">{shown(high)}</text><text x="2" y="{bottom:.0f}">{shown(low)}</text>'
        f'<text x="{MARGIN}" y="{HEIGHT - 4}">0</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 4}" text-anchor="end">{rows:,}</text></svg>'
    )


def _text(value: object) -> str:
    return html.escape(str(value))
