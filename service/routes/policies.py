"""Policies: which bundles a point has, which of them serves, and the operator's hands on it."""

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct, convert, to_builtins
from msgspec.structs import replace

from agents.bundle import MAX_BYTES, BundleError, unpack
from agents.cards import in_shares
from agents.curves import columns
from agents.foreign import packed
from agents.probe import probe
from online.events import Released
from service.deciding import feed
from service.deciding.feed import Note
from service.deciding.jobs import Job
from service.deciding.point_bandits import is_bandit
from service.deciding.points import Identifier, Point
from service.deciding.registry import Registered
from service.deciding.releases import TRIALS, Hold, Mode, Release, ReleaseError, fold, promotion, rollback
from service.deciding.store import Store
from service.http.api import Api
from service.http.decoding import Decoder
from service.http.operations import Answer, Call, Operation, Parameter, reply
from service.http.problems import Fault, ProblemError, invalid, shown

BUNDLE = "application/octet-stream"
_SCHEMA = {"type": "string", "format": "binary", "description": "A bundle, as `trimtab train --out` writes it"}

Step: TypeAlias = Callable[[list[Release]], Release]
Reason = Annotated[str, Meta(min_length=1, max_length=1000)]
Named = Annotated[str, Meta(pattern="^([0-9a-f]{64}|bandit:[a-z][a-z0-9_-]{0,62})$")]
"""A registered bundle's digest, or one of the point's bandits."""


class Order(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every order carries: why, and who wants it; `id` makes a retry the same order."""

    reason: Reason
    actor: Annotated[str, Meta(min_length=1, max_length=200)] = "operator"
    id: Identifier | None = None


class ReleaseOrder(Order, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A change of what serves.

    Attributes:
        expected: The number of the release that it was decided on; where another serves by now, nothing is done.
    """

    expected: Annotated[int, Meta(ge=0)] | None = None


class PromoteOrder(ReleaseOrder, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Makes a policy serve: the bundle or the bandit (`bandit:NAME`) that is named, else the candidate."""

    digest: Named | None = None


class RollbackOrder(ReleaseOrder, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Drops the candidate, or goes back to what served before."""


class ModeOrder(ReleaseOrder, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Changes how a point is served.

    Attributes:
        digest: For `shadow` and `canary` the candidate, in the other modes the bundle, or the bandit, that is to be
            the incumbent; where left out, the one that is there.
        share: The candidate's share of the units in `canary`; the manifest's, where left out.
    """

    mode: Mode
    digest: Named | None = None
    share: Annotated[float, Meta(gt=0, lt=1)] | None = None


class ImportOrder(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that was made elsewhere, with the card that says what goes in and what comes out.

    Attributes:
        card: What `trimtab import` reads from TOML: `world`, `params`, `actions`, `observation`, `output`.
        onnx: The model as one ONNX file, in base64.
    """

    card: dict[str, Any]
    onnx: bytes
    actor: Annotated[str, Meta(min_length=1, max_length=200)] = "operator"
    note: Annotated[str, Meta(max_length=1000)] = ""


class TrainOrder(Order, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Asks for a training run; `params` are what `trimtab train` takes."""

    params: dict[str, Any] = {}


class PolicySummary(Struct, frozen=True):
    """One bundle of a point."""

    digest: str
    kind: str
    algo: str
    steps: int
    metrics: dict[str, float]
    params: dict[str, Any]
    ranges: dict[str, tuple[float, float]]
    at: float
    actor: str
    note: str
    role: str


class PoliciesAnswer(Struct, frozen=True):
    """What serves a point, and what could; `held` says who keeps the service from releasing anything by itself.

    Attributes:
        bandits: Name → rewards learned, of the bandits that may be released as bundles are.
    """

    point: str
    release: Release
    policies: list[PolicySummary]
    held: Hold | None
    bandits: dict[str, int] = {}


class CurveAnswer(Struct, frozen=True):
    """What the best checkpoint of a bundle's training was worth, point by point; empty where it did not learn.

    Attributes:
        steps: Environment steps.
        seconds: Since the training began.
        gap_share: What is missing to the optimum, as a share of it; `null` where that is not known.
        value: Mean value.
    """

    steps: list[int]
    seconds: list[float | None]
    gap_share: list[float | None]
    value: list[float | None]


class ReleasesAnswer(Struct, frozen=True):
    """Everything that has served a point, the newest first."""

    releases: list[Release]


class RegisteredAnswer(Struct, frozen=True):
    """A bundle is registered under its content's digest."""

    digest: str


class JobAnswer(Struct, frozen=True):
    """A job is queued."""

    job: str


class Policies:
    """The handlers of `/v1/policies`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._promote: Decoder[PromoteOrder] = Decoder(PromoteOrder)
        self._rollback: Decoder[RollbackOrder] = Decoder(RollbackOrder)
        self._plain: Decoder[Order] = Decoder(Order)
        self._mode: Decoder[ModeOrder] = Decoder(ModeOrder)
        self._train: Decoder[TrainOrder] = Decoder(TrainOrder)
        self._import: Decoder[ImportOrder] = Decoder(ImportOrder)

    async def listed(self, call: Call) -> Answer:
        """What serves the point, and every bundle that was registered for it, the newest first."""
        point = self._point(call)
        bandits = {name: one.bandit.rewards for name, one in self._api.point(point.name).bandits.items()}

        def look(store: Store) -> PoliciesAnswer:
            release = store.registry.current(point.name, point.spec.mode)
            policies = [_summary(bundle, release) for bundle in store.registry.bundles(point.name)]
            return PoliciesAnswer(point.name, release, policies, store.registry.held(point.name), bandits)

        return reply(await self._api.store.ask(look))

    async def releases(self, call: Call) -> Answer:
        """Everything that has served the point, the newest first: in which mode, since when, by whom and why."""
        point = self._point(call)
        history = await self._api.store.ask(lambda store: store.registry.history(point.name, point.spec.mode))
        return reply(ReleasesAnswer(history[::-1]))

    async def curve(self, call: Call) -> Answer:
        """How a bundle of the point came to be what it is: its learning curve, as its card keeps it."""
        point, digest = self._point(call), call.path["digest"]
        found = await self._registered(point, digest)
        return reply(convert(columns(found.card.curve), CurveAnswer))

    async def register(self, call: Call) -> Answer:
        """Stores a bundle for the point, once it has kept the laws of policies in a process of its own.

        Refused where it is altered, where its card does not fit, saying how, and where it fails, is slow or crashes.
        """
        actor, note = call.query.get("actor", "operator"), call.query.get("note", "")
        return await self._take(self._point(call), lambda: call.body, actor, note)

    async def bring(self, call: Call) -> Answer:
        """Makes a bundle of an ONNX model that was made elsewhere and its card, and registers it as any other."""
        point, order = self._point(call), self._import.decode(call.body)
        return await self._take(point, lambda: packed(order.onnx, order.card), order.actor, order.note)

    async def _take(self, point: Point, make: Callable[[], bytes], actor: str, note: str) -> Answer:
        """Checks the card, tries the bundle in a child process, then stores it."""

        def put(store: Store) -> str:
            data = make()
            # What does not fit is said before anything is run.
            point.check(unpack(data).card)
            probe(data)
            return store.registry.register(point.name, data, point.check, actor=actor, note=note)

        try:
            return reply(RegisteredAnswer(await self._api.archive.ask(put)), 201)
        except BundleError as error:
            allowed = f"an intact bundle for this point, whose context and actions are at /v1/points/{point.name}"
            raise ProblemError("invalid-request", f"{error}.", Fault("card", allowed)) from None

    async def promote(self, call: Call) -> Answer:
        """Makes a policy serve the point, live: the bundle or the bandit that is named, else the candidate."""
        point, order = self._point(call), self._promote.decode(call.body)
        await self._known(point, order.digest)
        return await self._release(point, order, lambda history: promotion(history, order.digest))

    async def rollback(self, call: Call) -> Answer:
        """Drops the candidate; where there is none, what served before serves again."""
        point, order = self._point(call), self._rollback.decode(call.body)
        return await self._release(point, order, rollback)

    async def mode(self, call: Call) -> Answer:
        """Changes how the point is served."""
        point, order = self._point(call), self._mode.decode(call.body)
        await self._known(point, order.digest)
        if order.share is not None and order.mode != "canary":
            raise invalid("share", "left out, except in the mode canary", order.share)
        return await self._release(point, order, lambda history: _in_mode(history[-1], order, point.spec.gate.canary))

    async def hold(self, call: Call) -> Answer:
        """Keeps the service from releasing anything by itself; what serves goes on, and operators may still act."""
        return await self._hold(call, on=True)

    async def unhold(self, call: Call) -> Answer:
        """Lets the service release by itself again."""
        return await self._hold(call, on=False)

    async def _hold(self, call: Call, *, on: bool) -> Answer:
        point, order = self._point(call), self._plain.decode(call.body)
        hold = Hold(on, order.actor, order.reason, self._api.clock())
        name = order.id or self._api.new_id()
        try:
            await self._api.store.ask(lambda store: store.registry.hold(point.name, hold, name))
        except ValueError as error:
            raise ProblemError("conflict", f"{error}.", Fault("id", "a new id", shown(order.id))) from None
        return await self.listed(call)

    async def train(self, call: Call) -> Answer:
        """Queues a training run, which an adapter takes; follow it at `/v1/jobs/{job}`."""
        point, order = self._point(call), self._train.decode(call.body)
        params = {**order.params, "reason": order.reason, "actor": order.actor}
        job = Job(order.id or self._api.new_id(), point.name, "train", params)
        try:
            return reply(JobAnswer(await self._api.store.ask(lambda store: store.registry.submit(job))), 202)
        except ValueError as error:
            raise ProblemError("conflict", str(error), Fault("id", "a new id")) from None

    def _point(self, call: Call) -> Point:
        return self._api.point(call.path["point"]).point

    async def _known(self, point: Point, digest: str | None) -> None:
        """Refuses a policy that the point does not have: a digest never registered, a bandit not declared."""
        if digest is None:
            return
        if is_bandit(digest):
            known = tuple(self._api.point(point.name).bandits)
            if digest not in known:
                detail = f"{point.name!r} has no {digest}; it has {', '.join(known) or 'no bandits'}."
                raise ProblemError("unknown-policy", detail, Fault("digest", "one of its bandits", digest, known))
        else:
            await self._registered(point, digest)

    async def _registered(self, point: Point, digest: str) -> Registered:
        """The bundle of the point with this digest, refused where it was never registered."""
        bundles = {
            bundle.digest: bundle
            for bundle in await self._api.store.ask(lambda store: store.registry.bundles(point.name))
        }
        known = tuple(bundles)
        if digest not in bundles:
            there = f"there are: {', '.join(name[:12] for name in known)}" if known else "there are none yet"
            detail = f"No bundle {digest[:12]} is registered for {point.name!r}; {there}."
            raise ProblemError("unknown-policy", detail, Fault("digest", "a registered bundle's digest", digest, known))
        return bundles[digest]

    async def _release(self, point: Point, order: ReleaseOrder, step: Step) -> Answer:
        """Takes one step from where the point stands, and answers when this process serves it."""
        name, mode, at = point.name, point.spec.mode, self._api.clock()
        order_id, asked = order.id or self._api.new_id(), [type(order).__name__, order]

        def take(store: Store) -> Release | None:
            events = store.registry.releases(name)
            history = fold(name, mode, events)
            # A retry: what the first one did, whatever has happened since.
            event = next((event for event in events if event.id == order_id), None)
            if event is None:
                if order.expected not in (None, history[-1].number):
                    return None
                event = _released(order_id, step(history), order, at, history[-1].number)
            store.registry.release(name, event, asked)
            done = next((done for done in store.registry.history(name, mode) if done.id == order_id), None)
            if done is not None:
                feed.tell(store.log, _note(done, at), f"released/{name}/{order_id}")
            return done

        try:
            release = await self._api.store.ask(take)
        except ReleaseError as error:
            raise ProblemError("conflict", f"{name}: {error}.", Fault("digest", str(error))) from None
        except ValueError as error:
            raise ProblemError("conflict", f"{error}.", Fault("id", "a new id", shown(order.id))) from None
        if release is None:
            detail = f"{name}: another release came in between. Look at what serves now, and order anew."
            raise ProblemError("conflict", detail, Fault("expected", "the number of the release that serves now"))
        await self._api.serving.settle()
        return reply(release)

    def operations(self) -> list[Operation]:
        """What can be done with policies."""
        looked: dict[str, Any] = {"tag": "policies", "problems": ("unknown-point", "unavailable")}
        ordered: dict[str, Any] = {
            "tag": "policies",
            "scope": "operate",
            "problems": ("unknown-point", "unknown-policy", "conflict", "unavailable"),
            "example": {"reason": "beats the incumbent"},
        }
        notes = tuple(Parameter(name, {"type": "string"}, doc) for name, doc in _NOTES.items())
        base = "/v1/policies/{point}"
        bundle: dict[str, Any] = {"request": _SCHEMA, "consumes": BUNDLE, "most": MAX_BYTES + _AROUND}
        register = {**ordered, **bundle, "query": notes, "status": 201, "example": None}
        model: dict[str, Any] = {"request": ImportOrder, "most": MAX_BYTES // 3 * 4 + _AROUND}
        bring = {**ordered, **model, "status": 201, "example": {"card": _CARD, "onnx": "CAo6..."}}
        curve: dict[str, Any] = {**looked, "problems": ("unknown-point", "unknown-policy", "unavailable")}
        mode = {**ordered, "request": ModeOrder, "example": {"mode": "live", "reason": "trial is over"}}
        train = {**ordered, "request": TrainOrder, "status": 202}
        return [
            Operation("GET", base, "List policies", self.listed, PoliciesAnswer, **looked, scope="read"),
            Operation(
                "GET", f"{base}/releases", "List releases", self.releases, ReleasesAnswer, **looked, scope="read"
            ),
            Operation(
                "GET", f"{base}/{{digest}}/curve", "Learning curve", self.curve, CurveAnswer, **curve, scope="read"
            ),
            Operation("POST", base, "Register a bundle", self.register, RegisteredAnswer, **register),
            Operation("POST", f"{base}/import", "Import a model", self.bring, RegisteredAnswer, **bring),
            Operation("POST", f"{base}/promote", "Promote", self.promote, Release, request=PromoteOrder, **ordered),
            Operation("POST", f"{base}/rollback", "Go back", self.rollback, Release, request=RollbackOrder, **ordered),
            Operation("POST", f"{base}/mode", "Change the mode", self.mode, Release, **mode),
            Operation("POST", f"{base}/hold", "Hold", self.hold, PoliciesAnswer, request=Order, **ordered),
            Operation("POST", f"{base}/release", "Let go on", self.unhold, PoliciesAnswer, request=Order, **ordered),
            Operation("POST", f"{base}/train", "Train", self.train, JobAnswer, **train),
        ]


_CARD = {
    "world": "pricing",
    "params": {},
    "actions": {"name": "price", "n": 2, "unit": "money", "values": [1.0, 2.0]},
    "observation": [{"name": "stock", "unit": "items"}, {"name": "period", "unit": "periods"}],
    "output": "logits",
}
_AROUND = 1024 * 1024
"""What may stand around a bundle or a model: a seal, a card."""
_NOTES = {"actor": "Who registers it", "note": "Where it comes from"}


def _summary(bundle: Registered, release: Release) -> PolicySummary:
    card = bundle.card
    roles = {release.incumbent: "incumbent", release.candidate: "candidate"}
    return PolicySummary(
        digest=bundle.digest,
        kind=card.kind,
        algo=card.algo,
        steps=card.steps,
        metrics=in_shares(card.metrics),
        params=to_builtins(card.params),
        ranges=card.ranges,
        at=bundle.at,
        actor=bundle.actor,
        note=bundle.note,
        role=roles.get(bundle.digest, ""),
    )


def _note(done: Release, at: float) -> Note:
    """What people are told of an order that was carried out."""
    named = done.candidate if done.mode in TRIALS else done.incumbent if done.mode == "live" else None
    policy = f" with {named[:16]}" if named else ""
    text = f"{done.point}: {done.mode}{policy}, by {done.actor}: {done.reason}"
    return Note(at=at, source="api", kind="released", text=text, subject=f"point:{done.point}")


def _released(event_id: str, wanted: Release, order: ReleaseOrder, at: float, number: int) -> Released:
    """The event that leads from the release of this number to the wanted one."""
    on_trial = wanted.mode in TRIALS
    return Released(
        id=event_id,
        point=wanted.point,
        bundle=wanted.candidate if on_trial else wanted.incumbent,
        mode=wanted.mode,
        share=wanted.share if wanted.mode == "canary" else None,
        actor=order.actor,
        reason=order.reason,
        at=at,
        expected=number,
    )


def _in_mode(now: Release, order: ModeOrder, share: float) -> Release:
    """The release after a change of mode.

    Raises:
        ReleaseError: A trial without a candidate.
    """
    if order.mode in TRIALS:
        candidate = order.digest or now.candidate
        if candidate is None:
            raise ReleaseError(f"{order.mode} needs a candidate: name a registered bundle's digest")
        given = order.share if order.share is not None else share
        return replace(now, mode=order.mode, candidate=candidate, share=given if order.mode == "canary" else 0.0)
    return replace(now, mode=order.mode, incumbent=order.digest or now.incumbent, candidate=None, share=0.0)
