"""Typed decoding: whatever does not fit is named by its path, with what was given and what is allowed."""

import json
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct

from service.http.decoding import Decoder
from service.http.problems import ProblemError


class Inner(Struct, forbid_unknown_fields=True):
    level: Annotated[float, Meta(ge=0, le=10)]
    mode: Literal["a", "b"] = "a"


class Outer(Struct, forbid_unknown_fields=True):
    inner: Inner
    many: list[Inner] = []
    any: dict[str, float | str | bool | None] = {}
    number: Annotated[int, Meta(ge=0)] | None = None


DECODER = Decoder(Outer, {"inner.level": "a level from 0 to 10 (m)"})


def fault_of(raw):
    with pytest.raises(ProblemError) as caught:
        DECODER.decode(raw if isinstance(raw, bytes) else json.dumps(raw).encode())
    (fault,) = caught.value.faults
    return caught.value.status, fault.field, fault.given, fault.allowed


INNER = {"level": 1.0}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, (422, "inner", "nothing", "required")),
        ({"inner": {}}, (422, "inner.level", "nothing", "a level from 0 to 10 (m)")),
        ({"inner": {"level": "deep"}}, (422, "inner.level", '"deep"', "a level from 0 to 10 (m)")),
        ({"inner": {"level": 11}}, (422, "inner.level", "11", "a level from 0 to 10 (m)")),
        ({"inner": {"level": 1, "mode": "c"}}, (422, "inner.mode", '"c"', "one of: a, b")),
        ({"inner": {"level": 1, "moed": "a"}}, (422, "inner.moed", '"moed"', "one of: level, mode")),
        ({"inner": INNER, "many": [INNER, {"level": -1}]}, (422, "many[1].level", "-1", "a number >= 0.0")),
        ({"inner": INNER, "many": 3}, (422, "many", "3", "an array")),
        ({"inner": INNER, "any": {"x": 1, "y": [2]}}, (422, "any.y", "[2]", "true or false or a number or a string")),
        ({"inner": INNER, "number": 1.5}, (422, "number", "1.5", "an integer or null")),
        ([], (422, "", "[]", "an object")),
        (b'{"inner": {"level": NaN}}', (422, "inner.level", "NaN", "a level from 0 to 10 (m)")),
        (b'{"inner": {"level": 1}, "any": {"z": -Infinity}}', (422, "any.z", "-Infinity", "a finite number")),
        (b'{"inner": {"level": 1e999}}', (422, "inner.level", "a number beyond 1.8e308", "a level from 0 to 10 (m)")),
        (b'{"inner"', (400, "", '{"inner"', "one JSON object")),
        (b"", (400, "", "an empty body", "one JSON object")),
        (b'{"inner": {"level": 1, "mode": "\xff"}}', (400, "", "byte 0xff", "UTF-8 text")),
    ],
)
def test_what_does_not_fit_is_named(raw, expected):
    status, field, given_, allowed = fault_of(raw)
    assert (status, field, given_) == expected[:3]
    assert allowed.startswith(expected[3])


def test_two_objects_on_two_lines_are_told_how_to_be_sent():
    with pytest.raises(ProblemError, match="application/x-ndjson"):
        DECODER.decode(b'{"inner": {"level": 1}}\n{"inner": {"level": 1}}')


def test_a_long_value_is_shown_cut():
    _, _, given_, _ = fault_of({"inner": {"level": "x" * 10_000}})
    assert len(given_) < 200


@given(st.binary(max_size=200) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(
    lambda value: json.dumps(value).encode()))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_no_bytes_lead_to_anything_but_a_value_or_a_problem(raw):
    try:
        status = 200 if isinstance(DECODER.decode(raw), Outer) else 500
    except ProblemError as error:
        status = error.status
    assert status in (200, 400, 422)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"inner":' * 5000, b'{"any":{"x":' + b"[" * 50_000])
def test_depth_is_refused(raw):
    with pytest.raises(ProblemError):
        DECODER.decode(raw)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b'{"inner": {"level": 1}, "inner": {"level": 2}}', "inner"),
        (b'{"inner": {"level": 1, "level": 2}}', "level"),
        (b'{"inner": {"level": 1, "le\\u0076el": 2}}', "level"),
        (b'{"inner": {"level": 1}, "any": {"a": 1, "b": 2, "a": 1}}', "a"),
        (b'{"inner": {"level": 1}, "any": {"a": "v", ":x" : 1, ":x": 2}}', ":x"),
    ],
)
def test_a_name_that_comes_twice_in_one_object_is_refused(raw, key):
    status, field, given_, allowed = fault_of(raw)
    assert (status, field, given_, allowed) == (422, key, "twice", "given once in an object")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"inner": {"level": 1}, "any": {"level": 1}}',
        b'{"inner": {"level": 1}, "any": {"a": "a", "b": "a:"}}',
        b'{"inner": {"level": 1}, "any": {"quoted": "\\"level\\": 1, \\"level\\": 2"}}',
    ],
)
def test_a_name_may_come_again_elsewhere(raw):
    assert DECODER.decode(raw).inner.level == 1
