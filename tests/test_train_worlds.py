"""Every world trains with its own features: finite everywhere, the same for a constant and an observed parameter."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.evaluate import evaluate
from agents.features import FEATURES, Layout, features
from agents.presets import preset
from agents.ranges import Family
from agents.runtime import load
from agents.train import layout_of, settings_for, train
from envs import exact
from envs.dynamics import World
from envs.worlds import make

# World, its parameters, and ranges that hold them.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, tuple[float, float]]]] = {
    "pricing": ("pricing", {"stock": 8, "periods": 15}, {"volume": (1.0, 5.0), "sensitivity": (0.5, 2.0)}),
    "pricing-rival": ("pricing-rival", {"stock": 8, "periods": 15}, {"arrivals": (1.0, 3.0), "reaction": (0.1, 0.8)}),
    "pricing-replenished": ("pricing-replenished", {"capacity": 10}, {"batch_probability": (0.1, 0.4)}),
    "replacement": ("replacement", {}, {"scale": (10.0, 40.0), "failure_cost": (3.0, 20.0)}),
    "maintenance": (
        "maintenance",
        {"wear": [0.1, 0.25], "crews": 1, "setup_cost": 1.0},
        {"wear": (0.05, 0.5), "setup_cost": (0.2, 6.0)},
    ),
    "worst": ("maintenance", {"wear": [0.1, 0.2, 0.3], "crews": 2, "choice": "worst"}, {"wear": (0.05, 0.5)}),
    "inventory": ("inventory", {"lead_time": 2, "penalty_cost": 4.0}, {"mean": (3.0, 9.0), "penalty_cost": (3.0, 9.0)}),
}


def modules(case: str) -> tuple[Family, torch.nn.Module, torch.nn.Module]:
    """A family, the features of its nominal world alone, and those of the family."""
    name, params, ranges = CASES[case]
    world = make(name, params, ranges)
    family = Family(world, ranges)
    return family, features(layout_of(Family(world, {}))), features(layout_of(family))


def columns(names: tuple[str, ...], rows: np.ndarray) -> dict[str, torch.Tensor]:
    values = torch.tensor(rows, dtype=torch.float32)
    return {name: values[:, j : j + 1] for j, name in enumerate(names)}


def test_every_trained_world_has_a_case() -> None:
    # Networks have tests of their own: what they show over ranges are the nominal world's tables.
    assert {name for name, _, _ in CASES.values()} == set(FEATURES) - {"pricing-network"}


@pytest.mark.parametrize("case", CASES)
def test_a_parameter_that_is_shown_gives_the_features_of_one_that_is_fixed(case: str) -> None:
    family, alone, shown = modules(case)
    rng = np.random.default_rng(1)
    row = family.draw(1, rng)
    there = family.member(row[0])
    alone = features(layout_of(Family(there, {})))
    state = there.initial(1, rng)
    chance = there.draw(1, rng)
    state = there.step(state, np.array([0]), chance)[0]
    context = tuple(entry.name for entry in there.context)
    fixed = alone(columns(context, there.observe(state)))
    observed = shown(columns((*context, *family.columns), family.observe(there, state, row)))
    assert observed.shape == fixed.shape
    assert observed.numpy() == pytest.approx(fixed.numpy(), abs=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_features_are_finite_and_moderate_on_the_bounds(case: str) -> None:
    family, _, shown = modules(case)
    low, high = family.bounds.T
    corners = np.random.default_rng(2).integers(0, 2, (200, len(low)))
    rows = np.where(corners, high, low)
    names = (*(entry.name for entry in family.world.context), *family.columns)
    given = shown(columns(names, rows)).numpy()
    assert np.isfinite(given).all()
    assert np.abs(given).max() < 10


@pytest.mark.parametrize("case", CASES)
def test_a_short_training_of_every_world_learns_and_exports(case: str) -> None:
    name, params, _ = CASES[case]
    world: World = make(name, params)
    found = train(world, steps=160_000, seed=1)
    states = exact.states(world)
    allowed = np.array(world.allowed(states))
    optimum, even = exact.solve(world).value, exact.policy_value(world, allowed / allowed.sum(axis=1, keepdims=True))
    assert optimum - found.card.metrics["value"] < (optimum - even) / 3
    assert evaluate(load(found), world).value == pytest.approx(found.card.metrics["value"], rel=1e-5)


def test_an_unknown_environment_is_scaled_by_its_bounds() -> None:
    bounds = np.array([[0.0, 10.0], [-np.inf, np.inf], [2.0, 2.0]])
    scaled = features(Layout("Mine-v0", ("a", "b", "c"), (), {}, bounds))
    given = scaled(columns(("a", "b", "c"), np.array([[10.0, 3.0, 2.0]])))
    assert given.numpy().tolist() == [[1.0, 3.0, 2.0]]


def test_only_shaped_rewards_are_seen_at_the_longer_discount() -> None:
    found = preset("maintenance")
    one, many = Family(make("maintenance"), {}), Family(make("maintenance"), {"wear": (0.05, 0.5)})
    assert (found.discount, found.shaped_discount) == (0.98, 0.99)
    assert settings_for(one, found).discount == 0.99
    # Over ranges there is no potential, and without shaping none is asked for.
    assert settings_for(many, found).discount == 0.98
    assert settings_for(one, replace(found, shaped=False)).discount == 0.98
    # A world with a potential whose preset asks for no other discount keeps its own.
    assert settings_for(Family(make("pricing-network"), {}), preset("pricing-network")).discount == 1.0


def test_a_warm_start_takes_small_steps_of_what_the_preset_says() -> None:
    family, found = Family(make("pricing"), {}), preset("pricing")
    warm = settings_for(family, found, warm=True)
    assert (warm.rollout, warm.batch) == (found.warm_rollout, found.warm_batch)
    assert replace(warm, rollout=found.rollout, batch=found.batch) == found
    # Never longer than from scratch.
    short = replace(found, rollout=4, batch=128)
    assert settings_for(family, short, warm=True) == short
