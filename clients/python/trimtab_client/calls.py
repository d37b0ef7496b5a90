"""Requests as values: what is sent, and how its answer is read. Pure; both clients send these."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from trimtab_client import answers
from trimtab_client.answers import Action, Decision, Prediction, Written

T = TypeVar("T")

JSON = "application/json"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and the reader of its answer. Sent twice, it is carried out once: ids are part of it."""

    method: str
    path: str
    read: Callable[[dict[str, Any]], T]
    body: bytes | None = None
    media_type: str = JSON


def decide(
    point: str,
    context: Mapping[str, float],
    *,
    id: str | None = None,
    key: str | None = None,
    episode: str | None = None,
    at: float | None = None,
    allowed: Sequence[Action] | None = None,
    baseline: Action | None = None,
    deferred: bool = False,
) -> Call[Decision]:
    """Ask a point for an action. Without an `id` one is made here, so that a repetition is the same request.

    Args:
        point: Name of the decision point.
        context: What is known, in the units that the point declares.
        id: Unique within the key.
        key: The entity that is decided about, where the point declares what that is.
        episode: Joins the decisions of one sequence.
        at: When, in seconds since 1970; now, where left out.
        allowed: Actions to choose from, by value; all that the context allows, where left out.
        baseline: What the program would do itself: served in the modes `off` and `apprentice`.
        deferred: The decision counts only once it is activated.
    """
    body = _given(id=id or uuid.uuid4().hex, key=key, episode=episode, at=at, baseline=baseline)
    body |= {"context": dict(context)}
    body |= {"allowed": list(allowed)} if allowed is not None else {}
    body |= {"deferred": True} if deferred else {}
    return Call("POST", f"/v1/decisions/{_segment(point)}", answers.decision, encoded(body))


def activate(point: str, id: str, *, key: str | None = None, at: float | None = None) -> Call[dict[str, Any]]:
    """Say that a deferred decision was really used."""
    path = f"/v1/decisions/{_segment(point)}/activate"
    return Call("POST", path, answers.anything, encoded(_given(id=id, key=key, at=at)))


def outcome_line(
    id: str,
    value: float | None = None,
    *,
    fields: Mapping[str, float] | None = None,
    key: str | None = None,
    outcome_id: str | None = None,
    at: float | None = None,
    early: bool = False,
) -> dict[str, Any]:
    """What came of a decision.

    Args:
        id: Id of the decision.
        value: What it earned, or
        fields: what was observed, from which the point computes what it earned.
        key: As in the decision.
        outcome_id: Names one of several outcomes of the decision.
        at: When, in seconds since 1970; now, where left out.
        early: The decision may not be in the log yet.

    Raises:
        ValueError: neither a value nor fields, or both.
    """
    if (value is None) == (fields is None):
        raise ValueError(f"an outcome has either a value or fields: value={value!r}, fields={fields!r} were given")
    line = _given(id=id, key=key, outcome_id=outcome_id, value=value, at=at)
    line |= {"fields": dict(fields)} if fields is not None else {}
    return line | ({"early": True} if early else {})


def outcome(point: str, id: str, value: float | None = None, **more: Any) -> Call[Written]:
    """One outcome; `more` as in `outcome_line`."""
    return _one(outcomes_path(point), outcome_line(id, value, **more))


def outcomes(point: str, lines: Iterable[Mapping[str, Any]]) -> Call[Written]:
    """Many outcomes at once, each made by `outcome_line`."""
    return _batch(outcomes_path(point), lines)


def predict(
    model: str,
    features: Mapping[str, Any],
    *,
    id: str | None = None,
    key: str | None = None,
    at: float | None = None,
    learn: bool = True,
    after: str | None = None,
) -> Call[Prediction]:
    """Ask a model for a prediction; with `learn`, it waits for its label and is learned from.

    Args:
        model: Name of the model.
        features: Values by name.
        id: Under which the label will come; made here, where left out.
        key: The entity, where the model keeps one state for each.
        at: When, in seconds since 1970; now, where left out.
        learn: Whether it is logged; if not, only looked at.
        after: An `entry` of an earlier write: wait, for a few seconds, until the model has learned it.
    """
    body = _given(id=(id or uuid.uuid4().hex) if learn else id, key=key, at=at, after=after)
    body |= {"features": dict(features)}
    body |= {} if learn else {"learn": False}
    return Call("POST", f"/v1/models/{_segment(model)}/predict", answers.prediction, encoded(body))


def label_line(id: str, label: Any, *, key: str | None = None, at: float | None = None) -> dict[str, Any]:
    """The truth about a prediction or an event."""
    return _given(id=id, key=key, at=at) | {"label": label}


def label(model: str, id: str, label: Any, **more: Any) -> Call[Written]:
    """One label; `more` as in `label_line`."""
    return _one(labels_path(model), label_line(id, label, **more))


def labels(model: str, lines: Iterable[Mapping[str, Any]]) -> Call[Written]:
    """Many labels at once, each made by `label_line`."""
    return _batch(labels_path(model), lines)


def event_line(
    features: Mapping[str, Any],
    label: Any = None,
    *,
    id: str | None = None,
    key: str | None = None,
    at: float | None = None,
) -> dict[str, Any]:
    """Something that happened, with its label where that is known. Without an `id` one is made here."""
    return _given(id=id or uuid.uuid4().hex, key=key, at=at, label=label) | {"features": dict(features)}


def event(model: str, features: Mapping[str, Any], label: Any = None, **more: Any) -> Call[Written]:
    """One event; `more` as in `event_line`."""
    return _one(events_path(model), event_line(features, label, **more))


def events(model: str, lines: Iterable[Mapping[str, Any]]) -> Call[Written]:
    """Many events at once, each made by `event_line`."""
    return _batch(events_path(model), lines)


def look(path: str, **query: Any) -> Call[dict[str, Any]]:
    """A GET of any route."""
    given = _given(**query)
    return Call("GET", f"{path}?{urlencode(given)}" if given else path, answers.anything)


def trace(point: str, id: str, *, key: str | None = None) -> Call[dict[str, Any]]:
    """Everything about one decision."""
    return look(f"/v1/decisions/{_segment(point)}/{_segment(id)}", key=key)


def report(point: str, *, last: int | None = None) -> Call[dict[str, Any]]:
    """Value per policy, with intervals, over the last decisions."""
    return look(f"/v1/decisions/{_segment(point)}/report", last=last)


def outcomes_path(point: str) -> str:
    """Where outcomes go."""
    return f"/v1/decisions/{_segment(point)}/outcomes"


def labels_path(model: str) -> str:
    """Where labels go."""
    return f"/v1/models/{_segment(model)}/labels"


def events_path(model: str) -> str:
    """Where events go."""
    return f"/v1/models/{_segment(model)}/events"


def lines_call(path: str, lines: Sequence[bytes]) -> Call[Written]:
    """Encoded lines, sent together."""
    return Call("POST", path, answers.written, b"\n".join(lines), NDJSON)


def encoded(body: Mapping[str, Any]) -> bytes:
    """JSON, always the same for the same content.

    Raises:
        ValueError: a number that JSON cannot hold (NaN, infinity).
        TypeError: a value that is no JSON.
    """
    return json.dumps(body, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()


def _one(path: str, line: Mapping[str, Any]) -> Call[Written]:
    return Call("POST", path, answers.written, encoded(line))


def _batch(path: str, lines: Iterable[Mapping[str, Any]]) -> Call[Written]:
    return lines_call(path, [encoded(line) for line in lines])


def _given(**named: Any) -> dict[str, Any]:
    return {name: value for name, value in named.items() if value is not None}


def _segment(name: str) -> str:
    return quote(name, safe="")
