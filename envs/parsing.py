"""Parameters as people write them, read and checked field by field."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.dynamics import Array, Field, ParamsError

Ranges = Mapping[str, tuple[float, float]]
_LADDER_LIMIT = 10_000


def checked_ranges(fields: Mapping[str, Field], ranges: Ranges) -> Ranges:
    for name, (low, high) in ranges.items():
        if name not in fields:
            raise ParamsError(f"there is no parameter {name!r} to vary: give any of {', '.join(fields)}")
        field = fields[name]
        if not field.low <= low < high <= field.high:
            raise ParamsError(
                f"the range {low:g} to {high:g} of {name} must ascend and lie in {field.low:g} to {field.high:g}"
            )
    return ranges


def read(field: Field, given: Any) -> Any:
    """A number, a list or a word as it was given, parsed and checked against its field."""
    if field.name.endswith("prices"):
        return ladder(field.name, given)
    value = _parsed(given)
    if field.low == field.high and isinstance(value, str):
        return value
    if field.low == field.high:
        raise ParamsError(f"{field.name} is {given!r}: it is a word; {field.doc}")
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
