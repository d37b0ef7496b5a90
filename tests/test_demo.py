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

from service.processes.embedded import EmbeddedRedis, find_server
from service.processes.folder import DataFolder

SOON_S = 60.0


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
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "service.cli", "up", *arguments],
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

    def start(*arguments: str, cwd: Path = tmp_path, **variables: str) -> Run:
        started.append(Run(*arguments, cwd=cwd, **variables))
        return started[-1]

    yield start
    for run in started:
        run.clean_up()


def learned(run: Run, model: str) -> int:
    return int(run.get(f"/v1/models/{model}")["learned"])


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


QUIET = """
[models.demand]
task = "regression"
pipeline = [{use = "preprocessing.MinMaxScaler"}, {use = "linear_model.LinearRegression"}]
metrics = ["MAE"]

[points.price]
world = "pricing"
params = {stock = 20, periods = 50, prices = "0.5:4.25:0.25"}
key = "sku"
mode = "apprentice"
baseline = "best-fixed-price"
"""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A service whose baseline serves and which trains nothing."""
    folder = tmp_path_factory.mktemp("quiet")
    (folder / "trimtab.toml").write_text(QUIET)
    run = Run("--port", "0", cwd=folder)
    yield run
    run.clean_up()


def simulate(run: Run, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "service.cli", "simulate", "price", "--url", run.url(), "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def test_what_is_earned_is_what_the_served_rule_earns_with_the_same_customers(quiet: Run) -> None:
    result = finished(simulate(quiet, "--decisions", "400", "--entities", "4", "--seed", "3"))
    assert result["decisions"] == 400
    assert result["episodes"] >= 4
    assert result["rivals"]["best-fixed"]["share"] == 1.0
    assert 0.5 < result["rivals"]["oracle"]["share"] < 1.1
    assert result["outcomes"] == {"sent": 400, "lost": 0, "doubled": 0, "refused": 0}


def test_a_run_that_is_repeated_gets_the_same_answers_and_appends_nothing(quiet: Run) -> None:
    arguments = ("--decisions", "120", "--entities", "2", "--seed", "5", "--run", "again")
    first = finished(simulate(quiet, *arguments))
    before = quiet.get("/v1/points/price"), joined(quiet)
    second = finished(simulate(quiet, *arguments))
    assert (quiet.get("/v1/points/price"), joined(quiet)) == before
    assert second["earned"] == first["earned"]


def joined(run: Run) -> tuple[int, int]:
    """Decisions and rewarded decisions that the learner has joined, once it has seen everything."""
    assert run.eventually(lambda: all(point["lag"] == 0 for point in run.get("/v1/system")["points"]))
    (point,) = run.get("/v1/system")["points"]
    return point["decisions"], sum(value["rewarded"] for value in point["values"])


def test_late_lost_and_doubled_outcomes_are_told_as_ordered_and_counted_once(quiet: Run) -> None:
    before = joined(quiet)
    mishaps = ("--delay", "3", "--loss", "0.1", "--dup", "0.2")
    result = finished(simulate(quiet, "--decisions", "600", "--entities", "6", "--seed", "7", *mishaps))
    told = result["outcomes"]
    # Five standard deviations of a binomial count: 37 of 600 lost at 0.1, 47 of 540 doubled at 0.2.
    assert told["lost"] == pytest.approx(60, abs=37)
    assert told["doubled"] == pytest.approx(108, abs=47)
    assert told["sent"] == 600 - told["lost"] + told["doubled"]
    after = joined(quiet)
    assert (after[0] - before[0], after[1] - before[1]) == (600, 600 - told["lost"])


def test_a_change_of_the_hidden_world_shows_against_the_oracle_and_in_its_own_regime(quiet: Run) -> None:
    result = finished(
        simulate(quiet, "--decisions", "1600", "--entities", "16", "--seed", "9", "--shift", "at=800,sensitivity=2")
    )
    calm, changed = result["regimes"]
    assert calm["rivals"]["best-fixed"]["share"] == 1.0
    assert changed["since"] == 800
    assert changed["changes"] == {"sensitivity": 2}
    assert changed["exact"]["oracle"] < 0.6 * calm["exact"]["oracle"]
    assert changed["rivals"]["oracle"]["share"] < 0.85
    assert changed["fixed_action"] < calm["fixed_action"]


def test_a_model_gets_each_outcome_as_a_labelled_event(quiet: Run) -> None:
    assert quiet.eventually(lambda: learned_when_back(quiet) >= 0)
    before = learned(quiet, "demand")
    finished(simulate(quiet, "--decisions", "100", "--entities", "2", "--model", "demand"))
    assert quiet.eventually(lambda: learned(quiet, "demand") == before + 100)


@pytest.mark.parametrize("victim", ["cli api", "cli learner", "redis-server"])
def test_a_simulation_outlives_a_kill_and_nothing_is_lost_or_doubled(victim: str, quiet: Run) -> None:
    before = joined(quiet)
    process = simulate(quiet, "--decisions", "600", "--entities", "2", "--rate", "100")
    time.sleep(2)
    os.kill(quiet.member(victim), signal.SIGKILL)
    result = finished(process)
    assert result["outcomes"] == {"sent": 600, "lost": 0, "doubled": 0, "refused": 0}
    assert quiet.eventually(lambda: learned_when_back(quiet) >= 0)
    after = joined(quiet)
    assert (after[0] - before[0], after[1] - before[1]) == (600, 600)


def test_a_simulation_stops_politely_and_says_what_was_earned(quiet: Run) -> None:
    process = simulate(quiet, "--decisions", "0", "--rate", "50")
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    result = finished(process)
    assert result["stopped"]
    assert 0 < result["decisions"] == result["outcomes"]["sent"]


def test_a_point_that_does_not_exist_is_named_with_those_that_do(quiet: Run) -> None:
    command = [sys.executable, "-P", "-m", "service.cli", "simulate", "prize", "--url", quiet.url()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert done.returncode == 1
    assert "prize" in done.stderr
    assert "price" in done.stderr


def test_rows_of_a_file_are_learned_once_and_a_bad_one_is_named(quiet: Run, tmp_path: Path) -> None:
    before = learned(quiet, "demand")
    rows = [f"{price},20,1,{5 - price}" for price in (1.0, 2.0, 3.0)]
    (tmp_path / "sales.csv").write_text("\n".join(["price,stock,period,sold", *rows, "4.0,20,1,many"]))
    command = [sys.executable, "-P", "-m", "service.cli", "ingest", "demand", str(tmp_path / "sales.csv")]
    options = ["--label", "sold", "--url", quiet.url(), "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=SOON_S, check=False)
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert (result["rows"], result["accepted"]) == (4, 3)
    assert [line["line"] for line in result["rejected"]] == [4]
    assert quiet.eventually(lambda: learned(quiet, "demand") == before + 3)


def test_what_was_set_aside_is_listed(quiet: Run) -> None:
    assert json.loads(trimtab(quiet, "rejects", "demand", "--json").stdout) == {"rejects": []}
    assert "nothing was set aside" in trimtab(quiet, "rejects", "demand").stdout
    unknown = trimtab(quiet, "rejects", "nothing")
    assert unknown.returncode == 1
    assert "demand" in unknown.stderr


def trimtab(run: Run, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "service.cli", *arguments, "--url", run.url()]
    return subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)


def test_an_operator_trains_registers_promotes_and_rolls_back_from_the_command_line(quiet: Run, tmp_path: Path) -> None:
    out = tmp_path / "exact.trimtab"
    ladder = "stock=20,periods=50,prices=0.5:4.25:0.25"
    made = trimtab(
        quiet, "train", "pricing", "--algo", "exact", "--params", ladder, "--out", str(out), "--register", "price"
    )
    assert made.returncode == 0, made.stderr
    listed = json.loads(trimtab(quiet, "policies", "price", "--json").stdout)
    (digest,) = [policy["digest"] for policy in listed["policies"]]
    refused = trimtab(quiet, "promote", "price", "ffff", "--reason", "because")
    assert refused.returncode == 2
    assert digest[:12] in refused.stderr
    promoted = trimtab(quiet, "promote", "price", digest[:8], "--reason", "it is the optimum", "--actor", "ann")
    assert promoted.returncode == 0, promoted.stderr
    assert quiet.eventually(lambda: serves(quiet) == digest)
    shown = trimtab(quiet, "policies", "price").stdout
    assert "it is the optimum (ann)" in shown
    assert "live" in shown
    result = finished(simulate(quiet, "--decisions", "400", "--entities", "8", "--seed", "2"))
    assert result["rivals"]["oracle"]["share"] == 1.0
    assert trimtab(quiet, "rollback", "price", "--reason", "enough").returncode == 0
    assert quiet.eventually(lambda: serves(quiet) is None)
    assert trimtab(quiet, "mode", "price", "off", "--reason", "holiday").returncode == 0
    assert quiet.eventually(lambda: quiet.get("/v1/points/price")["release"]["mode"] == "off")
    wrong = trimtab(quiet, "mode", "price", "sideways", "--reason", "why not")
    assert wrong.returncode == 1
    assert "apprentice" in wrong.stderr


def serves(run: Run) -> str | None:
    """The digest of the bundle that the API serves by now."""
    incumbent: str | None = run.get("/v1/points/price")["release"]["incumbent"]
    return incumbent


def test_the_report_of_a_point_is_told_to_people_and_to_programs(quiet: Run) -> None:
    finished(simulate(quiet, "--decisions", "200", "--entities", "4"))
    joined(quiet)
    result = json.loads(trimtab(quiet, "report", "price", "--json").stdout)
    assert result["decisions"] >= 200
    assert result["states"]["rewarded"] >= 200
    words = trimtab(quiet, "report", "price").stdout
    assert f"the last {result['decisions']:,} decisions" in words
    assert "best-fixed-price" in words


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
