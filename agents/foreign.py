"""Bundles of models made elsewhere (Keras, scikit-learn, PyTorch, R): an ONNX file and a card written by hand."""

from typing import Any

import msgspec

from agents.bundle import Bundle, BundleError, card_from, pack
from agents.graph import require_safe
from agents.probe import probe


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

    Raises:
        BundleError: as `packed`, or a card and a graph that do not belong together.
    """
    return probe(packed(onnx, card))
