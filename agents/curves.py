"""Learning curves: how far the best policy so far was from the optimum, step by step, kept in the bundle's card."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import msgspec

from agents.bundle import Bundle, pack, unpack

Curve = tuple[tuple[int, float], ...]
"""Environment steps and gap to the optimum in percent, steps ascending."""

# A card is read by people too.
MAX_POINTS = 200


class Told(Protocol):
    """What a training tells on its way."""

    @property
    def steps(self) -> int:
        """Environment steps done."""

    @property
    def gap(self) -> float | None:
        """Gap of the best checkpoint so far in percent, None where it is not known."""


T = TypeVar("T", bound=Told)


@dataclass
class Recorder(Generic[T]):
    """Keeps what a training tells whenever the gap has changed, and passes it on.

    Args:
        told: called with everything; what it answers is answered.
    """

    told: Callable[[T], bool] | None = None
    points: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, progress: T) -> bool:
        """Take one word; False ends the training."""
        if progress.gap is not None and (not self.points or self.points[-1][1] != progress.gap):
            self.points.append((progress.steps, progress.gap))
        return self.told is None or self.told(progress)


def with_curve(bundle: Bundle, points: Sequence[tuple[int, float]]) -> Bundle:
    """The bundle with the curve in its card, which gives it another name; ended by what the card itself measured."""
    end = bundle.card.metrics.get("gap")
    known = [point for point in points if point[0] < bundle.card.steps or end is None]
    if end is not None and known:
        known.append((bundle.card.steps, end))
    if not known:
        return bundle
    card = msgspec.structs.replace(bundle.card, curve=thinned(known))
    return unpack(pack(card, bundle.onnx, bundle.weights))


def thinned(points: Sequence[tuple[int, float]]) -> Curve:
    """At most so many points as a card holds, evenly chosen, both ends among them.

    >>> len(thinned([(step, 1.0) for step in range(1000)]))
    200
    """
    if len(points) <= MAX_POINTS:
        return tuple(points)
    last = len(points) - 1
    return tuple(points[round(place * last / (MAX_POINTS - 1))] for place in range(MAX_POINTS))
