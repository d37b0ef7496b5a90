"""The learner process: a worker for every model and every point of the manifest, in one thread."""

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from online.archive import Archive
from online.events import Drifted
from online.fold import Make
from online.join import point_fold
from online.learner import ModelLearner, model_fold
from online.log import Blob, Log, LogUnavailable, Partition
from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog
from online.worker import Pace, Worker, work
from service.deciding import feed
from service.deciding.declarations import Declarations
from service.deciding.feed import Note
from service.deciding.points import Point
from service.manifest import Manifest, load
from service.processes.slots import take_slot
from service.settings import ARCHIVE, Settings

NAME = "learner"
PACE = Pace()

_LOOK_EVERY_S = 1.0

_log = logging.getLogger(__name__)


def folds(manifest: Manifest) -> Mapping[Partition, Make]:
    """How to make the learner of each partition that the manifest declares."""
    models = {Partition(f"model:{name}"): model_fold(spec) for name, spec in manifest.models.items()}
    points = {name: Point.of(spec) for name, spec in manifest.points.items()}
    joins = {Partition(f"point:{name}"): point_fold(p.spec.outcome, p.reward_of) for name, p in points.items()}
    return {**models, **joins}


@dataclass
class Roster:
    """Keeps one worker for each model and point that there is, also for those declared, changed or ended since.

    `workers` is changed in place, between steps.
    """

    declarations: Declarations
    hire: Callable[[Partition, Make], Worker]
    workers: list[Worker] = field(default_factory=list)
    _look_at: float = 0.0
    _manifest: Manifest | None = None
    _specs: dict[Partition, object] = field(default_factory=dict)

    def __call__(self) -> None:
        """Let go and hire as the declarations say, if it is time to look."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        try:
            manifest = self.declarations.follow()
        except LogUnavailable as error:
            _log.warning("%s", error)
            return
        if manifest is not self._manifest:
            self._manifest = manifest
            self.follow(manifest)

    def follow(self, manifest: Manifest) -> None:
        """One worker for each model and point of this manifest."""
        specs: dict[Partition, object] = {Partition(f"point:{name}"): spec for name, spec in manifest.points.items()}
        # A model's table tells it from another one of its name; its parsed form leaves the table out of comparisons.
        specs |= {Partition(f"model:{name}"): (spec, spec.source) for name, spec in manifest.models.items()}
        gone = {partition for partition, spec in self._specs.items() if specs.get(partition) != spec}
        for worker in [worker for worker in self.workers if worker.partition in gone]:
            worker.close()
            self.workers.remove(worker)
        kept = {worker.partition for worker in self.workers}
        self.workers += [self.hire(p, make) for p, make in folds(manifest).items() if p not in kept]
        self._specs = specs


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
        """A note for each alarm that the model remembers; its id makes it one note, whoever tells it and how often."""
        if not isinstance(worker.fold, ModelLearner):
            return
        for drifted in worker.fold.alarms:
            note_id = f"{worker.partition}/{drifted.id}:{drifted.detector}"
            if note_id not in self._told:
                self._told.add(note_id)
                feed.tell(self.log, alarm(worker.partition, drifted), note_id)


def alarm(partition: Partition, drifted: Drifted) -> Note:
    """A drift alarm, for people."""
    name = partition.subject.partition(":")[2]
    key = "" if drifted.key is None else f" of {drifted.key}"
    evidence = ", ".join(f"{what} {value:.4g}" for what, value in drifted.evidence.items())
    return Note(
        at=time.time(),
        source=NAME,
        kind="drift",
        text=f"drift in {name}{key}: the {drifted.signal} has changed ({drifted.detector}: {evidence})",
        subject=partition.subject,
        data=dict(drifted.evidence),
    )


def run(settings: Settings) -> None:
    """Learn until SIGTERM; then commit what is there."""
    manifest = load(settings.manifest)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    client = connect(settings.redis or "", password)
    log, blob = RedisLog(client, window=settings.window), RedisBlob(client)
    secret = settings.secret.get_secret_value().encode()
    # The same name after a restart takes its partitions back at once; another slot, or machine, is another rival.
    owner = f"{NAME}-{take_slot(settings.data, NAME)}@{socket.gethostname()}"
    archive = Archive(settings.data / ARCHIVE)

    def hire(partition: Partition, make: Make) -> Worker:
        return Worker(log, make, partition, owner, secret=secret, pace=PACE, history=archive)

    roster = Roster(Declarations(log, manifest), hire)
    roster()
    watch = Watch(log, blob, roster.workers)

    def stopping() -> bool:
        roster()
        watch()
        return stop.is_set()

    work(roster.workers, log, stopping)
    client.close()
