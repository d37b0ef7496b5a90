"""Figures as values: lines over time, shares, bars, heat maps; `agents.drawing` draws them, the same wherever seen.

Colours are roles, not hues: what is observed, the incumbent, a candidate, the optimum, a baseline. Their hues are those
of Okabe and Ito (2008), which people without red-green sight tell apart; baselines and optima are dashed besides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["observed", "incumbent", "candidate", "optimum", "baseline", "other", "fourth"]
Numbers: TypeAlias = Sequence[float | None]


@dataclass(frozen=True)
class Line:
    """One curve; a `None` breaks it.

    Args:
        low, high: ends of an interval about each value, or empty.
        dashed: for what was computed rather than seen.
        stepped: each value holds until the next.
    """

    name: str
    y: Numbers
    role: Role = "observed"
    low: Numbers = ()
    high: Numbers = ()
    dashed: bool = False
    stepped: bool = False


@dataclass(frozen=True)
class Mark:
    """A moment worth pointing out: `alarm`, `release` or `note`."""

    x: float
    text: str
    kind: Literal["alarm", "release", "note"] = "note"


@dataclass(frozen=True)
class Zone:
    """Values between which something holds, such as the range that a policy was trained over."""

    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Curves over one axis.

    Args:
        x: ascending; seconds since 1970 where `timed`.
        unit: of the values, said at the axis.
        logarithmic: whether equal ratios are equal distances, upwards.
        label: what `x` is, where it is no time.
    """

    title: str
    x: Sequence[float]
    lines: Sequence[Line]
    unit: str = ""
    marks: Sequence[Mark] = ()
    zones: Sequence[Zone] = ()
    timed: bool = True
    logarithmic: bool = False
    label: str = ""
    note: str = ""
    height: int = 200


@dataclass(frozen=True)
class Shares:
    """How a whole is divided, over time: `rows` holds for each moment one share for each name, in a natural order."""

    title: str
    x: Sequence[float]
    names: Sequence[str]
    rows: Sequence[Sequence[float]]
    width: float
    note: str = ""
    height: int = 160


@dataclass(frozen=True)
class Bars:
    """One bar for each name; `chosen` stands out, those that are not `possible` are only outlined."""

    title: str
    names: Sequence[str]
    values: Sequence[float]
    unit: str = ""
    chosen: int | None = None
    possible: Sequence[bool] = ()
    note: str = ""
    height: int = 180


@dataclass(frozen=True)
class Heat:
    """A number for each pair of two coordinates, `None` where there is none; rows grow upwards.

    Args:
        across, down: name and values of the coordinates.
        cells: for each value of `down` a row over those of `across`.
        scale: numbers of the darkest and the lightest colour; the smallest and the largest cell where `None`.
    """

    title: str
    across: tuple[str, Sequence[float]]
    down: tuple[str, Sequence[float]]
    cells: Sequence[Numbers]
    unit: str = ""
    scale: tuple[float, float] | None = None
    note: str = ""
    height: int = 260


Figure: TypeAlias = Chart | Shares | Bars | Heat
