"""The worlds by name, and how parameters that people write become a world."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.dynamics import Array, Field, ParamsError, World
from envs.pricing import Pricing, PricingParams

__all__ = ["WORLDS", "ParamsError", "WorldKind", "make"]

LADDER_LEVELS = 41
_LADDER_LIMIT = 10_000
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class WorldKind:
    """A world before it has parameters.

    Args:
        id: its name in the CLI, the manifest and over HTTP.
        doc: what it is about, in one line.
        parameters: what can be given, with units and ranges.
        defaults: what holds where nothing is given; `None` for what is derived from the others.
        timing: the order of events in one period.
        source: where it comes from.
        build: makes the world of parameters that have been read and checked.
    """

    id: str
    doc: str
    parameters: tuple[Field, ...]
    defaults: Mapping[str, Any]
    timing: str
    source: str
    build: Callable[[dict[str, Any], Ranges], World]


def make(name: str, params: Mapping[str, Any] | None = None, ranges: Ranges | None = None) -> World:
    """The world `name` under the given parameters, the kind's defaults for the rest.

    Args:
        name: one of `WORLDS`.
        params: numbers, lists (`[1, 2]`, `"0.5:4.25:0.25"` with both ends, `{"geometric": [low, high, n]}`), or `"any"`
            for prices without a ladder; text is understood as the CLI writes it.
        ranges: where parameters will vary; what is fixed once for all (a default price ladder) covers these too.

    Raises:
        ParamsError: an unknown world or field, or a value that makes no world.

    >>> make("pricing", {"stock": 5, "prices": "0.5:1.5:0.5"}).actions.values.tolist()
    [0.5, 1.0, 1.5]
    """
    if name not in WORLDS:
        raise ParamsError(f"there is no world {name!r}: give one of {', '.join(WORLDS)}")
    kind = WORLDS[name]
    fields = {field.name: field for field in kind.parameters}
    given = dict(params or {})
    for field in given:
        if field not in fields:
            raise ParamsError(f"{name} has no parameter {field!r}: give any of {', '.join(fields)}")
    read = {
        field: _read(fields[field], given[field]) if given.get(field) is not None else default
        for field, default in kind.defaults.items()
    }
    return kind.build(read, _checked_ranges(fields, ranges or {}))


def _checked_ranges(fields: Mapping[str, Field], ranges: Ranges) -> Ranges:
    for name, (low, high) in ranges.items():
        if name not in fields:
            raise ParamsError(f"there is no parameter {name!r} to vary: give any of {', '.join(fields)}")
        field = fields[name]
        if not field.low <= low < high <= field.high:
            raise ParamsError(
                f"the range {low:g} to {high:g} of {name} must ascend and lie in {field.low:g} to {field.high:g}"
            )
    return ranges


def _read(field: Field, given: Any) -> Any:
    """A number, a list or a word as it was given, parsed and checked against its field."""
    if field.name.endswith("prices"):
        return ladder(field.name, given)
    value = _parsed(given)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        raise ParamsError(f"{field.name} is {given!r}: give a number{_between(field)}")
    numbers = _numbers(field, value)
    if field.whole:
        if not np.equal(numbers, np.round(numbers)).all():
            raise ParamsError(f"{field.name} is {given!r}: give whole numbers{_between(field)}")
        return int(numbers) if numbers.ndim == 0 else numbers.astype(np.int64)
    return float(numbers) if numbers.ndim == 0 else numbers


def _numbers(field: Field, value: Any) -> Array:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ParamsError(f"{field.name} is {value!r}: give a number{_between(field)}") from None
    if numbers.size == 0:
        raise ParamsError(f"{field.name} is an empty list: give at least one number{_between(field)}")
    outside = ~np.isfinite(numbers) | (numbers < field.low) | (numbers > field.high)
    if outside.any():
        first = numbers[outside].ravel()[0]
        raise ParamsError(f"{field.name} is {first:g}: give a finite number{_between(field)}")
    return numbers


def _between(field: Field) -> str:
    unit = f" {field.unit}" if field.unit else ""
    high = "" if math.isinf(field.high) else f" to {field.high:g}"
    return f" from {field.low:g}{high}{unit}"


def _parsed(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    text = given.strip()
    if text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            raise ParamsError(f"{given!r} is no list: write [1, 2, 3]") from None
    if ":" in text:
        return steps(text)
    try:
        return float(text)
    except ValueError:
        return text


def steps(text: str) -> Array:
    """The list that `low:high:step` means, both ends included.

    >>> steps("0.5:1:0.25")
    array([0.5 , 0.75, 1.  ])
    """
    try:
        low, high, step = (float(part) for part in text.split(":"))
    except ValueError:
        raise ParamsError(f"{text!r} is no list: write low:high:step, both ends included") from None
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(step)) or step <= 0 or high < low:
        raise ParamsError(f"{text!r} makes no list: low must be at most high, and step above 0")
    count = math.floor((high - low) / step + 1e-9) + 1
    if count > _LADDER_LIMIT:
        raise ParamsError(f"{text!r} has {count:,} values, at most {_LADDER_LIMIT:,} are allowed: take larger steps")
    # Rounding keeps 0.7:2.2:0.1 from holding 1.2000000000000002.
    return np.round(low + step * np.arange(count), 12)


def ladder(name: str, given: Any) -> Array | str:
    """A price ladder (a,), ascending, from any of its written forms, or the word `any`.

    Raises:
        ParamsError: an empty list, prices that are negative, not finite, or not ascending.
    """
    value = _parsed(given)
    if isinstance(value, str) and value == "any":
        return "any"
    if isinstance(value, Mapping):
        value = _geometric(name, value)
    try:
        prices = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        prices = np.zeros(0)
    if prices.ndim != 1 or len(prices) == 0 or isinstance(value, str):
        forms = "low:high:step, [..], {geometric = [low, high, n]} or any"
        raise ParamsError(f"{name} is {given!r}, which lists no price: give {forms}")
    if not np.isfinite(prices).all() or prices.min() < 0 or (np.diff(prices) <= 0).any():
        raise ParamsError(f"{name} must be finite, at least 0 and ascending; given was {given!r}")
    return prices


def _geometric(name: str, value: Mapping[str, Any]) -> Sequence[float] | Array:
    entry = value.get("geometric")
    if set(value) != {"geometric"} or not isinstance(entry, list | tuple) or len(entry) != 3:
        raise ParamsError(f"{name} is {dict(value)!r}: as a table it is {{geometric = [low, high, n]}}")
    low, high, count = entry
    if not 0 < low < high or not math.isfinite(high) or int(count) != count or not 2 <= count <= _LADDER_LIMIT:
        raise ParamsError(
            f"geometric prices [{low}, {high}, {count}] need 0 < low < high and 2 to {_LADDER_LIMIT:,} levels"
        )
    return np.geomspace(low, high, int(count))


def default_ladder(sensitivity: Any, ranges: Ranges) -> Array:
    """41 geometric prices from half the smallest to twice the largest myopic price 1/sensitivity, ranges included."""
    known = np.ravel(np.asarray(sensitivity, np.float64))
    every = np.concatenate([known, np.asarray(ranges.get("sensitivity", ()), np.float64)])
    return np.geomspace(0.5 / every.max(), 2.0 / every.min(), LADDER_LEVELS)


def _pricing(read: dict[str, Any], ranges: Ranges) -> World:
    read["prices"] = _ladder_or_default(read, ranges)
    return Pricing(PricingParams(**read))


def _ladder_or_default(read: Mapping[str, Any], ranges: Ranges) -> Array | None:
    prices = read["prices"]
    if prices is None:
        return default_ladder(read["sensitivity"], ranges)
    return None if isinstance(prices, str) else np.asarray(prices)


_VOLUME = Field("volume", "arrivals/period", 1e-9, 1e6, "expected arrivals at price 0: one number, or one per period")
_SENSITIVITY = Field("sensitivity", "1/money", 1e-6, 1e6, "decay of demand with price: one number, or one per period")
_PRICES = Field("prices", "money", 0.0, np.inf, "price ladder: a:b:step, [..], {geometric = [low, high, n]}, or any")

_KINDS = (
    WorldKind(
        "pricing",
        "sell a finite stock before the season ends, one price per period",
        (
            Field("stock", "items", 1, 100_000, "items to sell", whole=True),
            Field("periods", "periods", 1, 100_000, "periods of the season", whole=True),
            _VOLUME,
            _SENSITIVITY,
            _PRICES,
        ),
        {"stock": 20, "periods": 50, "volume": float(np.e), "sensitivity": 1.0, "prices": None},
        "see stock and period, post a price, sell min(Poisson(volume exp(-sensitivity price)), stock)",
        "Gallego and van Ryzin (1994)",
        _pricing,
    ),
)

WORLDS: Mapping[str, WorldKind] = {kind.id: kind for kind in _KINDS}
