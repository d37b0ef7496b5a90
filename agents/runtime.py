"""Bundles made to run: ONNX Runtime evaluates the graph, NumPy turns its output into probabilities. No torch."""

from dataclasses import dataclass

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from agents.bundle import Bundle, BundleError, Card
from agents.graph import require_safe
from agents.policy import Array, Exploration, Mask, Observation, explore, greedy, restrict, softmax

FLOATS = ("tensor(float)", "tensor(double)")


@dataclass(frozen=True)
class OnnxPolicy:
    """The policy of a bundle: physical observations (n, k) in the order of its card, probabilities (n, a) out.

    Where an action is a product of choices, a row holds one list of probabilities after another, each summing to 1.

    Args:
        card: says how the graph's output is read.
        digest: the bundle's name.
        session: one ONNX Runtime session; threads may share it.
        entry: name of the graph's input.
        result: name of the output that is read.
    """

    card: Card
    digest: str
    session: onnxruntime.InferenceSession
    entry: str
    result: str

    @property
    def kind(self) -> str:
        """The card's kind."""
        return self.card.kind

    @property
    def conditioned(self) -> tuple[str, ...]:
        """The parameters that follow the context in its observation."""
        return self.card.conditioned

    def outputs(self, observation: Observation) -> Observation:
        """The graph's raw output (n, a).

        Raises:
            ValueError: an observation that is not (n, k) with the card's k.
        """
        given = np.ascontiguousarray(observation, np.float32)
        if given.ndim != 2 or given.shape[1] != len(self.card.observation):
            names = [field.name for field in self.card.observation]
            raise ValueError(f"an observation of shape {given.shape} was given: (n, {len(names)}) is needed, {names}")
        result: Observation = self.session.run((self.result,), {self.entry: given})[0]
        return result

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """Probabilities (n, a), read from the graph's output as the card says."""
        output, factors = self.outputs(observation), self.card.actions.factors
        if self.card.output == "logits":
            return softmax(output, allowed, self.card.temperature, factors)
        if not np.isfinite(output).all():
            raise ValueError("the policy gave outputs that are not finite: it must not be served")
        if self.card.output == "values":
            return explore(greedy(output, allowed), allowed, Exploration(self.card.epsilon, "allowed"))
        if output.min() < 0:
            raise ValueError("the policy gave negative probabilities: its card should name another output")
        return restrict(np.asarray(output, np.float64), allowed)


def load(bundle: Bundle, threads: int = 1) -> OnnxPolicy:
    """The policy of a bundle, tried on one observation.

    Raises:
        BundleError: a graph that is not safe, that ONNX Runtime refuses, or that is not what the card says.
    """
    require_safe(bundle.onnx)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(bundle.onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other base class
        raise BundleError(f"ONNX Runtime refuses the graph: {error}") from error
    policy = OnnxPolicy(bundle.card, bundle.digest, session, _entry(session, bundle.card), _result(session))
    _try(policy)
    return policy


def _entry(session: onnxruntime.InferenceSession, card: Card) -> str:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        given = [(i.name, i.type, i.shape) for i in inputs]
        raise BundleError(f"the graph takes {given}: it must take one float tensor (n, {len(card.observation)})")
    return str(inputs[0].name)


def _result(session: onnxruntime.InferenceSession) -> str:
    """The last float output: classifiers give a label first."""
    outputs = [o for o in session.get_outputs() if o.type in FLOATS]
    if not outputs:
        given = [(o.name, o.type) for o in session.get_outputs()]
        maps = any("map(" in o.type for o in session.get_outputs())
        hint = "; convert the classifier with options={'zipmap': False}" if maps else ""
        raise BundleError(f"the graph gives {given}: it must give one float tensor (n, actions){hint}")
    return str(outputs[-1].name)


def _try(policy: OnnxPolicy) -> None:
    card = policy.card
    middle = [[_middle(field.low, field.high) for field in card.observation]] * 2
    try:
        shape = policy.outputs(np.array(middle, np.float32)).shape
    except Exception as error:  # its errors share no other base class
        raise BundleError(f"the graph fails on an observation of {len(card.observation)} entries: {error}") from error
    if shape != (2, card.actions.width):
        raise BundleError(
            f"the graph gives {shape} for two observations: (2, {card.actions.width}) belongs to its card"
        )
    if card.actions.factors > 1 and card.output != "logits":
        raise BundleError(f"a product of {card.actions.factors} choices is read from logits, not from {card.output}")


def _middle(low: float | None, high: float | None) -> float:
    """A number within the bounds, none of them being known for sure."""
    if low is not None and high is not None:
        return (low + high) / 2
    return low if low is not None else high if high is not None else 0.0
