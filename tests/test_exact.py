"""Exact answers in general: second methods on small random chains, and errors that say what to do."""

from itertools import product

import numpy as np
import pytest

from envs import exact, worlds
from envs.tabulate import StateSpaceTooLarge, all_states, tabulate

SMALL = {
    "pricing": {"stock": 3, "periods": 3, "prices": "0.5:2:0.5"},
    "pricing-replenished": {"capacity": 3, "prices": "0.5:1.5:0.5"},
    "pricing-rival": {"stock": 2, "periods": 2, "prices": "0.9:1.5:0.3", "rival_prices": [0.8, 1.4]},
    "replacement": {"max_age": 4, "scale": 3.0},
    "maintenance": {"levels": 3, "wear": [0.3, 0.5], "crews": 1},
    "inventory": {"mean": 1.5, "lead_time": 2, "max_order": 3, "capacity": 8, "penalty_cost": 4},
}
UNENDING = ("pricing-replenished", "replacement", "maintenance", "inventory")


def random_policy(world, seed):
    rng = np.random.default_rng(seed)
    allowed = np.array(world.allowed(exact.states(world)))
    weight = rng.random(allowed.shape) * allowed
    return weight / weight.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("world_id", SMALL)
def test_no_random_policy_beats_the_optimum_and_its_own_table_reaches_it(world_id):
    world = worlds.make(world_id, SMALL[world_id])
    solution = exact.solve(world)
    assert exact.policy_value(world, solution.policy) == pytest.approx(solution.value, abs=1e-9)
    assert all(exact.policy_value(world, random_policy(world, seed)) < solution.value for seed in range(5))


def test_backward_induction_is_the_best_of_all_tables():
    """Two items, two periods, two prices: each of the 2^4 tables over what can be met, enumerated."""
    world = worlds.make("pricing", {"stock": 2, "periods": 2, "prices": [0.8, 1.6]})
    states = exact.states(world)
    best = -np.inf
    for choice in product((0, 1), repeat=4):
        table = np.tile([1.0, 0.0], (len(states), 1))
        # In order: full at first; then one or two left, and the empty shelf does not matter.
        for row, index in zip((2, 4, 5, 1), choice, strict=True):
            table[row] = np.eye(2)[index]
        best = max(best, exact.policy_value(world, table))
    assert exact.solve(world).value == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("world_id", UNENDING)
def test_the_average_of_a_policy_is_that_of_its_stationary_law(world_id):
    world = worlds.make(world_id, SMALL[world_id])
    table = random_policy(world, 9)
    reward, kernel = tabulate(world).under(table)
    m = len(reward)
    system = np.vstack([np.eye(m) - kernel.toarray().T, np.ones(m)])
    law, *_ = np.linalg.lstsq(system, np.append(np.zeros(m), 1.0), rcond=None)
    assert exact.policy_value(world, table) == pytest.approx(law @ reward, abs=1e-9)


@pytest.mark.parametrize("world_id", UNENDING)
def test_discounted_values_solve_their_linear_equations(world_id):
    world = worlds.make(world_id, SMALL[world_id])
    solution = exact.solve(world, discount=0.9)
    stage = tabulate(world)
    assert stage.values(solution.values, 0.9).max(axis=1) == pytest.approx(solution.values, abs=1e-9)
    assert exact.policy_value(world, solution.policy, discount=0.9) == pytest.approx(solution.value, abs=1e-9)


@pytest.mark.parametrize("world_id", UNENDING)
def test_a_rule_is_worth_what_its_table_is_worth(world_id):
    world = worlds.make(world_id, SMALL[world_id])
    solution = exact.solve(world)
    assert exact.rule_value(world, lambda state: solution.actions[world.place(state)]) == pytest.approx(
        solution.value, abs=1e-9
    )


@pytest.mark.parametrize("world_id", SMALL)
def test_places_are_the_order_of_the_states(world_id):
    world = worlds.make(world_id, SMALL[world_id])
    assert world.place(world.grid()).tolist() == list(range(len(world.grid())))
    assert len(all_states(world)) == len(world.grid()) * (world.horizon or 1)


@pytest.mark.parametrize("world_id", SMALL)
def test_written_out_probabilities_sum_to_one_where_nothing_ends(world_id):
    world = worlds.make(world_id, SMALL[world_id])
    total = tabulate(world).kernel.sum(axis=1)
    assert (total <= 1 + 1e-9).all()
    if world.horizon is None:
        assert total == pytest.approx(np.ones(len(total)), abs=1e-9)


def test_policies_that_do_not_fit_are_refused():
    world = worlds.make("replacement", SMALL["replacement"])
    with pytest.raises(ValueError, match=r"probabilities \(5, 2\)"):
        exact.policy_value(world, np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"row 0 of the policy sums to 2"):
        exact.policy_value(world, np.ones((5, 2)))
    with pytest.raises(ValueError, match="not allowed there"):
        exact.policy_value(world, np.tile([1.0, 0.0], (5, 1)))


def test_only_what_can_be_reached_from_the_start_counts():
    """Without wear nothing ever fails, so waiting costs nothing, though failed components would cost for ever."""
    world = worlds.make("maintenance", {"levels": 2, "wear": [0.0, 0.0], "crews": 1})
    waiting = np.tile(np.eye(3)[0], (4, 1))
    assert exact.policy_value(world, waiting) == 0.0


def test_discounts_are_for_worlds_without_horizon():
    with pytest.raises(ValueError, match="without horizon"):
        exact.solve(worlds.make("pricing"), discount=0.9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        exact.solve(worlds.make("replacement"), discount=1.0)
    with pytest.raises(ValueError, match="has a horizon"):
        exact.rule_value(worlds.make("pricing"), lambda state: np.zeros(len(state), int))


def test_bounds_hold_where_there_are_any():
    for world_id in ("pricing", "pricing-network", "maintenance"):
        world = worlds.make(world_id)
        value, method = exact.bound(world)
        assert value > exact.solve(world).value
        assert method
    with pytest.raises(ValueError, match="use `solve`"):
        exact.bound(worlds.make("replacement"))


def test_the_optimum_of_a_continuum_is_no_table():
    solution = exact.solve(worlds.make("pricing", {"stock": 2, "periods": 2, "prices": "any"}))
    with pytest.raises(ValueError, match="use `actions`"):
        _ = solution.policy


def test_a_world_without_enumeration_says_what_it_needs():
    class Opaque:
        id = "opaque"
        horizon = None

    with pytest.raises(ValueError, match="`grid`, `place` and `branches`"):
        exact.states(Opaque())


def test_what_is_too_large_says_how_large():
    with pytest.raises(StateSpaceTooLarge, match=r"[\d,]+ states.*60,000,000 are allowed.*simulation"):
        exact.solve(worlds.make("pricing", {"stock": 50_000, "periods": 10, "volume": 1e4}))


@pytest.mark.parametrize("prices", [[1.0, 2.0], "any"])
def test_too_many_states_are_refused_before_any_work(prices):
    with pytest.raises(StateSpaceTooLarge, match="810,090,000 states"):
        exact.solve(worlds.make("pricing", {"stock": 9_000, "periods": 90_000, "prices": prices}))
