"""What the log tells over time: values, actions and beliefs of a point, errors of a model, the latest decisions."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import Struct

from online.log import START, Log, Partition
from service.deciding import series
from service.deciding.points import Action, partition_of
from service.deciding.series import SAMPLE, Bucket, Buckets, Errors, Seen, groups_of, width_of
from service.deciding.store import Store
from service.http.api import Api
from service.http.operations import Answer, Call, Operation, Parameter, integer, reply
from service.http.problems import Kind
from service.routes.predictions import partition_of as partition_of_model

T = TypeVar("T")

_BUCKETS, _MOST = 96, 400
_SPAN_MOST = 10 * 366 * 86_400
_LAST, _LAST_MOST = 50, 500
_FRESH_S = 1.0
_GRIDS = 256


class PointSeries(Struct, frozen=True):
    """A point over time; a bucket is told by its first decisions, at most so many (`sample` entries of the log).

    Attributes:
        width: Seconds that a bucket lasts.
        actions: The groups of neighbouring actions whose shares the buckets give: first and last of each, by value.
        buckets: The oldest first; an empty one says that nothing was decided then.
    """

    point: str
    since: float
    until: float
    width: float
    sample: int
    actions: list[tuple[Action, Action]]
    buckets: list[Bucket]


class ModelSeries(Struct, frozen=True):
    """A model over time: its mean error on the first labels of each bucket, its own and that of its answers."""

    model: str
    since: float
    until: float
    width: float
    sample: int
    buckets: list[Errors]


class DecisionLine(Struct, frozen=True, omit_defaults=True):
    """One decision in a list; `GET /v1/decisions/{point}/{id}` has all of it."""

    id: str
    at: float
    key: str | None
    action: Action
    propensity: float
    policy: str
    arm: str
    mode: str
    reward: float | None


class LatestAnswer(Struct, frozen=True):
    """The last decisions of a point, the newest first."""

    decisions: list[DecisionLine]


@dataclass
class _Grid:
    """The buckets of one subject at one width, and the answer that was made of them last; for one thread."""

    buckets: Buckets
    answer: Answer | None = None
    until: float = -math.inf


class Series:
    """The handlers that tell what was, bucket by bucket.

    Reading goes through the thread for long reads; many viewers of one point cost as much as one.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._grids: dict[tuple[Partition, float, float], _Grid] = {}

    async def point(self, call: Call) -> Answer:
        """What a point's policies earned over time, which actions they took, and what they believed of the world."""
        point = self._api.point(call.path["point"]).point
        span, buckets = self._asked(call)
        groups = [(point.actions[first], point.actions[last]) for first, last in groups_of(len(point.actions))]
        defaults = point.spec.outcome.default is not None

        def one(log: Log, partition: Partition, since: float, until: float) -> Bucket:
            return series.told(since, series.read(log, partition, since, until, SAMPLE), len(point.actions), defaults)

        def answer(since: float, until: float, grid: Buckets) -> PointSeries:
            return PointSeries(point.name, since, until, grid.width, SAMPLE, groups, grid.all())

        return await self._told(partition_of(point.name), span, buckets, one, answer)

    async def model(self, call: Call) -> Answer:
        """How far a model's predictions were from their labels over time."""
        model = self._api.model(call.path["model"])
        name, task = model.spec.name, model.task
        span, buckets = self._asked(call)

        def one(log: Log, partition: Partition, since: float, until: float) -> Errors:
            return series.read_errors(log, partition, since, until, SAMPLE, task)

        def answer(since: float, until: float, grid: Buckets) -> ModelSeries:
            return ModelSeries(name, since, until, grid.width, SAMPLE, grid.all())

        return await self._told(partition_of_model(name), span, buckets, one, answer)

    async def latest(self, call: Call) -> Answer:
        """The last decisions of a point, the newest first."""
        point = self._api.point(call.path["point"]).point
        last = integer(call, "last", _LAST, 1, _LAST_MOST)
        found = await self._api.archive.ask(lambda store: series.latest(store.log, partition_of(point.name), last))
        return reply(LatestAnswer(list(map(_line, found))))

    def _asked(self, call: Call) -> tuple[float, int]:
        span = integer(call, "span", 0, 0, _SPAN_MOST)
        return float(span), integer(call, "buckets", _BUCKETS, 1, _MOST)

    async def _told(
        self,
        partition: Partition,
        span: float,
        buckets: int,
        one: Callable[[Log, Partition, float, float], T],
        answer: Callable[[float, float, Buckets], Any],
    ) -> Answer:
        """The buckets of the last `span` seconds (0: of all that there is), read where they are not known."""

        def ask(store: Store) -> Answer:
            now = self._api.clock()
            first = store.log.first(partition)
            begin = now if first == START else first.ms / 1000
            since = max(begin, now - span) if span else begin
            grid = self._grid(partition, span, width_of(max(now - since, 1.0), buckets))
            if grid.answer is None or now - grid.until >= _FRESH_S or now < grid.until:
                missing = [] if first == START else grid.buckets.missing(since, now, now)
                width = grid.buckets.width
                found: dict[float, Any] = {}
                for at in missing:
                    found[at] = one(store.log, partition, at, at + width)
                    time.sleep(0)  # let those who decide have the interpreter
                grid.buckets.keep(found, now)
                grid.answer, grid.until = reply(answer(since, now, grid.buckets)), now
            return grid.answer

        return await self._api.archive.ask(ask)

    def _grid(self, partition: Partition, span: float, width: float) -> _Grid:
        if len(self._grids) >= _GRIDS:
            self._grids.clear()
        return self._grids.setdefault((partition, span, width), _Grid(Buckets(width)))

    def operations(self) -> list[Operation]:
        """What can be asked about the past."""
        span = Parameter(
            "span",
            {"type": "integer", "minimum": 0, "maximum": _SPAN_MOST, "default": 0},
            "How many seconds to look back; 0: to the beginning",
        )
        count = {"type": "integer", "minimum": 1, "maximum": _MOST, "default": _BUCKETS}
        many = Parameter("buckets", count, "At most so many buckets")
        lines = {"type": "integer", "minimum": 1, "maximum": _LAST_MOST, "default": _LAST}
        last = Parameter("last", lines, "How many")
        of_point: tuple[Kind, ...] = ("unknown-point", "invalid-request", "unavailable")
        of_model: tuple[Kind, ...] = ("unknown-model", "invalid-request", "unavailable")
        told: dict[str, Any] = {"query": (span, many)}
        point, model = "/v1/points/{point}", "/v1/models/{model}"
        return [
            Operation(
                "GET",
                f"{point}/series",
                "A point over time",
                self.point,
                PointSeries,
                problems=of_point,
                **told,
                scope="read",
            ).tagged("points"),
            Operation(
                "GET",
                f"{point}/latest",
                "The last decisions",
                self.latest,
                LatestAnswer,
                problems=of_point,
                query=(last,),
                scope="read",
            ).tagged("points"),
            Operation(
                "GET",
                f"{model}/series",
                "A model over time",
                self.model,
                ModelSeries,
                problems=of_model,
                **told,
                scope="read",
            ).tagged("models"),
        ]


def _line(seen: Seen) -> DecisionLine:
    decided = seen.decided
    return DecisionLine(
        id=decided.id,
        at=seen.at,
        key=decided.key,
        action=decided.action,
        propensity=decided.propensity,
        policy=decided.policy,
        arm=decided.arm,
        mode=decided.mode,
        reward=seen.reward,
    )
