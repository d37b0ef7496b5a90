"""What a point's learner tells of its decisions, and who listens: the estimator of its world, and its bandits."""

from collections.abc import Callable, Mapping
from typing import Any

from online.events import Decided, Report
from online.fold import Parts
from online.join import PointLearner
from online.log import Entry
from service.deciding.beliefs import NO_ESTIMATES, Estimates
from service.deciding.estimates import Estimator, Source, read
from service.deciding.point_bandits import BanditPolicy, Tutor
from service.deciding.points import Point


class Listening:
    """The listener of a point's learner (`online.join.Listener`).

    Args:
        estimator: `None` where outcomes tell nothing of the world.
        parts: Fetches what the last snapshot holds.
    """

    def __init__(self, estimator: Estimator | None, tutor: Tutor, parts: Parts) -> None:
        self.estimator, self.tutor, self._parts = estimator, tutor, parts

    def hear(self, entry: Entry, decided: Decided, fields: Mapping[str, Any], reward: float) -> list[Report]:
        """An outcome that brings fields: the estimator's affair."""
        return [] if self.estimator is None else self.estimator.hear(entry, decided, fields, reward)

    def close(self, decided: Decided, reward: float | None) -> None:
        """What a decision came to: the bandits' affair."""
        self.tutor.close(decided, reward)

    def dump(self) -> bytes:
        """The estimator's; the bandits are parts."""
        return b"" if self.estimator is None else self.estimator.dump()

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since this was asked last."""
        estimated = {} if self.estimator is None else self.estimator.changes()
        return estimated | self.tutor.changes()

    def load(self, data: bytes) -> None:
        """Go on from what `dump` gave, and from the parts that belong to it."""
        if self.estimator is not None and data:
            self.estimator.load(data)
        self.tutor.load(self._parts)


def listening(point: Point) -> Callable[[Parts], Listening]:
    """Makes the listener of each learner of a point."""
    spec = point.spec
    foretold = not all(one.is_context for one in spec.forecasts.values())
    source = Source.of(point.world, spec.ranges, spec.adapt.estimates, foretold=foretold)

    def make(parts: Parts) -> Listening:
        return Listening(None if source is None else Estimator(source, parts), tutor_of(point), parts)

    return make


def tutor_of(point: Point) -> Tutor:
    """The bandits of a point, untaught."""
    return Tutor(point.spec.bandits, point.context, len(point.actions))


def estimates_in(learner: PointLearner) -> Estimates:
    """What is believed of a point's world, by the learner of its last snapshot."""
    return read(learner.heard) if learner.heard else NO_ESTIMATES


def bandits_in(point: Point, parts: Parts) -> Mapping[str, BanditPolicy]:
    """The bandits of a point as policies, by name, as its last snapshot has them."""
    tutor = tutor_of(point)
    tutor.load(parts)
    return tutor.policies()
