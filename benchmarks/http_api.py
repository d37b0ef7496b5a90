"""Requests per second of one API process, as a share of a bare Starlette route in the same run.

The bare route, on uvicorn as it comes, decodes the same request and answers the same bytes; nothing else. A decision is
decoded, decided by a network of 2 × 64 over 21 actions, appended durably (fsync before the answer) and answered. A
prediction with `learn = false` is decoded, checked and predicted by a River model. The generator keeps 64 connections
busy, each with one request at a time. Servers, Redis and generator share the machine: mind the ratio, not the rate; and
where others are at work there too, the ratio of processor times, which is that of what one busy process can do.

    python benchmarks/http_api.py [--seconds S] [--connections N] [--rounds N] [--json]
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvicorn
import uvloop
from onnx import TensorProto, helper, numpy_helper
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agents.bundle import Actions, Bundle, Card, ObservationField, pack
from agents.runtime import load
from online.events import Released
from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog
from service.app import create, hand_over_quickly, served_at
from service.deciding.decide import BASELINE, Arm, Ask, ServedPoint, decide, decide_all
from service.deciding.points import Point
from service.deciding.registry import Registry
from service.deciding.releases import Release
from service.manifest import parse
from service.processes.embedded import find_server
from service.settings import Settings

TARGETS = {"decide": 0.5, "predict": 0.7}
TAIL = 6.0
SECRET = "a secret for benchmarks alone"
MANIFEST: dict[str, Any] = {
    "models": {
        "churn": {
            "task": "binary",
            "pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression"}],
        }
    },
    "points": {
        "price": {
            "world": "pricing",
            "params": {"stock": 20, "periods": 50, "prices": {"geometric": [0.5, 4.0, 21]}},
            "mode": "live",
            "exploration": {"share": 0.02, "over": "neighbours"},
        }
    },
}
DECIDE = ("/v1/decisions/price", b'{"context":{"stock":12,"period":7}}')
PREDICT = ("/v1/models/churn/predict", b'{"features":{"a":1.5,"b":-0.3,"c":2.25},"learn":false}')


@dataclass(frozen=True)
class Measured:
    """One closed-loop run: answers per second, latencies in milliseconds, processor time per answer in microseconds."""

    rate: float
    p50: float
    p99: float
    errors: int
    cpu_us: float


@dataclass(frozen=True)
class Server:
    """A process that serves on a port."""

    port: int
    pid: int

    def spent(self) -> float:
        """Seconds of processor time that it has used, all threads together."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Connection(asyncio.Protocol):
    """Sends one request after another, as soon as the last one is answered, until the deadline."""

    def __init__(self, request: bytes, deadline: float, done: "asyncio.Future[tuple[list[float], int]]") -> None:
        self._request, self._deadline, self._done = request, deadline, done
        self._buffer = b""
        self._latencies: list[float] = []
        self._errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        begin = self._buffer.find(b"content-length: ") + 16
        length = int(self._buffer[begin : self._buffer.find(b"\r", begin)])
        if len(self._buffer) < head + 4 + length:
            return
        now = time.perf_counter()
        self._latencies.append(now - self._sent)
        self._errors += not self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        if now < self._deadline:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result((self._latencies, self._errors))


def load_with(server: Server, path: str, body: bytes, connections: int, seconds: float) -> Measured:
    """Keeps so many connections busy for so long."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    request = head.encode() + body

    async def run() -> Measured:
        loop = asyncio.get_running_loop()
        started, spent = time.perf_counter(), server.spent()
        waiting: list[asyncio.Future[tuple[list[float], int]]] = []
        for _ in range(connections):
            done: asyncio.Future[tuple[list[float], int]] = loop.create_future()
            waiting.append(done)
            make = partial(Connection, request, started + seconds, done)
            await loop.create_connection(make, "127.0.0.1", server.port)
        found = await asyncio.gather(*waiting)
        took = time.perf_counter() - started
        latencies = np.sort(np.concatenate([latency for latency, _ in found])) * 1000
        p50, p99 = np.quantile(latencies, [0.5, 0.99])
        errors, each = sum(errors for _, errors in found), (server.spent() - spent) / len(latencies) * 1e6
        return Measured(len(latencies) / took, float(p50), float(p99), errors, each)

    return uvloop.run(run())


def bundle() -> tuple[bytes, Point]:
    """A network of 2 × 64 with random weights, for the point of the manifest."""
    point = Point.of(parse(MANIFEST).points["price"])
    rng = np.random.default_rng(0)
    nodes, weights, width, name = [], [], 2, "observation"
    for layer, size in enumerate((64, 64, 21)):
        matrix = rng.normal(0, 1 / width**0.5, (width, size)).astype(np.float32)
        weights += [numpy_helper.from_array(matrix, f"w{layer}"), numpy_helper.from_array(matrix[0] * 0, f"b{layer}")]
        last = layer == 2
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], ["logits" if last else f"h{layer}"]))
        if not last:
            nodes.append(helper.make_node("Tanh", [f"h{layer}"], [f"t{layer}"]))
        width, name = size, f"t{layer}"
    entry = helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", 2])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 21])
    graph = helper.make_graph(nodes, "network", [entry], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    fields = tuple(ObservationField(e.name, e.unit, e.low, e.high) for e in point.context)
    actions = Actions("price", 21, point.world.actions.unit, tuple(map(float, point.actions)))  # type: ignore[arg-type]
    card = Card(world="pricing", params={}, actions=actions, observation=fields)
    return pack(card, model.SerializeToString()), point


def serve_service(address: str, port: int, ready: Event) -> None:
    """One API process over Redis, as `trimtab api` runs it."""
    log, blob = RedisLog(connect(address)), RedisBlob(connect(address))
    data, point = bundle()
    registry = Registry(log, blob, time.time)
    digest = registry.register("price", data, point.check)
    registry.release("price", Released(id="first", point="price", bundle=digest))
    app = create(Settings(secret=SECRET), parse(MANIFEST), lambda: RedisLog(connect(address)), blob)
    _serve(served_at(app, "127.0.0.1", port), ready)


def serve_floor(_: str, port: int, ready: Event) -> None:
    """Routes that decode the same requests, and answer bytes that were made once."""
    point = Point.of(parse(MANIFEST).points["price"])
    decided = msgspec.json.encode({"id": "x" * 32, "action": 1.5, "probabilities": [1 / 21] * 21, "entry": "0:1-0"})
    predicted = msgspec.json.encode({"id": "x" * 32, "prediction": True, "model": {"learned": 0}})
    decoders = {DECIDE[0]: msgspec.json.Decoder(point.decoder.type), PREDICT[0]: msgspec.json.Decoder(dict[str, Any])}

    def route(path: str, answer: bytes) -> Route:
        async def handle(request: Request) -> Response:
            decoders[path].decode(await request.body())
            return Response(answer, media_type="application/json")

        return Route(path, handle, methods=["POST"])

    app = Starlette(routes=[route(DECIDE[0], decided), route(PREDICT[0], predicted)])
    plain = uvicorn.Config(app, port=port, log_level="warning", access_log=False, proxy_headers=False)
    _serve(plain, ready)


def _serve(config: uvicorn.Config, ready: Event) -> None:
    hand_over_quickly()

    class Announced(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            ready.set()

    Announced(config).run()


@contextmanager
def running(serve: Callable[[str, int, Event], None], address: str, port: int) -> Iterator[Server]:
    """A server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=serve, args=(address, port, ready), daemon=True)
    process.start()
    try:
        if not ready.wait(60):
            raise TimeoutError(f"{serve.__name__} did not start within 60 s")
        yield Server(port, process.pid or 0)
    finally:
        process.terminate()
        process.join(10)


@contextmanager
def redis() -> Iterator[str]:
    """A Redis that fsyncs before it answers, on a unix socket in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="tt-bench-") as folder:
        socket = f"{folder}/redis.sock"
        options = {"port": "0", "unixsocket": socket, "dir": folder, "appendonly": "yes", "appendfsync": "always"}
        flags = [word for name, value in (options | {"save": ""}).items() for word in (f"--{name}", value)]
        server = subprocess.Popen([str(find_server().path), *flags], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not Path(socket).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            yield socket
        finally:
            server.terminate()
            server.wait(10)


def policy_cost() -> dict[str, float]:
    """Microseconds of one evaluation of the network, alone and per row of a batch, and of a whole decision."""
    data, point = bundle()
    policy = load(_unpacked(data))
    row, mask = np.array([[12, 7]], np.float32), np.ones((1, 21), bool)
    many, masks = np.repeat(row, 1024, axis=0), np.repeat(mask, 1024, axis=0)
    arm = Arm(policy, policy.digest, policy.kind)
    baseline = Arm(point.baseline, point.baseline_name, BASELINE)
    served = ServedPoint(point, Release("price", "live", policy.digest), arm, baseline)
    request = point.decoder.decode(DECIDE[1])
    asks = [Ask(request, f"{i:032d}") for i in range(64)]
    return {
        "network": _micro(lambda: policy.outputs(row)),
        "network, batch of 1,024, per row": _micro(lambda: policy.outputs(many), 200) / 1024,
        "probabilities": _micro(lambda: policy.probabilities(row, mask)),
        "probabilities, batch of 1,024, per row": _micro(lambda: policy.probabilities(many, masks), 200) / 1024,
        "decide, batch of 64, each": _micro(
            lambda: decide_all(served, [Ask(request, "x" * 32)] * 64, SECRET.encode()), 200
        )
        / 64,
        "decide": _micro(lambda: decide(served, asks[0], SECRET.encode())),
    }


def _unpacked(data: bytes) -> Bundle:
    from agents.bundle import unpack

    return unpack(data)


def _micro(work: Callable[[], Any], times: int = 5000) -> float:
    for _ in range(times // 10):
        work()
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times * 1e6


def measure(seconds: float, connections: int, rounds: int) -> dict[str, Any]:
    """Each kind of request in turn against both servers, so that what else the machine does hits all alike."""
    found: dict[str, list[Measured]] = {}
    with redis() as address, running(serve_floor, "", 8961) as floor, running(serve_service, address, 8962) as service:
        for round_ in range(rounds + 1):
            for name, (path, body) in (("decide", DECIDE), ("predict", PREDICT)):
                for kind, server in ((f"{name} floor", floor), (name, service)):
                    measured = load_with(server, path, body, connections, seconds if round_ else 1.0)
                    # The first round warms everything up.
                    if round_:
                        found.setdefault(kind, []).append(measured)
    return {kind: _summary(runs) for kind, runs in found.items()}


def _summary(runs: list[Measured]) -> dict[str, float]:
    names = ("rate", "p50", "p99", "errors", "cpu_us")
    return {name: round(statistics.median(getattr(run, name) for run in runs), 2) for name in names}


def main() -> None:
    """Measures and prints; fails where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = measure(given.seconds, given.connections, given.rounds)
    result["policy_us"] = {name: round(value, 2) for name, value in policy_cost().items()}
    shares = {name: round(result[name]["rate"] / result[f"{name} floor"]["rate"], 3) for name in TARGETS}
    by_cpu = {name: round(result[f"{name} floor"]["cpu_us"] / result[name]["cpu_us"], 3) for name in TARGETS}
    tail = round(result["decide"]["p99"] / result["decide"]["p50"], 2)
    result |= {"shares": shares, "shares by processor time": by_cpu, "p99/p50": tail}
    print(json.dumps(result, indent=None if given.json else 2))
    missed = [
        f"{name}: {shares[name]} of the floor, not {target}"
        for name, target in TARGETS.items()
        if shares[name] < target
    ]
    missed += [f"decide: p99 is {tail} × p50, not {TAIL}"] if tail > TAIL else []
    missed += [
        f"{name}: {run['errors']} errors" for name, run in result.items() if isinstance(run, dict) and run.get("errors")
    ]
    if missed:
        raise SystemExit("; ".join(missed))


if __name__ == "__main__":
    main()
