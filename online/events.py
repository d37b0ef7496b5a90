"""Events: the facts of the log, as tagged and versioned MessagePack.

An event is encoded once, by whoever appends it, and its bytes are never rewritten: readers ignore fields they do not
know, and refuse a type or a version they do not know. The tag carries both (``observed/1``).
"""

import hashlib
from typing import Any, ClassVar, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

Scalar: TypeAlias = bool | int | float | str | None
"""A feature's value or a label. ``None`` is a missing value."""

_KEY_SEPARATOR = "\x1f"


class EventError(ValueError):
    """Bytes that are no event of a known type and version."""


class _Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="type"):
    """What all events share: immutable, encoded as a map, absent fields are defaults."""


class Served(_Event, frozen=True):
    """What was answered when a prediction was asked for: it may come from an older snapshot than the fold's.

    ``learned`` is the number of labels in the model that answered, ``entry`` the last entry it had seen, ``drift``
    whether an alarm was fresh, ``label_wanted`` whether its label was asked for (``None``: nobody asks). ``interval``
    is what a model of intervals says the number lies in.
    """

    value: Scalar = None
    probabilities: dict[str, float] | None = None
    score: float | None = None
    learned: int = 0
    entry: str | None = None
    drift: bool = False
    label_wanted: bool | None = None
    interval: tuple[float, float] | None = None


class Observed(_Event, frozen=True, tag="observed/1"):
    """Features of one case, with its label where that is known already.

    ``at`` is event time in seconds since the epoch, ``None`` for the time of the append. ``label`` is ``UNSET`` where
    it will come later, or never. ``learn=False`` asks for a prediction alone: a label is scored, never learned.
    """

    id: str
    features: dict[str, Scalar]
    key: str | None = None
    at: float | None = None
    label: Scalar | UnsetType = UNSET
    served: Served | None = None
    learn: bool = True


class Labelled(_Event, frozen=True, tag="labelled/1"):
    """The label of an earlier ``Observed``, whose ``id`` and ``key`` it names."""

    id: str
    label: Scalar
    key: str | None = None
    at: float | None = None


class Forecast(Struct, frozen=True, omit_defaults=True, gc=False):
    """What a prediction model foretold of one entry of an observation.

    ``entry`` is the last one that the model had seen. ``instead`` says why there was none; ``value`` is then what stood
    in for it, ``None`` for the live estimate.
    """

    model: str
    value: float | None
    entry: str = ""
    instead: str = ""


class Decided(_Event, frozen=True, tag="decided/1"):
    """A decision with everything needed to answer it again, audit it and learn from it.

    ``index`` is the chosen action's index and ``action`` its physical value; for a product of sets, lists with one of
    each for every factor, as are ``baseline`` and ``draw``, and ``allowed`` and ``probabilities`` hold one factor after
    another. ``propensity`` is the probability of that action, every random choice on the way included;
    ``probabilities`` the whole vector given the arm. ``draw`` is the uniform that chose, ``policy`` a bundle's digest
    or a baseline's name, ``baseline`` the index that the baseline would have taken. ``deferred`` decisions count once
    they are activated. ``forecasts`` are the entries of context and estimates that models were asked for. ``intervals``
    are the ends of the 95 % intervals of the estimates; what is not estimated has none.
    """

    id: str
    context: dict[str, Any]
    index: int | list[int]
    action: Any
    propensity: float
    policy: str
    key: str | None = None
    episode: str | None = None
    at: float | None = None
    allowed: list[bool] | None = None
    probabilities: list[float] | None = None
    kind: str = ""
    mode: str = "live"
    arm: str = ""
    arm_probability: float = 1.0
    estimates: dict[str, float] | None = None
    baseline: int | list[int] | None = None
    draw: float | list[float] | None = None
    deferred: bool = False
    forecasts: dict[str, Forecast] | None = None
    intervals: dict[str, tuple[float, float]] | None = None


class Rewarded(_Event, frozen=True, tag="rewarded/1"):
    """One outcome of the decision ``decision``: its ``value``, or the ``fields`` from which the point computes one.

    ``id`` is ``<decision>/<outcome_id>``.
    """

    id: str
    decision: str
    key: str | None = None
    value: float | None = None
    fields: dict[str, Any] | None = None
    at: float | None = None


class Activated(_Event, frozen=True, tag="activated/1"):
    """Says that a deferred decision was really used, and from when its outcomes are waited for."""

    id: str
    decision: str
    key: str | None = None
    at: float | None = None


class Ticked(_Event, frozen=True, tag="ticked/1"):
    """Moves event time when nothing else does."""

    at: float


class Replayed(_Event, frozen=True, tag="replayed/1"):
    """A rejected entry brought back by an operator: ``event`` holds its bytes, as they were or as they were mended."""

    id: str
    entry: str
    event: bytes
    actor: str = ""


class Drifted(_Event, frozen=True, tag="drifted/1"):
    """An alarm of a detector on ``signal``, with the evidence: what it saw before and after.

    ``name`` is the detector's own, as it is declared, ``detector`` the kind that it is.
    """

    id: str
    detector: str
    signal: str
    at: float
    name: str = ""
    entry: str = ""
    key: str | None = None
    evidence: dict[str, float] = {}
    action: str = "keep"


class Released(_Event, frozen=True, tag="released/1"):
    """From now on ``point`` serves ``bundle`` (``None``: the baseline) in ``mode``; by whom, and why.

    Where it was decided on the release of number ``expected``, it counts only if nothing came in between.
    """

    id: str
    point: str
    bundle: str | None = None
    baseline: str | None = None
    mode: str = "live"
    share: float | None = None
    actor: str = ""
    reason: str = ""
    at: float | None = None
    expected: int | None = None


class Switched(_Event, frozen=True, tag="switched/1"):
    """From now on the candidate ``champion`` of a model answers; by whom, and why.

    The report of it says also who answered ``before``; the declared rule reports alone, as the actor ``rule``.
    """

    id: str
    champion: str
    before: str = ""
    actor: str = ""
    reason: str = ""
    at: float | None = None


class Resumed(_Event, frozen=True, tag="resumed/1"):
    """A person has looked at the drift that stopped a model: it learns again; by whom, and why."""

    id: str
    actor: str = ""
    reason: str = ""
    at: float | None = None


class Finding(Struct, frozen=True, gc=False):
    """What one comparison found: ``verdict`` is ``better``, ``worse`` or ``not told apart``, of the challenger.

    ``difference`` is the champion's mean error less the challenger's, between ``low`` and ``high`` with the level's
    confidence; ``p`` is that of the one-sided test that the challenger is no better; ``labels`` were announced.
    """

    challenger: str
    verdict: str
    difference: float
    low: float
    high: float
    p: float
    labels: int


class Compared(Finding, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="type", tag="compared/1"):
    """Report: what the comparison of a challenger with the champion found."""

    id: str


class Chosen(_Event, frozen=True, tag="chosen/1"):
    """An arm that a bandit took, with the exact ``propensity`` of it, or the ``refusal`` that says why there is none.

    ``allowed`` are the arms that the caller allowed, ``None`` for all; ``rewards`` had been learned by then.
    """

    id: str
    arm: str
    features: dict[str, float] = {}
    allowed: list[str] | None = None
    probabilities: dict[str, float] | None = None
    propensity: float | None = None
    refusal: str | None = None
    rewards: int = 0
    at: float | None = None


class Armed(_Event, frozen=True, tag="armed/1"):
    """From now on a bandit offers ``arm``, or no more; by whom, and why."""

    id: str
    arm: str
    offered: bool
    actor: str = ""
    reason: str = ""
    at: float | None = None


class Predicted(_Event, frozen=True, tag="predicted/1"):
    """Report: the fold's own prediction for an observation whose label is not known yet."""

    id: str
    prediction: Scalar
    score: float | None = None
    wanted: bool = False


class Scored(_Event, frozen=True, tag="scored/1"):
    """Report: a prediction met its label. ``error`` is 0 or 1 for classes, absolute for numbers.

    ``state`` is ``labelled``, ``late`` (recorded, not learned) or ``scored`` (``learn=False``).
    """

    id: str
    prediction: Scalar
    label: Scalar
    error: float | None = None
    state: str = "labelled"


class Settled(_Event, frozen=True, tag="settled/1"):
    """Report: where a prediction or a decision stands: pending, rewarded, defaulted or late.

    ``reward`` aggregates its ``outcomes`` outcomes so far. ``closed`` once the wait is over.
    """

    id: str
    state: str
    reward: float | None = None
    outcomes: int = 0
    closed: bool = False


class Rejected(_Event, frozen=True, tag="rejected/1"):
    """Report: an entry was set aside, why, and the bytes that were set aside."""

    id: str
    entry: str
    reason: str
    field: str | None = None
    event: bytes = b""


class Missed(_Event, frozen=True, tag="missed/1"):
    """Report: ``count`` entries before this one are gone from the log, or came twice or out of order (negative)."""

    entry: str
    count: int


Event: TypeAlias = (
    Observed
    | Labelled
    | Decided
    | Rewarded
    | Activated
    | Ticked
    | Replayed
    | Drifted
    | Released
    | Switched
    | Resumed
    | Chosen
    | Armed
)
Report: TypeAlias = Predicted | Scored | Settled | Drifted | Switched | Compared | Rejected | Missed

_encoder = msgspec.msgpack.Encoder()
_canonical = msgspec.msgpack.Encoder(order="sorted")
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
_report_decoder: msgspec.msgpack.Decoder[list[Report]] = msgspec.msgpack.Decoder(list[Report])


class _Tag(Struct):
    """The tag alone, to name it in an error."""

    type: str = ""
    known: ClassVar[str] = (
        "observed labelled decided rewarded activated ticked replayed drifted released switched chosen armed, version 1"
    )


def encode(event: Event) -> bytes:
    """The bytes of an event, as they stay in the log for ever."""
    return _encoder.encode(event)


def decode(payload: bytes) -> Event:
    """The event that these bytes hold.

    Raises:
        EventError: The bytes are damaged, lack a field, or hold a type or version that this reader does not know.

    >>> decode(encode(Ticked(at=1.5)))
    Ticked(at=1.5)
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise EventError(_explain(payload, error)) from error


decode_quickly = _decoder.decode
"""`decode` without the explanation: raises whatever msgspec raises, ``ValueError`` or ``RecursionError``."""


def _explain(payload: bytes, error: Exception) -> str:
    try:
        tag = msgspec.msgpack.decode(payload, type=_Tag).type
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return f"{len(payload)} bytes that are no MessagePack map: {error}"
    name, _, version = tag.partition("/")
    if name in _Tag.known.split(",")[0].split() and version == "1":
        return f"a broken {name!r} event: {error}"
    return f"an event of the unknown type or version {tag!r}; known are {_Tag.known}: upgrade this reader"


def encode_reports(reports: list[Report]) -> bytes:
    """All reports that one entry caused, as the one entry they make in the report stream."""
    return _encoder.encode(reports)


def decode_reports(payload: bytes) -> list[Report]:
    """The reports in these bytes.

    Raises:
        EventError: The bytes are damaged or hold a report that this reader does not know.
    """
    try:
        return _report_decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise EventError(f"{len(payload)} bytes that are no list of known reports: {error}") from error


def digest(request: Any) -> bytes:
    """Sixteen bytes that name a request: equal for equal requests, whatever the order of their keys.

    The caller leaves defaults out, so that naming a default is the same request.

    >>> digest({"a": 1, "b": {"x": 2, "y": 3}}) == digest({"b": {"y": 3, "x": 2}, "a": 1})
    True
    """
    return hashlib.blake2b(_canonical.encode(request), digest_size=16).digest()


def scoped_id(event_id: str, key: str | None) -> str:
    """An id made unique over keys: ids need be unique within one key alone."""
    return event_id if key is None else f"{key}{_KEY_SEPARATOR}{event_id}"


def bare_id(scoped: str) -> str:
    """The id that was given to `scoped_id`."""
    return scoped.rpartition(_KEY_SEPARATOR)[2]


def draft_id(event: Event) -> str:
    """The id under which the log remembers an event, and by which it knows a retry.

    >>> draft_id(Labelled(id="7", key="sku-1", label=True)).split(chr(31))
    ['sku-1', '7/label']
    """
    match event:
        case Labelled():
            return scoped_id(f"{event.id}/label", event.key)
        case Activated():
            return scoped_id(f"{event.decision}/activated", event.key)
        case Observed() | Decided() | Rewarded():
            return scoped_id(event.id, event.key)
        case Ticked():
            return f"tick/{event.at!r}"
        case _:
            return event.id
