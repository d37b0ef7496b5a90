"""A learning curve is kept with the policy that it led to."""

from types import SimpleNamespace

import pytest

from agents.bundle import pack, unpack
from agents.curves import MAX_POINTS, Recorder, thinned, with_curve
from agents.tabular import write_out
from envs.worlds import make


def test_a_recorder_keeps_changes_of_the_gap_and_passes_the_answer_on() -> None:
    recorder: Recorder[SimpleNamespace] = Recorder(lambda progress: progress.steps < 30)
    told = [(0, None), (10, 5.0), (20, 5.0), (30, 2.0)]
    answers = [recorder(SimpleNamespace(steps=steps, gap=gap)) for steps, gap in told]
    assert answers == [True, True, True, False]
    assert recorder.points == [(10, 5.0), (30, 2.0)]


def test_the_curve_ends_with_what_the_card_measured_and_survives_packing() -> None:
    bundle = write_out(make("pricing", {"stock": 3, "periods": 4, "prices": "0.5:2:0.5"}), "best-fixed-price")
    assert with_curve(bundle, []) == bundle
    kept = with_curve(bundle, [(-20, 9.0), (-10, 4.0)])
    assert kept.card.curve == ((-20, 9.0), (-10, 4.0), (0, bundle.card.metrics["gap"]))
    assert kept.digest != bundle.digest
    assert unpack(pack(kept.card, kept.onnx, kept.weights)) == kept


def test_a_long_curve_is_thinned_to_both_ends_and_points_between() -> None:
    points = [(step, 1000.0 - step) for step in range(1000)]
    found = thinned(points)
    assert len(found) == MAX_POINTS
    assert (found[0], found[-1]) == (points[0], points[-1])
    assert [step for step, _ in found] == pytest.approx([place * 999 / 199 for place in range(200)], abs=0.5)
