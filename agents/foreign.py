"""Bundles of models made elsewhere (Keras, scikit-learn, PyTorch, R): an ONNX file and a card written by hand."""

from typing import Any

import msgspec

from agents.bundle import Bundle, BundleError, card_from, pack, unpack
from agents.graph import require_safe
from agents.runtime import load


def bundle_of(onnx: bytes, card: dict[str, Any]) -> Bundle:
    """A bundle of a foreign graph, tried on observations before it is given back.

    Args:
        onnx: the model as one file. It must take one float tensor (n, k); its last float output (n, a) is read.
        card: as parsed from TOML. `world`, `params`, `actions` and `observation` are needed; `output` says whether the
            graph gives `logits`, `values` or `probabilities`.

    Raises:
        BundleError: a card or a graph that is not allowed, or two that do not belong together.
    """
    kind = card.get("kind", "foreign")
    if kind != "foreign":
        raise BundleError(f"kind is {kind!r}: a model that is imported is foreign, leave it out")
    written = msgspec.structs.replace(card_from({**card, "kind": "foreign"}), digests={})
    require_safe(onnx)
    bundle = unpack(pack(written, onnx))
    load(bundle)
    return bundle
