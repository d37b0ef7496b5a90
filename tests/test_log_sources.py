"""A stranger's stream, followed by a reader that dies again and again."""

import random
from typing import Any

import pytest
import redis
from river import datasets

from online.backtest import Row, backtest
from online.events import Observed, decode
from online.learner import ModelLearner, model_fold
from online.log import START, Log, LogUnavailable, Partition
from online.memory_log import MemoryLog
from online.redis_client import connect
from online.sources import Source, SourceSpec
from online.specs import model_spec
from online.worker import Worker

HERE = Partition("model:m", 0)
SGD = {"use": "optim.SGD", "lr": 0.005}
TABLE = {
    "task": "binary",
    "pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}],
    "metrics": ["Accuracy"],
}
SPEC = SourceSpec(name="orders", stream="orders", model="m", label="is_phishing", map={"ip_in_url": "ip"})


class Dying:
    """A log that takes what is appended, and then sometimes the reader dies before it can acknowledge."""

    def __init__(self, log: Log, chance: random.Random) -> None:
        self._log, self._chance = log, chance
        self.deaths = 0

    def append(self, partition: Partition, drafts: Any) -> Any:
        answers = self._log.append(partition, drafts)
        if self._chance.random() < 0.3:
            self.deaths += 1
            raise LogUnavailable("the reader died")
        return answers


def fill(client: redis.Redis, count: int) -> list[Row]:
    rows = []
    for x, y in datasets.Phishing().take(count):
        client.xadd("orders", {**{name: repr(value) for name, value in x.items()}, "is_phishing": str(y)})
        rows.append(Row({"ip" if name == "ip_in_url" else name: value for name, value in x.items()}, y))
    return rows


def test_every_entry_is_learned_once_though_the_reader_dies(redis_client: redis.Redis, log: Log) -> None:
    rows = fill(redis_client, 1_250)
    dying: Any = Dying(log, random.Random(2))
    quiet = 0
    while quiet < 3:
        # A reader that died comes back under its name and finds what it had begun.
        source = Source(SPEC, redis_client, dying, "reader")
        try:
            while source.step(40):
                quiet = 0
            quiet += 1
        except LogUnavailable:
            pass
    assert dying.deaths >= 10
    worker = Worker(log, model_fold(model_spec("m", TABLE)), HERE, "a")
    while not isinstance(worker.fold, ModelLearner) or worker.fold.place.cursor < log.tail(HERE):
        worker.step()
    assert worker.fold.learned == 1_250
    assert worker.fold.metrics() == backtest(model_spec("m", TABLE), rows, MemoryLog()).metrics
    lag = source.lag()
    assert (lag.unread, lag.unfinished, lag.lost) == (0, 0, 0)


def test_what_a_dead_reader_left_is_taken_over(redis_client: redis.Redis, log: Log) -> None:
    fill(redis_client, 100)
    redis_client.xgroup_create("orders", "trimtab", id="0")
    redis_client.xreadgroup("trimtab", "dead", {"orders": ">"}, count=60)
    alive = Source(SPEC, redis_client, log, "alive", abandoned=0.0)
    assert alive.lag().unfinished == 60
    while alive.step(25):
        pass
    assert log.length(HERE) == 100
    assert alive.lag().unfinished == 0


def test_entries_trimmed_before_they_were_read_are_reported(redis_client: redis.Redis, log: Log) -> None:
    fill(redis_client, 50)
    source = Source(SPEC, redis_client, log, "reader")
    source.step(10)
    redis_client.xtrim("orders", maxlen=5, approximate=False)
    # Before version 7, Redis does not count: "possibly" is all there is to say.
    assert source.lag().lost in (None, 35)
    while source.step():
        pass
    assert log.length(HERE) == 15


def test_fields_become_features_as_the_map_says(redis_client: redis.Redis, log: Log) -> None:
    redis_client.xadd(
        "orders", {"amount": "12", "who": "7", "when": "1700000000.5", "fraud": "true", "rest": "", "é": "x"}
    )
    named = {"label": "fraud", "key": "who", "at": "when", "texts": frozenset("é")}
    spec = SourceSpec(name="o", stream="orders", model="m", map={"amount": "total"}, **named)
    Source(spec, redis_client, log, "reader").step()
    (entry,) = log.read(HERE, START, 10)
    event = decode(entry.payload)
    assert isinstance(event, Observed)
    assert (event.features, event.label, event.key) == ({"total": 12, "rest": None, "é": "x"}, True, "7")
    assert event.at == 1_700_000_000.5
    assert event.id.startswith("o/")


def test_a_redis_that_is_away_is_trouble(tmp_path: Any) -> None:
    source = Source(SPEC, connect(str(tmp_path / "none.sock")), MemoryLog(), "reader")
    with pytest.raises(LogUnavailable, match="follow 'orders'"):
        source.step()
