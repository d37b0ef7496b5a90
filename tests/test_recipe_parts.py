"""Parts of recipes with numbers that can be known: made-up tickets, a bandit in this process, queues, abstention."""

from typing import Any

import numpy as np
import pytest

from online.bandit_specs import bandit_spec
from recipes import catalogue
from recipes.choices import Choices
from recipes.support.tickets import NEW, TOPICS, Plan, made


def test_the_stated_chance_of_a_topic_comes_true_as_often_as_it_says() -> None:
    rows: list[dict[str, Any]] = list(made(Plan(days=40, per_day=100, change=20), 3))
    posterior = np.array([row["posterior"] for row in rows])
    topic = np.array([TOPICS.index(row["topic"]) for row in rows])
    urgent = np.array([row["urgent"] for row in rows])
    for chance, came in (
        (posterior.sum(axis=2).max(axis=1), posterior.sum(axis=2).argmax(axis=1) == topic),
        (posterior[:, :, 1].sum(axis=1), urgent),
    ):
        # The sum of independent trials: five standard deviations.
        assert abs(came.sum() - chance.sum()) < 5 * np.sqrt((chance * (1 - chance)).sum())


def test_nobody_writes_about_the_new_topic_before_its_day() -> None:
    rows = list(made(Plan(days=20, per_day=50, change=10), 0))
    assert NEW not in {row["topic"] for row in rows[:500]}
    assert NEW in {row["topic"] for row in rows[500:]}


def test_choices_are_taken_as_often_as_they_say_and_rewards_teach() -> None:
    spec = bandit_spec("b", {"arms": ["low", "high"], "explore": {"use": "epsilon_greedy", "epsilon": 0.2}})
    rng = np.random.default_rng(0)
    choices = Choices(spec, lambda: float(rng.random()))
    for _ in range(60):
        name, choice = choices.choose({"x": 1.0})
        choices.reward(name, 1.0 if choice.arm == "high" else 0.0)
    estimates = choices.estimates({"x": 1.0})
    assert estimates["high"] > 0.8 > 0.2 > estimates["low"]
    taken = [choices.choose({"x": 1.0})[1] for _ in range(2_000)]
    assert sorted({choice.propensity for choice in taken}) == pytest.approx([0.1, 0.9])
    # 200 expected, five standard deviations of a binomial.
    assert abs(sum(choice.arm == "low" for choice in taken) - 200) < 5 * np.sqrt(2_000 * 0.09)
    assert choices.learner.learned == 60


def test_cost_at_a_share_of_escalations_is_that_of_the_tickets_it_saves_most_for() -> None:
    support: Any = catalogue.recipes()["support"].module
    spent = np.array([[1.0, 5.0, 4.0], [9.0, 8.0, 4.0]])
    assert support.along(spent, spent, [0.0, 0.5, 1.0]) == pytest.approx([(1 + 8) / 2, (1 + 4) / 2, 4.0])


def test_those_left_undecided_are_the_least_sure() -> None:
    health: Any = catalogue.recipes()["health"].module
    chance, truth = np.array([0.05, 0.45, 0.60, 0.95]), np.array([False, True, True, True])
    assert health.answered(chance, truth, 0.0) == pytest.approx(0.25)
    assert health.answered(chance, truth, 0.25) == 0.0
    assert health.queued(np.arange(10.0)).tolist() == [False] * 6 + [True] * 4
