"""The files that run the service in containers say the same as the program."""

import re
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

from service.cli import app
from service.console.settings import ConsoleSettings
from service.processes.embedded import _CONFIG
from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("api", "learner", "adapter")


@pytest.mark.parametrize("name", OURS)
def test_each_container_runs_a_command_that_exists(name: str) -> None:
    assert SERVICES[name]["command"] == [name]
    assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize("name", OURS)
def test_each_variable_is_a_setting_and_no_needed_one_is_missing(name: str) -> None:
    given = {key for key in SERVICES[name]["environment"] if key.startswith("TRIMTAB_")}
    known = {f"TRIMTAB_{field.upper()}" for field in Settings.model_fields}
    assert given <= known
    assert {"TRIMTAB_REDIS", "TRIMTAB_REDIS_PASSWORD", "TRIMTAB_SECRET", "TRIMTAB_MANIFEST"} <= given


def test_the_console_is_told_settings_of_its_own_and_none_of_the_secrets() -> None:
    console = SERVICES["console"]
    assert console["command"] == ["console"]
    assert {key.removeprefix("TRIMTAB_CONSOLE_").lower() for key in console["environment"]} <= set(
        ConsoleSettings.model_fields
    )
    stage = (ROOT / "Dockerfile").read_text().partition("AS console")[2].partition("FROM")[0]
    assert "'.[console]'" in stage


def installed_with(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Every distribution that `pip install NAME` brings along here, without extras."""
    found: set[str] = set()
    open_names = [(name, extras)]
    while open_names:
        current, wanted = open_names.pop()
        for line in metadata.requires(current) or []:
            requirement = Requirement(line)
            fits = [requirement.marker is None or requirement.marker.evaluate({"extra": e}) for e in wanted | {""}]
            if any(fits) and requirement.name.lower() not in found:
                with suppress(metadata.PackageNotFoundError):
                    metadata.version(requirement.name)
                    found.add(requirement.name.lower())
                    open_names.append((requirement.name, frozenset(requirement.extras)))
    return found


def test_the_image_that_serves_is_without_torch_and_runs_as_nobody_in_particular() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    serving = dockerfile.partition("AS serve")[2]
    assert "pip install $PIP_FLAGS -c constraints.txt .\n" in serving, "no extra is installed"
    brought = installed_with("trimtab")
    assert {"fastapi", "river", "onnxruntime"} <= brought
    assert not {"torch", "stable-baselines3", "sb3-contrib", "nicegui", "mlflow"} & brought
    assert "torch" in installed_with("trimtab", frozenset({"train"}))
    stages = dockerfile.split("\nFROM ")[2:]
    assert len(stages) == 3
    assert all("\nUSER trimtab\n" in stage for stage in stages)
    assert re.search(r"FROM python:[\d.]+-slim AS base", dockerfile)


def test_no_secret_is_written_down_and_nothing_is_published_to_strangers() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key or "SECRET" in key:
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), f"{key} of {name}"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_redis_is_new_enough_and_keeps_what_it_acknowledges() -> None:
    image = SERVICES["redis"]["image"]
    version = tuple(int(part) for part in image.removeprefix("redis:").split("."))
    assert version >= (8, 6, 3)
    lines = set((ROOT / "deploy" / "redis.conf").read_text().splitlines())
    durable = {line for line in _CONFIG.splitlines() if re.match("append|no-append|save|maxmemory", line)}
    assert durable <= lines
    assert len(durable) == 5


def test_every_file_that_a_container_mounts_or_copies_is_there() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    paths = [path for path in mounted if path.startswith("./")] + [path for line in copied for path in line.split()]
    assert len(paths) >= 8
    for path in paths:
        assert (ROOT / path).exists(), path


def test_every_image_is_built_by_a_stage_of_the_dockerfile() -> None:
    stages = set(re.findall(r"^FROM .+ AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets <= stages
    python = re.search(r"FROM python:(\d\.\d+)", (ROOT / "Dockerfile").read_text())
    assert python is not None
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert float(python[1].split(".")[1]) >= float(requires.split(".")[1])


def test_the_folder_of_each_container_belongs_to_the_user_of_its_image() -> None:
    """A platform gives a folder in memory to root, with the mode of the image's own folder: 0700."""
    made = re.search(r"groupadd --system --gid (\d+) .*useradd --system --uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert made is not None
    for name in (*OURS, "console"):
        folders = [place for place in SERVICES[name]["tmpfs"] if place.startswith("/data")]
        assert folders == [f"/data:uid={made[2]},gid={made[1]},mode=0700"], name


def test_no_container_may_do_more_than_it_must_and_each_can_be_started() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        of_environment = [one for one in service.get("secrets", []) if "environment" in COMPOSE["secrets"][one]]
        assert not (of_environment and service.get("read_only")), "compose copies such a secret into the container"
    assert SERVICES["redis"]["user"] == "999:999", "told a command of ours, its entry point does not leave root"
