"""Pages hold what they are given, escaped, and nothing that is fetched from elsewhere."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agents.evaluate import Evaluation
from agents.held_out import HeldOut
from agents.pages import Map, Page, colour, gap_maps, on_one_scale, parameter_map, policy_map, render
from agents.pictures import curve, draw, draw_shares
from agents.tabular import optimum
from envs import exact
from envs.worlds import make


class Rects(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fills: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "rect":
            self.fills.append(dict(attrs)["fill"] or "")


def test_a_page_shows_values_gaps_and_a_cell_for_every_number() -> None:
    cells = np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 5.0]])
    page = Page(
        "price <b>",
        {"world": "pricing"},
        [("network", 36.2, (36.1, 36.3), 0.23), ("myopic", 20.0, (20.0, 20.0), None)],
        [(0, 30.0), (1000, 3.0), (2000, 0.3)],
        [Map("price", ("period", [0, 1, 2]), ("stock", [1, 2]), cells)],
    )
    text = render(page)
    assert "price &lt;b&gt;" in text
    assert "0.23 %" in text
    assert "stock 2, period 1: 4" in text
    rects = Rects()
    rects.feed(text)
    assert len(rects.fills) == 5
    assert rects.fills[0] == "#182a60"
    assert rects.fills[-1] == "#fae282"


def test_the_curve_goes_down_as_the_gap_does() -> None:
    text = render(Page("t", curve=[(0, 100.0), (500, 10.0), (1000, 1.0)]))
    points = re.search(r"points='([^']*)'", text)
    assert points is not None
    corners = [float(pair.split(",")[1]) for pair in points[1].split()]
    # Level until the next point, then down to it.
    assert corners[0] == corners[1] < corners[2] == corners[3] < corners[4]
    heights = corners[::2]
    # Equal factors are equal distances on the logarithmic axis.
    assert abs((heights[1] - heights[0]) - (heights[2] - heights[1])) < 0.11


def test_an_empty_page_has_no_empty_sections_and_fetches_nothing() -> None:
    text = render(Page("t"))
    assert "<h2>" not in text
    assert not re.search(r"https?://|src=", render(Page("t", {"a": 1}, curve=[(0, 1.0), (1, 2.0)])))


def test_the_policy_map_holds_the_optimal_price_of_each_state() -> None:
    world = make("pricing", {"stock": 3, "periods": 4, "prices": "0.5:2:0.5"})
    found = policy_map(optimum(world), world)
    assert found is not None
    assert found.title == "price (money)"
    assert found.down == ("stock", [0, 1, 2, 3])
    solution = exact.solve(world)
    for state, action in zip(
        solution.states[solution.states[:, 0] > 0], solution.actions[solution.states[:, 0] > 0], strict=True
    ):
        assert found.cells[int(state[0]), int(state[1])] == world.actions.values[int(action)]  # type: ignore[index]
    # Without stock there is nothing to price.
    assert np.isnan(found.cells[0]).all()
    # With the season about to end, much stock is sold cheaper than little.
    assert found.cells[3, 3] <= found.cells[1, 0]


def test_gaps_are_averaged_over_quantiles_of_each_pair_of_parameters() -> None:
    rows = np.array([[a, b] for a in range(4) for b in range(4)], float)
    evaluations = tuple(Evaluation(9.0, (9.0, 9.0), "exact") for _ in rows)
    found = gap_maps(HeldOut(("a", "b"), rows, evaluations, np.where(rows[:, 0] > 1, 10.0, 9.0)), bins=2)
    assert len(found) == 1
    assert found[0].cells == pytest.approx(np.array([[0, 0], [10, 10]]))


def test_each_parameter_has_a_row_of_its_mean_gaps_by_quarters() -> None:
    rows = np.array([[a, b] for a in range(4) for b in range(4)], float)
    evaluations = tuple(Evaluation(9.0, (9.0, 9.0), "exact") for _ in rows)
    found = parameter_map(HeldOut(("a", "b"), rows, evaluations, 9.0 + rows[:, 0]))
    assert found is not None
    gaps = [100 * a / (9 + a) for a in range(4)]
    assert found.cells == pytest.approx(np.array([gaps, [np.mean(gaps)] * 4]))
    assert not found.upwards
    assert "by parameter" in render(Page("t", maps=[found]))


def test_a_set_of_components_is_shown_by_its_size() -> None:
    world = make("maintenance")
    found = policy_map(optimum(world), world, "optimal")
    assert found is not None
    assert found.title == "number of components, optimal"
    # Nothing is serviced while all are new; two failed ones are serviced together, which the crew just can.
    assert found.cells[4, 4] == 2


def test_maps_on_one_scale_have_the_same_colours_for_the_same_numbers() -> None:
    maps = [Map("m", ("x", [0, 1]), ("y", [0]), np.array([row])) for row in ([1.0, 2.0], [2.0, 5.0])]
    first, second = on_one_scale(maps)
    assert first.ends == second.ends == (1.0, 5.0)
    assert colour(0.25) in render(Page("t", maps=[first]))
    assert on_one_scale([]) == []


def test_the_picture_of_a_page_is_a_png_and_an_empty_page_has_none() -> None:
    cells = np.array([[1.0, np.nan], [3.0, 4.0]])
    page = Page(
        "t",
        curve=[(0, 30.0), (1000, 3.0)],
        maps=[Map("price", ("period", [0, 1]), ("stock", [1, 2]), cells)],
        spreads=[("network", 1.0, (0.5, 1.5), 0.9, 3.0), ("rule", 2.0, (1.5, 2.5), 1.9, 4.0)],
    )
    assert draw(page).startswith(b"\x89PNG")
    assert draw(Page("t", values=[("rule", 3.0, (2.5, 3.5), None)])).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(Page("t"))
    assert draw_shares("t", {"entropy": 0.7, "batch": 0.3}).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "ends", [(3.5, 0.3), (0.38, 0.31), (4.2, 1.05), (9.0, 2.1), (60.0, 0.4), (90.0, 0.0), (2.0, 2.0)]
)
def test_the_axis_of_a_learning_curve_can_be_read_off_and_its_end_is_written(ends: tuple[float, float]) -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    curve(Page("t", curve=[(0, ends[0]), (20_000, ends[1])]), axes)
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    axis = axes.yaxis
    labels = [label.get_text() for label in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))]
    places = [*axis.get_majorticklocs(), *axis.get_minorticklocs()]
    read = [label for label, place in zip(labels, places, strict=True) if label and low <= place <= high]
    assert 2 <= len(read) <= 12
    assert [text.get_text().strip() for text in axes.texts] == [f"{ends[1]:.2f}"]
