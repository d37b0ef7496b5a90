"""Forecasts as declared: entries of a point's observation that a prediction model foretells at decision time."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from msgspec import Struct

from envs.dynamics import Field, World
from online import durations
from online.reading import SpecError
from online.specs import ModelSpec

_NUMBERS = ("regression", "forecasting")
_CLASSES = ("binary", "multiclass")
TASKS = (*_NUMBERS, *_CLASSES, "anomaly")
"""What a model may do for its answer to be a number: predict one, or give a probability or a score."""

Ranges: TypeAlias = Mapping[str, tuple[float, float]]


class ForecastTable(Struct, frozen=True, forbid_unknown_fields=True):
    """One forecast as the manifest writes it."""

    model: str
    key: str | None = None
    of: str | None = None
    max_age: str | int | float = "1d"
    default: int | float | None = None


@dataclass(frozen=True)
class ForecastSpec:
    """Where one entry of a point's observation comes from.

    Attributes:
        entry: An entry of the context, or one of the parameters that policies observe.
        is_context: Which of the two.
        model: Who foretells it.
        key: Whose instance of the model; the request's key, where left out and the model has keys.
        of: The class whose probability it is, where the model classifies; `true` for a binary one, if left out.
        max_age: Seconds without anything learned after which the model's word counts no more.
        default: What stands in. Without one a context's entry must be named by the caller, and a parameter is as the
            outcomes have it.
        low, high: Beyond these a forecast counts as the nearer of them.
        whole: Whether only whole numbers are meant.
    """

    entry: str
    is_context: bool
    model: str
    key: str | None
    of: str | None
    max_age: float
    default: float | None
    low: float
    high: float
    whole: bool = False

    def fitted(self, value: float) -> float:
        """A number as the entry can have it: the nearest one.

        >>> ForecastSpec("stock", True, "counts", None, None, 60.0, None, 0.0, 20.0, whole=True).fitted(3.7)
        4.0
        """
        rounded = round(value) if self.whole else value
        return float(min(max(rounded, self.low), self.high))


def forecast_specs(
    path: str, tables: Mapping[str, ForecastTable], world: World, ranges: Ranges
) -> Mapping[str, ForecastSpec]:
    """The forecasts of one point, by entry.

    Raises:
        SpecError: An entry that policies do not observe, or a number that it cannot have.
    """
    context = {entry.name: entry for entry in world.context}
    single = {name for name in ranges if world.tunable.get(name) == 1}
    found = {}
    for name, table in tables.items():
        if name not in context and name not in single:
            entries = ", ".join((*context, *(name for name in ranges if name in single)))
            raise SpecError(path, name, f"entries of the context, or parameters in `ranges`: {entries}")
        bounds = context.get(name) or Field(name, "", *ranges[name], "")
        found[name] = _spec(f"{path}.{name}", name in context, bounds, table)
    return MappingProxyType(found)


def _spec(path: str, is_context: bool, entry: Field, table: ForecastTable) -> ForecastSpec:
    try:
        max_age = durations.seconds(table.max_age)
    except ValueError as error:
        raise SpecError(f"{path}.max_age", table.max_age, str(error)) from None
    default = None if table.default is None else float(table.default)
    if default is not None and not (np.isfinite(default) and entry.low <= default <= entry.high):
        raise SpecError(f"{path}.default", table.default, f"a number from {entry.low:g} to {entry.high:g}")
    return ForecastSpec(
        entry.name,
        is_context,
        table.model,
        table.key,
        table.of,
        max_age,
        default,
        float(entry.low),
        float(entry.high),
        entry.whole,
    )


def check_forecasts(
    path: str, key: str | None, specs: Mapping[str, ForecastSpec], models: Mapping[str, ModelSpec]
) -> None:
    """Refuses forecasts that the models cannot give.

    Args:
        key: What the point's key is.

    Raises:
        SpecError: No such model, no number to be had from it, or no instance of it to ask.
    """
    for name, spec in specs.items():
        model = models.get(spec.model)
        if model is None:
            allowed = f"models that are declared: {', '.join(models) or 'there are none'}"
            raise SpecError(f"{path}.{name}.model", spec.model, allowed)
        if model.task not in TASKS:
            raise SpecError(f"{path}.{name}.model", spec.model, f"a model whose task is {', '.join(TASKS)}")
        if (model.task == "multiclass" and spec.of is None) or (model.task not in _CLASSES and spec.of is not None):
            allowed = "left out: the model has no classes" if spec.of else "the class whose probability is meant"
            raise SpecError(f"{path}.{name}.of", spec.of, allowed)
        if model.key is None and spec.key is not None:
            raise SpecError(f"{path}.{name}.key", spec.key, f"left out: {spec.model} declares no key")
        if model.key is not None and spec.key is None and model.key != key:
            allowed = f"the {model.key} whose instance is asked: the point's own key is {key or 'not declared'}"
            raise SpecError(f"{path}.{name}.key", spec.key, allowed)
