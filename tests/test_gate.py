"""Gates: what they say on evidence whose truth is known."""

import numpy as np
import pytest

from agents.evaluate import Evaluation
from agents.gate import (
    CanaryRule,
    Units,
    Verdict,
    canary_gate,
    conclude,
    confidence_sequence,
    posterior_gate,
    simulation_gate,
    units_needed,
)


def exact(value: float) -> Evaluation:
    return Evaluation(value, (value, value), "exact")


def simulated(returns: np.ndarray, seed: int) -> Evaluation:
    value, half = float(returns.mean()), 1.96 * float(returns.std(ddof=1)) / len(returns) ** 0.5
    return Evaluation(value, (value - half, value + half), "simulation", len(returns), seed, returns)


@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [(36.0, "better"), (35.0, "not enough evidence"), (34.7, "not enough evidence"), (34.6, "worse")],
)
def test_exact_values_are_compared_with_the_tolerance_on_the_side_of_loss(candidate: float, verdict: str) -> None:
    assert simulation_gate(exact(candidate), exact(35.0), 0.01).verdict == verdict


def test_costs_are_negative_values_and_a_lower_cost_is_better() -> None:
    assert simulation_gate(exact(-0.76), exact(-0.88), 0.01).verdict == "better"
    assert simulation_gate(exact(-0.88), exact(-0.76), 0.01).verdict == "worse"


def test_common_chance_sees_a_gain_that_independent_runs_cannot() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(36, 4.4, 2000)
    better = shared + rng.normal(0.05, 0.2, 2000)
    assert simulation_gate(simulated(better, 7), simulated(shared, 7)).verdict == "better"
    assert simulation_gate(simulated(better, 7), simulated(shared, 8)).verdict == "not enough evidence"


def test_a_simulation_of_noise_alone_is_rarely_called_better() -> None:
    rng = np.random.default_rng(2)
    calls = [
        simulation_gate(simulated(rng.normal(0, 1, 400), 1), simulated(rng.normal(0, 1, 400), 1)).verdict
        for _ in range(1000)
    ]
    # Binomial(1000, 0.025): 41 or more happen once in a thousand.
    assert calls.count("better") <= 40


@pytest.mark.parametrize("seeds", [(7, 7), (7, 8)])
def test_a_handful_of_episodes_is_no_evidence_however_equal_their_differences(seeds: tuple[int, int]) -> None:
    shared = np.random.default_rng(3).normal(36, 0.01, 30)
    for n, verdict in ((2, "not enough evidence"), (29, "not enough evidence"), (30, "better")):
        found = simulation_gate(simulated(shared[:n] + 1.0, seeds[0]), simulated(shared[:n], seeds[1]))
        assert found.verdict == verdict
    assert "at least 30" in simulation_gate(simulated(shared[:9], 1), exact(0.0)).reasons[0]


def test_a_value_that_is_not_finite_is_no_evidence() -> None:
    assert simulation_gate(exact(float("nan")), exact(1.0)).verdict == "not enough evidence"


def test_the_reasons_hold_the_figures() -> None:
    verdict = simulation_gate(exact(36.0), exact(35.0), 0.01)
    assert "+2.86%" in verdict.reasons[0]


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="give 0 or more"):
        simulation_gate(exact(1.0), exact(1.0), -0.1)


def canary(rng: np.random.Generator, n: int, gain: float, share: float = 0.1) -> Units:
    """Seasons worth 36 ± 4.4, the candidate's moved by `gain`."""
    arm = rng.random(n) < share
    return Units(arm, rng.normal(36, 4.4, n) + gain * arm, np.full(n, share))


def promoted_at(units: Units, rule: CanaryRule) -> int | None:
    """The first look, of those after every single unit, at which the gate says `better`."""
    found = confidence_sequence(units, rule)
    above = found.gain - found.half > 0
    return int(found.looks[np.argmax(above)]) if above.any() else None


@pytest.mark.parametrize("gain", [0.0, -0.36])
def test_continuous_looking_promotes_a_candidate_that_is_no_better_in_at_most_five_of_a_hundred(gain: float) -> None:
    rng = np.random.default_rng(11)
    rule = CanaryRule(planned=1500)
    promotions = sum(promoted_at(canary(rng, 4000, gain), rule) is not None for _ in range(1000))
    assert promotions <= 50


def test_the_announced_number_of_units_has_the_power_that_was_announced() -> None:
    rng = np.random.default_rng(12)
    gain = 0.05 * 36
    needed = units_needed(gain, 4.4, 0.1)
    rule = CanaryRule(planned=needed)
    seen = 0
    for _ in range(1000):
        at = promoted_at(canary(rng, needed, gain), rule)
        seen += at is not None
    assert seen >= 800


def test_the_sequence_covers_the_truth_at_all_looks_together() -> None:
    rng = np.random.default_rng(13)
    missed = 0
    for _ in range(500):
        found = confidence_sequence(canary(rng, 3000, 1.0, 0.3), CanaryRule(planned=1000))
        missed += bool((np.abs(found.gain - 1.0) > found.half).any())
    assert missed <= 25


def test_skewed_values_do_not_break_the_sequence() -> None:
    rng = np.random.default_rng(14)
    promotions = 0
    for _ in range(500):
        n = 4000
        value = rng.exponential(10, n) * (rng.random(n) < 0.3)
        units = Units(rng.random(n) < 0.2, value, np.full(n, 0.2))
        promotions += promoted_at(units, CanaryRule(planned=1500, warm_up=100)) is not None
    assert promotions <= 25


@pytest.mark.parametrize("probability", [0.05, 0.01])
@pytest.mark.parametrize("share", [0.1, 0.05])
@pytest.mark.parametrize("sign", [1, -1])
def test_rare_outcomes_with_a_small_share_are_covered(probability: float, share: float, sign: int) -> None:
    rng = np.random.default_rng(21)
    wrong = 0
    for _ in range(200):
        n = 10_000
        value = sign * (rng.random(n) < probability).astype(float)
        found = confidence_sequence(Units(rng.random(n) < share, value, np.full(n, share)), CanaryRule())
        wrong += bool((np.abs(found.gain) > found.half).any())
    # Binomial(200, 0.05): more than 20 happen once in a thousand.
    assert wrong <= 20


def test_a_candidate_that_halves_a_rare_success_is_rolled_back() -> None:
    rng = np.random.default_rng(22)
    worse = 0
    for _ in range(50):
        arm = rng.random(20_000) < 0.05
        value = (rng.random(20_000) < np.where(arm, 0.02, 0.05)).astype(float)
        worse += canary_gate(Units(arm, value, np.full(20_000, 0.05)), CanaryRule()).verdict == "worse"
    assert worse >= 40


def test_a_large_level_of_the_values_costs_no_digits() -> None:
    units = canary(np.random.default_rng(23), 3000, 1.0)
    far = Units(units.candidate, units.value + 1e9, units.share)
    near, moved = confidence_sequence(units, CanaryRule()), confidence_sequence(far, CanaryRule())
    assert moved.half == pytest.approx(near.half, rel=1e-4)


def test_a_candidate_that_loses_beyond_the_tolerance_is_rolled_back() -> None:
    units = canary(np.random.default_rng(15), 6000, -3.0)
    assert canary_gate(units, CanaryRule()).verdict == "worse"


def test_a_loss_within_the_tolerance_is_not_called_worse() -> None:
    units = canary(np.random.default_rng(16), 20_000, -0.1)
    assert canary_gate(units, CanaryRule(tolerance=0.01)).verdict == "not enough evidence"


def test_the_gate_says_what_the_sequence_says_at_its_last_look() -> None:
    units = canary(np.random.default_rng(17), 3000, 2.5)
    found = confidence_sequence(units, CanaryRule())
    assert (canary_gate(units, CanaryRule()).verdict == "better") == bool(found.gain[-1] - found.half[-1] > 0)


def test_a_spent_budget_is_said() -> None:
    verdict = canary_gate(canary(np.random.default_rng(18), 500, 0.0), CanaryRule(budget=500))
    assert verdict.verdict == "not enough evidence"
    assert "budget of 500 units is spent" in verdict.reasons[1]


def test_a_spent_budget_is_said_where_an_arm_never_warms_up() -> None:
    arm = np.zeros(500, bool)
    arm[:5] = True
    units = Units(arm, np.ones(500), np.full(500, 0.01))
    assert "budget of 500 units is spent" in canary_gate(units, CanaryRule(budget=500)).reasons[1]
    assert len(canary_gate(units, CanaryRule(budget=501)).reasons) == 1


def test_too_few_units_or_one_arm_alone_say_nothing() -> None:
    assert canary_gate(canary(np.random.default_rng(19), 40, 9.0), CanaryRule()).verdict == "not enough evidence"
    one = Units(np.ones(500, bool), np.ones(500), np.full(500, 0.5))
    assert canary_gate(one, CanaryRule()).verdict == "not enough evidence"


def test_a_unit_uses_only_means_of_units_before_it() -> None:
    units = canary(np.random.default_rng(20), 300, 1.0)
    whole = confidence_sequence(units, CanaryRule())
    part = confidence_sequence(Units(units.candidate[:200], units.value[:200], units.share[:200]), CanaryRule())
    assert whole.gain[: len(part.gain)] == pytest.approx(part.gain)
    assert whole.half[: len(part.half)] == pytest.approx(part.half)


def test_a_share_of_one_is_no_canary() -> None:
    with pytest.raises(ValueError, match="both arms"):
        Units(np.ones(2, bool), np.ones(2), np.ones(2))


def test_the_posterior_gate_weighs_the_worlds_by_belief() -> None:
    candidate, incumbent = np.array([2.0, 2.0, 0.0]), np.ones(3)
    assert posterior_gate(candidate, incumbent).verdict == "not enough evidence"
    assert posterior_gate(candidate, incumbent, np.array([0.5, 0.49, 0.01])).verdict == "better"
    assert posterior_gate(candidate, incumbent, np.array([0.01, 0.01, 0.98]), 0.01).verdict == "worse"


def test_many_small_gains_do_not_outweigh_a_rare_ruin() -> None:
    candidate = np.full(100, 1.001)
    candidate[:4] = -99.0
    found = posterior_gate(candidate, np.ones(100))
    assert found.verdict == "not enough evidence"
    assert "outweigh" in found.reasons[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_world_whose_value_is_not_finite_is_no_evidence(bad: float) -> None:
    values = np.array([2.0] * 99 + [bad])
    assert posterior_gate(values, np.ones(100)).verdict == "not enough evidence"
    assert posterior_gate(np.ones(100), values).verdict == "not enough evidence"


@pytest.mark.parametrize("weight", [[-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [1.0]])
def test_weights_that_are_no_belief_are_refused(weight: list[float]) -> None:
    with pytest.raises(ValueError, match="no belief"):
        posterior_gate(np.ones(2), np.zeros(2), np.array(weight))


def test_one_gate_that_says_worse_is_enough_and_all_needed_must_say_better() -> None:
    better, worse, open_ = (Verdict(word, ("r",)) for word in ("better", "worse", "not enough evidence"))
    assert conclude({"simulation": better, "canary": worse}, ("canary",)).verdict == "worse"
    assert conclude({"simulation": better, "canary": open_}, ("simulation",)).verdict == "better"
    left = conclude({"simulation": better}, ("simulation", "canary"))
    assert left.verdict == "not enough evidence"
    assert "canary" in left.reasons[-1]
