"""Graphs: a torch module or a table of probabilities as ONNX bytes that name nothing of the machine they came from."""

import logging
import warnings

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from agents.policy import Table

OPSET = 18
ENTRY, RESULT = "observation", "logits"
# exp(-1e4) is 0 in float64, and far from where float32 loses the other logits.
IMPOSSIBLE = -1e4


def export(module: nn.Module, width: int) -> bytes:
    """The graph of a module that takes observations (n, width) float32 and gives (n, a), for any n."""
    module = module.eval().cpu()
    # It warns once for each operator of torchvision, which nothing here uses.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    sample = torch.zeros(2, width)
    with warnings.catch_warnings():
        # The exporter of torch 2.13 calls what torch 2.13 deprecates.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        program = torch.onnx.export(
            module,
            (sample,),
            input_names=[ENTRY],
            output_names=[RESULT],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no graph")
    return strip(program.model_proto)


def strip(model: onnx.ModelProto) -> bytes:
    """The model's bytes without metadata, doc strings and source paths, which would change its content hash."""
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    model.ClearField("producer_version")
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def export_table(table: Table) -> bytes:
    """The graph of a table: each entry taken to its nearest listed value, then one look-up of log-probabilities.

    A combination that is no state gives NaN, which the runtime refuses.
    """
    axes, cells = table.grid()
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(table.values), IMPOSSIBLE).astype(np.float32)
    logits = np.vstack([logits, np.full(logits.shape[1], np.nan, np.float32)])
    nodes, tensors, code = [], [], ""
    for j, axis in enumerate(axes):
        middles = ((axis[1:] + axis[:-1]) / 2).astype(np.float32)[None]
        tensors += [_tensor(f"column_{j}", np.array([j])), _tensor(f"middles_{j}", middles)]
        tensors += [_tensor(f"size_{j}", np.array([len(axis)]))]
        nodes += [
            helper.make_node("Gather", [ENTRY, f"column_{j}"], [f"x_{j}"], axis=1),
            helper.make_node("Less", [f"middles_{j}", f"x_{j}"], [f"above_{j}"]),
            helper.make_node("Cast", [f"above_{j}"], [f"ones_{j}"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", [f"ones_{j}", "last"], [f"place_{j}"], keepdims=0),
        ]
        if code:
            nodes += [helper.make_node("Mul", [code, f"size_{j}"], [f"shifted_{j}"])]
            nodes += [helper.make_node("Add", [f"shifted_{j}", f"place_{j}"], [f"code_{j}"])]
        code = f"code_{j}" if code else f"place_{j}"
    tensors += [_tensor("last", np.array([1])), _tensor("cells", cells), _tensor("rows", logits)]
    nodes += [helper.make_node("Gather", ["cells", code], ["row"], axis=0)]
    nodes += [helper.make_node("Gather", ["rows", "row"], [RESULT], axis=0)]
    entry = helper.make_tensor_value_info(ENTRY, TensorProto.FLOAT, ["n", len(axes)])
    result = helper.make_tensor_value_info(RESULT, TensorProto.FLOAT, ["n", logits.shape[1]])
    graph = helper.make_graph(nodes, "table", [entry], [result], tensors)
    return strip(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9))


def _tensor(name: str, values: NDArray[np.generic]) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)
