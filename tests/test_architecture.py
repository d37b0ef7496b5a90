"""The structure that `pyproject.toml` declares: every import contract holds, and each of them is able to fail."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("envs", "agents", "online", "service", "recipes")
SHELLS = {
    "envs": {"env"},
    "agents": {
        *("train", "tune", "export", "runtime"),
        *("algorithms", "checkpoint", "environments", "features", "foreign", "lineage", "networks", "probe"),
        *("pictures", "tabular", "vecenv"),
    },
    "online": {
        *("snapshot", "worker", "archive", "backtest", "memory_log", "redis_client", "redis_log", "rehearsal"),
        *("sources", "tune"),
    },
}
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
CONTRACT = {contract["id"]: contract for contract in CONTRACTS}

OFFENCES = {
    "layers": [
        ("envs/dynamics.py", "import agents.policy"),
        ("agents/policy.py", "import online.events"),
        ("service/app.py", "import recipes.rows"),
    ],
    "serving-without-torch": [("service/app.py", "import torch"), ("online/worker.py", "import stable_baselines3")],
    "console-from-outside": [("service/console/pages.py", "import service.deciding.store")],
    "pure-cores": [("envs/exact.py", "import time"), ("online/events.py", "import redis")],
}


def lint(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "lint-imports", "--contract", contract, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_contract_has_an_offence_that_is_tried() -> None:
    assert set(OFFENCES) == set(CONTRACT)


@pytest.mark.parametrize("contract", OFFENCES)
def test_a_contract_holds_and_each_offence_breaks_it(contract: str, tree: Path) -> None:
    clean = lint(tree, contract)
    assert clean.returncode == 0, clean.stdout
    for file, line in OFFENCES[contract]:
        original = (tree / file).read_text()
        (tree / file).write_text(f"{original}\n{line}\n")
        broken = lint(tree, contract)
        (tree / file).write_text(original)
        assert broken.returncode == 1, f"{line!r} in {file} went unnoticed"
        assert "BROKEN" in broken.stdout


def test_every_module_below_service_is_a_declared_core_or_a_known_shell() -> None:
    cores = set(CONTRACT["pure-cores"]["source_modules"])
    shells = {f"{package}.{name}" for package, names in SHELLS.items() for name in names}
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in SHELLS
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert modules - cores - shells == set()


@pytest.mark.parametrize("module", ["service.app", "service.processes.learners"])
def test_serving_processes_load_neither_torch_nor_stable_baselines(module: str) -> None:
    program = f"import sys, {module}; print(sorted({{'torch', 'stable_baselines3', 'sb3_contrib'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
