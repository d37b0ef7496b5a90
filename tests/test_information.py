"""Deliberate exploration: Fisher information against closed forms, and a budget that is spent where it teaches most."""

import numpy as np
import pytest

from agents.policy import Exploration, explore
from envs import exact, worlds
from envs.information import fisher, purchase, standard_errors, taught
from envs.likelihood import likelihood


def test_poisson_sales_teach_their_mean_times_the_squares_of_the_slopes():
    """log rate = log volume - sensitivity · price: information rate · (1, -s p)(1, -s p)' about the logs."""
    world = worlds.make("pricing", {"stock": 500, "volume": 40.0, "prices": [0.5, 1.0, 2.0]})
    found = fisher(likelihood(world), np.array([40.0, 1.0]), np.array([[500.0, 0.0]]))[0]
    for action, price in enumerate((0.5, 1.0, 2.0)):
        rate, slope = 40.0 * np.exp(-price), np.array([1.0, -price])
        assert found[action] == pytest.approx(rate * np.outer(slope, slope), rel=0.05)


def test_a_failure_teaches_as_a_coin_does():
    """Scale alone: p = 1 - exp(-h), h = ((k+1)/c)^b - (k/c)^b, dp/dlog c = -b h exp(-h)."""
    world = worlds.make("replacement", {"scale": 4.0, "shape": 2.0})
    found = fisher(likelihood(world, ("scale",)), np.array([4.0]), np.array([[3.0]]))[0, 0, 0, 0]
    hazard = (4 / 4) ** 2 - (3 / 4) ** 2
    chance = 1 - np.exp(-hazard)
    expected = (2 * hazard * np.exp(-hazard)) ** 2 / (chance * (1 - chance))
    assert found == pytest.approx(expected, rel=0.05)


def test_an_empty_shelf_teaches_nothing():
    world = worlds.make("inventory", {"lead_time": 2})
    found = fisher(likelihood(world, ("mean",)), np.array([5.0]), np.array([[0.0, 3.0], [30.0, 3.0]]))
    assert (found[0] == 0).all()
    assert (found[1] > 0).all()


def pricing():
    """Policy, mask, information and losses in the states of some periods of the season."""
    world = worlds.make("pricing", {"prices": {"geometric": [0.5, 4.0, 15]}})
    solution = exact.solve(world)
    states = exact.states(world)
    chosen = np.flatnonzero((states[:, 0] >= 5) & (states[:, 1] % 10 == 5) & (states[:, 0] % 5 == 0))
    seen = world.observe(states[chosen])
    information = fisher(likelihood(world), np.array([world.params.volume, 1.0]), seen)
    following = solution.values.reshape(world.params.periods, -1)
    lost = np.empty((len(chosen), world.actions.n))
    for action in range(world.actions.n):
        branches = world.branches(states[chosen], np.full(len(chosen), action))
        later = np.append(following, np.zeros((1, following.shape[1])), axis=0)
        ahead = later[branches.state[..., 1].astype(int), branches.state[..., 0].astype(int)]
        lost[:, action] = (branches.probability * (branches.reward + np.where(branches.terminated, 0, ahead))).sum(1)
    lost = lost.max(axis=1, keepdims=True) - lost
    return world, solution.policy[chosen], np.ones_like(lost, bool), information, lost


def test_the_budget_is_kept_and_buys_more_than_neighbours_do_at_the_same_cost():
    _, policy, allowed, information, lost = pricing()
    known = np.linalg.inv(np.einsum("na,naij->ij", policy, information))
    teaching = taught(information, known)
    near = explore(policy, allowed, Exploration(0.02, "neighbours"))
    near_cost = float(((near - policy) * lost).sum(axis=1).mean())
    near_gain = float(((near - policy) * teaching).sum(axis=1).mean())
    bought = purchase(policy, allowed, teaching, lost, near_cost)
    assert bought.cost == pytest.approx(near_cost, rel=1e-9)
    assert bought.gain > 2 * near_gain
    mixed = bought.mixed(policy)
    assert mixed.sum(axis=1) == pytest.approx(1.0)
    assert float(((mixed - policy) * lost).sum(axis=1).mean()) == pytest.approx(bought.cost, rel=1e-6)
    assert float(((mixed - policy) * teaching).sum(axis=1).mean()) == pytest.approx(bought.gain, rel=1e-6)


def test_without_a_budget_nothing_changes_and_what_that_means_is_said():
    _, policy, allowed, information, lost = pricing()
    known = np.linalg.inv(1000 * np.einsum("na,naij->ij", policy, information) / len(policy))
    teaching = taught(information, known)
    nothing = purchase(policy, allowed, teaching, lost, 0.0)
    assert (nothing.mixed(policy) == policy).all()
    assert nothing.cost == nothing.gain == 0.0
    some = purchase(policy, allowed, teaching, lost, 0.01)
    blind = standard_errors(information, policy, 1000)
    seeing = standard_errors(information, some.mixed(policy), 1000)
    assert (seeing < blind).all()


def test_one_price_for_ever_never_tells_volume_from_sensitivity():
    world = worlds.make("pricing", {"prices": [1.0, 2.0]})
    information = fisher(likelihood(world), np.array([np.e, 1.0]), np.array([[20.0, 0.0]]))
    always = np.array([[1.0, 0.0]])
    assert np.isinf(standard_errors(information, always, 1000)).all()
    assert np.isfinite(standard_errors(information, np.array([[0.9, 0.1]]), 1000)).all()


def test_states_that_come_often_are_paid_for_often():
    taught_by, lost_by = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 2.0]])
    policy, allowed = np.array([[1.0, 0.0], [1.0, 0.0]]), np.ones((2, 2), bool)
    bought = purchase(policy, allowed, taught_by, lost_by, 0.05, np.array([0.25, 0.75]))
    # The cheap state takes .2 · .25 · 1 = .05 of the budget: all of it.
    assert bought.share[:, 1] == pytest.approx([0.2, 0.0])
    more = purchase(policy, allowed, taught_by, lost_by, 0.2, np.array([0.25, 0.75]))
    assert more.share[:, 1] == pytest.approx([0.2, 0.1])
    with pytest.raises(ValueError, match="budget"):
        purchase(policy, allowed, taught_by, lost_by, -1.0)
