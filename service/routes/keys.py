"""API keys: who has one, and making, replacing and ending them."""

import secrets
from typing import Annotated, Any

from msgspec import Meta, Struct

from service.access.keys import Ended, Issued, KeyEvent, Keyring, Scope, digest, token
from service.deciding.store import Store
from service.http.api import Api
from service.http.decoding import Decoder
from service.http.operations import Answer, Call, Operation, Parameter, reply
from service.http.problems import Fault, ProblemError, invalid, shown

_NAME_BYTES, _SECRET_BYTES = 6, 32
_OVERLAP_S = 86_400.0
_LONGEST_S = 366 * 86_400.0

Reason = Annotated[str, Meta(min_length=1, max_length=1000)]
Actor = Annotated[str, Meta(max_length=200)]
Subject = Annotated[str, Meta(pattern="^(model|point|bandit):[^/]{1,200}$")]


class KeyOrder(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Asks for a key.

    Attributes:
        scopes: What it may do; `admin` may do everything.
        subjects: The models, points and bandits it is for (`model:churn`, `point:price`); none: all, and the service.
        expires_in_s: Seconds until it ends; `null`: never.
        rate: Requests a second that each API process lets it make; `null`: any number.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)]
    subjects: tuple[Subject, ...] = ()
    expires_in_s: Annotated[float, Meta(gt=0, le=10 * _LONGEST_S)] | None = None
    rate: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    reason: Reason
    actor: Actor = ""


class RotateOrder(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Asks for a key to take another's place; the old one is good for `overlap_s` more seconds."""

    reason: Reason
    overlap_s: Annotated[float, Meta(ge=0, le=_LONGEST_S)] = _OVERLAP_S
    actor: Actor = ""


class KeyView(Struct, frozen=True):
    """A key without its secret; `ended` says that it is of no use any more."""

    key: str
    name: str
    scopes: tuple[Scope, ...]
    subjects: tuple[str, ...]
    expires: float | None
    rate: float | None
    at: float
    actor: str
    reason: str
    ended: bool


class KeysAnswer(Struct, frozen=True):
    """Every key that was ever issued, the newest first."""

    keys: list[KeyView]


class NewKeyAnswer(Struct, frozen=True):
    """A key that was just made; `token` is shown this once and stored nowhere."""

    token: str
    key: KeyView


class MeAnswer(Struct, frozen=True):
    """The key that was sent, and what it may do."""

    key: str
    name: str
    scopes: tuple[str, ...]
    subjects: tuple[str, ...]
    expires: float | None


class Keys:
    """The handlers of `/v1/keys` and `/v1/me`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._order: Decoder[KeyOrder] = Decoder(KeyOrder)
        self._rotate: Decoder[RotateOrder] = Decoder(RotateOrder)

    async def me(self, call: Call) -> Answer:
        """Which key was sent and what it may do; 404 while the service has no keys and asks nobody."""
        if (caller := call.caller) is None:
            detail = (
                "The service has no API keys and answers whoever reaches it; `trimtab keys create` makes the first."
            )
            raise ProblemError("no-keys", detail)
        return reply(MeAnswer(caller.key, caller.name, caller.scopes, caller.subjects, caller.expires))

    async def listed(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """Every key that was ever issued, the newest first; never a secret."""
        ring = await self._api.store.ask(lambda store: store.keys.follow())
        return reply(KeysAnswer([self._view(key) for key in reversed(ring.keys.values())]))

    async def create(self, call: Call) -> Answer:
        """Makes a key. The first one must be for `admin`: from then on nobody is let in without."""
        order = self._order.decode(call.body)
        now = self._api.clock()
        expires = None if order.expires_in_s is None else now + order.expires_in_s
        name, secret = _made()
        actor = order.actor or _who(call)
        issued = Issued(
            *(name, digest(secret), tuple(dict.fromkeys(order.scopes)), order.subjects, expires, now),
            *(actor, order.reason, order.name, order.rate),
        )

        def put(store: Store) -> None:
            if not store.keys.follow().keys and ("admin" not in order.scopes or order.subjects or expires is not None):
                allowed = "admin, for everything and without an end: the first key must be able to make others"
                raise invalid("scopes", allowed, order.scopes)
            store.keys.append(name, issued)

        await self._api.store.ask(put)
        await self._api.watch.settle()
        return self._new(issued, secret)

    async def rotate(self, call: Call) -> Answer:
        """Makes a key that may do what another may, which ends a little later: nobody is refused meanwhile."""
        order, old_name = self._rotate.decode(call.body), call.path["key"]
        now, actor = self._api.clock(), order.actor or _who(call)
        name, secret = _made()

        def put(store: Store) -> Issued:
            old = self._living(store.keys.follow(), old_name)
            issued = Issued(
                *(name, digest(secret), old.scopes, old.subjects, old.expires, now, actor, order.reason),
                *(old.name, old.rate),
            )
            ended: KeyEvent = Ended(old_name, now + order.overlap_s, now, actor, order.reason)
            store.keys.append(name, issued)
            store.keys.append(f"{old_name} ends for {name}", ended)
            return issued

        issued = await self._api.store.ask(put)
        await self._api.watch.settle()
        return self._new(issued, secret)

    async def revoke(self, call: Call) -> Answer:
        """Ends a key at once, in every API process within a second."""
        name, now = call.path["key"], self._api.clock()
        actor, reason = call.query.get("actor") or _who(call), call.query.get("reason", "")

        def put(store: Store) -> Issued:
            self._living(store.keys.follow(), name)
            store.keys.append(f"{name} ends", Ended(name, now, now, actor, reason))
            return store.keys.follow().keys[name]

        ended = await self._api.store.ask(put)
        await self._api.watch.settle()
        return reply(self._view(ended))

    def _new(self, issued: Issued, secret: str) -> Answer:
        answer = NewKeyAnswer(token(issued.key, secret), self._view(issued))
        return reply(answer, 201)._replace(about=f"key:{issued.key}")

    def _living(self, ring: Keyring, name: str) -> Issued:
        key = ring.keys.get(name)
        if key is None or self._view(key).ended:
            detail = f"There is no key {name!r} that is still good; `GET /v1/keys` lists them."
            raise ProblemError("unknown-key", detail, Fault("key", "the public name of a good key", shown(name)))
        return key

    def _view(self, key: Issued) -> KeyView:
        ended = key.expires is not None and key.expires <= self._api.clock()
        return KeyView(
            *(key.key, key.name, key.scopes, key.subjects, key.expires, key.rate, key.at, key.actor, key.reason, ended)
        )

    def operations(self) -> list[Operation]:
        """What can be done with keys."""
        one = "/v1/keys/{key}"
        why = (Parameter("reason", {"type": "string"}, "Why"), Parameter("actor", {"type": "string"}, "Who wants it"))
        admin: dict[str, Any] = {"scope": "admin", "problems": ("unavailable",)}
        known: dict[str, Any] = {"scope": "admin", "problems": ("unknown-key", "unavailable")}
        create = {"name": "ana", "scopes": ["admin"], "reason": "the first key"}
        operations = [
            Operation("GET", "/v1/me", "Who am I?", self.me, MeAnswer, scope="any", problems=("no-keys",)),
            Operation("GET", "/v1/keys", "List keys", self.listed, KeysAnswer, **admin),
            Operation(
                "POST",
                "/v1/keys",
                "Make a key",
                self.create,
                NewKeyAnswer,
                request=KeyOrder,
                example=create,
                status=201,
                **admin,
            ),
            Operation(
                "POST",
                f"{one}/rotate",
                "Replace a key",
                self.rotate,
                NewKeyAnswer,
                request=RotateOrder,
                example={"reason": "every quarter"},
                status=201,
                **known,
            ),
            Operation("DELETE", one, "End a key", self.revoke, KeyView, query=why, **known),
        ]
        return [operation.tagged("access") for operation in operations]


def _made() -> tuple[str, str]:
    """A new public name and a new secret; neither has an underscore in the wrong place."""
    return secrets.token_hex(_NAME_BYTES), secrets.token_urlsafe(_SECRET_BYTES)


def _who(call: Call) -> str:
    return call.caller.name if call.caller else "operator"
