"""What learners set aside, over HTTP: the entries with their reasons, and how one is mended and brought back."""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, structs, to_builtins

from online.events import Event, EventError, Rejected, Replayed, decode, decode_reports, digest, draft_id, encode
from online.fold import replay_of
from online.log import Conflict, Draft, EntryId, Partition, token
from service.http.api import Api
from service.http.operations import Answer, Call, Parameter, integer, reply
from service.http.problems import NOTHING, Fault, ProblemError, invalid, shown
from service.routes.decisions import WriteAnswer, conflict

LIMIT = Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "How many")


class RejectedEntry(Struct, frozen=True):
    """One entry that the learner set aside, and why."""

    entry: str
    id: str
    reason: str
    field: str | None
    event: dict[str, Any] | None


class RejectsAnswer(Struct, frozen=True):
    """Entries that the learner set aside, the newest first."""

    rejects: list[RejectedEntry]


async def listed(api: Api, call: Call, partition: Partition, fields: Sequence[str]) -> Answer:
    """The rejected entries of a partition, with these fields of what they held."""
    limit = integer(call, "limit", 100, 1, 1000)
    found = await api.store.ask(lambda store: list(store.log.fields(partition, "reject")))
    reports = [report for _, data in found for report in decode_reports(data) if isinstance(report, Rejected)]
    reports.sort(key=lambda report: EntryId.parse(report.entry), reverse=True)
    return reply(RejectsAnswer([_described(report, fields) for report in reports[:limit]]))


async def bring_back(api: Api, partition: Partition, entry: str, actor: str, mended: Struct | None) -> Answer:
    """Append a rejected entry again, with the fields of ``mended`` in the place of what it held.

    Raises:
        ProblemError: There is no such rejected entry, it cannot be mended so, or it was brought back differently.
    """
    data = await api.store.ask(lambda store: store.log.lookup(partition, f"reject:{entry}"))
    reports = [] if data is None else decode_reports(data)
    found = next((report for report in reports if isinstance(report, Rejected)), None)
    kind, _, name = partition.subject.partition(":")
    if found is None:
        fault = Fault("entry", f"an entry that GET /v1/{kind}s/{name}/rejects lists", shown(entry))
        raise ProblemError("unknown-entry", f"There is no rejected entry {entry} of {name!r}.", fault)
    event = replay_of(found, actor, _mended(found, mended))
    draft = Draft(draft_id(event), digest([entry, event.event]), encode(event))
    result = await api.writer.append(partition, draft)
    if isinstance(result, Conflict):
        raise conflict("replay", entry)
    return reply(WriteAnswer(event.id, token(partition, result.entry.id)))


def _held(report: Rejected) -> Event:
    """The event that was set aside; of a replay that was set aside in turn, the event within. Raises `EventError`."""
    held = decode(report.event)
    while isinstance(held, Replayed):
        held = decode(held.event)
    return held


def _mended(report: Rejected, mended: Struct | None) -> bytes:
    """The event to bring back.

    Raises:
        ProblemError: It is not readable, or has no such field.
    """
    try:
        held = _held(report)
    except EventError as error:
        if mended is None:
            return report.event
        raise invalid("event", f"left out: {error}", NOTHING) from None
    changes = {} if mended is None else {n: v for n, v in structs.asdict(mended).items() if v is not UNSET}
    for name in changes:
        if name not in held.__struct_fields__:
            raise invalid(f"event.{name}", f"left out: a {type(held).__name__} event has none", changes[name])
    return encode(structs.replace(held, **changes))


def _described(report: Rejected, fields: Sequence[str]) -> RejectedEntry:
    try:
        held = _held(report)
    except EventError:
        return RejectedEntry(report.entry, report.id, report.reason, report.field, None)
    names = [name for name in fields if getattr(held, name, UNSET) is not UNSET]
    event = {name: to_builtins(getattr(held, name)) for name in names}
    return RejectedEntry(report.entry, report.id, report.reason, report.field, event)
