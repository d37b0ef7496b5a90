"""The learner process: a worker for every model, point and bandit of the manifest, in one thread."""

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from online.archive import Archive
from online.bandit_learner import bandit_fold
from online.events import Drifted, Switched
from online.fold import Make
from online.join import point_fold
from online.learner import ModelLearner
from online.log import Blob, Fenced, History, Log, LogUnavailable, Partition
from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog
from online.worker import Pace, Worker, work
from service.deciding import feed
from service.deciding.declarations import Declarations
from service.deciding.feed import Note
from service.deciding.listening import listening
from service.deciding.points import Point
from service.ending import leave_soon
from service.manifest import Manifest, load
from service.processes.followers import Follower, Means
from service.processes.pulse import Pulse
from service.processes.rebuild import ModelMake, Rebuild
from service.processes.slots import take_slot
from service.settings import ARCHIVE, Settings

NAME = "learner"
PACE = Pace()

_LOOK_EVERY_S = 1.0
_FIGURES = 3

_log = logging.getLogger(__name__)


def folds(manifest: Manifest, blob: Blob) -> dict[Partition, Make]:
    """How to make the learner of each partition that the manifest declares."""
    models: dict[Partition, Make] = {
        partition_of(name): ModelMake(spec, blob) for name, spec in manifest.models.items()
    }
    points = {name: Point.of(spec) for name, spec in manifest.points.items()}
    bandits: dict[Partition, Make] = {
        Partition(f"bandit:{name}"): bandit_fold(spec) for name, spec in manifest.bandits.items() if spec.arms
    }
    return models | bandits | {Partition(f"point:{name}"): joining(point) for name, point in points.items()}


def joining(point: Point) -> Make:
    """How to make the learner of a point: it joins outcomes, estimates the world from them and teaches its bandits."""
    return point_fold(point.spec.outcome, point.reward_of, listening(point))


def partition_of(model: str) -> Partition:
    """Where a model's events are logged."""
    return Partition(f"model:{model}")


@dataclass
class Roster:
    """Keeps one worker for each model and point that there is, also for those declared, changed or ended since.

    `workers` is changed in place, between steps. A model that is declared anew keeps its worker, as the spec that it
    has learned under, until a rebuild has brought the new one up to the present.
    """

    declarations: Declarations
    hire: Callable[[Partition, Make], Worker]
    log: Log
    blob: Blob
    secret: bytes
    history: History | None = None
    now: Callable[[], float] = time.time
    workers: list[Worker] = field(default_factory=list)
    rebuilds: dict[Partition, Rebuild] = field(default_factory=dict)
    manifest: Manifest = field(default_factory=Manifest)
    _look_at: float = 0.0
    _rebuild_at: float = 0.0
    _specs: dict[Partition, object] = field(default_factory=dict)

    def __call__(self) -> None:
        """Let go and hire as the declarations say, if it is time to look; go on with what is rebuilt."""
        now = time.monotonic()
        try:
            if now >= self._look_at:
                self._look_at = now + _LOOK_EVERY_S
                manifest = self.declarations.follow()
                if manifest is not self.manifest:
                    self.follow(manifest)
                self.compare()
        except LogUnavailable as error:
            _log.warning("%s", error)
        self.rebuild()

    def follow(self, manifest: Manifest) -> None:
        """One worker for each model and point of this manifest."""
        self.manifest = manifest
        specs: dict[Partition, object] = {Partition(f"point:{name}"): spec for name, spec in manifest.points.items()}
        # A model's table tells it from another one of its name; its parsed form leaves the table out of comparisons.
        specs |= {partition_of(name): (spec, spec.source) for name, spec in manifest.models.items()}
        specs |= {Partition(f"bandit:{name}"): spec for name, spec in manifest.bandits.items() if spec.arms}
        changed = {partition for partition, spec in self._specs.items() if specs.get(partition) != spec}
        for worker in [worker for worker in self.workers if worker.partition in changed]:
            self.rebuilds.pop(worker.partition, None)
            worker.close()
            self.workers.remove(worker)
        kept = {worker.partition for worker in self.workers}
        self.workers += [self.hire(p, make) for p, make in folds(manifest, self.blob).items() if p not in kept]
        self._specs = specs

    def owns(self, model: str) -> bool:
        """Whether this process is the one that learns a model; may be asked from other threads."""
        return any(worker.partition == partition_of(model) and worker.fold is not None for worker in list(self.workers))

    def compare(self) -> None:
        """Begin a rebuild for each model that is not of the spec that is wanted."""
        for worker in self.workers:
            if not isinstance(worker.fold, ModelLearner):
                continue
            wanted = self.manifest.models[worker.fold.spec.name]
            if worker.fold.spec.source == wanted.source:
                self.rebuilds.pop(worker.partition, None)
            elif worker.partition not in self.rebuilds:
                _log.info("%s is learned anew, as it is declared now", worker.partition)
                begun = Rebuild(self.log, self.history, self.blob, worker, wanted, self.secret, self.now)
                self.rebuilds[worker.partition] = begun

    def rebuild(self) -> None:
        """Go on with each rebuild for a moment; hire the new model where one is done."""
        if time.monotonic() < self._rebuild_at:
            return
        for partition, rebuild in list(self.rebuilds.items()):
            try:
                if not rebuild.step():
                    continue
                del self.rebuilds[partition]
            except (LogUnavailable, Fenced) as error:
                _log.warning("the rebuild of %s waits: %s", partition, error)
                self._rebuild_at = time.monotonic() + _LOOK_EVERY_S
            # A worker that was told nothing of the switch, or of a switch that failed, would believe it has a rival.
            place = self.workers.index(rebuild.live)
            rebuild.live = self.workers[place] = self.hire(partition, ModelMake(rebuild.wanted, self.blob))


@dataclass
class Watch:
    """Tells people what the workers do: a heartbeat, a note for each new alarm, a line where there is trouble.

    Called between steps; looks about once a second.
    """

    log: Log
    blob: Blob
    workers: list[Worker]
    started: float = field(default_factory=time.time)
    _look_at: float = 0.0
    _told: set[str] = field(default_factory=set)
    _troubles: dict[Partition, str | None] = field(default_factory=dict)

    def __call__(self) -> None:
        """Look, if it is time."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        try:
            self._complain()
            feed.beat(self.blob, NAME, self.started, self._state())
            for worker in self.workers:
                self._announce(worker)
        except LogUnavailable as error:
            _log.warning("%s", error)

    def _state(self) -> dict[str, object]:
        owned = {str(worker.partition): worker.fold.learned for worker in self.workers if worker.fold is not None}
        waiting = [str(worker.partition) for worker in self.workers if worker.fold is None]
        return {"learned": owned, "standing_by": waiting}

    def _complain(self) -> None:
        for worker in self.workers:
            if worker.trouble != self._troubles.get(worker.partition):
                self._troubles[worker.partition] = worker.trouble
                if worker.trouble is not None:
                    _log.warning("%s: %s", worker.partition, worker.trouble)

    def _announce(self, worker: Worker) -> None:
        """A note for each alarm and switch that the model remembers; its id makes it one note, whoever tells it."""
        if not isinstance(worker.fold, ModelLearner):
            return
        for drifted in worker.fold.alarms:
            self._tell(f"{worker.partition}/{drifted.id}:{drifted.detector}", alarm(worker.partition, drifted))
        for switched in worker.fold.candidates.switches:
            self._tell(f"{worker.partition}/{switched.id}", switch(worker.partition, switched))

    def _tell(self, note_id: str, note: Note) -> None:
        if note_id not in self._told:
            self._told.add(note_id)
            feed.tell(self.log, note, note_id)


def switch(partition: Partition, switched: Switched) -> Note:
    """A change of a model's champion, for people."""
    name = partition.subject.partition(":")[2]
    return Note(
        at=time.time(),
        source=NAME,
        kind="champion",
        text=f"{name}: {switched.champion} answers instead of {switched.before} ({switched.actor}: {switched.reason})",
        subject=partition.subject,
    )


def alarm(partition: Partition, drifted: Drifted) -> Note:
    """A drift alarm, for people."""
    name = partition.subject.partition(":")[2]
    key = "" if drifted.key is None else f" of {drifted.key}"
    # The first figures are what it was and what it is; the alarm's own page has all of them.
    evidence = ", ".join(f"{what} {value:.4g}" for what, value in list(drifted.evidence.items())[:_FIGURES])
    of_its_own = drifted.name not in ("", drifted.signal)
    detector = f"{drifted.name}, {drifted.detector}" if of_its_own else drifted.detector
    return Note(
        at=time.time(),
        source=NAME,
        kind="drift",
        text=f"drift in {name}{key}: the {drifted.signal} has changed ({detector}: {evidence})",
        subject=partition.subject,
        data=dict(drifted.evidence),
    )


def run(settings: Settings) -> None:
    """Learn until SIGTERM; then commit what is there."""
    manifest = load(settings.manifest)
    stop = threading.Event()

    def asked(*_: object) -> None:
        stop.set()
        leave_soon()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    client = connect(settings.redis or "", password)
    log, blob = RedisLog(client, window=settings.window), RedisBlob(client)
    secret = settings.secret.get_secret_value().encode()
    # The same name after a restart takes its partitions back at once; another slot, or machine, is another rival.
    slot = f"{NAME}-{take_slot(settings.data, NAME)}"
    owner = f"{slot}@{socket.gethostname()}"
    archive = Archive(settings.data / ARCHIVE)

    def hire(partition: Partition, make: Make) -> Worker:
        return Worker(log, make, partition, owner, secret=secret, pace=PACE, history=archive)

    roster = Roster(Declarations(log, manifest), hire, log, blob, secret, archive)
    roster()
    watch, pulse = Watch(log, blob, roster.workers), Pulse(settings.data / f"{slot}.alive")

    def make_log() -> Log:
        return RedisLog(connect(settings.redis or "", password), window=settings.window)

    means = Means(make_log, lambda: RedisBlob(connect(settings.redis or "", password)), roster.owns)
    followers = [Follower(source, means).start() for source in manifest.sources.values()]

    def stopping() -> bool:
        pulse()
        roster()
        watch()
        return stop.is_set()

    work(roster.workers, log, stopping)
    for follower in followers:
        follower.close()
    client.close()
