import math
from typing import Any

import pytest

from online.features import LIMIT, UNDECLARED, FeatureError, Schema
from online.reading import SpecError
from online.specs import model_spec


def declared(**features: Any) -> Schema:
    pipeline = [{"use": "linear_model.LogisticRegression"}]
    return Schema(model_spec("m", {"task": "binary", "pipeline": pipeline, "features": features}).features)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1.1e30, -1e308, 10**400, "x" * 10_001, [1], {"a": 1}, b"x"]
)
def test_no_model_sees_what_would_break_it(value: Any) -> None:
    for schema in (Schema(), warm()):
        with pytest.raises(FeatureError) as caught:
            schema.check({"a": 1.0, "b": value})
        assert caught.value.field == "b"


def warm() -> Schema:
    schema = Schema()
    for _ in range(3):
        schema.take({"b": 1.0, "a": 2.0})
    return schema


def test_undeclared_features_come_sorted_and_keep_their_first_type() -> None:
    schema = Schema()
    assert list(schema.take({"b": 1.5, "a": "x", "c": True})) == ["a", "b", "c"]
    assert schema.types == {"a": "text", "b": "number", "c": "number"}
    with pytest.raises(FeatureError, match="a text, as it was when first seen"):
        schema.check({"a": 1.0})
    with pytest.raises(FeatureError, match="a number, as it was when first seen"):
        schema.check({"b": "1.5"})


def test_a_missing_undeclared_value_is_left_out() -> None:
    assert Schema().take({"a": None, "b": 1}) == {"b": 1}


def test_checking_teaches_nothing() -> None:
    schema = Schema()
    schema.check({"a": 1.0})
    assert schema.types == {}
    schema.check({"a": "now a text"})


def test_what_is_known_changes_the_speed_and_nothing_else() -> None:
    rows: list[dict[str, Any]] = [
        {"b": 1.0, "a": 2.0},
        {"b": 1, "a": True},
        {"b": LIMIT, "a": -LIMIT},
        {"a": 1.0},
        {"b": None, "a": 1.0},
        {"c": 1.0, "b": 1.0, "a": 1.0},
        {"b": "text", "a": 1.0},
        {"b": 2e30, "a": 1.0},
    ]
    for row in rows:
        cold = Schema(types={"a": "number", "b": "number"})
        answers = []
        for schema in (cold, warm()):
            try:
                answers.append((list(schema.check(dict(row)).items()), None))
            except FeatureError as error:
                answers.append(([], str(error)))
        assert answers[0] == answers[1]


def test_names_without_end_are_refused() -> None:
    schema = Schema()
    for number in range(UNDECLARED):
        schema.take({f"f{number}": 1.0})
    with pytest.raises(FeatureError, match="declare the features"):
        schema.check({"one more": 1.0})
    assert schema.check({"f7": 2.0}) == {"f7": 2.0}


def test_declared_features_are_checked_and_named() -> None:
    schema = declared(
        temperature={"type": "number", "unit": "K", "range": [200, 400]},
        kind={"type": "category", "values": ["a", "b"], "required": False},
        active={"type": "boolean", "default": False},
    )
    assert schema.check({"temperature": 300, "kind": "a"}) == {"active": False, "kind": "a", "temperature": 300}
    allowed_names = "left out: the model's features are temperature, kind, active"
    for features, field, allowed in (
        ({"kind": "a"}, "temperature", "a finite number from 200 up to 400 (K), always"),
        ({"temperature": 500.0}, "temperature", "a finite number from 200 up to 400 (K)"),
        ({"temperature": True}, "temperature", "a finite number from 200 up to 400 (K)"),
        ({"temperature": 300.0, "kind": "c"}, "kind", "one of a, b"),
        ({"temperature": 300.0, "active": 1}, "active", "true or false"),
        (
            {"temperature": 300.0, "colour": "red"},
            "colour",
            allowed_names,
        ),
    ):
        with pytest.raises(FeatureError) as caught:
            schema.check(features)
        assert (caught.value.field, caught.value.allowed) == (field, allowed)


def test_no_features_at_all_are_checked_like_any_others() -> None:
    assert Schema().take({}) == {}
    required = declared(a={"type": "number"})
    for check in (required.check, required.take):
        with pytest.raises(FeatureError, match="always"):
            check({})


def test_categories_become_one_column_each() -> None:
    schema = declared(kind={"type": "category", "values": ["a", "b"]})
    assert schema.encode(schema.take({"kind": "b"})) == {"kind=a": 0.0, "kind=b": 1.0, "kind=other": 0.0}


def test_open_categories_grow_up_to_a_bound() -> None:
    schema = declared(kind={"type": "category"})
    for number in range(100):
        columns = schema.encode(schema.take({"kind": f"k{number}"}))
    assert len(columns) == 65
    assert columns["kind=other"] == 1.0
    assert schema.quality["kind"].new == 100


def test_texts_are_hashed_into_a_fixed_number_of_columns() -> None:
    schema = declared(note={"type": "text", "buckets": 16})
    first = schema.encode(schema.take({"note": "Pump leaks oil"}))
    again = schema.encode(schema.take({"note": "oil leaks PUMP"}))
    assert first == again
    assert len(first) == 16
    assert sum(abs(value) for value in first.values()) == 3.0


def test_timestamps_become_cycles() -> None:
    schema = declared(when={"type": "timestamp", "parts": ["hour", "weekday"]})
    # 2026-11-23 was a Monday.
    columns = schema.encode(schema.take({"when": "2026-11-23T06:00:00Z"}))
    assert columns["when.hour.sin"] == pytest.approx(1.0)
    assert columns["when.hour.cos"] == pytest.approx(0.0, abs=1e-12)
    assert columns["when.weekday.cos"] == 1.0
    same = schema.encode(schema.take({"when": "2026-11-23T07:00:00+01:00"}))
    assert same == columns
    raw = declared(when={"type": "timestamp", "parts": ["year", "minute"], "cycle": False})
    assert raw.encode(raw.take({"when": 1_700_000_000})) == {"when.year": 2023.0, "when.minute": 13.0}
    with pytest.raises(FeatureError, match="2026-01-31T12:00:00Z"):
        schema.check({"when": "yesterday"})


def test_quality_counts_what_came_in() -> None:
    schema = declared(a={"type": "number", "range": [0, 1], "required": False}, b={"type": "category"})
    schema.take({"a": 0.5, "b": "x"})
    schema.take({"b": "x"})
    for broken in ({"a": 2.0, "b": "x"}, {"a": "text", "b": "x"}, {"a": 0.1}):
        with pytest.raises(FeatureError) as caught:
            schema.take(broken)
        schema.refuse(caught.value)
    a, b = schema.quality["a"], schema.quality["b"]
    assert (a.seen, a.missing, a.refused, a.out_of_range, a.wrong_type) == (2, 1, 2, 1, 1)
    assert (b.seen, b.missing, b.new, b.refused) == (2, 1, 1, 1)
    listed = declared(kind={"type": "category", "values": ["x"]})
    with pytest.raises(FeatureError) as caught:
        listed.take({"kind": "y"})
    listed.refuse(caught.value)
    assert listed.quality["kind"].not_allowed == 1


@pytest.mark.parametrize(("how", "expected"), [("mean", 4.0), ("median", 3.0), ("last", 8.0)])
def test_a_missing_number_is_filled_from_those_that_came_before(how: str, expected: float) -> None:
    schema = declared(a={"type": "number", "impute": how, "default": -1.0}, b="number")
    assert schema.take({"b": 0.0}) == {"a": -1.0, "b": 0.0}
    for value in (1.0, 3.0, 8.0):
        schema.take({"a": value, "b": 0.0})
    assert schema.check({"b": 0.0}) == {"a": expected, "b": 0.0}
    assert schema.take({"a": None, "b": 0.0}) == {"a": expected, "b": 0.0}
    assert schema.take({"b": 0.0}) == {"a": expected, "b": 0.0}
    assert (schema.quality["a"].seen, schema.quality["a"].missing) == (6, 3)


def test_before_any_value_came_an_imputed_feature_is_left_out() -> None:
    schema = declared(a={"type": "number", "impute": "mean"}, k={"type": "category", "impute": "last"})
    assert schema.take({}) == {}
    schema.take({"a": 2, "k": "x"})
    assert schema.take({}) == {"a": 2.0, "k": "x"}
    with pytest.raises(SpecError, match="allowed is one of last"):
        declared(k={"type": "category", "impute": "mean"})


def test_rare_words_weigh_more_and_texts_have_length_one() -> None:
    schema = declared(t={"type": "text", "encode": "tfidf", "buckets": 4096})
    for text in ("the pump", "the valve", "the pump leaks"):
        schema.take({"t": text})
    columns = {name: value for name, value in schema.encode(schema.check({"t": "The leaks"})).items() if value}
    # By hand: "the" is in 3 of 3 texts, "leaks" in 1 of 3.
    the, leaks = math.log(4 / 4) + 1, math.log(4 / 2) + 1
    length = math.hypot(the, leaks)
    assert sorted(map(abs, columns.values())) == pytest.approx([the / length, leaks / length])
    assert math.hypot(*schema.encode({"t": ""}).values()) == 0.0


def test_a_figure_of_the_past_is_computed_and_never_given() -> None:
    schema = declared(a="number", mean={"type": "history", "of": "a", "stat": "mean", "over": "1h"})
    assert schema.check({"a": 1.0}) == {"a": 1.0}
    with pytest.raises(FeatureError, match="computed from earlier events"):
        schema.check({"a": 1.0, "mean": 2.0})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"of": "b", "lag": 1}, r"features.past.of: given 'b'; allowed is one of a, label"),
        ({"of": "a"}, "a lag; or a stat and either over or by"),
        ({"of": "a", "lag": 1, "over": 2}, "a lag; or a stat"),
        ({"of": "a", "stat": "mode", "over": 2}, "allowed is one of mean, sum"),
        ({"of": "a", "lag": 0}, "a number of values from 1"),
        ({"of": "a", "stat": "mean", "by": "colour"}, "allowed is one of year"),
        ({"of": "a", "lag": 1, "required": True}, "a field of a feature"),
    ],
)
def test_a_figure_of_the_past_that_cannot_be_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        declared(a="number", past={"type": "history"} | table)
