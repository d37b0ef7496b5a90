"""The end of a log, read back: no stretch of it twice, however the entries lie in time."""

import pytest

from online.events import Decided, Rewarded, digest, encode
from online.log import Draft, Partition
from online.memory_log import MemoryLog
from service.deciding.joined import read, tail

POINT = Partition("point:price")


class Counted(MemoryLog):
    """Counts the entries that it gives out."""

    given = 0

    def read_back(self, partition, before, count):
        entries = super().read_back(partition, before, count)
        self.given += len(entries)
        return entries


def filled(times):
    """A log with a decision and its outcome at each of these seconds."""
    now = [0.0]
    log = Counted(clock=lambda: now[0])
    for number, at in enumerate(times):
        now[0] = at
        plain = {"context": {}, "index": 0, "action": 1.0, "propensity": 1.0, "policy": "p"}
        made = (Decided(id=f"d{number}", **plain), Rewarded(id=f"d{number}/1", decision=f"d{number}", value=1.0))
        log.append(POINT, [Draft(event.id, digest(event.id), encode(event)) for event in made])
    return log


@pytest.mark.parametrize(
    "times",
    [
        [1000.0 + i / 10_000 for i in range(3000)],
        [1000.0 + i for i in range(3000)],
        [1000.0] * 2999 + [90_000.0],
    ],
    ids=["a burst", "evenly", "a burst long ago"],
)
def test_each_entry_is_read_at_most_once(times):
    log = filled(times)
    rows = read(log, POINT, 2500)
    assert [row.decided.id for row in rows] == [f"d{i}" for i in range(500, 3000)]
    assert all(len(row.delays) == 1 for row in rows)
    assert log.given <= 2 * len(times)


def test_stretches_meet_without_a_gap_or_an_overlap():
    log = filled([1000.0 + i / 3 for i in range(300)])
    for wanted in (1, 5, 50, 299, 300, 1000):
        numbers = [entry.number for entry in tail(log, POINT, wanted)]
        assert numbers == list(range(numbers[0], 601))
        assert sum(number % 2 for number in numbers) >= min(wanted, 300)


def test_the_last_decisions_of_a_busy_log_cost_no_more_than_those_of_a_calm_one():
    log = filled([1000.0 + i / 10_000 for i in range(3000)])
    tail(log, POINT, 12)
    assert log.given < 100


def test_a_log_without_entries_has_no_end():
    assert tail(MemoryLog(), POINT, 10) == []
