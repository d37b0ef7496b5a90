"""Traces: everything about one decision, from what was asked to each of its outcomes."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from online import events
from online.events import Decided, Rewarded, decode, scoped_id
from online.log import Entry, Log, Partition, token
from online.outcomes import ONLY, Standing, parse_standing, standing_field
from service.deciding.points import Action, Index, partition_of
from service.http.api import Api
from service.http.operations import Answer, Call, Operation, Parameter, reply
from service.routes.decisions import PolicyName, check_key, decided_in, find, policy_name


class OutcomeSeen(Struct, frozen=True, omit_defaults=True):
    """One outcome of a decision, as it is in the log.

    Attributes:
        at: When it was appended.
        outcome_id: As the caller gave it; left out where it gave none.
        happened: When it says that it happened.
    """

    entry: str
    at: float
    outcome_id: str | None = None
    value: float | None = None
    fields: dict[str, Any] | None = None
    happened: float | None = None


class Trace(Struct, frozen=True, omit_defaults=True):
    """Everything about one decision: what was seen, what could have been chosen, what came of it.

    Attributes:
        intervals: The ends of the 95 % intervals of `estimates` at that moment.
        draw: The uniform number that chose from `probabilities` by inverse distribution.
        state: `pending`, `rewarded` or `defaulted`; `deferred` until it is activated, `inactive` if it never was.
        reward: What its outcomes amount to so far, aggregated as the point declares.
        outcomes: How many outcomes the learner has joined; `late` came after the wait and were not.
        received: Outcomes that the learner has seen, in the order of the log, late ones too; the first hundred.
        closed: Whether the wait for outcomes is over.
    """

    id: str
    at: float
    context: dict[str, Any]
    action: Action
    index: Index
    propensity: float
    policy: PolicyName
    mode: str
    state: str
    entry: str
    key: str | None = None
    episode: str | None = None
    allowed: list[bool] | None = None
    probabilities: list[float] | None = None
    estimates: dict[str, float] | None = None
    forecasts: dict[str, events.Forecast] | None = None
    intervals: dict[str, tuple[float, float]] | None = None
    draw: float | list[float] | None = None
    arm: str = ""
    arm_probability: float = 1.0
    baseline: Index | None = None
    deferred: bool = False
    reward: float | None = None
    outcomes: int = 0
    late: int = 0
    received: list[OutcomeSeen] = []
    closed: bool = False


class Traces:
    """The handler that looks a decision up."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def trace(self, call: Call) -> Answer:
        """Everything about one decision, with the state it is in now."""
        point = self._api.point(call.path["point"]).point
        decision_id, key = call.path["id"], call.query.get("key")
        check_key(point, key)
        entry = await find(self._api, point, decision_id, key)
        partition = partition_of(point.name, key)
        standing, outcomes = await self._api.store.ask(lambda store: _came(store.log, partition, decision_id, key))
        decided = decided_in(entry)
        seen = [_seen(one, decision_id, partition) for one in outcomes]
        return reply(_trace(decided, token(partition, entry.id), standing, entry.at, seen))

    def operations(self) -> list[Operation]:
        """What can be asked about one decision."""
        key = Parameter("key", {"type": "string"}, "The decision's key, where the point declares one")
        asked = Operation(
            "GET",
            "/v1/decisions/{point}/{id}",
            "Look a decision up",
            self.trace,
            Trace,
            query=(key,),
            problems=("unknown-point", "unknown-decision", "unavailable", "invalid-request"),
            scope="read",
        )
        return [asked.tagged("decisions")]


def _came(log: Log, partition: Partition, decision: str, key: str | None) -> tuple[Standing | None, list[Entry]]:
    """Where a decision stands, `None` where the learner has not got to it, and the entries of its outcomes."""
    data = log.lookup(partition, standing_field(decision, key))
    if data is None:
        return None, []
    standing = parse_standing(data)
    ids = [scoped_id(f"{decision}/{name}", key) for name in (ONLY, *standing.named)]
    cursor = log.head(partition).cursor
    found = [entry for entry in log.find(partition, ids) if entry is not None and entry.id <= cursor]
    return standing, sorted(found, key=lambda entry: entry.id)


def _seen(entry: Entry, decision: str, partition: Partition) -> OutcomeSeen:
    event = decode(entry.payload)
    if not isinstance(event, Rewarded):
        raise events.EventError(f"entry {entry.id} under an outcome's id is no outcome")
    name = event.id.removeprefix(f"{decision}/")
    return OutcomeSeen(
        entry=token(partition, entry.id),
        at=entry.at,
        outcome_id=None if name == ONLY else name,
        value=event.value,
        fields=event.fields,
        happened=event.at,
    )


def _trace(
    decided: Decided, entry: str, standing: Standing | None, at: float, received: Sequence[OutcomeSeen]
) -> Trace:
    waiting = "deferred" if decided.deferred else "pending"
    return Trace(
        id=decided.id,
        at=at if decided.at is None else decided.at,
        context=decided.context,
        action=decided.action,
        index=decided.index,
        propensity=decided.propensity,
        policy=policy_name(decided),
        mode=decided.mode,
        state=waiting if standing is None else standing.state,
        entry=entry,
        key=decided.key,
        episode=decided.episode,
        allowed=decided.allowed,
        probabilities=decided.probabilities,
        estimates=decided.estimates,
        forecasts=decided.forecasts,
        intervals=decided.intervals,
        draw=decided.draw,
        arm=decided.arm,
        arm_probability=decided.arm_probability,
        baseline=decided.baseline,
        deferred=decided.deferred,
        reward=None if standing is None else standing.reward,
        outcomes=0 if standing is None else standing.outcomes,
        late=0 if standing is None else standing.late,
        received=list(received),
        closed=standing is not None and standing.closed,
    )
