"""A process that the supervisor started: its life is tied to the supervisor's, and its death is noticed."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_STEADY_AFTER_S = 60.0

_LARGE_LOG = 16 << 20

CANNOT_START = 2
"""Exit status of a process that another start would not help: wrong settings, wrong manifest."""


def tied(death_signal: signal.Signals, nice: int = 0) -> Callable[[], None]:
    """What a new child does first: ask the kernel to send `death_signal` when its parent dies.

    The kernel watches the *thread* that forked, so children are started by the main thread only. Everything that
    allocates or imports happens here, before the fork.
    """
    parent = os.getpid()
    prctl, getppid, renice, leave = _LIBC.prctl, os.getppid, os.nice, os._exit
    number = int(death_signal)

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if getppid() != parent:  # it died before the request was in place: the signal will never come
            leave(1)
        if nice:
            renice(nice)

    return tie


@dataclass(frozen=True)
class Program:
    """What to run: `log` takes both of its outputs, `nice` lowers its priority, `once` lets it come to an end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    nice: int = 0
    once: bool = False
    grace_s: float = 10.0


@dataclass(frozen=True)
class Death:
    """A child has ended by itself; it is started again in `pause_s` seconds, or never (`None`)."""

    program: Program
    status: int
    pause_s: float | None
    last_words: str

    @property
    def how(self) -> str:
        """In words."""
        return f"killed by {signal.Signals(-self.status).name}" if self.status < 0 else f"ended with {self.status}"


@dataclass
class Child:
    """One program, kept running: `start`, `check` now and then, `stop`."""

    program: Program
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)
    _failures: int = field(default=0, init=False)
    _due: float | None = field(default=None, init=False)
    _log_start: int = field(default=0, init=False)

    def start(self, now: float) -> None:
        """Start it, in a session of its own so that a Ctrl-C of the terminal reaches the supervisor alone."""
        program = self.program
        _make_room(program.log)
        with program.log.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                program.command,
                env=program.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=tied(signal.SIGKILL, program.nice),
            )
        self._started, self._due = now, None

    def check(self, now: float) -> Death | None:
        """Say whether it has just died; start it again once its pause is over. `now` is monotonic, in seconds."""
        if self._due is not None and now >= self._due:
            self.start(now)
            return None
        if self.process is None or self.process.poll() is None:
            return None
        status, self.process = self.process.returncode, None
        if status == CANNOT_START or (status == 0 and self.program.once):
            return Death(self.program, status, None, self.last_words())
        self._failures = 1 if now - self._started > _STEADY_AFTER_S else self._failures + 1
        pause = min(_FIRST_PAUSE_S * 2 ** (self._failures - 1), _LONGEST_PAUSE_S)
        self._due = now + pause
        return Death(self.program, status, pause, self.last_words())

    def last_words(self) -> str:
        """The last line that it logged since it was started."""
        with self.program.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - 8192))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def stop(self, hurry: Callable[[], bool]) -> bool:
        """Stop it, by force after its time of grace or when told to `hurry`; false if force was needed."""
        self._due = None
        process, self.process = self.process, None
        if process is None:
            return True
        process.terminate()
        deadline = time.monotonic() + self.program.grace_s
        while process.poll() is None:
            if hurry() or time.monotonic() > deadline:
                process.kill()
                process.wait()
                return False
            time.sleep(0.02)
        return True


def _make_room(log: Path) -> None:
    """Put a log aside that has grown large; the one put aside before goes."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LARGE_LOG:
        log.replace(log.with_name(f"{log.name}.old"))
