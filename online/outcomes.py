"""Outcomes: how those of a decision become one reward, and where a decision stands meanwhile."""

import math
from dataclasses import dataclass

import msgspec

from online.events import scoped_id

AGGREGATES = ("sum", "mean", "last", "min", "max")
ONLY = "outcome"
"""The outcome id of a decision that gets one outcome and whose caller named none."""
NAMED = 100
"""So many outcomes of a decision are found again by their ids."""


@dataclass(frozen=True, slots=True)
class OutcomeSpec:
    """How a point's outcomes become one reward per decision.

    Outcomes are waited for ``wait`` seconds of event time after the decision; then ``default`` stands in for a missing
    one (``None``: nothing does), in value reports alone. Several outcomes are joined by ``aggregate``. An outcome may
    come up to ``early`` seconds before its decision. At most ``pending`` decisions wait: beyond, the oldest default.
    """

    wait: float = 86_400.0
    default: float | None = None
    aggregate: str = "sum"
    pending: int = 1_000_000
    early: float = 300.0

    def __post_init__(self) -> None:
        if self.aggregate not in AGGREGATES:
            raise ValueError(f"aggregate is {self.aggregate!r}; allowed are {', '.join(AGGREGATES)}")
        if not 0 < self.wait < math.inf:
            raise ValueError(f"wait is {self.wait!r}; allowed is a positive number of seconds")
        if self.default is not None and not math.isfinite(self.default):
            raise ValueError(f"default is {self.default!r}; allowed is a finite number, or none")
        if self.pending < 1:
            raise ValueError(f"pending is {self.pending!r}; allowed is 1 or more")


def aggregate(how: str, reward: float | None, count: int, value: float) -> float:
    """One more outcome's value joined to the reward of the ``count`` before it.

    >>> aggregate("max", None, 0, -5.0), aggregate("mean", 2.0, 3, 6.0)
    (-5.0, 3.0)
    """
    if reward is None or how == "last":
        return value
    match how:
        case "sum":
            return reward + value
        case "mean":
            return reward + (value - reward) / (count + 1)
        case "min":
            return min(reward, value)
        case "max":
            return max(reward, value)
    raise ValueError(f"aggregate is {how!r}; allowed are {', '.join(AGGREGATES)}")


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a decision stands: the index field ``decision:<id>``.

    ``state`` is ``pending``, ``deferred``, ``rewarded``, ``defaulted``, ``inactive`` (deferred and never activated).
    ``late`` counts outcomes that came after the wait. ``named`` are the ids of the first `NAMED` outcomes, joined and
    late, but for one that is called `ONLY`.
    """

    state: str
    reward: float | None = None
    outcomes: int = 0
    closed: bool = False
    late: int = 0
    named: tuple[str, ...] = ()


def named_with(named: tuple[str, ...], decision: str, outcome: str) -> tuple[str, ...]:
    """The outcome ids of a decision with one more, whose event has the id ``<decision>/<outcome_id>``.

    >>> named_with(("monday",), "order-1", "order-1/tuesday"), named_with((), "order-1", "order-1/outcome")
    (('monday', 'tuesday'), ())
    """
    name = outcome.removeprefix(f"{decision}/")
    return named if name == ONLY or len(named) >= NAMED else (*named, name)


def standing_field(decision: str, key: str | None) -> str:
    """The index field of a decision's standing."""
    return f"decision:{scoped_id(decision, key)}"


def parse_standing(data: bytes) -> Standing:
    """The standing in an index field."""
    return msgspec.msgpack.decode(data, type=Standing)
