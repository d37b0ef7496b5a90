"""The live estimator: the exact filter, calm before a change and quick after it, hard to fool, cheap, restorable."""

import time

import numpy as np
import pytest

from envs import worlds
from envs.atoms import Atoms, Prior, quantile
from envs.change import SOON
from envs.checks import random_actions
from envs.hazard import Hazard, HazardFilter
from envs.likelihood import Likelihood, likelihood

QUIET = Hazard(threshold=0.0)


def transitions(world, decisions, seed, truth=None, action=None):
    """Observations, actions and outcome fields of one copy; the truth may differ from the world."""
    rng = np.random.default_rng(seed)
    truth = truth or world
    state, seen, actions, told = truth.initial(1, rng), [], [], []
    for _ in range(decisions):
        chosen, chance = random_actions(truth, state, rng), truth.draw(1, rng)
        chosen = chosen if action is None else np.full_like(chosen, action)
        seen.append(truth.observe(state)[0])
        actions.append(chosen[0])
        told.append({name: values[0] for name, values in truth.outcome(state, chosen, chance).items()})
        state, _, over = truth.step(state, chosen, chance)
        state = truth.initial(1, rng) if over[0] else state
    fields = {field.name: np.array([one[field.name] for one in told]) for field in truth.outcomes}
    return np.array(seen), np.array(actions), fields


def learned(atoms, logs, hazard=QUIET):
    live = HazardFilter(atoms, hazard)
    alarms = live.learn_many(*logs)
    return live, alarms


def test_it_is_the_filter_of_the_formula():
    """One parameter, Poisson demand, an enumeration by hand: mix, then multiply, then normalise."""
    world = worlds.make("inventory", {"mean": 5.0})
    atoms = Atoms(world, ("mean",), prior=Prior(dispersions=(1.0,), floor=0.0))
    live, hazard = HazardFilter(atoms, QUIET), QUIET
    factor = atoms.factors[0]
    log_mean = factor.points[:, 0]
    prior = np.exp(-0.5 * ((log_mean - np.log(5.0)) / 0.8) ** 2)
    prior /= prior.sum()
    steps = np.exp(-0.5 * ((log_mean[:, None] - log_mean[None]) / (0.45 * 0.8)) ** 2)
    steps /= steps.sum(axis=1, keepdims=True)
    weights = prior
    for sold in (4, 7, 0, 12):
        live.learn_one([30, 5, 5, 5], 5, {"sold": sold})
        mean = np.exp(log_mean)
        weights = (
            (1 - hazard.anew - hazard.moderate) * weights + hazard.anew * prior + hazard.moderate * weights @ steps
        )
        weights = weights * np.exp(sold * log_mean - mean)
        weights /= weights.sum()
    expected = np.exp(quantile(log_mean, weights, 0.5))
    assert live.estimate().values[0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_it_follows_every_world_and_gives_honest_intervals(world_id):
    world = worlds.make(world_id)
    atoms = Atoms(world)
    live, _ = learned(atoms, transitions(world, 600, 1))
    found, truth = live.estimate(), likelihood(world).nominal
    assert found.columns == likelihood(world).columns
    assert np.isfinite(found.values).all()
    assert (found.standard_errors > 0).all()
    assert (found.lower < found.values).all()
    assert (found.values < found.upper).all()
    inside = (found.lower <= truth) & (truth <= found.upper)
    assert inside.mean() >= 0.75
    assert found.absurd < 0.001


def test_it_starts_at_the_world_as_declared():
    world = worlds.make("pricing")
    found = HazardFilter(Atoms(world)).estimate()
    assert found.values == pytest.approx([world.params.volume, world.params.sensitivity], rel=1e-9)
    assert found.decisions == 0


@pytest.mark.parametrize(
    ("world_id", "params", "change", "decisions"),
    [
        ("pricing", {}, {"sensitivity": 2.0}, 250),
        ("inventory", {}, {"mean": 8.0}, 60),
        ("maintenance", {}, {"jump": 0.8}, 120),
    ],
)
def test_it_has_forgotten_the_old_world_soon_after_a_change(world_id, params, change, decisions):
    world = worlds.make(world_id, params)
    truth = world.with_params(change)
    live, _ = learned(Atoms(world), transitions(world, 400, 2))
    live.learn_many(*transitions(world, decisions, 3, truth))
    name, value = next(iter(change.items()))
    before = float(np.mean(getattr(world.params, name)))
    found = live.estimate().params()[name]
    assert abs(np.log(found / value)) < abs(np.log(value / before)) / 3


def test_one_by_one_is_all_at_once_and_a_restored_filter_goes_on_bit_for_bit():
    world = worlds.make("pricing")
    atoms, logs = Atoms(world), transitions(world, 120, 4)
    together, _ = learned(atoms, logs, Hazard())
    single = HazardFilter(atoms)
    for i in range(120):
        if i == 70:
            saved = single.snapshot()
            single = HazardFilter(Atoms(world))
            single.restore(saved)
        single.learn_one(logs[0][i], logs[1][i], {name: values[i] for name, values in logs[2].items()})
    one, other = together.snapshot(), single.snapshot()
    assert (one["weights"][0] == other["weights"][0]).all()
    assert (one["tests"][0]["ratios"] == other["tests"][0]["ratios"]).all()
    assert one["decisions"] == other["decisions"] == 120
    with pytest.raises(ValueError, match="start it anew"):
        HazardFilter(Atoms(worlds.make("inventory"))).restore(saved)


def test_parameters_far_outside_the_trained_range_are_found_and_said():
    world = worlds.make("pricing", {"prices": {"geometric": [0.1, 8.0, 41]}})
    ranges = {"sensitivity": (0.5, 2.0), "volume": (1.0, 6.0)}
    atoms = Atoms(world, ranges=ranges)
    live, _ = learned(atoms, transitions(world, 300, 5))
    assert max(live.estimate().outside.values()) < 0.05
    live.learn_many(*transitions(world, 600, 6, world.with_params({"sensitivity": 4.0})))
    found = live.estimate()
    assert found.outside["sensitivity"] > 0.99
    assert found.params()["sensitivity"] == pytest.approx(4.0, rel=0.35)


def overdispersed(decisions, seed, factor=2.5, mean=5.0):
    """Negative binomial demand with that variance over its mean, a full shelf."""
    rng = np.random.default_rng(seed)
    demand = rng.negative_binomial(mean / (factor - 1.0), 1.0 / factor, decisions)
    seen = np.tile([60.0, 5.0, 5.0, 5.0], (decisions, 1))
    return seen, np.full(decisions, 5), {"sold": demand.astype(float)}


def spread_of_estimates(atoms, logs):
    live, found = HazardFilter(atoms, QUIET), []
    for i in range(len(logs[1])):
        live.learn_one(logs[0][i], logs[1][i], {"sold": logs[2]["sold"][i]})
        found.append(live.estimate().values[0])
    return np.std(np.log(found[300:])), live.estimate()


def test_demand_that_varies_more_than_poisson_is_no_news():
    world = worlds.make("inventory", {"mean": 5.0})
    logs = overdispersed(1500, 7)
    calm, found = spread_of_estimates(Atoms(world), logs)
    nervous, _ = spread_of_estimates(Atoms(world, prior=Prior(dispersions=(1.0,))), logs)
    assert calm < 0.75 * nervous
    assert found.dispersion == pytest.approx(2.5, abs=0.7)
    quiet, _ = learned(Atoms(world), overdispersed(1500, 8, factor=1.0001))
    assert quiet.estimate().dispersion < 1.3


def test_absurd_outcomes_move_nothing_and_are_counted():
    world = worlds.make("pricing")
    atoms, (seen, actions, fields) = Atoms(world), transitions(world, 800, 9)
    wrong = np.random.default_rng(10).random(800) < 0.01
    clean, _ = learned(atoms, (seen, actions, fields))
    fooled, _ = learned(atoms, (seen, actions, {"sold": np.where(wrong, 1e6, fields["sold"])}))
    one, other = clean.estimate(), fooled.estimate()
    assert (np.abs(np.log(one.values / other.values)) < 0.1).all()
    assert other.absurd > 0.003
    assert one.absurd < 0.001


def test_an_empty_shelf_says_nothing():
    world = worlds.make("pricing")
    live = HazardFilter(Atoms(world))
    live.learn_one([0.0, 7.0], 10, {"sold": 0.0})
    assert live.estimate().decisions == 0


def test_a_change_raises_an_alarm_with_its_evidence_and_another_that_confirms_it():
    world = worlds.make("pricing")
    live, before = learned(Atoms(world), transitions(world, 400, 11), Hazard())
    assert before == ()
    alarms = live.learn_many(*transitions(world, 300, 12, world.with_params({"sensitivity": 2.0})))
    assert len(alarms) == 2
    alarm, confirmed = alarms
    assert confirmed.before == alarm.before
    assert abs(confirmed.after["sensitivity"] - 2.0) < abs(alarm.after["sensitivity"] - 2.0)
    assert 400 < alarm.decision < 520
    assert 380 < alarm.since < alarm.decision
    assert alarm.statistic > alarm.threshold
    assert alarm.before["sensitivity"] == pytest.approx(1.0)
    assert alarm.after["sensitivity"] > 1.2


def test_an_alarm_by_mistake_hides_no_change_just_after_it():
    world = worlds.make("pricing")
    live, _ = learned(Atoms(world), transitions(world, 400, 11), Hazard())
    (test,) = live._tests
    # As if chance had sounded it: what it takes for the new parameters is where the world goes next.
    after = live.atoms.likelihood.unbounded(np.array([2.7, 1.5, 1.0]))
    test.notice(live.estimate().decisions, test.believed, after)
    assert test.statistic == 0.0
    alarms = live.learn_many(*transitions(world, 300, 12, world.with_params({"sensitivity": 1.5})))
    assert [alarm.before["sensitivity"] for alarm in alarms] == [pytest.approx(1.0)]


def test_an_alarm_is_accepted_where_it_sounds_again_soon_and_forgotten_later():
    live, _ = learned(Atoms(worlds.make("pricing")), transitions(worlds.make("pricing"), 50, 11), Hazard())
    (test,) = live._tests
    for first, second, accepted in ((100, 100 + SOON, True), (5000, 5001 + SOON, False)):
        test.reset(test.believed, np.zeros(3))
        test.notice(first, test.believed, np.ones(3))
        assert not test.accepted.any()
        test.notice(second, test.believed, np.ones(3))
        assert test.accepted.all() == accepted


def test_parameters_that_were_accepted_are_the_new_standard():
    world = worlds.make("pricing")
    truth = world.with_params({"sensitivity": 2.0})
    live, _ = learned(Atoms(world), transitions(world, 300, 13, truth), Hazard())
    live.accept({"volume": world.params.volume, "sensitivity": 2.0})
    assert live.learn_many(*transitions(world, 400, 14, truth)) == ()


def test_parameters_that_share_no_evidence_are_followed_each_by_itself():
    two = ("maintenance", "pricing-rival")
    columns = {name: [factor.columns for factor in Atoms(worlds.make(name)).factors] for name in two}
    assert columns["maintenance"] == [("wear[0]",), ("wear[1]",), ("wear[2]",), ("wear[3]",), ("jump",)]
    assert columns["pricing-rival"] == [("arrivals", "attraction", "sensitivity", "dispersion"), ("reaction",)]


class _ManyParameters:
    """Poisson counts of four kinds, told together: more parameters than a grid takes."""

    id = "many"
    tunable = dict.fromkeys(("a", "b", "c", "d"), 1)

    def __init__(self):
        self.params = type("Params", (), dict.fromkeys("abcd", 2.0))()

    def likelihood(self, names):  # noqa: ARG002
        def evidence(seen, action, fields):  # noqa: ARG001
            rows = np.stack([np.zeros(len(seen)), *(fields[name] for name in "abcd")], axis=1)
            return rows[:, None, :]

        def loglik(values, rows):
            return sum(rows[:, 1 + i] * np.log(values[n]) - values[n] for i, n in enumerate("abcd"))

        always = np.ones(4, bool)
        return Likelihood(self, tuple("abcd"), np.full(4, 2.0), always, ~always, {}, evidence, loglik)


def test_more_parameters_than_a_grid_takes_are_scattered():
    world = _ManyParameters()
    atoms, rng = Atoms(world), np.random.default_rng(15)
    assert atoms.factors[0].dense
    live = HazardFilter(atoms, QUIET)
    counts = {name: rng.poisson(mean, 400).astype(float) for name, mean in zip("abcd", (2, 2, 2, 5), strict=True)}
    live.learn_many(np.zeros((400, 1)), np.zeros(400, int), counts)
    assert live.estimate().values == pytest.approx([2, 2, 2, 5], rel=0.25)


def test_a_transition_costs_less_than_a_millisecond():
    world = worlds.make("pricing")
    atoms, (seen, actions, fields) = Atoms(world), transitions(world, 3000, 16)
    live = HazardFilter(atoms)
    live.learn_many(seen[:2000], actions[:2000], {"sold": fields["sold"][:2000]})
    start = time.process_time()
    for i in range(2000, 3000):
        live.learn_one(seen[i], actions[i], {"sold": fields["sold"][i]})
    assert (time.process_time() - start) / 1000 < 0.001


def test_shared_hazards_count_periods_and_wrong_ones_are_refused():
    assert Hazard(0.002, 0.004).shared(20).anew == pytest.approx(0.0001)
    with pytest.raises(ValueError, match="below 1 in sum"):
        Hazard(0.6, 0.6)
    with pytest.raises(ValueError, match="threshold"):
        Hazard(threshold=-1.0)
