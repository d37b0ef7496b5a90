"""API keys: made once, shown once, stored as digests; what a key may do, and until when. Pure."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, TypeAlias, get_args

from msgspec import Struct

Scope: TypeAlias = Literal["predict", "decide", "ingest", "read", "operate", "admin"]
SCOPES: tuple[str, ...] = get_args(Scope)

_MARK = "tt"
_NOBODY = sha256(b"").hexdigest()


class Issued(Struct, frozen=True, tag="key-issued/1"):
    """A key exists from now on.

    Attributes:
        key: Its public name, the middle part of the token.
        digest: SHA-256 of the token's secret part, which has 256 bits of its own: no slow hash is needed.
        scopes: What it may do; `admin` may do everything.
        subjects: The models and points (`model:churn`, `point:price`) it is for; none: all.
        expires: Seconds since 1970; `None`: never.
    """

    key: str
    digest: str
    scopes: tuple[Scope, ...]
    subjects: tuple[str, ...]
    expires: float | None
    at: float
    actor: str
    reason: str


class Ended(Struct, frozen=True, tag="key-ended/1"):
    """A key is of no use from `expires` on: at once when revoked, a little later when rotated."""

    key: str
    expires: float
    at: float
    actor: str
    reason: str


KeyEvent: TypeAlias = Issued | Ended


class DeniedError(Exception):
    """A request that is not let in.

    Args:
        known: Whether the key is good, only not for this: 403, else 401.
        reason: What to tell the caller; never says which keys exist.
    """

    def __init__(self, known: bool, reason: str) -> None:
        super().__init__(reason)
        self.known = known


def token(key: str, secret: str) -> str:
    """What the caller sends as a bearer token.

    Args:
        key: Public name, without underscores.
        secret: At least 32 random bytes, URL-safe.
    """
    return f"{_MARK}_{key}_{secret}"


def digest(secret: str) -> str:
    """What is stored of a secret."""
    return sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class Keyring:
    """All keys that were ever issued, as they stand.

    >>> issued = Issued("k1", digest("s" * 43), ("decide",), ("point:price",), None, 0.0, "ana", "shop")
    >>> ring = Keyring.of([issued])
    >>> ring.admit(token("k1", "s" * 43), "decide", "point:price", now=1.0).key
    'k1'
    """

    keys: dict[str, Issued] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[KeyEvent]) -> "Keyring":
        """The keys after these events."""
        ring = cls()
        for event in events:
            ring = ring.after(event)
        return ring

    def after(self, event: KeyEvent) -> "Keyring":
        """The keys after one more event; an end never comes later than one that was set before."""
        if isinstance(event, Issued):
            return Keyring(self.keys | {event.key: event})
        if (old := self.keys.get(event.key)) is None:
            return self
        expires = event.expires if old.expires is None else min(old.expires, event.expires)
        ended = Issued(old.key, old.digest, old.scopes, old.subjects, expires, old.at, old.actor, old.reason)
        return Keyring(self.keys | {event.key: ended})

    def admit(self, given: str, scope: str, subject: str | None, now: float) -> Issued:
        """The key behind a token that may use `scope` on `subject`.

        Args:
            given: The bearer token; "" where there was none.
            scope: What the route asks for.
            subject: `model:name` or `point:name`; `None` for a route that is about the whole service, which a key for
                some subjects may not use.
            now: Seconds since 1970.

        Raises:
            DeniedError: It may not.
        """
        key = self._known(given, now)
        if scope not in key.scopes and "admin" not in key.scopes:
            raise DeniedError(True, f"this key has the scopes {', '.join(key.scopes)}; this needs {scope}")
        if key.subjects and subject not in key.subjects:
            raise DeniedError(True, f"this key is for {', '.join(key.subjects)} alone")
        return key

    def _known(self, given: str, now: float) -> Issued:
        mark, _, rest = given.partition("_")
        name, _, secret = rest.partition("_")
        key = self.keys.get(name)
        # An unknown name costs the same comparison as a wrong secret.
        right = hmac.compare_digest(digest(secret), _NOBODY if key is None else key.digest)
        if key is None or not right or mark != _MARK or not secret:
            raise DeniedError(False, "send a valid API key as Authorization: Bearer tt_…")
        if key.expires is not None and now >= key.expires:
            raise DeniedError(False, "this API key has expired or was revoked: ask for a new one")
        return key


@dataclass(frozen=True)
class Allowance:
    """What is left of a key's rate: a bucket that fills with `rate` a second up to `burst`.

    Attributes:
        left: Requests that may come at once.
        at: When that was so, in seconds.
    """

    rate: float
    burst: float
    left: float
    at: float

    def spend(self, now: float, cost: float = 1.0) -> "Allowance | float":
        """The allowance after a request, or the seconds until one is allowed."""
        left = min(self.burst, self.left + max(now - self.at, 0.0) * self.rate)
        if left < cost:
            return (cost - left) / self.rate
        return Allowance(self.rate, self.burst, left - cost, now)
