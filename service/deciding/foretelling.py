"""Foretelling: what prediction models say of the entries of an observation, read off their last snapshots."""

from collections.abc import Mapping
from typing import Any

from online.events import Forecast, Scalar
from online.features import FeatureError
from online.model import Prediction
from service.deciding.points import Point
from service.deciding.serving import ServedModel
from service.deciding.store import Store
from service.forecast_specs import ForecastSpec
from service.http.problems import NOTHING, ProblemError, invalid

Features = Mapping[str, Mapping[str, Scalar]]


def foretell(
    store: Store | None,
    point: Point,
    models: Mapping[str, ServedModel],
    request: Any,
    key: str | None,
    now: float,
) -> dict[str, Forecast]:
    """What the models of a point foretell for a request, by entry; what the caller names itself is left alone.

    Args:
        store: Holds the instances of keys; `None` where no model of the point has any.

    Raises:
        ProblemError: A model cannot take the features, or has no forecast where nothing may stand in.
    """
    features: Features = request.features or {}
    for name in features:
        asked = {spec.model for spec in point.spec.forecasts.values()}
        if name not in asked:
            raise invalid(f"features.{name}", f"the models of this point: {', '.join(sorted(asked))}", name)
    found: dict[str, Forecast] = {}
    for name, spec in point.spec.forecasts.items():
        if spec.is_context and point.names(request.context, name):
            continue
        value, why = _value(store, spec, models.get(spec.model), features.get(spec.model, {}), key, now)
        if value is None and spec.default is None and spec.is_context:
            raise invalid(f"context.{name}", f"a number, since {why} and the point declares no default", NOTHING)
        entry = str(models[spec.model].progress.cursor) if spec.model in models else ""
        found[name] = Forecast(spec.model, spec.default if value is None else value, entry, why)
    return found


def _value(
    store: Store | None,
    spec: ForecastSpec,
    model: ServedModel | None,
    features: Mapping[str, Scalar],
    key: str | None,
    now: float,
) -> tuple[float | None, str]:
    """What a model foretells, or why nothing."""
    named = f"the model {spec.model}"
    if model is None:
        return None, f"{named} is not declared"
    whose = None if model.spec.key is None else spec.key or key
    model.parts.store = store
    if not model.learner.knows(whose):
        return None, f"{named} has learned nothing yet" + (f" of {whose}" if whose is not None else "")
    age = now - (now if model.progress.taught is None else model.progress.taught)
    if age > spec.max_age:
        return None, f"{named} has learned nothing for {age:,.0f} s"
    try:
        prediction = model.learner.predict(whose, features)
    except FeatureError as error:
        raise _feature_problem(spec.model, error) from None
    number = number_of(prediction, model.spec.task, spec.of)
    if number is None:
        return None, f"{named} gives no number"
    return spec.fitted(number), ""


def number_of(prediction: Prediction, task: str, of: str | None) -> float | None:
    """The number in a prediction: the one predicted, the probability of a class, or the score; `None` for none.

    >>> number_of(Prediction(True, {"true": 0.75, "false": 0.25}, None), "binary", None)
    0.75
    >>> number_of(Prediction(float("nan"), None, None), "regression", None) is None
    True
    """
    given: Any = prediction.value
    if task == "anomaly":
        given = prediction.score
    elif task in ("binary", "multiclass"):
        shares = prediction.probabilities
        given = None if shares is None else shares.get(of or "true", 0.0)
    return float(given) if isinstance(given, int | float) and given - given == 0.0 else None


def _feature_problem(model: str, error: FeatureError) -> ProblemError:
    field = f"features.{model}" if error.field == "*" else f"features.{model}.{error.field}"
    return invalid(field, error.allowed, NOTHING if error.given is None else error.given)
