"""Processes that were started together: kept alive, stopped in order, never orphaned."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.processes import children
from service.processes.children import CANNOT_START, Child, Program
from service.processes.supervisor import Fleet, StartError, free_port


class Recorder:
    """A terminal that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def say(self, source: str, text: str) -> None:
        self.lines.append(("say", source, text))

    def warn(self, source: str, text: str) -> None:
        self.lines.append(("warn", source, text))


def program(tmp_path: Path, code: str, name: str = "api", once: bool = False, grace_s: float = 5.0) -> Program:
    command = [sys.executable, "-c", code]
    return Program(name, command, dict(os.environ), tmp_path / "logs" / f"{name}.log", once=once, grace_s=grace_s)


def eventually(condition: Callable[[], bool], within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def watch(fleet: Fleet, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        fleet.check()
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    made: list[Child] = []

    def make(code: str, **how: object) -> Child:
        made.append(Child(program(tmp_path, code, **how)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.stop(lambda: True)


def test_a_child_lives_in_its_own_session_at_its_own_priority(tmp_path: Path) -> None:
    quiet = Child(Program("adapter", [sys.executable, "-c", SLEEP], dict(os.environ), tmp_path / "log", nice=19))
    quiet.start(0.0)
    try:
        assert quiet.process is not None
        assert os.getsid(quiet.process.pid) == quiet.process.pid
        assert os.getpriority(os.PRIO_PROCESS, quiet.process.pid) == 19
    finally:
        quiet.stop(lambda: True)


def test_a_dead_child_comes_back_after_a_pause_that_doubles(child: Callable[..., Child]) -> None:
    crashing = child("import sys; print('the reason', file=sys.stderr); sys.exit(3)")
    crashing.start(0.0)
    now = 0.0
    for pause in (0.5, 1.0, 2.0):
        assert crashing.process is not None
        crashing.process.wait()
        death = crashing.check(now)
        assert death is not None
        assert (death.status, death.pause_s, death.last_words) == (3, pause, "the reason")
        assert crashing.check(now + pause * 0.9) is None
        assert crashing.process is None, "it came back too early"
        now += pause
        assert crashing.check(now) is None


def test_the_pause_starts_again_after_a_minute_of_good_service(child: Callable[..., Child]) -> None:
    shortlived = child(SLEEP)
    shortlived.start(0.0)
    for dies, pause in ((1.0, 0.5), (2.0, 1.0), (100.0, 0.5)):
        assert shortlived.process is not None
        shortlived.process.kill()
        shortlived.process.wait()
        death = shortlived.check(dies)
        assert death is not None
        assert (death.how, death.pause_s) == ("killed by SIGKILL", pause)
        shortlived.check(dies + pause)


def test_a_log_that_has_grown_large_is_put_aside_at_the_next_start(
    child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_LARGE_LOG", 10)
    talking = child("print('much more than ten bytes')")
    for _ in range(3):
        talking.start(0.0)
        assert talking.process is not None
        talking.process.wait()
    log = talking.program.log
    assert log.read_text() == log.with_name("api.log.old").read_text() == "much more than ten bytes\n"
    assert len(list(log.parent.iterdir())) == 2


def test_a_child_that_cannot_start_is_not_tried_again_and_ends_the_run(tmp_path: Path) -> None:
    terminal = Recorder()
    fleet = Fleet(None, terminal)
    fleet.start([program(tmp_path, f"print('error: no such manifest'); exit({CANNOT_START})")])
    watch(fleet, lambda: fleet.status != 0)
    assert terminal.lines == [("warn", "api", "cannot start: error: no such manifest")]


def test_a_guest_may_come_to_an_end_and_a_service_may_not(tmp_path: Path) -> None:
    terminal = Recorder()
    fleet = Fleet(None, terminal)
    fleet.start([program(tmp_path, "", "shop", once=True), program(tmp_path, "", "learner")])
    watch(fleet, lambda: len(terminal.lines) == 2)
    fleet.stop(lambda: True)
    told = {source: (kind, text) for kind, source, text in terminal.lines}
    assert told["shop"] == ("say", "has finished")
    assert told["learner"][0] == "warn"
    assert "ended with 0; starting it again in 0.5 s" in told["learner"][1]


def test_children_stop_in_order_with_those_outside_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = f"""
import signal, sys, time
def stop(*_):
    open({str(order)!r}, 'a').write(sys.argv[0] and NAME + ' ')
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print('ready', flush=True)
time.sleep(60)
"""
    names = ("api", "learner", "adapter", "shop")
    programs = [program(tmp_path, f"NAME = {name!r}\n{code}", name, once=name == "shop") for name in names]
    fleet = Fleet(None, Recorder())
    fleet.start(programs)
    assert eventually(lambda: all("ready" in one.log.read_text() for one in programs))
    fleet.stop(lambda: False)
    assert order.read_text().split() == ["shop", "api", "learner", "adapter"]


@pytest.mark.parametrize(("grace_s", "hurry"), [(0.3, False), (60.0, True)])
def test_a_child_that_ignores_the_signal_is_killed_after_its_grace_or_in_a_hurry(
    grace_s: float, hurry: bool, child: Callable[..., Child]
) -> None:
    stubborn = child(STUBBORN, grace_s=grace_s)
    stubborn.start(0.0)
    assert eventually(lambda: "ready" in stubborn.program.log.read_text())
    assert stubborn.process is not None
    pid, began = stubborn.process.pid, time.monotonic()
    assert not stubborn.stop(lambda: hurry)
    assert time.monotonic() - began < 5
    assert not runs(pid)


def test_no_child_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = f"""
import os, sys, time
from pathlib import Path
from service.processes import children
from service.processes.children import Child, Program
pids = []
for name in ('a', 'b'):
    child = Child(Program(name, [sys.executable, '-c', {STUBBORN!r}], dict(os.environ), Path({str(tmp_path)!r}) / name))
    child.start(0.0)
    pids.append(child.process.pid)
print(*pids, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pids = [int(pid) for pid in running.stdout.readline().split()]
        assert all(runs(pid) for pid in pids)
        running.kill()
    try:
        assert eventually(lambda: not any(runs(pid) for pid in pids), within=3)
    finally:
        for pid in filter(runs, pids):
            os.kill(pid, signal.SIGKILL)


def test_a_port_in_use_is_refused_and_a_port_of_zero_is_any_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port}.*--port"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", 0) > 0
