"""The door: who may ask for what, how often, and the record of what was changed."""

import hashlib
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from service.access.audit import Action, Sealed
from service.access.keys import SCOPES, Allowance, DeniedError, Issued, Keyring, Scope
from service.http.problems import ProblemError

Needs: TypeAlias = Scope | Literal["any", "none"]
"""What an operation asks of a key: a scope, a key whatever it may do, or nothing."""
NEEDS: tuple[str, ...] = (*SCOPES, "any", "none")

_SUBJECTS = ("model", "point", "bandit")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="trimtab"'}
_NONE_YET = (
    ". None was issued yet, and others can reach this address: make the first on the machine itself (`trimtab keys "
    "create`), listen on 127.0.0.1, or set TRIMTAB_TRUST_NETWORK=1 where the network itself keeps strangers out"
)
_log = logging.getLogger(__name__)


class Caller(NamedTuple):
    """Whoever asks, by the key that was sent."""

    key: str
    name: str
    scopes: tuple[str, ...]
    subjects: tuple[str, ...]
    expires: float | None


class Order(NamedTuple):
    """A call that changed something, as the audit tells it."""

    verb: str
    path: str
    names: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    about: str = ""


class Door:
    """Lets requests in.

    While there are no keys the door is open to whoever reaches it, where that is this machine alone or a network that
    is trusted; elsewhere it stays shut until a key was made.

    Args:
        keyring: The keys as they stand, `None` while the store has not been read.
        own: Keys that are not in the store; they open nothing new where the door is open.
        is_open: Whether a service without keys answers everybody.
        note: Adds an action to the audit chain.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        keyring: Callable[[], Keyring | None],
        own: Keyring,
        is_open: bool,
        note: Callable[[Action], Awaitable[Sealed]],
        clock: Callable[[], float],
    ) -> None:
        self._keyring = keyring
        self._own = own
        self._is_open = is_open
        self._note = note
        self._clock = clock
        self._merged = own
        self._of: Keyring | None = None
        self._allowances: dict[str, Allowance] = {}

    def admit(self, needs: str, names: Mapping[str, str], headers: Any) -> Caller | None:
        """Whoever asks; `None` where nobody is asked for a key.

        Args:
            needs: One of `NEEDS`.
            names: The variables of the path.

        Raises:
            ProblemError: 401 without a good key, 403 with one that is for something else, 429 above its rate.
        """
        key = self.recognise(needs, names, headers)
        if key is None:
            return None
        self._spend(key, self._clock())
        return Caller(key.key, key.name, key.scopes, key.subjects, key.expires)

    def recognise(self, needs: str, names: Mapping[str, str], headers: Any) -> Issued | None:
        """The key that was sent, as `admit`, whatever its rate: a stream asks again while it lasts."""
        if needs == "none":
            return None
        stored = self._keyring()
        if stored is None:
            raise ProblemError("unavailable", "The keys have not been read yet.", headers={"Retry-After": "1"})
        if not stored.keys and self._is_open:
            return None
        if stored is not self._of:
            self._of, self._merged = stored, Keyring(stored.keys | self._own.keys)
        now, given = self._clock(), bearer(headers)
        try:
            subject = subject_of(names)
            if needs == "any":
                return self._merged.known(given, now)
            return self._merged.admit(given, needs, subject, now)
        except DeniedError as error:
            if error.known:
                raise ProblemError("forbidden", f"{error}.") from None
            hint = "" if stored.keys else _NONE_YET
            raise ProblemError("unauthorized", f"{error}{hint}.", headers=_CHALLENGE) from None

    async def record(self, order: Order, caller: Caller | None) -> None:
        """Adds what was done to the audit chain, before it is answered.

        Raises:
            ProblemError: It cannot be added. What was done stays done; the same order under its id may be repeated.
        """
        sealed = await self._note(action_of(order, caller, self._clock()))
        action = sealed.action
        # The log of the process is another place than the store: a chain whose tail was cut there lacks this seal.
        _log.info("audit %d %s: %s %s, key %s", sealed.number, sealed.seal, action.verb, action.subject, action.key)

    def _spend(self, key: Issued, now: float) -> None:
        if key.rate is None:
            return
        burst = max(1.0, key.rate)
        left = self._allowances.get(key.key, Allowance(key.rate, burst, burst, now)).spend(now)
        if isinstance(left, float):
            wait = max(1, math.ceil(left))
            detail = f"This key may ask {key.rate:g} times a second. Try again in {wait} s, with the same id."
            raise ProblemError("rate-limited", detail, headers={"Retry-After": str(wait)})
        self._allowances[key.key] = left


def bearer(headers: Any) -> str:
    """The bearer token of a request; empty where there is none, or more than one.

    >>> bearer([(b"authorization", b"Bearer tt_a_b")]), bearer([(b"authorization", b"Basic dXNlcg==")])
    ('tt_a_b', '')
    """
    sent = [value for name, value in headers if name == b"authorization"]
    if len(sent) != 1:
        return ""
    kind, _, token = sent[0].decode("latin-1").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def subject_of(names: Mapping[str, str]) -> str | None:
    """What a path is about, as keys name it; `None` for the whole service.

    >>> subject_of({"point": "price", "id": "d1"}), subject_of({"job": "j1"})
    ('point:price', None)
    """
    return next((f"{kind}:{names[kind]}" for kind in _SUBJECTS if kind in names), None)


def action_of(order: Order, caller: Caller | None, at: float) -> Action:
    """An order as the audit keeps it: of what was sent, who and why; the rest as a digest."""
    told = _told(order)
    target = order.about or subject_of(order.names) or ":".join(next(iter(order.names.items()), ("", ""))).strip(":")
    return Action(
        verb=order.verb,
        subject=target,
        actor=told.get("actor") or (caller.name if caller else "") or "operator",
        reason=told.get("reason", ""),
        at=at,
        key=caller.key if caller else "",
        digest=hashlib.sha256(order.body).hexdigest(),
        details={"path": order.path},
    )


def _told(order: Order) -> dict[str, str]:
    """Actor and reason, from the body where that is JSON that has them, else from the query."""
    try:
        body = msgspec.json.decode(order.body) if order.body.startswith(b"{") else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = {}
    given = {name: body.get(name, order.query.get(name)) for name in ("actor", "reason")}
    return {name: value for name, value in given.items() if isinstance(value, str)}
