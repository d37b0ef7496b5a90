"""Goodness of fit: silent while the world is right, whatever its parameters; sure where its shape is wrong."""

import pickle

import numpy as np
import pytest

from envs import worlds
from envs.misfit import FIRST, GoodnessOfFit


def sold_at(prices, rate, seed):
    """Observations, actions and sales with that mean demand, from a shelf that never runs out, a ladder of 0.1."""
    rng = np.random.default_rng(seed)
    action = rng.integers(0, len(prices), 6_000)
    period = rng.integers(0, 50, 6_000)
    sold = rng.poisson(rate(prices[action], period)).astype(float)
    return np.column_stack([np.full(6_000, 20.0), period]), action, {"sold": np.minimum(sold, 20.0)}


def assessed(rate, seed, dispersion=1.0):
    world = worlds.make("pricing", {"prices": "0.5:3:0.1"})
    fit = GoodnessOfFit(world)
    seen, actions, fields = sold_at(world.actions.values, rate, seed)
    for part in np.array_split(np.arange(len(seen)), 30):
        fit.learn_many(seen[part], actions[part], {"sold": fields["sold"][part]})
    return fit.assess(dispersion)


@pytest.mark.parametrize("seed", range(6))
def test_a_right_world_with_any_parameters_is_no_misfit(seed):
    volume, sensitivity = 1.0 + seed, 0.5 + 0.3 * seed
    found = assessed(lambda price, period: volume * np.exp(-sensitivity * price) + 0 * period, seed)
    assert {one.covariate for one in found} == {"action", "period"}
    assert not any(one.sure for one in found)


def test_linear_demand_is_told_by_the_prices():
    found = assessed(lambda price, period: np.maximum(2.0 - 0.6 * price, 0.02) + 0 * period, 7)
    worst = found[0]
    assert worst.covariate == "action"
    assert worst.sure
    low, _, high = worst.values["sensitivity"]
    assert low < high


def test_a_season_that_the_world_does_not_know_is_told_by_the_period():
    found = assessed(lambda price, period: 2.7 * np.exp(-price) * (1 + 0.6 * np.sin(period / 8.0)), 8)
    assert found[0].covariate == "period"
    assert found[0].sure


def test_evidence_counts_less_where_demand_varies_more():
    def season(price, period):
        return 2.7 * np.exp(-price) * (1 + 0.3 * np.sin(period / 8.0))

    assert assessed(season, 9, dispersion=3.0)[0].statistic < assessed(season, 9)[0].statistic


def test_little_evidence_is_none_and_a_change_starts_it_anew():
    world = worlds.make("pricing", {"prices": "0.5:3:0.1"})
    fit = GoodnessOfFit(world)
    seen, actions, fields = sold_at(world.actions.values, lambda price, period: np.exp(-price) + 0 * period, 10)
    fit.learn_many(seen[: FIRST - 1], actions[: FIRST - 1], {"sold": fields["sold"][: FIRST - 1]})
    assert fit.assess() == ()
    fit.learn_many(seen, actions, fields)
    assert fit.assess()
    fit.clear()
    assert fit.assess() == ()
    with pytest.raises(ValueError, match="memory"):
        GoodnessOfFit(world, memory=10)


def test_what_was_saved_goes_on_as_if_nothing_had_happened():
    world = worlds.make("pricing", {"prices": "0.5:3:0.1"})
    seen, actions, fields = sold_at(world.actions.values, lambda price, period: np.exp(-price) + 0 * period, 11)
    once, twice = GoodnessOfFit(world), GoodnessOfFit(world)
    for place, part in enumerate(np.array_split(np.arange(len(seen)), 30)):
        once.learn_many(seen[part], actions[part], {"sold": fields["sold"][part]})
        twice.learn_many(seen[part], actions[part], {"sold": fields["sold"][part]})
        if place in (0, 15):
            saved, twice = twice.snapshot(), GoodnessOfFit(world)
            twice.restore(pickle.loads(pickle.dumps(saved)))
    assert once.assess() == twice.assess()
