"""Bundles looked into: the card, the policy as a map, and what it is worth over the parameters of the world."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct

from agents.bundle import BundleError, Card
from agents.policy import Array
from agents.worth import OPTIMUM, Rival, Worth, worth
from envs.tabulate import StateSpaceTooLarge
from service.deciding.arms import arm_of
from service.deciding.decide import Arm, ServedPoint
from service.deciding.points import Point
from service.deciding.registry import Registry
from service.deciding.store import Store
from service.http.api import Api
from service.http.operations import Answer, Call, Operation, Parameter, reply
from service.http.problems import Fault, Kind, ProblemError, invalid, shown

BASELINE = "baseline"
"""What the point's rule is called where bundles are named by their digests."""

Ranges: TypeAlias = Mapping[str, tuple[float, float]]

_CELLS = 41
_RIVALS = 6
_KEPT = 64


class BundleAnswer(Struct, frozen=True):
    """A bundle as it was registered."""

    digest: str
    at: float
    actor: str
    note: str
    card: Card


class Axis(Struct, frozen=True):
    """What varies along one side of a figure."""

    name: str
    values: list[float]


class MapAnswer(Struct, frozen=True):
    """The mean action of a policy over two entries of what it observes; the others stand still.

    Attributes:
        cells: For each value of `down` a row over the values of `across`.
        held: The values of the entries that stand still.
        entries: What can be put on the axes.
    """

    across: Axis
    down: Axis
    cells: list[list[float | None]]
    unit: str
    held: dict[str, float]
    entries: list[str]


class WorthAnswer(Struct, frozen=True):
    """What the optimum, the baseline and bundles are worth over the parameters of a point's world.

    Attributes:
        unit: `episode`, or `period` where the world never ends.
        axes: The varied parameters with their values; none where the world is taken as declared.
        values: `optimum`, `baseline` or a digest → one value for each cell, the last axis fastest; empty where the
            world is too large to be solved at once, which `said` says.
    """

    point: str
    unit: str
    axes: list[Axis]
    values: dict[str, list[float]]
    said: str


class Bundles:
    """The handlers that look into bundles. What is computed depends on content alone, so it is kept."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._worths: dict[tuple[str, str, str], tuple[Point, Worth | str]] = {}

    async def card(self, call: Call) -> Answer:
        """A bundle's card: what it was made for, how, and what it was measured to do."""
        point, digest = self._api.point(call.path["point"]).point, call.path["digest"]

        def look(store: Store) -> BundleAnswer | None:
            found = next((one for one in store.registry.bundles(point.name) if one.digest == digest), None)
            return None if found is None else BundleAnswer(digest, found.at, found.actor, found.note, found.card)

        answer = await self._api.store.ask(look)
        if answer is None:
            raise _unknown(point, digest)
        return reply(answer)

    async def map(self, call: Call) -> Answer:
        """The policy as a map: its mean action over two entries of the observation, by default the first two."""
        served = self._api.point(call.path["point"])
        arm = await self._arm(served, call.path["digest"])
        entries = [*(entry.name for entry in served.point.context), *(arm.estimates or ())]
        across = call.query.get("across", entries[min(1, len(entries) - 1)])
        down = call.query.get("down", entries[0])
        for name, value in (("across", across), ("down", down)):
            if value not in entries:
                raise invalid(name, f"one of: {', '.join(entries)}", value)
        return reply(await self._api.archive.ask(lambda _: _map(served, arm, across, down)))

    async def worth(self, call: Call) -> Answer:
        """What policies are worth, exactly, over the declared ranges and a little beyond."""
        served = self._api.point(call.path["point"])
        asked = call.query.get("policies") or ",".join((BASELINE, *served.release.bundles))
        names = list(dict.fromkeys(asked.split(",")))
        if len(names) > _RIVALS:
            raise invalid("policies", f"at most {_RIVALS} digests, or {BASELINE}", asked)
        arms = {name: await self._arm(served, name) for name in names}
        point = served.point
        ranges = _covered(point, list(arms.values()))

        def look(_: Store) -> dict[str, Worth | str]:
            return {name: self._worth(point, ranges, name, arm) for name, arm in arms.items()}

        found = await self._api.archive.ask(look)
        said = next((what for what in found.values() if isinstance(what, str)), "")
        known = {name: what for name, what in found.items() if isinstance(what, Worth)}
        values = {name: list(what.values[name]) for name, what in known.items()}
        axes: list[Axis] = []
        for what in known.values():
            values[OPTIMUM] = list(what.values[OPTIMUM])
            axes = [Axis(name, list(places)) for name, places in what.axes]
        unit = "episode" if point.world.horizon is not None else "period"
        return reply(WorthAnswer(point.name, unit, axes, values, said))

    def _worth(self, point: Point, ranges: Ranges, name: str, arm: Arm) -> Worth | str:
        """The worth of one policy, kept; in words, why there is none."""
        key = (point.name, arm.name, repr(ranges))
        kept = self._worths.get(key)
        if kept is not None and kept[0] is point:
            return kept[1]
        found: Worth | str
        try:
            found = worth(point.world, ranges, {name: Rival(arm.policy, arm.bounds)})
        except (StateSpaceTooLarge, ValueError) as error:
            found = str(error)
        if len(self._worths) >= _KEPT:
            self._worths.clear()
        self._worths[key] = (point, found)
        return found

    async def _arm(self, served: ServedPoint, name: str) -> Arm:
        """A policy by its digest, or the rule."""
        if name == BASELINE:
            return served.baseline
        known = {arm.name: arm for arm in (served.incumbent, served.candidate) if arm is not None}
        if name in known:
            return known[name]

        def fetch(store: Store) -> Arm | None:
            registered = {bundle.digest for bundle in store.registry.bundles(served.point.name)}
            return _fetched(store.registry, served.point, name) if name in registered else None

        arm = await self._api.archive.ask(fetch)
        if arm is None:
            raise _unknown(served.point, name)
        return arm

    def operations(self) -> list[Operation]:
        """What can be asked about bundles."""
        problems: tuple[Kind, ...] = ("unknown-point", "unknown-policy", "unavailable")
        axis = {"type": "string"}
        axes = (Parameter("across", axis, "The horizontal entry"), Parameter("down", axis, "The vertical entry"))
        which = Parameter("policies", axis, f"Digests, joined by commas, or {BASELINE}; all that serve, where left out")
        base = "/v1/policies/{point}/bundles/{digest}"
        asked: dict[str, Any] = {"problems": (*problems, "invalid-request")}
        return [
            Operation("GET", base, "Look at a bundle", self.card, BundleAnswer, problems=problems, scope="read").tagged(
                "policies"
            ),
            Operation(
                "GET", f"{base}/map", "A policy as a map", self.map, MapAnswer, query=axes, **asked, scope="read"
            ).tagged("policies"),
            Operation(
                "GET",
                "/v1/points/{point}/worth",
                "What policies are worth",
                self.worth,
                WorthAnswer,
                query=(which,),
                **asked,
                scope="read",
            ).tagged("points"),
        ]


def _covered(point: Point, arms: Sequence[Arm]) -> Ranges:
    """The declared ranges, and what bundles were trained for beyond them."""
    found = dict(point.spec.ranges)
    for name, (low, high) in point.spec.ranges.items():
        ends = [arm.bounds[name] for arm in arms if name in arm.bounds]
        lows, highs = ([low, *(end[0] for end in ends)], [high, *(end[1] for end in ends)])
        found[name] = (min(lows), max(highs))
    return found


def _fetched(registry: Registry, point: Point, digest: str) -> Arm | None:
    try:
        return arm_of(registry, point, digest)
    except BundleError:
        return None


def _unknown(point: Point, digest: str) -> ProblemError:
    fault = Fault("digest", f"a digest that GET /v1/policies/{point.name} lists, or {BASELINE}", shown(digest))
    return ProblemError("unknown-policy", f"No bundle {shown(digest)} is registered for {point.name!r}.", fault)


def _map(served: ServedPoint, arm: Arm, across: str, down: str) -> MapAnswer:
    point, names = served.point, [entry.name for entry in served.point.context]
    estimates = served.believed(arm, None) or {}
    held = {entry.name: _middle(entry.low, entry.high) for entry in point.context} | estimates
    axes = {name: _axis(point, arm, name) for name in (down, across)}
    grid = np.array([(i, j) for i in axes[down] for j in axes[across]])
    columns = {name: np.full(len(grid), value) for name, value in held.items()}
    columns[down], columns[across] = grid[:, 0], grid[:, 1]
    rows = np.stack([columns[name] for name in names], axis=1).astype(np.float32)
    mask = np.array(point.world.allowed_of(rows))
    possible = mask.any(axis=1)
    mask[~possible] = True
    observed = np.stack([columns[name] for name in (*names, *estimates)], axis=1).astype(np.float32)
    found = arm.policy.probabilities(observed if estimates else rows, mask)
    # Where an action is a product of choices, the map shows their average.
    mean = (found.reshape(len(rows), point.factors, -1) @ _numbers(point)).mean(axis=1)
    cells = np.where(possible, mean, np.nan).reshape(len(axes[down]), len(axes[across]))
    kept = {name: value for name, value in held.items() if name not in (across, down)}
    return MapAnswer(
        across=Axis(across, axes[across].tolist()),
        down=Axis(down, axes[down].tolist()),
        cells=[[None if np.isnan(cell) else float(cell) for cell in row] for row in cells],
        unit=point.world.actions.unit,
        held={name: float(value) for name, value in kept.items()},
        entries=list(held),
    )


def _numbers(point: Point) -> Array:
    """One number for each action: its value, or how many components it acts on."""
    return np.array([float(len(action)) if isinstance(action, list) else float(action) for action in point.actions])


def _axis(point: Point, arm: Arm, name: str) -> Array:
    """Values of an entry: every whole one where they are few, else evenly spread."""
    entry = next((entry for entry in point.context if entry.name == name), None)
    low, high = arm.bounds.get(name, (0.0, 1.0)) if entry is None else (float(entry.low), float(entry.high))
    low, high = (low if np.isfinite(low) else 0.0), (high if np.isfinite(high) else low + 100.0)
    if entry is not None and entry.whole:
        step = max(1, int(np.ceil((high - low) / _CELLS)))
        return np.arange(low, high + 1e-9, step)
    return np.linspace(low, high, _CELLS)


def _middle(low: float, high: float) -> float:
    if not np.isfinite(low):
        return 0.0 if not np.isfinite(high) else high
    return low if not np.isfinite(high) else float(np.floor((low + high) / 2))
