"""Events per second through the whole learner, as a share of a bare River loop in the same run.

The bare loop predicts, updates a metric and ADWIN, and learns. The learner does that and also checks, decodes, sorts,
guards, reports, commits and takes snapshots; with the Redis log it reads and commits over a unix socket.

    python benchmarks/learner.py [--events N] [--rounds N] [--redis SOCKET]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from river import drift, linear_model, metrics, optim, preprocessing, tree
from river.datasets import synth

from online.events import Observed, digest, draft_id, encode
from online.learner import model_fold
from online.log import Draft, Log, Partition
from online.memory_log import MemoryLog
from online.redis_client import connect
from online.redis_log import RedisLog
from online.specs import ModelSpec, model_spec
from online.worker import Worker, rare_collections

SGD = {"use": "optim.SGD", "lr": 0.005}
MODELS: dict[str, tuple[Callable[[], Any], list[dict[str, Any]]]] = {
    "logistic regression": (
        lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005)),
        [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}],
    ),
    "hoeffding tree": (tree.HoeffdingTreeClassifier, [{"use": "tree.HoeffdingTreeClassifier"}]),
}
TARGETS = {
    ("logistic regression", "memory"): 0.6,
    ("logistic regression", "redis"): 0.5,
    ("hoeffding tree", "memory"): 0.8,
    ("hoeffding tree", "redis"): 0.7,
}


def cases(count: int) -> list[tuple[dict[str, Any], bool]]:
    """Nine numbers and categories a row, keys sorted as the learner sorts them."""
    stream = synth.Agrawal(seed=1).take(count)
    return [({name: float(x[name]) for name in sorted(x)}, bool(y)) for x, y in stream]


def bare(make: Callable[[], Any], rows: list[tuple[dict[str, Any], bool]]) -> float:
    """Events per second of the bare loop."""
    model, accuracy, adwin = make(), metrics.Accuracy(), drift.ADWIN()
    begun = time.perf_counter()
    for x, y in rows:
        predicted = model.predict_one(x)
        if predicted is not None:
            accuracy.update(y, predicted)
            adwin.update(predicted != y)
        model.learn_one(x, y)
    return len(rows) / (time.perf_counter() - begun)


def through(spec: ModelSpec, log: Log, rows: list[tuple[dict[str, Any], bool]]) -> float:
    """Events per second of a worker that finds all events waiting in the log."""
    partition = Partition(f"model:{spec.name}", 0)
    drafts = []
    for number, (x, y) in enumerate(rows):
        event = Observed(id=str(number), features=x, label=y)
        drafts.append(Draft(draft_id(event), digest(number), encode(event)))
    for begin in range(0, len(drafts), 1_000):
        log.append(partition, drafts[begin : begin + 1_000])
    worker = Worker(log, model_fold(spec), partition, "benchmark")
    with rare_collections():
        begun = time.perf_counter()
        while worker.fold is None or worker.fold.learned < len(rows):
            worker.step()
        worker.close()
        return len(rows) / (time.perf_counter() - begun)


def logs(socket: str | None) -> Iterator[tuple[str, Callable[[], Log]]]:
    """The logs to measure."""
    yield "memory", MemoryLog
    if socket is not None:
        client = connect(socket)

        def empty() -> Log:
            client.flushdb()
            return RedisLog(client)

        yield "redis", empty


def measure(events: int, rounds: int, socket: str | None) -> list[dict[str, Any]]:
    """One line per model and log: medians over rounds, the floor measured anew in each."""
    rows, found = cases(events), []
    for name, (make, pipeline) in MODELS.items():
        spec = model_spec("benchmark", {"task": "binary", "pipeline": pipeline, "metrics": ["Accuracy"]})
        for kind, new in logs(socket):
            pairs = []
            for _ in range(rounds):
                with rare_collections():
                    floor = bare(make, rows)
                pairs.append((floor, through(spec, new(), rows)))
            ratio = statistics.median(rate / floor for floor, rate in pairs)
            line = {"model": name, "log": kind, "share": round(ratio, 3), "target": TARGETS[name, kind]}
            line |= {
                "bare": round(statistics.median(p[0] for p in pairs)),
                "learner": round(statistics.median(p[1] for p in pairs)),
            }
            found.append(line)
            print(json.dumps(line), flush=True)
    return found


def main() -> None:
    """Measure and print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--redis", metavar="SOCKET", help="socket or URL of a Redis that may be flushed")
    given = parser.parse_args()
    measure(given.events, given.rounds, given.redis)


if __name__ == "__main__":
    main()
