"""Gates: what they say on evidence whose truth is known."""

import numpy as np
import pytest

from agents.evaluate import Evaluation
from agents.gate import simulation_gate


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


def test_a_value_that_is_not_finite_is_no_evidence() -> None:
    assert simulation_gate(exact(float("nan")), exact(1.0)).verdict == "not enough evidence"


def test_the_reasons_hold_the_figures() -> None:
    verdict = simulation_gate(exact(36.0), exact(35.0), 0.01)
    assert "+2.86%" in verdict.reasons[0]


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="give 0 or more"):
        simulation_gate(exact(1.0), exact(1.0), -0.1)
