"""The command line: one JSON object on stdout, words on stderr, and an exit status that says what happened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import app

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}


def trimtab(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "service.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"} | variables,
        timeout=120,
        check=False,
    )


def test_the_command_line_itself_loads_nothing_heavy() -> None:
    heavy = ("torch", "stable_baselines3", "river", "fastapi", "numpy", "redis", "onnxruntime")
    program = f"import sys, service.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_says_what_it_does() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    told = trimtab("--help").stdout
    assert len(names) >= 15
    assert all(name in told for name in names)


def test_worlds_are_listed_as_one_json_object() -> None:
    done = trimtab("worlds", "pricing", "--json")
    (world,) = json.loads(done.stdout)["worlds"]
    assert world["id"] == "pricing"
    assert {"stock", "periods", "volume", "sensitivity", "prices"} <= {field["name"] for field in world["parameters"]}
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("worlds", "nowhere"), "there is no world 'nowhere'"),
        (("evaluate", "exact", "--world", "pricing", "--params", "stock"), "'stock'"),
        (("evaluate", "exact", "--world", "pricing", "--params", "stock=-1"), "stock"),
        (("evaluate", "exact", "--world", "pricing", "--params", "colour=1"), "colour"),
        (("evaluate", "nothing", "--world", "pricing"), "best-fixed-price"),
        (("evaluate", "exact"), "--world"),
        (("simulate", "price", "--shift", "sensitivity=2"), "at=2000"),
        (("simulate", "price", "--loss", "2"), "--loss"),
        (("ingest", "demand", "missing.csv"), "no file"),
        (("nothing",), "nothing"),
        (("api",), "TRIMTAB_REDIS"),
    ],
)
def test_wrong_usage_is_named_and_ends_with_2(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = trimtab(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_what_fails_ends_with_1_and_one_line(tmp_path: Path) -> None:
    done = trimtab("policies", "price", "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "http://127.0.0.1:9" in done.stderr


def test_up_without_a_manifest_says_what_to_do(tmp_path: Path) -> None:
    done = trimtab("up", cwd=tmp_path)
    assert done.returncode == 2
    assert "trimtab.toml" in done.stderr
    assert "--demo" in done.stderr
    assert "--manifest" in done.stderr


def test_a_wrong_setting_is_named_and_ends_with_2(tmp_path: Path) -> None:
    done = trimtab("up", "--demo", cwd=tmp_path, TRIMTAB_HOST="0.0.0.0")
    assert done.returncode == 2
    assert "127.0.0.1" in done.stderr


PUBLISHED = "stock=20,periods=50,volume=2.718281828,sensitivity=1,prices="


def test_the_exact_optimum_of_the_published_instance_on_its_ladder() -> None:
    done = trimtab("evaluate", "exact", "--world", "pricing", "--params", f"{PUBLISHED}0.5:4.25:0.25", "--json")
    result = json.loads(done.stdout)
    assert result["value"] == pytest.approx(36.283158, abs=5e-7)
    assert result["baselines"]["best-fixed-price"]["value"] == pytest.approx(34.7032, abs=5e-5)
    assert result["baselines"]["best-fixed-price"]["price"] == 2.0
    assert "backward induction" in result["method"]
    assert result["gap"] == 0


def test_the_exact_optimum_of_the_published_instance_at_any_price() -> None:
    done = trimtab("evaluate", "exact", "--world", "pricing", "--params", f"{PUBLISHED}any", "--json")
    result = json.loads(done.stdout)
    assert result["value"] == pytest.approx(36.338128, abs=5e-7)
    assert result["baselines"]["best-fixed-price"]["value"] == pytest.approx(34.921420, abs=5e-7)
    assert result["baselines"]["best-fixed-price"]["price"] == pytest.approx(1.9192, abs=5e-5)


def test_a_baseline_is_evaluated_exactly_beside_the_others() -> None:
    done = trimtab(
        "evaluate", "best-fixed-price", "--world", "pricing", "--params", f"{PUBLISHED}0.5:4.25:0.25", "--json"
    )
    result = json.loads(done.stdout)
    assert result["value"] == pytest.approx(34.7032, abs=5e-5)
    assert result["gap"] == pytest.approx(1 - 34.7032 / 36.283158, abs=1e-5)
