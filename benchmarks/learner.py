"""How fast the whole learner is, how old what it shows, how much it holds.

``speed``: events per second as a share of a bare River loop in the same run. The bare loop predicts, updates a metric
and ADWIN, and learns. The learner does that and also checks, decodes, sorts, guards, reports, commits and takes
snapshots; with the Redis log it reads and commits over a unix socket. Shares are medians over rounds, of wall-clock
time and of the processor time of this process; on a busy machine the second is the one to read.

``age``: seconds between two snapshots that readers can see, while a linear model and a tree of about 5 MB learn as fast
as they can; and the share of time that dumping takes.

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
from online.log import Commit, Draft, Log, Partition
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
    """One line per model and log: medians over rounds, the floor measured before and after each."""
    rows = cases(events)
    for name, (make, pipeline) in MODELS.items():
        spec = model_spec("benchmark", {"task": "binary", "pipeline": pipeline, "metrics": ["Accuracy"]})
        for kind, new in logs(socket):
            pairs = []
            for _ in range(rounds):
                before, found, after = bare(make, rows), through(spec, new(), rows), bare(make, rows)
                pairs.append((Took(min(before.wall, after.wall), min(before.cpu, after.cpu)), found))
            yield {
                "case": "speed",
                "model": name,
                "log": kind,
                "share": round(statistics.median(floor.wall / found.wall for floor, found in pairs), 3),
                "cpu_share": round(statistics.median(floor.cpu / found.cpu for floor, found in pairs), 3),
                "target": TARGETS[name, kind],
                "bare_per_s": round(events / statistics.median(floor.wall for floor, _ in pairs)),
                "learner_per_s": round(events / statistics.median(found.wall for _, found in pairs)),
            }


class Watched(MemoryLog):
    """Notes when a snapshot could be seen, and of what size it was."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[float, int]] = []

    def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
        """Note snapshots on their way."""
        super().commit(partition, epoch, commit)
        if commit.snapshot is not None:
            self.shown.append((time.perf_counter(), len(commit.snapshot)))


class Timed(Worker):
    """Sums up the seconds spent on commits that hold a snapshot."""

    dumping = 0.0

    def _commit(self, *args: Any, **options: Any) -> None:
        shown, begun = len(self._log.shown), time.perf_counter()  # type: ignore[attr-defined]
        super()._commit(*args, **options)
        if len(self._log.shown) > shown:  # type: ignore[attr-defined]
            self.dumping += time.perf_counter() - begun


def age(events: int) -> Iterator[dict[str, Any]]:
    """One line for a linear model, one for a large tree."""
    large = [{"use": "tree.HoeffdingTreeClassifier", "grace_period": 50, "delta": 0.1, "max_size": 1_000.0}]
    streams = {"logistic regression": (LOGISTIC, cases(events)), "5 MB tree": (large, deep_cases(events))}
    for name, (pipeline, rows) in streams.items():
        spec = model_spec("age", {"task": "binary", "pipeline": pipeline, "metrics": ["Accuracy"]})
        log, partition = Watched(), Partition("model:age", 0)
        fill(log, partition, ((x, y, None) for x, y in rows))
        worker = Timed(log, model_fold(spec), partition, "benchmark")
        with rare_collections(), Timer() as timer:
            while worker.fold is None or worker.cursor < log.tail(partition):
                worker.step()
        times = [when for when, _ in log.shown]
        ages = [later - earlier for earlier, later in pairwise(times)]
        yield {
            "case": "age",
            "model": name,
            "snapshots": len(times),
            "snapshot_mb": round(log.shown[-1][1] / 1e6, 3),
            "median_age_s": round(statistics.median(ages), 3),
            "oldest_s": round(max(ages), 3),
            "target_s": OLDEST_S if name == "logistic regression" else None,
            "dumping_share": round(worker.dumping / timer.took.wall, 4),
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
