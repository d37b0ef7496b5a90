"""A service that really runs: `trimtab up` in a folder of its own, its processes, and what a user asks of it."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

SOON_S = 60.0

QUIET = """
[models.demand]
task = "regression"
pipeline = [{use = "preprocessing.MinMaxScaler"}, {use = "linear_model.LinearRegression"}]
metrics = ["MAE"]

[bandits.offers]
explore = {use = "inverse_gap"}

[points.price]
world = "pricing"
params = {stock = 20, periods = 50, prices = "0.5:4.25:0.25"}
key = "sku"
mode = "apprentice"
baseline = "best-fixed-price"
"""


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Run:
    """One `trimtab up`, and everything that it started, known by a variable in their environment."""

    def __init__(self, *arguments: str, cwd: Path, **variables: str) -> None:
        self.folder = cwd
        self.mark = f"MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        environment = {key: text for key, text in os.environ.items() if not key.startswith("TRIMTAB_")}
        self.output = cwd / f"output-{value}"
        # Nobody looks in most tests.
        quiet = () if "--console" in arguments else ("--no-console",)
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "service.cli", "up", *arguments, *quiet],
                cwd=cwd,
                env=environment | {name: value, "OMP_NUM_THREADS": "1"} | variables,
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
        found = re.search(r"status page (https?://\S+)", self.text)
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


def learned(run: Run, model: str) -> int:
    return int(run.get(f"/v1/models/{model}")["learned"])


def learned_when_back(run: Run) -> int:
    try:
        return learned(run, "demand")
    except (httpx.TransportError, AssertionError):
        return -1
