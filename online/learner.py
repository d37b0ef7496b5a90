"""The fold of a model: predict, score, detect, learn, one entry at a time, with labels that come late or never."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET
from river.__version__ import __version__ as river_version

from online import pickling
from online.candidates import CandidateError, Candidates
from online.drift import Alarm
from online.events import (
    Drifted,
    EventError,
    Labelled,
    Observed,
    Predicted,
    Rejected,
    Replayed,
    Report,
    Resumed,
    Scalar,
    Scored,
    Settled,
    Switched,
    Ticked,
    bare_id,
    decode,
    decode_quickly,
    digest,
    encode_reports,
    scoped_id,
)
from online.features import FeatureError, Schema
from online.fold import Parts, Place, Stale
from online.log import Entry, EntryId
from online.model import Model, Prediction
from online.outlook import Outlook
from online.rejects import Rejects
from online.specs import ModelSpec
from online.tasks import Guess, LabelError
from online.unlabelled import Done, Said, Unlabelled

LAYOUT = 5
"""What a snapshot is made of: another number where that changes, so that older ones are replaced by a replay."""


class ModelLearner:
    """The fold of a model's partition.

    `predict` may be called on any learner, also on one that was loaded from a snapshot alone; it changes nothing.
    ``parts`` fetches the instances of keys that are not in memory.
    """

    def __init__(self, spec: ModelSpec, parts: Parts | None = None) -> None:
        self.spec = spec
        self.place = Place()
        self.alarms: list[Drifted] = []
        self.outlook = Outlook.of(spec)
        self.candidates = Candidates(spec, parts)
        self._counts = {"labelled": 0, "defaulted": 0, "late": 0}
        wait = float("inf") if spec.label_wait is None else spec.label_wait
        self._unlabelled = Unlabelled(wait, spec.early, spec.pending)
        self._rejects = Rejects()
        self._made_by = _made_by(spec)
        self._size = 0

    @property
    def schema(self) -> Schema:
        """The features as they are known now."""
        return self._model.state.schema

    @property
    def _model(self) -> Model:
        return self.candidates.current

    @property
    def learned(self) -> int:
        """Labels learned; events, where the task learns without labels."""
        return self._model.state.learned

    @property
    def pending(self) -> int:
        """Predictions that wait for their label, and labels that wait for their prediction."""
        return self._unlabelled.count

    @property
    def frozen(self) -> bool:
        """Whether a drift stopped the learning, as ``on_drift = "raise"`` asks."""
        return self._model.state.frozen

    @property
    def warning(self) -> str | None:
        """That the model is larger than it may be, with what happens because of it."""
        megabytes = f"{self.spec.ceiling / (1 << 20):g} MB"
        if self._model.state.stopped:
            return f"{self.spec.name} learns no more: it has outgrown its ceiling of {megabytes}"
        if self._size > self.spec.ceiling:
            return f"the snapshot of {self.spec.name} has {self._size / (1 << 20):.1f} MB, its ceiling is {megabytes}"
        return None

    @property
    def counts(self) -> dict[str, int]:
        """How many were learned, labelled, wait, waited in vain, came late, were rejected, are missing."""
        now = {"learned": self.learned, "pending": self.pending}
        return now | self._counts | {"rejected": self.place.rejected, "missed": self.place.missed}

    def metrics(self) -> dict[str, float]:
        """Each metric's progressive value: every prediction was made before its label was learned."""
        return self._model.figures()

    def baseline(self) -> dict[str, float]:
        """The figures of the simple rules that the model must beat, over the same labels."""
        return self._model.state.baseline.figures()

    def predict(self, key: str | None, features: Mapping[str, Scalar]) -> Prediction:
        """The model's answer now; changes nothing. Raises `FeatureError`."""
        return self._model.predict(key, features, self.place.now)

    def knows(self, key: str | None) -> bool:
        """Whether anything was learned that speaks for a key."""
        return self._model.knows(key)

    def apply(self, entry: Entry) -> list[Report]:
        """Change the state by an entry; what there is to say about it.

        Raises:
            Poisoned: A step of the pipeline failed half-way: the state must be dropped.
        """
        reports = self.place.follow(entry)
        try:
            if not entry.intact:
                raise EventError("its checksum does not fit: the entry was altered")
            self._fold(entry, decode(entry.payload), reports)
        except EventError as error:
            reports.append(self._set_aside(entry, str(error)))
        if self.pending:
            self._end_waits(reports)
        return reports

    def run(self, entries: Sequence[Entry], made: list[tuple[EntryId, bytes]]) -> int:
        """`apply` for the entries at the beginning that are plain: labelled, learned at once, nothing else to be said.

        Adds the reports of each to ``made`` and returns how many there were. What `apply` does in many small steps is
        done in one loop here, which halves the learner's own time. Where it raises, the state must be dropped, and
        `apply` will give the reason.
        """
        lane = None if self.candidates.challenged else self._model.lane()
        if lane is None:
            return 0
        model, task, metrics, baseline, watch = lane
        place, label, take = self.place, self._model.label, self.schema.intake
        guess_of, learn_one, score, error_of = task.guess, model.learn_one, task.score, task.error
        is_risky = None if task.classifies else task.is_risky
        warned = watch if self._model.heeds else None
        number, count = place.number, 0
        deadline = self.deadline() if self.pending else float("inf")
        for entry in entries:
            number += 1
            event = _expected(entry, number)
            if event is None or place.time(event.at, entry.at) >= deadline:
                break
            try:
                y = label(event.label)  # type: ignore[arg-type]
                x = take(event.features)
            except (LabelError, FeatureError):
                break
            guess = guess_of(model, x)
            if guess.value is None or (is_risky is not None and is_risky(y, guess)):
                break
            score(metrics, y, guess)
            baseline.update(y)
            error = error_of(y, guess)
            alarm = None if watch is None or error is None else watch.update(error)
            if alarm is not None or (warned is not None and warned.warning):
                self._went(entries, count)
                reports = self._turned(entry, event, x, y, guess, error, alarm)
                made.append((entry.id, encode_reports(reports)))
                return count + 1
            learn_one(x, y)
            count += 1
            scored = Scored(id=event.id, prediction=guess.value, label=y, error=error, state="labelled")
            made.append((entry.id, encode_reports([scored])))
        self._went(entries, count)
        return count

    def _fold(self, entry: Entry, event: Any, reports: list[Report]) -> None:
        try:
            if event.__class__ is Observed:
                at = self.place.time(event.at, entry.at)
                if self.pending:
                    self._end_waits(reports)
                self._observe(entry, event, at, reports)
            else:
                self.place.time(getattr(event, "at", None), entry.at)
                if self.pending:
                    self._end_waits(reports)
                self._take_other(entry, event, reports)
        except FeatureError as error:
            self.schema.refuse(error)
            reports.append(self._set_aside(entry, str(error), f"features.{error.field}"))
        except LabelError as error:
            reports.append(self._set_aside(entry, str(error), "label"))
        except CandidateError as error:
            reports.append(self._set_aside(entry, str(error), "champion"))

    def _take_other(self, entry: Entry, event: Any, reports: list[Report]) -> None:
        match event:
            case Labelled():
                self._take_label(entry, event, reports)
            case Replayed():
                self._replay(entry, event, reports)
            case Switched() | Resumed():
                reports += self.candidates.obey(event)
            case Ticked():
                pass
            case _:
                reports.append(self._set_aside(entry, f"a model learns nothing from a {type(event).__name__!r} event"))

    def _observe(self, entry: Entry, event: Observed, at: float, reports: list[Report]) -> None:
        model, schema = self._model, self._model.state.schema
        if event.key is None and self.spec.key:
            raise FeatureError("key", None, f"a {self.spec.key}: the model keeps one instance for each")
        y = None if event.label is UNSET else model.label(event.label)
        if y is None and self._is_known(entry, event, reports):
            return
        checked = schema.take(event.features)
        model.look_back(event.key, at, checked)
        x = checked if schema.declared is None else schema.encode(checked)
        guess = model.guess(event.key, x, y)
        if event.learn:
            model.remember(event.key, at, checked)
            if model.observes:
                self._warn(entry, model.observe(event.key, event.features, checked, x, guess), reports)
        others = self.candidates.guesses(x)
        if y is not None:
            error, alarms = model.meet(event.key, x, y, guess, learn=event.learn)
            found = self.candidates.meet(x, y, others, error, learn=event.learn, at=self.place.now) if others else []
            if event.learn:
                model.remember_label(event.key, at, checked, y)
            self._counts["labelled"] += 1
            state = "labelled" if event.learn else "scored"
            reports.append(Scored(id=event.id, prediction=guess.value, label=y, error=error, state=state))
            if alarms:
                self._warn(entry, alarms, reports)
            reports += found
            return
        reports.append(Predicted(id=event.id, prediction=guess.value, score=guess.score))
        said = Said(self.candidates.champion, guess, others, self.outlook.note(event, self.candidates.champion, guess))
        self._unlabelled.begin(entry, event, at, said, checked, schema.added(event.features, checked))
        for early in self._unlabelled.take_early(scoped_id(event.id, event.key)):
            self._fold(early, decode(early.payload), reports)

    def _went(self, entries: Sequence[Entry], count: int) -> None:
        """Note that so many of these entries were learned."""
        if count:
            self.place.cursor, self.place.number = entries[count - 1].id, entries[count - 1].number
        self._counts["labelled"] += count
        self._model.state.learned += count
        self._model.state.scored += count

    def _turned(
        self,
        entry: Entry,
        event: Observed,
        x: dict[str, Any],
        y: Any,
        guess: Guess,
        error: float | None,
        alarm: Alarm | None,
    ) -> list[Report]:
        """Finish an entry whose error raised an alarm, or a warning."""
        reports = self.place.follow(entry)
        alarms = self._model.react(event.key, [] if alarm is None else [alarm])
        if not self.frozen:
            self._model.learn(event.key, x, y, guess, error)
        self._counts["labelled"] += 1
        self._model.state.scored += 1
        reports.append(Scored(id=event.id, prediction=guess.value, label=y, error=error, state="labelled"))
        self._warn(entry, alarms, reports)
        return reports

    def _is_known(self, entry: Entry, event: Observed, reports: list[Report]) -> bool:
        if scoped_id(event.id, event.key) not in self._unlabelled:
            return False
        reports.append(self._set_aside(entry, f"the prediction {event.id!r} was made already", "id"))
        return True

    def _scored(self, event_id: str, y: Any, guess: Guess, error: float | None, *, learn: bool) -> Scored:
        self._counts["labelled"] += 1
        state = "labelled" if learn else "scored"
        return Scored(id=event_id, prediction=guess.value, label=y, error=error, state=state)

    def _take_label(self, entry: Entry, event: Labelled, reports: list[Report]) -> None:
        name = scoped_id(event.id, event.key)
        y = self._model.label(event.label)
        waiting = self._unlabelled.get(name)
        if waiting is None:
            self._unmatched(entry, event, y, reports)
            return
        checked = self._unlabelled.features(waiting)
        if checked is None:
            reports.append(self._set_aside(entry, f"the features of {event.id!r} are gone from the log", "id"))
            return
        said = waiting.said
        self._unlabelled.finish(name, waiting, Done("labelled"))
        # Learning takes the features that were predicted with, whatever is known by now.
        x = self.schema.encode(checked)
        guess = said.of(self.candidates.champion)
        error, alarms = self._model.meet(waiting.key, x, y, guess, learn=waiting.learn)
        self.outlook.settle(event.id, said, y)
        if waiting.learn:
            self._model.remember_label(waiting.key, waiting.at, checked, y)
        reports.append(self._scored(event.id, y, guess, error, learn=waiting.learn))
        self._warn(entry, alarms, reports)
        reports += self.candidates.meet(x, y, said.by_name, error, learn=waiting.learn, at=self.place.now)

    def _unmatched(self, entry: Entry, event: Labelled, y: Any, reports: list[Report]) -> None:
        name = scoped_id(event.id, event.key)
        done = self._unlabelled.done(name)
        if done is None:
            self._unlabelled.put_early(name, entry, self.place.now)
        elif done.state == "defaulted":
            self._unlabelled.mark(name, Done("late", done.value))
            self._counts["late"] += 1
            reports.append(Scored(id=event.id, prediction=done.value, label=y, state="late"))
        else:
            reports.append(self._set_aside(entry, f"the prediction {event.id!r} was labelled already", "id"))

    def _end_waits(self, reports: list[Report]) -> None:
        for name in self._unlabelled.ended(self.place.now):
            self._counts["defaulted"] += 1
            reports.append(Settled(id=bare_id(name), state="defaulted", closed=True))
        gone = "no prediction waits under its id, or it was made too long ago"
        ended = self._unlabelled.ended_early(self.place.now)
        reports.extend(self._set_aside(early, gone, "id") for early in ended)

    def _replay(self, entry: Entry, event: Replayed, reports: list[Report]) -> None:
        try:
            again = self._rejects.bring_back(event)
        except EventError as error:
            reports.append(self._set_aside(entry, str(error), "event"))
            return
        self._fold(entry, again, reports)

    def _warn(self, entry: Entry, alarms: list[Alarm], reports: list[Report]) -> None:
        for alarm in alarms:
            drifted = Drifted(
                id=f"{entry.id}:{alarm.name}",
                name=alarm.name,
                detector=alarm.detector,
                signal=alarm.signal,
                at=self.place.now,
                entry=str(entry.id),
                evidence=alarm.evidence,
                action=self.spec.on_drift,
            )
            self.alarms = [*self.alarms[-99:], drifted]
            reports.append(drifted)

    def reject(self, entry: Entry, reason: str, field: str | None = None) -> list[Report]:
        """Set an entry aside that broke `apply`, on the state from before it."""
        reports = self.place.follow(entry)
        reports.append(self._set_aside(entry, reason, field))
        return reports

    def _set_aside(self, entry: Entry, reason: str, field: str | None = None) -> Rejected:
        return self._rejects.add(self.place, entry, reason, field)

    def dump(self) -> bytes:
        """The snapshot: everything but the parts."""
        pending, early = self._unlabelled.dump()
        contest = self.candidates.dump()
        state = (self.place, pending, self._counts, self.alarms, early, self.outlook, contest)
        data = pickling.dumps(state)
        if not self.spec.hash_seeded:
            # What was dumped is slow from now on, what is loaded is as fast as new: see `online.pickling`.
            self.candidates.restore(pickling.loads(data)[-1])
        self._size = len(data)
        return pickling.dumps((self._made_by, data))

    @classmethod
    def load(cls, spec: ModelSpec, data: bytes, parts: Parts | None = None) -> "ModelLearner":
        """The learner that this snapshot was dumped from; pending predictions come back with `restore`.

        Raises:
            Stale: It is of another spec, or of another version of River.
        """
        made_by, state = pickling.loads(data)
        if made_by != _made_by(spec):
            raise Stale(f"the snapshot is of {made_by}, the model of {_made_by(spec)}: replay the log")
        learner = cls(spec, parts)
        learner.place, pending, learner._counts, learner.alarms, early, learner.outlook, contest = pickling.loads(state)
        learner._unlabelled.load(pending, early)
        learner.candidates.restore(contest)
        return learner

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since this was asked last."""
        return self._unlabelled.changes() | self._model.changes()

    def index(self) -> dict[str, bytes | None]:
        """The index fields that changed since this was asked last."""
        return self._rejects.changes()

    def oldest(self) -> EntryId | None:
        """The oldest prediction that waits for its label."""
        return self._unlabelled.oldest()

    def deadline(self) -> float:
        """When the next wait is over, in event time; infinite where none will be."""
        return self._unlabelled.deadline()

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take the parts back, after `load`."""
        self._unlabelled.restore(parts)

    def remember(self, entries: Iterable[Entry]) -> None:
        """Take the features of waiting predictions back, after `restore`."""
        self._unlabelled.remember(entries, self.schema.recall)


def _expected(entry: Entry, number: int) -> Observed | None:
    """The observation to learn that an entry holds, where it is whole and the one expected here."""
    if entry.number != number or not entry.intact:
        return None
    try:
        event = decode_quickly(entry.payload)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, Observed) and event.learn else None


def _made_by(spec: ModelSpec) -> tuple[str, str, int]:
    return digest(_plain(spec.source)).hex(), river_version, LAYOUT


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def model_fold(spec: ModelSpec) -> Callable[[bytes | None, Parts], ModelLearner]:
    """Makes learners of a spec, fresh or from a snapshot, for a worker."""

    def make(snapshot: bytes | None, parts: Parts) -> ModelLearner:
        return ModelLearner(spec, parts) if snapshot is None else ModelLearner.load(spec, snapshot, parts)

    return make
