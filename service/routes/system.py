"""The system as a whole: health, metrics, what has happened, and the page that shows it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import StreamingResponse

from online.log import EntryId
from service.deciding.feed import Note
from service.deciding.jobs import Job
from service.deciding.releases import Release
from service.deciding.serving import PointState, Progress, Served
from service.http import telemetry
from service.http.api import Api
from service.http.operations import Answer, Call, Headers, Operation, reply
from service.http.problems import Kind, ProblemError
from service.outside.redis_state import VERSION

HTML = "text/html; charset=utf-8"
EVENTS = "text/event-stream"
FEED_SCOPE = "read"
_PAGE = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
_STALE_S = 5.0
_JOBS = 20
_POLL_S = 0.25
_KEEP_ALIVE_S = 15.0


class Health(Struct, frozen=True):
    """A sign of life."""

    status: str


class ProcessView(Struct, frozen=True):
    """One process: since when it runs, and when it last said so."""

    process: str
    pid: int
    started: float
    age_s: float
    detail: dict[str, Any]


class ModelView(Struct, frozen=True):
    """One model: what it has learned, how well it does, how far behind it is.

    `age_s` is how long ago the state that is served was loaded: it grows where nothing is learned.
    """

    name: str
    task: str
    learned: int
    metrics: dict[str, float]
    baseline: dict[str, float]
    alarms: int
    drift: bool
    rejected: int
    lag: int
    age_s: float | None


class ValueView(Struct, frozen=True):
    """What one policy has earned in one arm; `mean` is per decision that is settled.

    Where a decision without outcomes earns a default, one is settled when its wait is over: good outcomes that come at
    once would else stand for all that are still open.
    """

    policy: str
    arm: str
    decisions: int
    rewarded: int
    defaulted: int
    mean: float | None


class PointView(Struct, frozen=True):
    """One point: what serves it, what its policies have earned; `age_s` as of a model."""

    name: str
    world: str
    baseline: str
    release: Release
    decisions: int
    pending: int
    rejected: int
    lag: int
    age_s: float | None
    values: list[ValueView]
    error: str


class SystemAnswer(Struct, frozen=True):
    """The whole service at one moment; `age_s` is how long ago its store was last read."""

    at: float
    age_s: float
    processes: list[ProcessView]
    models: list[ModelView]
    points: list[PointView]
    jobs: list[Job]
    feed: list[Note]


class Check(Struct, frozen=True):
    """One thing of the store: `text` says how it is, and the cure where it is not `ok`."""

    name: str
    ok: bool
    text: str


class StoreAnswer(Struct, frozen=True):
    """How the store is; no checks where it is this process's own memory."""

    checks: list[Check]


class System:
    """The handlers of everything that is about the service itself."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._page = (resources.files("service") / "page" / "index.html").read_bytes()
        self._is_new_enough = False

    async def live(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """Whether the process answers at all. Restart it where it does not."""
        return reply(Health("alive"))

    async def ready(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """Whether requests should be sent here: the store was read within the last seconds, and writes get through."""
        age = self._age(self._api.serving.now)
        if age is None or age > _STALE_S:
            said = "has not been read yet" if age is None else f"has been silent for {age:.1f} s"
            raise await self._not_ready(f"The store {said}")
        if not self._api.writer.healthy:
            raise await self._not_ready("Writes do not get through")
        if not self._is_new_enough:
            await self._check_version()
        return reply(Health("ready"))

    async def _check_version(self) -> None:
        """Refuses a store that is too old, though it answers: what it lacks shows later, and under load."""
        found = await asyncio.to_thread(self._api.checkup)
        if any(name == VERSION and not ok for name, ok, _ in found):
            raise await self._not_ready("The store is of no use")
        self._is_new_enough = True

    async def _not_ready(self, said: str) -> ProblemError:
        found = await asyncio.to_thread(self._api.checkup)
        why = "; ".join(text for _, ok, text in found if not ok)
        return ProblemError("unavailable", f"{said}: {why}." if why else f"{said}.", headers={"Retry-After": "1"})

    async def metrics(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """What this process has counted, for Prometheus."""
        served, now = self._api.serving.now, self._api.clock()
        states = {f"model:{name}": model.progress for name, model in served.models.items()}
        states |= {f"point:{name}": state.progress for name, state in served.states.items()}
        for subject, progress in states.items():
            age = _age(progress, now)
            self._api.telemetry.learner(
                subject, age=age or 0.0, lag=progress.lag, learned=progress.learned, rejected=progress.rejected
            )
        for name, state in served.states.items():
            values = state.values.values()
            joined = {what: sum(getattr(v, what) for v in values) for what in ("rewarded", "defaulted", "late")}
            self._api.telemetry.standing(name, {**joined, "pending": state.pending})
        self._api.telemetry.audit(self._api.watch.audited.entries, self._api.watch.audited.seal)
        alarms = {f"model:{name}": model.learner.alarms for name, model in served.models.items()}
        alarms |= {f"point:{name}": state.beliefs.alarms for name, state in served.states.items()}
        for subject, last in alarms.items():
            self._api.telemetry.alarms(subject, [alarm.id for alarm in last])
        return Answer(self._api.telemetry.text(), media_type=telemetry.MEDIA_TYPE)

    async def system(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """Everything that the status page shows."""
        served, now = self._api.serving.now, self._api.clock()
        return reply(
            SystemAnswer(
                at=now,
                age_s=self._age(served) or 0.0,
                processes=[
                    ProcessView(beat.process, beat.pid, beat.started, max(0.0, now - beat.at), dict(beat.detail))
                    for beat in served.heartbeats
                ],
                models=_models(served, now),
                points=_points(served, now),
                jobs=list(served.jobs[:_JOBS]),
                feed=[note for _, note in served.notes],
            )
        )

    async def store(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """What the store lacks to keep what it acknowledges; looked at every two seconds at most."""
        found = await asyncio.to_thread(self._api.checkup)
        return reply(StoreAnswer([Check(*one) for one in found]))

    async def page(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """The status page."""
        return Answer(self._page, media_type=HTML, headers=_PAGE)

    def _age(self, served: Served) -> float | None:
        return None if served.at is None else max(0.0, self._api.clock() - served.at)

    async def feed(self, request: Request) -> StreamingResponse:
        """What happens, as server-sent events; `Last-Event-ID` goes on where a connection broke off."""
        headers = request.scope["headers"]
        self._api.door.admit(FEED_SCOPE, {}, headers)

        async def is_gone() -> bool:
            # A key that ends while the stream lasts ends the stream.
            return await request.is_disconnected() or not self._may_follow(headers)

        last = _last_event(request.headers.get("last-event-id", ""))
        stream = self.follow(last, is_gone)
        return StreamingResponse(stream, media_type=EVENTS, headers={"cache-control": "no-store"})

    def _may_follow(self, headers: Headers) -> bool:
        try:
            self._api.door.recognise(FEED_SCOPE, {}, headers)
        except ProblemError:
            return False
        return True

    async def follow(self, last: EntryId, is_gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        """The notes after an entry, as they come, until the client is gone or the service ends."""
        yield b"retry: 1000\n\n"
        silent = 0.0
        while not self._api.serving.closing and not await is_gone():
            for entry, note in self._api.serving.now.notes:
                if entry > last:
                    last, silent = entry, 0.0
                    yield b"id: %s\nevent: %s\ndata: %s\n\n" % (
                        str(entry).encode(),
                        note.kind.encode(),
                        msgspec.json.encode(note),
                    )
            if silent >= _KEEP_ALIVE_S:
                silent = 0.0
                yield b": still here\n\n"
            await asyncio.sleep(_POLL_S)
            silent += _POLL_S

    def operations(self) -> list[Operation]:
        """What can be asked about the service."""
        away: tuple[Kind, ...] = ("unavailable",)
        return [
            Operation("GET", "/v1/system", "Look at everything", self.system, SystemAnswer, scope="read"),
            Operation("GET", "/v1/system/store", "Look into the store", self.store, StoreAnswer, scope="read"),
            Operation("GET", "/health/live", "Is it alive?", self.live, Health, limited=False, scope="none"),
            Operation(
                "GET", "/health/ready", "Is it ready?", self.ready, Health, limited=False, problems=away, scope="none"
            ),
            Operation(
                "GET",
                "/metrics",
                "Metrics",
                self.metrics,
                None,
                limited=False,
                media_type=telemetry.MEDIA_TYPE,
                scope="read",
            ),
            Operation("GET", "/", "The status page", self.page, None, limited=False, media_type=HTML, scope="none"),
        ]


def _last_event(text: str) -> EntryId:
    try:
        return EntryId.parse(text)
    except ValueError:
        return EntryId(0, 0)


def _age(progress: Progress, now: float) -> float | None:
    return None if progress.changed is None else max(0.0, now - progress.changed)


def _models(served: Served, now: float) -> list[ModelView]:
    return [
        ModelView(
            name=model.spec.name,
            task=model.spec.task,
            learned=model.learner.learned,
            metrics=model.learner.metrics(),
            baseline=model.learner.baseline(),
            alarms=len(model.learner.alarms),
            drift=model.is_drifting,
            rejected=model.progress.rejected,
            lag=model.progress.lag,
            age_s=_age(model.progress, now),
        )
        for model in served.models.values()
    ]


def _points(served: Served, now: float) -> list[PointView]:
    views = []
    for name, point in served.points.items():
        state = served.states.get(name, PointState())
        values = [
            ValueView(policy, arm, value.decisions, value.rewarded, value.defaulted, value.mean)
            for (policy, arm), value in state.values.items()
        ]
        views.append(
            PointView(
                name=name,
                world=point.point.spec.world,
                baseline=point.point.baseline_name,
                release=point.release,
                decisions=sum(value.decisions for value in values),
                pending=state.pending,
                rejected=state.progress.rejected,
                lag=state.progress.lag,
                age_s=_age(state.progress, now),
                values=values,
                error=served.errors.get(f"point:{name}", ""),
            )
        )
    return views
