"""Points: which decisions can be asked for, and what belongs into a request."""

from typing import Annotated, Any

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

from agents.bundle import BundleError
from envs.dynamics import Field
from service.deciding.arms import arm_of
from service.deciding.decide import ServedPoint
from service.deciding.declarations import BreakingError, Declared, check_point
from service.deciding.listening import tutor_of
from service.deciding.point_bandits import is_bandit
from service.deciding.points import Action, EventTime, Identifier, Point, partition_of
from service.deciding.records import Records, attention
from service.deciding.releases import Release
from service.deciding.store import Store
from service.http.api import Api
from service.http.decoding import Decoder
from service.http.operations import Answer, Call, Operation, Parameter, reply
from service.http.problems import Fault, ProblemError, shown
from service.manifest import ManifestError, check_models, parse_point
from service.routes import rejects
from service.routes.decisions import WriteAnswer
from service.routes.rejects import RejectsAnswer

_SHOWN = ("decision", "key", "value", "fields", "at")
"""What is shown of an event that was set aside."""


class FieldDescription(Struct, frozen=True):
    """One number of a context: its unit and its bounds, where it has them."""

    name: str
    unit: str
    low: float | None
    high: float | None
    doc: str


class ForecastDescription(Struct, frozen=True, omit_defaults=True):
    """One entry of an observation that a model foretells."""

    model: str
    max_age: float
    key: str | None = None
    of: str | None = None
    default: float | None = None


class PointSummary(Struct, frozen=True):
    """One point and what serves it."""

    name: str
    world: str
    release: Release


class PointDescription(Struct, frozen=True):
    """Everything that a caller must know about a point.

    Attributes:
        actions: What an answer's `action` can be, by index; what each of its factors can be, where it is a product.
        factors: How many choices make one action.
        outcome_fields: What an outcome's `fields` must hold, where it gives no value.
        attention: Why a person is needed (the world explains the outcomes under no parameters); empty where nobody is.
        forecasts: By entry of context and parameters, which model foretells it, and what stands in.
    """

    name: str
    world: str
    params: dict[str, Any]
    ranges: dict[str, tuple[float, float]]
    key: str | None
    context: list[FieldDescription]
    actions: list[Action]
    factors: int
    action_unit: str
    outcome_fields: list[str]
    baseline: str
    exploration: dict[str, Any]
    outcome: dict[str, Any]
    gate: dict[str, float]
    forecasts: dict[str, ForecastDescription]
    release: Release
    attention: str = ""


class PointsAnswer(Struct, frozen=True):
    """All points."""

    points: list[PointSummary]


class MendedOutcome(Struct, frozen=True, forbid_unknown_fields=True):
    """What takes the place of what a rejected outcome held; what is left out stays as it was.

    Attributes:
        decision: The id of the decision that it is of.
    """

    decision: Identifier | UnsetType = UNSET
    key: Identifier | UnsetType | None = UNSET
    value: Annotated[float, Meta(ge=-1e15, le=1e15)] | UnsetType | None = UNSET
    fields: dict[str, Annotated[float, Meta(ge=-1e15, le=1e15)]] | UnsetType | None = UNSET
    at: EventTime | UnsetType | None = UNSET


class OutcomeReplay(Struct, frozen=True, forbid_unknown_fields=True):
    """Brings a rejected entry back, as it was or mended; say why, and what was mended.

    Attributes:
        event: What is mended: any of `decision`, `key`, `value`, `fields` and `at`.
    """

    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    actor: Annotated[str, Meta(min_length=1, max_length=200)] = "operator"
    event: MendedOutcome | None = None


TABLE = {
    "type": "object",
    "description": "What the manifest would hold under the name; docs/manifest.md has the fields.",
    "properties": {"world": {"type": "string"}},
    "required": ["world"],
}


class Points:
    """The handlers of `/v1/points`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._table: Decoder[dict[str, Any]] = Decoder(dict)
        self._replay = Decoder(OutcomeReplay)
        self._records: dict[str, Records] = {}

    async def listed(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """Every point, with what serves it."""
        served = self._api.serving.now.points.values()
        return reply(PointsAnswer([PointSummary(s.point.name, s.point.spec.world, s.release) for s in served]))

    async def describe(self, call: Call) -> Answer:
        """What belongs into a request to the point, what it may answer, and how outcomes count."""
        return reply(await self._described(call.path["point"]))

    async def declare(self, call: Call) -> Answer:
        """Declares a point, or changes it, with the table that the manifest would hold.

        A change that its log, its bundles or its callers could not follow is refused: declare a new name.
        """
        name, table = call.path["point"], self._table.decode(call.body)
        there = await self._api.store.ask(lambda store: store.declarations.follow())
        try:
            spec = parse_point(name, table, there.bandits)
            check_models(spec, there.models)
        except ManifestError as error:
            raise ProblemError("invalid-request", str(error), error.fault) from None

        def put(store: Store) -> None:
            check_point(store.declarations.point_before(name), spec)
            _check_served(store, Point.of(spec))
            store.declarations.declare(self._api.new_id(), self._declared(call, name, table))

        try:
            await self._api.store.ask(put)
        except BreakingError as error:
            raise ProblemError("conflict", f"{error}.", Fault("point", "a new name", shown(name))) from None
        await self._api.serving.settle()
        return reply(await self._described(name))

    async def _described(self, name: str) -> PointDescription:
        """A point in full, with what its loop says."""
        served = self._api.point(name)

        def look(store: Store) -> str:
            return attention(self._records.setdefault(name, Records(store.log, name)).follow())

        return description(served, await self._api.store.ask(look))

    async def end(self, call: Call) -> Answer:
        """Ends a point: it decides no more. Its log, its bundles and its releases stay."""
        name = call.path["point"]
        self._api.point(name)
        event = self._declared(call, name, None)
        entry = await self._api.store.ask(lambda store: store.declarations.declare(self._api.new_id(), event))
        await self._api.serving.settle()
        return reply(WriteAnswer(name, str(entry.id)))

    async def rejects(self, call: Call) -> Answer:
        """What the learner set aside: outcomes that met no decision, or made no number, each with its reason."""
        name = self._api.point(call.path["point"]).point.name
        return await rejects.listed(self._api, call, partition_of(name), _SHOWN)

    async def replay(self, call: Call) -> Answer:
        """Brings an entry that was set aside back, as it was or mended: the learner takes it as if it came now."""
        name = self._api.point(call.path["point"]).point.name
        order = self._replay.decode(call.body)
        return await rejects.bring_back(self._api, partition_of(name), call.path["entry"], order.actor, order.event)

    def _declared(self, call: Call, name: str, table: dict[str, Any] | None) -> Declared:
        actor, reason = call.query.get("actor", "operator"), call.query.get("reason", "")
        return Declared("point", name, table, actor, reason, self._api.clock())

    def operations(self) -> list[Operation]:
        """What can be done with points."""
        why = (Parameter("actor", {"type": "string"}, "Who wants it"), Parameter("reason", {"type": "string"}, "Why"))
        put: dict[str, Any] = {"problems": ("conflict", "unavailable"), "scope": "admin", "query": why}
        put["example"] = {"world": "pricing", "params": {"stock": 20, "periods": 50}, "mode": "apprentice"}
        end: dict[str, Any] = {"problems": ("unknown-point", "unavailable"), "scope": "admin", "query": why}
        read: dict[str, Any] = {"problems": ("unknown-point", "unavailable"), "scope": "read"}
        listed: dict[str, Any] = {**read, "problems": (*read["problems"], "invalid-request"), "query": (rejects.LIMIT,)}
        replay: dict[str, Any] = {"problems": (*listed["problems"], "unknown-entry", "conflict"), "scope": "operate"}
        replay["example"] = {"reason": "the id was cut off", "event": {"decision": "order-1"}}
        base = "/v1/points/{point}"
        again = f"{base}/rejects/{{entry}}/replay"
        operations = [
            Operation("GET", "/v1/points", "List points", self.listed, PointsAnswer, scope="read"),
            Operation("GET", base, "Describe a point", self.describe, PointDescription, **read),
            Operation("PUT", base, "Declare a point", self.declare, PointDescription, request=TABLE, **put),
            Operation("DELETE", base, "End a point", self.end, WriteAnswer, **end),
            Operation("GET", f"{base}/rejects", "List rejected entries", self.rejects, RejectsAnswer, **listed),
            Operation("POST", again, "Bring an entry back", self.replay, WriteAnswer, request=OutcomeReplay, **replay),
        ]
        return [operation.tagged("points") for operation in operations]


def _check_served(store: Store, point: Point) -> None:
    """Refuses a point that what serves it, or is on trial there, would not fit.

    Raises:
        BreakingError: Which policy, why not, and the way out.
    """
    bandits = tutor_of(point).policies()
    for policy in store.registry.current(point.name, point.spec.mode).bundles:
        try:
            arm_of(store.registry, point, policy, bandits)
        except BundleError as error:
            raise BreakingError(
                f"{_short(policy)} serves points.{point.name}, and would no longer: {error}. "
                "Go back to another policy first, or declare a point of a new name"
            ) from None


def description(served: ServedPoint, needed: str = "") -> PointDescription:
    """A point in full; `needed` says why a person is."""
    point: Point = served.point
    spec = point.spec
    return PointDescription(
        name=spec.name,
        world=spec.world,
        params=dict(spec.params),
        ranges=dict(spec.ranges),
        key=spec.key,
        context=[_field(entry) for entry in point.context],
        actions=list(point.actions),
        factors=point.factors,
        action_unit=point.world.actions.unit,
        outcome_fields=list(point.outcome_fields),
        baseline=point.baseline_name,
        exploration={"share": spec.exploration.share, "over": spec.exploration.over},
        outcome={"wait": spec.outcome.wait, "default": spec.outcome.default, "aggregate": spec.outcome.aggregate},
        gate={"tolerance": spec.gate.tolerance, "canary": spec.gate.canary, "confidence": spec.gate.confidence},
        forecasts={
            name: ForecastDescription(one.model, one.max_age, one.key, one.of, one.default)
            for name, one in spec.forecasts.items()
        },
        release=served.release,
        attention=needed,
    )


def _short(policy: str) -> str:
    return policy if is_bandit(policy) else policy[:12]


def _field(entry: Field) -> FieldDescription:
    low = float(entry.low) if np.isfinite(entry.low) else None
    high = float(entry.high) if np.isfinite(entry.high) else None
    return FieldDescription(entry.name, entry.unit, low, high, entry.doc)
