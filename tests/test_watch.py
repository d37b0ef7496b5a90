"""Watching a release: the parts of a unit's value, how world and outcomes are weighed, sabotage in many runs."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.watch import Expectations, Watched, WatchRule, gain_of, watch_gate
from envs import exact, worlds
from envs.dynamics import World

ROOT = Path(__file__).resolve().parent.parent
SMALL: dict[str, Any] = {"stock": 3, "periods": 6, "prices": "0.5:2.5:0.5"}
RULE = WatchRule(tolerance=0.01, confidence=0.975, trust=0.05, warm_up=2)


def expected(world: World) -> Expectations:
    found = Expectations.of(world)
    assert found is not None
    return found


def units(candidate: list[tuple[float, float, float]], other: list[tuple[float, float, float]]) -> Watched:
    """Units given as (earned, advantage, luck), all finished."""
    rows = np.array(candidate + other, float)
    arm = np.arange(len(rows)) < len(candidate)
    return Watched(arm, rows[:, 0], rows[:, 1], rows[:, 2], np.ones(len(rows), bool), 0.5)


@pytest.mark.parametrize(
    ("world", "params"),
    [
        ("pricing", SMALL),
        ("replacement", {}),
        ("pricing-replenished", {"capacity": 5, "prices": "0.5:2.5:0.5"}),
    ],
)
def test_the_best_action_value_is_the_value(world: str, params: dict[str, Any]) -> None:
    made = worlds.make(world, params)
    found = expected(made)
    assert found.action_values.max(axis=1) == pytest.approx(found.values, abs=1e-7)
    assert (found.places(exact.states(made)) == np.arange(len(found.values))).all()
    assert found.places(exact.states(made)[:1] + 0.5).tolist() == [-1]


def test_advantage_and_luck_sum_to_what_was_earned_less_the_value_at_the_start() -> None:
    world, believed = worlds.make("pricing", SMALL), worlds.make("pricing", SMALL | {"sensitivity": 2.0})
    found, rng = expected(believed), np.random.default_rng(1)
    state, earned, advantage, luck, over = world.initial(1, rng), 0.0, 0.0, 0.0, False
    start = found.values[found.places(state)[0]]
    while not over:
        action = rng.integers(world.actions.n, size=1)
        following, reward, ended = world.step(state, action, world.draw(1, rng))
        over, before = bool(ended[0]), found.places(state)[0]
        ahead = 0.0 if over else found.values[found.places(following)[0]]
        advantage += found.action_values[before, action[0]] - found.values[before]
        luck += reward[0] + ahead - found.action_values[before, action[0]]
        state, earned = following, earned + float(reward[0])
    assert advantage + luck == pytest.approx(earned - start)
    assert advantage < 0


def test_the_mean_advantage_of_a_policy_is_its_loss_in_the_world_believed_in() -> None:
    world = worlds.make("pricing", SMALL)
    found, n = expected(world), 20_000
    rng = np.random.default_rng(2)
    state, total = world.initial(n, rng), np.zeros(n)
    alive = np.ones(n, bool)
    while alive.any():
        action = np.full(n, 1)
        place = found.places(state)
        total += np.where(alive, found.action_values[place, action] - found.values[place], 0.0)
        following, _, over = world.step(state, action, world.draw(n, rng))
        alive &= ~over
        state = np.where(alive[:, None], following, state)
    fixed = np.tile(np.eye(world.actions.n)[1], (len(found.values), 1))
    loss = exact.policy_value(world, fixed) - exact.solve(world).value
    assert total.mean() == pytest.approx(loss, abs=4 * total.std() / math.sqrt(n))


def test_the_gain_weighs_world_and_outcomes_by_their_errors() -> None:
    # Level 10, expected gain −1. Luck: means 1 and 0, variance (2 + 2) / 2 (1/2 + 1/2) = 2, trust .5² = .25.
    seen = units([(9, -1, 0), (9, -1, 2)], [(11, 0, 1), (9, 0, -1)])
    gain = gain_of(seen, RULE)
    assert gain is not None
    assert gain.level == 10.0
    assert gain.expected == pytest.approx(-0.1)
    assert gain.outcomes == pytest.approx(0.0)
    assert gain.credit == pytest.approx(0.25 / 2.25)
    assert gain.value == pytest.approx(-0.1 + 0.1 / 9)
    assert gain.error == pytest.approx(math.sqrt(2 / 9) / 10)
    blind = gain_of(seen, replace(RULE, trust=math.inf))
    assert blind is not None
    assert blind.credit == 1.0
    assert blind.value == pytest.approx(0.0)


def test_a_verdict_needs_units_in_both_arms() -> None:
    verdict = watch_gate(units([(1, 0, 0)], [(1, 0, 0)] * 5), RULE)
    assert verdict.verdict == "not enough evidence"
    assert "1 units with the candidate and 5 without" in verdict.reasons[0]


@pytest.mark.parametrize(("loss", "word"), [(-3.0, "worse"), (3.0, "better"), (-0.1, "not enough evidence")])
def test_a_clear_gain_or_loss_is_a_verdict(loss: float, word: str) -> None:
    rng = np.random.default_rng(3)
    luck = rng.normal(size=40)
    rows = [(10.0 + x, 0.0, float(x)) for x in luck]
    assert watch_gate(units([(a + loss, loss, c) for a, _, c in rows[:20]], rows[20:]), RULE).verdict == word


def test_in_a_world_that_sees_no_difference_outcomes_alone_still_find_a_loss() -> None:
    rng = np.random.default_rng(4)
    luck = rng.normal(size=(2, 2000))
    seen = units([(8 + x, 0, x - 2) for x in luck[0]], [(10 + x, 0, x) for x in luck[1]])
    assert watch_gate(seen, replace(RULE, trust=1e-9)).verdict == "worse"


def sabotage(case: str, seeds: int, *more: str) -> dict[str, Any]:
    command = [sys.executable, "benchmarks/watch.py", "--case", case, "--seeds", str(seeds), "--json", *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["cases"][0]
    return found


def is_caught(found: dict[str, Any]) -> bool:
    """Worse and rolled back before decision 10,000 in four runs of five, at most .7 % of the value lost."""
    return bool(found["rolled_back"] >= 0.8 * found["runs"] and found["loss"] <= 0.007)


def test_a_sabotaged_release_is_rolled_back_and_only_by_the_test() -> None:
    assert is_caught(sabotage("up", 5))
    assert not is_caught(sabotage("up", 2, "--off"))


@pytest.mark.long
@pytest.mark.parametrize("case", ["up", "down", "up-wrong-world"])
def test_sabotage_is_caught_in_four_of_five_of_a_hundred_runs(case: str) -> None:
    found = sabotage(case, 100)
    assert is_caught(found), found


@pytest.mark.long
@pytest.mark.parametrize("case", ["same", "same-wrong-world"])
def test_a_release_like_its_predecessor_is_seldom_rolled_back(case: str) -> None:
    found = sabotage(case, 100)
    assert found["rolled_back"] <= 5, found
