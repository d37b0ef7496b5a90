"""Shaped rewards keep the optimum: they differ from the rewards by a potential, exactly."""

import numpy as np
import pytest

from agents.ranges import Family
from agents.shaping import shaping
from envs import exact
from envs.lagrangian import best_charge, bound_at
from envs.tabulate import tabulate
from envs.worlds import make


def test_the_shaped_reward_is_the_reward_plus_the_expected_change_of_the_potential() -> None:
    world = make("maintenance", {"wear": [0.2, 0.4], "crews": 1, "levels": 3})
    shaped = shaping(Family(world, {}))
    assert shaped is not None
    states = exact.states(world)
    potential = -best_charge(world).biases[np.arange(2), states.astype(int)].sum(axis=1)  # type: ignore[arg-type]
    assert shaped.level == pytest.approx(-bound_at(world, best_charge(world)))  # type: ignore[arg-type]
    index = {tuple(state): i for i, state in enumerate(states)}
    rng = np.random.default_rng(1)
    for action in range(world.actions.n):
        chosen = np.full(len(states), action)
        given = shaped.reward(states, chosen, 0.9)
        change = np.zeros(len(states))
        for _ in range(4000):
            after, _, _ = world.step(states, chosen, world.draw(len(states), rng))
            change += potential[[index[tuple(state)] for state in after]]
        expected = world.expected_reward(states, chosen) - shaped.level + 0.9 * change / 4000 - potential
        assert given == pytest.approx(expected, abs=0.15)


def test_the_discounted_optimum_is_the_same_under_shaped_rewards() -> None:
    world = make("maintenance", {"wear": [0.2, 0.4], "crews": 1, "levels": 3})
    shaped = shaping(Family(world, {}))
    assert shaped is not None
    table = tabulate(world)  # type: ignore[arg-type]
    states, actions = exact.states(world), world.actions.n
    plain, other = np.zeros(len(states)), np.zeros(len(states))
    rewards = np.stack([shaped.reward(states, np.full(len(states), a), 0.9) for a in range(actions)], axis=1)
    for _ in range(400):
        plain_q = table.values(plain, 0.9)
        other_q = table.values(other, 0.9) - table.reward + rewards
        plain, other = plain_q.max(axis=1), other_q.max(axis=1)
    assert (plain_q.argmax(axis=1) == other_q.argmax(axis=1)).all()


def test_other_worlds_and_ranges_have_no_potential() -> None:
    assert shaping(Family(make("pricing"), {})) is None
    assert shaping(Family(make("maintenance"), {"wear": (0.05, 0.5)})) is None
