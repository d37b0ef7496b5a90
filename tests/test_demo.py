"""`trimtab up --demo` with real processes: quickly there, never orphaned, continued by the next start."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from running import QUIET, SOON_S, Run, learned, learned_when_back

from service.processes.embedded import EmbeddedRedis, find_server
from service.processes.folder import DataFolder


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started: list[Run] = []

    def start(*arguments: str, cwd: Path = tmp_path, **variables: str) -> Run:
        started.append(Run(*arguments, cwd=cwd, **variables))
        return started[-1]

    yield start
    for run in started:
        run.clean_up()


def test_the_demo_decides_and_learns_while_it_trains(up: Callable[..., Run]) -> None:
    run = up("--demo", "--port", "0")
    assert run.eventually(lambda: run.decided() > 0), run.text
    assert run.eventually(lambda: learned(run, "demand") > 0), run.text
    assert run.eventually(lambda: any(job["kind"] == "train" for job in run.get("/v1/jobs")["jobs"])), run.text
    commands = " ".join(run.command(pid) for pid in run.members())
    for name in ("cli up", "cli api", "cli learner", "cli adapter", "cli simulate", "redis-server"):
        assert name in commands
    assert os.getpriority(os.PRIO_PROCESS, run.member("cli adapter")) == 19
    for name in ("cli api", "cli learner"):
        maps = Path(f"/proc/{run.member(name)}/maps").read_text()
        assert "libtorch" not in maps, f"{name} has loaded torch"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_ends_everything_with_one_line(how: signal.Signals, up: Callable[..., Run]) -> None:
    run = up("--demo", "--port", "0")
    assert run.eventually(lambda: run.decided() > 0), run.text
    before = run.text
    assert len(run.members()) >= 6
    assert run.stop(how) == 0, run.text
    assert run.members() == set()
    said = run.text[len(before) :].splitlines()
    assert [line for line in said if "trimtab" in line] == said[-1:], run.text
    assert "Traceback" not in run.text


def test_nothing_is_left_after_a_kill_of_the_supervisor(up: Callable[..., Run], tmp_path: Path) -> None:
    run = up("--demo", "--port", "0")
    assert run.eventually(lambda: run.decided() > 0), run.text
    run.process.kill()
    run.process.wait()
    deadline = time.monotonic() + 5
    while run.members() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [run.command(pid) for pid in run.members()] == []
    again = up("--demo", "--port", "0")
    assert again.eventually(lambda: again.decided() > 0), again.text
    assert again.stop() == 0
    assert not list((tmp_path / ".trimtab").glob(".secret-*"))


def test_a_second_start_on_the_folder_is_refused_at_once(up: Callable[..., Run]) -> None:
    run = up("--demo", "--port", "0")
    run.url()
    second = up("--demo", "--port", "0")
    assert second.process.wait(SOON_S) == 1
    assert f"in use by process {run.process.pid}" in second.text
    assert "--data" in second.text
    assert "Traceback" not in second.text
    assert run.get("/v1/points")["points"], "the first one is hurt"


def test_a_port_in_use_is_refused_before_anything_starts(up: Callable[..., Run], tmp_path: Path) -> None:
    run = up("--demo", "--port", "0")
    port = run.url().rpartition(":")[2]
    second = up("--demo", "--port", port, "--data", str(tmp_path / "other"))
    assert second.process.wait(SOON_S) == 1
    assert f"port {port}" in second.text
    assert not (tmp_path / "other" / "redis").exists()


def test_a_second_run_continues_from_the_stored_state(up: Callable[..., Run]) -> None:
    first = up("--demo", "--port", "0")
    assert first.eventually(lambda: learned(first, "demand") >= 40 and trained(first)), first.text
    first.stop()
    second = up("--demo", "--port", "0")
    assert second.eventually(lambda: learned(second, "demand") >= 40, within=5), second.text
    assert second.eventually(lambda: "training a policy" in second.text), second.text
    assert trained(second) == ["first-price"], "the job was asked for twice"


def test_it_works_where_the_path_of_the_folder_is_150_characters_long(up: Callable[..., Run], tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 38)
    folder.mkdir()
    assert len(str(folder)) >= 150
    run = up("--demo", "--port", "0", cwd=folder)
    assert run.eventually(lambda: run.decided() > 0), run.text
    assert run.stop() == 0


def test_a_redis_of_ones_own_takes_the_place_of_the_embedded_one(up: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_text(QUIET)
    with DataFolder(tmp_path / "elsewhere") as folder, EmbeddedRedis(folder, find_server()) as server:
        server.start()
        run = up("--port", "0", TRIMTAB_REDIS=server.url, TRIMTAB_REDIS_PASSWORD=server.password)
        answer = httpx.post(
            f"{run.url()}/v1/decisions/price",
            json={"id": "one", "key": "a", "context": {"stock": 20, "period": 0}},
            trust_env=False,
        )
        assert answer.is_success, answer.text
        assert run.stop() == 0
        with server.client() as client:
            assert any(b"point:price" in name for name in client.scan_iter())
    assert not (tmp_path / ".trimtab" / "redis").exists()


@pytest.mark.parametrize("victim", ["cli api", "cli learner", "cli adapter", "redis-server"])
def test_whoever_is_killed_comes_back_and_nothing_is_lost(victim: str, up: Callable[..., Run]) -> None:
    run = up("--demo", "--port", "0")
    assert run.eventually(lambda: learned(run, "demand") > 0), run.text
    pid = run.member(victim)
    os.kill(pid, signal.SIGKILL)
    assert run.eventually(lambda: any(victim in run.command(other) for other in run.members() - {pid})), run.text
    count = learned_when_back(run)
    assert run.eventually(lambda: learned_when_back(run) > count), run.text
    assert "starting it again" in run.text


def trained(run: Run) -> list[str]:
    return [job["id"] for job in run.get("/v1/jobs")["jobs"] if job["kind"] == "train"]


def test_a_manifest_that_cannot_be_served_is_told_once_and_ends_everything(
    up: Callable[..., Run], tmp_path: Path
) -> None:
    (tmp_path / "trimtab.toml").write_text('[points.price]\nworld = "nowhere"\n')
    run = up("--port", "0")
    assert run.process.wait(SOON_S) == 2
    assert run.text.count("points.price.world") == 1
    assert "nowhere" in run.text
    assert run.members() == set()


@pytest.mark.long
def test_the_demo_releases_a_policy_that_beats_the_baseline_and_notices_the_shift(up: Callable[..., Run]) -> None:
    run = up("--demo", "--port", "0")
    assert run.eventually(lambda: "now serves price" in run.text, within=300), run.text
    policies = run.get("/v1/policies/price")
    assert policies["release"]["incumbent"] is not None
    assert run.eventually(lambda: "the hidden world has changed" in run.text, within=400), run.text
    assert run.eventually(lambda: re.search(r"learner.*demand", run.text), within=120), run.text
    assert run.stop() == 0
    again = up("--demo", "--port", "0")
    release = again.get("/v1/policies/price")["release"]
    assert release["incumbent"] == policies["release"]["incumbent"]
    assert json.dumps(again.get("/v1/jobs")["jobs"]).count('"train"') == 1, "it was trained again"
