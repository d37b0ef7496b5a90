"""What an ONNX file asks for, read from its bytes alone: before any runtime opens it, and without the onnx package.

A model is a protocol-buffer message. Only the fields that matter for safety are followed: operators with their domains,
tensors kept in other files, functions and nested graphs (onnx.proto3 of ONNX 1.18).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from agents.bundle import BundleError

STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
MAX_DEPTH = 16

# Message → field number → the message in it.
_NESTED = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "training": {1: "graph", 2: "graph"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_OP_TYPE, _DOMAIN = 4, 7
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_TRAINING = 20


@dataclass(frozen=True)
class Contents:
    """What a graph uses: (domain, operator) pairs, and whether any tensor lies in another file."""

    operators: frozenset[tuple[str, str]]
    external: bool


def require_safe(onnx: bytes) -> None:
    """Refuse a graph that needs code or files which are not in it.

    Raises:
        BundleError: not a protocol buffer, custom operators, data in other files, or nested too deeply.
    """
    found = contents(onnx)
    custom = sorted(f"{domain}.{name}" for domain, name in found.operators if domain not in STANDARD)
    if custom:
        raise BundleError(f"the graph uses custom operators {custom}: only those of {sorted(STANDARD)[1:]} are allowed")
    if found.external:
        raise BundleError("the graph keeps data in another file: save the model as one file")


def contents(onnx: bytes) -> Contents:
    """Operators and data of a model.

    Raises:
        BundleError: bytes that are no protocol buffer, or that are nested more than 16 deep.
    """
    operators: set[tuple[str, str]] = set()
    external = False
    stack: list[tuple[str, memoryview, int]] = [("model", memoryview(onnx), 0)]
    while stack:
        kind, message, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise BundleError(f"the graph is nested more than {MAX_DEPTH} deep")
        texts = {_OP_TYPE: "", _DOMAIN: ""}
        for number, value in _fields(message):
            if kind == "tensor":
                external |= number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == 1)
            if isinstance(value, int):
                continue
            if kind == "node" and number in texts:
                texts[number] = bytes(value).decode("utf-8", "replace")
            if (inner := _NESTED[kind].get(number)) is not None:
                stack.append((inner, value, depth + 1))
        if kind == "node":
            operators.add((texts[_DOMAIN], texts[_OP_TYPE]))
    return Contents(frozenset(operators), external)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers with their values: integers, or the bytes of text, tensors and inner messages."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        size, place = _varint(message, place) if wire == 2 else ({1: 8, 5: 4}.get(wire, -1), place)
        if size < 0 or place + size > len(message):
            raise BundleError("this is no ONNX model: its bytes are no protocol buffer")
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise BundleError("this is no ONNX model: its bytes are no protocol buffer")
