"""The features of a model as they are declared: their types, what stands in for missing values, figures of the past."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from online.features import ENCODINGS, IMPUTATIONS, LIMIT, TYPES, Feature
from online.history import KEPT, LABEL, PARTS, STATS, Past
from online.reading import SpecError, boolean, choice, duration, integer, number, texts


def features_of(given: object, path: str, task: str) -> Mapping[str, Feature] | None:
    """The declared features by name, ``None`` where none are. Raises `SpecError`."""
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise SpecError(path, given, 'a table of features, such as {temperature = {type = "number", unit = "K"}}')
    tables = {str(name): _table(table, f"{path}.{name}") for name, table in given.items()}
    past = {name for name, table in tables.items() if table.get("type") == "history"}
    plain = {name: _feature(name, table, f"{path}.{name}") for name, table in tables.items() if name not in past}
    return {
        name: _history(name, table, f"{path}.{name}", plain, task) if name in past else plain[name]
        for name, table in tables.items()
    }


def _table(given: object, path: str) -> Mapping[str, Any]:
    table = {"type": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping):
        raise SpecError(path, given, 'a table such as {type = "number", unit = "K"}')
    return table


def _known(table: Mapping[str, Any], known: list[str], path: str) -> None:
    for key in table:
        if key not in known:
            raise SpecError(f"{path}.{key}", table[key], f"a field of a feature: {', '.join(known)}")


def _history(name: str, table: Mapping[str, Any], path: str, plain: Mapping[str, Feature], task: str) -> Feature:
    """A feature that is a figure of earlier events: ``of`` a number or the label, by ``lag``, ``over`` or ``by``."""
    _known(table, ["type", "unit", "doc", "default", "of", "lag", "stat", "over", "by"], path)
    sources = [known for known, feature in plain.items() if feature.type in ("number", "boolean")]
    if task in ("binary", "regression", "forecasting"):
        sources.append(LABEL)
    groups = (*PARTS, *(known for known, feature in plain.items() if feature.type == "category"))
    if sum(key in table for key in ("lag", "over", "by")) != 1 or ("lag" in table) == ("stat" in table):
        raise SpecError(path, dict(table), 'a lag; or a stat and either over or by, such as stat = "mean", over = "1h"')
    lag, ago = _count_or_seconds(table.get("lag"), f"{path}.lag")
    last, seconds = _count_or_seconds(table.get("over"), f"{path}.over")
    past = Past(
        name=name,
        of=choice(table.get("of"), tuple(sources), f"{path}.of"),
        lag=lag,
        ago=ago,
        stat=choice(table["stat"], STATS, f"{path}.stat") if "stat" in table else "",
        last=last,
        seconds=seconds,
        by=choice(table["by"], groups, f"{path}.by") if "by" in table else "",
        default=number(table.get("default"), f"{path}.default"),
    )
    unit, doc = str(table.get("unit", "")), str(table.get("doc", ""))
    return Feature(name=name, type="history", unit=unit, doc=doc, past=past)


def _count_or_seconds(given: Any, path: str) -> tuple[int, float]:
    if given is None:
        return 0, 0.0
    if isinstance(given, int) and not isinstance(given, bool):
        if not 1 <= given <= KEPT:
            raise SpecError(path, given, f"a number of values from 1 to {KEPT}, or a duration such as 24h")
        return given, 0.0
    return 0, duration(given, path) or 0.0


def _feature(name: str, table: Mapping[str, Any], path: str) -> Feature:
    known = [item.name for item in fields(Feature) if item.name not in ("name", "low", "high", "past")] + ["range"]
    _known(table, known, path)
    kind = choice(table.get("type", "number"), TYPES, f"{path}.type")
    low, high = _range(table.get("range", [-LIMIT, LIMIT]), f"{path}.range")
    encodings = ENCODINGS.get(kind, ("",))
    values = table.get("values")
    imputations = IMPUTATIONS if kind == "number" else ("last",)
    feature = Feature(
        name=name,
        type=kind,
        unit=str(table.get("unit", "")),
        doc=str(table.get("doc", "")),
        required=boolean(table, "required", path, default=True),
        low=low,
        high=high,
        values=None if values is None else texts(values, f"{path}.values"),
        encode=choice(table.get("encode", encodings[0]), encodings, f"{path}.encode"),
        buckets=integer(table, "buckets", path, 64, 65_536),
        parts=_parts(table.get("parts", ("hour", "weekday")), f"{path}.parts"),
        cycle=boolean(table, "cycle", path, default=True),
        impute=choice(table["impute"], imputations, f"{path}.impute") if "impute" in table else "",
    )
    return _with_default(feature, table.get("default"), f"{path}.default")


def _with_default(feature: Feature, default: Any, path: str) -> Feature:
    if default is None:
        return feature
    try:
        value = feature.check(default)
    except ValueError as error:
        raise SpecError(path, default, feature.allowed) from error
    described = {item.name: getattr(feature, item.name) for item in fields(Feature)}
    return Feature(**{**described, "default": value})


def _range(given: object, path: str) -> tuple[float, float]:
    if isinstance(given, list | tuple) and len(given) == 2:
        low, high = number(given[0], path), number(given[1], path)
        if low is not None and high is not None and low < high:
            return max(low, -LIMIT), min(high, LIMIT)
    raise SpecError(path, given, "two numbers, the lower first")


def _parts(given: object, path: str) -> tuple[str, ...]:
    return tuple(choice(text, PARTS, path) for text in texts(given, path))
