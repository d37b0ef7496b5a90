"""Active learning: the rule is River's, the budget is kept, a replay buys the same labels."""

from typing import Any

import pytest
from river import active, linear_model

from benchmarks.few_labels import STREAMS, WAYS, bought, drifting
from online.active import Buyer, entropy, uniforms


def test_uncertainty_is_that_of_rivers_entropy_sampler() -> None:
    sampler = active.EntropySampler(linear_model.LogisticRegression(), discount_factor=3)
    for probabilities in ({True: 0.3, False: 0.7}, {"a": 0.2, "b": 0.2, "c": 0.6}, {"a": 0.5, "b": 0.5, "c": 0.0}):
        assert entropy(probabilities) ** 3 == pytest.approx(sampler._p(probabilities))


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.5])
def test_what_is_bought_follows_the_budget_but_for_an_advance_that_is_paid_back(budget: float) -> None:
    buyer = Buyer(budget)
    for number in range(5_000):
        # A model that grows sure of itself: the discount must follow.
        probabilities = {True: 0.5 + 0.49 * min(1.0, number / 2_000) * uniforms(f"p{number}")[0]}
        probabilities[False] = 1.0 - probabilities[True]
        chance = uniforms(str(number))
        wanted = buyer.wants(probabilities, chance)
        buyer.note(probabilities, chance, wanted=wanted)
        assert buyer.bought - budget * buyer.seen <= buyer.advance
        assert buyer.bought == buyer.seen or buyer.seen > buyer.advance
    assert buyer.bought == pytest.approx(5_000 * budget, rel=0.15)


def test_nothing_is_bought_without_a_budget_and_everything_with_a_full_one() -> None:
    for budget, expected in ((0.0, 0), (1.0, 500)):
        buyer = Buyer(budget)
        for number in range(500):
            chance = uniforms(str(number))
            buyer.note({}, chance, wanted=buyer.wants({}, chance))
        assert buyer.bought == expected


def test_asking_changes_nothing_and_a_replay_buys_the_same() -> None:
    runs = []
    for _ in range(2):
        buyer, wanted = Buyer(0.1), []
        for number in range(1_000):
            probabilities = {True: number % 10 / 10, False: 1 - number % 10 / 10}
            chance = uniforms(f"event-{number}")
            answers = {buyer.wants(probabilities, chance) for _ in range(3)}
            assert len(answers) == 1
            wanted.append(answers.pop())
            buyer.note(probabilities, chance, wanted=wanted[-1])
        runs.append((wanted, buyer))
    assert runs[0] == runs[1]


def test_uncertain_predictions_are_bought_more_often_than_sure_ones() -> None:
    buyer, counts = Buyer(0.1), {0.5: 0, 0.99: 0}
    for number in range(4_000):
        p = (0.5, 0.99)[number % 2]
        probabilities, chance = {True: p, False: 1.0 - p}, uniforms(str(number))
        wanted = buyer.wants(probabilities, chance)
        buyer.note(probabilities, chance, wanted=wanted)
        counts[p] += wanted
    # Three purchases in ten are at random and fall equally; the others almost all on the uncertain ones.
    assert counts[0.5] > 3 * counts[0.99] > 0


def test_chance_is_uniform_and_its_two_numbers_are_unlike() -> None:
    pairs = [uniforms(str(number)) for number in range(2_000)]
    for values in zip(*pairs, strict=True):
        assert sum(values) / 2_000 == pytest.approx(0.5, abs=0.03)
    assert sum(a < 0.5 and b < 0.5 for a, b in pairs) == pytest.approx(500, abs=80)


@pytest.mark.parametrize("given", [{"budget": 1.5}, {"budget": -0.1}, {"at_random": 2.0}, {"advance": 0}])
def test_shares_that_are_none_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed is"):
        Buyer(**given)


def test_one_label_in_ten_bought_actively_is_worth_two_at_random() -> None:
    make = STREAMS["drift, logistic"][1]
    found = {
        way: sum(bought(drifting(seed, 4_000), make(), buyer(), seed)[0] for seed in range(3))
        for way, buyer in WAYS.items()
    }
    assert found["10 % bought actively"] >= found["20 % at random"] > found["10 % at random"]
