"""Maintenance and replacement against exact figures, closed forms, and the physics by hand."""

import numpy as np
import pytest

from agents import heuristics_maintenance as rules
from envs import exact, lagrangian, lumping, renewal, worlds
from envs.tabulate import StateSpaceTooLarge

MC10 = {"wear": [0.15] * 10, "crews": 3, "setup_cost": 3}
MC20 = {
    "levels": 6,
    "wear": np.linspace(0.08, 0.27, 20),
    "crews": 4,
    "setup_cost": 4,
    "corrective_cost": 5,
    "downtime_cost": 6,
    "choice": "worst",
}


def maintenance(**params):
    return worlds.make("maintenance", params)


def test_four_components_average_and_discounted():
    world = maintenance()
    assert world.actions.n == 11
    assert len(exact.states(world)) == 625
    solution = exact.solve(world)
    assert -solution.value == pytest.approx(0.7607865482, abs=6e-11)
    assert exact.policy_value(world, solution.policy) == pytest.approx(solution.value, abs=1e-11)
    assert -exact.solve(world, discount=0.99).value == pytest.approx(72.641305, abs=6e-7)


def test_ten_components_lumped():
    world = maintenance(**MC10)
    assert len(exact.states(world)) == 1001
    solution = exact.solve(world)
    assert -solution.value == pytest.approx(1.6268879159, abs=6e-11)
    assert exact.policy_value(world, solution.policy) == pytest.approx(solution.value, abs=1e-10)


def test_servicing_the_worst_contains_the_optimum_of_ten():
    assert -exact.solve(maintenance(**MC10, choice="worst")).value == pytest.approx(1.6268879159, abs=6e-11)


@pytest.mark.parametrize(
    ("params", "bound"),
    [(MC10, 1.422727), (MC20, 2.651515), ({**MC20, "crews": 2, "setup_cost": 0}, 1.325758)],
    ids=["MC10", "MC20", "MC20T"],
)
def test_lagrangian_bound(params, bound):
    world = maintenance(**params)
    assert lagrangian.cost_bound(world) == pytest.approx(bound, abs=6e-7)
    assert exact.bound(world)[0] == pytest.approx(-bound, abs=6e-7)


def test_lagrangian_bound_is_below_the_optimum_of_four():
    assert lagrangian.cost_bound(maintenance()) < 0.7607865482


def test_lumped_and_plain_kernel_agree():
    """Three components: the kernel between multisets is the sum of the plain one over the members of a multiset."""
    world = maintenance(levels=4, wear=[0.3] * 3, crews=1)
    moves = world.moves()
    plain, lumped = lumping.product(moves).toarray(), lumping.kernel(moves[0], 3).toarray()
    kinds, states = lumping.multisets(3, 4), world.grid()
    kind_of = lumping.place(states, 4)
    for row, kind in enumerate(kinds):
        summed = np.bincount(kind_of, weights=plain[world.place(kind[None])[0]], minlength=len(kinds))
        assert summed == pytest.approx(lumped[row], abs=1e-14)


def test_lumping_loses_nothing(monkeypatch):
    """Five components with 5 levels are 3,125 states written out and 126 lumped."""
    world = maintenance(wear=[0.2] * 5, crews=2)
    plain = exact.solve(world)
    monkeypatch.setattr("envs.maintenance._MAX_LISTED", 100)
    assert (len(plain.states), len(world.grid())) == (3125, 126)
    assert exact.solve(world).value == pytest.approx(plain.value, abs=1e-11)


def test_one_period_by_hand():
    """Levels (4, 2, 0, 1), service {0, 1}: set-up 2, corrective 4, preventive 1; uniforms pick moves 2, 1, 0, 1."""
    world = maintenance()
    action = np.array([world.actions.index_of([0, 1])])
    chance = np.array([[0.019, 0.1, 0.9, 0.2]])
    after, reward, terminated = world.step(np.array([[4.0, 2.0, 0.0, 1.0]]), action, chance)
    assert after.tolist() == [[2.0, 1.0, 0.0, 2.0]]
    assert reward.tolist() == [-7.0]
    assert not terminated.any()
    # Waiting costs the downtime of the failed one alone.
    _, waiting, _ = world.step(np.array([[4.0, 2.0, 0.0, 1.0]]), np.array([0]), chance)
    assert waiting.tolist() == [-5.0]


def test_the_worst_are_ranked_by_level_then_wear():
    world = maintenance(choice="worst")
    members = world.members(np.array([[3.0, 3.0, 0.0, 1.0], [2.0, 4.0, 4.0, 4.0]]), np.array([1, 2]))
    assert members.tolist() == [[False, True, False, False], [False, False, True, True]]


def test_a_set_is_found_by_its_members_and_a_wrong_one_refused():
    actions = maintenance().actions
    assert actions.labels[actions.index_of([1, 3])] == "[1, 3]"
    assert actions.index_of([]) == 0
    with pytest.raises(ValueError, match="not among the actions"):
        actions.index_of([0, 1, 2])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"wear": [0.1, 1.2]}, "wear is 1.2"),
        ({"jump": -0.1}, "jump is -0.1"),
        ({"crews": 5}, "crews is 5 for 4 components"),
        ({"wear": [0.1] * 40, "crews": 10}, "choice=worst"),
        ({"choice": "best"}, "sets, worst"),
    ],
)
def test_impossible_parameters_are_refused(params, message):
    with pytest.raises(worlds.ParamsError, match=message):
        maintenance(**params)


def test_twenty_different_machines_are_refused_with_their_number():
    with pytest.raises(StateSpaceTooLarge, match=r"3,656,158,440,062,976 states.*bound"):
        exact.solve(maintenance(**MC20))


@pytest.mark.long
def test_twenty_machines_by_simulation():
    """Simulated figures: opportunistic (4, 2) costs 2.8735 to 2.876 on 20 machines, corrective only 6.327."""
    world = maintenance(**MC20)
    assert rules.cost_of(world, rules.opportunistic(world, 4, 2)) == pytest.approx(2.876, abs=0.02)
    assert rules.cost_of(world, rules.control_limit(world, 5)) == pytest.approx(6.327, abs=0.06)
    assert rules.cost_of(world, rules.points(world, np.array([0, 0, 1, 2, 5, 99.0]), 10.5, 2)) < 2.84
    assert rules.cost_of(world, rules.benefit_sum(world, 1.0)) == pytest.approx(2.847, abs=0.02)


# Replacement.


def test_the_optimal_age_is_renewal_reward_to_rounding():
    world = worlds.make("replacement")
    solution = exact.solve(world)
    costs = renewal.age_costs(world)
    assert -solution.value == pytest.approx(0.1971239842, abs=6e-11)
    assert -solution.value == pytest.approx(costs.min(), abs=1e-13)
    assert costs.argmin() + 1 == 8
    assert solution.actions.argmax() == 8
    assert costs[[5, 9]] == pytest.approx([0.207592, 0.210934], abs=8e-7)


def test_running_to_failure_and_blocks():
    world = worlds.make("replacement", {"max_age": 100})
    assert renewal.run_to_failure_cost(world) == pytest.approx(0.544674, abs=6e-7)
    keep = np.tile([1.0, 0.0], (101, 1))
    keep[-1] = [0.0, 1.0]
    assert -exact.policy_value(world, keep) == pytest.approx(0.544674, abs=6e-7)
    blocks = renewal.block_costs(world)
    assert (blocks.argmin() + 1, blocks.min()) == (8, pytest.approx(0.202669, abs=6e-7))


def test_block_costs_by_simulation():
    """Replace every 8 periods, failed units at once: the renewal function against a direct simulation."""
    world = worlds.make("replacement")
    rng = np.random.default_rng(11)
    state, costs = world.initial(2_000, rng), []
    for period in range(800):
        planned = np.full(2_000, int(period % 8 == 0))
        state, reward, _ = world.step(state, planned, world.draw(2_000, rng))
        costs.append(-reward)
    per_copy = np.mean(costs, axis=0)
    assert abs(per_copy.mean() - 0.202669) < 3 * per_copy.std() / np.sqrt(2_000)


def test_continuous_age_satisfies_its_identity():
    """(failure_cost - replace_cost) · hazard(T*) = cost, Barlow and Hunter."""
    age, cost = renewal.continuous_age(3, 20, 1, 10)
    assert (age, cost) == (pytest.approx(7.649111, abs=6e-7), pytest.approx(0.1974675150, abs=6e-11))
    assert 9 * 3 / 20 * (age / 20) ** 2 == pytest.approx(cost, abs=1e-10)
    assert renewal.continuous_run_to_failure(3, 20, 10) == pytest.approx(0.559923, abs=6e-7)


@pytest.mark.parametrize(
    ("shape", "age", "cost", "failure"),
    [
        (1.5, 0.378144, 8.301616, 11.0773),
        (2.0, 0.336451, 6.056121, 11.2838),
        (2.5, 0.354574, 4.750547, 11.2706),
        (3.0, 0.382456, 3.949350, 11.1985),
        (4.0, 0.439097, 3.047786, 11.0326),
    ],
)
def test_weibull_ages(shape, age, cost, failure):
    assert renewal.continuous_age(shape, 1, 1, 10) == pytest.approx((age, cost), abs=6e-7)
    assert renewal.continuous_run_to_failure(shape, 1, 10) == pytest.approx(failure, abs=6e-5)


def test_a_unit_that_does_not_wear_is_not_replaced_early():
    with pytest.raises(ValueError, match="run to failure"):
        renewal.continuous_age(1.0, 20, 1, 10)


def test_at_the_greatest_age_only_replacing_is_allowed():
    world = worlds.make("replacement", {"max_age": 5})
    assert world.allowed(world.grid()).tolist() == [[True, True]] * 5 + [[False, True]]


def test_replacement_simulates_its_optimum():
    world = worlds.make("replacement")
    rng = np.random.default_rng(4)
    state, totals = world.initial(2_000, rng), np.zeros(2_000)
    for _ in range(1_000):
        state, reward, _ = world.step(state, (state[:, 0] >= 8).astype(int), world.draw(2_000, rng))
        totals -= reward
    mean = totals / 1_000
    assert abs(mean.mean() - 0.1971239842) < 3 * mean.std() / np.sqrt(2_000)
