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
        self._cursor = START
        self._head = AuditHead(0, ROOT)

    def append(self, action: Action) -> Sealed:
        """Adds an action to the chain, durably, after whatever other processes have added."""
        before = self.head()
        while True:
            sealed = audit.seal(self._key, before.seal, before.entries + 1, action)
            # The number is the id: of two processes that take the same place, one is told of the other.
            (outcome,) = self._log.append(AUDIT, [Draft(str(sealed.number), digest(sealed.seal), _encode(sealed))])
            if not isinstance(outcome, Conflict):
                self._head = AuditHead(sealed.number, sealed.seal)
                return sealed
            other = _decoded(outcome.entry.payload)
            # What stood there and is gone leaves a hole, which `check` finds; the chain goes on behind it.
            before = AuditHead(sealed.number, "" if other is None else other.seal)

    def head(self) -> AuditHead:
        """The end of the chain."""
        while entries := self._log.read(AUDIT, self._cursor, _PAGE):
            for entry in entries:
                if (sealed := _decoded(entry.payload)) is not None and sealed.number > self._head.entries:
                    self._head = AuditHead(sealed.number, sealed.seal)
            self._cursor = entries[-1].id
        return self._head

    def page(self, before: int | None, count: int) -> list[Sealed]:
        """Up to `count` entries below the number `before` (`None`: from the end), the newest first."""
        end = self.head().entries + 1 if before is None else before
        found = self._log.find(AUDIT, [str(number) for number in range(end - 1, max(end - 1 - count, 0), -1)])
        decoded = (_decoded(entry.payload) for entry in found if entry is not None)
        return [sealed for sealed in decoded if sealed is not None]

    def check(self, head: str | None = None) -> Broken | None:
        """The first place where the chain in the log does not hold, `None` where it does; as `audit.verify`."""
        known = self.head().seal if head is None else head
        return audit.verify(self._key, self._chain(), known)

    def _chain(self) -> Iterator[Sealed]:
        """Every entry in the order of the log; one that cannot be read keeps its place, under no seal."""
        cursor: EntryId = START
        number = 0
        while entries := self._log.read(AUDIT, cursor, _PAGE):
            for entry in entries:
                number += 1
                yield _decoded(entry.payload) or Sealed(number, Action("", "", "", "", 0.0), "")
            cursor = entries[-1].id


def _decoded(payload: bytes) -> Sealed | None:
    try:
        return _sealed.decode(payload)
    except msgspec.MsgspecError:
        return None


def _derived(secret: bytes, purpose: bytes) -> bytes:
    """A key for one purpose: no seal of one kind passes for another."""
    return hmac.new(secret, b"access " + purpose, sha256).digest()
