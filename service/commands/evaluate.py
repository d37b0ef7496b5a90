"""`trimtab evaluate`: what a policy is worth in a world or over ranges of worlds, beside baselines and the optimum."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from agents import baselines, runtime
from agents.baselines import BASELINES
from agents.bundle import Bundle, BundleError, unpack
from agents.cards import require_fit
from agents.curves import columns, gaps
from agents.evaluate import Evaluation, evaluate, tabulated
from agents.gate import paired_gain
from agents.held_out import DRAWS
from agents.pages import Map, Page, on_one_scale, policy_map
from agents.policy import Policy
from agents.tabular import optimum as optimal_policy
from envs import exact, worlds
from envs.continuum import best_fixed_price
from envs.dynamics import ParamsError, World
from envs.pricing import Pricing
from envs.tabulate import StateSpaceTooLarge
from service.commands import evaluate_ranges
from service.commands.output import CommandError, UsageError, console, finish, gap, table
from service.commands.pages import require_writable, write_pages
from service.outside import parameters
from service.outside.parameters import ParameterError

EXACT = "exact"
BEST_FIXED = "best-fixed-price"
# A range's ends, written down and read again.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Asked:
    """What is evaluated: a bundle, a baseline by its name, or the optimum; and how long where it must be simulated."""

    name: str
    bundle: Bundle | None
    world: World
    episodes: int
    seed: int

    @property
    def label(self) -> str:
        """As people recognise it."""
        return self.name if self.bundle is None else self.bundle.digest

    @property
    def policy(self) -> Policy | None:
        """The policy of a bundle."""
        return None if self.bundle is None else runtime.load(self.bundle)


def run(
    policy: str,
    world: str | None,
    params: str,
    ranges: str,
    draws: int | None,
    episodes: int,
    seed: int,
    html: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Evaluate one policy, and draw it where asked to."""
    require_writable(html=html, plot=plot)
    if draws is not None and not ranges:
        raise UsageError(f"--draws {draws} was given without --ranges to draw from: give both, or leave it out")
    try:
        given, over = parameters.parse(params), parameters.ranges(ranges)
        bundle = _bundle(policy)
        asked = Asked(policy, bundle, _world(policy, world, given, bundle), episodes, seed)
        _require_trained_for(asked, over)
        if ranges:
            named = _policies(asked)
            sizes = draws or DRAWS, episodes, seed
            result, page = evaluate_ranges.evaluated(asked.world, over, named, *sizes, console())
            result = {"policy": asked.label, **result}
        else:
            result = _evaluated(asked)
            page = _page(asked, result) if html or plot else Page("")
    except (ParameterError, ParamsError) as error:
        raise UsageError(str(error)) from None
    except (BundleError, StateSpaceTooLarge) as error:
        raise CommandError(str(error)) from None
    if bundle is not None:
        result["curve"] = columns(bundle.card.curve)
        page = replace(page, curve=gaps(bundle.card.curve))
    result |= write_pages(page, html, plot)
    finish(result, as_json, lambda out: evaluate_ranges.show(out, result) if ranges else _show(out, result))


def _bundle(policy: str) -> Bundle | None:
    path = Path(policy)
    if not path.is_file():
        return None
    try:
        return unpack(path.read_bytes())
    except BundleError as error:
        raise CommandError(f"{path}: {error}") from None


def _require_trained_for(asked: Asked, over: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a bundle for another shape of world; say where it is asked about what it never saw."""
    if asked.bundle is None or not asked.world.actions.nvec:
        return
    card = asked.bundle.card
    try:
        require_fit(card, asked.world)
    except BundleError as error:
        raise UsageError(str(error)) from None
    for name, (low, high) in card.ranges.items():
        figures = over.get(name, np.ravel(getattr(asked.world.params, name)).tolist())
        if min(figures) < low * (1 - ROUNDING) or max(figures) > high * (1 + ROUNDING):
            told = " to ".join(f"{end:g}" for end in sorted({min(figures), max(figures)}))
            console().print(f"{name} {told} lies outside the trained range {low:g} to {high:g}: the policy is guessing")


def _world(policy: str, name: str | None, given: Mapping[str, Any], bundle: Bundle | None) -> World:
    if bundle is not None:
        if name not in (None, bundle.card.world):
            raise UsageError(f"the bundle was made for the world {bundle.card.world!r}, not for {name!r}")
        if bundle.card.world not in worlds.WORLDS:
            raise UsageError(
                f"the bundle was made for {bundle.card.world!r}; evaluate knows {', '.join(worlds.WORLDS)}"
            )
        return worlds.make(bundle.card.world, {**bundle.card.params, **given})
    if name is None and policy not in (EXACT, *(rule for rules in BASELINES.values() for rule in rules)):
        raise UsageError(f"{policy!r} is no file, and no baseline of any world: give a bundle's file, or {EXACT}")
    if name is None:
        raise UsageError(f"say in which world, with --world: {', '.join(worlds.WORLDS)}")
    return worlds.make(name, given)


def _policies(asked: Asked) -> dict[str, evaluate_ranges.Maker | None]:
    """How to make the policy, and each baseline, in a world that was drawn; the policy comes first, None is exact."""
    if isinstance(asked.world, Pricing) and not asked.world.actions.nvec:
        raise _continuous_error()
    found: dict[str, evaluate_ranges.Maker | None] = {}
    policy = asked.policy
    if policy is not None:
        found[asked.label] = lambda _: policy
    elif asked.name == EXACT:
        found[EXACT] = None
    elif asked.name not in BASELINES.get(asked.world.id, ()):
        raise _unknown(asked)
    for name in sorted(BASELINES.get(asked.world.id, ()), key=lambda name: name != asked.name):
        found[name] = partial(baselines.make, name)
    return found


def _unknown(asked: Asked) -> UsageError:
    named = ", ".join((EXACT, *BASELINES.get(asked.world.id, ())))
    return UsageError(
        f"{asked.name!r} is no file, and no baseline of {asked.world.id!r}: give a bundle's file or one of {named}"
    )


def _continuous_error() -> UsageError:
    return UsageError(
        "prices=any lets every price be asked, for which only `trimtab evaluate exact` has an answer: give a list of "
        "prices, such as prices=0.5:4.25:0.25"
    )


def _evaluated(asked: Asked) -> dict[str, Any]:
    world = asked.world
    value_of = "return of an episode" if world.horizon is not None else "average reward of a period"
    head = {"policy": asked.label, "world": world.id, "seed": asked.seed, "value_of": value_of}
    if isinstance(world, Pricing) and not world.actions.nvec:
        return {**head, **_continuum(asked.name, world)}
    names = BASELINES.get(world.id, ()) if world.actions.nvec else ()
    if asked.bundle is None and asked.name not in (EXACT, *names):
        raise _unknown(asked)
    optimum = _optimum(world)
    if asked.name == EXACT and optimum is None:
        exact.solve(world)  # says how large it is, and what to do instead
    others = {name: _baseline(name, asked) for name in names}
    policy = asked.policy
    if policy is not None:
        own = evaluate(policy, world, episodes=asked.episodes, seed=asked.seed)
    elif asked.name == EXACT and optimum is not None:
        own = Evaluation(optimum["value"], (optimum["value"], optimum["value"]), "exact")
    else:
        own = others[asked.name][0]
    bound = _bound(world) if optimum is None else None
    return {
        **head,
        **own.summary(),
        **({"method": optimum["method"]} if asked.name == EXACT and optimum else {}),
        **_missing(own.value, optimum, bound),
        "baselines": {
            name: {**told.summary(), **more, **_missing(told.value, optimum, bound), **_gain(own, told)}
            for name, (told, more) in others.items()
        },
        "optimum": optimum,
        "bound": bound,
    }


def _optimum(world: World) -> dict[str, Any] | None:
    try:
        solution = exact.solve(world)
    except StateSpaceTooLarge:
        return None
    return {"value": solution.value, "method": solution.method}


def _bound(world: World) -> dict[str, Any] | None:
    """A proven upper bound, where one is known."""
    try:
        value, method = exact.bound(world)
    except ValueError:
        return None
    return {"value": value, "method": method}


def _continuum(policy: str, world: Pricing) -> dict[str, Any]:
    if policy != EXACT:
        raise _continuous_error()
    solution = exact.solve(world)
    price, value = best_fixed_price(world)
    optimum = {"value": solution.value, "method": solution.method}
    fixed = {"value": value, "price": price, **_missing(value, optimum, None)}
    return {**optimum, "gap_share": 0.0, "baselines": {BEST_FIXED: fixed}, "optimum": optimum, "bound": None}


def _baseline(name: str, asked: Asked) -> tuple[Evaluation, dict[str, float]]:
    """A baseline's value, and the physical value of its action where it always takes the same."""
    rule = baselines.make(name, asked.world)
    told = evaluate(rule, asked.world, episodes=asked.episodes, seed=asked.seed)
    action = _only_action(rule, asked.world)
    return told, {} if action is None else {asked.world.actions.name: action}


def _only_action(policy: Policy, world: World) -> float | None:
    table = tabulated(policy, world)
    if table is None or world.actions.values is None or np.ndim(world.actions.values) != 1:
        return None
    taken = np.flatnonzero(table.max(axis=0))
    return float(world.actions.values[taken[0]]) if len(taken) == 1 else None


def _missing(
    value: float, optimum: Mapping[str, Any] | None, bound: Mapping[str, Any] | None
) -> dict[str, float | None]:
    """What is missing to the optimum, or else to the bound, as a share of it."""
    if optimum is None and bound is not None:
        return {"gap_share": None, "gap_to_bound_share": _share(value, bound)}
    return {"gap_share": None if optimum is None else _share(value, optimum)}


def _share(value: float, best: Mapping[str, Any]) -> float | None:
    return float((best["value"] - value) / abs(best["value"])) if best["value"] else None


def _gain(own: Evaluation, other: Evaluation) -> dict[str, Any]:
    """How much better the policy is than a baseline, with its interval; pair by pair where both were simulated."""
    gain, half = paired_gain(own, other)
    scale = abs(other.value) or 1.0
    return {"gain_share": gain / scale, "gain_interval": ((gain - half) / scale, (gain + half) / scale)}


def _page(asked: Asked, result: Mapping[str, Any]) -> Page:
    """Values, learning curve, and what the policy does beside what would be best."""
    world, bundle = asked.world, asked.bundle
    rows = [(asked.label[:12] if bundle else asked.name, result), *_others(result)]
    maps = []
    if world.actions.nvec:
        policy = asked.policy or (None if asked.name == EXACT else baselines.make(asked.name, world))
        if policy is not None:
            maps.append(policy_map(policy, world, "as served" if bundle else asked.name))
        if result["optimum"] is not None:
            maps.append(_optimal_map(world))
    told = {name: value for name, value in vars(world.params).items() if np.size(value) == 1 and value is not None}
    return Page(
        f"{asked.label[:12] if bundle else asked.name} in {world.id}",
        {"policy": asked.label, "world": world.id, **told},
        [(name, one["value"], _interval(one), _percent(one.get("gap_share"))) for name, one in rows],
        maps=on_one_scale([found for found in maps if found is not None]),
    )


def _optimal_map(world: World) -> Map | None:
    try:
        return policy_map(optimal_policy(world), world, "optimal")
    except (StateSpaceTooLarge, ValueError):
        return None


def _others(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, told) for name, told in result["baselines"].items() if name != result["policy"]]


def _interval(told: Mapping[str, Any]) -> tuple[float, float]:
    low, high = told.get("interval", (told["value"], told["value"]))
    return low, high


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _show(out: Console, result: Mapping[str, Any]) -> None:
    bound = result["bound"]
    missing = "gap_share" if bound is None else "gap_to_bound_share"
    rows = [
        (
            evaluate_ranges.short(name),
            told["value"],
            gap(told.get(missing)),
            _how(told),
            _better(told) if told is not result else "",
        )
        for name, told in [(result["policy"], result), *_others(result)]
    ]
    best = bound or result["optimum"]
    if best is not None and result["policy"] != EXACT:
        rows.append(("bound" if bound else EXACT, best["value"], gap(0.0), best["method"], ""))
    out.print(f"{result['world']}: {result['value_of']}, and what is missing to the {'bound' if bound else 'optimum'}")
    out.print(table(("policy", "value", "gap", "", ""), rows))
    for name in ("html", "plot"):
        if name in result:
            out.print(f"drawn in {result[name]}")


def _how(told: Mapping[str, Any]) -> str:
    low, high = _interval(told)
    return told.get("method", "") if low == high else f"{told['method']}, 95 % interval {low:.6g} to {high:.6g}"


def _better(told: Mapping[str, Any]) -> str:
    """Of two simulated values: the difference on common chance, which is known far better than either value."""
    if told.get("method") != "simulation":
        return ""
    low, high = told["gain_interval"]
    return f"the policy earns {told['gain_share']:+.2%} more ({low:+.2%} to {high:+.2%})"
