"""Real kills and freezes: two learner processes fight for each partition while Redis dies, hangs and loses its tail.

Every report is compared with that of a bare fold over the same events. Each safeguard is also switched off, and must
then be missed: a run that passes without the fence tests nothing.
"""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from online.archive import Archive
from online.events import Labelled, Observed, Predicted, Report, Scored, decode_reports, digest, draft_id, encode
from online.learner import ModelLearner, model_fold
from online.log import START, Appended, Commit, Conflict, Draft, Entry, EntryId, Log, LogUnavailable, Partition
from online.memory_log import MemoryLog
from online.redis_client import connect
from online.redis_log import RedisLog
from online.specs import ModelSpec, model_spec
from online.worker import Pace, Worker, work

PARTITIONS = [Partition("model:m", index) for index in range(4)]
PACE = Pace(patience=0.5, beat=0.1, tidy=0.5, batch=200)
SGD = {"use": "optim.SGD", "lr": 0.05}
TABLE = {
    "task": "binary",
    "pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}],
    "metrics": ["Accuracy"],
}


def spec() -> ModelSpec:
    return model_spec("m", TABLE)


def make_events(count: int, seed: int) -> list[Observed]:
    chance = random.Random(seed)
    events = []
    for number in range(count):
        x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1)}
        events.append(Observed(id=f"p{seed}-{number}", features=x, label=x["a"] + x["b"] + chance.gauss(0, 1) > 0))
    return events


def drafts(events: Sequence[Any]) -> list[Draft]:
    return [Draft(draft_id(event), digest(event.id), encode(event)) for event in events]


@dataclass(frozen=True)
class Plan:
    """What happens in a run, and which safeguard is missing: `fence`, `duplicates`, `run` or none."""

    events: int
    faults: int
    window: int = 5_000
    freezes: tuple[float, ...] = (0.02, 0.1, 0.6)
    redis_kills: int = 0
    redis_freezes: int = 0
    lost_tails: int = 0
    patience: float = 0.5
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
    log = Unguarded(connect(socket, timeout=2.0), plan.window, plan.without)
    history = Archive(Path(archive))
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
        os.kill(self.processes[which].pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.processes[which].pid, signal.SIGCONT)

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
            (place, some[begin : begin + 100])
            for begin in range(0, plan.events // 4, 100)
            for place, some in events.items()
        ]
        self._keep_file()
        # Impatient: what Redis does after the producer gave up is in doubt, and repeated.
        self.log = Unguarded(connect(server.socket, timeout=0.3), plan.window, plan.without)
        self.archive = Archive(folder)
        self.learners = Learners(server.socket, str(folder), plan)
        self.redis_freezes = self.redis_kills = self.lost_tails = 0
        self.sizes: dict[int, int] = {}

    def send(self, number: int) -> None:
        place, some = self.batches[number]
        while True:
            try:
                self.log.append(place, some)
            except LogUnavailable:
                time.sleep(0.05)
            else:
                return

    def go(self) -> None:
        times = self._times()
        for number in range(len(self.batches)):
            if number % 20 == 0:
                self.sizes[number] = (self.server.folder / "appendonly.aof").stat().st_size
            self.send(number)
            for fault in times.get(number, ()):
                fault(number)
        self._settle()

    def _times(self) -> dict[int, list[Any]]:
        """When something fails: spread evenly, in an order of chance."""
        plan = self.plan
        faults: list[Any] = [self._disturb] * plan.faults + [self._kill_redis] * plan.redis_kills
        faults += [self._freeze_redis] * plan.redis_freezes + [self._lose_tail] * plan.lost_tails
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
        self.server.start()
        self._keep_file()

    def _keep_file(self) -> None:
        """No rewriting: a place in the file must stay a moment in time."""
        connect(self.server.socket).config_set("auto-aof-rewrite-percentage", 0)

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
        begin = max(at for at in self.sizes if at <= number)
        self.server.kill()
        with (self.server.folder / "appendonly.aof").open("r+b") as file:
            file.truncate(self.sizes[begin])
        self.server.start()
        self._keep_file()
        for again in range(begin, number + 1):
            self.send(again)

    def _settle(self) -> None:
        deadline = time.monotonic() + 300
        while any(self.log.head(place).cursor < self.log.tail(place) for place in PARTITIONS):
            assert time.monotonic() < deadline, "the learners did not catch up"
            assert self.plan.without or all(process.is_alive() for process in self.learners.processes)
            time.sleep(0.05)

    def counts(self, seconds: float) -> Counts:
        lost = twice = missing = doubled = wrong = trimmed = 0
        for place, some in self.plain.items():
            ids = Counter(entry.event_id.partition("#")[0] for entry in everything(self.log, self.archive, place))
            lost += len({event.id for event in some} - set(ids))
            twice += abs(self.log.head(place).learned - len(some))
            found = list(scored(self.log, place))
            by_id = Counter(report.id for report in found)
            missing += len({event.id for event in some} - set(by_id))
            doubled += len(found) - len(by_id)
            expected = {report.id: report for report in expected_reports(some) if isinstance(report, Scored)}
            wrong += sum(expected.get(report.id) != report for report in found)
            trimmed += self.log.read(place, START, 1)[0].number - 1
        about = (self.plan.events, self.learners.kills, self.learners.freezes, self.redis_kills, self.redis_freezes)
        return Counts(*about, self.lost_tails, trimmed, round(seconds, 1), lost, twice, missing, doubled, wrong)


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


def expected_reports(events: Sequence[Observed | Labelled]) -> list[Report]:
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


def test_twenty_faults_lose_and_double_nothing(start_redis: Any, tmp_path: Path, capsys: Any) -> None:
    plan = Plan(events=8_000, faults=16, window=500, redis_kills=2, redis_freezes=1, lost_tails=1)
    assert carry_out(plan, start_redis(), tmp_path, capsys).violations == (0, 0, 0, 0, 0)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_two_hundred_kills_and_freezes_over_200_000_events_lose_and_double_nothing(
    start_redis: Any, tmp_path: Path, capsys: Any
) -> None:
    plan = Plan(events=200_000, faults=200, redis_kills=12, redis_freezes=8, lost_tails=5)
    counts = carry_out(plan, start_redis(), tmp_path, capsys)
    assert counts.violations == (0, 0, 0, 0, 0)
    assert counts.trimmed > 100_000


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "plan",
    [
        Plan(events=60_000, faults=80, window=200, freezes=(0.8, 1.5), without="fence"),
        Plan(events=20_000, faults=5, redis_freezes=8, without="duplicates"),
        Plan(events=20_000, faults=5, lost_tails=8, without="run"),
    ],
    ids=lambda plan: plan.without,
)
def test_each_safeguard_is_missed_by_real_processes_where_it_is_switched_off(
    plan: Plan, start_redis: Any, tmp_path: Path, capsys: Any
) -> None:
    assert sum(carry_out(plan, start_redis(), tmp_path, capsys).violations) > 0


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_half_a_million_labels_that_are_waited_for_survive_kills(start_redis: Any, tmp_path: Path, capsys: Any) -> None:
    plan = Plan(events=500_000, faults=0, window=20_000, patience=3.0)
    server, begun = start_redis(), time.monotonic()
    log = RedisLog(connect(server.socket, timeout=30.0), window=plan.window)
    seen = {place: make_events(plan.events // 4, place.index) for place in PARTITIONS}
    cases = {p: [msgspec.structs.replace(event, label=UNSET) for event in some] for p, some in seen.items()}
    labels = {p: [Labelled(id=event.id, label=event.label) for event in some] for p, some in seen.items()}
    learners = Learners(server.socket, str(tmp_path), plan)
    try:
        found: dict[str, float] = {}
        for told in (cases, labels):
            for begin in range(0, plan.events // 4, 2_500):
                for place, some in told.items():
                    log.append(place, drafts(some[begin : begin + 2_500]))
                if begin % 25_000 == 0:
                    learners.kill(begin // 25_000 % 2)
            caught_up(log, 600)
            if told is cases:
                found["pending MB"] = round(max(map(resident, learners.processes)) / 1e6)
                for which in (0, 1):
                    learners.kill(which)
                asked = time.monotonic()
                for place in PARTITIONS:
                    log.append(place, drafts([msgspec.structs.replace(seen[place][0], id="late")]))
                caught_up(log, 300)
                found["back after s"] = round(time.monotonic() - asked, 1)
                found["pending MB after that"] = round(max(map(resident, learners.processes)) / 1e6)
                memory: Any = log._client.info("memory")
                found["Redis MB"] = round(memory["used_memory"] / 1e6)
    finally:
        learners.end()
    missing = doubled = wrong = 0
    for place, some in seen.items():
        late = msgspec.structs.replace(some[0], id="late")
        expected = expected_reports([*cases[place], late, *labels[place]])
        reports = list(reported(log, place))
        wrong += sum(one != other for one, other in zip(reports, expected, strict=False))
        kinds = Counter((type(report), report.id) for report in reports if isinstance(report, Scored | Predicted))
        missing += 2 * len(some) + 1 - len(kinds)
        doubled += sum(kinds.values()) - len(kinds)
        assert log.head(place).learned == len(some) + 1
    with capsys.disabled():
        told = {"pending": plan.events, "kills": learners.kills, "seconds": round(time.monotonic() - begun, 1)}
        print(f"\n{told | found | {'missing': missing, 'doubled': doubled, 'wrong': wrong}}")  # noqa: T201
    assert (missing, doubled, wrong) == (0, 0, 0)


def caught_up(log: Log, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(log.head(place).cursor < log.tail(place) for place in PARTITIONS):
        assert time.monotonic() < deadline, "the learners did not catch up"
        time.sleep(0.05)


def resident(process: Any) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
