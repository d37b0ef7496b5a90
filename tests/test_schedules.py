"""Schedules: what holds when, in any order of asking."""

import numpy as np
import pytest

from envs import schedules, worlds
from envs.env import WorldEnv, WorldVectorEnv


def test_abrupt_changes_add_up():
    schedule = schedules.Abrupt({"volume": 2.0, "sensitivity": 1.0}, {200: {"volume": 4.0}, 100: {"sensitivity": 2.0}})
    assert schedule.at(99) == {"volume": 2.0, "sensitivity": 1.0}
    assert schedule.at(100) == {"volume": 2.0, "sensitivity": 2.0}
    assert schedule.at(1_000) == {"volume": 4.0, "sensitivity": 2.0}


def test_gradual_changes_are_geometric_between_positive_levels():
    schedule = schedules.Gradual({"volume": 1.0}, {"volume": 4.0}, 100, 200)
    assert [schedule.at(step)["volume"] for step in (0, 100, 150, 200, 900)] == pytest.approx([1, 1, 2, 4, 4])
    linear = schedules.Gradual({"attraction": -1.0}, {"attraction": 3.0}, 0, 4)
    assert [linear.at(step)["attraction"] for step in range(5)] == pytest.approx([-1, 0, 1, 2, 3])


def test_a_season_comes_back_after_its_period():
    schedule = schedules.Seasonal({"volume": 2.0}, 0.5, 40)
    assert [schedule.at(step)["volume"] for step in (0, 10, 20, 30, 40)] == pytest.approx([2, 3, 2, 1, 2])


def test_regimes_recur():
    schedule = schedules.Recurring(({"mean": 5.0}, {"mean": 7.0}, {"mean": 3.0}), 10)
    assert [schedule.at(step)["mean"] for step in (0, 9, 10, 25, 30)] == [5.0, 5.0, 7.0, 3.0, 5.0]


def test_a_random_walk_is_the_same_in_any_order_and_stays_between_its_mirrors():
    schedule = schedules.RandomWalk({"volume": 2.0, "sensitivity": 1.0}, 0.05, seed=3, limit=2.0)
    forward = [schedule.at(step) for step in range(3_000)]
    assert forward[0] == {"volume": 2.0, "sensitivity": 1.0}
    assert [schedule.at(step) for step in (2_999, 0, 1_024, 1_023)] == [forward[i] for i in (2_999, 0, 1_024, 1_023)]
    path = np.log([[held["volume"] / 2.0, held["sensitivity"]] for held in forward])
    assert (np.abs(path) <= np.log(2.0) + 1e-12).all()
    steps = np.diff(path, axis=0)
    assert steps.std() == pytest.approx(0.05, rel=0.05)
    # Blocks of 1,024 steps join without a jump, and reflection makes none.
    assert np.abs(steps).max() < 0.25


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "sudden"}, "abrupt, gradual, seasonal"),
        ({"kind": "seasonal", "values": {"volume": 1.0}, "amplitude": 1.5, "period": 10}, "amplitude"),
        ({"kind": "gradual", "values": {"a": 1.0}, "to": {"b": 2.0}, "start": 0, "end": 5}, "name the same"),
        ({"kind": "gradual", "values": {}, "to": {}, "start": 5, "end": 5}, "end after it starts"),
        ({"kind": "recurring", "regimes": [], "length": 3}, "at least one regime"),
        ({"kind": "random-walk", "values": {"a": -1.0}, "spread": 0.1, "seed": 1}, "positive values"),
        ({"kind": "constant"}, "cannot be made"),
    ],
)
def test_what_makes_no_schedule_is_refused(given, message):
    with pytest.raises(worlds.ParamsError, match=message):
        schedules.parse(given)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "constant", "values": {"volume": 2.0}},
        {"kind": "abrupt", "values": {"volume": 2.0}, "changes": {"10": {"volume": 3.0}}},
        {"kind": "gradual", "values": {"volume": 2.0}, "to": {"volume": 3.0}, "start": 5, "end": 50},
        {"kind": "seasonal", "values": {"volume": 2.0}, "amplitude": 0.3, "period": 12},
        {"kind": "recurring", "regimes": [{"volume": 2.0}, {"volume": 4.0}], "length": 7},
        {"kind": "random-walk", "values": {"volume": 2.0}, "spread": 0.02, "seed": 5},
    ],
)
def test_every_kind_can_be_written_and_drives_a_world(given):
    schedule = schedules.parse(given)
    env = WorldVectorEnv("pricing", {"periods": 5}, num_envs=3, schedule=schedule)
    env.reset(seed=0)
    for step in range(20):
        env.step(np.array([1, 20, 40]))
        assert env.world.params.volume == pytest.approx(schedule.at(step)["volume"])


@pytest.mark.parametrize(
    ("world_id", "name"),
    [
        ("pricing", "sensitivity"),
        ("pricing-replenished", "batch_probability"),
        ("pricing-rival", "reaction"),
        ("pricing-network", "volume"),
        ("replacement", "scale"),
        ("maintenance", "wear"),
        ("inventory", "mean"),
    ],
)
def test_any_world_runs_under_a_schedule(world_id, name):
    base = float(np.mean(getattr(worlds.make(world_id).params, name)))
    env = WorldEnv(world_id, schedule=schedules.Abrupt({name: base}, {3: {name: base / 2}}))
    env.reset(seed=0)
    for step in range(6):
        action = env.world.actions.nvec[0] - 1
        env.step(action if len(env.world.actions.nvec) == 1 else np.full(len(env.world.actions.nvec), action))
        assert np.mean(getattr(env.world.params, name)) == pytest.approx(base if step < 3 else base / 2)


def test_ranges_and_a_schedule_exclude_one_another():
    with pytest.raises(ValueError, match="give one of them"):
        WorldEnv("pricing", ranges={"volume": (1.0, 2.0)}, schedule=schedules.Constant({"volume": 1.0}))
