"""The standard rules: tuned on the parameters, worth what is known of them, never better than the optimum."""

import numpy as np
import pytest

from agents import baselines, heuristics_inventory, heuristics_maintenance
from envs import exact, network, renewal, worlds

TABLED = [(world, name) for world, names in baselines.BASELINES.items() if world != "pricing-network" for name in names]


def test_every_world_has_rules():
    assert set(baselines.BASELINES) == set(worlds.WORLDS)
    assert all(baselines.BASELINES.values())


@pytest.mark.parametrize(("world_id", "name"), TABLED)
def test_each_rule_is_a_table_over_allowed_actions_that_the_optimum_beats(world_id, name):
    world = worlds.make(world_id, {"lead_time": 2} if world_id == "inventory" else {})
    states = exact.states(world)
    allowed = np.array(world.allowed(states))
    table = baselines.make(name, world).probabilities(world.observe(states), allowed)
    assert (table.sum(axis=1) == 1).all()
    assert set(np.unique(table)) == {0.0, 1.0}
    assert (table[~allowed] == 0).all()
    assert exact.policy_value(world, table) <= exact.solve(world).value + 1e-9


@pytest.mark.parametrize("name", baselines.BASELINES["pricing-network"])
def test_network_rules_name_one_price_for_each_product(name):
    world = worlds.make("pricing-network")
    states = world.grid(7)
    table = baselines.make(name, world).probabilities(world.observe(states), np.array(world.allowed(states)))
    assert table.shape == (81, 3 * 41)
    assert (table.reshape(81, 3, 41).sum(axis=2) == 1).all()


def test_bid_prices_on_the_ladder_are_worth_little_less_than_over_any_price():
    world = worlds.make("pricing-network")
    policy = baselines.make("bid-price", world)

    def pricer(left, period):
        seen = np.concatenate([left, np.full((len(left), 1), period)], axis=1)
        table = policy.probabilities(seen, np.array(world.allowed(seen))).reshape(len(left), 3, 41)
        return world.params.prices[table.argmax(axis=2)]

    free = network.value_of(world, network.bid_prices(world))
    assert free * 0.99 < network.value_of(world, pricer) < free


def test_an_unknown_rule_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="best-fixed-price"):
        baselines.make("bid-price", worlds.make("pricing"))


def test_parameters_behind_the_context_do_not_matter_to_a_rule():
    world = worlds.make("pricing")
    policy = baselines.make("ce-resolve", world)
    seen = np.array([[20.0, 3.0]], np.float32)
    longer = np.concatenate([seen, [[2.0, 1.0]]], axis=1)
    allowed = np.ones((1, 41), bool)
    assert np.array_equal(policy.probabilities(seen, allowed), policy.probabilities(longer, allowed))


# Lost sales: lead time, penalty, demand, largest order; then the settings that tuning finds.
LOST_SALES = {
    "LS-E": ({"lead_time": 2, "penalty_cost": 4, "max_order": 18}, 16, (17, 5), 7.5, 4),
    "LS-M": ({"max_order": 31}, 31, (31, 6), 11.5, 4),
}
LS_H = {"demand": "geometric", "penalty_cost": 39, "max_order": 46, "capacity": 120}


@pytest.mark.parametrize("name", ["LS-E", pytest.param("LS-M", marks=pytest.mark.long)])
def test_ordering_rules_tune_themselves_to_the_known_settings(name):
    params, level, capped, projected, constant = LOST_SALES[name]
    world = worlds.make("inventory", params)
    assert heuristics_inventory.tuned_base_stock(world) == level
    assert heuristics_inventory.tuned_capped(world) == capped
    assert heuristics_inventory.tuned_projected(world) == projected
    assert heuristics_inventory.tuned_constant(world) == constant


@pytest.mark.long
def test_ordering_rules_tune_themselves_on_the_hardest_instance():
    world = worlds.make("inventory", LS_H)
    assert heuristics_inventory.tuned_base_stock(world) == 45
    assert heuristics_inventory.tuned_capped(world) == (46, 9)
    assert heuristics_inventory.tuned_projected(world) == 25.5


# Base stock, capped, myopic, projected level, constant: exact costs.
ORDERING = {
    "LS-E": (4.638644, 4.405732, 4.558071, 4.406446, 5.274794),
    "LS-M": (9.231933, 8.954383, 9.181036, 8.983280, 20.274794),
}


@pytest.mark.parametrize("name", ORDERING)
def test_ordering_rules_cost_what_is_known(name):
    params, level, capped, projected, constant = LOST_SALES[name]
    world = worlds.make("inventory", params)
    rules = (
        heuristics_inventory.base_stock(world, level),
        heuristics_inventory.base_stock(world, *capped),
        heuristics_inventory.myopic(world),
        heuristics_inventory.projected_level(world, projected),
        heuristics_inventory.constant_order(world, constant),
    )
    assert [-exact.rule_value(world, rule) for rule in rules] == pytest.approx(ORDERING[name], abs=6e-7)


def test_ordering_rules_cost_what_is_known_on_the_hardest_instance():
    world = worlds.make("inventory", LS_H)
    rules = (
        heuristics_inventory.base_stock(world, 46, 9),
        heuristics_inventory.myopic(world),
        heuristics_inventory.projected_level(world, 25.5),
    )
    assert [-exact.rule_value(world, rule) for rule in rules] == pytest.approx(
        (29.670163, 30.312981, 29.718090), abs=6e-7
    )
    assert -exact.rule_value(world, heuristics_inventory.base_stock(world, 45)) == pytest.approx(30.107839, abs=6e-7)
    # A constant order lets stock wander far: mean 5, variance 30, drift -1 gives a tail of exp(-x / 15).
    wide = worlds.make("inventory", {**LS_H, "max_order": 4, "capacity": 600})
    assert -exact.rule_value(wide, heuristics_inventory.constant_order(wide, 4)) == pytest.approx(49.0, abs=6e-7)


MC4 = {}
MC10 = {"wear": [0.15] * 10, "crews": 3, "setup_cost": 3}


@pytest.mark.parametrize(
    ("params", "corrective", "limit", "opportunistic"),
    [(MC4, 1.184144, 0.882355, 0.764627), (MC10, 2.803489, 2.187097, 1.693716)],
    ids=["MC4", "MC10"],
)
def test_maintenance_rules_cost_what_is_known(params, corrective, limit, opportunistic):
    world = worlds.make("maintenance", params)
    costs = [
        heuristics_maintenance.cost_of(world, heuristics_maintenance.control_limit(world, 4)),
        heuristics_maintenance.cost_of(world, heuristics_maintenance.control_limit(world, 3)),
        heuristics_maintenance.cost_of(world, heuristics_maintenance.opportunistic(world, 3, 2)),
    ]
    assert costs == pytest.approx([corrective, limit, opportunistic], abs=6e-7)


def test_maintenance_rules_tune_themselves_to_the_known_settings():
    world = worlds.make("maintenance", MC4)
    table = {
        name: np.eye(11)[heuristics_maintenance.MAINTENANCE_RULES[name](world)(world.grid())]
        for name in ("control-limit", "opportunistic")
    }
    assert -exact.policy_value(world, table["control-limit"]) == pytest.approx(0.882355, abs=6e-7)
    assert -exact.policy_value(world, table["opportunistic"]) == pytest.approx(0.764627, abs=6e-7)


def test_the_benefit_sum_rule_is_near_the_optimum_of_ten_machines():
    world = worlds.make("maintenance", MC10)
    table = np.eye(world.actions.n)[heuristics_maintenance.MAINTENANCE_RULES["lagrangian-index"](world)(world.grid())]
    gap = -exact.policy_value(world, table) / 1.6268879159 - 1
    assert gap == pytest.approx(0.00235, abs=5e-6)


def test_the_age_rule_replaces_at_eight():
    world = worlds.make("replacement")
    rule = baselines.make("age", world)
    table = rule.probabilities(world.observe(world.grid()), world.allowed(world.grid()))
    assert table[:, 1].argmax() == 8
    assert -exact.policy_value(world, table) == pytest.approx(renewal.age_costs(world)[7], abs=1e-13)
