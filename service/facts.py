"""What the loop of a point hears and what it asks for: facts and commands, as values."""

from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

Stage: TypeAlias = Literal[
    "steady",
    "suspected",
    "recalibrating",
    "training",
    "gate",
    "shadow",
    "canary",
    "released",
    "watched",
    "confirmed",
    "doubted",
    "rejected",
    "rolled-back",
]
Word: TypeAlias = Literal["better", "worse", "not enough evidence"]
Source: TypeAlias = Literal["alarm", "estimate", "value", "model"]

BASELINE = "baseline"
"""The point's rule, where a policy is named."""


class _Fact(Struct, frozen=True, kw_only=True, tag=str.lower):
    """Something that has happened, at a time in seconds since the epoch."""

    at: float


class Suspected(_Fact, frozen=True):
    """A detector's alarm, an estimate outside the trained range, a value below what the world predicts, a drift of a
    prediction model."""

    source: Source
    reason: str


class Misfitted(_Fact, frozen=True):
    """The outcomes disagree with the world whatever its parameters: a person is needed.

    Attributes:
        incumbent: The policy that serves in it, which was made for it; `None` where none does.
        bandits: Policies that need no world.
    """

    reason: str
    incumbent: str | None = None
    bandits: tuple[str, ...] = ()


class Fitted(_Fact, frozen=True):
    """The world explains the outcomes again."""


class Silenced(_Fact, frozen=True):
    """Decisions are made, and no outcomes come."""

    reason: str


class Heard(_Fact, frozen=True):
    """Outcomes come again."""


class Ordered(_Fact, frozen=True):
    """Somebody stops the loop (`held`), or lets it go on."""

    held: bool
    actor: str
    reason: str = ""


class Intervened(_Fact, frozen=True):
    """Somebody else released something while a cycle was under way: theirs stands."""

    cycle: int
    actor: str
    reason: str = ""


class Recalibrated(_Fact, frozen=True):
    """The world's parameters as the outcomes have them, and the ranges to train over."""

    cycle: int
    params: dict[str, float]
    ranges: dict[str, tuple[float, float]]
    reason: str = ""


class Trained(_Fact, frozen=True):
    """A candidate was made and registered."""

    cycle: int
    candidate: str
    reason: str = ""


class Judged(_Fact, frozen=True):
    """A verdict on the candidate, from the stage in which it was given."""

    cycle: int
    stage: Stage
    verdict: Word
    reasons: tuple[str, ...] = ()


class Failed(_Fact, frozen=True):
    """A command of this stage cannot be carried out, now or later."""

    cycle: int
    stage: Stage
    reason: str


class Carried(_Fact, frozen=True):
    """The commands of this stage were carried out."""

    cycle: int
    stage: Stage


class Ticked(_Fact, frozen=True):
    """Time has passed."""


Fact: TypeAlias = (
    Suspected
    | Misfitted
    | Fitted
    | Silenced
    | Heard
    | Ordered
    | Intervened
    | Recalibrated
    | Trained
    | Judged
    | Failed
    | Carried
    | Ticked
)


class _Command(Struct, frozen=True, tag=str.lower):
    """Something to do; asked for again it means the same, by its cycle."""

    cycle: int


class Recalibrate(_Command, frozen=True):
    """Fit the world's parameters to the recent outcomes; answer with `Recalibrated`."""


class Train(_Command, frozen=True):
    """Train a candidate over these ranges, from the incumbent's weights; answer with `Trained`."""

    ranges: dict[str, tuple[float, float]]
    params: dict[str, float]


class Judge(_Command, frozen=True):
    """Look at the evidence of this stage; answer with `Judged` once there is a verdict."""

    stage: Stage
    candidate: str


class Serve(_Command, frozen=True):
    """Release the candidate in this mode.

    Attributes:
        candidate: A bundle's digest, a bandit's name, or `BASELINE`.
        share: Its share in a canary.
        against: Who serves the rest; the incumbent, where left out.
        trial: Tells one canary of a stage from the next.
    """

    stage: Stage
    mode: Literal["shadow", "canary", "live"]
    candidate: str
    share: float = 0.0
    against: str | None = None
    trial: int = 0


class Restore(_Command, frozen=True):
    """Take the candidate of this cycle back, where it serves."""

    candidate: str


class Quarantine(_Command, frozen=True):
    """Keep this bundle from being released again by the loop, with the evidence."""

    candidate: str
    reasons: tuple[str, ...]


Command: TypeAlias = Recalibrate | Train | Judge | Serve | Restore | Quarantine


encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(Fact)


def decode(payload: bytes) -> Fact:
    """The fact in these bytes; `msgspec.DecodeError` for anything else."""
    return _decoder.decode(payload)
