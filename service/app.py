"""The API process: routes over one store, one writer and one immutable picture of what is served."""

import asyncio
import contextlib
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.policy import MAX_SECRET
from online.log import Blob, Log
from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog
from online.specs import ModelSpec
from service.access.audit import Action, Sealed
from service.access.keys import own_keys
from service.access.ledger import AuditLog, KeyLog
from service.access.reach import check_reach, is_private
from service.access.watch import Watch
from service.deciding.bandits import BanditShelf
from service.deciding.declarations import Declarations
from service.deciding.points import Point
from service.deciding.registry import Registry
from service.deciding.serving import Serving
from service.deciding.store import Store, StoreThread
from service.http import openapi
from service.http.api import Api
from service.http.bodies import Bodies
from service.http.door import Door
from service.http.guard import Guard
from service.http.operations import Answer, Call, Endpoint, Gate, Handler, Operation, ShortWay, problem, reply, write
from service.http.problems import Fault, ProblemError, failure, shown
from service.http.protocol import Quick
from service.http.serve import serve
from service.http.telemetry import Telemetry
from service.http.writer import Writer
from service.manifest import Manifest, load
from service.outside.redis_state import Checkup, Found, look
from service.routes.audit import Audit
from service.routes.bandits import Bandits
from service.routes.beliefs import Beliefs
from service.routes.bundles import Bundles
from service.routes.champions import Champions
from service.routes.decisions import Decisions
from service.routes.jobs import Jobs
from service.routes.keys import Keys
from service.routes.models import Models
from service.routes.points import Points
from service.routes.policies import Policies
from service.routes.predictions import Predictions
from service.routes.reports import Reports
from service.routes.series import Series
from service.routes.system import EVENTS, System
from service.routes.traces import Traces
from service.routes.typed import typed_operations
from service.settings import Settings, SettingsError

NAME = "api"
FEED = "/v1/feed"
IN_FLIGHT = 1024
CONNECTIONS = 2048
_GRACE_S = 5
_LAST_TURNS = 10
_TURN_S = 0.0002

_HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
]
"""With every answer: nothing here is to be guessed at, framed, or embedded elsewhere."""

_HTTPS_ALONE = ("strict-transport-security", "max-age=31536000")

_log = logging.getLogger(__name__)

LogFactory = Callable[[], Log]


class Application(FastAPI):
    """FastAPI behind a guard, with a short way to the hot routes, whose endpoints need none of its layers."""

    short_way = ShortWay({})
    guard = Guard(any_host=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a hot route at once, anything else as FastAPI does; nothing to a page of others."""
        if scope["type"] == "http" and (refusal := self.guard.refusal(scope["method"], scope["headers"])) is not None:
            await write(send, problem(refusal))
            return
        if scope["type"] == "http" and scope["method"] == "POST":
            found = self.short_way.find(scope["path"])
            if found is not None:
                endpoint, scope["path_params"] = found
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def create(
    settings: Settings, manifest: Manifest, make_log: LogFactory, blob: Blob, clock: Callable[[], float] = time.time
) -> FastAPI:
    """The application that serves `manifest`.

    Args:
        make_log: Makes a log of its own for each thread.
        blob: Shared by all threads.
        clock: Seconds since the epoch.
    """

    def make_store() -> Store:
        log = make_log()
        registry, declarations = Registry(log, blob, clock), Declarations(log, manifest)
        return Store(log, blob, registry, declarations, KeyLog(log, secret), AuditLog(log, secret))

    secret = settings.secret.get_secret_value().encode()
    store, watch = StoreThread(make_store), Watch(make_log, secret)
    private = is_private(settings)
    door = Door(lambda: watch.keyring, own_keys(secret), private, _noting(store), clock)
    api = Api(
        serving=Serving(manifest, make_store, secret, clock, NAME),
        writer=Writer(make_log),
        store=store,
        bandits=BanditShelf(secret),
        archive=StoreThread(make_store, waiting=8),
        telemetry=Telemetry(),
        watch=watch,
        door=door,
        secret=drawing_key(secret),
        checkup=_checkup(settings),
        clock=clock,
    )
    app = application(api)
    # A page under a name of its own has no key: it can read nothing where the service is not open.
    app.guard = Guard(any_host=settings.trust_network or not private)
    return app


def _checkup(settings: Settings) -> Callable[[], list[Found]]:
    """How the settings' own Redis is."""
    if settings.redis is None:
        return list
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    return Checkup(partial(look, settings.redis, password))


def _noting(store: StoreThread) -> Callable[[Action], Awaitable[Sealed]]:
    async def note(action: Action) -> Sealed:
        return await store.ask(lambda own: own.audit.append(action))

    return note


def drawing_key(secret: bytes) -> bytes:
    """The secret as a key of draws, which has at most 64 bytes."""
    return secret if len(secret) <= MAX_SECRET else blake2b(secret).digest()


def application(api: Api) -> Application:
    """The routes over an API's parts, which start and end with the application."""
    version = metadata.version("trimtab")
    document = _Document(api, version)
    described = Operation("GET", "/openapi.json", "This document", document.answer, None, limited=False, scope="read")
    operations = [*operations_of(api), described]

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        api.writer.start()
        api.watch.start()
        api.serving.start()
        await api.watch.settle()
        await api.serving.settle()
        # What is there now stays: the collector need not look at River, ONNX Runtime and the routes again and again.
        gc.collect()
        gc.freeze()
        yield
        # Answers to what was broken off leave first: what follows holds the event loop.
        for _turn in range(_LAST_TURNS):
            await asyncio.sleep(0)
        api.serving.close()
        api.watch.close()
        api.store.close()
        api.archive.close()
        api.writer.close()

    app = Application(
        title="Trimtab", version=version, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    # Behind a proxy that speaks TLS a redirect would name http://, and who follows it sends the key in the clear.
    app.router.redirect_slashes = False
    gate = Gate(IN_FLIGHT)
    app.state.api = api
    endpoints = _endpoints(operations, gate, Bodies(), api)
    app.short_way = ShortWay({operation.path: endpoints[operation.path] for operation in operations if operation.hot})
    app.router.routes.extend(Route(path, endpoint, methods=endpoint.methods) for path, endpoint in endpoints.items())
    app.router.routes.append(Route(FEED, System(api).feed, methods=["GET"]))
    document.operations = operations
    app.openapi = document.content  # type: ignore[method-assign]  # FastAPI's own way to replace its document
    app.add_exception_handler(404, _not_found)
    app.add_exception_handler(405, _not_allowed)
    app.add_exception_handler(ProblemError, _refused)
    app.add_exception_handler(Exception, _failed)
    api.telemetry.watch("writes_waiting", "Writes that wait for the log", lambda: api.writer.depth)
    api.telemetry.watch("requests_in_flight", "Requests being answered", lambda: gate.waiting)
    return app


def hand_over_quickly() -> None:
    """Makes Python's threads take turns every 0.2 ms instead of every 5.

    The writer's thread needs the interpreter for a moment before and after each call of the log; at 5 ms a turn, a busy
    event loop would keep a whole batch waiting for it (measured: half as many decisions again per second at 0.2 ms).
    """
    sys.setswitchinterval(_TURN_S)


def run(settings: Settings) -> None:
    """Serves HTTP until SIGTERM, then answers what is under way and ends."""
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    url = settings.redis or ""

    def make_log() -> Log:
        return RedisLog(connect(url, password), window=settings.window)

    try:
        check_reach(settings, make_log())
    except SettingsError as error:
        # In a container nobody is at the machine before it can be reached: the door is shut until there is a key.
        _log.warning("%s; until then nobody is answered", error)
    hand_over_quickly()
    app = create(settings, load(settings.manifest), make_log, RedisBlob(connect(url, password)))
    tls = (settings.tls_certificate, settings.tls_key) if settings.tls_certificate and settings.tls_key else None
    serve(served_at(app, settings.host, settings.port, settings.log_level, tls))


def served_at(
    app: ASGIApp, host: str, port: int, log_level: str = "warning", tls: tuple[Path, Path] | None = None
) -> uvicorn.Config:
    """How uvicorn serves the application; a client's address is never looked at, so no proxy is asked for it.

    Args:
        tls: Files of the certificate and its key, to serve HTTPS.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level=log_level,
        access_log=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
        headers=_HEADERS if tls is None else [*_HEADERS, _HTTPS_ALONE],
        ssl_certfile=None if tls is None else str(tls[0]),
        ssl_keyfile=None if tls is None else str(tls[1]),
        proxy_headers=False,
        http=Quick,
        ws="none",
    )


def operations_of(api: Api) -> list[Operation]:
    """Everything that can be asked, the hot routes first: routes are tried in this order."""
    hot = (Decisions(api), Predictions(api), Traces(api))
    looked = (Reports(api), Series(api), Beliefs(api), Bundles(api), Keys(api), Audit(api), System(api))
    parts = (*hot, Models(api), Champions(api), Policies(api), Points(api), Bandits(api), Jobs(api), *looked)
    operations = [operation for part in parts for operation in part.operations()]
    # An id in the last place matches whatever stands there: `report` and `export` must be tried before it.
    return sorted(operations, key=lambda operation: operation.path.endswith("/{id}"))


def _endpoints(operations: list[Operation], gate: Gate, bodies: Bodies, api: Api) -> dict[str, Endpoint]:
    """One endpoint for each path, which knows the path's methods."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return {path: Endpoint(group, gate, bodies, api.telemetry, api.door) for path, group in by_path.items()}


class _Document:
    """The OpenAPI document: all operations, its own among them, and typed paths for what is served."""

    def __init__(self, api: Api, version: str) -> None:
        self._api = api
        self._version = version
        self._shown: tuple[list[Point], list[ModelSpec]] = [], []
        self._content: dict[str, Any] = {}
        self.operations: list[Operation] = []

    async def answer(self, _: Call) -> Answer:
        """The OpenAPI document, with typed paths for each decision point and each model."""
        return reply(self.content())

    def content(self) -> dict[str, Any]:
        """The document, made anew when points or models come, change and go."""
        now = self._api.serving.now
        points = [served.point for served in now.points.values()]
        models = [served.spec for served in now.models.values()]
        if not self._content or [*map(id, (*points, *models))] != [*map(id, (*self._shown[0], *self._shown[1]))]:
            self._shown = points, models
            names = {"point": points[0].name} if points else {}
            names |= {"model": models[0].name} if models else {}
            described = self._documented(points, models)
            self._content = openapi.document(described, version=self._version, names=names)
        return self._content

    def _documented(self, points: list[Point], models: list[ModelSpec]) -> list[Operation]:
        followed = Operation(
            "GET", FEED, "Follow what happens", cast(Handler, System.feed), None, media_type=EVENTS, scope="read"
        )
        return [*typed_operations(self.operations, points, models), *self.operations, followed]


async def _not_found(request: Request, _: Exception) -> Response:
    path = request.url.path
    fault = Fault("path", "an address that /openapi.json lists", shown(path))
    return _response(ProblemError("unknown-route", f"There is nothing at {path}; see /openapi.json.", fault))


async def _not_allowed(request: Request, error: Exception) -> Response:
    headers = dict(getattr(error, "headers", None) or {})
    allowed = headers.get("Allow", "another")
    detail = f"{request.url.path} does not answer {request.method}; it answers {allowed}."
    fault = Fault("method", f"one of: {allowed}", request.method)
    return _response(ProblemError("not-allowed-method", detail, fault, headers=headers))


async def _failed(_: Request, __: Exception) -> Response:
    # The error goes on to the server, which logs it.
    return _response(failure())


async def _refused(_: Request, error: Exception) -> Response:
    return _response(cast(ProblemError, error))


def _response(error: ProblemError) -> Response:
    answer = problem(error)
    return Response(answer.body, answer.status, dict(answer.headers), answer.media_type)
