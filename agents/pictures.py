"""The pages of an evaluation as one PNG: bars, learning curve and maps side by side, drawn with Matplotlib."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from agents.pages import DARK, LIGHT, MAX_NUMBERS, Map, Page, ticks_of

INK, FAINT = "#205080", "#9db4cc"
COLUMNS, WIDE, TALL, DPI = 3, 5.2, 3.9, 110
COLOURS = LinearSegmentedColormap.from_list("page", [tuple(c / 255 for c in end) for end in (DARK, LIGHT)])
Panel = Callable[[Axes], None]


def draw(page: Page) -> bytes:
    """The page as a PNG.

    Raises:
        ValueError: a page with nothing to draw.
    """
    panels = _panels(page)
    if not panels:
        raise ValueError("there is nothing to draw: no gaps, no curve and no map")
    return _figure(page.title, panels)


def draw_shares(title: str, shares: Mapping[str, float]) -> bytes:
    """Shares of a whole by name as a PNG, the largest on top."""
    names = sorted(shares, key=lambda name: -shares[name])

    def panel(axes: Axes) -> None:
        _bars(axes, names, [100 * shares[name] for name in names])
        axes.set_title("explains (%)", loc="left", fontsize=10)

    return _figure(title, [panel])


def _figure(title: str, panels: Sequence[Panel]) -> bytes:
    columns = 2 if len(panels) == 4 else min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDE * columns, TALL * rows + 0.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    for place, panel in enumerate(panels):
        panel(figure.add_subplot(rows, columns, place + 1))
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _panels(page: Page) -> list[Panel]:
    panels: list[Panel] = []
    if page.spreads:
        panels.append(partial(_spreads, page))
    elif page.values:
        panels.append(partial(_values, page))
    if len(page.curve) > 1:
        panels.append(partial(curve, page))
    return panels + [partial(_map, found) for found in page.maps]


def _values(page: Page, axes: Axes) -> None:
    """Percent below the optimum, or the values with their intervals where no optimum is known."""
    names = [name for name, *_ in page.values]
    gaps = [gap for *_, gap in page.values if gap is not None]
    if len(gaps) == len(names):
        _bars(axes, names, gaps)
        axes.set_xlim(left=min(0.0, *gaps), right=1.15 * max(*gaps, 1e-9))
        axes.set_title("below the optimum (%)", loc="left", fontsize=10)
        return
    middles = [value for _, value, *_ in page.values]
    ends = np.array([interval for _, _, interval, _ in page.values])
    place = np.arange(len(names))
    axes.hlines(place, ends[:, 0], ends[:, 1], color=FAINT, linewidth=5)
    axes.plot(middles, place, "o", color=INK)
    _named(axes, names)
    axes.set_title("value, with its 95 % interval", loc="left", fontsize=10)


def _spreads(page: Page, axes: Axes) -> None:
    """Mean over the held-out worlds as a bar, its interval as a line, the maximum as a mark."""
    _bars(axes, [name for name, *_ in page.spreads], [mean for _, mean, *_ in page.spreads])
    for place, (_, _, (low, high), _, most) in enumerate(page.spreads):
        axes.plot([max(low, 0.0), high], [place, place], color="black", linewidth=1.2)
        axes.plot([most], [place], "|", color="black", markersize=9)
    axes.set_xlim(left=min(0.0, *(mean for _, mean, *_ in page.spreads)))
    axes.set_title(f"below the {page.below} (%): mean, interval, maximum", loc="left", fontsize=10)


def _bars(axes: Axes, names: list[str], lengths: list[float]) -> None:
    place = np.arange(len(names))
    axes.barh(place, lengths, color=[INK, *[FAINT] * (len(names) - 1)], height=0.6)
    for row, length in enumerate(lengths):
        axes.annotate(f" {length:.2f}", (max(length, 0.0), row - 0.38), va="center", fontsize=8, color="#444444")
    _named(axes, names)


def _named(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelsize=9)


def curve(page: Page, axes: Axes) -> None:
    """The best gap so far against steps, on a logarithmic axis, with its end value beside it."""
    steps, gaps = np.array(page.curve, np.float64).T
    shown = np.maximum(gaps, 0.01)
    axes.plot(steps, shown, color=INK, drawstyle="steps-post")
    axes.annotate(f" {gaps[-1]:.2f}", (steps[-1], shown[-1]), va="center", fontsize=8, color="#444444")
    axes.margins(x=0.12)
    axes.set_yscale("log")
    _decades(axes, shown.max() / shown.min())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("steps", fontsize=9)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, which="both")
    axes.set_title("below the optimum while learning (%)", loc="left", fontsize=10)


def _decades(axes: Axes, ratio: float) -> None:
    """Labels on a logarithmic axis from y to `ratio` times y, between the powers of ten where those are too few."""
    if ratio < 4:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_minor_locator(NullLocator())
    elif ratio < 1000:
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5, 7) if ratio < 20 else (2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}" if ratio < 1000 else NullFormatter())


def _map(found: Map, axes: Axes) -> None:
    low, high = found.ends
    shown = axes.imshow(found.cells, cmap=COLOURS, vmin=low, vmax=high, origin="lower", aspect="auto")
    if not found.upwards:
        axes.invert_yaxis()
    down, across = found.cells.shape
    for setter, n, values in ((axes.set_xticks, across, found.across[1]), (axes.set_yticks, down, found.down[1])):
        places = ticks_of(n)
        labels = [value if isinstance(value := values[p], str) else f"{value:g}" for p in places]
        setter(places, [label.replace(" ", "\n", 1) for label in labels])
    axes.set_xlabel(found.across[0], fontsize=9)
    axes.set_ylabel("" if not found.upwards else found.down[0], fontsize=9)
    if found.cells.size <= MAX_NUMBERS:
        for (i, j), value in np.ndenumerate(found.cells):
            if np.isfinite(value):
                ink = "white" if value < (low + high) / 2 else "black"
                axes.text(j, i, f"{value:.3g}", ha="center", va="center", color=ink, fontsize=9)
    axes.tick_params(labelsize=8, length=0)
    axes.figure.colorbar(shown, ax=axes, pad=0.02)
    axes.set_title(found.title, loc="left", fontsize=10)
