"""A stranger's stream, named in the manifest, followed by a service whose processes are killed."""

import multiprocessing
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from online.backtest import Row, backtest
from online.events import Scored, decode_reports
from online.learner import ModelLearner, model_fold
from online.log import START, Log, Partition
from online.memory_log import MemoryLog
from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog
from online.sources import Source, SourceSpec
from online.specs import model_spec
from online.worker import Pace, Worker
from service.deciding.source_states import state_of
from service.manifest import ManifestError, parse
from service.processes import followers, learners
from service.settings import Settings

HERE = Partition("model:fraud")
MODEL = {
    "task": "binary",
    "pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression"}],
    "metrics": ["Accuracy", "LogLoss"],
}
TABLE = """
[models.fraud]
task = "binary"
pipeline = [{use = "preprocessing.StandardScaler"}, {use = "linear_model.LogisticRegression"}]
metrics = ["Accuracy", "LogLoss"]

[sources.orders]
redis = "$ORDERS"
stream = "orders"
model = "fraud"
label = "fraud"
map = {amount = "total"}
"""


def rows(count: int) -> list[Row]:
    chance = random.Random(5)
    found = []
    for _ in range(count):
        total, items = round(chance.gauss(50, 20), 2), chance.randrange(1, 9)
        found.append(Row({"total": total, "items": items}, total + 5 * items + chance.gauss(0, 10) > 75))
    return found


def produce(client: redis.Redis, some: list[Row]) -> None:
    """An outside producer: plain redis-py, its own stream, its own names."""
    with client.pipeline(transaction=False) as pipeline:
        for row in some:
            fields = {"amount": row.features["total"], "items": row.features["items"], "fraud": str(row.label)}
            pipeline.xadd("orders", fields)
        pipeline.execute()


def learn(ours: str, folder: str) -> None:
    """A learner process, as `trimtab learner` runs it, with less patience."""
    learners.PACE = Pace(patience=0.5, beat=0.1)
    manifest = Path(folder) / "trimtab.toml"
    learners.run(Settings(redis=ours, data=Path(folder) / "data", manifest=manifest, secret="s" * 32))


def scored(log: Log) -> list[str]:
    found, after = [], START
    while entries := log.reports(HERE, after, 10_000):
        after = entries[-1].id
        found += [r.id for entry in entries for r in decode_reports(entry.payload) if isinstance(r, Scored)]
    return found


@pytest.mark.parametrize(
    ("count", "kills"), [(4_000, 3), pytest.param(100_000, 20, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_every_entry_of_a_stranger_is_learned_once_though_our_reader_is_killed(
    count: int, kills: int, start_redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    ours, theirs = start_redis(), start_redis()
    monkeypatch.setenv("ORDERS", f"unix://{theirs.socket}")
    (tmp_path / "trimtab.toml").write_text(TABLE)
    outside = redis.Redis(unix_socket_path=theirs.socket)
    log, blob = RedisLog(connect(ours.socket)), RedisBlob(connect(ours.socket))
    fork = multiprocessing.get_context("fork")
    given = rows(count)
    begun = time.monotonic()

    def start() -> Any:
        process = fork.Process(target=learn, args=(ours.socket, str(tmp_path)), daemon=True)
        process.start()
        return process

    process = start()
    done = 0
    unfinished = 0
    try:
        for begin in range(0, count, 1_000):
            produce(outside, given[begin : begin + 1_000])
            if begin * kills // count >= done and done < kills:
                at = log.tail(HERE)
                wait(lambda at=at: log.tail(HERE) > at)  # type: ignore[misc]
                process.kill()
                process.join()
                unfinished += outside.xpending("orders", "trimtab")["pending"]
                done += 1
                process = start()
        wait(lambda: log.head(HERE).learned >= count, 300)
        time.sleep(followers._MEASURE_S + 0.5)
        state = state_of(blob, "orders")
    finally:
        process.kill()
        process.join()
    names = scored(log)
    expected = backtest(model_spec("fraud", MODEL), given, MemoryLog()).metrics
    counts = {"events": count, "kills": done, "left unfinished by kills": unfinished, "reports": len(names)}
    counts |= {"lost": count - len(set(names)), "doubled": len(names) - len(set(names))}
    with capsys.disabled():
        print(f"\n{counts | {'seconds': round(time.monotonic() - begun, 1)} | expected}")  # noqa: T201
    assert done == kills
    assert (log.length(HERE), len(names), len(set(names))) == (count, count, count)
    assert names == [f"orders/{entry_id.decode()}" for entry_id, _ in outside.xrange("orders")]
    assert metrics(log) == expected
    assert state is not None
    assert (state.unread, state.unfinished, state.lost, state.trouble) == (0, 0, 0, "")


def metrics(log: Log) -> Mapping[str, float]:
    worker = Worker(log, model_fold(model_spec("fraud", MODEL)), HERE, "after", secret=b"s" * 32, pace=Pace(patience=0))
    while not isinstance(worker.fold, ModelLearner) or worker.cursor < log.tail(HERE):
        worker.step()
    return worker.fold.metrics()


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


@pytest.fixture
def counting_redis() -> Iterator[redis.Redis]:
    """A Redis that counts what was ever added to a stream: version 7 or later."""
    found = [path for name in ("redis-server", "valkey-server") if (path := shutil.which(name)) is not None]
    versions = {path: subprocess.run([path, "--version"], capture_output=True, text=True).stdout for path in found}
    modern = [path for path, said in versions.items() if int((re.search(r"v=(\d+)", said) or ["", "0"])[1]) >= 7]
    if not modern:
        pytest.skip("no redis-server of version 7 or later on the path")
    folder = tempfile.mkdtemp(prefix="tt-")
    options = ["--port", "0", "--unixsocket", f"{folder}/r.sock", "--dir", folder, "--save", ""]
    server = subprocess.Popen([modern[0], *options], stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=f"{folder}/r.sock")
    try:
        wait(lambda: Path(f"{folder}/r.sock").exists())
        yield client
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_what_was_trimmed_unread_is_counted_exactly_where_redis_counts(counting_redis: redis.Redis) -> None:
    spec = SourceSpec(name="orders", stream="orders", model="fraud", label="fraud")
    produce(counting_redis, rows(30))
    counting_redis.xtrim("orders", maxlen=20, approximate=False)
    source = Source(spec, counting_redis, MemoryLog(), "reader")
    assert (source.lag().unread, source.lag().lost) == (20, 0)
    source.step(12)
    produce(counting_redis, rows(50))
    assert (source.lag().unread, source.lag().lost) == (58, 0)
    counting_redis.xtrim("orders", maxlen=11, approximate=False)
    assert (source.lag().unread, source.lag().lost) == (11, 47)
    source.step(5)
    assert (source.lag().unread, source.lag().lost) == (6, 47)
    produce(counting_redis, rows(9))
    counting_redis.xtrim("orders", maxlen=3, approximate=False)
    while source.step():
        pass
    assert (source.lag().unread, source.lag().lost) == (0, 59)
    again = Source(spec, counting_redis, MemoryLog(), "reader", skipped=source.skipped)
    assert again.lag().lost == 59


@pytest.mark.parametrize(
    ("change", "field", "allowed"),
    [
        ({"model": "frod"}, "sources.orders.model", "one of: fraud"),
        ({"redis": "localhost:6379"}, "sources.orders.redis", "redis://"),
        ({"key": "customer"}, "sources.orders.key", "left out"),
        ({"streem": "x"}, "sources.orders", "stream"),
        ({"map": {"a": 3}}, "sources.orders.map.a", "a string"),
    ],
)
def test_a_source_that_cannot_be_followed_is_named_by_its_place(change: Any, field: str, allowed: str) -> None:
    good = {"redis": "redis://shop", "stream": "orders", "model": "fraud"}
    assert parse({"models": {"fraud": MODEL}, "sources": {"orders": good}}).sources["orders"].stream == "orders"
    with pytest.raises(ManifestError) as caught:
        parse({"models": {"fraud": MODEL}, "sources": {"orders": good | change}})
    assert caught.value.fault.field.startswith(field)
    assert allowed in str(caught.value)


def test_a_model_with_a_key_needs_the_field_that_holds_it() -> None:
    keyed = {"models": {"fraud": MODEL | {"key": "customer"}}}
    source = {"redis": "$SHOP", "stream": "orders", "model": "fraud"}
    with pytest.raises(ManifestError, match="the field that holds the customer"):
        parse(keyed | {"sources": {"orders": source}})
    assert parse(keyed | {"sources": {"orders": source | {"key": "who"}}}).sources["orders"].key == "who"
