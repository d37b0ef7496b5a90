"""Events per second that one API process takes as NDJSON, as a share of a bare loop of pipelined XADDs in the same run.

A small event has an id, three features and a label. Each is decoded, checked against the model's schema, given a digest
and a checksum, and appended durably, once for each id; the answer comes after the fsync. The bare loop sends the same
bytes with redis-py, a hundred XADDs a pipeline, and checks nothing. Rounds alternate, so that what else the machine
does hits both. `api_us` and `redis_us` are processor time per event, which other load changes little; `cpu_share` is
that of the bare loop, client and Redis together, as a share of it: on a busy machine the one to read.

    python benchmarks/ingest.py [--seconds S] [--connections N] [--lines N] [--rounds N] [--json]
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import uvloop
from http_api import Connection, redis, running, serve_service

from online.redis_client import connect

RATE, SHARE = 40_000.0, 0.3
PATH = "/v1/models/churn/events"
_EVENT = b'{"id":"%b","features":{"a":1.5,"b":-0.3,"c":2.25},"label":true}'
_PIPELINE = 100


class Ingesting(Connection):
    """Sends one batch after another, each of new events."""

    def __init__(self, ids: "itertools.count[int]", lines: int, deadline: float, done: Any) -> None:
        super().__init__(b"", deadline, done)
        self._ids, self._lines = ids, lines
        self._request = self._batch()

    def _batch(self) -> bytes:
        number = next(self._ids)
        body = b"\n".join([_EVENT % (b"%d-%d" % (number, line)) for line in range(self._lines)])
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-length: {len(body)}"
        return head.encode() + b"\r\n\r\n" + body

    def _send(self) -> None:
        super()._send()
        # Made while the service works: the generator's time is not the service's.
        self._request = self._batch()


def ingest(port: int, ids: "itertools.count[int]", lines: int, connections: int, seconds: float) -> tuple[float, int]:
    """Events per second, and how many answers were no success."""

    async def run() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        waiting = []
        for _ in range(connections):
            done: asyncio.Future[tuple[list[float], int]] = loop.create_future()
            waiting.append(done)
            make = lambda d=done: Ingesting(ids, lines, started + seconds, d)  # noqa: E731
            await loop.create_connection(make, "127.0.0.1", port)
        found = await asyncio.gather(*waiting)
        took = time.perf_counter() - started
        return sum(len(latencies) for latencies, _ in found) * lines / took, sum(errors for _, errors in found)

    return uvloop.run(run())


def bare(address: str, server: int, seconds: float) -> tuple[float, float]:
    """XADDs per second, and the processor time of each in microseconds: that of this process and of Redis."""
    client, sent, started = connect(address), 0, time.perf_counter()
    before = time.process_time() + processor(server)
    while time.perf_counter() < started + seconds:
        with client.pipeline(transaction=False) as pipeline:
            for line in range(_PIPELINE):
                pipeline.xadd("bare", {"p": _EVENT % b"%d-%d" % (sent, line)})
            pipeline.execute()
        sent += _PIPELINE
    took, spent = time.perf_counter() - started, time.process_time() + processor(server) - before
    client.delete("bare")
    return sent / took, spent / sent * 1e6


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(seconds: float, connections: int, lines: int, rounds: int) -> dict[str, Any]:
    """Both in turn, `rounds` times, after one to warm up."""
    ids = itertools.count()
    rates: list[float] = []
    floors: list[float] = []
    costs: list[tuple[float, float, float]] = []
    errors = 0
    with redis() as address, running(serve_service, address, 8963) as service:
        client = connect(address)
        server = int(client.info("server")["process_id"])  # type: ignore[index]
        for round_ in range(rounds + 1):
            floor, floor_us = bare(address, server, seconds if round_ else 0.5)
            before = processor(service.pid), processor(server)
            rate, failed = ingest(service.port, ids, lines, connections, seconds if round_ else 1.0)
            spent = processor(service.pid) - before[0], processor(server) - before[1]
            errors += failed
            if round_:
                floors.append(floor)
                rates.append(rate)
                api_us, redis_us = (each / (rate * seconds) * 1e6 for each in spent)
                costs.append((api_us, redis_us, floor_us / (api_us + redis_us)))
        api_us, redis_us, cpu_share = (statistics.median(cost) for cost in zip(*costs, strict=True))
    result = {"events_per_s": round(statistics.median(rates)), "bare_per_s": round(statistics.median(floors))}
    shares = [rate / floor for rate, floor in zip(rates, floors, strict=True)]
    result |= {"share": round(statistics.median(shares), 3), "errors": errors}  # type: ignore[dict-item]
    return result | {"cpu_share": round(cpu_share, 3), "api_us": round(api_us, 1), "redis_us": round(redis_us, 1)}


def main() -> None:
    """Measures and prints; fails where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = measure(given.seconds, given.connections, given.lines, given.rounds)
    print(json.dumps(result, indent=None if given.json else 2))
    missed = [f"{result['events_per_s']:,} events/s, not {RATE:,.0f}"] if result["events_per_s"] < RATE else []
    missed += [f"{result['share']} of the bare loop, not {SHARE}"] if result["share"] < SHARE else []
    missed += [f"{result['errors']} errors"] if result["errors"] else []
    if missed:
        raise SystemExit("; ".join(missed))


if __name__ == "__main__":
    main()
