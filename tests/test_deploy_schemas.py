"""Compose and Kubernetes files keep the schemas of their readers; so does what `kubectl kustomize` makes of them."""

import copy
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = json.loads((ROOT / "tests" / "schemas" / "compose-spec.json").read_text())
KUBERNETES = json.loads((ROOT / "tests" / "schemas" / "kubernetes.json").read_text())
FILES = sorted((DEPLOY / "k8s").iterdir())


def faults(schema: dict[str, Any], thing: Any) -> list[str]:
    found = jsonschema_rs.validator_for(schema).iter_errors(thing)
    return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in found]


def of_kind(thing: dict[str, Any]) -> dict[str, Any]:
    return {**KUBERNETES, "$ref": f"#/$defs/{thing['kind']}"}


def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_keeps_its_schema() -> None:
    assert faults(COMPOSE, compose()) == []


@pytest.mark.parametrize(("name", "value"), [("replica", 2), ("stop_grace_period", 15), ("ports", "8080")])
def test_a_compose_file_with_a_slip_would_be_found(name: str, value: Any) -> None:
    slipped = compose()
    slipped["services"]["api"][name] = value
    assert faults(COMPOSE, slipped) != []


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_object_keeps_the_schema_of_its_kind(path: Path) -> None:
    things = list(yaml.safe_load_all(path.read_text()))
    assert things
    for thing in things:
        assert faults(of_kind(thing), thing) == [], thing["kind"]


def slips(thing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Objects that differ from a good one in one name or one value."""
    for spoil in (
        lambda spec: spec.update(replica=2),
        lambda spec: spec["template"]["spec"]["containers"][0].update(livenesProbe={}),
        lambda spec: spec["template"]["spec"]["containers"][0].update(args="api"),
    ):
        made = copy.deepcopy(thing)
        spoil(made["spec"])
        yield made


def test_an_object_with_a_slip_would_be_found() -> None:
    deployment = next(
        one for one in yaml.safe_load_all((DEPLOY / "k8s" / "api.yaml").read_text()) if one["kind"] == "Deployment"
    )
    for slipped in slips(deployment):
        assert faults(of_kind(slipped), slipped) != []


def test_kustomize_makes_of_it_what_the_cluster_takes(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    shutil.copy(ROOT / "trimtab.toml", tmp_path / "deploy")
    done = subprocess.run(["kubectl", "kustomize", str(tmp_path / "deploy")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    known = [thing for thing in made if thing["kind"] in KUBERNETES["$defs"]]
    assert len(known) >= 10
    assert {thing["metadata"]["namespace"] for thing in made} == {"trimtab"}
    for thing in known:
        assert faults(of_kind(thing), thing) == [], thing["kind"]
    maps = {thing["metadata"]["name"] for thing in made if thing["kind"] == "ConfigMap"}
    text = done.stdout
    assert all(text.count(name) > 1 for name in maps), "each is used under the name that it was given"
