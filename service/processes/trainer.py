"""The adapter process: it takes jobs, trains policies at low priority, and releases what passes the gate.

The only process that loads torch.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from agents import runtime
from agents.bundle import Bundle, pack
from agents.cards import in_shares
from agents.checkpoint import CheckpointError
from agents.evaluate import Evaluation, evaluate
from agents.gate import Verdict, simulation_gate
from agents.train import Progress, train
from online.events import Released
from online.log import Blob, Log, LogUnavailable
from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog
from service.deciding import feed
from service.deciding.declarations import Declarations
from service.deciding.feed import Note
from service.deciding.jobs import FINAL, Job
from service.deciding.point_bandits import is_bandit
from service.deciding.points import Point
from service.deciding.registry import Registry
from service.deciding.releases import Release
from service.deciding.training import OrderError, read
from service.ending import leave_soon
from service.manifest import Manifest, load
from service.processes.carrying import RETRAIN
from service.processes.loop import Loops, Shared
from service.processes.pulse import Pulse
from service.settings import Settings

T = TypeVar("T")

NAME = "adapter"
LINEAGE = "lineage"

_IDLE_S = 0.5
_SAY_EVERY_S = 15.0
_AGAIN_S = 2.0
_EPISODES = 20_000

_log = logging.getLogger(__name__)


class _Interrupted(Exception):  # noqa: N818 - no error: the process is to stop, or somebody cancelled the job
    """Leave the job where it is."""


@dataclass(frozen=True)
class Trial:
    """What a candidate is worth in simulation beside whoever else could serve, and the verdicts, by their names."""

    candidate: Evaluation
    others: Mapping[str, Evaluation]
    verdicts: Mapping[str, Verdict]

    @property
    def verdict(self) -> Verdict:
        """Better only where it is better than everybody; else the first objection."""
        objections = [found for found in self.verdicts.values() if found.verdict != "better"]
        return objections[0] if objections else next(iter(self.verdicts.values()))

    def summary(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "candidate": self.candidate.summary(),
            "others": {name: other.summary() for name, other in self.others.items()},
            "verdict": self.verdict.verdict,
            "reasons": list(self.verdict.reasons),
        }

    def __str__(self) -> str:
        gains = (
            f"{(self.candidate.value - other.value) / abs(other.value or 1.0):+.1%} against {name}"
            for name, other in self.others.items()
        )
        return f"{self.candidate.value:.4g} an episode in simulation, {', '.join(gains)}"


class Adapter:
    """One worker on the queue of jobs.

    Args:
        folder: Where a training keeps its checkpoint, from which the next adapter goes on.
        stopping: Whether to stop soon; a job under way is left and taken up again by the next adapter.
        secret: Opens the learners' snapshots.
        keep: Keeps a training in the lineage, and says its run there.
        name: Who claims the jobs. One adapter per name.
    """

    def __init__(
        self,
        log: Log,
        blob: Blob,
        manifest: Manifest,
        folder: Path,
        stopping: Callable[[], bool],
        *,
        secret: bytes = b"",
        keep: Callable[[Bundle], str | None] = lambda _: None,
        name: str = NAME,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._log = log
        self._blob = blob
        self._registry = Registry(log, blob, time.time)
        self._declarations = Declarations(log, manifest)
        self._points = {name: Point.of(spec) for name, spec in manifest.points.items()}
        self._loops = Loops(Shared(log, blob, self._registry, secret))
        self._loops.follow(self._points)
        self._stopping = stopping
        self._keep = keep
        self._name = name
        self._started = time.time()
        self._may_be_cut = False
        self._say_at = 0.0

    def cut(self) -> None:
        """Leave a training where it is, from a signal handler: it takes seconds to come to its next word.

        Raises:
            _Interrupted: Training is under way. Nothing of it is stored, so that nothing can be half-stored.
        """
        if self._may_be_cut:
            self._may_be_cut = False
            raise _Interrupted

    def _follow(self) -> None:
        """Take up the points that were declared, changed or ended since."""
        declared = self._declarations.follow().points
        if declared != {name: point.spec for name, point in self._points.items()}:
            self._points = {name: Point.of(spec) for name, spec in declared.items()}
            self._loops.follow(self._points)

    def turn(self) -> bool:
        """Do one job; false where there was none."""
        self._beat({})
        self._follow()
        self._loops.turn()
        self._ask_for_first_policies()
        job = self._registry.claim(self._name)
        if job is None:
            return False
        _log.info("job %s: %s %s", job.id, job.kind, job.point)
        try:
            detail = self._do(job)
        except _Interrupted:
            _log.info("job %s is left", job.id)
        except LogUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - of this job alone: the next one must not suffer
            _log.exception("job %s failed", job.id)
            self._end(replace(job, state="failed", detail={"error": str(error) or type(error).__name__}))
            self._tell("error", job.point, f"{job.kind} of {job.point} failed: {error}")
        else:
            self._end(replace(job, state="done", progress=1.0, detail=detail))
        return True

    def _ask_for_first_policies(self) -> None:
        """A point that is to be served live by a policy, and has none, gets one without being asked."""
        live = [name for name, point in self._points.items() if point.spec.mode == "live"]
        minutes = {name: point.spec.adapt.minutes for name, point in self._points.items()}
        asked = {job.point for job in self._registry.jobs() if job.kind == "train"} if live else set()
        for name in live:
            if name not in asked and not self._registry.releases(name) and not self._registry.bundles(name):
                self._registry.submit(Job(f"first-{name}", name, "train", {"minutes": minutes[name]}))

    def _do(self, job: Job) -> dict[str, Any]:
        if job.kind not in ("train", RETRAIN):
            raise OrderError(f"there is no job of the kind {job.kind!r}; there is: train, {RETRAIN}")
        if job.point not in self._points:
            raise OrderError(f"the manifest has no point {job.point!r} any more; it has: {', '.join(self._points)}")
        point = self._points[job.point]
        bundle = self._train(job, point)
        at, kept = time.time(), {"run": self._keep(bundle)}
        if job.kind == RETRAIN:
            return {"digest": self._insist(lambda: self._register(job, point, bundle)), **kept}
        return self._insist(lambda: self._offer(job, point, bundle, at)) | kept

    def _train(self, job: Job, point: Point) -> Bundle:
        order = read(job.params)
        self._say_at = 0.0
        self._tell("training", job.point, f"training a policy for {job.point} ({order.algo}); {self._serves(point)}")

        def told(progress: Progress) -> bool:
            self._may_be_cut = False
            self._progress(job, progress)
            self._may_be_cut = True
            return True

        fit = partial(
            train,
            point.world.with_params(order.params) if order.params else point.world,
            ranges=order.ranges if order.ranges is not None else dict(point.spec.ranges),
            start=None if order.start is None else self._registry.bundle(order.start),
            progress=told,
            **order.settings,
        )
        checkpoint = self._folder / f"{job.id}.checkpoint"
        self._may_be_cut = True
        try:
            return fit(checkpoint=checkpoint)
        except CheckpointError as error:
            # Written by another version, or damaged: it would fail the job for ever.
            _log.warning("%s; training %s from the beginning", error, job.point)
            checkpoint.unlink(missing_ok=True)
            return fit(checkpoint=checkpoint)
        finally:
            self._may_be_cut = False

    def _offer(self, job: Job, point: Point, bundle: Bundle, at: float) -> dict[str, Any]:
        """Register a bundle, and release it where it beats whoever could serve. Repeated, it does nothing twice."""
        digest = self._register(job, point, bundle)
        release = self._registry.current(point.name, point.spec.mode)
        trial = self._try(point, bundle, release, read(job.params).seed)
        if digest in release.bundles:
            _log.info("policy %s serves already", digest[:12])
        elif (hold := self._registry.held(point.name)) is not None:
            why = f"{hold.actor} holds {point.name} ({hold.reason})"
            self._tell("held", point.name, f"policy {digest[:12]} is not released: {why}; {trial}")
        elif trial.verdict.verdict == "better":
            event = Released(
                id=f"{job.id}/release",
                point=point.name,
                bundle=digest,
                mode=release.mode,
                share=point.spec.gate.canary if release.mode == "canary" else None,
                actor=self._name,
                reason=f"better in simulation: {trial}",
                at=at,
            )
            self._registry.release(point.name, event)
            self._tell(
                "released", point.name, f"policy {digest[:12]} now serves {point.name} ({release.mode}): {trial}"
            )
        else:
            self._tell("held", point.name, f"policy {digest[:12]} is not released: {trial}; {trial.verdict.verdict}")
        return {"digest": digest, **trial.summary()}

    def _register(self, job: Job, point: Point, bundle: Bundle) -> str:
        data = pack(bundle.card, bundle.onnx, bundle.weights)
        return self._registry.register(point.name, data, point.check, actor=self._name, note=f"job {job.id}")

    def _try(self, point: Point, bundle: Bundle, release: Release, seed: int) -> Trial:
        rivals = {point.baseline_name: point.baseline}
        incumbent = release.incumbent
        # A bandit learns on the job: in a simulation it would be untaught.
        if incumbent is not None and incumbent != bundle.digest and not is_bandit(incumbent):
            rivals[incumbent[:12]] = runtime.load(self._registry.bundle(incumbent))
        candidate = evaluate(runtime.load(bundle), point.world, _EPISODES, seed)
        others = {name: evaluate(rival, point.world, _EPISODES, seed) for name, rival in rivals.items()}
        return Trial(candidate, others, {name: simulation_gate(candidate, other) for name, other in others.items()})

    def _insist(self, action: Callable[[], T]) -> T:
        """Repeat what may be repeated until the log is there: a policy that took minutes is not thrown away."""
        while True:
            try:
                return action()
            except LogUnavailable as error:
                if self._stopping():
                    raise _Interrupted from None
                _log.warning("%s; trying again", error)
                time.sleep(_AGAIN_S)

    def _end(self, job: Job) -> None:
        self._insist(lambda: self._registry.update(job))

    def _progress(self, job: Job, progress: Progress) -> None:
        """Say how far the training is.

        Raises:
            _Interrupted: The process is to stop, or somebody has cancelled the job.
        """
        share = progress.steps / max(progress.total, 1)
        try:
            current = self._registry.update(replace(job, progress=share, detail=_detail(progress)))
            self._beat({"job": job.id, "progress": share})
            if time.monotonic() >= self._say_at:
                self._say_at = time.monotonic() + _SAY_EVERY_S
                self._tell("progress", job.point, in_words(job.point, progress))
            self._loops.turn()
        except LogUnavailable as error:
            _log.warning("%s; the training goes on", error)
        else:
            if current.state in FINAL:
                raise _Interrupted
        if self._stopping():
            raise _Interrupted

    def _serves(self, point: Point) -> str:
        incumbent = self._registry.current(point.name, point.spec.mode).incumbent
        return "the baseline serves" if incumbent is None else f"policy {incumbent[:12]} serves"

    def _beat(self, detail: dict[str, Any]) -> None:
        feed.beat(self._blob, self._name, self._started, detail)

    def _tell(self, kind: str, point: str, text: str) -> None:
        _log.info("%s", text)
        feed.tell(self._log, Note(at=time.time(), source=self._name, kind=kind, text=text, subject=f"point:{point}"))


def _detail(progress: Progress) -> dict[str, Any]:
    """Progress as a job shows it; what is not known yet is left out."""
    return dict(in_shares({name: figure for name, figure in asdict(progress).items() if figure is not None}))


def in_words(point: str, progress: Progress) -> str:
    """Progress as one line."""
    words = [f"training {point}: {progress.steps / max(progress.total, 1):.0%}", f"{progress.rate:,.0f} steps/s"]
    if progress.gap is not None:
        words.append(f"{progress.gap:.1f} % below the optimum")
    if progress.seconds_left is not None:
        words.append(f"{progress.seconds_left:.0f} s left")
    return ", ".join(words)


def keep(bundle: Bundle, folder: Path) -> str | None:
    """Keep a training in the lineage of this folder; a lineage that fails costs no policy."""
    # MLflow takes seconds to load, and an adapter without a job does without it.
    from agents.lineage import Lineage, code_state

    try:
        return Lineage(folder).record(bundle, code_state(Path.cwd()))
    except Exception:  # noqa: BLE001 - SQLAlchemy, MLflow and the disk each raise their own
        _log.exception("the training of %s is not in the lineage", bundle.digest[:12])
        return None


def run(settings: Settings) -> None:
    """Work until SIGTERM. A Redis that is away is waited for."""
    manifest = load(settings.manifest)
    stop = threading.Event()
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    client = connect(settings.redis or "", password)
    log = RedisLog(client, window=settings.window)
    secret = settings.secret.get_secret_value().encode()
    pulse = Pulse(settings.data / f"{NAME}.alive")

    def stopping() -> bool:
        pulse()
        return stop.is_set()

    adapter = Adapter(
        log,
        RedisBlob(client),
        manifest,
        settings.data / "training",
        stopping,
        secret=secret,
        keep=partial(keep, folder=settings.data / LINEAGE),
    )

    def asked(*_: object) -> None:
        stop.set()
        leave_soon()
        adapter.cut()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    while not stopping():
        try:
            busy = adapter.turn()
        except LogUnavailable as error:
            _log.warning("%s; trying again", error)
            stop.wait(_AGAIN_S)
        else:
            stop.wait(0.0 if busy else _IDLE_S)
    client.close()
