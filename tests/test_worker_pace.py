"""How a worker spreads its work: commits, snapshots, strides."""

from itertools import pairwise
from typing import Any

import pytest
from test_worker import HERE, SECRET, Ticking, events, feed, fold_of, spec

from online.events import Observed
from online.learner import ModelLearner, model_fold
from online.log import START, Commit, Fenced, Partition
from online.memory_log import MemoryLog
from online.worker import Pace, Worker


def test_large_snapshots_take_a_small_share_of_the_time() -> None:
    class Slow(ModelLearner):
        def dump(self) -> bytes:
            clock.now += 0.5
            return super().dump()

    clock = Ticking(0.001)
    log = MemoryLog()
    dumps = 0
    one = Worker(
        log,
        lambda data, parts: Slow.load(spec(), data, parts) if data else Slow(spec(), parts),
        HERE,
        "a",
        clock,
        spent=clock,
    )
    begun = clock.now
    for number, event in enumerate(events() * 8):
        feed(log, [Observed(id=f"x{number}", features=event.features, label=event.label)])
        one.step()
    dumps = log.head(HERE).version
    assert dumps * 0.5 <= 0.05 * (clock.now - begun) + 0.5 * 2
    assert log.head(HERE).cursor > START


def test_what_a_snapshot_costs_is_its_processor_time_for_the_size_it_has_now() -> None:
    class Growing(ModelLearner):
        def dump(self) -> bytes:
            size = sizes.pop(0) if sizes else 100_000
            # The clock on the wall goes on for ever: others have the processor.
            clock.now += 10.0
            spent.now += 1e-6 * size
            return bytes(size)

    class Noting(MemoryLog):
        def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
            super().commit(partition, epoch, commit)
            if commit.snapshot is not None:
                times.append(clock.now)

    sizes, times = [1_000] * 4 + [100_000] * 4, list[float]()
    clock, spent = Ticking(0.001), Ticking(0.0)
    log, pace = Noting(), Pace(dumping=0.1)
    one = Worker(log, fold_of(Growing), HERE, "a", clock, SECRET, spent=spent, pace=pace)
    for number in range(10_000):
        feed(log, [Observed(id=f"x{number}", features={"a": 1.0}, label=True)])
        one.step()
    # Ten times what it costs lies between one snapshot and the next, and the time between two commits.
    waits = [later - earlier - 10.0 for earlier, later in pairwise(times)]
    small, large = waits[:4], waits[4:]
    assert max(small) < 0.2
    assert len(large) > 5
    assert all(0.9 < wait < 1.2 for wait in large)


def test_a_stride_of_entries_comes_between_two_commits_where_each_takes_longer_than_the_time_between_them() -> None:
    class Slow(MemoryLog):
        def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
            super().commit(partition, epoch, commit)
            cursors.append(commit.cursor)
            # The machine is busy: nothing is done for longer than lies between two commits.
            clock.now += 1.0

    cursors: list[Any] = []
    clock, log = Ticking(0.01), Slow()
    feed(log, events())
    places = [entry.id for entry in log.read(HERE, START, 2_000)]
    one = Worker(log, model_fold(spec()), HERE, "a", clock, SECRET, pace=Pace(commit=0.005))
    while one.cursor < places[-1]:
        one.step()
    assert [places.index(cursor) + 1 for cursor in cursors[:4]] == [32, 64, 96, 128]
    assert len(cursors) == -(-len(places) // 32)


def test_the_pace_is_checked_where_it_matters() -> None:
    assert Pace() == Pace(commit=0.1, calm=0.02, dumping=0.03, beat=1.0, patience=5.0, batch=2_000)
    with pytest.raises(Fenced):
        MemoryLog().commit(HERE, 1, Commit(START))
