"""The archive: every entry, its bytes, and a log that may be trimmed behind it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from river import datasets

from online.archive import Archive
from online.events import Labelled, Observed, decode, digest, draft_id, encode
from online.learner import ModelLearner, model_fold
from online.log import START, Draft, Entry, EntryId, Log, Partition
from online.specs import ModelSpec, model_spec
from online.worker import Pace, Worker

HERE = Partition("model:a b/c", 2)
SGD = {"use": "optim.SGD", "lr": 0.005}
LOGISTIC = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}]


def entries(first: int, last: int) -> list[Entry]:
    return [
        Entry(EntryId(10**12 + n // 3, n), n, 1.5 * n, f"é{n}", bytes([n % 256, 0, 255]), n % 5 != 0)
        for n in range(first, last + 1)
    ]


def test_entries_come_back_with_every_byte(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    assert archive.end(HERE) == START
    assert archive.read(HERE, START, 10) == []
    archive.keep(HERE, entries(1, 100))
    archive.keep(HERE, entries(101, 150))
    archive.keep(HERE, [])
    assert archive.end(HERE) == entries(150, 150)[0].id
    found, after = [], START
    while batch := archive.read(HERE, after, 40):
        found += batch
        after = batch[-1].id
    assert found == entries(1, 150)
    assert archive.read(Partition("model:other", 0), START, 10) == []
    again = Archive(tmp_path)
    assert again.end(HERE) == archive.end(HERE)


def test_entries_must_follow_one_another(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.keep(HERE, entries(1, 10))
    with pytest.raises(ValueError, match="does not follow"):
        archive.keep(HERE, entries(12, 20))
    archive.keep(HERE, entries(5, 15))
    assert archive.read(HERE, START, 100) == entries(1, 10)
    assert archive.end(HERE) == entries(15, 15)[0].id


def test_two_writers_that_overlap_do_no_harm(tmp_path: Path) -> None:
    frozen, owner = Archive(tmp_path / "a"), Archive(tmp_path / "b")
    frozen.keep(HERE, entries(1, 100))
    for archive, first in ((owner, 1), (owner, 51), (owner, 121)):
        archive.keep(HERE, entries(first, first + 69))
    for file in (tmp_path / "a").rglob("*.parquet"):
        file.rename(tmp_path / "b" / file.relative_to(tmp_path / "a"))
    found, after = [], START
    while batch := owner.read(HERE, after, 1_000):
        found += batch
        after = batch[-1].id
    assert found == entries(1, 190)
    assert owner.end(HERE) == entries(190, 190)[0].id


def test_a_file_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.keep(HERE, entries(1, 10))
    (file,) = tmp_path.rglob("*.parquet")
    file.with_name("00000000000000000011-00000000000000000020.partial").write_bytes(b"PAR1 half")
    assert archive.end(HERE) == entries(10, 10)[0].id


def test_pandas_reads_the_files_and_the_events_in_them(tmp_path: Path) -> None:
    event = Observed(id="1", features={"x": 1.5}, label=True)
    Archive(tmp_path).keep(HERE, [Entry(EntryId(5, 0), 1, 0.5, "1", encode(event))])
    (file,) = tmp_path.rglob("*.parquet")
    frame = pd.read_parquet(file)
    assert list(frame.columns) == ["ms", "seq", "number", "at", "event_id", "payload", "intact"]
    assert decode(frame["payload"][0]) == event


def spec(**changes: Any) -> ModelSpec:
    return model_spec("phishing", {"task": "binary", "pipeline": LOGISTIC, "metrics": ["Accuracy"]} | changes)


class Ticking:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def worker(log: Log, archive: Archive, **changes: Any) -> Worker:
    pace = Pace(tidy=0.5, batch=50)
    return Worker(log, model_fold(spec(**changes)), HERE, "a", Ticking(), b"secret", pace=pace, history=archive)


def feed(log: Log, events: list[Any]) -> None:
    log.append(HERE, [Draft(draft_id(event), digest(draft_id(event)), encode(event)) for event in events])


def settle(one: Worker) -> ModelLearner:
    quiet = 0
    while quiet < 300:
        quiet = 0 if one.step() else quiet + 1
    assert isinstance(one.fold, ModelLearner), one.trouble
    return one.fold


def test_the_log_is_trimmed_behind_the_archive_and_both_snapshots(make_log: Callable[..., Log], tmp_path: Path) -> None:
    log, archive = make_log(window=100), Archive(tmp_path)
    events = [Observed(id=str(n), features=x, label=y) for n, (x, y) in enumerate(datasets.Phishing())]
    one = worker(log, archive)
    for begin in range(0, 1250, 125):
        feed(log, events[begin : begin + 125])
        assert settle(one).learned == begin + 125
    assert log.length(HERE) < 600
    assert log.first(HERE) <= log.previous(HERE)
    assert archive.end(HERE) >= log.first(HERE)
    numbers = [entry.number for entry in archive.read(HERE, START, 10_000)]
    assert numbers == list(range(1, len(numbers) + 1))
    again = worker(log, archive)
    assert settle(again).metrics() == {"Accuracy": 0.8872}


def test_a_changed_spec_is_learned_from_archive_and_log(make_log: Callable[..., Log], tmp_path: Path) -> None:
    log, archive = make_log(window=100), Archive(tmp_path)
    events = [Observed(id=str(n), features=x, label=y) for n, (x, y) in enumerate(datasets.Phishing())]
    one = worker(log, archive)
    for begin in range(0, 1250, 125):
        feed(log, events[begin : begin + 125])
        settle(one)
    assert log.read(HERE, START, 1)[0].number > 1
    changed = settle(worker(log, archive, pipeline=[{"use": "tree.HoeffdingTreeClassifier"}]))
    assert changed.learned == 1250
    assert round(changed.metrics()["Accuracy"], 6) == 0.879904


def test_an_entry_that_something_waits_for_is_not_trimmed(make_log: Callable[..., Log], tmp_path: Path) -> None:
    log, archive = make_log(window=20), Archive(tmp_path)
    rows = [(x, y) for x, y in datasets.Phishing().take(400)]
    one = worker(log, archive)
    feed(log, [Observed(id="waits", features=rows[0][0])])
    for begin in range(0, 400, 50):
        feed(
            log, [Observed(id=str(begin + n), features=x, label=y) for n, (x, y) in enumerate(rows[begin : begin + 50])]
        )
        settle(one)
    assert log.read(HERE, START, 1)[0].event_id == "waits"
    again = worker(log, archive)
    settle(again)
    feed(log, [Labelled(id="waits", label=True)])
    assert settle(again).counts["labelled"] == 401


def test_small_files_become_part_of_larger_ones_and_nothing_is_lost(tmp_path: Path) -> None:
    archive, reader = Archive(tmp_path), Archive(tmp_path)
    for first in range(1, 1001):
        archive.keep(HERE, entries(first, first))
        if first % 97 == 0:
            assert reader.end(HERE) == entries(first, first)[0].id
            assert reader.read(HERE, START, 2_000)[0] == entries(1, 1)[0]
    found, after = [], START
    while batch := reader.read(HERE, after, 300):
        found += batch
        after = batch[-1].id
    assert found == entries(1, 1000)
    files = list(tmp_path.rglob("*.parquet"))
    assert len(files) <= 10
    (kept,) = (archive.kept(partition) for partition in archive.partitions())
    assert (kept.partition, kept.first, kept.last, kept.files) == (HERE, 1, 1000, len(files))
    assert (kept.since, kept.until) == (1.5, 1500.0)


def test_what_the_log_has_lost_is_lost_here_too_and_what_came_instead_takes_its_place(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.keep(HERE, entries(1, 100))
    archive.keep(HERE, entries(101, 130))
    archive.keep(HERE, entries(131, 140))
    again = [entry._replace(id=EntryId(entry.id.ms + 10**6, 0)) for entry in entries(61, 90)]
    archive.keep(HERE, again)
    found = [*archive.read(HERE, START, 60), *archive.read(HERE, entries(60, 60)[0].id, 1_000)]
    assert found == [*entries(1, 60), *again]
    assert archive.end(HERE) == again[-1].id
    archive.keep(HERE, [again[-1]._replace(id=EntryId(10**13, 0), number=91)])
    assert archive.end(HERE) == EntryId(10**13, 0)
