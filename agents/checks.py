"""Laws that every policy keeps; `check` runs them all on observations of the caller's choice.

Each law raises AssertionError with the numbers that break it.
"""

from collections.abc import Callable

import numpy as np

from agents.policy import Exploration, Mask, Observation, Policy, explore, sample_rows

Law = Callable[[Policy, Observation, Mask], None]
TOLERANCE = 1e-5


def check_rows_sum_to_one(policy: Policy, observation: Observation, allowed: Mask) -> None:
    """Probabilities are finite, not negative, sum to one, and are float64 of the mask's shape."""
    p = policy.probabilities(observation, allowed)
    assert p.shape == allowed.shape, f"{policy.kind} gives {p.shape} for masks {allowed.shape}"
    assert p.dtype == np.float64, f"{policy.kind} gives {p.dtype}: propensities are float64"
    assert np.isfinite(p).all(), f"{policy.kind} gives probabilities that are not finite"
    assert p.min() >= 0, f"{policy.kind} gives a probability of {p.min()}"
    worst = float(np.abs(p.sum(axis=1) - 1).max())
    assert worst < 1e-9, f"rows of {policy.kind} sum to 1 only within {worst:.2e}"


def check_forbidden_actions_have_no_probability(policy: Policy, observation: Observation, allowed: Mask) -> None:
    """Exactly zero where an action is not allowed, under the given masks and under random ones."""
    rng = np.random.default_rng(0)
    narrowed = allowed & (rng.random(allowed.shape) < 0.5)
    narrowed[np.arange(len(allowed)), np.argmax(allowed, axis=1)] = True
    for mask in (allowed, narrowed):
        p = policy.probabilities(observation, mask)
        assert (p[~mask] == 0).all(), f"{policy.kind} puts {p[~mask].max()} on an action that is not allowed"
        assert np.allclose(p.sum(axis=1), 1), f"{policy.kind} loses probability under a mask"


def check_is_pure(policy: Policy, observation: Observation, allowed: Mask) -> None:
    """The same question has the same answer, whatever was asked between, and no argument is changed."""
    before, mask = observation.copy(), allowed.copy()
    first = policy.probabilities(observation, allowed)
    policy.probabilities(observation[::-1].copy(), allowed[::-1].copy())
    second = policy.probabilities(observation, allowed)
    assert (first == second).all(), f"{policy.kind} answers the same question differently"
    assert (observation == before).all(), f"{policy.kind} changes its observation"
    assert (allowed == mask).all(), f"{policy.kind} changes its mask"


def check_a_batch_equals_its_rows(policy: Policy, observation: Observation, allowed: Mask) -> None:
    """What stands beside a row does not matter, to 1e-5."""
    batch = policy.probabilities(observation, allowed)
    rows = [policy.probabilities(observation[i : i + 1], allowed[i : i + 1])[0] for i in range(len(observation))]
    worst = float(np.abs(batch - np.array(rows)).max())
    assert worst <= TOLERANCE, f"a batch of {policy.kind} differs from its rows by {worst:.2e}"


def check_draws_follow_the_probabilities(policy: Policy, observation: Observation, allowed: Mask) -> None:
    """An action is decided by the draw alone, is always allowed, and explored probabilities stay probabilities."""
    p = explore(policy.probabilities(observation, allowed), allowed, Exploration(0.1, "neighbours"))
    u = np.random.default_rng(1).random(len(p))
    action = sample_rows(p, u)
    assert (action == sample_rows(p, u)).all(), f"one draw of {policy.kind} gives two actions"
    chosen = p[np.arange(len(p)), action]
    assert (chosen > 0).all(), f"{policy.kind} is sampled where it has no probability"
    assert np.allclose(p.sum(axis=1), 1), f"exploration changes the sum of {policy.kind}"


LAWS: tuple[Law, ...] = (
    check_rows_sum_to_one,
    check_forbidden_actions_have_no_probability,
    check_is_pure,
    check_a_batch_equals_its_rows,
    check_draws_follow_the_probabilities,
)


def check(policy: Policy, observation: Observation, allowed: Mask) -> None:
    """Every law on these observations (n, k) and masks (n, a), n at least 2."""
    for law in LAWS:
        law(policy, observation, allowed)
