"""How fast the whole learner is, how old what it shows, how much it holds.

``speed``: events per second as a share of a bare River loop in the same run. The bare loop predicts, updates a metric
and ADWIN, and learns. The learner does that and also checks, decodes, sorts, guards, reports, commits and takes
snapshots; with the Redis log it reads and commits over a unix socket. Bare loop and learner take turns, and the least
of each side's rounds is compared: in wall-clock time, and in processor time of this process, which on a busy machine is
the one to read.

``age``: seconds between two snapshots that readers can see, while a linear model and a tree of about 5 MB learn as fast
as they can; and the share of processor time that dumping takes, once the model is as large as it gets.

``keys``: memory of a learner with 100,000 keys, each with a linear model of its own.

    python benchmarks/learner.py [--case speed|age|keys] [--events N] [--rounds N] [--redis SOCKET]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from river import drift, linear_model, metrics, optim, preprocessing, tree
from river.datasets import synth

from online.events import Observed, digest, draft_id, encode
from online.learner import model_fold
from online.log import Draft, Log, Partition
from online.memory_log import MemoryLog
from online.redis_client import connect
from online.redis_log import RedisLog
from online.specs import ModelSpec, model_spec
from online.worker import Pace, Worker, rare_collections

Row = tuple[dict[str, Any], Any]

SGD = {"use": "optim.SGD", "lr": 0.005}
LOGISTIC = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}]
MODELS: dict[str, tuple[Callable[[], Any], list[dict[str, Any]]]] = {
    "logistic regression": (
        lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005)),
        LOGISTIC,
    ),
    "hoeffding tree": (tree.HoeffdingTreeClassifier, [{"use": "tree.HoeffdingTreeClassifier"}]),
}
TARGETS = {
    ("logistic regression", "memory"): 0.6,
    ("logistic regression", "redis"): 0.5,
    ("hoeffding tree", "memory"): 0.8,
    ("hoeffding tree", "redis"): 0.7,
}
OLDEST_S = 0.25
DUMPING = 0.05
KEYS = 100_000
MOST_MB = 1_500


class Took(NamedTuple):
    """Wall-clock and processor seconds."""

    wall: float
    cpu: float


class Timer:
    """Measures what runs under it."""

    def __enter__(self) -> "Timer":
        self._begun = Took(time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *_: object) -> None:
        self.took = Took(time.perf_counter() - self._begun.wall, time.process_time() - self._begun.cpu)


def cases(count: int) -> list[Row]:
    """Nine numbers and categories a row, keys sorted as the learner sorts them."""
    stream = synth.Agrawal(seed=1).take(count)
    return [({name: float(x[name]) for name in sorted(x)}, bool(y)) for x, y in stream]


def deep_cases(count: int) -> Iterator[Row]:
    """A label that follows a tree of depth 15 over ten numbers: a Hoeffding tree grows to megabytes on it."""
    stream = synth.RandomTree(seed_tree=5, seed_sample=6, n_num_features=10, n_cat_features=0, max_tree_depth=15)
    for x, y in stream.take(count):
        yield {str(name): float(x[name]) for name in sorted(x)}, bool(y)


def bare(make: Callable[[], Any], rows: list[Row]) -> Took:
    """The bare loop."""
    model, accuracy, adwin = make(), metrics.Accuracy(), drift.ADWIN()
    with rare_collections(), Timer() as timer:
        for x, y in rows:
            predicted = model.predict_one(x)
            if predicted is not None:
                accuracy.update(y, predicted)
                adwin.update(predicted != y)
            model.learn_one(x, y)
    return timer.took


def fill(log: Log, partition: Partition, rows: Iterator[tuple[dict[str, Any], Any, str | None]]) -> None:
    """Append a labelled observation for each row."""
    drafts = []
    for number, (x, y, key) in enumerate(rows):
        event = Observed(id=str(number), key=key, features=x, label=y)
        drafts.append(Draft(draft_id(event), digest(number), encode(event)))
        if len(drafts) == 1_000:
            log.append(partition, drafts)
            drafts.clear()
    log.append(partition, drafts)


def through(spec: ModelSpec, log: Log, rows: list[Row]) -> Took:
    """A worker that finds all events waiting in the log."""
    partition = Partition(f"model:{spec.name}", 0)
    fill(log, partition, ((x, y, None) for x, y in rows))
    worker = Worker(log, model_fold(spec), partition, "benchmark")
    with rare_collections(), Timer() as timer:
        while worker.fold is None or worker.fold.learned < len(rows):
            worker.step()
        worker.close()
    return timer.took


def logs(socket: str | None) -> Iterator[tuple[str, Callable[[], Log]]]:
    """The logs to measure."""
    yield "memory", MemoryLog
    if socket is not None:
        client = connect(socket)

        def empty() -> Log:
            client.flushdb()
            return RedisLog(client)

        yield "redis", empty


def speed(events: int, rounds: int, socket: str | None) -> Iterator[dict[str, Any]]:
    """One line per model and log: the least of as many rounds of each, taken in turn."""
    rows = cases(events)
    for name, (make, pipeline) in MODELS.items():
        spec = model_spec("benchmark", {"task": "binary", "pipeline": pipeline, "metrics": ["Accuracy"]})
        floors: list[Took] = []
        found: dict[str, list[Took]] = {}
        for _ in range(rounds):
            floors.append(bare(make, rows))
            for kind, new in logs(socket):
                found.setdefault(kind, []).append(through(spec, new(), rows))
        floor = least(floors)
        for kind, rounds_of_it in found.items():
            took = least(rounds_of_it)
            yield {
                "case": "speed",
                "model": name,
                "log": kind,
                "share": round(floor.wall / took.wall, 3),
                "cpu_share": round(floor.cpu / took.cpu, 3),
                "target": TARGETS[name, kind],
                "bare_per_s": round(events / floor.wall),
                "learner_per_s": round(events / took.wall),
            }


def least(rounds: list[Took]) -> Took:
    """The least of each kind of seconds: what other load on the machine adds is never negative."""
    return Took(min(took.wall for took in rounds), min(took.cpu for took in rounds))


class Shown(NamedTuple):
    """A snapshot that readers can see: since when, how large it is, and the processor seconds spent until it was."""

    at: float
    size: int
    spent: float
    dumping: float


class Timed(Worker):
    """Notes each commit that holds a snapshot, and what all of them took."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.shown: list[Shown] = []

    def _commit(self, *args: Any, **options: Any) -> None:
        before, begun = self._sealed, time.process_time()
        super()._commit(*args, **options)
        if self._sealed is not None and self._sealed is not before:
            spent = time.process_time()
            dumping = (self.shown[-1].dumping if self.shown else 0.0) + spent - begun
            self.shown.append(Shown(time.perf_counter(), len(self._sealed), spent, dumping))


def age(events: int) -> Iterator[dict[str, Any]]:
    """One line for a linear model, one for a large tree, which needs more events to become one and then to stay it."""
    large = {"use": "tree.HoeffdingTreeClassifier", "grace_period": 50, "delta": 0.1, "max_size": 1_000.0}
    streams = {
        "logistic regression": (LOGISTIC, cases(events)),
        "5 MB tree": ([large | {"max_depth": 9}], deep_cases(6 * events)),
    }
    for name, (pipeline, rows) in streams.items():
        spec = model_spec("age", {"task": "binary", "pipeline": pipeline, "metrics": ["Accuracy"]})
        log, partition = MemoryLog(), Partition("model:age", 0)
        fill(log, partition, ((x, y, None) for x, y in rows))
        worker = Timed(log, model_fold(spec), partition, "benchmark")
        with rare_collections():
            while worker.fold is None or worker.cursor < log.tail(partition):
                worker.step()
        shown = worker.shown
        ages = [later.at - earlier.at for earlier, later in pairwise(shown)]
        # From one snapshot of the grown model to the last: whole rounds of learning and dumping.
        first = next(one for one in shown if one.size > 0.6 * shown[-1].size)
        yield {
            "case": "age",
            "model": name,
            "snapshots": len(shown),
            "snapshot_mb": round(shown[-1].size / 1e6, 3),
            "median_age_s": round(statistics.median(ages), 3),
            "oldest_s": round(max(ages), 3),
            "target_s": OLDEST_S if name == "logistic regression" else None,
            "dumping_share": round((shown[-1].dumping - first.dumping) / (shown[-1].spent - first.spent), 4),
            "dumping_target": DUMPING,
        }


def keys(count: int, socket: str | None) -> Iterator[dict[str, Any]]:
    """Every key observed, changed again, and written; memory of this process, whose log lies in Redis if it may."""
    table = {"task": "binary", "pipeline": LOGISTIC, "metrics": ["Accuracy"], "key": "sku", "pooled": True}
    spec = model_spec("keys", table)
    for kind, new in list(logs(socket))[-1:]:
        log, partition = new(), Partition("model:keys", 0)
        rows = cases(2_000)
        fill(log, partition, ((*rows[n % 2_000], f"sku-{n % count}") for n in range(2 * count)))
        worker, most = Worker(log, model_fold(spec), partition, "benchmark", pace=Pace(dumping=0.2)), 0.0
        with Timer() as timer:
            while worker.fold is None or worker.cursor < log.tail(partition):
                worker.step()
                most = max(most, resident())
            worker.close()
        written = sum(1 for _ in log.parts(partition, "key:"))
        yield {
            "case": "keys",
            "log": kind,
            "keys": written,
            "events_per_s": round(2 * count / timer.took.wall),
            "resident_mb": round(max(most, resident())),
            "target_mb": MOST_MB,
        }


def resident() -> float:
    """Megabytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096 / 1e6


def main() -> None:
    """Measure and print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=["speed", "age", "keys"], action="append")
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--redis", metavar="SOCKET", help="socket or URL of a Redis that may be flushed")
    given = parser.parse_args()
    wanted = {
        "speed": lambda: speed(given.events, given.rounds, given.redis),
        "age": lambda: age(given.events),
        "keys": lambda: keys(KEYS, given.redis),
    }
    for case in given.case or wanted:
        for line in wanted[case]():
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
