"""Decoding: raw JSON to typed structs, and msgspec's complaints to faults that name the field and what is allowed."""

import json
import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from service.http.problems import Fault, Plain, ProblemError, invalid, shown

T = TypeVar("T")

_PATH = re.compile(r" - at `(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected (?P<what>.*?)(, got `(?P<got>[^`]*)`)?$", re.DOTALL)
_NAMES = re.compile(rb'"([^"]*)"\s*(:?)')
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+|\.\.\.)\]")
_WORDS = {
    "`float`": "a number",
    "`int`": "an integer",
    "`str`": "a string",
    "`bool`": "true or false",
    "`object`": "an object",
    "`array`": "an array",
    "`null`": "null",
}


class _Constant:
    """Something that no JSON number of ours can be: `NaN`, an infinity, an integer beyond 64 bits."""

    def __init__(self, name: str) -> None:
        self.name = name


class Decoder(Generic[T]):
    """A typed JSON decoder whose errors are problem details.

    Args:
        type_: What to decode to; a struct refuses unknown fields itself (`forbid_unknown_fields=True`).
        allowed: Field path → what is allowed there, in words, units included.
    """

    def __init__(self, type_: type[T], allowed: Mapping[str, str] | None = None) -> None:
        self.type = type_
        self._decode = msgspec.json.Decoder(type_).decode
        self._allowed = dict(allowed or {})

    def decode(self, raw: bytes) -> T:
        """The value in `raw`; a `ProblemError` (400 or 422) where there is none."""
        try:
            value = self._decode(raw)
            check_keys(raw)
            return value
        except msgspec.ValidationError as error:
            fault = explain(str(error), _parsed(raw), self.type, self._allowed)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(raw, error, self._allowed) from None
        raise ProblemError("invalid-request", str(fault), fault)


def check_keys(raw: bytes) -> None:
    """Refuses JSON that gives a name twice in one object: readers disagree on which of the two counts.

    Nearly every body has no string twice, and so no name; most others have each name once, or no objects within
    objects. Only where a name comes twice, or is escaped, is it parsed for a second time.

    Raises:
        ProblemError: 422, naming the key.
    """
    escaped = b"\\" in raw
    strings = raw.split(b'"')[1::2]
    if not escaped and len(strings) == len(set(strings)):
        return
    names = [name for name, colon in _NAMES.findall(raw) if colon]
    if escaped or len(names) != len(set(names)):
        json.loads(raw, object_pairs_hook=_unique, parse_int=_short_int)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise invalid(name, "given once in an object", Plain("twice"))
        found[name] = value
    return found


def too_wide(raw: bytes) -> ProblemError | None:
    """The 422 for a body with an integer that the log cannot hold, which has at most 64 bits; names its field.

    `None` where the body is no JSON, or holds no such integer.
    """
    try:
        found = _find_constant(json.loads(raw, parse_int=_fitting), [])
    except (ValueError, RecursionError):
        return None
    if found is None:
        return None
    steps, digits = found
    fault = Fault(_joined(steps), "an integer of at most 64 bits; write a larger number as 1e20", digits)
    return ProblemError("invalid-request", str(fault), fault)


def explain(message: str, value: Any, type_: Any, allowed: Mapping[str, str]) -> Fault:
    """msgspec's message about `value` as a fault.

    Args:
        message: The text of the `msgspec.ValidationError`.
        value: What was validated, as plain containers; serves to show what was given.
        type_: The struct that it should have been; serves to list the fields that exist.
        allowed: Field path → what is allowed there.
    """
    found = _PATH.search(message)
    steps = _steps(found["path"]) if found else []
    text = message[: found.start()] if found else message
    steps = _concrete(steps, value, text)
    if missing := _MISSING.match(text):
        path = _joined([*steps, missing["name"]])
        return Fault(path, allowed.get(path, "required"), "nothing")
    if unknown := _UNKNOWN.match(text):
        names = _fields_at(type_, steps)
        words = f"one of: {', '.join(names)}" if names else "no further fields"
        return Fault(_joined([*steps, unknown["name"]]), words, shown(unknown["name"]), names)
    path = _joined(steps)
    if text.startswith("Invalid enum value"):
        choices = _choices_at(type_, steps)
        return Fault(path, f"one of: {', '.join(choices)}", shown(_at(value, steps)), choices)
    return Fault(path, allowed.get(path) or _in_words(text), shown(_at(value, steps)))


def _malformed(raw: bytes, error: Exception, allowed: Mapping[str, str]) -> ProblemError:
    """The 400 for a body that is no JSON; 422 where the only fault is a NaN or an infinity, whose field it names."""
    constant = _find_constant(_parsed(raw), [])
    if constant is not None:
        steps, name = constant
        path = _joined(steps)
        fault = Fault(path, allowed.get(path, "a finite number"), name)
        return ProblemError("invalid-request", str(fault), fault)
    if isinstance(error, UnicodeDecodeError):
        fault = Fault("", "UTF-8 text", f"byte 0x{error.object[error.start]:02x}")
        return ProblemError("malformed-json", "The body is not UTF-8 text. Encode it as UTF-8.", fault)
    what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    hint = " For several objects, one a line, send Content-Type: application/x-ndjson." if b"\n" in raw.strip() else ""
    given = raw[:80].decode(errors="replace") if raw else "an empty body"
    return ProblemError("malformed-json", f"{what}.{hint}", Fault("", "one JSON object", given))


def _parsed(raw: bytes) -> Any:
    """`raw` as plain containers, NaN and infinities marked; `UNSET` where it cannot be read."""
    try:
        return json.loads(raw, parse_constant=_Constant, parse_int=_short_int)
    except (ValueError, RecursionError):
        return msgspec.UNSET


def _short_int(digits: str) -> Any:
    # Python refuses to convert more than 4,300 digits; what is shown needs no more than the first few.
    return int(digits) if len(digits) < 20 else f"{digits[:20]}…"


def _fitting(digits: str) -> Any:
    small = len(digits) < 19 or (len(digits) < 22 and -(2**63) <= int(digits) < 2**64)
    return int(digits) if small else _Constant(digits if len(digits) < 30 else f"{digits[:30]}…")


def _find_constant(value: Any, steps: list[str | int]) -> tuple[list[str | int], str] | None:
    if isinstance(value, _Constant):
        return steps, value.name
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    for step, child in children:
        if (found := _find_constant(child, [*steps, step])) is not None:
            return found
    return None


def _steps(path: str) -> list[str | int]:
    """The steps of msgspec's `$.a.b[1]`; names holding dots or brackets cannot be told apart there.

    >>> _steps("$.pipeline[1].lr")
    ['pipeline', 1, 'lr']
    """
    steps: list[str | int] = []
    for match in _STEP.finditer(path):
        index = match["index"]
        steps.append(match["name"] if index is None else index if index == "..." else int(index))
    return steps


def _concrete(steps: list[str | int], value: Any, text: str) -> list[str | int]:
    """The steps with msgspec's `[...]` (some value of a mapping) replaced by the key of the one that does not fit."""
    if "..." not in steps:
        return steps
    at = steps.index("...")
    parent = _at(value, steps[:at])
    if not isinstance(parent, dict):
        return steps[:at]
    expected = _EXPECTED.match(text)
    got = expected["got"] if expected else None
    for key, child in parent.items():
        if got == _json_type(child) or (text.startswith("Number out of range") and isinstance(child, float | str)):
            return [*steps[:at], key, *steps[at + 1 :]]
    return steps[:at]


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "array", str: "str", bool: "bool", int: "int", float: "float", type(None): "null"}
    return names.get(type(value), "")


def _at(value: Any, steps: list[str | int]) -> Any:
    for step in steps:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return msgspec.UNSET
    return value


def _joined(steps: list[str | int]) -> str:
    """The path as people write it.

    >>> _joined(["pipeline", 1, "lr"])
    'pipeline[1].lr'
    """
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


def _fields_at(type_: Any, steps: list[str | int]) -> tuple[str, ...]:
    """The names of the fields of the struct that lies at `steps` below `type_`; empty where it is none."""
    node = _node_at(type_, steps)
    return tuple(field.encode_name for field in node.fields) if isinstance(node, msgspec.inspect.StructType) else ()


def _choices_at(type_: Any, steps: list[str | int]) -> tuple[str, ...]:
    """The values of the literal that lies at `steps` below `type_`; empty where it is none."""
    node = _node_at(type_, steps)
    return tuple(map(str, node.values)) if isinstance(node, msgspec.inspect.LiteralType) else ()


def _node_at(type_: Any, steps: list[str | int]) -> msgspec.inspect.Type:
    node = _unwrapped(msgspec.inspect.type_info(type_))
    for step in steps:
        if isinstance(node, msgspec.inspect.StructType) and isinstance(step, str):
            node = next((field.type for field in node.fields if field.encode_name == step), node)
        elif isinstance(node, msgspec.inspect.DictType):
            node = node.value_type
        elif isinstance(node, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
            node = node.item_type
        node = _unwrapped(node)
    return node


def _unwrapped(node: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """The struct or literal of an optional one; anything else as it is."""
    if isinstance(node, msgspec.inspect.UnionType):
        named = (msgspec.inspect.StructType, msgspec.inspect.LiteralType)
        return next((part for part in node.types if isinstance(part, named)), node)
    if isinstance(node, msgspec.inspect.Metadata):
        return _unwrapped(node.type)
    return node


def _in_words(text: str) -> str:
    """msgspec's `Expected ...` in words.

    >>> _in_words("Expected `float` >= 0.0")
    'a number >= 0.0'
    >>> _in_words("Expected `str | null`, got `int`")
    'a string or null'
    """
    if text.startswith("Number out of range"):
        return "a finite number"
    expected = _EXPECTED.match(text)
    if not expected:
        return text
    types, _, rest = expected["what"].partition("` ")
    words = [_WORDS.get(f"`{part}`", part) for part in types.strip("`").split(" | ")]
    return f"{' or '.join(words)} {rest}".strip()
