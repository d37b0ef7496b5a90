"""`trimtab backtest --resume`: killed or interrupted on its way, it goes on to the figures of a run never cut."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROWS = 80_000
TABLE = """
[models.m]
task = "binary"
pipeline = [{use = "preprocessing.StandardScaler"}, {use = "tree.HoeffdingTreeClassifier"}]
metrics = ["Accuracy", "ROCAUC"]
on_drift = "replace"
label_wait = 4000.0
detectors = {error = {use = "drift.ADWIN"}}
"""
LINE = ["m", "--data", "rows.jsonl", "--label", "y", "--label-delay", "300rows", "--label-probability", "0.7"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chance = random.Random(4)
    (tmp_path / "trimtab.toml").write_text(TABLE)
    with (tmp_path / "rows.jsonl").open("w") as file:
        for number in range(ROWS):
            x = {name: chance.gauss(0.0, 1.0) for name in ("a", "b", "c", "d", "e")}
            y = (x["a"] + x["b"] > 0.0) != (number > ROWS // 2)
            file.write(json.dumps({**x, "y": y}) + "\n")
    return tmp_path


def begun(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "service.cli", "backtest", *LINE, *more]
    root = Path(__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def checkpoints(folder: Path) -> list[Path]:
    return list((folder / ".trimtab" / "backtests").glob("*.checkpoint"))


def cut(folder: Path, number: signal.Signals, *more: str) -> tuple[int, str]:
    """A run that is sent a signal as soon as there is a checkpoint newer than it."""
    before = {path: path.stat().st_mtime_ns for path in checkpoints(folder)}
    run = begun(folder, *more)
    while run.poll() is None:
        if any(path.stat().st_mtime_ns != before.get(path) for path in checkpoints(folder)):
            run.send_signal(number)
            break
        time.sleep(0.05)
    _, told = run.communicate(timeout=60)
    return run.returncode, told


def figures(folder: Path, *more: str) -> dict[str, Any]:
    run = begun(folder, "--json", *more)
    out, told = run.communicate(timeout=200)
    assert run.returncode == 0, told
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.long
def test_a_back_test_that_is_killed_and_interrupted_ends_with_the_figures_of_one_never_cut(folder: Path) -> None:
    status, _ = cut(folder, signal.SIGKILL)
    assert status == -signal.SIGKILL
    status, told = cut(folder, signal.SIGINT, "--resume")
    assert status == 1
    assert "the same line with --resume goes on" in told
    (left,) = checkpoints(folder)
    resumed = figures(folder, "--resume")
    assert checkpoints(folder) == []
    unbroken = figures(folder)
    assert resumed == unbroken
    assert unbroken["alarms"]
    assert unbroken["counts"]["defaulted"] > 0
    assert not left.exists()


def test_there_is_nothing_to_resume_of_another_line_or_of_a_run_that_ended(folder: Path) -> None:
    (folder / "rows.jsonl").write_text("".join((folder / "rows.jsonl").read_text().splitlines(keepends=True)[:500]))
    for more in ((), ("--resume",), ("--resume", "--log", "redis")):
        run = begun(folder, *more)
        _, told = run.communicate(timeout=60)
        assert (run.returncode, told.strip() == "") == ((2, False) if more else (0, True)), told
    assert "goes on in a log in memory" in told
