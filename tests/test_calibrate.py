"""Calibrators: right on average, honest about their error, the same at once or one by one, bounded in memory."""

import numpy as np
import pytest

from envs import worlds
from envs.calibrate import Calibrator
from envs.checks import random_actions
from envs.likelihood import counted, likelihood

ROWS = 100


def logged(world, decisions, seed, truth=None):
    """Observations, actions and outcome fields under uniform actions; the truth may differ from the world."""
    rng = np.random.default_rng(seed)
    truth = truth or world
    rows = min(ROWS, decisions)
    state, seen, actions, told = truth.initial(rows, rng), [], [], []
    for _ in range(decisions // rows):
        action, chance = random_actions(truth, state, rng), truth.draw(rows, rng)
        seen.append(truth.observe(state))
        actions.append(action)
        told.append(truth.outcome(state, action, chance))
        state, _, over = truth.step(state, action, chance)
        state = np.where(over[:, None], truth.initial(rows, rng), state)
    fields = {field.name: np.concatenate([one[field.name] for one in told]) for field in truth.outcomes}
    return np.concatenate(seen), np.concatenate(actions), fields


def fitted(world, logs, **settings):
    calibrator = Calibrator(world, **settings)
    calibrator.learn_many(*logs)
    return calibrator.estimate()


def repeated(world, repetitions, first_seed):
    """Standardised errors and coverage (repetitions, d) of estimates from 10,000 decisions each."""
    truth = likelihood(world).nominal
    errors, covered = [], []
    for repetition in range(repetitions):
        found = fitted(world, logged(world, 10_000, [first_seed, repetition]))
        assert all(found.identified)
        errors.append((found.values - truth) / found.standard_errors)
        covered.append((found.lower <= truth) & (truth <= found.upper))
    return np.array(errors), np.array(covered)


@pytest.mark.parametrize("world_id", ["pricing", "inventory"])
def test_a_hundred_estimates_lie_within_three_standard_errors(world_id):
    errors, _ = repeated(worlds.make(world_id), 100, 20_261)
    assert ((np.abs(errors) <= 3).mean(axis=0) >= 0.97).all()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_intervals_cover_the_truth_as_often_as_they_say(world_id):
    errors, covered = repeated(worlds.make(world_id), 400, 20_262)
    assert ((np.abs(errors[:100]) <= 3).mean(axis=0) >= 0.97).all()
    rates = covered.mean(axis=0)
    assert ((rates >= 0.91) & (rates <= 0.98)).all(), rates


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_from_a_hundred_decisions_the_estimate_is_finite_and_sensible(world_id):
    world = worlds.make(world_id)
    found = fitted(world, logged(world, 100, 3))
    truth = likelihood(world).nominal
    assert np.isfinite(found.values).all()
    assert np.isfinite(found.standard_errors).all()
    assert (found.lower < found.values).all()
    assert (found.values < found.upper).all()
    assert (np.abs(found.values - truth) < 5 * found.standard_errors + 0.1 * np.abs(truth)).all()


@pytest.mark.parametrize("world_id", worlds.WORLDS)
@pytest.mark.parametrize("forgetting", [1.0, 0.999])
def test_one_by_one_equals_all_at_once(world_id, forgetting):
    world = worlds.make(world_id)
    seen, actions, fields = logged(world, 2_000, 4)
    together, single = (Calibrator(world, forgetting=forgetting) for _ in range(2))
    together.learn_many(seen, actions, fields)
    for i in range(len(seen)):
        single.learn_one(seen[i], actions[i], {name: values[i] for name, values in fields.items()})
    one, other = together.estimate(), single.estimate()
    assert one.values == pytest.approx(other.values, rel=1e-6)
    assert one.standard_errors == pytest.approx(other.standard_errors, rel=1e-5)
    assert one.decisions == pytest.approx(other.decisions, rel=1e-9)


def test_an_estimate_on_the_way_changes_nothing():
    world = worlds.make("pricing")
    seen, actions, fields = logged(world, 2_000, 5)
    stopping = Calibrator(world)
    for part in np.array_split(np.arange(2_000), 10):
        stopping.learn_many(seen[part], actions[part], {name: values[part] for name, values in fields.items()})
        stopping.estimate()
    assert stopping.estimate().values == pytest.approx(fitted(world, (seen, actions, fields)).values, rel=1e-6)


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_memory_depends_on_the_kinds_of_evidence_not_on_their_number(world_id):
    world = worlds.make(world_id)
    calibrator, sizes = Calibrator(world), []
    logs = logged(world, 10_000, 6)
    for _ in range(100 if world_id == "pricing" else 10):
        calibrator.learn_many(*logs)
        sizes.append(calibrator.pieces)
    assert len(set(sizes)) == 1
    assert sizes[0] < 2_000
    assert calibrator.estimate().decisions == 10_000 * len(sizes)


def test_forgetting_follows_a_change():
    world = worlds.make("pricing")
    shifted = world.with_params({"sensitivity": 2.0})
    calibrator = Calibrator(world, forgetting=0.995)
    calibrator.learn_many(*logged(world, 5_000, 7))
    assert calibrator.estimate().params()["sensitivity"] == pytest.approx(1.0, abs=0.35)
    calibrator.learn_many(*logged(shifted, 2_000, 8))
    found = calibrator.estimate()
    assert found.params()["sensitivity"] == pytest.approx(2.0, abs=0.6)
    assert found.decisions == pytest.approx(200, rel=0.01)


def test_sales_that_ran_out_are_censored():
    """Ten times the demand that stock allows: read as plain counts it would look like one item a period."""
    world = worlds.make("pricing", {"stock": 1, "periods": 1, "volume": 10.0, "prices": "0:2:1"})
    found = fitted(world, logged(world, 20_000, 9))
    assert np.abs(found.values - [10.0, 1.0]).max() < 3 * found.standard_errors.max()
    unseen = fitted(worlds.make("inventory", {"mean": 5.0}), _low_shelf())
    assert unseen.values[0] == pytest.approx(5.0, abs=3 * unseen.standard_errors[0])


def _low_shelf():
    """4 on hand, never more than 4 sold, lost demand unseen."""
    world = worlds.make("inventory", {"mean": 5.0})
    rng = np.random.default_rng(10)
    state = np.tile([4.0, 0.0, 0.0, 0.0], (10_000, 1))
    told = world.outcome(state, np.zeros(10_000, int), world.draw(10_000, rng))
    assert told["sold"].max() == 4
    return world.observe(state), np.zeros(10_000, int), {"sold": told["sold"]}


def test_one_price_cannot_tell_volume_from_sensitivity_and_the_estimate_says_so():
    world = worlds.make("pricing", {"prices": "0.5:2:0.5"})
    seen, actions, fields = logged(worlds.make("pricing", {"prices": [1.0]}), 10_000, 11)
    found = fitted(world, (seen, actions + 1, fields))
    assert found.identified == (False, False)
    assert "prices differ" in found.advice["sensitivity"]
    rate = found.values[0] * np.exp(-found.values[1])
    assert rate == pytest.approx(1.0, abs=0.05)


def test_a_component_that_is_always_serviced_says_nothing_about_its_jumps():
    world = worlds.make("maintenance", {"levels": 2, "wear": [0.3, 0.4], "crews": 1})
    found = fitted(world, logged(world, 5_000, 12))
    assert found.identified == (True, True, False)
    assert found.advice == {"jump": "let components reach middle levels"}


def test_nothing_seen_gives_the_prior():
    found = Calibrator(worlds.make("pricing")).estimate()
    assert found.values == pytest.approx([np.e, 1.0])
    assert found.identified == (False, False)
    assert found.decisions == 0


def test_a_seasonal_profile_is_known_and_its_level_estimated():
    season = 2.0 * (1 + 0.5 * np.sin(2 * np.pi * np.arange(20) / 20))
    world = worlds.make("pricing", {"periods": 20, "stock": 60, "volume": season})
    busier = world.with_params({"volume": 3.0})
    found = fitted(world, logged(world, 10_000, 13, busier))
    assert found.params()["volume"] == pytest.approx(3.0, abs=3 * found.standard_errors[0])


def test_dispersion_is_seen_where_it_is_asked_for():
    world = worlds.make("inventory", {"mean": 6.0, "capacity": 80})
    rng = np.random.default_rng(14)
    demand = rng.negative_binomial(6.0 / 1.5, 1 / 2.5, 10_000)
    seen = np.tile([60.0, 0, 0, 0], (10_000, 1))
    fields = {"sold": np.minimum(demand, 60.0)}
    found = fitted(world, (seen, np.zeros(10_000, int), fields), names=("mean", "dispersion"))
    assert found.params()["dispersion"] == pytest.approx(2.5, abs=3 * found.standard_errors[1])


def test_censored_counts_sum_up_what_lies_beyond():
    count, rate = np.arange(200.0), np.array([[3.7]])
    for dispersion in (1.0, 2.5):
        plain = np.exp(counted(count, np.zeros(200), rate, np.array([[dispersion]])))[0]
        beyond = np.exp(counted(np.array([5.0]), np.ones(1), rate, np.array([[dispersion]])))[0, 0]
        assert plain.sum() == pytest.approx(1.0, abs=1e-12)
        assert plain[5:].sum() == pytest.approx(beyond, abs=1e-12)


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_the_likelihood_of_a_transition_is_the_log_of_its_probability(world_id):
    """Summed over all outcomes that can be told apart, probabilities make one."""
    world = worlds.make(world_id)
    known = likelihood(world)
    seen, actions, fields = logged(world, 100, 15)
    several = known.nominal * np.array([[0.9], [1.0], [1.1]])
    found = known.transition(several, seen, actions, fields)
    assert found.shape == (3, 100)
    assert (found <= 1e-12).all()
    rows = known.evidence(seen, actions, fields)
    total = known.loglik(several, rows.reshape(-1, rows.shape[2])).sum(axis=1)
    assert found.sum(axis=1) == pytest.approx(total)


def test_impossible_settings_are_refused():
    world = worlds.make("pricing")
    with pytest.raises(ValueError, match="forgetting is 0"):
        Calibrator(world, forgetting=0)
    with pytest.raises(ValueError, match="do not tell 'stock'"):
        Calibrator(world, ("stock",))
    with pytest.raises(ValueError, match="do not tell 'setup_cost'"):
        Calibrator(worlds.make("maintenance"), ("setup_cost",))
