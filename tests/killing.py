"""Learner processes that are killed and frozen, over a Redis that dies, hangs and goes back, while events come in.

Every report is compared with that of a bare fold over the same events. One safeguard may be switched off.
"""

import gc
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace as replaced

from online.archive import Archive
from online.events import Labelled, Observed, Report, Scored, decode_reports, digest, draft_id, encode
from online.learner import ModelLearner, model_fold
from online.log import START, Appended, Commit, Conflict, Draft, Entry, EntryId, Log, LogUnavailable, Partition
from online.memory_log import MemoryLog
from online.redis_client import connect
from online.redis_log import RedisLog
from online.specs import ModelSpec, model_spec
from online.worker import Pace, Worker, work

PARTITIONS = [Partition("model:m", index) for index in range(4)]
PACE = Pace(patience=0.5, beat=0.1, tidy=0.5, batch=200)
PATIENT_S = 60.0
BATCH = 100
LEAD = 10
"""Batches of a partition that the producer may be ahead of the learner: each fault shall meet one that is at work."""

SGD = {"use": "optim.SGD", "lr": 0.05}
TABLE = {
    "task": "binary",
    "pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}],
    "metrics": ["Accuracy"],
}

Event = Observed | Labelled


def spec() -> ModelSpec:
    return model_spec("m", TABLE)


def observations(seed: int) -> Iterator[Observed]:
    """Labelled observations without end."""
    chance = random.Random(seed)
    for number in count():
        x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1)}
        yield Observed(id=f"p{seed}-{number}", features=x, label=x["a"] + x["b"] + chance.gauss(0, 1) > 0)


def make_events(size: int, seed: int) -> list[Event]:
    """Observations with their labels; for one in four the label comes up to a hundred observations later."""
    chance = random.Random(seed)
    placed: list[tuple[float, Event]] = []
    for number, observed in enumerate(observations(seed)):
        if len(placed) == size:
            break
        if chance.random() < 0.75 or len(placed) == size - 1:
            placed.append((number, observed))
        else:
            placed.append((number, replaced(observed, label=UNSET)))
            placed.append((number + chance.uniform(0.0, 100.0), Labelled(id=observed.id, label=observed.label)))
    return [event for _, event in sorted(placed, key=lambda pair: pair[0])]


def drafts(events: Iterable[Event]) -> list[Draft]:
    return [Draft(draft_id(event), digest(draft_id(event)), encode(event)) for event in events]


@dataclass(frozen=True)
class Plan:
    """What happens in a run, and which safeguard is missing: `fence`, `duplicates`, `run` or none.

    ``faults`` are kills and freezes of learners. With a lost tail, Redis comes back as it was a little earlier; with a
    return, so it does while both learners are frozen and notice nothing.
    """

    events: int
    faults: int
    window: int = 5_000
    freezes: tuple[float, ...] = (0.02, 0.1, 0.6)
    redis_kills: int = 0
    redis_freezes: int = 0
    lost_tails: int = 0
    returns: int = 0
    patience: float = 0.5
    trims: bool = True
    without: str = ""
    seed: int = 11


class Unguarded(RedisLog):
    """The log in Redis without one of its safeguards."""

    def __init__(self, client: Any, window: int, without: str) -> None:
        super().__init__(client, window=window)
        self._without = without

    def append(self, partition: Partition, some: Sequence[Draft]) -> list[Appended | Conflict]:
        if self._without == "duplicates":
            some = [draft._replace(id=f"{draft.id}#{random.random()}") for draft in some]
        return super().append(partition, some)

    def read(self, partition: Partition, after: EntryId, count: int, block: float = 0.0) -> list[Entry]:
        known = self._runs.pop(partition, None) if self._without == "run" else None
        entries = super().read(partition, after, count, block)
        if known is not None:
            self._runs[partition] = known
        return entries

    def beat(self, partition: Partition, epoch: int) -> None:
        super().beat(partition, self._newest(partition, epoch))

    def trim(self, partition: Partition, epoch: int, before: EntryId) -> int:
        return super().trim(partition, self._newest(partition, epoch), before)

    def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
        if self._without == "run":
            info: Any = self._client.info("server")
            self._runs[partition] = info["run_id"].encode()
        super().commit(partition, self._newest(partition, epoch), commit)

    def _newest(self, partition: Partition, epoch: int) -> int:
        return self.head(partition).epoch if self._without == "fence" else epoch


def learn_for_ever(socket: str, owner: str, archive: str, plan: Plan) -> None:
    """A learner process: a worker for every partition, as the service runs them."""
    # What came with the fork is none of its business: looking through it would copy it all.
    gc.freeze()
    log = Unguarded(connect(socket, timeout=2.0), plan.window, plan.without)
    history = Archive(Path(archive)) if plan.trims else None
    make, pace = model_fold(spec()), replace(PACE, patience=plan.patience)
    workers = [Worker(log, make, place, owner, secret=b"s", pace=pace, history=history) for place in PARTITIONS]
    work(workers, log, lambda: False)


@dataclass
class Learners:
    """Two learner processes, forked from this one so that a new one is there at once; killed, frozen, replaced."""

    socket: str
    archive: str
    plan: Plan
    kills: int = 0
    freezes: int = 0
    processes: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processes = [self._start(owner) for owner in "ab"]

    def _start(self, owner: str) -> Any:
        arguments = (self.socket, owner, self.archive, self.plan)
        process = multiprocessing.get_context("fork").Process(target=learn_for_ever, args=arguments, daemon=True)
        process.start()
        return process

    def kill(self, which: int) -> None:
        self.kills += 1
        self._end(self.processes[which])
        self.processes[which] = self._start("ab"[which])

    def freeze(self, which: int, seconds: float) -> None:
        self.freezes += 1
        self.signal(which, signal.SIGSTOP)
        time.sleep(seconds)
        self.signal(which, signal.SIGCONT)

    def signal(self, which: int, number: signal.Signals) -> None:
        os.kill(self.processes[which].pid, number)

    def end(self) -> None:
        for process in self.processes:
            self._end(process)

    @staticmethod
    def _end(process: Any) -> None:
        process.kill()
        process.join()


@dataclass(frozen=True)
class Counts:
    """What was found: entries that are gone, learned twice; reports missing, doubled, wrong; and how much was done."""

    events: int
    kills: int
    freezes: int
    redis_kills: int
    redis_freezes: int
    lost_tails: int
    returns: int
    trimmed: int
    seconds: float
    lost: int
    twice: int
    missing: int
    doubled: int
    wrong: int

    @property
    def violations(self) -> tuple[int, ...]:
        return self.lost, self.twice, self.missing, self.doubled, self.wrong


class Run:
    """One run of a plan: a producer that repeats with the same ids until it is answered, and everything that fails."""

    def __init__(self, plan: Plan, server: Any, folder: Path) -> None:
        self.plan, self.server = plan, server
        self.chance = random.Random(plan.seed)
        self.plain = {place: make_events(plan.events // 4, place.index) for place in PARTITIONS}
        events = {place: drafts(some) for place, some in self.plain.items()}
        self.batches = [
            (place, some[begin : begin + BATCH])
            for begin in range(0, plan.events // 4, BATCH)
            for place, some in events.items()
        ]
        self.ends: list[EntryId] = []
        self._keep_file()
        # Impatient: what Redis does after the producer gave up is in doubt, and repeated.
        self.producer = Unguarded(connect(server.socket, timeout=0.3), plan.window, plan.without)
        self.log = RedisLog(connect(server.socket, timeout=PATIENT_S))
        self.archive = Archive(folder)
        self.learners = Learners(server.socket, str(folder), plan)
        self.redis_freezes = self.redis_kills = self.lost_tails = self.returns = 0
        self.sizes: dict[int, int] = {}

    def send(self, number: int) -> EntryId:
        """Send a batch until it is there; its last entry."""
        place, some = self.batches[number]
        while True:
            try:
                return self.producer.append(place, some)[-1].entry.id
            except LogUnavailable:
                time.sleep(0.05)

    def go(self) -> None:
        times = self._times()
        for number in range(len(self.batches)):
            if number % 20 == 0:
                self.sizes[number] = (self.server.folder / "appendonly.aof").stat().st_size
            self.ends.append(self.send(number))
            self._wait(number - LEAD * len(PARTITIONS))
            for fault in times.get(number, ()):
                fault(number)
        for number in range(max(0, len(self.batches) - len(PARTITIONS)), len(self.batches)):
            self._wait(number)

    def _wait(self, number: int) -> None:
        """Until the learners have come to a batch, or to what was sent again after it."""
        deadline = time.monotonic() + 300
        while number >= 0 and self._cursor(self.batches[number][0]) < self.ends[number]:
            assert time.monotonic() < deadline, f"the learners did not catch up with batch {number}"
            assert self.plan.without or all(process.is_alive() for process in self.learners.processes)
            time.sleep(0.02)

    def _cursor(self, place: Partition) -> EntryId:
        try:
            return self.log.head(place).cursor
        except LogUnavailable:
            # Redis was killed: the next look connects anew.
            return START

    def _times(self) -> dict[int, list[Any]]:
        """When something fails: spread evenly, in an order of chance."""
        plan = self.plan
        faults: list[Any] = [self._disturb] * plan.faults + [self._kill_redis] * plan.redis_kills
        faults += [self._freeze_redis] * plan.redis_freezes
        faults += [self._lose_tail] * plan.lost_tails + [self._return] * plan.returns
        self.chance.shuffle(faults)
        found: dict[int, list[Any]] = {}
        for index, fault in enumerate(faults):
            found.setdefault((index + 1) * len(self.batches) // (len(faults) + 1), []).append(fault)
        return found

    def _disturb(self, _: int) -> None:
        if self.chance.random() < 0.5:
            self.learners.kill(self.chance.randrange(2))
        else:
            self.learners.freeze(self.chance.randrange(2), self.chance.choice(self.plan.freezes))

    def _kill_redis(self, _: int) -> None:
        self.redis_kills += 1
        self.server.kill()
        self._start_redis()

    def _start_redis(self) -> None:
        self.server.start()
        self._keep_file()

    def _keep_file(self) -> None:
        """No rewriting: a place in the file must stay a moment in time."""
        connect(self.server.socket, timeout=PATIENT_S).config_set("auto-aof-rewrite-percentage", 0)

    def _freeze_redis(self, number: int) -> None:
        """Redis hangs while something is being appended: it does what nobody waits for any more."""
        self.redis_freezes += 1
        pid = self.server.process.pid
        thaw = multiprocessing.get_context("fork").Process(target=_thaw, args=(pid, 0.6), daemon=True)
        os.kill(pid, signal.SIGSTOP)
        thaw.start()
        if number + 1 < len(self.batches):
            self.send(number + 1)
        thaw.join()

    def _lose_tail(self, number: int) -> None:
        """Redis comes back without the last few batches, reports and snapshots; the producer sends them again."""
        self.lost_tails += 1
        self._cut(number)

    def _return(self, number: int) -> None:
        """The same, while the learners are frozen: their state is of a log that is no more."""
        self.returns += 1
        for which in (0, 1):
            self.learners.signal(which, signal.SIGSTOP)
        self._cut(number)
        for which in (0, 1):
            self.learners.signal(which, signal.SIGCONT)

    def _cut(self, number: int) -> None:
        begin = max(at for at in self.sizes if at <= number)
        self.server.kill()
        with (self.server.folder / "appendonly.aof").open("r+b") as file:
            file.truncate(self.sizes[begin])
        self._start_redis()
        for again in range(begin, number + 1):
            self.ends[again] = self.send(again)

    def counts(self, seconds: float) -> Counts:
        lost = twice = missing = doubled = wrong = trimmed = 0
        for place, some in self.plain.items():
            expected = {report.id: report for report in expected_reports(some) if isinstance(report, Scored)}
            ids = Counter(entry.event_id.partition("#")[0] for entry in everything(self.log, self.archive, place))
            lost += len(set(map(draft_id, some)) - set(ids))
            twice += abs(self.log.head(place).learned - len(expected))
            found = list(scored(self.log, place))
            by_id = Counter(report.id for report in found)
            missing += len(set(expected) - set(by_id))
            doubled += len(found) - len(by_id)
            wrong += sum(expected.get(report.id) != report for report in found)
            trimmed += self.log.read(place, START, 1)[0].number - 1
        about = (self.plan.events, self.learners.kills, self.learners.freezes, self.redis_kills, self.redis_freezes)
        what = (*about, self.lost_tails, self.returns, trimmed, round(seconds, 1))
        return Counts(*what, lost, twice, missing, doubled, wrong)


def _thaw(pid: int, seconds: float) -> None:
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


def everything(log: Log, archive: Archive, place: Partition) -> Iterator[Entry]:
    after = START
    for source in (archive, log):
        while entries := source.read(place, after, 10_000):
            yield from entries
            after = entries[-1].id


def scored(log: Log, place: Partition) -> Iterator[Scored]:
    return (report for report in reported(log, place) if isinstance(report, Scored))


def reported(log: Log, place: Partition) -> Iterator[Report]:
    after = START
    while entries := log.reports(place, after, 10_000):
        after = entries[-1].id
        for entry in entries:
            yield from decode_reports(entry.payload)


def expected_reports(events: Iterable[Event]) -> list[Report]:
    """What a bare fold says of these events."""
    log, learner = MemoryLog(), ModelLearner(spec())
    log.append(PARTITIONS[0], drafts(events))
    return [report for entry in log.read(PARTITIONS[0], START, 10**7) for report in learner.apply(entry)]


def carry_out(plan: Plan, server: Any, folder: Path, capsys: Any) -> Counts:
    begun = time.monotonic()
    run = Run(plan, server, folder)
    try:
        run.go()
    finally:
        run.learners.end()
    counts = run.counts(time.monotonic() - begun)
    with capsys.disabled():
        print(f"\n{plan.without and f'without {plan.without}: '}{asdict(counts)}")  # noqa: T201
    return counts
