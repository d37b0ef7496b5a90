"""Decisions: ask for one, say what came of it, look it up."""

from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from online import events
from online.events import Activated, Decided, EventError, Rewarded, decode, digest, draft_id, encode, scoped_id
from online.log import Conflict, Draft, Entry, token
from online.outcomes import ONLY
from service.deciding.decide import BASELINE, CALLER, Ask
from service.deciding.gathering import Gathering
from service.deciding.points import WHOLE_VECTOR, Action, EventTime, Identifier, Index, Point, partition_of
from service.http.api import Api
from service.http.batches import BatchAnswer, Rejected, answered, is_batch, rejection, sift
from service.http.decoding import Decoder
from service.http.operations import SWITCH, Answer, Call, Operation, Parameter, flag, reply
from service.http.problems import NOTHING, Fault, Plain, ProblemError, invalid, shown
from service.routes.foretold import foretold

_TINY = 1e-12
"""A probability below this is answered with two digits: it is never drawn, and 17 digits of each swell the answer."""
_RESERVED = ("activated",)
_RESULTS = {404: "unknown", 409: "conflict"}
_ROUTES = ("report", "export")


class PolicyName(Struct, frozen=True):
    """Which policy chose: a bundle's digest, or none for a rule, and its kind."""

    digest: str | None
    kind: str


class DecisionAnswer(Struct, frozen=True, omit_defaults=True):
    """What was decided; a function of the stored entry alone, so that a retry reads the same.

    Attributes:
        action: The chosen action's physical value, or its index where the set has none; a list with the value of each
            factor where an action is a product, as is `index`.
        propensity: The probability with which it was chosen, every random choice on the way included.
        probabilities: The whole distribution it was drawn from, given the arm; left out above 64 actions. The factors
            of a product stand one after another, each summing to 1.
        estimates: The live parameters that the policy saw.
        forecasts: What models foretold of context and estimates, or what stood in and why.
        entry: Where the decision stands in the log.
    """

    id: str
    action: Action
    index: Index
    propensity: float
    policy: PolicyName
    mode: str
    entry: str
    probabilities: list[float] | None = None
    estimates: dict[str, float] | None = None
    forecasts: dict[str, events.Forecast] | None = None


class DecisionBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every point takes; each point's own path shows its context.

    Attributes:
        key: The entity that the decision is about, where the point declares what that is.
        episode: Joins the decisions of one sequence, so that a canary's policy keeps the whole of it.
        at: When it is made, in seconds since 1970; now, where left out.
        allowed: The actions to choose from, by value; all that the context allows, where left out. Where an action is a
            product, one list of values for each factor.
        baseline: The action that the caller would take itself; taken in the modes `off` and `apprentice`.
        deferred: The decision may not be used: it counts once it is activated.
        features: What each model of the point's forecasts is told of the case, by model.
    """

    context: dict[str, float]
    id: Identifier | None = None
    key: Identifier | None = None
    episode: Identifier | None = None
    at: EventTime | None = None
    allowed: list[Action] | None = None
    baseline: Action | None = None
    deferred: bool = False
    features: dict[str, dict[str, events.Scalar]] | None = None


class OutcomeRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What came of a decision: a value, or the fields from which the point computes one.

    Attributes:
        id: The decision's id.
        outcome_id: Names one of several outcomes of a decision; the same id again is the same outcome.
        early: The decision may not be in the log yet: keep the outcome until it is, instead of refusing it.
    """

    id: Identifier
    key: Identifier | None = None
    outcome_id: Identifier | None = None
    value: Annotated[float, Meta(ge=-1e15, le=1e15)] | None = None
    fields: dict[str, Annotated[float, Meta(ge=-1e15, le=1e15)]] | None = None
    at: EventTime | None = None
    early: bool = False


class ActivateRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Says that a deferred decision was really used."""

    id: Identifier
    key: Identifier | None = None
    at: EventTime | None = None


class WriteAnswer(Struct, frozen=True):
    """Where a write stands in the log."""

    id: str
    entry: str


def answer_of(decided: Decided, entry: str, full: bool = False) -> DecisionAnswer:
    """The answer that belongs to a stored decision."""
    whole = decided.probabilities
    if whole is not None and not (full or len(whole) <= WHOLE_VECTOR):
        whole = None
    return DecisionAnswer(
        id=decided.id,
        action=decided.action,
        index=decided.index,
        propensity=decided.propensity,
        policy=policy_name(decided),
        mode=decided.mode,
        entry=entry,
        probabilities=whole if whole is None or min(whole) >= _TINY else [_short(one) for one in whole],
        estimates=decided.estimates,
        forecasts=decided.forecasts,
    )


def _label(decided: Decided) -> str:
    """A policy's name for metrics: the beginning of a bundle's digest, or what kind of rule."""
    return decided.kind if decided.kind in (BASELINE, CALLER) else decided.policy[:12]


def _short(probability: float) -> float:
    return probability if probability >= _TINY or probability == 0.0 else float(f"{probability:.1e}")


def policy_name(decided: Decided) -> PolicyName:
    """The policy of a stored decision: rules have a kind, bundles a digest too."""
    if decided.kind in (BASELINE, CALLER):
        return PolicyName(None, decided.policy)
    return PolicyName(decided.policy, decided.kind)


def decided_in(entry: Entry) -> Decided:
    """The decision in an entry."""
    event = decode(entry.payload)
    if not isinstance(event, Decided):
        raise EventError(f"entry {entry.id} under the decision id {entry.event_id!r} is no decision")
    return event


class Decisions:
    """The handlers of `/v1/decisions`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._gathering = Gathering(api.writer, api.secret)
        self._outcome = Decoder(OutcomeRequest)
        self._activate = Decoder(ActivateRequest)

    async def decide(self, call: Call) -> Answer:
        """Chooses an action, and logs it durably with its probability before it is answered."""
        served = self._api.point(call.path["point"])
        point = served.point
        request = point.decoder.decode(call.body)
        self._api.check_time(request.at)
        key = request.key if point.spec.key is not None else None
        if request.id in _ROUTES:
            raise invalid("id", f"any id but {', '.join(_ROUTES)}, which are routes here", request.id)
        ask = Ask(request, request.id or self._api.new_id(), key)
        if point.spec.forecasts:
            ask = await foretold(self._api, point, ask)
        decided, outcome, partition = await self._gathering.decide(served, ask)
        if isinstance(outcome, Conflict):
            raise conflict("decision", decided.id)
        if outcome.fresh:
            self._api.telemetry.decision(point.name, decided.mode, _label(decided))
        else:
            decided = decided_in(outcome.entry)
        entry = token(partition, outcome.entry.id)
        return reply(answer_of(decided, entry, flag(call, "full")))

    async def outcomes(self, call: Call) -> Answer:
        """Takes one outcome, or many as NDJSON, each joined to its decision by id.

        A decision that the log does not know, or no longer remembers, is refused; `early` keeps the outcome instead,
        until the decision appears.
        """
        point = self._api.point(call.path["point"]).point
        if is_batch(call):
            good, rejected = sift(call.body, lambda line: self._read_outcome(point, line))
            return answered(await self._join(point, good, rejected))
        outcome = self._read_outcome(point, call.body)
        answer = await self._join(point, [(1, outcome)], [])
        if answer.rejected:
            raise self._refusal(point, outcome, answer.rejected[0])
        return answered(replace(answer, id=outcome.id))

    def _read_outcome(self, point: Point, raw: bytes) -> OutcomeRequest:
        outcome = self._outcome.decode(raw)
        self._api.check_time(outcome.at)
        check_key(point, outcome.key)
        if outcome.outcome_id in _RESERVED:
            raise invalid("outcome_id", f"any id but {', '.join(_RESERVED)}", outcome.outcome_id)
        if (outcome.value is None) == (outcome.fields is None):
            raise invalid("value", "either value or fields", Plain("both" if outcome.fields else "neither"))
        if outcome.fields is not None:
            point.check_outcome(outcome.fields)
        return outcome

    async def _join(
        self, point: Point, outcomes: list[tuple[int, OutcomeRequest]], rejected: list[Rejected]
    ) -> BatchAnswer:
        """Appends the outcomes whose decision is known; the others join the rejected."""
        partition = partition_of(point.name)
        ids = [scoped_id(outcome.id, outcome.key) for _, outcome in outcomes]
        found = await self._api.store.ask(lambda store: store.log.find(partition, ids)) if ids else []
        known: list[tuple[int, OutcomeRequest, Entry | None]] = []
        for (line, outcome), entry in zip(outcomes, found, strict=True):
            if entry is None and not outcome.early:
                rejected.append(_unknown_decision(point, line, outcome))
            else:
                known.append((line, outcome, entry))
        results = await self._api.writer.append_all(partition, [rewarded_draft(outcome) for _, outcome, _ in known])
        last, duplicates, accepted = "", 0, 0
        for (line, outcome, entry), result in zip(known, results, strict=True):
            if isinstance(result, Conflict):
                rejected.append(rejection(line, conflict("outcome", _outcome_id(outcome))))
                continue
            accepted += 1
            duplicates += not result.fresh
            last = token(partition, result.entry.id)
            delay = None if entry is None or not result.fresh else result.entry.at - entry.at
            self._api.telemetry.outcome(point.name, "accepted" if result.fresh else "duplicate", delay)
        self._api.telemetry.rejects(f"point:{point.name}", (refused.status for refused in rejected))
        for refused in rejected:
            self._api.telemetry.outcome(point.name, _RESULTS.get(refused.status, "invalid"))
        return BatchAnswer(accepted, sorted(rejected, key=lambda line: line.line), duplicates, last)

    def _refusal(self, point: Point, outcome: OutcomeRequest, rejected: Rejected) -> ProblemError:
        """A single outcome's rejection as a problem."""
        if rejected.status == 404:
            return unknown_decision(point.name, outcome.id)
        return conflict("outcome", _outcome_id(outcome))

    async def activate(self, call: Call) -> Answer:
        """Says that a deferred decision was really used: its outcomes count from now on."""
        point = self._api.point(call.path["point"]).point
        request = self._activate.decode(call.body)
        self._api.check_time(request.at)
        check_key(point, request.key)
        await find(self._api, point, request.id, request.key)
        event = Activated(id=f"{request.id}/activated", decision=request.id, key=request.key, at=request.at)
        partition = partition_of(point.name, request.key)
        result = await self._api.writer.append(partition, Draft(draft_id(event), digest(request), encode(event)))
        if isinstance(result, Conflict):
            raise conflict("activation", request.id)
        return reply(WriteAnswer(request.id, token(partition, result.entry.id)))

    def operations(self) -> list[Operation]:
        """What can be done with decisions."""
        full = Parameter("full", SWITCH, "Give the whole distribution, however many actions there are")
        point, known = ("unknown-point", "unavailable"), ("unknown-point", "unknown-decision", "unavailable")
        base = "/v1/decisions/{point}"
        decide: dict[str, Any] = {
            "request": DecisionBody,
            "example": {"id": "order-1", "context": {"stock": 12, "period": 7}},
            "scope": "decide",
            "hot": True,
            "problems": (*point, "conflict"),
        }
        outcome: dict[str, Any] = {
            "request": OutcomeRequest,
            "example": {"id": "order-1", "value": 19.9},
            "scope": "ingest",
            "problems": (*known, "conflict"),
        }
        activate: dict[str, Any] = {
            "request": ActivateRequest,
            "example": {"id": "order-1"},
            "scope": "decide",
            "problems": (*known, "conflict"),
        }
        operations = [
            Operation("POST", base, "Decide", self.decide, DecisionAnswer, query=(full,), **decide),
            Operation("POST", f"{base}/outcomes", "Report outcomes", self.outcomes, BatchAnswer, batch=True, **outcome),
            Operation("POST", f"{base}/activate", "Activate", self.activate, WriteAnswer, **activate),
        ]
        return [operation.tagged("decisions") for operation in operations]


async def find(api: Api, point: Point, decision_id: str, key: str | None) -> Entry:
    """The entry of a decision.

    Raises:
        ProblemError: The log does not know it.
    """
    partition = partition_of(point.name, key)
    ids = [scoped_id(decision_id, key)]
    (entry,) = await api.store.ask(lambda store: store.log.find(partition, ids))
    if entry is None:
        raise unknown_decision(point.name, decision_id)
    return entry


def check_key(point: Point, key: str | None) -> None:
    """Refuses a key where none is declared, and none where one is: a decision of a keyed point is known by both."""
    if point.spec.key is not None and key is None:
        raise invalid("key", f"the {point.spec.key} of the decision", NOTHING)
    if point.spec.key is None and key is not None:
        raise invalid("key", f"nothing: the point {point.name!r} declares no key", key)


def conflict(what: str, name: str) -> ProblemError:
    """The 409 for an id that is taken by another payload."""
    detail = f"The {what} {name!r} exists with another payload. Repeat it unchanged, or use a new id."
    return ProblemError("conflict", detail, Fault("id", "a new id, or the same payload as before", shown(name)))


def unknown_decision(point: str, decision_id: str) -> ProblemError:
    """The 404 for a decision that the log does not know."""
    allowed = f"the id of a decision of {point!r} that the log still remembers"
    detail = (
        f"There is no decision {decision_id!r} at {point!r}, or it is too long ago. Give the id as it was answered; "
        "an outcome that may overtake its decision says early = true."
    )
    return ProblemError("unknown-decision", detail, Fault("id", allowed, shown(decision_id)))


def _unknown_decision(point: Point, line: int, outcome: OutcomeRequest) -> Rejected:
    return rejection(line, unknown_decision(point.name, outcome.id))


def _outcome_id(outcome: OutcomeRequest) -> str:
    return f"{outcome.id}/{outcome.outcome_id or ONLY}"


def rewarded_draft(outcome: OutcomeRequest) -> Draft:
    """An outcome as it is appended to the log."""
    event = Rewarded(
        id=_outcome_id(outcome),
        decision=outcome.id,
        key=outcome.key,
        value=outcome.value,
        fields=outcome.fields,
        at=outcome.at,
    )
    # A caller that says `early` the first time and not when it repeats itself means the same outcome.
    return Draft(draft_id(event), digest(replace(outcome, early=False)), encode(event))
