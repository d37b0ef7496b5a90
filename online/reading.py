"""Reading a declared table: each value checked, each fault with its path, what was given and what is allowed."""

import math
from collections.abc import Mapping
from typing import Any

from online import durations


class SpecError(ValueError):
    """A spec that cannot be a model: the path to the fault, what was given, what is allowed."""

    def __init__(self, path: str, given: object, allowed: str) -> None:
        super().__init__(f"{path}: given {given!r}; allowed is {allowed}")
        self.path = path
        self.given = given
        self.allowed = allowed


def choice(given: object, allowed: tuple[str, ...], path: str) -> str:
    """The text, one of those allowed. Raises `SpecError`."""
    if isinstance(given, str) and given in allowed:
        return given
    raise SpecError(path, given, "one of " + ", ".join(allowed))


def boolean(table: Mapping[str, Any], name: str, path: str, *, default: bool = False) -> bool:
    """A field that is true or false. Raises `SpecError`."""
    given = table.get(name, default)
    if not isinstance(given, bool):
        raise SpecError(f"{path}.{name}", given, "true or false")
    return given


def integer(table: Mapping[str, Any], name: str, path: str, default: int, high: int, low: int = 1) -> int:
    """A field that is a whole number. Raises `SpecError`."""
    given = table.get(name, default)
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise SpecError(f"{path}.{name}", given, f"an integer from {low} to {high}")
    return given


def number(given: object, path: str) -> float | None:
    """A finite number, ``None`` where there is none. Raises `SpecError`."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise SpecError(path, given, "a finite number")
    return float(given)


def duration(given: Any, path: str) -> float | None:
    """Seconds, ``None`` where there is none. Raises `SpecError`."""
    if given is None:
        return None
    try:
        return durations.seconds(given)
    except ValueError as error:
        raise SpecError(path, given, str(error)) from error


def texts(given: object, path: str) -> tuple[str, ...]:
    """A list of texts. Raises `SpecError`."""
    if isinstance(given, list | tuple) and given:
        return tuple(str(value) for value in given)
    raise SpecError(path, given, "a list of texts")
