"""A model: declared River pipelines, one for all or one per key, with what is measured and watched beside them."""

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from river import compose

from online import pickling
from online.components import construct
from online.drift import Alarm, Bank, Watch
from online.events import Scalar
from online.features import FeatureError, Schema
from online.fold import Parts, Poisoned
from online.history import Hindsight, History
from online.instances import Instance, Instances
from online.specs import SIGNALS, ModelSpec, build
from online.tasks import Baseline, Classification, Clustering, Guess, LabelError, SupervisedAnomaly, Task, task_of

DUEL = 100
"""Labels over which a successor is compared with the model that drifted, at least."""

_FORGET = 0.01

NO_ALARMS: list[Alarm] = []


class Prediction(NamedTuple):
    """What a model answers: label or number, probabilities by class, anomaly score; ``None`` where it has none.

    ``interval`` is what a model of intervals says the number lies in.
    """

    value: Scalar
    probabilities: dict[str, float] | None
    score: float | None
    interval: tuple[float, float] | None = None


@dataclass(slots=True)
class State:
    """What a snapshot holds: ``shared`` is the one pipeline of a model without keys, ``pool`` that behind all keys."""

    schema: Schema
    metrics: list[Any]
    baseline: Baseline
    bank: Bank
    shared: Instance | None
    pool: Instance | None = None
    learned: int = 0
    scored: int = 0
    covered: int = 0
    bracketed: int = 0
    weigh_at: int = 1_000
    stopped: bool = False
    label_type: type | None = None
    frozen: bool = False


class Lane(NamedTuple):
    """The pieces of a model that a plain labelled event goes through, one after the other."""

    model: Any
    task: Task
    metrics: list[Any]
    baseline: Baseline
    watch: Watch | None


class Model:
    """Predicts, scores, detects and learns. ``parts`` fetches the instances of keys that are not in memory."""

    def __init__(self, spec: ModelSpec, parts: Parts | None = None) -> None:
        self.spec = spec
        self._hindsight = Hindsight(spec.pasts)
        self._blank = build(spec)
        metrics = [construct(item) for item in spec.metrics]
        self._task = task_of(spec.task, self._blank, metrics, spec.horizon, spec.threshold)
        self._guesses_plainly = not (spec.learn_during_predict or isinstance(self._task, SupervisedAnomaly))
        self._empty = pickling.dumps(self._blank)
        self._unseen = Instance(self._blank)
        self._keyed = Instances(self._fresh, spec.keys, parts)
        shared = None if spec.key else Instance(build(spec))
        pool = Instance(build(spec)) if spec.pooled else None
        baseline = Baseline(self._task.classifies)
        # A successor that a warning keeps ready is one for the model as a whole.
        self._prepares = spec.on_drift == "replace" and spec.supervised and shared is not None
        bank = Bank.of(spec.detectors, spec.signals, cooldown=spec.cooldown, warned=self._prepares)
        self._set(State(Schema(spec.features), metrics, baseline, bank, shared, pool))

    def _set(self, state: State) -> None:
        self.state = state
        bank = state.bank
        self._watches = {signal: bank.on(signal) for signal in {watch.signal for watch in bank.values()}}
        self._of_features = tuple(signal for signal in self._watches if signal not in SIGNALS)
        self.heeds = self._prepares and any(watch.warner is not None for watch in bank.values())
        before_labels = {*self._of_features, *("score", "prediction", "missing")}
        self.observes = bool(before_labels & self._watches.keys()) or self._task.learns_unlabelled
        learns_plainly = self._guesses_plainly and type(self._task).learn is Task.learn
        self._is_plain = (
            learns_plainly
            and not (self.observes or self.spec.allow_unbounded or self._task.brackets)
            and "label" not in self._watches
            and len(self._watches.get("error", ())) <= 1
            and not self._hindsight
        )

    def figures(self) -> dict[str, float]:
        """Each metric's progressive value: every prediction was made before its label was learned."""
        state = self.state
        if not state.scored:
            return {}
        names = [item.use.rpartition(".")[2] for item in self.spec.metrics]
        found = {name: float(metric.get()) for name, metric in zip(names, state.metrics, strict=True)}
        if state.bracketed:
            found["Coverage"] = state.covered / state.bracketed
        return {name: value for name, value in found.items() if value - value == 0.0 and self._says(name)}

    def warnings(self) -> list[str]:
        """The names of the watches that see a change coming."""
        return [name for name, watch in self.state.bank.items() if watch.warning]

    def _says(self, metric: str) -> bool:
        """Whether a metric has seen enough to mean something."""
        if metric == "R2":
            return self.state.scored > 1
        return metric != "ROCAUC" or len(self.state.baseline.classes) > 1

    def predict(self, key: str | None, features: Mapping[str, Scalar], at: float = 0.0) -> Prediction:
        """The answer at this event time; changes nothing.

        Raises:
            FeatureError: The features are not what the model takes.
        """
        checked = self.state.schema.check(dict(features))
        instance = self._find(key)
        model = (instance or self.state.pool or self._unseen).model
        if self._hindsight:
            checked |= self._hindsight.columns(None if instance is None else instance.history, at, checked)
        x = self.state.schema.encode(checked)
        try:
            task = self._task
            guess = task.full_guess(model, x) if isinstance(task, Classification) else task.guess(model, x)
        except Exception as error:  # a pipeline may raise anything on features that it cannot take
            raise FeatureError("*", dict(features), f"what the pipeline takes ({_said(error)})") from error
        return Prediction(guess.value, _by_name(guess.probabilities), guess.score, guess.interval)

    def knows(self, key: str | None) -> bool:
        """Whether anything was learned that speaks for a key."""
        return self.state.learned > 0 and (self.state.pool is not None or self._find(key) is not None)

    def look_back(self, key: str | None, at: float, checked: dict[str, Any]) -> None:
        """Add the declared figures of earlier events to the features of a case."""
        if self._hindsight:
            instance = self.state.shared or self._find(key)
            checked |= self._hindsight.columns(None if instance is None else instance.history, at, checked)

    def remember(self, key: str | None, at: float, checked: Mapping[str, Any]) -> None:
        """Remember the features of a case for the figures of later ones."""
        if self._hindsight:
            self._hindsight.note(self._history(key), at, checked)

    def remember_label(self, key: str | None, at: float, checked: Mapping[str, Any], y: Any) -> None:
        """Remember the label of a case for the figures of later ones."""
        if self._hindsight and isinstance(y, int | float):
            self._hindsight.note_label(self._history(key), at, checked, y)

    def _history(self, key: str | None) -> History:
        instance = self._instance(key)
        self._note(key)
        if instance.history is None:
            instance.history = History()
        return instance.history

    def label(self, given: Scalar) -> Any:
        """A label as the task takes it; the first one settles the type. Raises `LabelError`."""
        known = self.state.label_type
        if given.__class__ is bool and known is bool:
            return given
        y = self._task.label(given)
        if self._task.classifies and known is not None and type(y) is not known:
            raise LabelError(given, f"a {known.__name__}, as the first label was")
        return y

    def guess(self, key: str | None, x: dict[str, Any], y: Any = None) -> Guess:
        """The fold's own prediction. Raises `Poisoned`. The label matters to supervised anomaly scores alone."""
        model, task = (self.state.shared or self._instance(key)).model, self._task
        try:
            if self._guesses_plainly:
                return task.guess(model, x)
            if isinstance(task, SupervisedAnomaly) and y is not None:
                return task.guess_labelled(model, x, y)
            with compose.learn_during_predict() if self.spec.learn_during_predict else nullcontext():
                return task.guess(model, x)
        except Exception as error:  # River's classes raise anything, and may have changed on the way
            raise Poisoned(f"predicting failed: {_said(error)}", "features") from error

    def observe(
        self, key: str | None, given: Mapping[str, Any], checked: Mapping[str, Any], x: dict[str, Any], guess: Guess
    ) -> list[Alarm]:
        """Take in features: watch them, and learn where the task needs no label. Asked for only if `observes`.

        ``given`` are the features as they came, ``checked`` with what stands in for the missing ones.
        """
        state = self.state
        alarms: list[Alarm] = []
        for name in self._of_features:
            if name in checked:
                alarms += self._watch(key, name, _as_number(checked[name]))
        if guess.score is not None:
            alarms += self._watch(key, "score", guess.score)
        alarms += self._watch(key, "prediction", _as_number(guess.value))
        if "missing" in self._watches:
            alarms += self._watch(key, "missing", state.schema.missing(given))
        if self._task.learns_unlabelled and not state.frozen:
            instance = self._instance(key)
            if isinstance(self._task, Clustering):
                self._task.score_clusters(state.metrics, instance.model, x, guess)
                state.scored += guess.value is not None
            self._teach(instance, self._task.learn_unlabelled, x)
            self._note(key)
            state.learned += 1
        return alarms

    def meet(
        self, key: str | None, x: dict[str, Any], y: Any, guess: Guess, *, learn: bool
    ) -> tuple[float | None, list[Alarm]]:
        """A prediction meets its label: score, detect, learn. The error, and the alarms raised.

        Raises:
            Poisoned: Learning failed half-way, or left the model without finite predictions.
        """
        state, task = self.state, self._task
        try:
            task.score(state.metrics, y, guess)
        except Exception as fault:  # a square may overflow; some metrics of the list have taken the label by then
            raise Poisoned(f"scoring failed: {_said(fault)}") from fault
        if guess.value is not None or guess.score is not None:
            state.scored += 1
        if guess.interval is not None:
            state.bracketed += 1
            state.covered += guess.interval[0] <= y <= guess.interval[1]
        state.baseline.update(y)
        error = task.error(y, guess)
        alarms = NO_ALARMS if error is None else self._watch(key, "error", error)
        if "label" in self._watches:
            alarms = alarms + self._watch(key, "label", _as_number(y))
        if learn and not (state.frozen or task.learns_unlabelled):
            self.learn(key, x, y, guess, error)
        return error, alarms

    def learn(self, key: str | None, x: dict[str, Any], y: Any, guess: Guess, error: float | None) -> None:
        """Learn a label. Raises `Poisoned`."""
        state, task = self.state, self._task
        instance = state.shared or self._instance(key)
        if instance.successor is not None:
            self._duel(instance, x, y, error)
        self._teach(instance, task.learn, x, y)
        self._note(key)
        if not task.classifies and guess.value is not None and task.is_risky(y, guess):
            self._check_finite(key, x)
        state.learned += 1
        if state.label_type is None:
            state.label_type = type(y)
        if self.spec.allow_unbounded and state.learned >= state.weigh_at:
            self._weigh(instance)

    def resume(self) -> None:
        """Learn again after a drift stopped it. A model that has outgrown its ceiling stays as it is."""
        self.state.frozen = self.state.stopped

    @property
    def halted(self) -> str | None:
        """Why it learns no more: ``ceiling``, or ``drift`` until somebody resumes it; ``None`` where it does."""
        state = self.state
        return "ceiling" if state.stopped else "drift" if state.frozen else None

    def _weigh(self, instance: Instance) -> None:
        """Stop learning where a model that may grow has outgrown its ceiling.

        Asked at counts of labels, and never by the clock: a replay must stop at the same one.
        """
        state = self.state
        state.weigh_at = state.learned + max(1_000, state.learned // 4)
        if len(pickling.dumps(instance)) > self.spec.ceiling:
            state.stopped = state.frozen = True

    def lane(self) -> "Lane | None":
        """What a plain labelled event needs; ``None`` where other things than weights may change."""
        state, shared = self.state, self.state.shared
        if not self._is_plain or shared is None or shared.successor is not None:
            return None
        if state.frozen or state.label_type is None:
            return None
        watch = next(iter(self._watches.get("error", ())), None)
        return Lane(shared.model, self._task, state.metrics, state.baseline, watch)

    def _teach(self, instance: Instance, learn: Callable[..., None], *lesson: Any) -> None:
        try:
            with compose.learn_during_predict() if self.spec.learn_during_predict else nullcontext():
                learn(instance.model, *lesson)
            if instance.successor is not None:
                learn(instance.successor, *lesson)
            if self.state.pool is not None:
                learn(self.state.pool.model, *lesson)
        except Exception as error:  # River's classes raise anything, and have changed on the way
            raise Poisoned(f"learning failed: {_said(error)}") from error

    def _check_finite(self, key: str | None, x: dict[str, Any]) -> None:
        pool = self.state.pool
        if self.guess(key, x).value is None or (pool is not None and self._task.guess(pool.model, x).value is None):
            raise Poisoned("after learning this event the model's predictions are no longer finite")

    def _watch(self, key: str | None, signal: str, value: float) -> list[Alarm]:
        """Show a signal's value to its detectors, and react to the alarms and warnings."""
        watches = self._watches.get(signal)
        if watches is None:
            return NO_ALARMS
        alarms = [alarm for watch in watches if (alarm := watch.update(value)) is not None]
        return self.react(key, alarms) if alarms or self.heeds else NO_ALARMS

    def _heed(self) -> None:
        """Keep a successor ready as long as something warns."""
        instance = self.state.shared
        if instance is None or instance.drifted:
            return
        warned = bool(self.warnings())
        if warned and instance.successor is None:
            self._begin(instance)
        elif not warned:
            instance.successor = None

    def _begin(self, instance: Instance) -> None:
        """Put an untaught successor beside an instance."""
        instance.successor = copy.deepcopy(self._blank)
        instance.duels, instance.errors, instance.succeeding = 0, 0.0, 0.0

    def react(self, key: str | None, alarms: list[Alarm]) -> list[Alarm]:
        """Do what the spec wants done about alarms, and about warnings where there are none."""
        if alarms:
            self._act(self._instance(key))
            self._note(key)
        if self.heeds:
            self._heed()
        return alarms

    def _act(self, instance: Instance) -> None:
        """What the spec wants done about a drift."""
        match self.spec.on_drift:
            case "reset":
                instance.model = copy.deepcopy(self._blank)
            case "replace" if self.spec.supervised:
                # One that an earlier alarm asked for has learned the former concept.
                if instance.successor is None or instance.drifted:
                    self._begin(instance)
                instance.drifted = True
            case "replace":
                instance.model = copy.deepcopy(self._blank)
            case "raise":
                self.state.frozen = True

    def _duel(self, instance: Instance, x: dict[str, Any], y: Any, error: float | None) -> None:
        """Replaces a model that drifted once its successor, fresh since the warning or the alarm, errs less."""
        other = self._task.error(y, self._task.guess(instance.successor, x))
        if error is None or other is None:
            return
        instance.duels += 1
        weight = max(_FORGET, 1.0 / instance.duels)
        instance.errors += weight * (error - instance.errors)
        instance.succeeding += weight * (other - instance.succeeding)
        if instance.drifted and instance.duels >= DUEL and instance.succeeding < instance.errors:
            instance.model, instance.successor, instance.drifted = instance.successor, None, False

    def _instance(self, key: str | None) -> Instance:
        return self.state.shared or self._keyed.take(_named(key, self.spec))

    def _find(self, key: str | None) -> Instance | None:
        return self.state.shared or self._keyed.find(_named(key, self.spec))

    def _note(self, key: str | None) -> None:
        """Say that a key's instance changed."""
        if key is not None and self.state.shared is None:
            self._keyed.note(key)

    def _fresh(self) -> Any:
        """What a new key begins with: a copy of the pooled pipeline, or a new one."""
        pool = self.state.pool
        return pickling.loads(self._empty if pool is None else pickling.dumps(pool.model))

    def restore(self, state: State) -> None:
        """Take the state of a snapshot."""
        self._set(state)

    def changes(self) -> dict[str, bytes | None]:
        """The instances that changed since this was asked last."""
        return self._keyed.changes()


def _named(key: str | None, spec: ModelSpec) -> str:
    if key is None:
        raise FeatureError("key", None, f"a {spec.key}: the model keeps one instance for each")
    return key


def _as_number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _by_name(probabilities: Mapping[Any, float] | None) -> dict[str, float] | None:
    """Probabilities as they are shown: classes as JSON writes them, nothing where one is not finite."""
    if probabilities is None or any(p != p for p in probabilities.values()):
        return None
    return {_class_name(label): float(p) for label, p in probabilities.items()}


def _class_name(label: Any) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
