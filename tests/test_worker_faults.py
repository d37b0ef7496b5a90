"""Faults by the thousand: simulated schedules in one thread. `test_faults.py` has real kills of real processes.

Each safeguard is also switched off, and must then be missed: a test that passes without the fence tests nothing.
"""

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from online.events import Labelled, Observed, Scored, decode_reports, digest, draft_id, encode
from online.learner import ModelLearner, model_fold
from online.log import (
    START,
    Commit,
    Draft,
    Entry,
    EntryId,
    LogUnavailable,
    Partition,
    ReportEntry,
    Restarted,
)
from online.memory_log import MemoryLog
from online.specs import ModelSpec, model_spec
from online.worker import Pace, Worker

HERE = Partition("model:m", 0)
SGD = {"use": "optim.SGD", "lr": 0.05}
TABLE = {
    "task": "binary",
    "pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}],
    "metrics": ["Accuracy"],
}


def spec() -> ModelSpec:
    return model_spec("m", TABLE)


def make_events(count: int, seed: int) -> list[Observed | Labelled]:
    """Observations, half of them without their label: it comes up to ten observations later."""
    chance = random.Random(seed)
    placed: list[tuple[float, Observed | Labelled]] = []
    for number in range(count):
        x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1)}
        y = x["a"] + x["b"] + chance.gauss(0, 1) > 0
        if chance.random() < 0.5:
            placed.append((number, Observed(id=str(number), features=x, label=y)))
        else:
            placed.append((number, Observed(id=str(number), features=x)))
            placed.append((number + chance.uniform(0.0, 10.0), Labelled(id=str(number), label=y)))
    return [event for _, event in sorted(placed, key=lambda pair: pair[0])]


def drafts(events: Sequence[Observed | Labelled]) -> list[Draft]:
    return [Draft(draft_id(event), digest(draft_id(event)), encode(event)) for event in events]


@dataclass(frozen=True)
class Safeguards:
    """What stands between a fault and a wrong result."""

    fence: bool = True
    skip: bool = True
    run: bool = True
    remember: bool = True


class Store(MemoryLog):
    """A log that can be restarted, losing its tail or not, and that can do without its safeguards."""

    def __init__(self, clock: Any, guards: Safeguards, window: int) -> None:
        super().__init__(clock=clock, window=window)
        self.guards = guards
        self.restarts = 0
        self.saved = copy.deepcopy(self._streams)

    def save(self) -> None:
        self.saved = copy.deepcopy(self._streams)

    def restart(self, *, lose: bool) -> None:
        self.restarts += 1
        if lose:
            self._streams = copy.deepcopy(self.saved)

    def append(self, partition: Partition, some: Sequence[Draft]) -> Any:
        if not self.guards.remember:
            some = [replaced._replace(id=f"{replaced.id}#{self.length(partition)}") for replaced in some]
        return super().append(partition, some)

    def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
        stream = self._stream(partition)
        if not self.guards.fence:
            epoch = stream.epoch
        kept = [] if self.guards.skip else [(entry_id, payload) for entry_id, payload in commit.reports]
        before = len(stream.reports)
        super().commit(partition, epoch, commit if self.guards.skip else replace(commit, reports=()))
        if kept:
            stream.reports[before:] = [ReportEntry(*report) for report in kept]


class View:
    """One process's connection to the store: it notices restarts, and its commits may be in doubt.

    The process may be frozen before any commit: all that happens meanwhile happens in ``freeze``.
    """

    def __init__(self, store: Store, chance: random.Random, freeze: Callable[[], None]) -> None:
        self._store, self._chance, self._freeze = store, chance, freeze
        self._run: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def acquire(self, partition: Partition, owner: str) -> int:
        self._run = self._store.restarts
        return self._store.acquire(partition, owner)

    def read(self, partition: Partition, after: EntryId, count: int, block: float = 0.0) -> list[Entry]:
        self._check()
        return self._store.read(partition, after, count, block)

    def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
        if self._chance.random() < 0.02:
            self._freeze()
        self._check()
        doubt = self._chance.random()
        if doubt < 0.03:
            raise LogUnavailable("the connection broke before the commit")
        self._store.commit(partition, epoch, commit)
        if doubt > 0.97:
            raise LogUnavailable("the connection broke before the answer")

    def _check(self) -> None:
        if self._store.guards.run and self._run is not None and self._run != self._store.restarts:
            raise Restarted("the store was restarted")


class Kept:
    """A history in memory."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def end(self, _: Partition) -> EntryId:
        return self.entries[-1].id if self.entries else START

    def keep(self, _: Partition, entries: Sequence[Entry]) -> None:
        self.entries += entries

    def read(self, _: Partition, after: EntryId, count: int) -> list[Entry]:
        return [entry for entry in self.entries if entry.id > after][:count]


class Simulation:
    """Two learners that fight for one partition, a producer that repeats itself, and a store that fails."""

    def __init__(self, seed: int, guards: Safeguards, *, lose: bool) -> None:
        self.chance = random.Random(seed)
        self.now = 1_000.0
        # What is lost must be sent again from the beginning; what is trimmed must be forgotten by then.
        self.repeats = 200 if lose else 10
        self.store = Store(self.clock, guards, window=self.repeats + 5)
        self.history = None if lose else Kept()
        self.lose = lose
        self.workers = [self.worker(which) for which in (0, 1)]
        self.events = drafts(make_events(80, seed))
        self.sent = 0
        self.faults = 0
        self.frozen = False

    def worker(self, which: int) -> Worker:
        pace = Pace(commit=0.05, calm=0.0, patience=0.5, batch=self.chance.choice([1, 3, 10, 50]), tidy=0.2)
        view: Any = View(self.store, self.chance, lambda: self.freeze(which))
        options = {"now": lambda: 0.0, "spent": self.clock, "pace": pace, "history": self.history}
        return Worker(view, model_fold(spec()), HERE, "ab"[which], self.clock, b"s", **options)

    def clock(self) -> float:
        """Time passes with every look, so that snapshots cost something and are not taken with every commit."""
        self.now += 0.001
        return self.now

    def act(self) -> None:
        self.now += self.chance.expovariate(20.0)
        action = self.chance.random()
        if action < 0.25:
            self.produce()
        elif action < 0.31:
            self.faults += 1
            which = self.chance.randrange(2)
            self.workers[which] = self.worker(which)
        elif action < 0.34:
            self.faults += 1
            self.now += self.chance.uniform(0.0, 1.5)
        elif action < 0.36:
            self.faults += 1
            self.store.restart(lose=self.lose)
            self.store.append(HERE, self.events[max(0, self.sent - self.repeats) : self.sent])
        elif action < 0.40:
            self.store.save()
        else:
            # One of the two is often frozen for a while: the other goes on alone.
            favourite = int(self.now * 2) % 2
            self.workers[favourite if self.chance.random() < 0.8 else 1 - favourite].step()

    def produce(self) -> None:
        begin = self.chance.randint(max(0, self.sent - self.repeats), self.sent)
        self.sent = min(len(self.events), self.sent + self.chance.randint(1, 6))
        self.store.append(HERE, self.events[begin : self.sent])

    def freeze(self, which: int) -> None:
        """One of the two is frozen in the middle of a step, and its rival takes over and goes on."""
        if self.frozen:
            return
        self.frozen = True
        self.faults += 1
        for _ in range(self.chance.randint(1, 30)):
            self.now += 0.1
            if self.chance.random() < 0.3:
                self.produce()
            self.workers[1 - which].step()
        self.frozen = False

    def finish(self) -> None:
        self.frozen = True
        for begin in range(max(0, self.sent - self.repeats), len(self.events), 5):
            self.store.append(HERE, self.events[begin : begin + 5])
        for _ in range(3_000):
            self.now += 0.01
            for worker in self.workers:
                worker.step()
            if self.store.head(HERE).cursor == self.store.tail(HERE):
                return

    def reports(self) -> list[Scored]:
        found = [decode_reports(entry.payload) for entry in self.store.reports(HERE, START, 100_000)]
        return [report for reports in found for report in reports if isinstance(report, Scored)]

    def violations(self) -> list[str]:
        expected = expected_reports(self.events)
        found = self.reports()
        wrong = [] if found == expected else [f"{len(found)} reports, {len(expected)} expected, or wrong ones"]
        learned = self.store.head(HERE).learned
        return wrong + ([] if learned == len(expected) else [f"learned {learned} of {len(expected)}"])


def expected_reports(some: Sequence[Draft]) -> list[Scored]:
    log = MemoryLog()
    log.append(HERE, some)
    learner = ModelLearner(spec())
    reports = [report for entry in log.read(HERE, START, 10**6) for report in learner.apply(entry)]
    return [report for report in reports if isinstance(report, Scored)]


def run(seed: int, guards: Safeguards, *, lose: bool) -> tuple[list[str], int]:
    simulation = Simulation(seed, guards, lose=lose)
    for _ in range(400):
        simulation.act()
    simulation.finish()
    return simulation.violations(), simulation.faults


@pytest.mark.parametrize("lose", [False, True], ids=["trimmed", "tail-lost"])
def test_no_schedule_of_faults_loses_or_doubles_anything(lose: bool) -> None:
    faults = 0
    for seed in range(60):
        violations, count = run(seed, Safeguards(), lose=lose)
        assert violations == [], f"seed {seed}"
        faults += count
    assert faults > 500


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("lose", [False, True], ids=["trimmed", "tail-lost"])
def test_thousands_of_schedules_lose_and_double_nothing(lose: bool) -> None:
    for seed in range(60, 1_060):
        assert run(seed, Safeguards(), lose=lose)[0] == [], f"seed {seed}"


@pytest.mark.parametrize(
    ("guards", "lose"),
    [
        (Safeguards(fence=False), False),
        (Safeguards(skip=False), False),
        (Safeguards(run=False), True),
        (Safeguards(remember=False), False),
    ],
    ids=["without-fence", "without-skipping-reports", "without-run-check", "without-remembered-ids"],
)
def test_each_safeguard_is_missed_where_it_is_switched_off(guards: Safeguards, lose: bool) -> None:
    assert any(run(seed, guards, lose=lose)[0] for seed in range(100))


class Slow(View):
    """A connection over which every part takes a tenth of a second, while a rival looks on."""

    rival: Worker

    def parts(self, partition: Partition, prefix: str) -> Iterator[tuple[str, bytes]]:
        for part in self._store.parts(partition, prefix):
            self._freeze()
            self.rival.step()
            yield part


def test_an_owner_that_loads_for_longer_than_its_rivals_patience_keeps_its_partition() -> None:
    simulation = Simulation(0, Safeguards(), lose=False)
    simulation.frozen = True
    simulation.store.append(HERE, drafts([Observed(id=str(n), features={"a": 1.0, "b": 0.0}) for n in range(100)]))
    first, rival = simulation.workers
    while simulation.store.head(HERE).cursor < simulation.store.tail(HERE):
        first.step()
    first.close()

    def pass_time() -> None:
        simulation.now += 0.1

    slow: Any = Slow(simulation.store, random.Random(0), pass_time)
    slow.rival = rival
    rival.step()
    again = Worker(slow, model_fold(spec()), HERE, "a", simulation.clock, b"s", pace=Pace(patience=0.5, beat=0.2))
    again.step()
    assert isinstance(again.fold, ModelLearner), again.trouble
    assert again.fold.pending == 100
    assert rival.fold is None


def test_learning_goes_on_while_copying_into_the_history_takes_longer_than_the_time_between_copies() -> None:
    simulation = Simulation(0, Safeguards(), lose=False)

    class Slow(Kept):
        def keep(self, partition: Partition, entries: Sequence[Entry]) -> None:
            super().keep(partition, entries)
            simulation.now += 5.0

    simulation.store.append(HERE, drafts([Observed(id=str(n), features={"a": 1.0, "b": 0.0}) for n in range(1_000)]))
    pace = Pace(commit=0.05, tidy=0.2, batch=100)
    worker = Worker(simulation.store, model_fold(spec()), HERE, "a", simulation.clock, b"s", pace=pace, history=Slow())
    while simulation.store.head(HERE).cursor < simulation.store.tail(HERE):
        worker.step()
    assert simulation.store.head(HERE).version < 50
