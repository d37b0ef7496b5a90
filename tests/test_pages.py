"""Pages hold what they are given, escaped, and nothing that is fetched from elsewhere."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from agents.evaluate import Evaluation
from agents.held_out import HeldOut
from agents.pages import Map, Page, gap_maps, policy_map, render
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
    heights = [float(pair.split(",")[1]) for pair in points[1].split()]
    assert heights == sorted(heights)
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
    for state, action in zip(solution.states, solution.actions, strict=True):
        assert found.cells[int(state[0]), int(state[1])] == world.actions.values[int(action)]  # type: ignore[index]
    # With the season about to end, much stock is sold cheaper than little.
    assert found.cells[3, 3] <= found.cells[1, 0]


def test_gaps_are_averaged_over_quantiles_of_each_pair_of_parameters() -> None:
    rows = np.array([[a, b] for a in range(4) for b in range(4)], float)
    evaluations = tuple(Evaluation(9.0, (9.0, 9.0), "exact") for _ in rows)
    found = gap_maps(HeldOut(("a", "b"), rows, evaluations, np.where(rows[:, 0] > 1, 10.0, 9.0)), bins=2)
    assert len(found) == 1
    assert found[0].cells == pytest.approx(np.array([[0, 0], [10, 10]]))
