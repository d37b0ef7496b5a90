"""Typed paths of the OpenAPI document: one for each decision point and each model, with the request that it takes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from online.features import LIMIT, TEXT, Feature
from online.specs import ModelSpec
from service.deciding.points import Point
from service.http.openapi import typed
from service.http.operations import Operation

_IDENTIFIER = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^/\x00-\x1f\x7f]+$"}
_MAYBE = {"anyOf": [_IDENTIFIER, {"type": "null"}], "default": None}
_TIME = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1e11}, {"type": "null"}], "default": None}
_ANY: dict[str, Any] = {"type": ["number", "string", "boolean", "null"]}
_PREDICT, _EVENTS = "/v1/models/{model}/predict", "/v1/models/{model}/events"


def typed_operations(
    operations: Iterable[Operation], points: Sequence[Point], models: Sequence[ModelSpec]
) -> list[Operation]:
    """The operations of single points and models."""
    known = {operation.path: operation for operation in operations}
    decide, predict, tell = (known[path] for path in ("/v1/decisions/{point}", _PREDICT, _EVENTS))
    found = [typed(decide, "point", point.name, point.decoder.type, point.example()) for point in points]
    for spec in models:
        features = example_of(spec)
        asked = {"id": "case-1", "features": features} | ({"key": "a-17"} if spec.key is not None else {})
        found.append(typed(predict, "model", spec.name, request_schema(spec, _ASKING), asked))
        found.append(typed(tell, "model", spec.name, request_schema(spec, _TELLING), asked | {"id": "case-2"}))
    return found


_ASKING = {
    "learn": {"type": "boolean", "default": True},
    "after": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
}
_TELLING = {"label": _ANY}


def request_schema(spec: ModelSpec, more: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a model's request: its features, as they are declared, and what comes with them."""
    keyed = {} if spec.key is None else {"key": _IDENTIFIER}
    return {
        "type": "object",
        "title": f"{spec.name} ({spec.task})",
        "properties": {"features": features_schema(spec.features), **keyed, "id": _MAYBE, "at": _TIME, **more},
        "required": ["features", *keyed],
        "additionalProperties": False,
    }


def features_schema(declared: Mapping[str, Feature] | None) -> dict[str, Any]:
    """The JSON schema of features; without a declaration every name keeps the type that it is first seen with."""
    if declared is None:
        return {"type": "object", "additionalProperties": _ANY}
    # What is computed from earlier events is given by nobody.
    given = {name: feature for name, feature in declared.items() if feature.past is None}
    return {
        "type": "object",
        "properties": {name: feature_schema(feature) for name, feature in given.items()},
        "required": [name for name, feature in given.items() if _is_needed(feature)],
        "additionalProperties": False,
    }


def feature_schema(feature: Feature) -> dict[str, Any]:
    """The JSON schema of one feature.

    >>> feature_schema(Feature("plan", "category", values=("basic", "plus"), required=True))
    {'enum': ['basic', 'plus'], 'description': 'one of basic, plus'}
    """
    known: dict[str, Any]
    match feature.type:
        case "number":
            known = {"type": "number", "minimum": feature.low, "maximum": feature.high}
            known = {name: value for name, value in known.items() if value not in (-LIMIT, LIMIT)}
        case "boolean":
            known = {"type": "boolean"}
        case "timestamp":
            known = {"type": ["string", "number"]}
        case "category" if feature.values is not None:
            known = {"enum": [*feature.values, *(int(one) for one in feature.values if _is_whole(one))]}
        case "category":
            known = {"type": ["string", "integer", "boolean"], "maxLength": TEXT}
        case _:
            known = {"type": "string", "maxLength": TEXT}
    unit = {"x-unit": feature.unit} if feature.unit else {}
    described = {"description": feature.doc or feature.allowed, **unit}
    if _is_needed(feature):
        return {**known, **described}
    return {"anyOf": [known, {"type": "null"}], **described}


def _is_whole(text: str) -> bool:
    """Whether a number in a request is read as this category."""
    return text.lstrip("-").isdecimal() and str(int(text)) == text


def _is_needed(feature: Feature) -> bool:
    return feature.required and feature.default is None and not feature.impute


def example_of(spec: ModelSpec) -> dict[str, Any]:
    """Features as a caller would send them."""
    if spec.features is None:
        return {"temperature": 21.5}
    return {name: _example(feature) for name, feature in spec.features.items() if feature.past is None}


def _example(feature: Feature) -> Any:
    match feature.type:
        case "number":
            low, high = max(feature.low, -1e6), min(feature.high, 1e6)
            return (low + high) / 2
        case "boolean":
            return True
        case "timestamp":
            return "2026-01-31T12:00:00Z"
    return feature.values[0] if feature.values else "some text"
