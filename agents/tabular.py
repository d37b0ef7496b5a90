"""Bundles without training: the exact optimum, or a baseline, written out over all states of a world."""

import numpy as np

from agents import baselines
from agents.bundle import Bundle, Card, pack, unpack
from agents.cards import actions_of, fields_of, params_of, versions
from agents.evaluate import evaluate, tabulated
from agents.export import export_table
from agents.policy import Policy, Table
from agents.ranges import Family
from envs import exact
from envs.dynamics import World


def write_out(world: World, algo: str) -> Bundle:
    """The policy `exact`, or a baseline of this world by name, as a bundle that serves like any other.

    Raises:
        StateSpaceTooLarge: more states than can be listed.
        ValueError: a baseline that this world does not have.
    """
    policy = optimum(world) if algo == "exact" else baselines.make(algo, world)
    probabilities = tabulated(policy, world)
    if probabilities is None:
        raise ValueError(f"{world.id} has too many states to write {algo} out: train a network instead")
    table = Table(world.observe(exact.states(world)), probabilities)
    value, best = evaluate(table, world).value, exact.solve(world).value
    gap = 100 * (best - value) / abs(best)
    card = Card(
        world=world.id,
        params=params_of(world),
        actions=actions_of(world),
        observation=fields_of(Family(world, {})),
        kind="table",
        algo=algo,
        preset="",
        metrics={"value": value, "gap": gap},
        versions=versions(),
    )
    return unpack(pack(card, export_table(table)))


def optimum(world: World) -> Policy:
    """The exact optimum as a table.

    Raises:
        StateSpaceTooLarge: more states than can be listed.
    """
    solution = exact.solve(world)
    allowed = np.array(world.allowed(solution.states))
    return Table(world.observe(solution.states), np.where(allowed, solution.policy, 0.0), "exact")
