"""The answers that the OpenAPI document shows: one for each route, and such as the service gives."""

import answers
import msgspec
import pytest

from service.app import operations_of
from service.http import openapi


@pytest.fixture
def operations(start_service):
    return [one for one in operations_of(start_service().api) if one.answer is not None]


def test_every_route_that_answers_json_shows_an_answer_that_its_schema_takes(operations):
    shown = openapi.answers()
    assert {one.route for one in operations} == set(shown)
    for one in operations:
        msgspec.convert(shown[one.route], one.answer, strict=True)


def test_the_document_shows_them_at_typed_paths_too(service):
    paths = service.get("/openapi.json")["paths"]
    for path in (
        "/v1/decisions/{point}",
        "/v1/decisions/price",
        "/v1/models/{model}/predict",
        "/v1/models/churn/predict",
    ):
        content = paths[path]["post"]["responses"]["200"]["content"]["application/json"]
        assert content["example"]["id"] in ("order-1x", "order-2", "case-1")


def test_a_service_that_is_played_answers_with_the_fields_that_are_shown():
    (given,) = answers.played_service()
    shown = openapi.answers()
    assert {route: _fields(one) for route, one in given.items()} == {
        route: _fields(one) for route, one in shown.items()
    }


def _fields(answer):
    return sorted(answer)
