"""Every policy kind keeps every law, and a policy that breaks one is caught by that one."""

from collections.abc import Callable

import numpy as np
import pytest

from agents import checks
from agents.baselines import BASELINES
from agents.baselines import make as make_baseline
from agents.bundle import Actions, Card, ObservationField, pack, unpack
from agents.export import export_table
from agents.policy import FixedAction, Greedy, Mask, Mixture, Observation, Policy, Table
from agents.ranges import Conditioned
from agents.runtime import load
from agents.tabular import optimum, write_out
from agents.train import train
from envs import exact
from envs.dynamics import World
from envs.worlds import make

WORLD: World = make("pricing", {"stock": 5, "periods": 6, "prices": {"geometric": [0.5, 4.0, 9]}})
STATES = exact.states(WORLD)
OBSERVATION = WORLD.observe(STATES)
ALLOWED = np.array(WORLD.allowed(STATES))


def foreign() -> Policy:
    """A table whose graph is read as probabilities."""
    fields = tuple(ObservationField(entry.name) for entry in WORLD.context)
    table = Table(OBSERVATION, np.full((len(STATES), 9), 1 / 9))
    card = Card(world="pricing", params={}, actions=Actions("price", 9), observation=fields, kind="foreign")
    return load(unpack(pack(card, export_table(table))))


KINDS: dict[str, Callable[[], Policy]] = {
    "fixed": lambda: FixedAction(4, 9),
    "exact": lambda: optimum(WORLD),
    "exact bundle": lambda: load(write_out(WORLD, "exact")),
    "foreign": foreign,
    "mixture": lambda: Mixture((FixedAction(1, 9), optimum(WORLD)), (0.25, 0.75)),
    "greedy": lambda: Greedy(optimum(WORLD), 0.1),
    "network": lambda: load(train(WORLD, steps=8000)),
    "maskable": lambda: load(train(WORLD, algo="maskable-ppo", steps=8000)),
    "dqn": lambda: load(train(WORLD, algo="dqn", steps=2000)),
    "conditioned": lambda: Conditioned(load(train(WORLD, steps=8000, ranges={"volume": (1, 4)})), np.array([2.0])),
} | {name: (lambda name=name: make_baseline(name, WORLD)) for name in BASELINES["pricing"]}  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_policy_keeps_every_law(kind: str) -> None:
    checks.check(KINDS[kind](), OBSERVATION, ALLOWED)


class Broken:
    """A uniform policy with one fault."""

    def __init__(self, fault: str) -> None:
        self.kind, self.fault, self.calls = f"broken: {fault}", fault, 0

    def probabilities(self, observation: Observation, allowed: Mask) -> np.ndarray:
        self.calls += 1
        even = allowed / allowed.sum(axis=1, keepdims=True)
        if self.fault == "sum":
            return even * 0.99
        if self.fault == "mask":
            return np.full(allowed.shape, 1 / allowed.shape[1])
        if self.fault == "memory":
            tilt = np.where(allowed, 1.0, 0.0) + np.eye(allowed.shape[1])[0] * allowed * self.calls
            return tilt / tilt.sum(axis=1, keepdims=True)
        if self.fault == "mutates":
            observation[0] = 0
            return even
        if self.fault == "batch" and len(observation) > 1:
            first = np.eye(allowed.shape[1])[np.argmax(allowed, axis=1)]
            return np.asarray(first, np.float64)
        return even.astype(np.float32) if self.fault == "type" else even


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("sum", checks.check_rows_sum_to_one),
        ("type", checks.check_rows_sum_to_one),
        ("mask", checks.check_forbidden_actions_have_no_probability),
        ("memory", checks.check_is_pure),
        ("mutates", checks.check_is_pure),
        ("batch", checks.check_a_batch_equals_its_rows),
    ],
)
def test_a_broken_policy_fails_the_law_it_breaks(fault: str, law: checks.Law) -> None:
    observation = np.ones((4, 2), np.float32)
    with pytest.raises(AssertionError, match="broken"):
        law(Broken(fault), observation, np.ones((4, 3), bool))


def test_the_policy_without_a_fault_passes_so_that_the_faults_are_what_fails() -> None:
    checks.check(Broken("none"), np.ones((4, 2), np.float32), np.ones((4, 3), bool))
