"""A price for each product: trained from the decomposition's prices, and served as a product of probabilities."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from agents import baselines
from agents.bundle import Bundle, BundleError
from agents.evaluate import evaluate
from agents.features import features
from agents.policy import propensity, sample_factors, softmax
from agents.presets import NETWORK
from agents.ranges import Family
from agents.runtime import load
from agents.selection import Selection, met
from agents.shaping import shaping
from agents.train import layout_of, train
from envs import exact, network
from envs.pricing_network import PricingNetwork
from envs.worlds import make

SMALL = {"capacity": [4, 4], "periods": 25, "prices": {"geometric": [0.6, 4.0, 41]}}
SETTINGS = replace(NETWORK, copies=64, rollout=16, batch=512)


@pytest.fixture(scope="module")
def world() -> PricingNetwork:
    made = make("pricing-network", SMALL)
    assert isinstance(made, PricingNetwork)
    return made


@pytest.fixture(scope="module")
def bundle(world: PricingNetwork) -> Bundle:
    return train(world, SETTINGS, steps=6_000, seed=1)


def test_the_features_end_with_the_prices_of_the_decomposition(world: PricingNetwork) -> None:
    module = features(layout_of(Family(world, {})))
    rows = world.grid(7)
    shown = torch.tensor(world.observe(rows))
    given = module({entry.name: shown[:, j : j + 1] for j, entry in enumerate(world.context)}).numpy()
    assert given[:, -3:] == pytest.approx(network.bid_prices(world)(rows[:, :-1], 7), rel=1e-5)
    assert np.isfinite(given).all()


def test_the_shaped_reward_is_the_reward_plus_the_expected_change_of_the_potential(world: PricingNetwork) -> None:
    found = shaping(Family(world, {}))
    assert found is not None
    states = np.concatenate([world.grid(period) for period in (0, 12, 24)])
    action = np.random.default_rng(0).integers(0, 41, (len(states), 3))
    expected = world.expected_reward(states, action) - found.potential(states)
    every = world.branches(states, action)
    for b in range(every.probability.shape[1]):
        after = np.where(every.terminated[:, b], 0.0, found.potential(every.state[:, b]))
        expected += 0.9 * every.probability[:, b] * after
    assert found.reward(states, action, 0.9) == pytest.approx(expected)


def test_shaped_rewards_measure_a_policy_without_bias_and_with_little_noise(
    world: PricingNetwork, bundle: Bundle
) -> None:
    policy = load(bundle)

    def logits(observation: np.ndarray) -> np.ndarray:
        return np.asarray(policy.outputs(observation)) / bundle.card.temperature

    exactly = evaluate(policy, world).value
    measured = [Selection(Family(world, {}), seed).score(logits, 1.0).value for seed in range(4)]
    assert measured == pytest.approx([exactly] * 4, rel=2e-3)


def test_training_serves_at_least_what_it_starts_from(world: PricingNetwork, bundle: Bundle) -> None:
    rule = evaluate(baselines.make("bid-price", world), world).value
    served = evaluate(load(bundle), world)
    assert served.method == "exact"
    assert served.value >= 0.999 * rule
    assert served.value <= exact.solve(world).value


def test_a_product_is_served_as_a_list_of_probabilities_for_each_product(bundle: Bundle) -> None:
    assert (bundle.card.actions.n, bundle.card.actions.factors, bundle.card.actions.width) == (41, 3, 123)
    rows = np.array([[4.0, 4.0, 0.0], [1.0, 3.0, 20.0]], np.float32)
    served = load(bundle).probabilities(rows, np.ones((2, 123), bool))
    assert served.reshape(2, 3, 41).sum(axis=2) == pytest.approx(np.ones((2, 3)))
    u = np.random.default_rng(3).random((2, 3))
    action = sample_factors(served, u)
    single = [
        [int(np.searchsorted(np.cumsum(served[i, 41 * j : 41 * j + 41]), u[i, j])) for j in range(3)] for i in (0, 1)
    ]
    assert action.tolist() == single
    by_hand = [np.prod([served[i, 41 * j + action[i, j]] for j in range(3)]) for i in (0, 1)]
    assert propensity(served, action) == pytest.approx(by_hand)
    assert (propensity(served, action) > 0).all()


def test_the_probabilities_of_all_products_add_up_to_one() -> None:
    rng = np.random.default_rng(4)
    served = softmax(rng.normal(size=(5, 6)), rng.random((5, 6)) < 2, 0.7, factors=2)
    pairs = np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2)
    total = sum(propensity(served, np.tile(pair, (5, 1))) for pair in pairs)
    assert total == pytest.approx(np.ones(5))


def test_a_graph_of_a_product_is_read_from_logits_alone(bundle: Bundle) -> None:
    card = msgspec.structs.replace(bundle.card, output="values")
    with pytest.raises(BundleError, match="product of 3 choices is read from logits"):
        load(Bundle(card, bundle.onnx, bundle.digest))


def test_an_algorithm_of_action_values_is_refused_for_a_product(world: PricingNetwork) -> None:
    with pytest.raises(ValueError, match=r"product of 3 lists.*ppo"):
        train(world, algo="dqn", steps=1000)


def test_a_policy_for_a_network_is_a_start_for_another_demand(bundle: Bundle) -> None:
    shifted = make("pricing-network", {**SMALL, "sensitivity": [1.2, 1.1, 0.7]})
    warm = train(shifted, SETTINGS, steps=1_000, seed=2, start=bundle)
    assert warm.card.digests["start"] == bundle.digest
    assert warm.card.metrics["value"] >= 0.998 * evaluate(baselines.make("bid-price", shifted), shifted).value


def test_over_ranges_each_row_has_its_own_prices(world: PricingNetwork) -> None:
    found = train(make("pricing-network", SMALL), SETTINGS, steps=2_000, ranges={"sensitivity": (0.5, 2.0)})
    assert found.card.conditioned == ("sensitivity[0]", "sensitivity[1]", "sensitivity[2]")
    rows = np.array([[4.0, 4.0, 0.0, s, s, s] for s in (0.6, 1.8)], np.float32)
    served = load(found).probabilities(rows, np.ones((2, 123), bool)).reshape(2, 3, 41)
    mean = served @ world.params.prices
    assert (mean[0] > mean[1]).all()


def test_states_met_are_those_of_a_season_with_something_left(world: PricingNetwork) -> None:
    seen = met(world, 0)
    assert seen is not None
    assert set(seen[:, -1].astype(int)) == set(range(25))
    assert world.available(seen[:, :-1]).any(axis=1).all()
    assert met(make("maintenance"), 0) is None
