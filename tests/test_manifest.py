"""The manifest: what is declared is what is served, and every mistake is named by its place."""

import copy
from dataclasses import fields
from pathlib import Path

import pytest

from agents.policy import Exploration
from online.specs import ModelSpec
from service.deciding.points import Point
from service.manifest import Manifest, ManifestError, load, parse

MANIFEST = {
    "models": {
        "churn": {
            "task": "binary",
            "pipeline": [
                {"use": "preprocessing.StandardScaler"},
                {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.SGD", "lr": 0.005}},
            ],
        }
    },
    "points": {
        "price": {
            "world": "pricing",
            "params": {"stock": 20, "periods": 50, "volume": 2.7, "prices": {"geometric": [0.1, 8.0, 41]}},
            "ranges": {"volume": [0.4, 8.0]},
            "key": "sku",
            "mode": "live",
            "baseline": "myopic",
            "exploration": {"share": 0.02, "over": "allowed"},
            "outcome": {"wait": "1d", "default": 0.0, "aggregate": "mean"},
            "gate": {"tolerance": 0.02, "canary": 0.2, "confidence": 0.9},
            "adapt": {"cooldown": "30min", "per_day": 3},
        }
    },
}


def changed(path, value):
    manifest = copy.deepcopy(MANIFEST)
    *parents, name = path.split(".")
    table = manifest
    for parent in parents:
        table = table[parent]
    table[name] = value
    return manifest


def test_everything_that_is_declared_arrives():
    spec = parse(MANIFEST).points["price"]
    assert (spec.world, spec.key, spec.mode, spec.baseline) == ("pricing", "sku", "live", "myopic")
    assert spec.ranges == {"volume": (0.4, 8.0)}
    assert spec.exploration == Exploration(0.02, "allowed")
    assert (spec.outcome.wait, spec.outcome.default, spec.outcome.aggregate) == (86_400.0, 0.0, "mean")
    assert (spec.gate.tolerance, spec.gate.canary, spec.gate.confidence) == (0.02, 0.2, 0.9)
    assert (spec.adapt.cooldown, spec.adapt.per_day) == (1800.0, 3)
    assert parse(MANIFEST).models["churn"].task == "binary"


def test_a_point_needs_nothing_but_its_world():
    spec = parse({"points": {"price": {"world": "pricing"}}}).points["price"]
    assert (spec.mode, spec.baseline, spec.key) == ("apprentice", "best-fixed-price", None)
    assert spec.exploration.share == 0
    assert spec.outcome.wait == 86_400.0
    assert len(Point.of(spec).actions) == 41


def test_an_exploration_share_alone_takes_the_default_of_the_action_set():
    spec = parse(changed("points.price.exploration", 0.05)).points["price"]
    assert spec.exploration == Exploration(0.05, "neighbours")


def test_the_value_of_an_action_can_be_the_baseline():
    point = Point.of(parse(changed("points.price.baseline", 8.0)).points["price"])
    assert point.baseline_name == "fixed:8"
    assert parse(changed("points.price.baseline", 8)).points["price"].baseline == 8.0


@pytest.mark.parametrize(
    ("path", "value", "where", "said"),
    [
        ("points.price.mode", "lively", "points.price.mode", "one of: apprentice, canary, live, off, shadow"),
        ("points.price.world", "pricng", "points.price.world", "pricing"),
        ("points.price.colour", 1, "points.price.colour", "one of: world, params"),
        ("points.price.params.stock", -1, "points.price.params", "stock is -1"),
        ("points.price.params.stok", 3, "points.price.params", "stok"),
        ("points.price.params.prices", "any", "points.price.params", "continuum"),
        ("points.price.ranges", {"volum": [1, 2]}, "points.price.ranges", "volum"),
        ("points.price.ranges", {"volume": [2, 1]}, "points.price.ranges.volume", "low < high"),
        ("points.price.ranges", {"volume": [1]}, "points.price.ranges", "array"),
        ("points.price.baseline", "best", "points.price.baseline", "best-fixed-price"),
        ("points.price.baseline", 77.0, "points.price.baseline", "is not among the actions"),
        ("points.price.exploration", 2, "points.price.exploration", "a share from 0 to 1"),
        ("points.price.exploration", {"over": "allowed"}, "points.price.exploration.share", "required"),
        ("points.price.outcome.wait", "1 week", "points.price.outcome.wait", '"90s", "30min", "24h" or "1d"'),
        ("points.price.outcome.wait", 0, "points.price.outcome", "positive"),
        (
            "points.price.outcome.aggregate",
            "median",
            "points.price.outcome.aggregate",
            "one of: last, max",
        ),
        ("points.price.gate.canary", 1.5, "points.price.gate.canary", "a number from 0 to 1"),
        ("points.price.adapt.per_day", -1, "points.price.adapt.per_day", "an integer from 0"),
        ("points.price.adapt.explore", 1.5, "points.price.adapt.explore", "a share from 0 to 1"),
        ("points.Price", {"world": "pricing"}, "points.Price", "lower-case"),
        ("points.price", 3, "points.price", "an object"),
        ("models.churn.task", "binry", "models.churn.task", "one of binary"),
        ("models.churn.pipeline", [{"use": "linear_model.LogReg"}], "models.churn.pipeline[0].use", "linear_model"),
        ("model", {}, "model", "one of: models, points"),
    ],
)
def test_a_mistake_is_named_by_its_place_with_what_is_allowed(path, value, where, said):
    with pytest.raises(ManifestError) as caught:
        parse(changed(path, value))
    assert caught.value.fault.field == where
    assert said in caught.value.fault.allowed
    assert str(caught.value).startswith(where)


def test_a_file_is_read_as_toml(tmp_path):
    path = tmp_path / "trimtab.toml"
    path.write_text('[points.price]\nworld = "pricing"\nparams = {prices = "0.5:4.25:0.25"}\n')
    assert len(Point.of(load(path).points["price"]).actions) == 16


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("[points", "TOML"), (b"\xff", "TOML")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, said):
    path = tmp_path / "trimtab.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ManifestError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_an_empty_manifest_serves_nothing():
    assert parse({}) == Manifest()


def test_the_page_of_the_manifest_has_every_field_of_a_model() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "manifest.md").read_text()
    table = page.partition("## `[models.NAME]`")[2].partition("\n### ")[0]
    shown = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert shown == {field.name for field in fields(ModelSpec)} - {"name", "signals", "source"}
