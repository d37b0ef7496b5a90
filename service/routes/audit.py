"""The audit: who changed what, when and why, and whether the record was touched."""

from typing import Any

from msgspec import Struct

from service.access.audit import Broken, Sealed
from service.access.ledger import AuditHead
from service.deciding.store import Store
from service.http.api import Api
from service.http.operations import Answer, Call, Operation, Parameter, integer, reply
from service.http.problems import invalid

_LAST, _MOST = 100, 1000
_FIRST, _LONGEST = 16, 64


class AuditEntry(Struct, frozen=True):
    """One change.

    Attributes:
        actor: Who says that it was them.
        key: Public name of the API key that was used; empty while there are none.
        digest: SHA-256 of what was sent, hexadecimal.
        seal: Binds the entry to the one before it.
    """

    number: int
    at: float
    actor: str
    key: str
    verb: str
    target: str
    path: str
    reason: str
    digest: str
    seal: str


class AuditAnswer(Struct, frozen=True):
    """A page of the audit, the newest first; `next` is the `before` of the page after it, `null` for the last one.

    Attributes:
        entries: How long the whole chain is.
    """

    audit: list[AuditEntry]
    entries: int
    next: int | None


class AuditCheck(Struct, frozen=True):
    """Whether the chain holds, and where it first does not.

    Attributes:
        head: Its last seal: note it elsewhere, and ask with `head` later whether a tail was cut.
    """

    holds: bool
    entries: int
    head: str
    broken: Broken | None


class Audit:
    """The handlers of `/v1/audit`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def listed(self, call: Call) -> Answer:
        """What was changed by people, the newest first."""
        last = integer(call, "last", _LAST, 1, _MOST)
        before = integer(call, "before", 0, 1, 10**15) if "before" in call.query else None

        def look(store: Store) -> AuditAnswer:
            page = store.audit.page(before, last)
            following = page[-1].number if len(page) == last and page[-1].number > 1 else None
            return AuditAnswer([_entry(sealed) for sealed in page], store.audit.head().entries, following)

        return reply(await self._api.archive.ask(look))

    async def check(self, call: Call) -> Answer:
        """Reads the whole chain and says the first place where it was edited, deleted, inserted, reordered or cut."""
        noted = call.query.get("head")
        if noted is not None and not (_FIRST <= len(noted) <= _LONGEST and set(noted) <= set("0123456789abcdef")):
            raise invalid("head", f"a seal, or its first {_FIRST} digits or more", noted)
        seen = self._api.watch.audited

        def look(store: Store) -> AuditCheck:
            broken = store.audit.check(noted)
            if broken is None and seen.entries:
                broken = store.audit.check(seen.seal)
            head: AuditHead = store.audit.head()
            return AuditCheck(broken is None, head.entries, head.seal, broken)

        return reply(await self._api.archive.ask(look))

    def operations(self) -> list[Operation]:
        """What can be asked about the audit."""
        many = {"type": "integer", "minimum": 1, "maximum": _MOST, "default": _LAST}
        pages = (
            Parameter("before", {"type": "integer", "minimum": 1}, "Entries with a smaller number alone"),
            Parameter("last", many, "At most so many"),
        )
        text = {"type": "string", "pattern": f"^[0-9a-f]{{{_FIRST},{_LONGEST}}}$"}
        head = (Parameter("head", text, "A seal that was noted earlier and must be in the chain"),)
        shared: dict[str, Any] = {"scope": "read", "problems": ("invalid-request", "unavailable")}
        operations = [
            Operation("GET", "/v1/audit", "Read the audit", self.listed, AuditAnswer, query=pages, **shared),
            Operation("GET", "/v1/audit/check", "Check the audit", self.check, AuditCheck, query=head, **shared),
        ]
        return [operation.tagged("access") for operation in operations]


def _entry(sealed: Sealed) -> AuditEntry:
    action = sealed.action
    return AuditEntry(
        number=sealed.number,
        at=action.at,
        actor=action.actor,
        key=action.key,
        verb=action.verb,
        target=action.subject,
        path=str(action.details.get("path", "")),
        reason=action.reason,
        digest=action.digest,
        seal=sealed.seal,
    )
