"""The way in: log-in and log-out as plain forms, and what keeps pages of others out."""

from collections.abc import Awaitable, Callable
from importlib import resources
from urllib.parse import parse_qs, quote

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.console.markup import ICON, text
from service.console.reader import Unreachable
from service.console.sessions import COOKIE, LASTS_S, Access
from service.http.guard import Guard

_MOST_BYTES = 8192
_OPEN = ("/login", "/logout", "/_nicegui", "/favicon.ico")
"""Where nothing of the service is shown: the log-in, and NiceGUI's own files and web socket, which asks for the random
name of a page that only its viewer has."""

_HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
_STYLE = (resources.files("service.console") / "console.css").read_text()


class Gate:
    """The application behind its guard: pages are for those who have logged in, and nothing is for pages of others."""

    def __init__(self, app: ASGIApp, access: Access, guard: Guard) -> None:
        self._app, self._access, self._guard = app, access, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        # A web socket may change things whatever it is opened with: to the guard it is a POST.
        refusal = self._guard.refusal(scope.get("method", "POST"), scope["headers"])
        if refusal is not None:
            await _refuse(scope, receive, send, str(refusal))
            return
        # The path that is served, not that of an address: a Host may be made so that the two differ.
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        if not path.startswith(_OPEN):
            session = await self._access.session(HTTPConnection(scope).cookies.get(COOKIE))
            if session is None:
                back = quote(path + (f"?{query}" if query else ""), safe="")
                await RedirectResponse(f"/login?next={back}", 303)(scope, receive, send)
                return
            scope.setdefault("state", {})["session"] = session
        await self._app(scope, receive, _with_headers(send))


async def _refuse(scope: Scope, receive: Receive, send: Send, why: str) -> None:
    if scope["type"] == "http":
        await Response(why, 403, media_type="text/plain")(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return sending


Handler = Callable[[Request], Awaitable[Response]]


def handlers(access: Access) -> dict[tuple[str, str], Handler]:
    """What answers at the log-in's addresses, by method and path."""

    async def form(request: Request) -> Response:
        return _form(request.query_params.get("next", "/"))

    async def login(request: Request) -> Response:
        fields = await _fields(request)
        try:
            session = await access.admit(fields.get("token", "").strip())
        except Unreachable:
            return _form(fields.get("next", "/"), "The service does not answer: try again in a moment.", 503)
        if session is None:
            return _form(fields.get("next", "/"), "This key is not known, has expired, or may not look here.", 401)
        answer = RedirectResponse(_inside(fields.get("next", "/")), 303)
        secure = access.https or request.url.scheme == "https"
        answer.set_cookie(COOKIE, session.id, int(LASTS_S), httponly=True, samesite="strict", secure=secure)
        return answer

    async def logout(request: Request) -> Response:
        await access.end(request.cookies.get(COOKIE))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    return {("GET", "/login"): form, ("POST", "/login"): login, ("POST", "/logout"): logout}


async def _fields(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            return {}
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _inside(after: str) -> str:
    """Where to go after the log-in: a page of the console, never another site."""
    return after if after.startswith("/") and not after.startswith(("//", "/\\")) else "/"


def _form(after: str, trouble: str = "", status: int = 200) -> HTMLResponse:
    said = f"<p class=bad role=alert>{text(trouble)}</p>" if trouble else ""
    return HTMLResponse(
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>Log in · Trimtab</title>"
        f"<meta name=viewport content='width=device-width, initial-scale=1'><style>{_STYLE}</style></head><body>"
        f"<main class='card login'><a class=brand href='/'>{ICON}Trimtab</a><form method=post action=/login>"
        f"<label for=token>API key</label><input id=token name=token type=password autofocus required "
        f"autocomplete=current-password><input type=hidden name=next value='{text(_inside(after))}'>"
        f"<button>Log in</button></form>{said}<p class=soft>A key that may read shows everything; one that may operate "
        f"has buttons too.</p></main></body></html>",
        status,
    )
