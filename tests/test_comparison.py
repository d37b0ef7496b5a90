"""Champion and challengers: the test against a hand computation, its level, its power, its history."""

import math
import random
from typing import Any

import pytest
from scipy import stats

from benchmarks.challengers import PAIRS, compared
from online.comparison import BLOCKS, Comparison, Plan, announced
from online.events import Finding
from online.specs import model_spec


def told(plan: Plan, shares: tuple[float, float], seed: int) -> Finding:
    """One comparison of independent errors with these probabilities."""
    chance, comparison = random.Random(seed), Comparison(plan)
    found: list[Finding] = []
    while not found:
        first, second = (float(chance.random() < share) for share in shares)
        found = comparison.update(first, {"b": second})
    return found[0]


def test_the_verdict_is_that_of_a_t_test_on_block_means() -> None:
    chance, plan = random.Random(1), Plan(labels=400)
    differences, found = [], []
    comparison = Comparison(plan)
    for _ in range(400):
        first, second = float(chance.random() < 0.5), float(chance.random() < 0.3)
        differences.append(first - second)
        found = comparison.update(first, {"b": second})
    blocks = [sum(differences[n : n + 20]) / 20 for n in range(0, 400, 20)]
    test = stats.ttest_1samp(blocks, 0.0, alternative="greater")
    assert found[0].p == pytest.approx(test.pvalue)
    interval = stats.ttest_1samp(blocks, 0.0).confidence_interval(0.95)
    assert (found[0].low, found[0].high) == pytest.approx((interval.low, interval.high))
    assert found[0].verdict == "better"
    assert comparison.findings == found


def test_equal_errors_are_called_better_as_often_as_the_level_says() -> None:
    plan = Plan(labels=200, level=0.05)
    wrong = sum(told(plan, (0.3, 0.3), seed).verdict == "better" for seed in range(400))
    # 20 expected; the 99.9 % quantile of a binomial count.
    assert wrong <= stats.binom.ppf(0.999, 400, 0.05)


def test_a_difference_that_was_announced_is_recognised_with_the_power_announced() -> None:
    # Independent errors of .3 and .2 on a label differ with variance .21 + .16.
    plan = Plan(announced(0.1, math.sqrt(0.37), power=0.9))
    better = sum(told(plan, (0.3, 0.2), seed).verdict == "better" for seed in range(200))
    assert better >= stats.binom.ppf(0.001, 200, 0.9)


def test_a_worse_challenger_is_called_worse() -> None:
    assert told(Plan(labels=600), (0.2, 0.4), 3).verdict == "worse"


def test_it_is_judged_once_for_each_number_of_labels_announced_and_all_is_kept() -> None:
    comparison = Comparison(Plan(labels=BLOCKS))
    when = [n for n in range(5 * BLOCKS) if comparison.update(1.0, {"b": 0.0, "c": 1.0})]
    assert when == [BLOCKS * n - 1 for n in range(1, 6)]
    assert [finding.verdict for finding in comparison.findings[:2]] == ["better", "not told apart"]
    assert len(comparison.findings) == 10
    comparison.update(1.0, {"b": 0.0, "c": 1.0})
    comparison.restart()
    assert comparison.labels == 0


def test_more_rivals_need_more_labels() -> None:
    assert announced(0.02, 0.3, rivals=5) > announced(0.02, 0.3) == Plan().labels


def test_several_rivals_share_the_level_and_the_labels_announced_are_enough_for_all_of_them() -> None:
    alone, beside = Plan(announced()), Plan(announced(rivals=4))
    assert alone.announcement(1).difference == pytest.approx(0.02, abs=1e-4)
    assert beside.announcement(4).difference == pytest.approx(0.02, abs=1e-4)
    assert beside.announcement(4).level == 0.025 / 4
    # What was announced for one recognises less where there are four.
    assert alone.announcement(4).difference > 0.0225


def test_a_model_with_more_challengers_compares_over_more_labels_unless_it_says_how_many() -> None:
    bayes = {"pipeline": [{"use": "naive_bayes.GaussianNB"}]}
    table = {"task": "binary", "pipeline": [{"use": "dummy.PriorClassifier"}], "metrics": ["Accuracy"]}

    def labels(count: int, **comparison: Any) -> int:
        rivals = {f"rival_{number}": bayes for number in range(count)}
        return model_spec("m", table | {"challengers": rivals, "comparison": comparison}).comparison.labels

    assert [labels(1), labels(4)] == [announced(), announced(rivals=4)]
    assert labels(4, level=0.1) == announced(level=0.1, rivals=4)
    assert labels(4, labels=400) == 400


def test_any_of_several_equal_rivals_is_called_better_no_oftener_than_the_level_says() -> None:
    plan, wrong = Plan(labels=200, level=0.05), 0
    for seed in range(300):
        chance, comparison = random.Random(seed), Comparison(plan)
        found: list[Finding] = []
        while not found:
            champion, *others = (float(chance.random() < 0.3) for _ in range(6))
            found = comparison.update(champion, dict(zip("bcdef", others, strict=True)))
        wrong += any(finding.verdict == "better" for finding in found)
    assert wrong <= stats.binom.ppf(0.999, 300, 0.05)


def test_one_that_is_better_among_four_is_recognised_with_the_power_announced() -> None:
    plan, recognised = Plan(announced(0.1, math.sqrt(0.37), rivals=4)), 0
    for seed in range(100):
        chance, comparison = random.Random(seed), Comparison(plan)
        found: list[Finding] = []
        while not found:
            champion, better, *equal = (float(chance.random() < p) for p in (0.3, 0.2, 0.3, 0.3, 0.3))
            found = comparison.update(champion, dict(zip("bcde", [better, *equal], strict=True)))
        recognised += found[0].verdict == "better"
    assert recognised >= stats.binom.ppf(0.001, 100, 0.9)


def test_what_cannot_be_compared_is_refused() -> None:
    comparison = Comparison(Plan())
    comparison.update(0.0, {"b": 1.0})
    with pytest.raises(ValueError, match="allowed are those of"):
        comparison.update(0.0, {"c": 1.0})
    with pytest.raises(ValueError, match="finite"):
        comparison.update(math.nan, {"b": 1.0})
    for given in ({"labels": 10}, {"labels": 101}, {"level": 0.6}):
        with pytest.raises(ValueError, match="allowed is"):
            Plan(**given)
    with pytest.raises(ValueError, match="positive"):
        announced(0.0, 0.3)


def test_models_that_learn_are_told_apart_where_one_is_better() -> None:
    assert sum(compared(PAIRS["truly better"], seed)[0].verdict == "better" for seed in range(5)) >= 3
    assert sum(compared(PAIRS["truly equal"], seed)[0].verdict != "better" for seed in range(5)) >= 4
