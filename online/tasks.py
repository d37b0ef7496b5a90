"""What each task means: how a River model predicts, learns and is scored, and the simple rule it must beat."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from river import base, compose, conf

from online.events import Scalar
from online.features import LIMIT

RISKY = 1e8
"""From this magnitude of a label or a prediction on, a model is asked again after it learned: is it still finite?"""


class LabelError(ValueError):
    """A label that the task cannot take."""

    def __init__(self, given: object, allowed: str) -> None:
        super().__init__(f"the label is {given!r}; allowed is {allowed}")
        self.given = given
        self.allowed = allowed


class Guess(msgspec.Struct, frozen=True, gc=False):
    """A prediction: the label or number (``None`` where the model has none yet), probabilities, anomaly score.

    ``interval`` is what a model of intervals says the number lies in.
    """

    value: Any = None
    probabilities: dict[Any, float] | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None


NOTHING = Guess()


class Task:
    """A task's way with a model. Stateless; one method call per event and step."""

    learns_unlabelled = False
    classifies = False
    brackets = False
    """Whether predictions come with an interval."""

    def label(self, given: Scalar) -> Any:
        """The label as River takes it. Raises `LabelError`."""
        raise NotImplementedError

    def guess(self, model: Any, x: dict[str, Any]) -> Guess:
        """A prediction; the model stays as it is."""
        raise NotImplementedError

    def learn(self, model: Any, x: dict[str, Any], y: Any) -> None:
        """Teach the model a label."""
        model.learn_one(x, y)

    def learn_unlabelled(self, model: Any, x: dict[str, Any]) -> None:
        """Teach the model features alone."""

    def error(self, y: Any, guess: Guess) -> float | None:
        """How wrong a prediction was: 0 or 1 for classes, absolute for numbers; ``None`` where there was none."""
        value = guess.value
        if value is None:
            return None
        return 0.0 if value == y else 1.0

    def score(self, metrics: Sequence[Any], y: Any, guess: Guess) -> None:
        """Update metrics with a label and what was predicted."""
        if guess.value is not None:
            for metric in metrics:
                metric.update(y, guess.value)

    def is_risky(self, y: Any, guess: Guess) -> bool:  # noqa: ARG002
        """Whether learning this label might leave the model without finite weights."""
        return False


class Classification(Task):
    """Classes, with probabilities where the model has them."""

    classifies = True

    def __init__(self, model: Any, metrics: Sequence[Any], *, binary: bool) -> None:
        last = _last(model)
        self._binary = binary
        # Where the label is the most probable class, one call gives both.
        self._derives = type(last).predict_one is base.Classifier.predict_one
        self._probabilities = type(last).predict_proba_one is not base.Classifier.predict_proba_one
        self._of_labels = [getattr(metric, "requires_labels", True) for metric in metrics]
        self._all_of_labels = all(self._of_labels)
        self._asks_twice = self._probabilities and not (self._derives or self._all_of_labels)

    def label(self, given: Scalar) -> Any:
        """Binary: a boolean, or 0 and 1. Multiclass: a text, an integer or a boolean."""
        if self._binary:
            if isinstance(given, bool) or (isinstance(given, int) and given in (0, 1)):
                return bool(given)
            raise LabelError(given, "true or false, or 1 or 0")
        if isinstance(given, str | int):
            return given
        raise LabelError(given, "a text, an integer or a boolean")

    def guess(self, model: Any, x: dict[str, Any]) -> Guess:
        """The most probable class, and the probabilities where they come with it or a metric wants them."""
        if self._derives:
            probabilities = model.predict_proba_one(x)
            if not probabilities:
                return NOTHING
            return Guess(max(probabilities, key=probabilities.get), probabilities)
        value = model.predict_one(x)
        if value is None:
            return NOTHING
        return Guess(value, model.predict_proba_one(x) if self._asks_twice else None)

    def full_guess(self, model: Any, x: dict[str, Any]) -> Guess:
        """Class and probabilities, whatever it costs."""
        found = self.guess(model, x)
        if found.value is None or found.probabilities is not None or not self._probabilities:
            return found
        return Guess(found.value, model.predict_proba_one(x), found.score)

    def score(self, metrics: Sequence[Any], y: Any, guess: Guess) -> None:
        """Metrics of labels take the class, metrics of probabilities the probabilities."""
        value, probabilities = guess.value, guess.probabilities
        if value is None:
            return
        if self._all_of_labels:
            for metric in metrics:
                metric.update(y, value)
            return
        for metric, of_labels in zip(metrics, self._of_labels, strict=True):
            if of_labels:
                metric.update(y, value)
            elif probabilities is not None:
                metric.update(y, probabilities)


class Regression(Task):
    """Numbers."""

    def label(self, given: Scalar) -> Any:
        """A finite number."""
        return _number(given)

    def guess(self, model: Any, x: dict[str, Any]) -> Guess:
        """The number predicted, nothing where it is not finite."""
        return _finite(model.predict_one(x))

    def error(self, y: Any, guess: Guess) -> float | None:
        """The absolute error."""
        return None if guess.value is None else abs(y - guess.value)

    def is_risky(self, y: Any, guess: Guess) -> bool:
        """Large numbers are what a linear model breaks on."""
        return guess.value is None or not (-RISKY < y < RISKY and -RISKY < guess.value < RISKY)


class Bracketing(Regression):
    """Numbers, each with an interval that holds it with a declared probability."""

    brackets = True

    def guess(self, model: Any, x: dict[str, Any]) -> Guess:
        """The number and its interval, nothing where either is not finite."""
        guess = _finite(model.predict_one(x))
        found = model.predict_one(x, with_interval=True)
        # Before it has seen errors to go by, a model's interval is the prediction alone.
        if guess.value is None or not -math.inf < found.lower < found.upper < math.inf:
            return guess
        return Guess(guess.value, None, None, (float(found.lower), float(found.upper)))


class Recommendation(Regression):
    """A user's liking for an item: features ``user`` and ``item``, the rest is context."""

    def guess(self, model: Any, x: dict[str, Any]) -> Guess:
        """The liking predicted for this pair."""
        user, item, context = _pair(x)
        return _finite(model.predict_one(user, item, context))

    def learn(self, model: Any, x: dict[str, Any], y: Any) -> None:
        """Teach the model a liking."""
        user, item, context = _pair(x)
        model.learn_one(user, item, y, context)


class Forecasting(Regression):
    """The value ``horizon`` steps ahead. What is scored is the forecast made that many steps ago."""

    def __init__(self, horizon: int) -> None:
        self._horizon = horizon

    def guess(self, model: Any, x: dict[str, Any]) -> Guess:
        """The forecast for the last step of the horizon; features are taken to stay as they are."""
        try:
            found = model.forecast(self._horizon, [x] * self._horizon if x else None)
        except (IndexError, ZeroDivisionError):
            # Before its first season is over, a model may have nothing to look back on.
            return NOTHING
        return _finite(found[-1])

    def learn(self, model: Any, x: dict[str, Any], y: Any) -> None:
        """Teach the model the series' next value."""
        model.learn_one(y, x or None)


class Anomaly(Task):
    """Scores of what is unusual; learns from features alone, and is scored where labels come."""

    learns_unlabelled = True

    def __init__(self, threshold: float | None) -> None:
        self._threshold = threshold

    def label(self, given: Scalar) -> Any:
        """Whether it was an anomaly."""
        if isinstance(given, bool) or (isinstance(given, int) and given in (0, 1)):
            return bool(given)
        raise LabelError(given, "true or false, or 1 or 0")

    def guess(self, model: Any, x: dict[str, Any]) -> Guess:
        """The score, and whether it reaches the threshold."""
        score = _finite(model.score_one(x)).value
        if score is None:
            return NOTHING
        last = _last(model)
        if isinstance(last, base.AnomalyFilter):
            return Guess(bool(last.classify(score)), None, score)
        return Guess(None if self._threshold is None else score >= self._threshold, None, score)

    def learn(self, model: Any, x: dict[str, Any], y: Any) -> None:
        """Labels teach nothing here."""

    def learn_unlabelled(self, model: Any, x: dict[str, Any]) -> None:
        """Teach the model what is usual."""
        model.learn_one(x)

    def score(self, metrics: Sequence[Any], y: Any, guess: Guess) -> None:
        """Metrics of probabilities take the score; those of labels the verdict."""
        for metric in metrics:
            if not metric.requires_labels and guess.score is not None:
                metric.update(y, {True: guess.score, False: 1.0 - guess.score})
            elif metric.requires_labels and guess.value is not None:
                metric.update(y, guess.value)


class SupervisedAnomaly(Anomaly):
    """Scores of how unusual a number is, given its features: the label is that number."""

    learns_unlabelled = False

    def label(self, given: Scalar) -> Any:
        """A finite number."""
        return _number(given)

    def guess(self, model: Any, x: dict[str, Any]) -> Guess:  # noqa: ARG002
        """Nothing: there is no score before the number is known."""
        return NOTHING

    def guess_labelled(self, model: Any, x: dict[str, Any], y: float) -> Guess:
        """The score of a number."""
        score = _finite(model.score_one(x, y)).value
        verdict = None if score is None or self._threshold is None else score >= self._threshold
        return Guess(verdict, None, score)

    def learn(self, model: Any, x: dict[str, Any], y: Any) -> None:
        """Teach the model what is usual."""
        model.learn_one(x, y)

    def score(self, metrics: Sequence[Any], y: Any, guess: Guess) -> None:
        """The number is no verdict: there is nothing to score against."""


class Clustering(Task):
    """Clusters; learns from features alone."""

    learns_unlabelled = True

    def label(self, given: Scalar) -> Any:
        """A true cluster, for reports alone."""
        if given is None or isinstance(given, float):
            raise LabelError(given, "a text, an integer or a boolean")
        return given

    def guess(self, model: Any, x: dict[str, Any]) -> Guess:
        """The cluster these features belong to."""
        try:
            return Guess(int(model.predict_one(x)))
        except (KeyError, ValueError, IndexError, ZeroDivisionError):
            # Before the first clusters exist, some models have no answer and say so in these ways.
            return NOTHING

    def learn(self, model: Any, x: dict[str, Any], y: Any) -> None:
        """Labels teach nothing here."""

    def learn_unlabelled(self, model: Any, x: dict[str, Any]) -> None:
        """Teach the model where features lie."""
        model.learn_one(x)

    def error(self, y: Any, guess: Guess) -> float | None:  # noqa: ARG002
        """None: a cluster's number is not a class."""
        return None

    def score(self, metrics: Sequence[Any], y: Any, guess: Guess) -> None:
        """Labels score nothing here."""

    def score_clusters(self, metrics: Sequence[Any], model: Any, x: dict[str, Any], guess: Guess) -> None:
        """The silhouette, where the model shows its centres."""
        centres = getattr(_last(model), "centers", None)
        if guess.value is not None and centres and guess.value in centres:
            for metric in metrics:
                metric.update(x, guess.value, centres)


def task_of(name: str, model: Any, metrics: Sequence[Any], horizon: int, threshold: float | None) -> Task:
    """The task of a spec's model."""
    match name:
        case "binary" | "multiclass":
            return Classification(model, metrics, binary=name == "binary")
        case "recommendation":
            return Recommendation()
        case "forecasting":
            return Forecasting(horizon)
        case "clustering":
            return Clustering()
        case "anomaly" if isinstance(_last(model), base.SupervisedAnomalyDetector):
            return SupervisedAnomaly(threshold)
        case "anomaly":
            return Anomaly(threshold)
    return Bracketing() if isinstance(_last(model), conf.RegressionJackknife) else Regression()


def _last(model: Any) -> Any:
    while isinstance(model, compose.Pipeline):
        model = model._last_step
    return model


def _number(given: Scalar) -> float:
    if isinstance(given, int | float) and not isinstance(given, bool) and -LIMIT <= given <= LIMIT:
        return given
    raise LabelError(given, f"a finite number, at most {LIMIT:g} in size")


def _finite(value: Any) -> Guess:
    """A number that may be shown; some River models answer with arrays of one number, or none."""
    if type(value) is not float:
        if value is None:
            return NOTHING
        value = value.item() if hasattr(value, "item") else value
    return Guess(value) if value - value == 0 else NOTHING


def _pair(x: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any] | None]:
    context = {name: value for name, value in x.items() if name not in ("user", "item")}
    return x["user"], x["item"], context or None


@dataclass(slots=True)
class Baseline:
    """The rules that a model must beat, over the same labels: the last one again, and the most frequent or the mean."""

    classifies: bool
    count: int = 0
    last: Any = None
    no_change: float = 0.0
    steady: float = 0.0
    mean: float = 0.0
    classes: dict[Any, int] = field(default_factory=dict)
    top: Any = None
    top_count: int = 0

    def update(self, y: Any) -> None:
        """One more label."""
        if self.classifies:
            if y == self.last:
                self.no_change += 1
            classes = self.classes
            seen = classes[y] = classes[y] + 1 if y in classes else 1
            if y == self.top:
                self.steady += 1
                self.top_count = seen
            elif seen > self.top_count:
                self.top, self.top_count = y, seen
        else:
            if self.count:
                self.no_change += abs(y - self.last)
                self.steady += abs(y - self.mean)
            self.mean += (y - self.mean) / (self.count + 1)
        self.last = y
        self.count += 1

    def figures(self) -> dict[str, float]:
        """Accuracy of the two rules for classes, mean absolute error for numbers; empty before the second label."""
        if self.count < 2:
            return {}
        names = ("no-change accuracy", "majority accuracy") if self.classifies else ("no-change MAE", "mean MAE")
        return dict(zip(names, (self.no_change / (self.count - 1), self.steady / (self.count - 1)), strict=True))
