"""Lost sales against Zipkin's table, and the physics of the pipeline by hand."""

import numpy as np
import pytest

from envs import exact, worlds
from envs.tabulate import StateSpaceTooLarge, tabulate

# Optimal cost for lead times 1 to 4: Zipkin (2008), tables 3 and 4, with more digits; holding cost 1, mean 5.
TABLE = {
    ("poisson", 4): (4.04071, 4.39530, 4.59872, 4.72853),
    ("poisson", 9): (5.43822, 6.09364, 6.53137, 6.83594),
    ("poisson", 19): (6.67574, 7.66442, 8.36251, 8.88718),
    ("poisson", 39): (7.83595, 9.10638, 10.03848, 10.79441),
    ("geometric", 4): (9.81749, 10.24021, 10.46671, 10.60650),
    ("geometric", 9): (14.50817, 15.50289, 16.13674, 16.57737),
    ("geometric", 19): (19.21790, 20.89055, 22.06454, 22.95300),
    ("geometric", 39): (23.86569, 26.21377, 27.96354, 29.35593),
}
SIX_DIGITS = {("poisson", 2, 4): 4.395295, ("poisson", 4, 19): 8.887178, ("geometric", 4, 39): 29.355932}


def inventory(**params):
    return worlds.make("inventory", params)


@pytest.mark.parametrize(("demand", "penalty"), TABLE)
def test_the_optimum_of_every_cell_of_the_table(demand, penalty):
    found = [
        -exact.solve(inventory(demand=demand, penalty_cost=penalty, lead_time=lead, capacity=80)).value
        for lead in (1, 2, 3, 4)
    ]
    assert found == pytest.approx(TABLE[demand, penalty], abs=6e-6)


@pytest.mark.parametrize("cell", SIX_DIGITS)
def test_six_digits_where_they_are_known(cell):
    demand, lead, penalty = cell
    world = inventory(demand=demand, penalty_cost=penalty, lead_time=lead)
    assert -exact.solve(world).value == pytest.approx(SIX_DIGITS[cell], abs=6e-7)


def test_zipkins_bounds_lose_nothing_against_the_whole_grid():
    """A second method: value iteration on the world written out state by state, larger orders allowed."""
    world = inventory(lead_time=2, penalty_cost=9, max_order=15, capacity=45)
    table, value = tabulate(world), np.zeros(len(world.grid()))
    for _ in range(400):
        updated = table.values(value).max(axis=1)
        gain, value = (updated - value)[0], updated - updated[0]
    assert -gain == pytest.approx(6.09364, abs=6e-6)
    assert exact.solve(world).value == pytest.approx(gain, abs=1e-9)


@pytest.mark.parametrize("lead", [1, 2, 3])
def test_the_optimal_table_is_worth_the_optimum(lead):
    world = inventory(lead_time=lead)
    solution = exact.solve(world)
    assert exact.policy_value(world, solution.policy) == pytest.approx(solution.value, abs=1e-9)


def test_a_random_policy_is_worth_the_same_by_two_methods():
    world = inventory(lead_time=2, max_order=6, capacity=40, mean=4.0)
    rng = np.random.default_rng(5)
    table = rng.dirichlet(np.ones(7), len(world.grid()))
    reward, kernel = tabulate(world).under(table)
    law = np.full(len(reward), 1 / len(reward))
    for _ in range(3000):
        law = law @ kernel
    assert exact.policy_value(world, table) == pytest.approx(law @ reward, abs=1e-8)


def test_one_period_by_hand():
    """Mean 5, uniform .5 gives demand 5: of 3 on hand 3 are sold and 2 lost; the order due in a period arrives."""
    world = inventory(lead_time=3, holding_cost=1, penalty_cost=19)
    state = np.array([[3.0, 4.0, 1.0], [9.0, 0.0, 2.0]])
    after, reward, terminated = world.step(state, np.array([7, 0]), np.array([[0.5], [0.5]]))
    assert after.tolist() == [[4.0, 1.0, 7.0], [4.0, 2.0, 0.0]]
    assert reward.tolist() == [-38.0, -4.0]
    assert not terminated.any()
    fields = world.outcome(state, np.array([7, 0]), np.array([[0.5], [0.5]]))
    assert fields["sold"].tolist() == [3.0, 5.0]
    assert fields["lost"].tolist() == [2.0, 0.0]
    assert world.reward_of(world.observe(state), np.array([7, 0]), fields).tolist() == [-38.0, -4.0]


def test_with_lead_time_one_the_order_is_there_next_period():
    world = inventory(lead_time=1)
    after, _, _ = world.step(np.array([[8.0]]), np.array([6]), np.array([[0.5]]))
    assert after.tolist() == [[9.0]]


@pytest.mark.parametrize("demand", ["poisson", "geometric"])
def test_the_reward_without_seen_losses_has_the_same_mean(demand):
    world = inventory(lead_time=2, demand=demand)
    rng = np.random.default_rng(1)
    state = np.tile([4.0, 0.0], (200_000, 1))
    fields = world.outcome(state, np.zeros(len(state), int), world.draw(len(state), rng))
    seen = world.reward_of(state, np.zeros(len(state), int), {"sold": fields["sold"]})
    full = world.reward_of(state, np.zeros(len(state), int), fields)
    assert abs(seen.mean() - full.mean()) < 3 * (seen - full).std() / np.sqrt(len(state))


@pytest.mark.parametrize("demand", ["poisson", "geometric"])
def test_expected_cost_has_no_edge(demand):
    """A table of costs that is clamped at its edge once let a learner earn what does not exist."""
    world = inventory(demand=demand, capacity=5_000)
    stock = np.arange(0.0, 5_000.0)
    state = np.stack([stock, *[np.zeros_like(stock)] * 3], axis=1)
    cost = -world.expected_reward(state, np.zeros(len(stock)))
    pmf = np.append(world.params.demand_pmf(), np.zeros(1000))[:1000]
    demands = np.arange(1000)
    for x in (0, 3, 60, 119, 120, 500, 4_999):
        by_hand = pmf @ (np.maximum(x - demands, 0) + 19 * np.maximum(demands - x, 0))
        assert cost[x] == pytest.approx(by_hand, rel=1e-9)
    assert (np.diff(cost[100:]) > 0).all()


def test_orders_that_follow_from_the_parameters_cover_the_ranges():
    narrow = worlds.make("inventory", {"lead_time": 2})
    wide = worlds.make("inventory", {"lead_time": 2}, {"mean": (3, 9), "penalty_cost": (4, 40)})
    assert narrow.actions.n == 10
    assert wide.actions.n > 15
    assert wide.params.mean == 5.0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"demand": "uniform"}, "poisson, geometric"),
        ({"demand": 3}, "it is a word"),
        ({"mean": -1}, "mean is -1"),
        ({"lead_time": 0}, "from 1 to 12"),
        ({"lead_time": 1.5}, "whole numbers"),
    ],
)
def test_impossible_parameters_are_refused(params, message):
    with pytest.raises(worlds.ParamsError, match=message):
        worlds.make("inventory", params)


def test_a_long_lead_time_is_refused_with_the_number_of_states():
    with pytest.raises(StateSpaceTooLarge, match=r"states.*shorter lead time"):
        exact.solve(inventory(lead_time=9))
