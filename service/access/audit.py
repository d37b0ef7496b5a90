"""The audit chain: every operator's action with actor and reason, each entry bound to the one before it. Pure.

An entry's seal is HMAC-SHA256 over the seal before it, its number and its content. Whoever lacks the key cannot edit,
insert, delete or reorder entries unnoticed; that the tail was cut is noticed against a head that was noted elsewhere.
"""

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

ROOT = "0" * 64


class Action(Struct, frozen=True):
    """What somebody did.

    Attributes:
        verb: What the operation is called, such as `Promote`.
        subject: Such as `point:price`; empty for the whole service.
        actor: Who says that it was them; the key is certain.
        key: Public name of the API key that was used; empty while there are none.
        digest: SHA-256 of what was asked, hexadecimal. Its text is not kept: it may hold what is secret.
        details: What else tells one action from another, such as the path.
    """

    verb: str
    subject: str
    actor: str
    reason: str
    at: float
    key: str = ""
    digest: str = ""
    details: dict[str, Any] = {}


class Sealed(Struct, frozen=True):
    """An action with its place in the chain; `seal` is hexadecimal."""

    number: int
    action: Action
    seal: str


class Broken(Struct, frozen=True):
    """Where the chain does not hold, and how it looks: edited, deleted, inserted, reordered or cut."""

    number: int
    what: str


_encode = msgspec.json.Encoder(order="deterministic").encode


def seal(key: bytes, before: str, number: int, action: Action) -> Sealed:
    """The next entry of the chain.

    Args:
        key: Secret of the service.
        before: Seal of the entry before; `ROOT` for the first.
        number: From 1.
    """
    return Sealed(number, action, _mac(key, before, number, action))


def verify(key: bytes, chain: Iterable[Sealed], head: str | None = None) -> Broken | None:
    """The first place where a chain does not hold, or None.

    Args:
        chain: Oldest first.
        head: A seal that was noted earlier (metrics, logs), or its first 16 digits: it must occur in the chain.
    """
    entries = list(chain)
    numbers = {entry.number for entry in entries}
    before, expected, found = ROOT, 1, head is None or ROOT.startswith(head)
    for entry in entries:
        if entry.number != expected:
            return Broken(expected, _misnumbered(entry.number, expected, numbers))
        if not hmac.compare_digest(entry.seal, _mac(key, before, entry.number, entry.action)):
            return Broken(expected, f"entry {expected} was edited, or the one before it was replaced")
        before, expected = entry.seal, expected + 1
        found = found or before.startswith(head or "")
    if not found:
        return Broken(expected, f"the chain ends with entry {expected - 1} and lacks the noted head: its tail was cut")
    return None


def _misnumbered(found: int, expected: int, numbers: set[int]) -> str:
    if found < expected:
        return f"entry {found} stands where {expected} belongs: inserted"
    if expected in numbers:
        return f"entry {found} stands where {expected} belongs, which comes later: reordered"
    return f"entry {expected} is missing (entry {found} stands in its place): deleted"


def _mac(key: bytes, before: str, number: int, action: Action) -> str:
    return hmac.new(key, b"\n".join((before.encode(), b"%d" % number, _encode(action))), sha256).hexdigest()
