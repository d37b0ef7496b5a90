"""Figures as HTML: scales, runs with gaps, escaping, and nothing that is fetched from elsewhere."""

import re

import pytest

from agents.drawing import SCRIPT, STYLE, document, draw, spark
from agents.figures import Bars, Chart, Heat, Line, Mark, Shares, Zone
from agents.scales import Scale, known, moment, number, shade, ticks, time_labels

FIGURES = [
    Chart("value", [0.0, 10.0, 20.0], [Line("served", [1.0, 2.0, 3.0], low=[0.5, 1.5, 2.5], high=[1.5, 2.5, 3.5])]),
    Chart("gap", [1.0, 2.0], [Line("a", [0.1, 10.0], "incumbent", stepped=True)], timed=False, logarithmic=True),
    Chart("nothing", [], []),
    Shares("mix", [0.0, 5.0], ["low", "high"], [[0.25, 0.75], [0.0, 0.0]], 5.0),
    Bars("odds", ["1", "2"], [0.25, 0.75], chosen=1, possible=[True, False]),
    Bars("odds", [], []),
    Heat("map", ("x", [0.0, 1.0]), ("y", [0.0, 1.0]), [[0.0, 1.0], [None, 0.5]]),
    Heat("map", ("x", [0.0]), ("y", [0.0]), [[None]]),
]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: f"{type(figure).__name__}-{figure.title}")
def test_every_figure_is_one_closed_element_that_names_itself(figure):
    drawn = draw(figure)
    assert drawn.count("<figure") == drawn.count("</figure>") == 1
    assert f"<b>{figure.title}</b>" in drawn
    assert "nan" not in drawn.lower().replace("nanosecond", "")


def test_a_value_stands_at_its_share_of_the_axis():
    drawn = draw(Chart("v", [0.0, 10.0], [Line("a", [0.0, 100.0])]))
    # From 0 to 106: six in a hundred of the span are air, and zero stays at the bottom.
    assert "d='M0.0 1000.0L1000.0 56.6'" in drawn


def test_a_gap_breaks_a_line_and_a_single_value_is_a_dot():
    drawn = draw(Chart("v", [0.0, 1.0, 2.0, 3.0], [Line("a", [1.0, None, 2.0, float("nan")])]))
    (path,) = re.findall(r"class='tt-line[^']*' d='([^']*)'", drawn)
    starts = path.split("M")[1:]
    assert len(starts) == 2
    assert all(len(set(start.split("L"))) == 1 for start in starts)


def test_what_others_wrote_is_escaped():
    chart = Chart("<b>", [0.0, 1.0], [Line("<i>", [1.0, 2.0])], marks=[Mark(0.5, "<script>'", "alarm")])
    drawn = draw(chart)
    assert "<script>" not in drawn
    assert "<i>" not in drawn.replace("<i class", "")


def test_a_zone_is_shown_where_it_is_near_and_clipped_where_it_is_far():
    near = draw(Chart("v", [0.0, 1.0], [Line("a", [1.0, 2.0])], zones=[Zone(0.5, 2.5, "trained")]))
    assert "tt-zone " in near
    far = draw(Chart("v", [0.0, 1.0], [Line("a", [1.0, 2.0])], zones=[Zone(0.0, 1e6, "trained")]))
    assert "height=1000" not in near
    assert "tt-zone" in far


def test_a_document_needs_nothing_from_elsewhere():
    page = document("Report <1>", draw(FIGURES[0]))
    assert "<title>Report &lt;1&gt;</title>" in page
    assert not re.search(r"(src|href)=|url\(|@import|https?://", page)
    assert STYLE in page
    assert SCRIPT in page


def test_shades_grow_lighter():
    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    shades = [lightness(shade(i / 20)) for i in range(21)]
    assert shades == sorted(shades)


def test_ticks_lie_within_and_are_round():
    for low, high in ((0.0, 1.0), (-3.7, 12.1), (1e-6, 3e-6), (990.0, 1010.0)):
        found = ticks(low, high)
        assert 3 <= len(found) <= 7
        assert low <= found[0]
        assert found[-1] <= high
    assert ticks(1.0, 1.0) == [1.0]


def test_a_logarithmic_scale_puts_equal_ratios_at_equal_distances():
    scale = Scale(0.01, 100.0, logarithmic=True)
    assert [scale(value) for value in (0.01, 0.1, 1.0, 10.0, 100.0)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert {0.1, 1.0, 10.0} <= set(scale.ticks())


def test_times_are_labelled_at_round_moments():
    labels = time_labels(Scale(1_700_000_003.0, 1_700_003_600.0))
    assert all(re.search(r"title='[-0-9]+ \d\d:\d0:00 UTC'", label) for _, label in labels)
    assert "2023-11-14 22:13:20 UTC" in moment(1_700_000_000.0)


def test_numbers_are_short_and_missing_ones_are_dashes():
    assert [number(value) for value in (0.0, 12345.678, -0.5, float("inf"))] == ["0", "12,346", "−0.5", "–"]
    assert not known(float("nan"))


def test_a_sparkline_of_nothing_is_empty():
    assert "path" not in spark([None, None])
    assert "tt-line" in spark([1.0, None, 2.0])
