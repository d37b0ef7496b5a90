"""The manifest: which models and points there are, validated before anything runs.

Every error names the path in the TOML file, what was given there and what is allowed.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import msgspec

from agents.baselines import BASELINES
from agents.policy import Exploration
from envs import worlds
from envs.dynamics import World
from online import durations
from online.bandit_specs import BanditSpec, bandit_spec
from online.outcomes import OutcomeSpec
from online.reading import SpecError
from online.sources import SourceSpec
from online.specs import ModelSpec, model_spec
from service.deciding.releases import Mode
from service.forecast_specs import ForecastSpec, ForecastTable, check_forecasts, forecast_specs
from service.http.decoding import explain
from service.http.problems import Fault, shown

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_NAME_ALLOWED = "a name of lower-case letters, digits, - and _, beginning with a letter, at most 63 long"
DEFAULT_SHARE = 0.02
_REDIS = ("redis://", "rediss://", "unix://", "$")

Number: TypeAlias = int | float


_NO_BANDITS: Mapping[str, BanditSpec] = MappingProxyType({})


class ManifestError(ValueError):
    """A manifest that cannot be served; one fault, with its path."""

    def __init__(self, path: str, allowed: str, given: Any = msgspec.UNSET, *, shown_as: str = "") -> None:
        self.fault = Fault(path, allowed, shown_as or shown(given))
        super().__init__(str(self.fault))


@dataclass(frozen=True)
class GateSpec:
    """What a candidate must show: no loss beyond `tolerance` (a share of the incumbent's value), at `confidence`, while
    it serves a share `canary` of the units."""

    tolerance: float = 0.01
    canary: float = 0.1
    confidence: float = 0.95


@dataclass(frozen=True)
class AdaptSpec:
    """How a point follows a changing world.

    Attributes:
        estimates: Whether live estimates are learned from all keys together, from each key alone, or not at all.
        cooldown, per_day: The service retrains by itself so many seconds apart, at most so many times a day; with 0
            it leaves that to people.
        settle: Seconds between a confirmed suspicion and the recalibration, so that the estimate can settle.
        watch: Seconds for which a release keeps its predecessor beside it.
        minutes: Budget of a retraining.
        models: Prediction models whose drift says that this point's world may have changed.
        explore: Share that is explored while the outcomes disagree with the world whatever its parameters, where that
            is more than the point's own.
    """

    estimates: Literal["pooled", "key", "off"] = "pooled"
    cooldown: float = 3600.0
    per_day: int = 6
    settle: float = 60.0
    watch: float = 86_400.0
    minutes: float = 2.0
    models: tuple[str, ...] = ()
    explore: float = 0.0


@dataclass(frozen=True)
class PointSpec:
    """One decision point as declared.

    Attributes:
        world: Id of the world whose decisions these are.
        params: The world's parameters as written; `envs.worlds.make` reads them.
        ranges: Parameter → (low, high): what policies train over, and see in their observation.
        key: What a request's `key` is (`sku`); `None` where there are no entities and `key` must be left out.
        mode: What serves until the first release says otherwise.
        bandits: Those that learn from this point's rewards, and may serve it.
        informative: Whether what the exploration costs is spent on what teaches most about the world's parameters.
        forecasts: Entries of the observation that prediction models foretell, by name.
        baseline: Name of the rule (or of one of the bandits: `bandit:NAME`) that serves where no bundle does, or the
            value of a fixed action.
    """

    name: str
    world: str
    baseline: str | float
    params: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    key: str | None = None
    mode: Mode = "apprentice"
    exploration: Exploration = field(default_factory=lambda: Exploration(0.0))
    outcome: OutcomeSpec = field(default_factory=OutcomeSpec)
    gate: GateSpec = GateSpec()
    adapt: AdaptSpec = AdaptSpec()
    bandits: Mapping[str, BanditSpec] = field(default_factory=dict)
    informative: bool = False
    forecasts: Mapping[str, ForecastSpec] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What a service serves, and the streams of others that it follows: models, points, sources, bandits by name."""

    models: Mapping[str, ModelSpec] = field(default_factory=lambda: MappingProxyType({}))
    points: Mapping[str, PointSpec] = field(default_factory=lambda: MappingProxyType({}))
    sources: Mapping[str, SourceSpec] = field(default_factory=lambda: MappingProxyType({}))
    bandits: Mapping[str, BanditSpec] = field(default_factory=lambda: MappingProxyType({}))


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all tables share: a name that is not declared is refused."""


class _ExplorationTable(_Table, frozen=True):
    share: float
    over: Literal["allowed", "neighbours", "informative"] | None = None


class _OutcomeTable(_Table, frozen=True):
    wait: str | Number = "1d"
    default: Number | None = None
    aggregate: Literal["sum", "mean", "last", "min", "max"] = "sum"


class _GateTable(_Table, frozen=True):
    tolerance: Number = 0.01
    canary: Number = 0.1
    confidence: Number = 0.95


class _AdaptTable(_Table, frozen=True):
    estimates: Literal["pooled", "key", "off"] = "pooled"
    cooldown: str | Number = "1h"
    per_day: int = 6
    settle: str | Number = "1min"
    watch: str | Number = "1d"
    minutes: Number = 2.0
    models: list[str] = []
    explore: Number = 0.0


class _PointTable(_Table, frozen=True):
    world: str
    params: dict[str, Any] = {}
    ranges: dict[str, tuple[Number, Number]] = {}
    key: str | None = None
    mode: Mode = "apprentice"
    baseline: str | Number | None = None
    exploration: Number | _ExplorationTable = 0.0
    outcome: _OutcomeTable = _OutcomeTable()
    gate: _GateTable = _GateTable()
    adapt: _AdaptTable = _AdaptTable()
    bandits: list[str] = []
    forecasts: dict[str, ForecastTable] = {}


class _Root(_Table, frozen=True):
    models: dict[str, dict[str, Any]] = {}
    points: dict[str, dict[str, Any]] = {}
    sources: dict[str, dict[str, Any]] = {}
    bandits: dict[str, dict[str, Any]] = {}


class _SourceTable(_Table, frozen=True):
    redis: str
    stream: str
    model: str
    map: dict[str, str] = {}
    only_mapped: bool = False
    label: str | None = None
    key: str | None = None
    at: str | None = None


def load(path: Path) -> Manifest:
    """The manifest in a TOML file.

    Raises:
        ManifestError: It cannot be read, is no TOML, or declares what cannot be served.
    """
    try:
        with path.open("rb") as file:
            mapping = tomllib.load(file)
    except OSError as error:
        raise ManifestError(
            str(path), f"a file that can be read ({error.strerror}); name one with --manifest"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(str(path), f"TOML ({error})") from None
    return parse(mapping)


def parse(mapping: Mapping[str, Any]) -> Manifest:
    """The manifest in a parsed TOML file, or in what came by HTTP.

    Raises:
        ManifestError: It declares what cannot be served.
    """
    root = _convert(mapping, _Root, "")
    models = {name: parse_model(name, table) for name, table in root.models.items()}
    bandits = {name: _bandit(name, table) for name, table in root.bandits.items()}
    points = {name: parse_point(name, table, bandits) for name, table in root.points.items()}
    for point in points.values():
        check_models(point, models)
    sources = {name: _source(name, table, models) for name, table in root.sources.items()}
    return Manifest(
        MappingProxyType(models), MappingProxyType(points), MappingProxyType(sources), MappingProxyType(bandits)
    )


def check_models(point: PointSpec, models: Mapping[str, ModelSpec]) -> None:
    """Refuses a point that listens to models that are not there, or cannot tell it what it wants to know."""
    path = f"points.{point.name}"
    if strangers := [name for name in point.adapt.models if name not in models]:
        allowed = f"models that are declared: {', '.join(models) or 'there are none'}"
        raise ManifestError(f"{path}.adapt.models", allowed, strangers[0])
    try:
        check_forecasts(f"{path}.forecasts", point.key, point.forecasts, models)
    except SpecError as error:
        raise ManifestError(error.path, error.allowed, error.given) from None


def parse_model(name: str, table: Mapping[str, Any]) -> ModelSpec:
    """One model's table."""
    path = f"models.{name}"
    _check_name(path, name)
    try:
        return model_spec(name, table)
    except SpecError as error:
        raise ManifestError(error.path, error.allowed, error.given) from None


def _bandit(name: str, table: Mapping[str, Any]) -> BanditSpec:
    """One bandit's table."""
    _check_name(f"bandits.{name}", name)
    try:
        return bandit_spec(name, table)
    except SpecError as error:
        raise ManifestError(error.path, error.allowed, error.given) from None


def parse_point(name: str, table: Mapping[str, Any], bandits: Mapping[str, BanditSpec] = _NO_BANDITS) -> PointSpec:
    """One point's table; `bandits` are those that it may name."""
    path = f"points.{name}"
    _check_name(path, name)
    given = _convert(table, _PointTable, path)
    ranges = _ranges(path, given)
    world = _world(path, given)
    return PointSpec(
        name=name,
        world=given.world,
        baseline=_baseline(path, given, world),
        params=MappingProxyType(given.params),
        ranges=MappingProxyType(ranges),
        key=given.key,
        mode=given.mode,
        exploration=_exploration(path, given, world),
        informative=isinstance(given.exploration, _ExplorationTable) and given.exploration.over == "informative",
        outcome=_outcome(f"{path}.outcome", given.outcome),
        gate=_gate(f"{path}.gate", given.gate),
        adapt=_adapt(f"{path}.adapt", given.adapt, keyed=given.key is not None),
        bandits=MappingProxyType({name: _serving(path, world, name, bandits) for name in given.bandits}),
        forecasts=_forecasts(path, given, world, ranges),
    )


def _source(name: str, table: Mapping[str, Any], models: Mapping[str, ModelSpec]) -> SourceSpec:
    """One source's table: a stream in somebody's Redis, and what becomes of its fields."""
    path = f"sources.{name}"
    _check_name(path, name)
    given = _convert(table, _SourceTable, path)
    if given.model not in models:
        raise ManifestError(
            f"{path}.model", f"one of: {', '.join(sorted(models)) or 'no model is declared'}", given.model
        )
    if not given.redis.startswith(_REDIS):
        allowed = f"a URL that begins with {', '.join(_REDIS[:-1])}, or $NAME for a variable that holds one"
        raise ManifestError(f"{path}.redis", allowed, given.redis)
    model = models[given.model]
    if (model.key is None) != (given.key is None):
        allowed = (
            "left out: the model declares no key" if model.key is None else f"the field that holds the {model.key}"
        )
        raise ManifestError(f"{path}.key", allowed, given.key)
    texts = {name for name, feature in (model.features or {}).items() if feature.type in ("text", "category")}
    fields = msgspec.structs.asdict(given)
    return SourceSpec(name=name, texts=frozenset(texts), **fields)


def _convert(value: Any, type_: Any, path: str) -> Any:
    """`value` as one of the tables above."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        fault = explain(str(error), value, type_, {})
    where = ".".join(part for part in (path, fault.field) if part)
    raise ManifestError(where, fault.allowed, shown_as=fault.given)


def _check_name(path: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise ManifestError(path, _NAME_ALLOWED, name)


def _world(path: str, table: _PointTable) -> World:
    try:
        world = worlds.make(table.world, table.params, table.ranges)
    except ValueError as error:
        raise ManifestError(f"{path}.params", str(error)) from None
    if not world.actions.nvec:
        raise ManifestError(f"{path}.params", f"a list of actions: {world.actions.name!r} is a continuum here")
    return world


def _ranges(path: str, table: _PointTable) -> dict[str, tuple[float, float]]:
    if table.world not in worlds.WORLDS:
        raise ManifestError(f"{path}.world", f"one of: {', '.join(sorted(worlds.WORLDS))}", table.world)
    known = {parameter.name: parameter for parameter in worlds.WORLDS[table.world].parameters}
    for name, (low, high) in table.ranges.items():
        where = f"{path}.ranges.{name}"
        if name not in known:
            raise ManifestError(f"{path}.ranges", f"parameters of {table.world!r}: {', '.join(known)}", name)
        parameter = known[name]
        if not parameter.low <= low < high <= parameter.high:
            raise ManifestError(where, f"low < high within {parameter.low:g} to {parameter.high:g}", [low, high])
    return {name: (float(low), float(high)) for name, (low, high) in table.ranges.items()}


def _forecasts(
    path: str, table: _PointTable, world: World, ranges: Mapping[str, tuple[float, float]]
) -> Mapping[str, ForecastSpec]:
    try:
        return forecast_specs(f"{path}.forecasts", table.forecasts, world, ranges)
    except SpecError as error:
        raise ManifestError(error.path, error.allowed, error.given) from None


def _serving(path: str, world: World, name: str, bandits: Mapping[str, BanditSpec]) -> BanditSpec:
    """A bandit as a policy of a point: each of its decisions is logged with its exact propensity."""
    if name not in bandits:
        allowed = f"bandits that are declared: {', '.join(bandits) or 'there are none'}"
        raise ManifestError(f"{path}.bandits", allowed, name)
    if len(world.actions.nvec) > 1:
        raise ManifestError(f"{path}.bandits", "left out: an action of this world is a product of choices", name)
    if refusal := bandits[name].explore.refusal(world.actions.n):
        raise ManifestError(f"{path}.bandits", f"bandits with exact propensities above 0: {refusal}", name)
    return bandits[name]


def _baseline(path: str, table: _PointTable, world: World) -> str | float:
    names = (*BASELINES[table.world], *(f"bandit:{name}" for name in table.bandits))
    if table.baseline is None:
        return names[0]
    if isinstance(table.baseline, str):
        if table.baseline not in names:
            allowed = f"one of: {', '.join(names)}; or the value of one action"
            raise ManifestError(f"{path}.baseline", allowed, table.baseline)
        return table.baseline
    try:
        world.actions.index_of(float(table.baseline))
    except ValueError as error:
        raise ManifestError(f"{path}.baseline", str(error), table.baseline) from None
    return float(table.baseline)


def _exploration(path: str, table: _PointTable, world: World) -> Exploration:
    given = table.exploration
    share, over = (given.share, given.over) if isinstance(given, _ExplorationTable) else (float(given), None)
    if not 0 <= share <= 1:
        raise ManifestError(f"{path}.exploration", "a share from 0 to 1", share)
    # On a ladder the neighbours cost far less than a uniform share (measured: .01 % instead of .85 %).
    ladder = world.actions.values is not None
    usual: Literal["neighbours", "allowed"] = "neighbours" if ladder else "allowed"
    return Exploration(share, usual if over is None or over == "informative" else over)


def _outcome(path: str, table: _OutcomeTable) -> OutcomeSpec:
    default = None if table.default is None else float(table.default)
    wait = _seconds(f"{path}.wait", table.wait)
    try:
        return OutcomeSpec(wait=wait, default=default, aggregate=table.aggregate)
    except ValueError as error:
        raise ManifestError(path, str(error)) from None


def _gate(path: str, table: _GateTable) -> GateSpec:
    bounds = {"tolerance": (0.0, 1.0), "canary": (0.0, 1.0), "confidence": (0.5, 0.9999)}
    for name, (low, high) in bounds.items():
        value = getattr(table, name)
        if not low <= value <= high:
            raise ManifestError(f"{path}.{name}", f"a number from {low:g} to {high:g}", value)
    return GateSpec(float(table.tolerance), float(table.canary), float(table.confidence))


def _adapt(path: str, table: _AdaptTable, *, keyed: bool) -> AdaptSpec:
    if not 0 <= table.per_day <= 1440:
        raise ManifestError(f"{path}.per_day", "an integer from 0 to 1440", table.per_day)
    if table.estimates == "key" and not keyed:
        raise ManifestError(f"{path}.estimates", "pooled or off, where the point declares no key", table.estimates)
    if not 0 < table.minutes <= 1440:
        raise ManifestError(f"{path}.minutes", "a number of minutes above 0, at most 1440", table.minutes)
    waits = {name: _seconds(f"{path}.{name}", getattr(table, name)) for name in ("cooldown", "settle", "watch")}
    if not 0 <= table.explore <= 1:
        raise ManifestError(f"{path}.explore", "a share from 0 to 1", table.explore)
    models, minutes, explore = tuple(table.models), float(table.minutes), float(table.explore)
    return AdaptSpec(table.estimates, per_day=table.per_day, minutes=minutes, models=models, explore=explore, **waits)


def _seconds(path: str, given: str | Number) -> float:
    try:
        return durations.seconds(given)
    except ValueError as error:
        raise ManifestError(path, str(error), given) from None
