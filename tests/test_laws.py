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


# Sizes are kept small for the sake of time, lists short; everything else takes its whole declared range.
SIZES = {
    "stock": (1, 40),
    "periods": (1, 25),
    "capacity": (1, 25),
    "batch": (1, 40),
    "max_age": (1, 80),
    "levels": (2, 6),
    "lead_time": (1, 4),
    "max_order": (0, 12),
    "crews": (1, 2),
}
LADDER = st.lists(st.floats(-3, 3), min_size=1, max_size=6, unique=True).map(
    lambda powers: sorted({round(10**power, 6) for power in powers})
)
SPECIAL = {
    "prices": LADDER,
    "wear": st.lists(st.floats(0, 1), min_size=2, max_size=4),
    "demand": st.sampled_from(["poisson", "geometric"]),
    "choice": st.sampled_from(["sets", "worst"]),
    "mean": st.floats(-1.3, 2).map(lambda power: 10**power),
}
DERIVED = {"usage", "rival_prices", "rival_start"}


def declared(field, world_id):
    """Any value of a parameter's declared range; on a log scale where it spans orders of magnitude."""
    if field.name == "volume" and world_id == "pricing-network":
        return st.lists(st.floats(1e-9, 0.333), min_size=3, max_size=3)
    if field.name in SPECIAL:
        return SPECIAL[field.name]
    if field.name in SIZES:
        return st.integers(*SIZES[field.name])
    low, high = max(field.low, 1e-9), min(field.high, 1e9)
    if field.low < 0 or high <= 1:
        return st.floats(field.low, high)
    return st.floats(np.log10(low), np.log10(high)).map(lambda power: float(np.clip(10**power, low, high)))


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_the_laws_hold_under_any_declared_parameters(world_id):
    fields = [field for field in worlds.WORLDS[world_id].parameters if field.name not in DERIVED]

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(st.fixed_dictionaries({field.name: declared(field, world_id) for field in fields}), st.integers(0, 2**20))
    def holds(params, seed):
        if world_id == "inventory":
            del params["capacity"]  # It follows from the others.
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
