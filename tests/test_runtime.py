"""A bundle that runs: what it refuses, how it reads the three sorts of output, and that it needs no torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agents.bundle import Actions, Bundle, BundleError, Card, ObservationField, pack, unpack
from agents.runtime import load

ROOT = Path(__file__).resolve().parent.parent


def graph(actions: int = 3, op: str = "Identity", width: int = 3) -> bytes:
    """A graph that gives back its input, one operator applied."""
    node = helper.make_node(op, ["x"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", actions])
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    return bytes(model.SerializeToString())


def bundle(onnx_bytes: bytes, **changes: object) -> Bundle:
    fields = tuple(ObservationField(name) for name in "abc")
    settings = {"world": "w", "params": {}, "actions": Actions("a", 3), "observation": fields, **changes}
    return unpack(pack(Card(**settings), onnx_bytes))  # type: ignore[arg-type]


EVERY = np.ones((1, 3), bool)


def test_logits_are_read_with_the_temperature_of_the_card() -> None:
    policy = load(bundle(graph(), temperature=0.5))
    given = policy.probabilities(np.log([[0.2, 0.3, 0.5]]), EVERY)
    assert given == pytest.approx(np.array([[4, 9, 25]]) / 38, rel=1e-6)


def test_values_are_read_as_greedy_with_the_explicit_epsilon() -> None:
    policy = load(bundle(graph(), output="values", epsilon=0.3))
    allowed = np.array([[True, True, False]])
    assert policy.probabilities(np.array([[1.0, 2.0, 9.0]]), allowed) == pytest.approx(np.array([[0.15, 0.85, 0]]))


def test_probabilities_are_taken_as_they_are_and_restricted_to_what_is_allowed() -> None:
    policy = load(bundle(graph(), output="probabilities"))
    assert policy.probabilities(np.array([[0.2, 0.3, 0.5]]), EVERY) == pytest.approx(np.array([[0.2, 0.3, 0.5]]))
    allowed = np.array([[True, True, False]])
    assert policy.probabilities(np.array([[0.2, 0.3, 0.5]]), allowed) == pytest.approx(np.array([[0.4, 0.6, 0]]))


def test_negative_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        load(bundle(graph(op="Neg"), output="probabilities")).probabilities(np.array([[0.2, 0.3, 0.5]]), EVERY)


def test_a_logit_that_is_not_finite_is_refused_when_it_is_served() -> None:
    with pytest.raises(ValueError, match="not finite"):
        load(bundle(graph(op="Sqrt"))).probabilities(np.array([[-1.0, 0.0, 1.0]]), EVERY)


def test_an_observation_of_another_width_names_the_entries() -> None:
    with pytest.raises(ValueError, match=r"\['a', 'b', 'c'\]"):
        load(bundle(graph())).probabilities(np.zeros((1, 2)), EVERY)


@pytest.mark.parametrize(
    ("onnx_bytes", "changes", "message"),
    [
        (b"no graph", {}, "no protocol buffer"),
        (graph(), {"actions": Actions("a", 4)}, r"\(2, 4\) belongs to its card"),
        (graph(), {"observation": (ObservationField("a"),)}, "fails on an observation of 1 entries"),
        (graph(op="NoSuchOperator"), {}, "ONNX Runtime refuses"),
    ],
)
def test_a_graph_that_is_not_what_the_card_says_is_refused(
    onnx_bytes: bytes, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        load(bundle(onnx_bytes, **changes))


def test_a_graph_with_two_inputs_is_refused() -> None:
    x, y, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xyz")
    made = helper.make_graph([helper.make_node("Add", ["x", "y"], ["z"])], "g", [x, y], [z])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(BundleError, match="one float tensor"):
        load(bundle(bytes(model.SerializeToString())))


def test_a_graph_whose_weights_lie_in_another_file_is_refused(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
    made = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(BundleError, match="data in another file"):
        load(bundle((tmp_path / "m.onnx").read_bytes()))


def test_serving_a_bundle_loads_neither_torch_nor_onnx() -> None:
    program = "import sys, agents.runtime; print(sorted({'torch', 'onnx', 'stable_baselines3'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
