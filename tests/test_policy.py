"""Probabilities over allowed actions, exploration, the keyed draw and the sampling of an action."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from agents.policy import (
    Exploration,
    FixedAction,
    Greedy,
    Mixture,
    Table,
    draw,
    explore,
    restrict,
    sample,
    sample_rows,
    softmax,
)

SECRET = bytes(range(32))
EVERY = np.ones((1, 5), bool)


def masks() -> st.SearchStrategy[np.ndarray]:
    return arrays(bool, (4, 7)).filter(lambda mask: bool(mask.any(axis=1).all()))


def test_a_fixed_action_that_is_not_allowed_gives_way_to_the_nearest_allowed_one() -> None:
    allowed = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
    chosen = FixedAction(2, 5).probabilities(np.zeros((3, 2)), allowed).argmax(axis=1)
    assert chosen.tolist() == [0, 1, 2]


def test_a_fixed_action_outside_the_ladder_says_which_indices_exist() -> None:
    with pytest.raises(ValueError, match="give 0 to 4"):
        FixedAction(5, 5)


def test_a_table_finds_its_state_by_a_rounded_observation() -> None:
    observations = np.array([[stock, period] for period in (0.1, 0.2) for stock in (0.0, 1.0, 2.0)])
    values = np.eye(6)
    table = Table(observations, values)
    shuffled = np.float32(observations)[[4, 0, 5, 2]]
    assert table.probabilities(shuffled, np.ones((4, 6), bool)).argmax(axis=1).tolist() == [4, 0, 5, 2]


def test_a_table_refuses_an_observation_that_is_none_of_its_states() -> None:
    table = Table(np.array([[0.0, 0.0], [1.0, 1.0]]), np.eye(2))
    with pytest.raises(ValueError, match=r"\[0.0, 1.0\] is no state"):
        table.probabilities(np.array([[0.0, 1.0]]), np.ones((1, 2), bool))


def test_a_table_refuses_two_states_that_look_alike() -> None:
    with pytest.raises(ValueError, match="same observation"):
        Table(np.zeros((2, 1)), np.eye(2))


def test_a_mixture_is_the_weighted_sum() -> None:
    mixture = Mixture((FixedAction(0, 5), FixedAction(3, 5)), (0.25, 0.75))
    assert mixture.probabilities(np.zeros((1, 1)), EVERY).tolist() == [[0.25, 0, 0, 0.75, 0]]


def test_mixture_weights_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        Mixture((FixedAction(0, 5),), (0.9,))


def test_greedy_spreads_epsilon_over_the_allowed_actions_only() -> None:
    allowed = np.array([[True, True, False, True, True]])
    p = Greedy(Mixture((FixedAction(0, 5), FixedAction(3, 5)), (0.4, 0.6)), 0.2).probabilities(
        np.zeros((1, 1)), allowed
    )
    assert p == pytest.approx(np.array([[0.05, 0.05, 0.0, 0.85, 0.05]]))


@given(masks(), st.sampled_from(["allowed", "neighbours"]), st.floats(0, 1))
def test_exploration_keeps_rows_at_one_and_forbidden_actions_at_zero(mask: np.ndarray, over: str, share: float) -> None:
    p = restrict(np.random.default_rng(1).random(mask.shape), mask)
    explored = explore(p, mask, Exploration(share, over))  # type: ignore[arg-type]
    assert explored.sum(axis=1) == pytest.approx(1.0)
    assert (explored[~mask] == 0).all()
    assert (explored[mask] >= 0).all()


def test_neighbours_skip_forbidden_actions_and_a_lonely_action_keeps_its_mass() -> None:
    p = np.array([[0, 0, 1.0, 0, 0], [1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]])
    allowed = np.array([[1, 0, 1, 0, 1], [1, 0, 0, 1, 1], [0, 1, 0, 0, 0]], bool)
    explored = explore(p, allowed, Exploration(0.2, "neighbours"))
    expected = np.array([[0.1, 0, 0.8, 0, 0.1], [0.8, 0, 0, 0.2, 0], [0, 1, 0, 0, 0]])
    assert explored == pytest.approx(expected)


def test_exploration_over_allowed_actions_is_a_floor_under_every_propensity() -> None:
    explored = explore(np.array([[0, 0, 1.0, 0, 0]]), EVERY, Exploration(0.1, "allowed"))
    assert explored.min() == pytest.approx(0.02)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="give 0 to 1"):
        Exploration(share)


@given(masks(), arrays(np.float32, (4, 7), elements=st.floats(-1e6, 1e6, width=32)), st.floats(0.01, 10))
def test_softmax_sums_to_one_on_allowed_actions(mask: np.ndarray, logits: np.ndarray, temperature: float) -> None:
    p = softmax(logits, mask, temperature)
    assert p.sum(axis=1) == pytest.approx(1.0)
    assert (p[~mask] == 0).all()


def test_a_temperature_of_one_half_squares_the_odds() -> None:
    logits = np.log([[0.2, 0.8]])
    assert softmax(logits, np.ones((1, 2), bool), 0.5) == pytest.approx(np.array([[1 / 17, 16 / 17]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        softmax(np.array([[0.0, bad]]), np.ones((1, 2), bool))


def test_a_row_without_an_allowed_action_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 allows no action"):
        softmax(np.zeros((2, 2)), np.array([[True, False], [False, False]]))


def test_the_draw_is_the_published_keyed_hash() -> None:
    message = b"\x00\x00\x00\x06action" + b"order-17"
    expected = hashlib.blake2b(message, key=SECRET, digest_size=8).digest()
    assert draw(SECRET, "order-17", "action") == (int.from_bytes(expected, "big") >> 11) / 2**53


def test_domain_and_id_cannot_be_shifted_into_one_another() -> None:
    assert draw(SECRET, "bc", "a") != draw(SECRET, "c", "ab")


def test_draws_are_uniform_and_independent_between_domains() -> None:
    ids = [f"d{i}" for i in range(20_000)]
    action = np.array([draw(SECRET, i, "action") for i in ids])
    arm = np.array([draw(SECRET, i, "arm") for i in ids])
    assert stats.kstest(action, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(action, arm)[0, 1]) < 4 / np.sqrt(len(ids))


@pytest.mark.parametrize("size", [15, 65])
def test_a_secret_of_the_wrong_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="give 16 to 64"):
        draw(bytes(size), "a", "action")


def test_sampled_frequencies_are_the_probabilities() -> None:
    p = np.array([0.0, 0.5, 0.2, 0.0, 0.3])
    chosen = sample_rows(np.tile(p, (100_000, 1)), np.random.default_rng(3).random(100_000))
    counts = np.bincount(chosen, minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert stats.chisquare(counts[p > 0], p[p > 0] * 100_000).pvalue > 0.001


@given(
    arrays(np.float64, 6, elements=st.sampled_from([0.0, 1e-300, 1e-17, 0.1, 1.0])), st.floats(0, 1, exclude_max=True)
)
def test_no_action_of_probability_zero_is_ever_sampled(p: np.ndarray, u: float) -> None:
    if p.sum() > 0:
        assert p[sample(p / p.sum(), u)] > 0


def test_the_largest_draw_below_one_picks_the_last_action_that_has_probability() -> None:
    assert sample([0.1] * 10 + [0.0], float(np.nextafter(1, 0))) == 9


def test_a_draw_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        sample([1.0], 1.0)
