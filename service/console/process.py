"""The console's process: an application of its own, which serves pages until it is told to stop."""

import time

import uvicorn
from fastapi import FastAPI
from nicegui import ui
from starlette.routing import Route

from service.console.gate import Gate, handlers
from service.console.markup import ICON
from service.console.routes import register
from service.console.sessions import Access
from service.console.settings import ConsoleSettings
from service.http.guard import Guard
from service.http.serve import serve

_GRACE_S = 2


def application(settings: ConsoleSettings) -> Gate:
    """The console over one service; at most one in a process, since NiceGUI has one set of pages."""
    access = Access(settings, time.time)
    app = FastAPI(title="Trimtab console", docs_url=None, redoc_url=None, openapi_url=None)
    for (method, where), handler in handlers(access).items():
        app.router.routes.append(Route(where, handler, methods=[method]))
    register(access)
    ui.run_with(
        app,
        title="Trimtab",
        favicon=ICON,
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
        binding_refresh_interval=None,
        reconnect_timeout=10.0,
        message_history_length=0,
    )
    return Gate(app, access, Guard(any_host=settings.trust_network))


def run(settings: ConsoleSettings) -> None:
    """Serves pages until SIGTERM."""
    config = uvicorn.Config(
        application(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
        proxy_headers=False,
    )
    serve(config)
