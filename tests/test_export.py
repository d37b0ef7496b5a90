"""Graphs say what the module or the table says, for any number of rows, and name nothing of the machine."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from agents.bundle import Actions, Card, ObservationField, pack, unpack
from agents.export import export, export_table
from agents.policy import Table
from agents.runtime import OnnxPolicy, load


class Scaled(nn.Module):
    """A network with its normaliser inside, as training makes them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 7))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        stock, period = observation[:, :1], observation[:, 1:]
        return self.net(torch.cat([stock / 20, torch.log((stock + 0.5) / (period + 0.5)), torch.sqrt(stock)], 1))


def policy_of(graph: bytes, actions: int, kind: str = "network") -> OnnxPolicy:
    card = Card(
        world="pricing",
        params={},
        kind=kind,  # type: ignore[arg-type]
        actions=Actions("price", actions),
        observation=(ObservationField("stock", "units", 0, 20), ObservationField("period", "1", 0, 50)),
    )
    return load(unpack(pack(card, graph)))


@pytest.fixture(scope="module")
def graph() -> bytes:
    return export(Scaled(), 2)


def test_the_graph_agrees_with_the_module_on_ten_thousand_observations_extreme_ones_included(graph: bytes) -> None:
    rng = np.random.default_rng(2)
    extreme = rng.choice([0, 1e-6, 1, 1e3, 1e6], (1000, 2))
    observation = np.vstack([rng.uniform(0, 60, (9000, 2)), extreme]).astype(np.float32)
    with torch.no_grad():
        expected = torch.softmax(Scaled()(torch.from_numpy(observation)).double(), 1).numpy()
    given = policy_of(graph, 7).probabilities(observation, np.ones((10_000, 7), bool))
    assert np.abs(given - expected).max() <= 1e-5


def test_one_row_gives_what_the_batch_gives(graph: bytes) -> None:
    policy, every = policy_of(graph, 7), np.ones((64, 7), bool)
    observation = np.random.default_rng(3).uniform(0, 50, (64, 2)).astype(np.float32)
    rows = [policy.probabilities(observation[i : i + 1], every[:1])[0] for i in range(64)]
    assert np.abs(policy.probabilities(observation, every) - rows).max() <= 1e-5


def test_exporting_twice_gives_the_same_bytes(graph: bytes) -> None:
    assert export(Scaled(), 2) == graph


def test_the_graph_names_no_path_of_this_machine(graph: bytes) -> None:
    model = onnx.load_model_from_string(graph)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b".py" not in graph
    assert str(Path.home()).encode() not in graph


def test_a_table_as_a_graph_serves_its_own_probabilities_and_exact_zeros() -> None:
    rng = np.random.default_rng(4)
    observations = np.array([[stock, period] for stock in range(4) for period in (0.0, 2.5, 10.0)])
    values = rng.dirichlet(np.ones(5), 12)
    values[::2, 1] = 0
    values /= values.sum(axis=1, keepdims=True)
    table = Table(observations, values)
    served = policy_of(export_table(table), 5, "table").probabilities(observations, np.ones((12, 5), bool))
    assert np.abs(served - values).max() < 1e-7
    assert (served[::2, 1] == 0).all()


def test_a_table_as_a_graph_refuses_what_is_no_state() -> None:
    table = Table(np.array([[0.0, 0.0], [1.0, 1.0]]), np.full((2, 2), 0.5))
    policy = policy_of(export_table(table), 2, "table")
    with pytest.raises(ValueError, match="not finite"):
        policy.probabilities(np.array([[0.0, 1.0]]), np.ones((1, 2), bool))
