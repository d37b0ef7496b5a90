"""The OpenAPI document, made from operations: those of everybody, and those of single points and models."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from service.http.operations import NDJSON, Operation
from service.http.problems import KINDS, MEDIA_TYPE, Problem

_TEMPLATE = "#/components/schemas/{name}"
_EVERYWHERE = ("malformed-request", "too-slow", "head-too-large", "overloaded", "internal", "foreign-page")
_WITH_KEY = ("unauthorized", "forbidden", "rate-limited", "unavailable")
_WITH_BODY = ("malformed-json", "invalid-request", "too-large")

_NAMES = {
    "point": "price",
    "model": "demand",
    "bandit": "offers",
    "id": "order-1",
    "entry": "1796071971243-0",
    "job": "first-price",
    "digest": "0" * 64,
    "arm": "blue",
    "key": "0f1e2d3c4b5a",
}
"""What a variable of a path may be, where nothing of its kind is declared."""

_SCHEMES = {"key": {"type": "http", "scheme": "bearer", "description": "An API key; none while none was issued"}}


def document(
    operations: Iterable[Operation], *, version: str, names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations; `names` are examples of what may stand in their paths."""
    listed = list(operations)
    types = [type_ for operation in listed for type_ in (operation.request, operation.answer) if type_ is not None]
    schemas, components = _schemas([Problem, *types])
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, schemas, names or {})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trimtab",
            "version": version,
            "description": "Decisions and predictions that stay right while the world changes. Every write is durable "
            "before it is answered; the same id and payload get the same answer again; errors are problem details "
            "(RFC 9457).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def typed(operation: Operation, variable: str, value: str, request: Any, example: Any = None) -> Operation:
    """The same operation for one model or point, with the request that this one takes."""
    return replace(
        operation,
        path=operation.path.replace(f"{{{variable}}}", value),
        kind=operation.path,
        request=request,
        example=operation.example if example is None else example,
    )


def _schemas(types: Sequence[Any]) -> tuple[dict[int, Mapping[str, Any]], dict[str, Any]]:
    """Type (by identity) → its schema, and the named schemas that these refer to."""
    plain = [type_ for type_ in types if not isinstance(type_, Mapping)]
    found, components = msgspec.json.schema_components(plain, ref_template=_TEMPLATE)
    schemas: dict[int, Mapping[str, Any]] = {id(type_): schema for type_, schema in zip(plain, found, strict=True)}
    # A schema written by hand stands for itself: features are declared in the manifest, not as a struct.
    schemas |= {id(type_): type_ for type_ in types if isinstance(type_, Mapping)}
    return schemas, components


def _describe(
    operation: Operation, schemas: Mapping[int, Mapping[str, Any]], names: Mapping[str, str]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "description": (operation.handler.__doc__ or operation.summary).strip(),
        "tags": [operation.tag],
        "x-scope": operation.scope,
        "parameters": [*_path_parameters(operation, names), *_query_parameters(operation)],
        "responses": _responses(operation, schemas),
        "security": [{}] if operation.scope == "none" else [{"key": []}, {}],
    }
    if operation.request is not None:
        content: dict[str, Any] = {operation.consumes: _media(schemas[id(operation.request)], operation.example)}
        if operation.batch:
            content[NDJSON] = {"schema": {"type": "string", "description": "One object a line, each as above."}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _media(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _responses(operation: Operation, schemas: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    content: Mapping[str, Any] = {}
    if operation.answer is not None:
        content = _media(schemas[id(operation.answer)], answers().get(operation.route))
    status = str(operation.status)
    media_types = (operation.media_type, *operation.others)
    responses: dict[str, Any] = {status: {"description": "Done", "content": dict.fromkeys(media_types, content)}}
    keyed = _WITH_KEY if operation.scope != "none" else ()
    kinds = (*operation.problems, *_EVERYWHERE, *keyed, *(_WITH_BODY if operation.request is not None else ()))
    for kind in sorted(set(kinds), key=lambda kind: (KINDS[kind][0], kind)):
        code, title = KINDS[kind]
        problem = {MEDIA_TYPE: {"schema": schemas[id(Problem)]}}
        known = responses.setdefault(str(code), {"description": "", "content": problem})
        known["description"] = f"{known['description']}; {title}".removeprefix("; ")
    return responses


@cache
def answers() -> Mapping[str, Any]:
    """An answer of each route that a service once gave: `tests/answers.py` plays one and writes them down."""
    found: dict[str, Any] = msgspec.json.decode((resources.files("service") / "http" / "answers.json").read_bytes())
    return found


def _path_parameters(operation: Operation, names: Mapping[str, str]) -> list[dict[str, Any]]:
    variables = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return [_path_parameter(name, names.get(name, _NAMES.get(name))) for name in variables]


def _path_parameter(name: str, example: str | None) -> dict[str, Any]:
    shown = {} if example is None else {"example": example}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}, **shown}


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": query.name,
            "in": "query",
            "required": query.required,
            "schema": query.schema,
            "description": query.doc,
        }
        for query in operation.query
    ]


def _operation_id(operation: Operation) -> str:
    parts = [part.strip("{}").replace(".", "_") for part in operation.path.split("/") if part and part != "v1"]
    return "_".join([operation.method.lower(), *parts]) if parts else operation.method.lower()
