"""Bundles: one immutable artefact of an ONNX graph and the card that says what it is; bytes in, bytes out.

Layout: a magic line, the SHA-256 of the rest, then a MessagePack array of the card (JSON), the graph and the weights
that training can go on from. The digest is the bundle's name, so whoever holds the name can check the bytes, and a
single altered byte is refused.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

MAGIC = b"trimtab-bundle 1\n"
DIGEST_SIZE = 32
MAX_BYTES = 64 * 2**20

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class BundleError(ValueError):
    """Bytes that are no bundle, or a bundle whose parts do not belong together."""


class ObservationField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the observation that the graph takes; `None` is no bound on that side."""

    name: Name
    unit: str = ""
    low: float | None = None
    high: float | None = None
    doc: str = ""


class Actions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The actions that the graph's outputs stand for, in this order; `values` are physical, `None` is 0, 1, 2, ...

    An action may be a product: one of the `n` choices for each of `factors` things. The graph then gives one list of
    `n` outputs after another, and each thing is drawn by itself.
    """

    name: Name
    n: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    unit: str = ""
    values: tuple[float | tuple[float, ...], ...] | None = None
    factors: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1

    @property
    def width(self) -> int:
        """Outputs of the graph for one observation."""
        return self.n * self.factors


class CurvePoint(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the best checkpoint of a training was worth after so many steps.

    Args:
        steps: environment steps.
        gap: to the optimum in percent, where that is known.
        seconds: since the training began, by its clock.
        value: mean value.
    """

    steps: int
    gap: float | None = None
    seconds: float | None = None
    value: float | None = None


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle is: for which world, how its graph is read, how it came to be and what it was measured to do.

    Args:
        world: world id (`pricing`) or the id of a registered Gymnasium environment.
        params: the world's parameters; those in `ranges` are its nominal values.
        ranges: parameters that were redrawn per episode and stand in the observation after the context, (low, high).
        actions: the actions in the order of the graph's outputs.
        observation: the entries of the graph's input in order: context first, then the parameters of `ranges`.
        kind: `network`, `table`, or `foreign` (imported).
        output: how an output row is read: `logits` (softmax at `temperature`), `values` (arg-max, with `epsilon`
            spread over the allowed actions) or `probabilities`.
        algo, preset, seed, steps: how it was made; `steps` are environment steps.
        metrics: what it was measured to do, by name (`value`, `gap`, `gap_greedy`, ...; gaps in percent).
        versions: libraries it was made with.
        digests: SHA-256 of the graph (`onnx`) and of what it started from (`start`).
        curve: what the best checkpoint was worth while it was trained, steps ascending.
    """

    world: Name
    params: dict[str, Any]
    actions: Actions
    observation: tuple[ObservationField, ...]
    ranges: dict[str, tuple[float, float]] = {}
    kind: Literal["network", "table", "foreign"] = "network"
    output: Literal["logits", "values", "probabilities"] = "logits"
    algo: str = ""
    preset: str = ""
    seed: int = 0
    steps: int = 0
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    epsilon: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    metrics: dict[str, float] = {}
    versions: dict[str, str] = {}
    digests: dict[str, str] = {}
    curve: tuple[CurvePoint, ...] = ()
    note: str = ""

    @property
    def conditioned(self) -> tuple[str, ...]:
        """The names of the parameters that stand at the end of the observation."""
        return tuple(field.name for field in self.observation if _parameter(field.name) in self.ranges)


@dataclass(frozen=True)
class Bundle:
    """A card, its graph and the content hash that names them; `weights` (or none) are for training on, not serving."""

    card: Card
    onnx: bytes
    digest: str
    weights: bytes = b""


def sha256(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def pack(card: Card, onnx: bytes, weights: bytes = b"") -> bytes:
    """The bytes of a bundle; equal parts give equal bytes.

    Raises:
        BundleError: a card that does not fit itself, or a bundle of more than 64 MiB.
    """
    digests = {**card.digests, "onnx": sha256(onnx)}
    # Once through JSON, so that an int given for a float does not change the name.
    card = read_card(_encode_card(msgspec.structs.replace(card, digests=digests)))
    _verify(card, onnx)
    body = msgspec.msgpack.encode((_encode_card(card), onnx, weights))
    if len(body) > MAX_BYTES:
        raise BundleError(f"the bundle has {len(body)} bytes: at most {MAX_BYTES} are allowed")
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(data: bytes) -> Bundle:
    """The bundle in these bytes, refused unless every byte is as it was packed.

    Raises:
        BundleError: not a bundle, cut short, altered, or a card and graph that do not belong together.
    """
    if len(data) > MAX_BYTES + len(MAGIC) + DIGEST_SIZE:
        raise BundleError(f"the bundle has {len(data)} bytes: at most {MAX_BYTES} are allowed")
    if not data.startswith(MAGIC):
        raise BundleError("this is not a bundle (its first line is not 'trimtab-bundle 1'): use `trimtab train`")
    stored, body = data[len(MAGIC) : len(MAGIC) + DIGEST_SIZE], data[len(MAGIC) + DIGEST_SIZE :]
    actual = hashlib.sha256(body).digest()
    if stored != actual:
        raise BundleError(f"altered or cut short: its content hashes to {actual.hex()}, it names {stored.hex()}")
    try:
        text, onnx, weights = msgspec.msgpack.decode(body, type=tuple[bytes, bytes, bytes])
    except msgspec.MsgspecError as error:
        raise BundleError(f"the bundle's content cannot be read: {error}") from error
    card = read_card(text)
    _verify(card, onnx)
    return Bundle(card, onnx, actual.hex(), weights)


def read_card(text: bytes) -> Card:
    """The card in this JSON.

    Raises:
        BundleError: what is wrong, with its place.
    """
    try:
        return msgspec.json.decode(text, type=Card)
    except msgspec.MsgspecError as error:
        raise BundleError(f"the card cannot be read: {error}") from error


def card_from(mapping: dict[str, Any]) -> Card:
    """The card in a mapping (a parsed TOML or JSON file).

    Raises:
        BundleError: what is wrong, with its place.
    """
    try:
        return msgspec.convert(mapping, type=Card)
    except msgspec.ValidationError as error:
        raise BundleError(f"the card cannot be read: {error}") from error


def _encode_card(card: Card) -> bytes:
    return msgspec.json.encode(card, order="deterministic")


def _parameter(column: str) -> str:
    """The parameter that a column belongs to: `wear` for `wear[2]`."""
    return re.sub(r"\[\d+\]$", "", column)


def _verify(card: Card, onnx: bytes) -> None:
    """Raise BundleError where card and graph do not belong together."""
    names = [field.name for field in card.observation]
    if not names or len(set(names)) < len(names):
        raise BundleError(f"observation names {names}: give at least one, each of them once")
    missing = sorted(set(card.ranges) - {_parameter(name) for name in names})
    if missing:
        raise BundleError(f"ranges of {missing} are trained over and must stand in the observation {names}")
    if card.actions.values is not None and len(card.actions.values) != card.actions.n:
        raise BundleError(f"{len(card.actions.values)} action values for {card.actions.n} actions: give one each")
    if not onnx:
        raise BundleError("the graph is missing: a bundle is a card and an ONNX graph")
    if card.digests.get("onnx") != sha256(onnx):
        raise BundleError("the graph is not the one that the card names: refuse both and train again")
