"""The pricing world against published figures, closed forms and its own simulation."""

import math

import numpy as np
import pytest

from agents import baselines
from envs import exact, worlds
from envs.continuum import best_fixed_price
from envs.fluid import fluid_bound, fluid_prices
from envs.pricing import Pricing

E = 2.718281828
MENU = "0.5:4.25:0.25"
PERIODS = np.arange(100)
GVR_S = {"stock": 5, "periods": 10, "volume": E, "sensitivity": 1}
GVR_M = {"stock": 20, "periods": 50, "volume": E, "sensitivity": 1}
SEASON = {
    "stock": 40,
    "periods": 100,
    "volume": E * (1 + 0.6 * np.sin(2 * np.pi * PERIODS / 50)),
    "sensitivity": np.linspace(1.3, 0.7, 100),
}
INSTANCES = {"GVR-S": GVR_S, "GVR-M": GVR_M, "SEASON": SEASON}

# Optimum, optimum on the menu, best fixed price and its value, re-solved fluid, myopic, fluid bound, first price.
FIGURES = {
    "GVR-S": (7.250238, 7.237866, 1.7425, 6.989933, 7.087522, 4.957097, 8.465736, 1.836695),
    "GVR-M": (36.338128, 36.283158, 1.9192, 34.921420, 36.181260, 19.999999, 38.325815, 1.946921),
    "SEASON": (74.461177, 74.363544, 1.9248, 71.787708, 74.155025, 33.185002, 77.216484, 1.692554),
}


def pricing(params, prices="any"):
    world = worlds.make("pricing", {**params, "prices": prices})
    assert isinstance(world, Pricing)
    return world


@pytest.mark.parametrize("name", INSTANCES)
def test_optimum_over_any_price_and_its_first_price(name):
    world = pricing(INSTANCES[name])
    solution = exact.solve(world)
    assert solution.value == pytest.approx(FIGURES[name][0], abs=5e-7)
    # The figures quoted carry the noise of a maximum, which is flat: at 1e-5 beside it a price loses 1e-11.
    assert solution.actions[world.params.stock] == pytest.approx(FIGURES[name][7], abs=2e-5)
    assert exact.policy_value(world, solution.actions) == pytest.approx(solution.value, abs=1e-9)


@pytest.mark.parametrize("name", INSTANCES)
def test_optimum_on_the_menu_and_the_value_of_its_table(name):
    world = pricing(INSTANCES[name], MENU)
    solution = exact.solve(world)
    assert solution.value == pytest.approx(FIGURES[name][1], abs=5e-7)
    assert exact.policy_value(world, solution.policy) == pytest.approx(solution.value, abs=1e-10)


@pytest.mark.parametrize("name", INSTANCES)
def test_best_fixed_price_is_a_closed_form(name):
    world = pricing(INSTANCES[name])
    price, value = best_fixed_price(world)
    assert price == pytest.approx(FIGURES[name][2], abs=5e-5)
    assert value == pytest.approx(FIGURES[name][3], abs=5e-7)
    everywhere = np.full(len(exact.states(world)), price)
    assert exact.policy_value(world, everywhere) == pytest.approx(value, abs=1e-9)


def test_best_fixed_price_on_the_menu_of_gvr_m():
    world = pricing(GVR_M, MENU)
    assert best_fixed_price(world) == (2.0, pytest.approx(34.7032, abs=5e-5))


@pytest.mark.parametrize("name", INSTANCES)
def test_fluid_bound_myopic_and_re_solved_fluid(name):
    world = pricing(INSTANCES[name])
    states = exact.states(world)
    period = states[:, 1].astype(int)
    resolved = np.array([fluid_prices(world, max(stock, 1), int(t))[0] for stock, t in states])
    myopic = np.broadcast_to(world.params.myopic_price, (world.params.periods,))[period]
    assert fluid_bound(world) == pytest.approx(FIGURES[name][6], abs=5e-7)
    assert exact.policy_value(world, resolved) == pytest.approx(FIGURES[name][4], abs=5e-7)
    assert exact.policy_value(world, myopic) == pytest.approx(FIGURES[name][5], abs=6e-7)


def test_fluid_path_of_the_season_fixed_in_advance():
    world = pricing(SEASON)
    path = fluid_prices(world, 40, 0)[exact.states(world)[:, 1].astype(int)]
    assert exact.policy_value(world, path) == pytest.approx(71.633381, abs=5e-7)


def test_ever_shorter_epochs_approach_the_closed_form_of_continuous_time_from_below():
    """J*(n, t) = log sum over i <= n of (t a/e)^i / i!, for n = 5, t = 10."""
    limit = math.log(sum((10 * E / math.e) ** i / math.factorial(i) for i in range(6)))
    assert limit == pytest.approx(7.298220, abs=5e-7)
    found = [
        exact.solve(pricing({"stock": 5, "periods": 10 * k, "volume": E / k, "sensitivity": 1})).value
        for k in (1, 4, 16)
    ]
    assert found == pytest.approx([7.25024, 7.28538, 7.29493], abs=6e-6)
    gaps = limit - np.array(found)
    # The gap falls in proportion to the length of an epoch.
    assert (gaps > 0).all()
    assert gaps[:2] / gaps[1:] == pytest.approx([4, 4], rel=0.1)


def test_simulation_of_the_optimum_agrees_within_three_standard_errors():
    world = pricing(GVR_M, MENU)
    solution = exact.solve(world)
    table = solution.actions.reshape(50, 21)
    rng = np.random.default_rng(2026)
    state = world.initial(20_000, rng)
    earned = np.zeros(len(state))
    for period in range(50):
        action = table[period, state[:, 0].astype(int)]
        state, reward, _ = world.step(state, action, world.draw(len(state), rng))
        earned += reward
    assert abs(earned.mean() - solution.value) < 3 * earned.std() / np.sqrt(len(earned))
    assert earned.std() == pytest.approx(4.41, abs=0.1)


def test_expected_reward_is_the_mean_over_all_branches():
    world = pricing(SEASON, MENU)
    states = world.grid(30)
    action = np.arange(len(states)) % 16
    branches = world.branches(states, action)
    assert branches.probability.sum(axis=1) == pytest.approx(np.ones(len(states)), abs=1e-12)
    mean = (branches.probability * branches.reward).sum(axis=1)
    assert world.expected_reward(states, action) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("name", baselines.BASELINES["pricing"])
def test_each_rule_names_one_price_and_none_beats_the_optimum(name):
    world = pricing(GVR_M, MENU)
    states = exact.states(world)
    policy = baselines.make(name, world)
    table = policy.probabilities(world.observe(states), world.allowed(states))
    assert set(np.unique(table)) == {0.0, 1.0}
    assert exact.policy_value(world, table) <= exact.solve(world).value


def test_default_ladder_spans_half_to_twice_the_myopic_prices_of_params_and_ranges():
    world = worlds.make("pricing", {"sensitivity": 1.0}, {"sensitivity": (0.5, 4.0)})
    prices = world.actions.values
    assert (len(prices), prices[0], prices[-1]) == (41, pytest.approx(0.125), pytest.approx(4.0))
    assert np.ptp(np.diff(np.log(prices))) < 1e-12


def test_parameters_by_row_equal_one_world_after_another():
    base = worlds.make("pricing")
    volume, sensitivity = np.array([1.0, 3.0, 200.0]), np.array([0.5, 1.0, 2.0])
    together = base.with_params({"volume": volume, "sensitivity": sensitivity})
    rng = np.random.default_rng(3)
    state = np.array([[20.0, 0.0], [7.0, 10.0], [20.0, 49.0]])
    action, chance = np.array([3, 20, 40]), base.draw(3, rng)
    whole = together.step(state, action, chance)
    for i in range(3):
        alone = base.with_params({"volume": volume[i], "sensitivity": sensitivity[i]})
        one = alone.step(state[i : i + 1], action[i : i + 1], chance[i : i + 1])
        for left, right in zip(whole, one, strict=True):
            assert np.array_equal(left[i : i + 1], right)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stock": -1}, "stock is -1"),
        ({"stock": 2.5}, "whole numbers"),
        ({"volume": float("nan")}, "finite"),
        ({"volume": [1.0, 2.0]}, "2 values for 50 periods"),
        ({"prices": []}, "lists no price"),
        ({"prices": "2:1:0.5"}, "low must be at most high"),
        ({"prices": {"geometric": [1, 2]}}, "geometric"),
        ({"prices": [2.0, 1.0]}, "ascending"),
        ({"colour": 1}, "no parameter 'colour'"),
    ],
)
def test_impossible_parameters_are_refused_with_the_field_and_the_cure(params, message):
    with pytest.raises(worlds.ParamsError, match=message):
        worlds.make("pricing", params)


def test_a_price_that_is_not_on_the_ladder_is_refused_with_what_there_is():
    actions = pricing(GVR_M, MENU).actions
    assert actions.index_of(1.25) == 3
    with pytest.raises(ValueError, match=r"0\.5, 0\.75"):
        actions.index_of(1.3)


def test_too_many_states_are_refused_with_their_number():
    world = worlds.make("pricing", {"stock": 100_000, "periods": 1_000})
    with pytest.raises(ValueError, match="100,001,000 states"):
        exact.states(world)
