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
        verb: Such as `promote`.
        subject: Such as `point:price`; empty for the whole service.
        key: Public name of the API key that was used; empty while there are none.
    """

    verb: str
    subject: str
    actor: str
    reason: str
    at: float
    key: str = ""
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
        head: A seal that was noted earlier (metrics, logs): it must occur in the chain.
    """
    before, expected, seals = ROOT, 1, {ROOT}
    for entry in chain:
        if entry.number != expected:
            return Broken(expected, _misnumbered(entry.number, expected))
        if not hmac.compare_digest(entry.seal, _mac(key, before, entry.number, entry.action)):
            return Broken(expected, f"entry {expected} was edited, or the one before it was replaced")
        before, expected = entry.seal, expected + 1
        seals.add(before)
    if head is not None and head not in seals:
        return Broken(expected, f"the chain ends with entry {expected - 1} and lacks the noted head: its tail was cut")
    return None


def _misnumbered(found: int, expected: int) -> str:
    if found > expected:
        return f"entry {expected} is missing (entry {found} stands in its place): deleted or reordered"
    return f"entry {found} stands where {expected} belongs: inserted or reordered"


def _mac(key: bytes, before: str, number: int, action: Action) -> str:
    return hmac.new(key, b"\n".join((before.encode(), b"%d" % number, _encode(action))), sha256).hexdigest()
