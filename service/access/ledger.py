"""Where keys and the audit chain are kept: two small logs, each entry sealed with a key made from the service's secret.

Whoever can write into the store alone can neither issue a key nor add to the chain.
"""

import hmac
import logging
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import msgspec

from online.events import digest
from online.log import START, Conflict, Draft, EntryId, Log, Partition
from service.access import audit
from service.access.audit import ROOT, Action, Broken, Sealed
from service.access.keys import KeyEvent, Keyring

KEYS = Partition("keys", 0)
AUDIT = Partition("audit", 0)

_PAGE = 1000
_MAC = 32
_log = logging.getLogger(__name__)
_event: msgspec.json.Decoder[KeyEvent] = msgspec.json.Decoder(KeyEvent)
_sealed: msgspec.json.Decoder[Sealed] = msgspec.json.Decoder(Sealed)
_encode = msgspec.json.Encoder(order="deterministic").encode


class KeyLog:
    """The keys that were issued and ended; one thread each, like the log.

    Args:
        secret: The service's own.
    """

    def __init__(self, log: Log, secret: bytes) -> None:
        self._log = log
        self._key = _derived(secret, b"keys")
        self._cursor = START
        self._keyring = Keyring()

    def follow(self) -> Keyring:
        """The keys as they stand; the same object as long as nothing was added."""
        while entries := self._log.read(KEYS, self._cursor, _PAGE):
            for entry in entries:
                if (event := self._open(entry.event_id, entry.payload)) is not None:
                    self._keyring = self._keyring.after(event)
            self._cursor = entries[-1].id
        return self._keyring

    def append(self, event_id: str, event: KeyEvent) -> None:
        """Adds an event durably."""
        payload = _encode(event)
        self._log.append(KEYS, [Draft(event_id, digest(event_id), self._mac(event_id, payload) + payload)])

    def _open(self, event_id: str, sealed: bytes) -> KeyEvent | None:
        mac, payload = sealed[:_MAC], sealed[_MAC:]
        if not hmac.compare_digest(mac, self._mac(event_id, payload)):
            _log.error("the key event %s was not written by this service and is left out", event_id)
            return None
        return _event.decode(payload)

    def _mac(self, event_id: str, payload: bytes) -> bytes:
        return hmac.new(self._key, b"\n".join((event_id.encode(), payload)), sha256).digest()


class AuditHead(NamedTuple):
    """How long the chain is and how it ends: noted elsewhere, it shows that a tail was cut."""

    entries: int
    seal: str


class AuditLog:
    """The audit chain; one thread each, like the log.

    Args:
        secret: The service's own.
    """

    def __init__(self, log: Log, secret: bytes) -> None:
        self._log = log
        self._key = _derived(secret, b"audit")
        self._places: list[EntryId] = []
        self._head = AuditHead(0, ROOT)

    def append(self, action: Action) -> Sealed:
        """Adds an action to the chain, durably, after whatever other processes have added."""
        before, after = self.head(), self._places[-1] if self._places else START
        if (cut := self._cut()) is not None:
            # A number is left out: the hole stays to be found.
            before, after = AuditHead(before.entries + 1, ""), cut
        while True:
            sealed = audit.seal(self._key, before.seal, before.entries + 1, action)
            # Named by its place: of two processes that take the same one, the second is told of the first.
            draft = Draft(f"{sealed.number} after {after}", digest(sealed.seal), _encode(sealed))
            (outcome,) = self._log.append(AUDIT, [draft])
            if not isinstance(outcome, Conflict):
                return sealed
            other = _decoded(outcome.entry.payload)
            before, after = AuditHead(sealed.number, "" if other is None else other.seal), outcome.entry.id

    def head(self) -> AuditHead:
        """The end of the chain."""
        while entries := self._log.read(AUDIT, self._places[-1] if self._places else START, _PAGE):
            for entry in entries:
                sealed = _decoded(entry.payload)
                if sealed is not None and sealed.number > self._head.entries:
                    self._head = AuditHead(sealed.number, sealed.seal)
                self._places.append(entry.id)
        return self._head

    def page(self, before: int | None, count: int) -> list[Sealed]:
        """Up to `count` entries before the place `before` (`None`: the end; the first is 1), the newest first."""
        self.head()
        end = len(self._places) if before is None else min(before - 1, len(self._places))
        begin = max(end - count, 0)
        if begin >= end:
            return []
        found = self._log.read(AUDIT, self._places[begin].before, end - begin)
        return [_decoded(entry.payload) or _unreadable(begin + at + 1) for at, entry in enumerate(found)][::-1]

    def check(self, head: str | None = None) -> Broken | None:
        """The first place where the chain in the log does not hold, `None` where it does; as `audit.verify`."""
        known = self.head().seal if head is None else head
        broken = audit.verify(self._key, self._chain(), known)
        if broken is None and self._cut() is not None:
            return Broken(self._head.entries + 1, "the log has counted more entries than it holds: its tail was cut")
        return broken

    def _cut(self) -> EntryId | None:
        """The last entry ever appended where it is not there any more."""
        tail = self._log.tail(AUDIT)
        return tail if tail > START and not self._log.read(AUDIT, tail.before, 1) else None

    def _chain(self) -> Iterator[Sealed]:
        """Every entry in the order of the log; one that cannot be read keeps its place, under no seal."""
        cursor: EntryId = START
        number = 0
        while entries := self._log.read(AUDIT, cursor, _PAGE):
            for entry in entries:
                number += 1
                yield _decoded(entry.payload) or _unreadable(number)
            cursor = entries[-1].id


def _unreadable(number: int) -> Sealed:
    return Sealed(number, Action("(cannot be read)", "", "", "", 0.0), "")


def _decoded(payload: bytes) -> Sealed | None:
    try:
        return _sealed.decode(payload)
    except msgspec.MsgspecError:
        return None


def _derived(secret: bytes, purpose: bytes) -> bytes:
    """A key for one purpose: no seal of one kind passes for another."""
    return hmac.new(secret, b"access " + purpose, sha256).digest()
