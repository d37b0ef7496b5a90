"""What one API process serves: immutable values, made anew by a thread of its own and swapped by one assignment."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from agents import baselines
from agents.bundle import BundleError
from online.events import Scalar
from online.join import PointLearner, Value
from online.learner import ModelLearner
from online.log import START, EntryId, LogUnavailable, Partition
from online.model import Prediction
from online.snapshot import SealBroken, open_sealed, sealed_parts
from online.specs import ModelSpec, build
from online.tasks import Task, task_of
from service.deciding import feed
from service.deciding.arms import arm_of
from service.deciding.beliefs import NO_ESTIMATES, Belief, Estimates, with_belief
from service.deciding.decide import BASELINE, Arm, ServedPoint
from service.deciding.exploring import lessons
from service.deciding.feed import Heartbeat, Note
from service.deciding.jobs import Job
from service.deciding.listening import bandits_in, estimates_in, tutor_of
from service.deciding.live_specs import load_learner
from service.deciding.point_bandits import BanditPolicy, is_bandit
from service.deciding.points import Point
from service.deciding.releases import Release
from service.deciding.store import Store
from service.http.problems import ProblemError
from service.manifest import Manifest

EVERY_S = 0.1
RECENT_S = 600.0
LESSONS_S = 10.0
"""Seconds for which what a point explores for its lessons stays as it was reckoned."""

_NOTES = 200
_SETTLE_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a learner is, as this process last saw it.

    Attributes:
        cursor: The last entry that is in the state served.
        tail: The last entry of the log.
        lag: Entries of the log that are not in the state served.
        changed: When the state served was loaded, in seconds since the epoch; `None` while there is none.
        taught: When what was learned was last seen to grow, in event time; `None` while nothing was.
    """

    cursor: EntryId = START
    tail: EntryId = START
    lag: int = 0
    learned: int = 0
    rejected: int = 0
    version: int = 0
    changed: float | None = None
    taught: float | None = None


class KeyParts:
    """Fetches the instances of keys, from the store of whichever thread asks."""

    def __init__(self, partition: Partition, secret: bytes) -> None:
        self._partition = partition
        self._secret = secret
        self.store: Store | None = None

    def __call__(self, name: str) -> bytes | None:
        """The part of this name, `None` where there is none.

        Raises:
            ProblemError: It was not written by this service: it is never unpickled.
        """
        if self.store is None:
            return None
        try:
            return sealed_parts(self.store.log, self._partition, self._secret)(name)
        except SealBroken as error:
            _log.error("%s", error)
            raise ProblemError("unavailable", f"{error}.") from None


@dataclass(frozen=True)
class ServedModel:
    """A model as it is served: the learner of its last snapshot, which learns no more.

    Attributes:
        task: Checks labels as the learner will.
    """

    spec: ModelSpec
    learner: ModelLearner
    task: Task
    parts: KeyParts
    progress: Progress = Progress()

    @property
    def is_drifting(self) -> bool:
        """Whether the latest alarm came within the last `RECENT_S` seconds of event time."""
        alarms = self.learner.alarms
        return bool(alarms) and self.learner.place.now - alarms[-1].at < RECENT_S

    def predict(self, store: Store, key: str | None, features: Mapping[str, Scalar]) -> Prediction:
        """The answer of a key's own instance. Raises `FeatureError`."""
        self.parts.store = store
        return self.learner.predict(key, features)


@dataclass(frozen=True)
class PointState:
    """What a point's learner has joined so far.

    Attributes:
        past: What was believed and when, as this process saw it, thinned as it grows.
        bandits: The point's bandits by name, as they have learned.
    """

    values: Mapping[tuple[str, str], Value] = field(default_factory=lambda: MappingProxyType({}))
    pending: int = 0
    progress: Progress = Progress()
    number: int = 0
    beliefs: Estimates = NO_ESTIMATES
    past: tuple[tuple[float, Belief], ...] = ()
    bandits: Mapping[str, BanditPolicy] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """Everything that is served at one moment.

    Attributes:
        at: When the store was last read, in seconds since the epoch; `None` before the first time.
        errors: Subject → why what the store holds for it is not served.
    """

    models: Mapping[str, ServedModel]
    points: Mapping[str, ServedPoint]
    states: Mapping[str, PointState]
    at: float | None = None
    notes: tuple[tuple[EntryId, Note], ...] = ()
    heartbeats: tuple[Heartbeat, ...] = ()
    jobs: tuple[Job, ...] = ()
    errors: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class Serving:
    """The thread that keeps `now` up to date: it reads snapshots and releases, and swaps a new value in.

    A store that is away leaves what was served last; a bundle or a snapshot that cannot be used leaves its predecessor,
    with the reason in `errors`.

    Args:
        make_store: Makes the store; called in the thread.
        secret: Authenticates snapshots.
        name: Under which this process says that it lives.
    """

    def __init__(
        self, manifest: Manifest, make_store: Callable[[], Store], secret: bytes, clock: Callable[[], float], name: str
    ) -> None:
        self._make_store = make_store
        self._secret = secret
        self._clock = clock
        self._name = name
        self._started = clock()
        self._wake = threading.Event()
        self._turned = threading.Condition()
        self._turns = 0
        self._lessons_at: dict[str, float] = {}
        self.closing = False
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)
        self._manifest = manifest
        self.now = declared(Served(MappingProxyType({}), MappingProxyType({}), MappingProxyType({})), manifest)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def close(self) -> None:
        """Ends after the turn under way."""
        self.closing = True
        self._wake.set()
        self._thread.join(_SETTLE_S)

    async def settle(self) -> None:
        """Waits, for a bounded time, until everything that is stored by now is served."""
        await asyncio.to_thread(self._await_turns, 2)

    async def caught_up(self, name: str, entry: EntryId) -> ServedModel:
        """The model once its state holds the entry.

        Raises:
            ProblemError: It takes longer than a few seconds.
        """
        deadline = time.monotonic() + _SETTLE_S
        while (model := self.now.models[name]).progress.cursor < entry:
            if time.monotonic() > deadline:
                detail = f"The model {name!r} is at {model.progress.cursor}, not yet at {entry}. Try again in a second."
                raise ProblemError("not-learned-yet", detail, headers={"Retry-After": "1"})
            await asyncio.sleep(EVERY_S / 4)
        return model

    def _await_turns(self, turns: int) -> None:
        # The turn under way may have read before the caller wrote: the one after it has not.
        with self._turned:
            wanted = self._turns + turns
            deadline = time.monotonic() + _SETTLE_S
            while self._turns < wanted and time.monotonic() < deadline and not self.closing:
                self._wake.set()
                self._turned.wait(EVERY_S)

    def _run(self) -> None:
        store = self._make_store()
        while not self.closing:
            try:
                self.now = self._turn(store, self.now)
            except LogUnavailable as error:
                _log.warning("the store does not answer: %s", error)
            except Exception:  # noqa: BLE001 - what is served must not end with one bad entry
                _log.exception("what is served could not be brought up to date")
            else:
                with self._turned:
                    self._turns += 1
                    self._turned.notify_all()
            self._wake.wait(EVERY_S)
            self._wake.clear()

    def _turn(self, store: Store, old: Served) -> Served:
        """Everything as the store has it now; what has not changed stays the same object."""
        errors: dict[str, str] = {}
        if (manifest := store.declarations.follow()) is not self._manifest:
            old = declared(old, manifest)
        models, points, states = dict(old.models), dict(old.points), dict(old.states)
        for name in models:
            with _noting(errors, f"model:{name}"):
                models[name] = self._model(store, models[name], manifest.models[name])
        for name in points:
            with _noting(errors, f"point:{name}"):
                points[name] = self._point(store, points[name])
            with _noting(errors, f"point:{name}"):
                states[name] = self._state(store, name, points[name].point, states.get(name, PointState()))
                points[name] = self._instructed(_as_learned(points[name], states[name]))
        last = old.notes[-1][0] if old.notes else START
        notes = (*old.notes, *feed.read(store.log, last))[-_NOTES:]
        now = self._clock()
        if old.at is None or int(now) != int(old.at):
            feed.beat(store.blob, self._name, self._started)
        made = Served(
            models=MappingProxyType(models),
            points=MappingProxyType(points),
            states=MappingProxyType(states),
            at=now,
            notes=notes,
            heartbeats=tuple(feed.heartbeats(store.blob)),
            jobs=tuple(store.registry.jobs()),
            errors=MappingProxyType(errors),
        )
        # Only now: a turn that breaks off is taken anew with what was declared.
        self._manifest = manifest
        return made

    def _model(self, store: Store, old: ServedModel, spec: ModelSpec) -> ServedModel:
        """A model, declared so, with its last snapshot."""
        partition = Partition(f"model:{old.spec.name}", 0)
        progress = old.progress
        head = store.log.head(partition)
        learner, parts = old.learner, old.parts
        if head.version != progress.version and (saved := store.log.load(partition)) is not None:
            data = open_sealed(self._secret, partition, saved.cursor, saved.snapshot)
            parts = KeyParts(partition, self._secret)
            # A model that was declared anew serves as it was until the learner has brought the new one up to date.
            learner = load_learner(store.blob, spec, data, parts)
            grown = learner.learned != progress.learned
            progress = replace(
                progress,
                taught=learner.place.now if grown else progress.taught,
                cursor=saved.cursor,
                version=saved.version,
                learned=learner.learned,
                rejected=learner.place.rejected,
                changed=self._clock(),
            )
        progress = _measured(store, partition, progress, learner.place.number)
        task = old.task if learner.spec.source == old.spec.source else blank_model(learner.spec).task
        return replace(old, spec=learner.spec, learner=learner, task=task, parts=parts, progress=progress)

    def _point(self, store: Store, old: ServedPoint) -> ServedPoint:
        """A point with what its last release names."""
        spec = old.point.spec
        release = store.registry.current(spec.name, spec.mode)
        if release == old.release:
            return old
        arms = {arm.name: arm for arm in (old.incumbent, old.candidate) if arm is not None}
        made = {
            name: arms.get(name) or arm_of(store.registry, old.point, name, old.bandits) for name in release.bundles
        }
        baseline = _baseline(old.point, release, old.bandits)
        return ServedPoint(
            point=old.point,
            release=release,
            incumbent=baseline if release.incumbent is None else made[release.incumbent],
            baseline=baseline,
            candidate=None if release.candidate is None else made[release.candidate],
            beliefs=old.beliefs,
            bandits=old.bandits,
        )

    def _instructed(self, served: ServedPoint) -> ServedPoint:
        """A point with what it tries for its lessons, reckoned anew now and then for what is believed by then."""
        spec, known, now = served.point.spec, served.lessons, self._clock()
        if not spec.informative:
            return served
        same = known is not None and known.policy == served.incumbent.name
        if same and now < self._lessons_at.get(spec.name, 0.0):
            return served
        self._lessons_at[spec.name] = now + LESSONS_S
        believed = served.believed(served.incumbent, None) or {}
        return replace(served, lessons=lessons(served.point, served.incumbent, believed))

    def _state(self, store: Store, name: str, point: Point, old: PointState) -> PointState:
        """What a point's learner has joined, by its last snapshot."""
        partition = Partition(f"point:{name}", 0)
        progress = old.progress
        head = store.log.head(partition)
        if head.version == progress.version or (saved := store.log.load(partition)) is None:
            return replace(old, progress=_measured(store, partition, progress, old.number))
        data = open_sealed(self._secret, partition, saved.cursor, saved.snapshot)
        learner = PointLearner.load(point.spec.outcome, point.reward_of, data)
        progress = replace(
            progress,
            cursor=saved.cursor,
            version=saved.version,
            learned=learner.learned,
            rejected=learner.place.rejected,
            changed=self._clock(),
        )
        number = learner.place.number
        progress = _measured(store, partition, progress, number)
        pending = sum(value.pending for value in learner.values.values())
        beliefs = estimates_in(learner)
        past = with_belief(old.past, self._clock(), beliefs.pooled)
        bandits = bandits_in(point, sealed_parts(store.log, partition, self._secret)) if point.spec.bandits else {}
        return PointState(MappingProxyType(dict(learner.values)), pending, progress, number, beliefs, past, bandits)


def declared(old: Served, manifest: Manifest) -> Served:
    """What is served once the manifest has changed: what is declared as before stays, the rest begins blank.

    A model that has learned stays too: the learner takes its place once it has caught up.
    """
    models, points = {}, {}
    for name, spec in manifest.models.items():
        known = old.models.get(name)
        stays = known is not None and (known.spec.source == spec.source or known.progress.version > 0)
        models[name] = known if known is not None and stays else blank_model(spec)
    for name, point in manifest.points.items():
        before = old.points.get(name)
        points[name] = before if before is not None and before.point.spec == point else blank_point(Point.of(point))
    states = {name: state for name, state in old.states.items() if name in points}
    return replace(
        old, models=MappingProxyType(models), points=MappingProxyType(points), states=MappingProxyType(states)
    )


@contextlib.contextmanager
def _noting(errors: dict[str, str], subject: str) -> Iterator[None]:
    """Leaves what was served before where the new cannot be used, and notes why."""
    try:
        yield
    except (BundleError, SealBroken, ValueError) as error:
        errors[subject] = str(error)


def blank_model(spec: ModelSpec) -> ServedModel:
    """A model that has learned nothing."""
    parts = KeyParts(Partition(f"model:{spec.name}", 0), b"")
    task = task_of(spec.task, build(spec), [], spec.horizon, spec.threshold)
    return ServedModel(spec, ModelLearner(spec, parts), task, parts)


def blank_point(point: Point) -> ServedPoint:
    """A point that was never released: its baseline serves, in the mode of the manifest."""
    release, bandits = Release(point.name, point.spec.mode), tutor_of(point).policies()
    baseline = _baseline(point, release, bandits)
    return ServedPoint(point, release, baseline, baseline, bandits=bandits)


def _baseline(point: Point, release: Release, bandits: Mapping[str, BanditPolicy]) -> Arm:
    """What serves where no bundle does, a rule or a bandit: the release's own, else the manifest's."""
    declared = str(point.spec.baseline)
    named = release.baseline or (declared if is_bandit(declared) else point.baseline_name)
    if named in bandits:
        return Arm(bandits[named], named, bandits[named].kind)
    if named == point.baseline_name:
        return Arm(point.baseline, named, BASELINE)
    return Arm(baselines.make(named, point.world), named, BASELINE)


def _as_learned(served: ServedPoint, state: PointState) -> ServedPoint:
    """A point with what its learner has learned since; the same object where that is nothing."""
    if served.beliefs is not state.beliefs:
        served = replace(served, beliefs=state.beliefs)
    if not state.bandits or served.bandits is state.bandits:
        return served

    def taught(arm: Arm) -> Arm:
        return replace(arm, policy=state.bandits[arm.name]) if arm.name in state.bandits else arm

    return replace(
        served,
        incumbent=taught(served.incumbent),
        baseline=taught(served.baseline),
        candidate=None if served.candidate is None else taught(served.candidate),
        bandits=state.bandits,
    )


def _measured(store: Store, partition: Partition, progress: Progress, number: int) -> Progress:
    """The progress with its distance from the end of the log, counted by the entries' running numbers."""
    tail = store.log.tail(partition)
    if tail == progress.tail and tail <= progress.cursor:
        return replace(progress, lag=0)
    last = store.log.read(partition, tail.before, 1) if tail > START else []
    return replace(progress, tail=tail, lag=max(0, last[0].number - number) if last else 0)
