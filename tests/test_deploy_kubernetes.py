"""The Kubernetes files refer to what exists: commands, settings, routes, labels, volumes, each other."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from service.cli import app
from service.processes.pulse import Pulse
from service.settings import Settings

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    thing for file in KUSTOMIZATION["resources"] for thing in yaml.safe_load_all((DEPLOY / file).read_text())
]
WORKLOADS = {thing["metadata"]["name"]: thing for thing in OBJECTS if thing["kind"] in ("Deployment", "StatefulSet")}
OURS = ("api", "learner", "adapter")


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {thing["metadata"]["name"]: thing for thing in OBJECTS if thing["kind"] == kind}


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = WORKLOADS[name]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    (only,) = pod(name)["containers"]
    return dict(only)


def test_every_file_of_the_folder_is_applied() -> None:
    assert {f"k8s/{path.name}" for path in (DEPLOY / "k8s").iterdir()} == set(KUSTOMIZATION["resources"])
    assert set(WORKLOADS) == {*OURS, "redis"}


@pytest.mark.parametrize("name", OURS)
def test_each_pod_runs_a_command_that_exists_with_settings_that_exist(name: str) -> None:
    assert container(name)["args"] == [name]
    assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
    (settings,) = (maps for maps in KUSTOMIZATION["configMapGenerator"] if maps["name"] == "settings")
    given = {line.partition("=")[0] for line in settings["literals"]}
    given |= {variable["name"] for variable in container(name)["env"] if variable["name"].startswith("TRIMTAB_")}
    assert given <= {f"TRIMTAB_{field.upper()}" for field in Settings.model_fields}
    assert {"TRIMTAB_REDIS", "TRIMTAB_REDIS_PASSWORD", "TRIMTAB_SECRET", "TRIMTAB_MANIFEST"} <= given


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_pod_is_privileged_and_each_is_bounded(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container(name)["resources"]["limits"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_labels_volumes_and_claims_refer_to_what_is_there(name: str) -> None:
    spec = WORKLOADS[name]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    claimed = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    volumes = {volume["name"] for volume in pod(name)["volumes"]} | claimed
    assert {mount["name"] for mount in container(name)["volumeMounts"]} == volumes
    maps = {volume["configMap"]["name"] for volume in pod(name)["volumes"] if "configMap" in volume}
    assert maps <= {generator["name"] for generator in KUSTOMIZATION["configMapGenerator"]}
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod(name)["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims <= set(named("PersistentVolumeClaim"))


def test_only_our_pods_reach_redis() -> None:
    (policy,) = named("NetworkPolicy").values()
    (rule,) = policy["spec"]["ingress"]
    (source,) = rule["from"]
    wanted = source["podSelector"]["matchLabels"].items()
    for name in OURS:
        assert wanted <= WORKLOADS[name]["spec"]["template"]["metadata"]["labels"].items()
    assert policy["spec"]["podSelector"]["matchLabels"] == WORKLOADS["redis"]["spec"]["selector"]["matchLabels"]


def test_the_probes_ask_addresses_that_the_service_answers(service) -> None:
    asked = {
        container("api")[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    for path in asked:
        assert service.client.get(path).is_success, path
    assert asked == {"/health/live", "/health/ready"}


@pytest.mark.parametrize(("name", "file"), [("learner", "learner-0.alive"), ("adapter", "adapter.alive")])
def test_a_process_without_a_port_is_started_again_when_it_stands_still(name: str, file: str, tmp_path: Path) -> None:
    def succeeds(probe: str) -> bool:
        words = container(name)[probe]["exec"]["command"]
        command = [word.replace("/data", str(tmp_path)) for word in words]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0

    assert not succeeds("startupProbe")
    assert not succeeds("livenessProbe")
    Pulse(tmp_path / file)()
    assert succeeds("startupProbe")
    assert succeeds("livenessProbe")
    stood_still = time.time() - 3600
    os.utime(tmp_path / file, (stood_still, stood_still))
    assert not succeeds("livenessProbe")


def test_the_api_is_scaled_and_never_drained_to_nothing() -> None:
    scaler = named("HorizontalPodAutoscaler")["api"]["spec"]
    assert scaler["scaleTargetRef"]["name"] in WORKLOADS
    assert scaler["minReplicas"] >= 2
    for budget in named("PodDisruptionBudget").values():
        assert budget["spec"]["selector"] == WORKLOADS[budget["metadata"]["name"]]["spec"]["selector"]


def test_redis_is_the_one_that_compose_runs() -> None:
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())
    assert container("redis")["image"] == compose["services"]["redis"]["image"]
    assert (DEPLOY / "redis.conf").exists()


def test_no_secret_is_written_down() -> None:
    for name in WORKLOADS:
        for variable in container(name)["env"]:
            if "SECRET" in variable["name"] or "PASSWORD" in variable["name"]:
                assert set(variable) == {"name", "valueFrom"}
