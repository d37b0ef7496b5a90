"""The value of a policy: exact where it can be, simulated on common chance where it cannot."""

from functools import partial

import numpy as np
import pytest

from agents import baselines
from agents.evaluate import evaluate, evaluate_exactly, simulate, tabulated
from agents.held_out import draw, evaluate_in, spread
from agents.policy import FixedAction, Mixture
from agents.ranges import Conditioned, Family, in_world, values_of
from agents.tabular import optimum
from envs import exact
from envs.dynamics import ParamsError, World
from envs.worlds import make


@pytest.fixture(scope="module")
def world() -> World:
    return make("pricing", {"prices": "0.5:4.25:0.25"})


def test_the_best_fixed_price_has_its_published_value(world: World) -> None:
    best = max(evaluate(FixedAction(index, 16), world).value for index in range(16))
    assert best == pytest.approx(34.7032, abs=1e-4)


def test_the_simulated_interval_covers_the_exact_value_about_as_often_as_it_says(world: World) -> None:
    policy = FixedAction(6, 16)
    truth = evaluate(policy, world).value
    hits = 0
    for seed in range(100):
        low, high = simulate(policy, world, 200, seed).interval
        hits += low <= truth <= high
    # Binomial(100, 0.95): 86 or fewer happen once in two thousand.
    assert hits >= 87


def test_equal_seeds_give_two_policies_the_same_customers(world: World) -> None:
    near, nearer = (simulate(FixedAction(index, 16), world, 2000, seed=4).returns for index in (6, 7))
    apart = simulate(FixedAction(7, 16), world, 2000, seed=5).returns
    assert near is not None
    assert nearer is not None
    assert apart is not None
    assert np.corrcoef(near, nearer)[0, 1] > 0.8
    assert (near - nearer).std() < 0.5 * (near - apart).std()


def test_the_same_seed_gives_the_same_returns_and_batches_are_cut_without_loss(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.evaluate.BATCH", 32)
    first, second = (simulate(FixedAction(6, 16), world, 70, seed=1).returns for _ in range(2))
    assert first is not None
    assert second is not None
    assert len(first) == 70
    assert (first == second).all()


def test_a_mixture_is_worth_neither_more_nor_less_exactly_than_in_simulation(world: World) -> None:
    policy = Mixture((FixedAction(4, 16), FixedAction(10, 16)), (0.3, 0.7))
    found, truth = simulate(policy, world, 20_000, seed=2), evaluate(policy, world).value
    low, high = found.interval
    assert abs(found.value - truth) < 2 * (high - low)


def test_one_episode_has_no_interval(world: World) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        simulate(FixedAction(0, 16), world, 1)


def test_a_world_with_too_many_states_is_simulated() -> None:
    large = make("pricing", {"stock": 5000, "periods": 2000, "volume": 3.0, "prices": "1:2:1"})
    assert tabulated(FixedAction(0, 2), large) is None
    assert evaluate_exactly(FixedAction(0, 2), large) is None
    assert evaluate(FixedAction(0, 2), large, episodes=4).method == "simulation"


def test_a_rule_is_exact_where_its_own_states_are_few_among_many() -> None:
    # Capped base stock (46, 9) of the hard instance: 29.670163, from the stationary chain of the fixed policy.
    world = make("inventory", {"demand": "geometric", "mean": 5, "lead_time": 4, "penalty_cost": 39})
    rule = baselines.make("capped-base-stock", world)
    assert tabulated(rule, world) is None
    found = evaluate(rule, world)
    assert found.method == "exact"
    assert found.value == pytest.approx(-29.670163, abs=6e-7)
    # Chances are no rule, and too many joint moves to list are simulated.
    assert evaluate_exactly(Mixture((rule, FixedAction(4, world.actions.n)), (0.5, 0.5)), world) is None
    wear = np.linspace(0.08, 0.27, 20).tolist()
    large = make("maintenance", {"wear": wear, "levels": 6, "crews": 4, "choice": "worst"})
    assert evaluate_exactly(FixedAction(0, large.actions.n), large) is None


def test_the_spread_over_draws_is_the_textbook_interval() -> None:
    # Mean 2, standard deviation 1, t(2, 0.975) = 4.302653: 2 ± 4.302653 / √3.
    found = spread(np.array([1.0, 2.0, 3.0]))
    assert found["interval"] == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert (found["mean"], found["median"], found["max"]) == (2, 2, 3)
    assert spread(np.array([1.0]))["interval"] == (None, None)


def test_the_interval_of_a_mean_gap_does_not_reach_below_none() -> None:
    # 2 ± 2.484138 reaches below 0, which no gap does; what is simulated may seem to, and then the mean is the end.
    assert spread(np.array([1.0, 2.0, 3.0]), least=0.0)["interval"] == pytest.approx((0, 2 + 2.484138), abs=1e-5)
    assert spread(np.array([-1.0, -2.0, -3.0]), least=0.0)["interval"][0] == -2


def test_all_policies_meet_the_same_held_out_worlds_and_chance() -> None:
    small = make("pricing", {"stock": 5, "periods": 10, "prices": "0.5:4.25:0.25"})
    drawn = draw(Family(small, {"volume": (1.0, 5.0)}), 6, seed=3)
    assert drawn.optima is not None
    assert drawn.bounds is None
    best, tuned = (evaluate_in(make_policy, drawn) for make_policy in (optimum, partial(baselines.make, "ce-resolve")))
    assert best.gaps == pytest.approx(np.zeros(6), abs=1e-9)
    assert tuned.gaps is not None
    assert (tuned.gaps > 0).all()
    assert best.gains(tuned) == pytest.approx(100 * (drawn.optima / tuned.values - 1))
    assert tuned.summary()["gap_share"]["mean"] == pytest.approx(tuned.gaps.mean() / 100)


def test_where_no_optimum_is_known_a_bound_stands_in() -> None:
    large = make("pricing", {"stock": 5000, "periods": 2000, "volume": 3.0, "prices": "1:2:1"})
    drawn = draw(Family(large, {"volume": (2.0, 3.0)}), 2, seed=1)
    assert drawn.optima is None
    found = evaluate_in(lambda _: FixedAction(1, 2), drawn, episodes=8)
    assert found.gaps is None
    assert found.gaps_to_bound is not None
    # Twice the best price sells e times less at twice the price: 1 − 2 / e of the bound is missing.
    assert found.gaps_to_bound == pytest.approx([100 * (1 - 2 / np.e)] * 2, abs=3)
    assert "gap_to_bound_share" in found.summary()["worlds"][0]


def test_the_summary_is_free_of_single_returns(world: World) -> None:
    summary = simulate(FixedAction(0, 16), world, 10).summary()
    assert set(summary) == {"value", "interval", "method", "episodes", "seed"}


def test_ranges_are_drawn_log_uniformly_and_shown_behind_the_context(world: World) -> None:
    family = Family(world, {"sensitivity": (0.5, 2.0), "volume": (1.0, 8.0)})
    rows = family.draw(40_000, np.random.default_rng(1))
    assert ((rows >= [0.5, 1.0]) & (rows <= [2.0, 8.0])).all()
    # The median of a log-uniform is the geometric mean of its ends.
    assert np.median(rows, axis=0) == pytest.approx([1.0, 8**0.5], rel=0.02)
    state = world.initial(3, np.random.default_rng(1))
    observed = family.observe(family.members(rows[:3]), state, rows[:3])
    assert observed == pytest.approx(np.column_stack([[20, 20, 20], [0, 0, 0], rows[:3]]), rel=1e-6)
    assert family.columns == ("sensitivity", "volume")
    assert family.bounds.tolist() == [[0, 20], [0, 50], [0.5, 2], [1, 8]]


def test_a_world_at_drawn_values_is_the_world_made_with_them(world: World) -> None:
    family = Family(world, {"volume": (1.0, 5.0)})
    there = family.member(np.array([2.0]))
    assert exact.solve(there).value == exact.solve(make("pricing", {"prices": "0.5:4.25:0.25", "volume": 2.0})).value


def test_a_range_that_starts_at_zero_is_drawn_evenly(world: World) -> None:
    rows = Family(world, {"volume": (0.0, 4.0)}).draw(20_000, np.random.default_rng(2))
    assert rows.mean() == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"colour": (1, 2)}, "colour of pricing cannot vary"),
        ({"stock": (1, 2)}, "stock of pricing cannot vary"),
        ({"volume": (2, 1)}, "ascend"),
        ({"volume": (1, float("inf"))}, "finite"),
    ],
)
def test_ranges_that_cannot_be_trained_over_are_refused(
    world: World, ranges: dict[str, tuple[float, float]], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        Family(world, ranges)


def test_a_conditioned_policy_is_told_the_parameters_of_the_world_it_is_in(world: World) -> None:
    class Telling:
        """Puts all mass on the action whose index is the rounded last entry."""

        kind = "telling"
        conditioned = ("volume",)

        def probabilities(self, observation: np.ndarray, allowed: np.ndarray) -> np.ndarray:
            return np.eye(allowed.shape[1])[np.rint(observation[:, -1]).astype(int)]

    policy = in_world(Telling(), make("pricing", {"volume": 3.0}))
    assert isinstance(policy, Conditioned)
    assert policy.probabilities(np.zeros((2, 2)), np.ones((2, 5), bool)).argmax(axis=1).tolist() == [3, 3]
    assert values_of(make("pricing", {"periods": 3, "volume": [1, 2, 6]}), ("volume", "volume[2]")).tolist() == [3, 6]
    assert in_world(FixedAction(0, 16), world) == FixedAction(0, 16)
