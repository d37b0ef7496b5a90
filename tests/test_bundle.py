"""A bundle is one artefact: what was packed comes back, and nothing else is accepted."""

import hashlib

import msgspec
import numpy as np
import pytest

from agents.bundle import MAGIC, Actions, BundleError, Card, ObservationField, card_from, pack, unpack

GRAPH = bytes(range(256)) * 40


def card(**changes: object) -> Card:
    made = Card(
        world="pricing",
        params={"stock": 20, "periods": 50, "volume": 2.718281828, "sensitivity": 1.0},
        ranges={"volume": (1.0, 5.0)},
        actions=Actions("price", 3, "€", (0.5, 1.0, 1.5)),
        observation=(ObservationField("stock", "units", 0, 20), ObservationField("volume", "1/period", 0)),
        algo="ppo",
        metrics={"value": 36.2, "gap": 0.4},
    )
    return msgspec.structs.replace(made, **changes)


def test_what_was_packed_comes_back_and_equal_parts_give_one_name() -> None:
    data = pack(card(), GRAPH)
    bundle = unpack(data)
    assert bundle.onnx == GRAPH
    assert bundle.weights == b""
    assert unpack(pack(card(), GRAPH, b"weights")).weights == b"weights"
    assert bundle.card.params == card().params
    assert bundle.card.conditioned == ("volume",)
    assert pack(bundle.card, bundle.onnx) == data
    assert unpack(pack(card(seed=1), GRAPH)).digest != bundle.digest


def test_the_name_is_the_hash_of_the_content() -> None:
    data = pack(card(), GRAPH)
    assert data[len(MAGIC) : len(MAGIC) + 32].hex() == unpack(data).digest


def test_every_one_of_a_thousand_flipped_bytes_is_refused() -> None:
    data = pack(card(), GRAPH)
    rng = np.random.default_rng(5)
    refused = 0
    for place in [*range(60), *rng.integers(0, len(data), 1000)]:
        altered = bytearray(data)
        altered[place] ^= int(rng.integers(1, 256))
        with pytest.raises(BundleError):
            unpack(bytes(altered))
        refused += 1
    assert refused == 1060


@pytest.mark.parametrize("cut", [0, 10, 40, 200, -1])
def test_a_bundle_that_was_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(BundleError):
        unpack(pack(card(), GRAPH)[:cut])


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(BundleError, match="altered"):
        unpack(pack(card(), GRAPH) + b"\0")


def test_a_graph_that_the_card_does_not_name_is_refused_even_under_a_fresh_hash() -> None:
    body = msgspec.msgpack.encode((msgspec.json.encode(unpack(pack(card(), GRAPH)).card), b"other", b""))
    forged = MAGIC + hashlib.sha256(body).digest() + body
    with pytest.raises(BundleError, match="not the one that the card names"):
        unpack(forged)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": Actions("price", 2, "", (1.0,))}, "1 action values for 2 actions"),
        ({"ranges": {"sensitivity": (1.0, 2.0)}}, r"ranges of \['sensitivity'\]"),
        ({"observation": ()}, "at least one"),
        ({"observation": (ObservationField("a"), ObservationField("a"))}, "each of them once"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        pack(card(**changes), GRAPH)


def test_an_empty_graph_is_refused() -> None:
    with pytest.raises(BundleError, match="graph is missing"):
        pack(card(), b"")


def test_a_hand_written_card_names_the_place_of_its_mistake() -> None:
    mapping = {"world": "w", "params": {}, "actions": {"name": "a", "n": "three"}, "observation": []}
    with pytest.raises(BundleError, match=r"\$\.actions\.n"):
        card_from(mapping)
