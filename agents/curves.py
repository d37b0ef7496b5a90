"""Learning curves: what the best policy so far was worth, step by step, as the bundle's card keeps them."""

from collections.abc import Sequence

from agents.bundle import CurvePoint

# A card is read by people too.
MAX_POINTS = 200


def ended(points: Sequence[CurvePoint], end: CurvePoint) -> tuple[CurvePoint, ...]:
    """A curve that ends with what the card itself measured, with at most so many points as a card holds."""
    return thinned([*(point for point in points if point.steps < end.steps), end])


def thinned(points: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
    """At most so many points as a card holds, evenly chosen, both ends among them.

    >>> len(thinned([CurvePoint(step) for step in range(1000)]))
    200
    """
    if len(points) <= MAX_POINTS:
        return tuple(points)
    last = len(points) - 1
    return tuple(points[round(place * last / (MAX_POINTS - 1))] for place in range(MAX_POINTS))


def columns(curve: Sequence[CurvePoint]) -> dict[str, list[float | None]]:
    """A curve as JSON has it, one list for each of steps, seconds, gap (a share of the optimum) and value.

    >>> columns([CurvePoint(100, 5.0, 0.5, 34.0)])
    {'steps': [100], 'seconds': [0.5], 'gap_share': [0.05], 'value': [34.0]}
    """
    return {
        "steps": [point.steps for point in curve],
        "seconds": [point.seconds for point in curve],
        "gap_share": [None if point.gap is None else point.gap / 100 for point in curve],
        "value": [point.value for point in curve],
    }


def gaps(curve: Sequence[CurvePoint]) -> list[tuple[int, float]]:
    """Steps and gap in percent of the points that know it."""
    return [(point.steps, point.gap) for point in curve if point.gap is not None]
