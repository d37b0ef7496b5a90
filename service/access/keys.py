"""API keys: made once, shown once, stored as digests; what a key may do, and until when. Pure."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

Scope: TypeAlias = Literal["predict", "decide", "ingest", "read", "operate", "admin"]
SCOPES: tuple[str, ...] = get_args(Scope)

OWN: dict[str, tuple[Scope, ...]] = {"local": ("admin",), "shop": ("predict", "decide", "ingest", "read")}
"""The service's own keys and what they may do; see `own_token`."""

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
        name: What people call it; a key that takes its place keeps the name.
        rate: Requests a second that each API process lets it make; `None`: any number.
    """

    key: str
    digest: str
    scopes: tuple[Scope, ...]
    subjects: tuple[str, ...]
    expires: float | None
    at: float
    actor: str
    reason: str
    name: str = ""
    rate: float | None = None

    def allows(self, scope: str, subject: str | None) -> bool:
        """Whether it may use `scope` on `subject`, as `Keyring.admit` takes them."""
        return (scope in self.scopes or "admin" in self.scopes) and (not self.subjects or subject in self.subjects)


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
        """The keys after one more event; an end never comes later than one that was set before.

        A key is issued once: the same event put behind its end, by who can write into the store, brings nothing back.
        """
        if isinstance(event, Issued):
            return self if event.key in self.keys else Keyring(self.keys | {event.key: event})
        if (old := self.keys.get(event.key)) is None:
            return self
        expires = event.expires if old.expires is None else min(old.expires, event.expires)
        return Keyring(self.keys | {event.key: replace(old, expires=expires)})

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
        key = self.known(given, now)
        if scope not in key.scopes and "admin" not in key.scopes:
            raise DeniedError(True, f"this key has the scopes {', '.join(key.scopes)}; this needs {scope}")
        if key.subjects and subject not in key.subjects:
            raise DeniedError(True, f"this key is for {', '.join(key.subjects)} alone")
        return key

    def known(self, given: str, now: float) -> Issued:
        """The key behind a token, whatever it may do. Raises `DeniedError`."""
        mark, _, rest = given.partition("_")
        name, _, secret = rest.partition("_")
        key = self.keys.get(name)
        # An unknown name costs the same comparison as a wrong secret.
        right = hmac.compare_digest(digest(secret), _NOBODY if key is None else key.digest)
        if key is None or not right or mark != _MARK or not secret:
            raise DeniedError(
                False, "send a valid API key as Authorization: Bearer tt_... (commands take it from TRIMTAB_KEY)"
            )
        if key.expires is not None and now >= key.expires:
            raise DeniedError(False, "this API key has expired or was revoked: ask for a new one")
        return key


def own_token(secret: bytes, name: str) -> str:
    """The token of a key that the service has without issuing it; who holds its secret can make it.

    Args:
        secret: The service's own, which authenticates snapshots too: whoever has it has everything.
        name: One of `OWN`.
    """
    return token(name, hmac.new(secret, f"own key {name}".encode(), sha256).hexdigest())


def own_keys(secret: bytes) -> Keyring:
    """The keys that every process of the service knows: of its operator on the spot, and of the demo's traffic."""
    made = {name: own_token(secret, name).rpartition("_")[2] for name in OWN}
    return Keyring.of(
        Issued(name, digest(made[name]), scopes, (), None, 0.0, "trimtab", "made from the service's secret", name)
        for name, scopes in OWN.items()
    )


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
