"""`trimtab up --demo` with real processes: quickly there, never orphaned, continued by the next start."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

QUICK_S = 10.0
SOON_S = 60.0


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Run:
    """One `trimtab up`, and everything that it started, known by a variable in their environment."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.folder = cwd
        self.mark = f"MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        environment = {key: text for key, text in os.environ.items() if not key.startswith("TRIMTAB_")}
        self.output = cwd / f"output-{value}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "service.cli", "up", *arguments],
                cwd=cwd,
                env=environment | {name: value, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def members(self) -> set[int]:
        """All living processes of this run. Redis overwrites its environment: it is known by its folder."""
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                marked = self.mark.encode() in (path / "environ").read_bytes()
                if marked or (path / "cwd").readlink().is_relative_to(self.folder):
                    found.add(int(path.name))
            except OSError:
                continue
        return {pid for pid in found if runs(pid)}

    def command(self, pid: int) -> str:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")

    def member(self, what: str) -> int:
        return next(pid for pid in self.members() if what in self.command(pid))

    def url(self) -> str:
        assert self.eventually(lambda: "status page" in self.text), self.text
        found = re.search(r"status page (http://\S+)", self.text)
        assert found is not None
        return found[1]

    def eventually(self, condition: Callable[[], Any], within: float = SOON_S) -> bool:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if condition():
                return True
            if self.process.poll() is not None:
                return bool(condition())
            time.sleep(0.05)
        return False

    def decided(self) -> int:
        """Decisions that the running API has appended to the log."""
        try:
            metrics = httpx.get(f"{self.url()}/metrics", trust_env=False).text
        except httpx.TransportError:
            return 0
        return int(
            sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("trimtab_decisions_total"))
        )

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.url()}{path}", trust_env=False)
        assert answer.is_success, answer.text
        return answer.json()

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(SOON_S)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started: list[Run] = []

    def start(*arguments: str, cwd: Path = tmp_path) -> Run:
        started.append(Run(*arguments, cwd=cwd))
        return started[-1]

    yield start
    for run in started:
        run.clean_up()


def learned(run: Run, model: str) -> int:
    return int(run.get(f"/v1/models/{model}")["learned"])


def test_the_demo_decides_within_seconds_and_learns_and_trains_meanwhile(up: Callable[..., Run]) -> None:
    began = time.monotonic()
    run = up("--demo", "--port", "0")
    assert run.eventually(lambda: run.decided() > 0), run.text
    assert time.monotonic() - began < QUICK_S, run.text
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
    began = time.monotonic()
    second = up("--demo", "--port", "0")
    assert second.process.wait(SOON_S) == 1
    assert time.monotonic() - began < 3
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


def learned_when_back(run: Run) -> int:
    try:
        return learned(run, "demand")
    except (httpx.TransportError, AssertionError):
        return -1


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
