"""What every handler needs, as one value."""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from service.access.watch import Watch
from service.deciding.bandits import BanditShelf
from service.deciding.decide import ServedPoint
from service.deciding.serving import ServedModel, Serving
from service.deciding.store import StoreThread
from service.http.door import Door
from service.http.problems import invalid, unknown
from service.http.telemetry import Telemetry
from service.http.writer import Writer

AHEAD_S = 300.0
"""A live event may say that it happened so far in the future; more is a wrong clock or a wrong unit."""
_BYTES, _IDS = 16, 256


class Ids:
    """Ids for what came without one: 16 random bytes each, fetched from the system many at a time."""

    def __init__(self) -> None:
        self._ids: Iterator[str] = iter(())

    def __call__(self) -> str:
        """One more."""
        for made in self._ids:
            return made
        text = secrets.token_hex(_BYTES * _IDS)
        self._ids = iter([text[at : at + 2 * _BYTES] for at in range(0, len(text), 2 * _BYTES)])
        return next(self._ids)


@dataclass(frozen=True)
class Api:
    """The parts of one API process.

    Attributes:
        bandits: What is served of each bandit; asked in the thread of `store`.
        archive: The thread for long reads, so that they keep nobody else waiting.
        watch: Knows which keys are good.
        door: Lets requests in.
        secret: Key of the draws; the same for all replicas, so that they answer alike.
        checkup: Looks into the store: each thing's name, whether it is well, and how it is, with the cure.
        clock: Seconds since the epoch.
        new_id: Makes ids for what comes without one.
    """

    serving: Serving
    writer: Writer
    store: StoreThread
    bandits: BanditShelf
    archive: StoreThread
    telemetry: Telemetry
    watch: Watch
    door: Door
    secret: bytes
    checkup: Callable[[], Sequence[tuple[str, bool, str]]] = tuple
    clock: Callable[[], float] = time.time
    new_id: Callable[[], str] = field(default_factory=Ids)

    def point(self, name: str) -> ServedPoint:
        """A point as it is served now; a 404 that lists the points where there is none of that name."""
        points = self.serving.now.points
        if (served := points.get(name)) is None:
            raise unknown("unknown-point", "point", name, tuple(points))
        return served

    def model(self, name: str) -> ServedModel:
        """A model as it is served now; a 404 that lists the models where there is none of that name."""
        models = self.serving.now.models
        if (served := models.get(name)) is None:
            raise unknown("unknown-model", "model", name, tuple(models))
        return served

    def check_time(self, at: float | None) -> None:
        """Refuses an event that says it lies more than five minutes ahead; `None` is the time of its append."""
        if at is not None and at > (now := self.clock()) + AHEAD_S:
            raise invalid("at", f"seconds since 1970, at most {AHEAD_S:g} s ahead of now ({now:.0f})", at)
