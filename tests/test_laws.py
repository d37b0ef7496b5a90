"""The laws of worlds: every world keeps them under any parameters, and each law fails on a world made to break it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import checks, worlds
from envs.pricing import Pricing


@pytest.mark.parametrize("world_id", worlds.WORLDS)
@pytest.mark.parametrize("law", checks.LAWS)
def test_every_world_keeps_every_law(world_id, law):
    checks.LAWS[law](worlds.make(world_id), np.random.default_rng(7))


def numbers(low, high):
    return st.floats(low, high, allow_nan=False).map(lambda x: float(f"{x:.6g}"))


def ladder():
    return st.lists(numbers(0.05, 5.0), min_size=1, max_size=6, unique=True).map(sorted)


PARAMS = {
    "pricing": st.fixed_dictionaries(
        {
            "stock": st.integers(1, 30),
            "periods": st.integers(1, 30),
            "volume": numbers(0.01, 200.0),
            "sensitivity": numbers(0.05, 5.0),
            "prices": ladder(),
        }
    ),
    "pricing-replenished": st.fixed_dictionaries(
        {
            "capacity": st.integers(1, 20),
            "volume": numbers(0.01, 50.0),
            "sensitivity": numbers(0.05, 5.0),
            "batch": st.integers(1, 30),
            "batch_probability": numbers(0.0, 1.0),
            "holding_cost": numbers(0.0, 5.0),
            "prices": ladder(),
        }
    ),
    "pricing-rival": st.fixed_dictionaries(
        {
            "stock": st.integers(1, 20),
            "periods": st.integers(1, 20),
            "arrivals": numbers(0.01, 20.0),
            "attraction": numbers(-3.0, 5.0),
            "sensitivity": numbers(0.05, 5.0),
            "reaction": numbers(0.0, 1.0),
            "prices": ladder(),
        }
    ),
    "pricing-network": st.fixed_dictionaries(
        {
            "capacity": st.integers(1, 6),
            "periods": st.integers(1, 20),
            "volume": st.lists(numbers(0.01, 0.33), min_size=3, max_size=3),
            "sensitivity": st.lists(numbers(0.05, 5.0), min_size=3, max_size=3),
            "prices": ladder(),
        }
    ),
    "replacement": st.fixed_dictionaries(
        {
            "shape": numbers(0.3, 6.0),
            "scale": numbers(0.5, 50.0),
            "replace_cost": numbers(0.0, 10.0),
            "failure_cost": numbers(0.0, 100.0),
            "max_age": st.integers(1, 60),
        }
    ),
    "maintenance": st.fixed_dictionaries(
        {
            "levels": st.integers(2, 6),
            "wear": st.lists(numbers(0.0, 1.0), min_size=2, max_size=4),
            "jump": numbers(0.0, 1.0),
            "crews": st.integers(1, 2),
            "setup_cost": numbers(0.0, 10.0),
            "choice": st.sampled_from(["sets", "worst"]),
        }
    ),
    "inventory": st.fixed_dictionaries(
        {
            "demand": st.sampled_from(["poisson", "geometric"]),
            "mean": numbers(0.2, 12.0),
            "lead_time": st.integers(1, 4),
            "holding_cost": numbers(0.01, 10.0),
            "penalty_cost": numbers(0.01, 100.0),
        }
    ),
}


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_the_laws_hold_under_any_parameters(world_id):
    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(PARAMS[world_id], st.integers(0, 2**20))
    def holds(params, seed):
        checks.check(worlds.make(world_id, params), seed)

    holds()


class Broken(Pricing):
    """A pricing world with one fault, to be given by a subclass."""

    def __init__(self):
        super().__init__(worlds.make("pricing", {"stock": 8, "periods": 12, "prices": "0.5:2:0.5"}).params)

    def with_params(self, values):
        found = type(self)()
        Pricing.__init__(found, Pricing(self.params).with_params(values).params)
        return found


class SharesChance(Broken):
    def step(self, state, action, chance):
        return super().step(state, action, np.broadcast_to(chance[:1], chance.shape))


class DrawsInStep(Broken):
    def step(self, state, action, chance):
        return super().step(state, action, np.random.default_rng().random(chance.shape))


class SortsRows(Broken):
    def step(self, state, action, chance):
        after, reward, over = super().step(state, action, chance)
        return after, reward + 1e-9 * np.arange(len(reward)), over


class ChangesState(Broken):
    def step(self, state, action, chance):
        after, reward, over = super().step(state, action, chance)
        state[:] = after
        return after, reward, over


class NegativeChance(Broken):
    def draw(self, n, rng):
        return super().draw(n, rng) - 0.01


class ShowsSales(Broken):
    def observe(self, state):
        return (state + 5.0).astype(np.float32)


class HidesPeriod(Broken):
    def state_of(self, observation):
        return np.asarray(observation, np.float64) * [1.0, 0.0]


class AllowsNothing(Broken):
    def allowed(self, state):
        return np.zeros((len(state), self.actions.n), bool)

    def allowed_of(self, observation):
        return self.allowed(observation)


class ForgetsPrice(Broken):
    def reward_of(self, observation, action, fields):  # noqa: ARG002
        return fields["sold"]


class NeverEnds(Broken):
    def step(self, state, action, chance):
        after, reward, _ = super().step(state, action, chance)
        return after, reward, np.zeros(len(state), bool)


class ClampsCosts(Broken):
    """The expected reward comes from a table that ends at half the stock."""

    def expected_reward(self, state, action):
        return super().expected_reward(np.minimum(state, [4.0, np.inf]), action)


class SellsMore(Broken):
    def branches(self, state, action):
        honest = super().branches(state, action)
        lucky = np.roll(honest.probability, 1, axis=1)
        return type(honest)(lucky, honest.state, honest.reward, honest.terminated)

    def expected_reward(self, state, action):
        branches = self.branches(state, action)
        return (branches.probability * branches.reward).sum(axis=1)


class IgnoresRows(Broken):
    def with_params(self, values):
        return super().with_params({name: np.mean(value) for name, value in values.items()})


FAULTS = {
    "batch_equals_loop": SharesChance,
    "rows_can_be_permuted": SortsRows,
    "same_seed_same_rollout": DrawsInStep,
    "inputs_are_not_changed": ChangesState,
    "chance_is_uniform": NegativeChance,
    "observations_are_in_bounds": ShowsSales,
    "observations_show_the_state": HidesPeriod,
    "some_action_is_allowed": AllowsNothing,
    "rewards_follow_from_what_is_logged": ForgetsPrice,
    "horizons_are_kept": NeverEnds,
    "rewards_have_no_edge": ClampsCosts,
    "simulation_agrees_with_branches": SellsMore,
    "parameters_by_row_equal_single_worlds": IgnoresRows,
}


def test_there_is_a_fault_for_each_law():
    assert set(FAULTS) == set(checks.LAWS)


@pytest.mark.parametrize("law", checks.LAWS)
def test_each_law_fails_on_the_world_that_breaks_it_and_holds_without_the_fault(law):
    checks.LAWS[law](Broken(), np.random.default_rng(3))
    with pytest.raises(AssertionError):
        checks.LAWS[law](FAULTS[law](), np.random.default_rng(3))
