"""Performance foreseen: right while calibrated, flagged where it is not."""

import math
import random

import pytest

from online.foreseen import LEAST, Foreseen


def played(foreseen: Foreseen, count: int, seed: int, truth: float = 0.0, late: int = 100) -> list[bool]:
    """Predictions with confidences from .5 to 1, right as often as they say and ``truth`` more; labels come late."""
    chance, waiting, rights = random.Random(seed), [], []
    for _ in range(count):
        confidence = 0.5 + 0.5 * chance.random()
        right = chance.random() < confidence + truth
        waiting.append((confidence, foreseen.note(confidence), right))
        rights.append(right)
        if len(waiting) > late:
            then, foretold, was = waiting.pop(0)
            foreseen.settle(then, foretold, right=was)
    return rights


def test_nothing_is_known_before_the_first_prediction_and_little_before_labels() -> None:
    foreseen = Foreseen()
    assert foreseen.estimated().accuracy is None
    assert foreseen.note(0.8) == pytest.approx(0.8)
    now = foreseen.estimated()
    assert (now.accuracy, now.predictions, now.gap, now.labels, now.calibrated) == (
        pytest.approx(0.8),
        1,
        None,
        0,
        False,
    )
    played(foreseen, LEAST + 99, 1)
    assert not foreseen.estimated().calibrated


@pytest.mark.parametrize("seed", range(5))
def test_a_calibrated_model_is_foreseen_within_three_points(seed: int) -> None:
    foreseen = Foreseen()
    rights = played(foreseen, 8_000, seed)
    now = foreseen.estimated()
    assert now.calibrated
    assert now.accuracy == pytest.approx(sum(rights[-2_000:]) / 2_000, abs=0.03)


def test_an_overconfident_model_is_calibrated_by_its_labels() -> None:
    foreseen = Foreseen()
    rights = played(foreseen, 12_000, 3, truth=-0.15)
    now = foreseen.estimated()
    # Its plain mean confidence is .75; it is right in .6 of the cases.
    assert now.accuracy == pytest.approx(sum(rights[-2_000:]) / 2_000, abs=0.03)
    assert now.accuracy < 0.66


def test_a_change_is_flagged_once_labels_come() -> None:
    foreseen = Foreseen()
    played(foreseen, 8_000, 4)
    assert foreseen.estimated().calibrated
    played(foreseen, 1_000, 5, truth=-0.3)
    now = foreseen.estimated()
    assert not now.calibrated
    assert now.gap is not None
    assert now.gap < -0.05


def test_confidences_that_are_not_finite_are_passed_over() -> None:
    foreseen = Foreseen()
    assert math.isnan(foreseen.note(math.nan))
    foreseen.settle(math.nan, math.nan, right=True)
    assert foreseen.estimated() == Foreseen().estimated()
