"""`trimtab evaluate`: what a policy is worth in a world, beside the baselines and the exact optimum."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from agents import baselines, runtime
from agents.baselines import BASELINES
from agents.bundle import Bundle, BundleError, unpack
from agents.evaluate import evaluate, tabulated
from agents.policy import Policy
from envs import exact, worlds
from envs.continuum import best_fixed_price
from envs.dynamics import ParamsError, World
from envs.pricing import Pricing
from envs.tabulate import StateSpaceTooLarge
from service.commands.output import CommandError, UsageError, finish, percent, table
from service.outside import parameters
from service.outside.parameters import ParameterError

EXACT = "exact"
BEST_FIXED = "best-fixed-price"


def run(policy: str, world: str | None, params: str, episodes: int, seed: int, as_json: bool) -> None:
    """Evaluate one policy."""
    try:
        given = parameters.parse(params)
        bundle = _bundle(policy)
        made = _world(world, given, bundle)
        result = _evaluated(policy, bundle, made, episodes, seed)
    except (ParameterError, ParamsError) as error:
        raise UsageError(str(error)) from None
    except (BundleError, StateSpaceTooLarge) as error:
        raise CommandError(str(error)) from None
    finish(result, as_json, lambda out: _show(out, result))


def _bundle(policy: str) -> Bundle | None:
    path = Path(policy)
    return unpack(path.read_bytes()) if path.is_file() else None


def _world(name: str | None, given: Mapping[str, Any], bundle: Bundle | None) -> World:
    if bundle is not None:
        if name not in (None, bundle.card.world):
            raise UsageError(f"the bundle was made for the world {bundle.card.world!r}, not for {name!r}")
        return worlds.make(bundle.card.world, {**bundle.card.params, **given})
    if name is None:
        raise UsageError(f"say in which world, with --world: {', '.join(worlds.WORLDS)}")
    return worlds.make(name, given)


def _evaluated(policy: str, bundle: Bundle | None, world: World, episodes: int, seed: int) -> dict[str, Any]:
    head = {"policy": policy if bundle is None else bundle.digest, "world": world.id, "seed": seed}
    if isinstance(world, Pricing) and not world.actions.nvec:
        return {**head, **_continuum(policy, world)}
    optimum = _optimum(world)
    if policy == EXACT and optimum is None:
        exact.solve(world)  # says how large it is, and what to do instead
    # The rules of a ladder have nothing to choose from where any price is allowed.
    names = BASELINES.get(world.id, ()) if world.actions.nvec else ()
    others = {name: _baseline(name, world, episodes, seed) for name in names}
    if policy == EXACT:
        own = dict(optimum or {})
    elif bundle is not None:
        own = evaluate(runtime.load(bundle), world, episodes=episodes, seed=seed).summary()
    elif policy in others:
        own = others[policy]
    else:
        named = ", ".join((EXACT, *others))
        raise UsageError(
            f"{policy!r} is no file, and no baseline of {world.id!r}: give a bundle's file or one of {named}"
        )
    return {**head, **own, "baselines": others, "optimum": optimum, "gap": _gap(own["value"], optimum)}


def _optimum(world: World) -> dict[str, Any] | None:
    try:
        solution = exact.solve(world)
    except StateSpaceTooLarge:
        return None
    return {"value": solution.value, "method": solution.method}


def _continuum(policy: str, world: Pricing) -> dict[str, Any]:
    if policy != EXACT:
        raise UsageError('prices = "any" is for the exact optimum alone: give a ladder of prices to evaluate a policy')
    solution = exact.solve(world)
    price, value = best_fixed_price(world)
    optimum = {"value": solution.value, "method": solution.method}
    return {**optimum, "baselines": {BEST_FIXED: {"value": value, "price": price}}, "optimum": optimum, "gap": 0.0}


def _baseline(name: str, world: World, episodes: int, seed: int) -> dict[str, Any]:
    rule = baselines.make(name, world)
    told = evaluate(rule, world, episodes=episodes, seed=seed).summary()
    action = _only_action(rule, world)
    return told if action is None else {**told, world.actions.name: action}


def _only_action(policy: Policy, world: World) -> float | None:
    """The physical value of the action that a policy always takes, where it is but one."""
    table = tabulated(policy, world)
    if table is None or world.actions.values is None:
        return None
    taken = np.flatnonzero(table.max(axis=0))
    return float(world.actions.values[taken[0]]) if len(taken) == 1 else None


def _gap(value: float, optimum: Mapping[str, Any] | None) -> float | None:
    """What is missing to the optimum, as a share of it."""
    if optimum is None or not optimum["value"]:
        return None
    return float((optimum["value"] - value) / abs(optimum["value"]))


def _show(out: Console, result: Mapping[str, Any]) -> None:
    optimum = result["optimum"]
    rows = [(result["policy"][:40], result["value"], percent(result["gap"]), _how(result))]
    rows += [
        (name, told["value"], percent(_gap(told["value"], optimum)), _how(told))
        for name, told in result["baselines"].items()
        if name != result["policy"]
    ]
    if optimum is not None and result["policy"] != EXACT:
        rows.append((EXACT, optimum["value"], percent(0.0), optimum["method"]))
    out.print(f"{result['world']}: value of an episode, and what is missing to the optimum")
    out.print(table(("policy", "value", "gap", ""), rows))


def _how(told: Mapping[str, Any]) -> str:
    low, high = told.get("interval", (told["value"], told["value"]))
    return told.get("method", "") if low == high else f"{told['method']}, 95 % interval {low:.6g} to {high:.6g}"
