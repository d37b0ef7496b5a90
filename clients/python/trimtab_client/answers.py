"""What the service answers, typed; fields that a newer service adds are kept in `raw`."""

from dataclasses import dataclass, field
from typing import Any

Action = float | int | str | list[int] | list[float]


@dataclass(frozen=True)
class Decision:
    """An action, and the probability with which it was chosen."""

    id: str
    action: Action
    index: int | list[int]
    propensity: float
    mode: str
    entry: str
    policy: dict[str, Any]
    probabilities: list[Any] | None
    estimates: dict[str, float] | None
    raw: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Prediction:
    """A prediction, and the state of the model that made it."""

    id: str
    prediction: Any
    probabilities: dict[str, float] | None
    score: float | None
    model: dict[str, Any]
    label_wanted: bool
    entry: str | None
    raw: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Rejected:
    """A line of a batch that was not accepted; `line` counts from 1."""

    line: int
    reason: str
    field: str
    status: int


@dataclass(frozen=True)
class Written:
    """What became of events, labels or outcomes; `entry` says where the last one stands in the log."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]
    entry: str
    raw: dict[str, Any] = field(repr=False)


def decision(answer: dict[str, Any]) -> Decision:
    """The answer to a decision."""
    return Decision(
        id=answer["id"],
        action=answer["action"],
        index=answer["index"],
        propensity=answer["propensity"],
        mode=answer["mode"],
        entry=answer["entry"],
        policy=answer["policy"],
        probabilities=answer.get("probabilities"),
        estimates=answer.get("estimates"),
        raw=answer,
    )


def prediction(answer: dict[str, Any]) -> Prediction:
    """The answer to a predict."""
    return Prediction(
        id=answer.get("id", ""),
        prediction=answer.get("prediction"),
        probabilities=answer.get("probabilities"),
        score=answer.get("score"),
        model=answer["model"],
        label_wanted=bool(answer.get("label_wanted", False)),
        entry=answer.get("entry"),
        raw=answer,
    )


def written(answer: dict[str, Any]) -> Written:
    """The answer to events, labels or outcomes."""
    rejected = [
        Rejected(line["line"], line["reason"], line.get("field", ""), line.get("status", 422))
        for line in answer.get("rejected", [])
    ]
    return Written(answer["accepted"], answer.get("duplicates", 0), rejected, answer.get("entry", ""), answer)


def anything(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as it came."""
    return answer
