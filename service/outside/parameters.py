"""Parameters as people write them: `k=v,..` or `@file.json`, the same forms for every command."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

_OPENING, _CLOSING = "[{", "]}"
_FORMS = 'write k=v,k=v (a list as [1,2,3] or low:high:step, a table as {"a": 1}), or @file.json'


class ParameterError(ValueError):
    """The text is no parameters; the message quotes it and says what is."""


def parse(text: str) -> dict[str, Any]:
    """Parameters from text; empty text has none.

    Numbers become numbers, `true` and `false` booleans, `[..]` and `{..}` what JSON makes of them. Anything else stays
    a string: `0.5:4.25:0.25` and `any` mean something to the world that reads them.

    Raises:
        ParameterError: a part is not `name=value`, a name comes twice, a number is not finite, a file is not JSON.

    >>> parse("stock=20,volume=2.5,prices=0.5:4.25:0.25,levels=[1, 2]")
    {'stock': 20, 'volume': 2.5, 'prices': '0.5:4.25:0.25', 'levels': [1, 2]}
    """
    if text.startswith("@"):
        return _from_file(Path(text[1:]))
    found: dict[str, Any] = {}
    for part in _parts(text):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ParameterError(f"{part!r} in {text!r} is no name=value: {_FORMS}")
        if name in found:
            raise ParameterError(f"{name!r} comes twice in {text!r}: give it once")
        found[name] = _value(name, value.strip())
    return found


def ranges(text: str) -> dict[str, tuple[float, float]]:
    """Ranges `k=low:high,..`.

    >>> ranges("volume=0.4:8,sensitivity=0.5:2")
    {'volume': (0.4, 8.0), 'sensitivity': (0.5, 2.0)}
    """
    return {name: _range(name, value) for name, value in parse(text).items()}


def shift(text: str) -> tuple[int, dict[str, Any]]:
    """A change of parameters to come: `at=2000,k=v,..`, the number of the decision and what changes.

    >>> shift("at=2000,sensitivity=2")
    (2000, {'sensitivity': 2})
    """
    changes = parse(text)
    at = changes.pop("at", None)
    if not isinstance(at, int) or isinstance(at, bool) or at < 0:
        raise ParameterError(f"{text!r} must say when, as a number of decisions from 0: at=2000,sensitivity=2")
    if not changes:
        raise ParameterError(f"{text!r} changes nothing: add what changes, as in at=2000,sensitivity=2")
    return at, changes


def _parts(text: str) -> Iterator[str]:
    """What the commas outside brackets and quotes separate."""
    depth, quoted, start = 0, False, 0
    for place, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    if depth or quoted:
        raise ParameterError(f"a bracket or quote is left open in {text!r}: {_FORMS}")
    if text[start:].strip():
        yield text[start:]


def _value(name: str, text: str) -> Any:
    if text[:1] in ("[", "{"):
        try:
            # People write .5, which JSON does not know.
            return msgspec.json.decode(re.sub(r"(?<![\w.])\.(?=\d)", "0.", text))
        except msgspec.DecodeError as error:
            raise ParameterError(f"{name}={text!r} is no list or table ({error}): {_FORMS}") from None
    if text in ("true", "false"):
        return text == "true"
    if not text:
        raise ParameterError(f"{name!r} has no value: {_FORMS}")
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        raise ParameterError(f"{name}={text} is not finite: give a number")
    return int(text) if text.lstrip("+-").isascii() and text.lstrip("+-").isdigit() else number


def _range(name: str, value: Any) -> tuple[float, float]:
    ends = value.split(":") if isinstance(value, str) else value
    try:
        low, high = map(float, ends)
    except (TypeError, ValueError):
        raise ParameterError(f"{name}={value} is no range: write {name}=low:high") from None
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ParameterError(f"{name}={value} is no range from a lower to a higher number")
    return low, high


def _from_file(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ParameterError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ParameterError(f"{path} holds a {type(found).__name__}: it must be one JSON object of parameters")
    return found
