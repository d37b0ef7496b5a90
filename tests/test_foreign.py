"""Models made elsewhere are imported, tried apart, and refused when they need code or files of their own."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from agents.bundle import Actions, BundleError, Card, ObservationField, pack
from agents.export import export
from agents.foreign import bundle_of
from agents.graph import contents, require_safe
from agents.probe import probe
from agents.runtime import load

CARD: dict[str, Any] = {
    "world": "triage",
    "params": {},
    "output": "probabilities",
    "actions": {"name": "queue", "n": 3},
    "observation": [{"name": "age", "unit": "h", "low": 0, "high": 100}, {"name": "amount", "unit": "€"}],
}


@pytest.fixture(scope="module")
def pipeline() -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.uniform([0, -100], [100, 100], (500, 2)).astype(np.float32)
    y = (x[:, 0] > 50).astype(int) + (x[:, 1] > 0)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), x


def model(*nodes: onnx.NodeProto, domain: str = "") -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    made = helper.make_model(helper.make_graph(list(nodes), "g", [x], [y]), opset_imports=opsets, ir_version=9)
    return bytes(made.SerializeToString())


def test_a_scikit_learn_pipeline_serves_its_own_probabilities(pipeline: tuple[Any, np.ndarray]) -> None:
    fitted, x = pipeline
    graph = to_onnx(fitted, x[:1], options={"zipmap": False}, target_opset=18).SerializeToString()
    policy = load(bundle_of(graph, CARD))
    assert policy.kind == "foreign"
    served = policy.probabilities(x, np.ones((500, 3), bool))
    assert served == pytest.approx(fitted.predict_proba(x), abs=1e-5)


def test_a_torch_model_serves_its_softmax() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    policy = load(bundle_of(export(network, 2), {**CARD, "output": "logits"}))
    x = torch.rand(100, 2)
    expected = torch.softmax(network(x).double(), dim=1).detach().numpy()
    assert policy.probabilities(x.numpy(), np.ones((100, 3), bool)) == pytest.approx(expected, abs=1e-5)


def test_what_a_graph_uses_is_read_from_its_bytes(pipeline: tuple[Any, np.ndarray]) -> None:
    fitted, x = pipeline
    made = to_onnx(fitted, x[:1], options={"zipmap": False}, target_opset=18)
    expected = {(node.domain, node.op_type) for node in made.graph.node}
    assert contents(made.SerializeToString()).operators == expected


def test_custom_operators_are_refused_also_inside_a_branch() -> None:
    node = helper.make_node("Run", ["x"], ["y"], domain="com.example")
    with pytest.raises(BundleError, match=r"com\.example\.Run"):
        require_safe(model(node, domain="com.example"))
    inner = helper.make_graph([node], "then", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(BundleError, match=r"com\.example\.Run"):
        require_safe(model(branch, domain="com.example"))


def test_contributed_operators_of_the_runtime_are_custom_too() -> None:
    with pytest.raises(BundleError, match="custom operators"):
        load_foreign(model(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"), domain="com.microsoft"))


def load_foreign(graph: bytes) -> None:
    bundle_of(graph, {**CARD, "actions": {"name": "queue", "n": 2}})


@pytest.mark.parametrize("data", [b"\xff" * 20, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b", model()[:-3]])
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        load_foreign(data)


def test_a_card_that_claims_another_kind_is_refused() -> None:
    with pytest.raises(BundleError, match="leave it out"):
        bundle_of(model(), {**CARD, "kind": "network"})


PRICES: dict[str, Any] = {
    "world": "pricing",
    "params": {"stock": 5, "periods": 10, "prices": [1.0, 2.0]},
    "output": "logits",
    "actions": {"name": "price", "n": 2, "values": [1.0, 2.0]},
    "observation": [{"name": "stock"}, {"name": "period"}],
}


def test_a_card_that_fits_its_world_is_imported() -> None:
    assert bundle_of(model(helper.make_node("Identity", ["x"], ["y"])), PRICES).card.world == "pricing"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"params": {}}, r"the bundle has 2 actions, pricing with these parameters has \d+ actions"),
        ({"params": {"prices": [1.0, 3.0]}}, r"stand for 1\.0, 2\.0, those of .* for 1\.0, 3\.0"),
        ({"params": {"prices": "any"}}, "no list of actions"),
        ({"params": {"colour": 1}}, "colour"),
        ({"observation": [{"name": "stok"}, {"name": "period"}]}, r"observes \['stok', 'period'\]"),
        ({"observation": [{"name": "period"}, {"name": "stock"}]}, r"shows \['stock', 'period'\]"),
        ({"ranges": {"colour": (1, 2)}, "observation": [{"name": "stock"}, {"name": "colour"}]}, "cannot vary"),
        ({"ranges": {"volume": (1, 2)}, "observation": [{"name": "stock"}, {"name": "volume"}]}, "'volume'"),
    ],
)
def test_a_card_that_does_not_fit_its_world_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BundleError, match=told):
        bundle_of(model(helper.make_node("Identity", ["x"], ["y"])), {**PRICES, **changes})


def test_a_classifier_that_gives_dictionaries_is_told_how_to_be_converted(pipeline: tuple[Any, np.ndarray]) -> None:
    fitted, x = pipeline
    graph = to_onnx(fitted, x[:1], target_opset=18).SerializeToString()
    with pytest.raises(BundleError, match=r"^the graph gives .*options=\{'zipmap': False\}"):
        bundle_of(graph, CARD)


def packed(graph: bytes, **changes: Any) -> bytes:
    fields = (ObservationField("a", "", 0, 1), ObservationField("b", "", 0, 1))
    settings = {"world": "w", "params": {}, "actions": Actions("a", 2), "observation": fields, "kind": "foreign"}
    return pack(Card(**{**settings, **changes}), graph)


def test_a_sound_bundle_passes_the_probe() -> None:
    data = packed(model(helper.make_node("Identity", ["x"], ["y"])))
    assert probe(data).card.kind == "foreign"


def test_a_policy_that_breaks_a_law_fails_the_probe_with_the_reason() -> None:
    noise = model(helper.make_node("RandomUniformLike", ["x"], ["y"]))
    with pytest.raises(BundleError, match="answers the same question differently"):
        probe(packed(noise))


def test_a_graph_that_never_ends_is_stopped() -> None:
    with pytest.raises(BundleError, match=r"not tried within 0\.01 s"):
        probe(packed(model(helper.make_node("Identity", ["x"], ["y"]))), seconds=0.01)


def test_a_graph_that_takes_all_memory_ends_the_probe_alone() -> None:
    shape = onnx.numpy_helper.from_array(np.array([200_000, 200_000]), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["top"], keepdims=0),
        helper.make_node("Add", ["x", "top"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    made = helper.make_graph(nodes, "g", [x], [y], [shape])
    graph = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    with pytest.raises(BundleError):
        probe(packed(graph))
