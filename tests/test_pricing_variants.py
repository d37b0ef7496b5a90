"""Replenished, rival and network pricing against exact figures and the physics by hand."""

import numpy as np
import pytest

from envs import exact, network, worlds
from envs.tabulate import StateSpaceTooLarge

E = 2.718281828
MENU = "0.5:4.25:0.25"
REPL = {"volume": 0.8 * E, "prices": MENU}
NET_M = {
    "usage": [[1, 0, 0, 1, 0, 1], [0, 1, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1]],
    "capacity": 20,
    "periods": 300,
    "volume": [0.2, 0.2, 0.2, 0.12, 0.12, 0.1],
    "sensitivity": [1, 1.1, 0.9, 0.7, 0.65, 0.5],
    "prices": "any",
}


def hub():
    """NET-L: three legs in, three out; the locals of each leg, then the nine connections."""
    usage = np.zeros((6, 15))
    usage[range(6), range(6)] = 1
    sensitivity = [1.0, 1.1, 1.2, 0.9, 1.0, 1.1]
    for into in range(3):
        for out in range(3):
            usage[[into, 3 + out], len(sensitivity)] = 1
            sensitivity.append(0.55 + 0.05 * ((into + 2 * out) % 4))
    volume = [0.07] * 6 + [0.06] * 9
    return {"usage": usage, "capacity": 30, "periods": 600, "volume": volume, "sensitivity": sensitivity}


def fixed(world):
    size = len(exact.states(world))
    return [exact.policy_value(world, np.broadcast_to(row, (size, len(row)))) for row in np.eye(world.actions.n)]


def test_replenished_optimum_and_best_fixed_price():
    world = worlds.make("pricing-replenished", REPL)
    assert exact.solve(world).value == pytest.approx(0.537919, abs=6e-7)
    values = fixed(world)
    assert max(values) == pytest.approx(0.516281, abs=6e-7)
    assert world.actions.values[np.argmax(values)] == 1.0
    finer = worlds.make("pricing-replenished", {**REPL, "prices": "0.4:5:0.01"})
    assert exact.solve(finer).value == pytest.approx(0.539446, abs=6e-7)


def test_replenished_simulation_agrees():
    world = worlds.make("pricing-replenished", REPL)
    solution = exact.solve(world)
    rng = np.random.default_rng(9)
    state, totals = world.initial(500, rng), np.zeros(500)
    for period in range(2_100):
        state, reward, _ = world.step(state, solution.actions[world.place(state)], world.draw(500, rng))
        totals += reward * (period >= 100)
    mean = totals / 2_000
    assert abs(mean.mean() - solution.value) < 3 * mean.std() / np.sqrt(500)


def test_replenished_period_by_hand():
    """Price .5 (index 0): rate .8 e^.5 = 1.319, P(D = 0) = .267, so .5 sells 1; a batch comes at .1 < .2."""
    world = worlds.make("pricing-replenished", REPL)
    after, reward, _ = world.step(np.array([[18.0], [3.0]]), np.array([0, 0]), np.array([[0.5, 0.1], [0.5, 0.3]]))
    assert after.tolist() == [[20.0], [2.0]]
    assert reward == pytest.approx([0.5 - 0.02 * 17, 0.5 - 0.02 * 2])


def test_rival_optimum_best_fixed_and_the_price_of_ignoring_the_reaction():
    world = worlds.make("pricing-rival")
    assert exact.solve(world).value == pytest.approx(31.867900, abs=6e-7)
    values = fixed(world)
    assert max(values) == pytest.approx(28.969653, abs=6e-7)
    assert world.actions.values[np.argmax(values)] == pytest.approx(1.3)
    ignoring = exact.solve(worlds.make("pricing-rival", {"reaction": 0})).policy
    assert exact.policy_value(world, ignoring) == pytest.approx(27.875997, abs=6e-7)


def test_the_rival_jumps_to_its_highest_level_below_us_else_to_its_top():
    world = worlds.make("pricing-rival")
    prices, levels = world.params.prices, world.params.rival_prices
    jumps = dict(zip(prices.round(1).tolist(), levels[world.target].tolist(), strict=True))
    assert [jumps[p] for p in (0.7, 0.8, 0.9, 1.0, 1.1, 1.8, 1.9, 2.2)] == [1.8, 1.8, 0.8, 0.8, 1.0, 1.6, 1.8, 1.8]


def test_rival_simulation_agrees():
    world = worlds.make("pricing-rival")
    solution = exact.solve(world)
    size = len(world.grid())
    rng = np.random.default_rng(17)
    state = world.initial(20_000, rng)
    earned, alive = np.zeros(len(state)), np.ones(len(state), bool)
    for period in range(60):
        action = solution.actions[period * size + world.place(state)]
        state, reward, terminated = world.step(state, action, world.draw(len(state), rng))
        earned += reward * alive
        alive &= ~terminated
    assert abs(earned.mean() - solution.value) < 3 * earned.std() / np.sqrt(len(earned))


def test_a_rival_start_that_is_no_level_is_refused():
    with pytest.raises(worlds.ParamsError, match=r"rival_start is 1\.3"):
        worlds.make("pricing-rival", {"rival_start": 1.3})


@pytest.mark.parametrize(
    ("params", "optimum", "decomposed", "fluid"),
    [({"prices": "any"}, 19.744002, 20.841, 22.075), (NET_M, 91.945127, 95.531, 97.757)],
    ids=["NET-S", "NET-M"],
)
def test_network_optimum_and_bounds(params, optimum, decomposed, fluid):
    world = worlds.make("pricing-network", params)
    assert exact.solve(world).value == pytest.approx(optimum, abs=6e-7)
    assert exact.bound(world)[0] == pytest.approx(decomposed, abs=6e-4)
    assert network.fluid(world).bound == pytest.approx(fluid, abs=6e-4)


@pytest.mark.parametrize(
    ("params", "static", "bid"), [({"prices": "any"}, 18.748, 19.691), (NET_M, 87.698, 91.785)], ids=["NET-S", "NET-M"]
)
def test_network_rules_agree_with_simulated_figures(params, static, bid):
    """The figures quoted were simulated; exact values here lie within .06 of them."""
    world = worlds.make("pricing-network", params)
    assert network.value_of(world, network.static_prices(world)) == pytest.approx(static, abs=0.06)
    assert network.value_of(world, network.bid_prices(world)) == pytest.approx(bid, abs=0.06)


def test_the_value_of_bid_prices_by_a_second_method():
    """Forward through the branches of the world itself instead of backward through the product form."""
    world = worlds.make("pricing-network", {"prices": "any", "periods": 20, "capacity": 3})
    pricer = network.bid_prices(world)
    law, earned = np.zeros(16), 0.0
    law[-1] = 1.0
    for period in range(20):
        states = world.grid(period)
        branches = world.branches(states, pricer(states[:, :-1], period))
        weight = law[:, None] * branches.probability
        earned += float((weight * branches.reward).sum())
        law = np.bincount(world.place(branches.state.reshape(-1, 3)), weights=weight.ravel(), minlength=16)
    assert network.value_of(world, pricer) == pytest.approx(earned, abs=1e-12)


def test_hub_bounds():
    world = worlds.make("pricing-network", {**hub(), "prices": "any"})
    assert exact.bound(world)[0] == pytest.approx(247.777, abs=6e-4)
    assert network.fluid(world).bound == pytest.approx(250.053, abs=6e-4)
    with pytest.raises(StateSpaceTooLarge, match=r"532,502,208,600 states.*bid-price"):
        exact.solve(world)


@pytest.mark.long
def test_hub_rules_by_simulation():
    """Static fluid 227.39 and decomposition 237.61, each simulated with a standard error of .2."""
    world = worlds.make("pricing-network", {**hub(), "prices": "any"})
    for rule, figure in ((network.static_prices, 227.39), (network.bid_prices, 237.61)):
        pricer, rng = rule(world), np.random.default_rng(8)
        state, earned = world.initial(4_000, rng), np.zeros(4_000)
        for period in range(600):
            state, reward, _ = world.step(state, pricer(state[:, :-1], period), world.draw(4_000, rng))
            earned += reward
        error = np.hypot(earned.std() / np.sqrt(4_000), 0.2)
        assert abs(earned.mean() - figure) < 3 * error


def test_the_ladder_of_a_network_costs_little():
    free = exact.solve(worlds.make("pricing-network", {"prices": "any"})).value
    ladder = exact.solve(worlds.make("pricing-network"))
    assert free * 0.995 < ladder.value < free
    assert ladder.actions.shape == (60 * 81, 3)


def test_a_sale_takes_each_leg_that_the_product_uses():
    world = worlds.make("pricing-network", {"prices": "0:1:1"})
    state, action = np.array([[8.0, 8.0, 0.0], [8.0, 0.0, 0.0]]), np.zeros((2, 3), int)
    after, reward, _ = world.step(state, action + 1, np.array([[0.3], [0.05]]))
    # At price 1 the chances are .110, .110 and .165: .3 asks for the third product, .05 for the first.
    assert after.tolist() == [[7.0, 7.0, 1.0], [7.0, 0.0, 1.0]]
    assert reward.tolist() == [1.0, 1.0]
    fields = world.outcome(state, action + 1, np.array([[0.3], [0.05]]))
    assert [fields[f"sold[{j}]"].tolist() for j in range(3)] == [[0, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"volume": 0.5}, "at most 1"),
        ({"volume": [0.1, 0.2]}, "each of the 3 products"),
        ({"usage": [[1, 2], [0, 1]], "capacity": [3, 3, 3]}, "3 legs"),
    ],
)
def test_impossible_networks_are_refused(params, message):
    with pytest.raises(worlds.ParamsError, match=message):
        worlds.make("pricing-network", params)


def test_a_table_over_products_is_worth_what_its_rule_is_worth():
    world = worlds.make("pricing-network", {"prices": "0.5:3:0.5", "periods": 12, "capacity": 3})
    solution = exact.solve(world)
    table = np.eye(6)[solution.actions].reshape(len(solution.actions), 18)
    assert exact.policy_value(world, table) == pytest.approx(solution.value, abs=1e-12)
    rng = np.random.default_rng(2)
    mixed = rng.dirichlet(np.ones(6), (len(table), 3)).reshape(len(table), 18)
    # The same by hand for the last slot: each product alone, as at most one customer comes.
    last = worlds.make("pricing-network", {"prices": "0.5:3:0.5", "periods": 1, "capacity": 3})
    prices = last.params.prices
    chance = last.params.volume[:, None] * np.exp(-last.params.sensitivity[:, None] * prices)
    assert exact.policy_value(last, mixed[:16]) == pytest.approx(
        (mixed[15].reshape(3, 6) * chance * prices).sum(), abs=1e-12
    )
