"""How soon the right policy is held again after the world has changed, and how good it is before.

In process: transitions feed a hazard filter, its estimate fills the parameters of a policy, and the quality of the
policy held is its exact value in the true world, relative to the exact optimum there (costs: optimum over value). So
there is no noise from outcomes but what goes through the estimate. N95 is the number of decisions after the change from
which on the mean quality over the replications stays at least .95.

    python benchmarks/adaptation.py --quick --json                      pricing, sensitivity x 2, re-solved exact tables
    python benchmarks/adaptation.py [--case NAME ...|all] [--policy exact|bundle] [--bundles FOLDER] [--plot FILE]
    python benchmarks/adaptation.py --commands                          how the bundles are trained

`--ablations` leaves out one part of the method after the other. Where nothing changes: benchmarks/calm.py.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agents.bundle import unpack
from agents.policy import sample_rows
from agents.ranges import Conditioned
from agents.runtime import load
from envs import exact
from envs.atoms import Atoms, Prior
from envs.dynamics import Array, World
from envs.hazard import Hazard, HazardFilter
from envs.worlds import make

BEFORE, STEADY = 400, 200
STEP, STEPS = 0.05, {"mean": 0.02, "wear": 0.25, "jump": 0.1, "shape": 0.05, "scale": 0.025}
SEED = 20_261
DIP = 0.02


@dataclass(frozen=True)
class Case:
    """One change of one world, and what must be reached.

    Args:
        world: its id.
        shift: parameters after the change; empty for none.
        params: parameters before.
        bundle: name of the bundle that serves it.
        after: decisions that are followed after the change.
        level: the quality that must be held again.
        n: within so many decisions (periods, where several entities share a filter).
        before: least quality before the change.
        entities: how many share the filter.
        dispersion: variance of demand over its mean.
        absurd: share of outcomes that are absurd.
    """

    world: str
    bundle: str
    shift: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    after: int = 400
    level: float = 0.95
    n: int | None = None
    before: float | None = None
    entities: int = 1
    dispersion: float = 1.0
    absurd: float = 0.0


@dataclass(frozen=True)
class Training:
    """What a bundle is trained on."""

    world: str
    params: Mapping[str, Any]
    ranges: Mapping[str, tuple[float, float]]
    minutes: float
    seed: int = 0

    def command(self, name: str) -> str:
        """The command that trains it."""
        given = ",".join(f"{k}={json.dumps(v)}" for k, v in self.params.items())
        ranges = ",".join(f"{k}={low:g}:{high:g}" for k, (low, high) in self.ranges.items())
        params = f"--params '{given}' " if given else ""
        budget = f"--minutes {self.minutes:g} --seed {self.seed}"
        return f"trimtab train {self.world} {params}--ranges {ranges} {budget} --out {name}.bundle"


LADDER = {"prices": {"geometric": [0.1, 8.0, 41]}}
# A shelf of the size that is wanted, not of any that could be: the tables stay small.
_SHELF_2 = {"lead_time": 2, "max_order": 15, "capacity": 60}
_SHELF_4 = {"lead_time": 4, "max_order": 15, "capacity": 80}
TRAININGS = {
    "pricing": Training("pricing", LADDER, {"volume": (1.0, 6.0), "sensitivity": (0.4, 2.5)}, 5),
    "inventory-2": Training("inventory", _SHELF_2, {"mean": (2.5, 10.0)}, 4),
    "inventory-4": Training("inventory", _SHELF_4, {"mean": (2.5, 10.0)}, 6),
    "maintenance": Training("maintenance", {}, {"jump": (0.05, 0.95)}, 5, seed=3),
    "replacement": Training("replacement", {}, {"scale": (5.0, 40.0), "shape": (1.5, 6.0)}, 2),
}
_PRICING = Case("pricing", "pricing", params=LADDER, before=0.991)
_TWO = Case("inventory", "inventory-2", params=_SHELF_2, before=0.984)
_FOUR = replace(_TWO, bundle="inventory-4", params=_SHELF_4, n=105)
CASES = {
    "pricing x 1.5": replace(_PRICING, shift={"sensitivity": 1.5}, n=75),
    "pricing x 2": replace(_PRICING, shift={"sensitivity": 2.0}, n=70),
    "pricing x 0.5": replace(_PRICING, shift={"sensitivity": 0.5}, n=60),
    "inventory 5 to 7": replace(_TWO, shift={"mean": 7.0}, n=70),
    "inventory 5 to 3.5": replace(_TWO, shift={"mean": 3.5}, n=65),
    "inventory 5 to 7, lead time 4": replace(_FOUR, shift={"mean": 7.0}),
    "inventory 5 to 3.5, lead time 4": replace(_FOUR, shift={"mean": 3.5}),
    "maintenance jump .2 to .8": Case("maintenance", "maintenance", {"jump": 0.8}, level=0.99, n=40, after=300),
    "replacement 20 to 10": Case("replacement", "replacement", {"scale": 10.0}, entities=20, n=25, after=100),
    "pricing, variance 2.5 x mean": replace(_PRICING, shift={}, dispersion=2.5, before=0.98, after=0),
    "inventory, variance 2.5 x mean": replace(_TWO, shift={}, dispersion=2.5, before=0.98, after=0),
    "pricing x 2, 1 % absurd": replace(_PRICING, shift={"sensitivity": 2.0}, absurd=0.01, before=None),
}


@dataclass(frozen=True)
class Setting:
    """What is tried: the method as it is, or with something left out."""

    hazard: Hazard = field(default_factory=Hazard)
    prior: Prior = field(default_factory=Prior)
    act_on: Literal["median", "mode"] = "median"

    def values(self, live: HazardFilter) -> Array:
        """The parameters (d,) for which a filter's policy is held."""
        if self.act_on == "median":
            return live.estimate().values
        atoms, found = live.atoms, live.atoms.likelihood.nominal.copy()
        for factor, weights in zip(atoms.factors, live.snapshot()["weights"], strict=True):
            found[factor.place] = factor.values[int(np.argmax(weights)), factor.place]
        return np.array([found[atoms.likelihood.columns.index(column)] for column in atoms.columns])


FULL = Setting()
ABLATIONS = {
    "full": FULL,
    "no moderate steps": replace(FULL, hazard=replace(FULL.hazard, moderate=0.0)),
    "no redraws": replace(FULL, hazard=replace(FULL.hazard, anew=0.0)),
    "hazards / 4": replace(FULL, hazard=FULL.hazard.shared(4)),
    "hazards x 4": replace(FULL, hazard=replace(FULL.hazard, anew=4 * FULL.hazard.anew, moderate=0.008)),
    "steps half as wide": replace(FULL, prior=replace(FULL.prior, local=FULL.prior.local / 2)),
    "Poisson only": replace(FULL, prior=replace(FULL.prior, dispersions=(1.0,))),
    "no floor": replace(FULL, prior=replace(FULL.prior, floor=1e-200)),
    "mode, not median": replace(FULL, act_on="mode"),
    "prior half as wide": replace(FULL, prior=replace(FULL.prior, spread=0.4, probability_spread=0.75)),
}


def resolved(world: World) -> Array:
    """The exact optimum of a world as probabilities (S, a)."""
    return exact.solve(world).policy


def served(folder: Path, name: str) -> tuple[Callable[[World, Array], Array], tuple[str, ...], Array]:
    """A bundle's probabilities (S, a) given estimates; its parameters and the range (d, 2) that it was trained on."""
    policy = load(unpack((folder / f"{name}.bundle").read_bytes()))
    columns = policy.conditioned
    fields = {entry.name: entry for entry in policy.card.observation}
    limits = np.array([(fields[column].low, fields[column].high) for column in columns])

    def table(world: World, values: Array) -> Array:
        states = exact.states(world)
        inside = np.clip(values, limits[:, 0], limits[:, 1])
        return Conditioned(policy, inside).probabilities(world.observe(states), np.array(world.allowed(states)))

    return table, columns, limits


class Held:
    """Policies by estimate, each made once: estimates are rounded to a fine lattice."""

    def __init__(self, case: Case, world: World, columns: tuple[str, ...], folder: Path | None) -> None:
        self.world, self.columns = world, columns
        self._case, self._folder = case, folder
        self._greedy = case.bundle == "inventory-4"
        self._order = columns
        if folder is not None:
            self._table, self._order, _ = served(folder, case.bundle)
        self._tables: dict[tuple[int, ...], Array] = {}
        self._quality: dict[tuple[tuple[int, ...], int], float] = {}
        self._worlds: list[tuple[World, float]] = []

    def truth(self, world: World) -> int:
        """A true world, and its optimum."""
        self._worlds.append((world, exact.solve(world).value))
        return len(self._worlds) - 1

    def key(self, values: Array) -> tuple[int, ...]:
        """The cell of the lattice; parameters that the policy does not take do not count."""
        cell = np.round(np.log(values) / self._steps).astype(int)
        return tuple(np.where([name in self._order for name in self.columns], cell, 0).tolist())

    @property
    def _steps(self) -> Array:
        """Steps of the lattice in the log: coarse where the policy hardly depends on the parameter."""
        return np.array([STEPS.get(name.split("[")[0], STEP) for name in self.columns])

    def table(self, key: tuple[int, ...]) -> Array:
        """Probabilities (S, a), or the best action (S,) where there are very many states."""
        if key not in self._tables:
            values = np.minimum(np.exp(np.array(key) * self._steps), self._most())
            params = dict(zip(self.columns, values, strict=True))
            world = self.world.with_params(_lists(params))
            if self._folder is None:
                solution = exact.solve(world)
                self._tables[key] = solution.actions if self._greedy else solution.policy
            else:
                rows = self._table(self.world, np.array([params[name] for name in self._order]))
                self._tables[key] = rows.argmax(axis=1) if self._greedy else rows
        return self._tables[key]

    def _most(self) -> Array:
        return np.array([0.98 if name.startswith(("wear", "jump")) else np.inf for name in self.columns])

    def quality(self, key: tuple[int, ...], truth: int) -> float:
        """Value of the policy in the true world relative to the optimum there, costs the other way round."""
        if (key, truth) not in self._quality:
            world, best = self._worlds[truth]
            value = self._value(world, self.table(key))
            self._quality[key, truth] = best / value if best < 0 else value / best
        return self._quality[key, truth]

    def _value(self, world: World, table: Array) -> float:
        if self._greedy:
            return exact.rule_value(world, lambda state: table[world.place(state)])  # type: ignore[attr-defined]
        return exact.policy_value(world, table)


def _lists(params: Mapping[str, float]) -> dict[str, Any]:
    """Columns of a list put together again."""
    found: dict[str, Any] = {}
    for column, value in params.items():
        name, _, place = column.partition("[")
        found[name] = [*found.get(name, []), value] if place else value
    return found


@dataclass(frozen=True)
class Curve:
    """Mean quality by decision, before and after the change, with that of the frozen policy after it."""

    quality: Array
    frozen: float
    before: float
    n: int | None
    dip: float

    def summary(self) -> dict[str, Any]:
        """The figures, without the curve."""
        return {"before": self.before, "n": self.n, "worst_dip": self.dip, "frozen": self.frozen}


def play(case: Case, setting: Setting, replications: int, seed: int, folder: Path | None) -> tuple[Array, float]:
    """Quality (replications, decisions) of the policy held, and that of the frozen policy after the change."""
    training = TRAININGS[case.bundle]
    world = make(case.world, dict(case.params), dict(training.ranges))
    atoms = Atoms(world, prior=setting.prior, ranges=training.ranges)
    hazard = replace(setting.hazard, threshold=0.0).shared(case.entities)
    filters = [HazardFilter(atoms, hazard) for _ in range(replications)]
    held = Held(case, world, atoms.columns, folder)
    truths = [world, world.with_params(dict(case.shift))]
    places = [held.truth(truth) for truth in truths]
    rng = np.random.default_rng(seed)
    entities, total = case.entities, BEFORE + case.after
    state = world.initial(replications * entities, rng)
    quality = np.empty((replications, total))
    for decision in range(total):
        now = int(decision >= BEFORE)
        keys = [held.key(setting.values(live)) for live in filters]
        quality[:, decision] = [held.quality(key, places[now]) for key in keys]
        action = _chosen(held, keys, state, entities, rng)
        state = _step(case, truths[now], state, action, filters, rng)
    frozen = held.quality(held.key(_values(world, atoms.columns)), places[1])
    return quality, frozen


def _values(world: World, columns: tuple[str, ...]) -> Array:
    names = [column.partition("[") for column in columns]
    return np.array(
        [float(np.ravel(getattr(world.params, name))[int(place[:-1]) if place else 0]) for name, _, place in names]
    )


def _chosen(
    held: Held, keys: list[tuple[int, ...]], state: Array, entities: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    rows = held.world.place(state)  # type: ignore[attr-defined]
    if held.world.horizon is not None:
        rows = rows + (state[:, 1] * (held.world.params.stock + 1)).astype(np.int64)
    each = [held.table(key)[rows[i * entities : (i + 1) * entities]] for i, key in enumerate(keys)]
    found = np.concatenate(each)
    if found.ndim == 1:
        return found.astype(np.int64)
    return sample_rows(found, rng.random(len(found)))


def _step(
    case: Case, truth: World, state: Array, action: Array, filters: list[HazardFilter], rng: np.random.Generator
) -> Array:
    """One decision of every entity: the filters learn, episodes that end begin anew."""
    n, chance = len(state), truth.draw(len(state), rng)
    if case.dispersion > 1:
        truth = _scattered(case, truth, state, action, rng)
    told = {entry.name: truth.outcome(state, action, chance)[entry.name] for entry in truth.outcomes}
    seen = truth.observe(state)
    if case.absurd:
        wrong = rng.random(n) < case.absurd
        told = {name: np.where(wrong, 1000.0, values) for name, values in told.items()}
    for i, live in enumerate(filters):
        part = slice(i * case.entities, (i + 1) * case.entities)
        live.learn_many(seen[part], action[part], {name: values[part] for name, values in told.items()})
    following, _, over = truth.step(state, action, chance)
    return np.where(over[:, None], truth.initial(n, rng), following)


def _scattered(case: Case, truth: World, state: Array, action: Array, rng: np.random.Generator) -> World:
    """The same mean demand with more variance: a Poisson rate that is itself gamma distributed."""
    name = "volume" if case.world == "pricing" else "mean"
    level = getattr(truth.params, name)
    rate = truth.rate(state[:, 1].astype(int), truth.price(action)) if name == "volume" else np.full(len(state), level)  # type: ignore[attr-defined]
    spread = case.dispersion - 1.0
    return truth.with_params({name: level * rng.gamma(rate / spread) * spread / rate})


def curve(case: Case, setting: Setting, replications: int, seed: int, folder: Path | None) -> Curve:
    """The whole curve of a case and what it comes to."""
    quality, frozen = play(case, setting, replications, seed, folder)
    mean = quality.mean(axis=0)
    after = mean[BEFORE:]
    dip = float(max(0.0, (frozen - after).max())) if len(after) else 0.0
    return Curve(mean, frozen, float(mean[BEFORE - STEADY : BEFORE].mean()), reached(after, case.level), dip)


def reached(after: Array, level: float) -> int | None:
    """The first decision from which on quality stays at least at the level; None if it never does.

    >>> reached(np.array([0.9, 0.96, 0.94, 0.97, 0.99]), 0.95)
    3
    """
    below = np.flatnonzero(after < level)
    if not len(below):
        return 0 if len(after) else None
    return int(below[-1]) + 1 if below[-1] < len(after) - 1 else None


def misses(name: str, case: Case, found: Curve) -> list[str]:
    """Limits that were not kept."""
    bad = []
    if case.before is not None and found.before < case.before:
        bad.append(f"{name}: {found.before:.4f} before the change where {case.before} was asked for")
    if case.n is not None and (found.n is None or found.n > case.n):
        bad.append(f"{name}: {case.level} again after {found.n} where {case.n} was asked for")
    if found.dip > DIP:
        bad.append(f"{name}: {found.dip:.3f} below the frozen policy where {DIP} was asked for")
    return bad


def quick(given: argparse.Namespace) -> dict[str, Any]:
    """Pricing, sensitivity x 2, with re-solved exact tables."""
    found = curve(replace(CASES["pricing x 2"], after=250), FULL, given.replications or 20, given.seed, None)
    return {"policy": "exact", "before": round(found.before, 4), "n95": found.n, "worst_dip": round(found.dip, 4)}


def full(given: argparse.Namespace, folder: Path | None) -> tuple[dict[str, Any], list[str]]:
    """Every chosen case under every chosen setting."""
    names = list(CASES) if "all" in given.case else given.case
    rows: dict[str, Any] = {}
    curves: dict[str, list[float]] = {}
    bad: list[str] = []
    for label in list(ABLATIONS) if given.ablations else ["full"]:
        for name in names:
            case = CASES[name]
            found = curve(case, ABLATIONS[label], given.replications or 60, given.seed, folder)
            rows[f"{name} | {label}"] = found.summary()
            curves[f"{name} | {label}"] = np.round(found.quality, 5).tolist()
            bad += misses(name, case, found) if label == "full" else []
            if not given.json:
                again = "-" if not case.after else "never" if found.n is None else str(found.n)
                print(f"{name:34} {label:22} before {found.before:.4f}  N {again:>5}  dip {found.dip:.3f}", flush=True)
    if given.plot:
        Path(given.plot).write_bytes(drawn(curves, rows))
    return rows, bad


def drawn(curves: Mapping[str, list[float]], rows: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Mean quality before and after each change as a PNG, one panel for each policy that serves."""
    cases = {label: CASES[label.split(" | ")[0]] for label in curves}
    changed = {label: case for label, case in cases.items() if case.after}
    panels = list(dict.fromkeys(case.bundle for case in changed.values()))
    figure = Figure(figsize=(12.0, 2.2 * len(panels)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, bundle in zip(np.ravel(figure.subplots(len(panels), 1)), panels, strict=True):
        for label, case in ((label, case) for label, case in changed.items() if case.bundle == bundle):
            since = np.arange(len(curves[label])) - BEFORE
            (line,) = axes.plot(since, curves[label], label=label.removesuffix(" | full"))
            axes.hlines(rows[label]["frozen"], 0, case.after, line.get_color(), "dotted", linewidth=0.8)
            axes.axhline(case.level, color="#999999", linewidth=0.6)
        axes.axvline(0, color="#999999", linewidth=0.6)
        axes.set_xlim(-STEADY, max(case.after for case in changed.values()))
        axes.set_ylim(0.35, 1.01)
        axes.set_ylabel("quality held")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.set_xlabel("decisions (for replacement: periods of the fleet) since the change; dotted: the frozen policy")
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", nargs="+", default=["all"], choices=["all", *CASES], metavar="NAME")
    parser.add_argument("--policy", choices=["exact", "bundle"], default="exact")
    parser.add_argument("--bundles", default="bundles", help="folder that holds the trained bundles")
    parser.add_argument("--replications", type=int, default=None)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--commands", action="store_true")
    parser.add_argument("--plot", default=None, help="file for a picture of the curves")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and fail where a limit was not kept."""
    given = arguments()
    if given.commands:
        print("\n".join(training.command(name) for name, training in TRAININGS.items()))
        return
    if given.quick:
        print(json.dumps(quick(given)))
        return
    found, bad = full(given, Path(given.bundles) if given.policy == "bundle" else None)
    if given.json:
        print(json.dumps({"policy": given.policy, "cases": found, "missed": bad}))
    if bad:
        raise SystemExit("missed: " + "; ".join(bad))


if __name__ == "__main__":
    main()
