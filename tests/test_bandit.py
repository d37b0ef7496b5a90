"""Bandits: propensities against sampling frequencies and closed forms, refusals, arms that come and go, regret."""

import math
import random
from typing import Any

import numpy as np
import pytest
from river import dummy, linear_model, stats
from scipy.stats import chisquare

from benchmarks.bandits import bernoulli, linear, play
from online.bandit import Bandit, BanditError, NoPropensity
from online.exploration import EpsilonGreedy, Estimate, ExplorationError, Explorer, InverseGap, LinUCB, Thompson, invert

EXPLORERS: list[Explorer] = [EpsilonGreedy(0.2), InverseGap(), LinUCB(), Thompson()]
ARMS = ["a", "b", "c", "d"]


def draws(seed: int) -> Any:
    chance = np.random.default_rng(seed).random(16).tolist()
    return lambda index: chance[index]


def taught(explorer: Explorer, rewards: int = 200, arms: list[str] = ARMS) -> Bandit:
    """A bandit that learned rewards of which later arms give more."""
    chance = random.Random(5)
    bandit = Bandit(arms, explorer, linear_model.BayesianLinearRegression(), trials=5)
    for number in range(rewards):
        arm = arms[number % len(arms)]
        x = {"u": chance.random(), "v": chance.random()}
        bandit.learn_one(x, arm, 0.1 * (number % len(arms)) + 0.2 * x["u"] + chance.gauss(0, 0.2))
    return bandit


@pytest.mark.parametrize(
    ("explorer", "arms"), [(EpsilonGreedy(0.2), ARMS), (InverseGap(1.0), ARMS), (Thompson(3.0), ["a", "b"])]
)
@pytest.mark.parametrize("allowed", [2, 4])
def test_propensities_are_the_frequencies_with_which_arms_are_taken(
    explorer: Explorer, arms: list[str], allowed: int
) -> None:
    bandit = taught(explorer, arms=arms)
    x, names = {"u": 0.3, "v": 0.9}, arms[:allowed]
    expected = bandit.probabilities(x, names)
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-12)
    counts = dict.fromkeys(names, 0)
    for seed in range(4_000):
        choice = bandit.choose(x, draws(seed), names)
        assert choice.propensity == expected[choice.arm]
        counts[choice.arm] += 1
    shares = [4_000 * expected[name] for name in names]
    # One of a thousand right tables would be refused; the draws are seeded.
    assert chisquare(list(counts.values()), shares).pvalue > 1e-3


def test_a_wrong_propensity_would_be_noticed() -> None:
    counts = [0, 0]
    for seed in range(4_000):
        counts[invert([0.3, 0.7], draws(seed)(0))] += 1
    assert chisquare(counts, [1_320, 2_680]).pvalue < 1e-3


def test_two_armed_thompson_sampling_has_the_closed_form_of_its_draws() -> None:
    estimates = [Estimate(0.4, 0.3), Estimate(0.7, 0.2)]
    thompson = Thompson(1.5)
    counts = [0, 0]
    for seed in range(4_000):
        counts[thompson.pick(estimates, draws(seed))] += 1
    exact = thompson.probabilities(estimates, 0)
    assert exact is not None
    # Φ(-.3 / (1.5 √.13)) from a table of the normal distribution.
    assert exact[0] == pytest.approx(0.28953, abs=1e-4)
    assert chisquare(counts, [4_000 * p for p in exact]).pvalue > 1e-3


def test_inverse_gaps_are_those_of_the_published_algorithm() -> None:
    found = InverseGap(2.0).probabilities([Estimate(0.2), Estimate(0.5), Estimate(0.4)], 75)
    gamma = 2.0 * math.sqrt(3 * 75)
    assert found == pytest.approx(
        [1 / (3 + gamma * 0.3), 1 - 1 / (3 + gamma * 0.3) - 1 / (3 + gamma * 0.1), 1 / (3 + gamma * 0.1)]
    )


def test_choices_without_overlap_or_closed_form_are_refused_off_policy() -> None:
    x = {"u": 0.5, "v": 0.5}
    for explorer, reason in [
        (LinUCB(), "probability 0"),
        (Thompson(), "no closed form"),
        (EpsilonGreedy(0.0), "ε = 0"),
    ]:
        choice = taught(explorer).choose(x, draws(1))
        assert choice.probabilities is None
        with pytest.raises(NoPropensity, match=reason):
            _ = choice.propensity
    with pytest.raises(NoPropensity, match="4 arms"):
        taught(Thompson()).probabilities(x)
    assert taught(LinUCB()).choose(x, draws(1), ["b"]).propensity == 1.0


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_only_allowed_arms_are_taken(explorer: Explorer) -> None:
    bandit = taught(explorer)
    taken = {bandit.choose({"u": 0.1, "v": 0.2}, draws(seed), ["a", "c"]).arm for seed in range(200)}
    assert taken <= {"a", "c"}
    for allowed in ([], ["a", "nobody"]):
        with pytest.raises(BanditError, match="those offered: a, b, c, d"):
            bandit.choose({}, draws(0), allowed)


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_a_loaded_bandit_goes_on_as_the_one_dumped(explorer: Explorer) -> None:
    first = taught(explorer)
    second = Bandit.load(first.dump())
    assert taught(explorer).dump() == first.dump()
    for seed in range(200):
        x = {"v": seed / 200, "u": 0.5}
        choices = [bandit.choose(x, draws(seed)) for bandit in (first, second)]
        assert choices[0] == choices[1]
        for bandit in (first, second):
            bandit.learn_one(x, choices[0].arm, seed % 3 / 3)
        if seed == 100:
            first.add("e")
            second = Bandit.load(first.dump())
    assert first.estimates(x) == second.estimates(x)


def test_arms_come_and_go_and_come_back_with_what_they_learned() -> None:
    bandit = taught(EpsilonGreedy(0.0))
    x = {"u": 0.5, "v": 0.5}
    assert bandit.choose(x, draws(0)).arm == "d"
    bandit.retire("d")
    assert bandit.arms == ("a", "b", "c")
    assert bandit.choose(x, draws(0)).arm == "c"
    bandit.learn_one(x, "d", 1.0)
    bandit.add("d")
    assert bandit.choose(x, draws(0)).arm == "d"
    bandit.add("e")
    assert bandit.probabilities(x) == pytest.approx({"a": 0, "b": 0, "c": 0, "d": 0.5, "e": 0.5})
    for _ in range(5):
        bandit.learn_one(x, "e", 0.0)
    assert bandit.choose(x, draws(0)).arm == "d"


def test_what_cannot_be_is_refused() -> None:
    bandit = Bandit(["a"], EpsilonGreedy(), dummy.StatisticRegressor(stats.Mean()))
    with pytest.raises(BanditError, match="offered already"):
        bandit.add("a")
    with pytest.raises(BanditError, match="must stay"):
        bandit.retire("a")
    for arm, reward in [("b", 1.0), ("a", float("nan")), ("a", float("inf"))]:
        with pytest.raises(BanditError, match="a finite one"):
            bandit.learn_one({}, arm, reward)
    with pytest.raises(BanditError, match="BayesianLinearRegression"):
        Bandit(["a"], LinUCB(), linear_model.LinearRegression()).choose({}, draws(0))
    for kind, value in [(EpsilonGreedy, 1.5), (InverseGap, -1.0), (LinUCB, math.inf), (Thompson, 0.0)]:
        with pytest.raises(ExplorationError, match="allowed is"):
            kind(value)


def test_a_draw_never_takes_an_arm_of_probability_zero() -> None:
    assert [invert([0.0, 0.5, 0.5, 0.0], u) for u in (0.0, 0.5, 1.0 - 2**-53)] == [1, 2, 2]


def regret(kind: str, explorer: Explorer, blank: Any, steps: int = 1_500) -> float:
    beds = [bernoulli() if kind == "bernoulli" else linear(seed) for seed in range(4)]
    names = [f"arm {number}" for number in range(5)]
    return float(np.mean([play(bed, Bandit(names, explorer, blank), steps, s)[0][-1] for s, bed in enumerate(beds)]))


@pytest.mark.parametrize("kind", ["bernoulli", "linear"])
def test_regret_is_below_that_of_uniform_and_epsilon_greedy_choices(kind: str) -> None:
    blank = linear_model.BayesianLinearRegression()
    plain = dummy.StatisticRegressor(stats.Mean()) if kind == "bernoulli" else blank
    uniform = regret(kind, EpsilonGreedy(1.0), plain)
    greedy = regret(kind, EpsilonGreedy(0.1), plain)
    assert greedy < uniform / 3
    for explorer, arm in [(InverseGap(), plain), (LinUCB(), blank), (Thompson(0.5), blank)]:
        assert regret(kind, explorer, arm) < greedy


def test_an_arm_added_at_half_time_is_found() -> None:
    for explorer in (InverseGap(), LinUCB(), Thompson(0.5)):
        bandit = Bandit([f"arm {n}" for n in range(5)], explorer, linear_model.BayesianLinearRegression())
        taken = play(bernoulli(), bandit, 2_000, 7, newcomer=1_000)[1]
        assert taken[1_800:].count("newcomer") > 150
