"""The learner process over a real Redis: its log is trimmed behind the archive, and `trimtab archive` shows that."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from online.events import Observed, digest, draft_id, encode
from online.log import Draft, Partition
from online.redis_client import connect
from online.redis_log import RedisLog
from service.cli import app
from service.processes.slots import take_slot

HERE = Partition("model:demand")
MANIFEST = """
[models.demand]
task = "regression"
pipeline = [{use = "preprocessing.StandardScaler"}, {use = "linear_model.LinearRegression"}]
"""
PROGRAM = """
import sys
from online.worker import Pace
from service.processes import learners
from service.settings import Settings
learners.PACE = Pace(tidy=0.2)
learners.run(Settings(redis=sys.argv[1], data=sys.argv[2], manifest=sys.argv[3], secret="s" * 32, window=1000))
"""


@contextmanager
def learner(socket: str, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    manifest = folder / "trimtab.toml"
    manifest.write_text(MANIFEST)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, socket, str(folder / "data"), str(manifest)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


def feed(log: RedisLog, begin: int, end: int) -> None:
    events = [Observed(id=f"e{n}", features={"x": n % 7, "y": 1.5}, label=2.0 * (n % 7)) for n in range(begin, end)]
    log.append(HERE, [Draft(draft_id(event), digest(event.id), encode(event)) for event in events])


def test_a_running_service_trims_its_log_behind_an_archive_that_pandas_reads(start_redis: Any, tmp_path: Path) -> None:
    server = start_redis()
    log = RedisLog(connect(server.socket), window=1000)
    with learner(server.socket, tmp_path):
        for begin in range(0, 6000, 1000):
            feed(log, begin, begin + 1000)
            wait(lambda done=begin + 1000: log.head(HERE).learned == done)  # type: ignore[misc]
            time.sleep(0.3)
        feed(log, 6000, 6010)
        wait(lambda: log.length(HERE) < 3000)
    assert log.head(HERE).owner.startswith("learner-0@")
    with learner(server.socket, tmp_path):
        wait(lambda: log.head(HERE).epoch == 2)
        feed(log, 6010, 6020)
        wait(lambda: log.head(HERE).learned == 6020)
    out = tmp_path / "demand.parquet"
    arguments = ["archive", "demand", "--data", str(tmp_path / "data"), "--out", str(out), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    (kept,) = told["kept"]
    assert kept["first"] == 1
    assert told["rows"] == kept["entries"] == kept["last"] >= 6020 - log.length(HERE)
    frame = pd.read_parquet(out)
    assert list(frame["id"][:3]) == ["e0", "e1", "e2"]
    assert json.loads(frame["event"][8])["features"] == {"x": 1, "y": 1.5}
    assert frame["appended"].is_monotonic_increasing
    assert "nothing of 'nope'" in CliRunner().invoke(app, ["archive", "nope", *arguments[2:]]).stderr


@pytest.mark.parametrize("others", [0, 2])
def test_a_process_takes_the_lowest_slot_that_is_free_and_it_is_free_again_once_it_ends(
    others: int, tmp_path: Path
) -> None:
    for number in range(others):
        assert take_slot(tmp_path, "learner") == number
    code = "import sys, pathlib; from service.processes.slots import take_slot as t; "
    code += "print(t(pathlib.Path(sys.argv[1]), 'learner'))"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(others)
