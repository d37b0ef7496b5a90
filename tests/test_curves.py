"""A learning curve is kept with the policy that it led to."""

import msgspec
import pytest

from agents.bundle import CurvePoint
from agents.curves import MAX_POINTS, ended, gaps, thinned
from agents.tabular import write_out
from agents.train import train
from envs.worlds import make


def test_a_training_keeps_what_its_best_checkpoints_were_worth() -> None:
    world = make("pricing", {"stock": 3, "periods": 5, "prices": "0.5:4:0.25"})
    card = train(world, steps=60_000, seed=1).card
    known, steps = gaps(card.curve), [point.steps for point in card.curve]
    assert len(known) == len(card.curve) > 2
    assert steps == sorted(set(steps))
    assert known[-1] == (card.steps, card.metrics["gap"])
    assert known[-1][1] < known[0][1]
    last = card.curve[-1]
    assert (last.value, last.seconds) == (card.metrics["value"], card.metrics["seconds"])
    assert all(point.seconds is not None and 0 <= point.seconds <= last.seconds for point in card.curve)


def test_what_is_written_out_without_learning_has_no_curve() -> None:
    assert write_out(make("pricing", {"stock": 3, "periods": 4, "prices": "0.5:2:0.5"}), "exact").card.curve == ()


def test_a_curve_ends_with_what_the_card_measured() -> None:
    end = CurvePoint(20, 1.0, 2.0, 7.0)
    assert ended([CurvePoint(10, 5.0), CurvePoint(20, 2.0)], end) == (CurvePoint(10, 5.0), end)


def test_a_curve_of_steps_and_gaps_alone_is_read_too() -> None:
    assert msgspec.json.decode(b"[[10, 5.0]]", type=tuple[CurvePoint, ...]) == (CurvePoint(10, 5.0),)


def test_a_long_curve_is_thinned_to_both_ends_and_points_between() -> None:
    points = [CurvePoint(step, 1000.0 - step) for step in range(1000)]
    found = thinned(points)
    assert len(found) == MAX_POINTS
    assert (found[0], found[-1]) == (points[0], points[-1])
    assert [point.steps for point in found] == pytest.approx([place * 999 / 199 for place in range(200)], abs=0.5)
