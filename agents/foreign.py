"""Bundles of models made elsewhere (Keras, scikit-learn, PyTorch, R): an ONNX file and a card written by hand."""

from typing import Any

import msgspec

from agents.bundle import Bundle, BundleError, Card, card_from, pack, unpack
from agents.cards import require_fit
from agents.graph import require_safe
from agents.probe import probe
from envs import worlds
from envs.dynamics import ParamsError


def packed(onnx: bytes, card: dict[str, Any]) -> bytes:
    """The bytes of a bundle of a foreign graph, which nobody has run yet.

    Args:
        onnx: the model as one file. It must take one float tensor (n, k); its last float output (n, a) is read.
        card: as parsed from TOML. `world`, `params`, `actions` and `observation` are needed; `output` says whether the
            graph gives `logits`, `values` or `probabilities`.

    Raises:
        BundleError: a card or a graph that is not allowed.
    """
    kind = card.get("kind", "foreign")
    if kind != "foreign":
        raise BundleError(f"kind is {kind!r}: a model that is imported is foreign, leave it out")
    written = msgspec.structs.replace(card_from({**card, "kind": "foreign"}), digests={})
    require_safe(onnx)
    return pack(written, onnx)


def bundle_of(onnx: bytes, card: dict[str, Any]) -> Bundle:
    """A bundle of a foreign graph, tried in a process of its own before it is given back; as `packed`.

    A card for one of `envs.worlds.WORLDS` must fit that world; nothing is known of any other.

    Raises:
        BundleError: as `packed`, or a card, a world and a graph that do not belong together.
    """
    data = packed(onnx, card)
    written = unpack(data).card
    if written.world in worlds.WORLDS:
        _require_world(written)
    return probe(data)


def _require_world(card: Card) -> None:
    try:
        world = worlds.make(card.world, card.params)
        if not world.actions.nvec:
            raise BundleError(f"{card.world} with these parameters has no list of actions: give one, such as prices")
        require_fit(card, world)
    except ParamsError as error:
        raise BundleError(f"the card's parameters: {error}") from None
