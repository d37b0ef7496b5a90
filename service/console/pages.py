"""The pages as they stand in a browser: regions that are drawn anew where what they show has changed."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import resources

from nicegui import ui
from starlette.requests import Request

from agents.drawing import SCRIPT, STYLE
from service.console.markup import ICON, link, nothing, pill, seconds, text
from service.console.reader import SYSTEM, Unreachable
from service.console.sessions import Session
from service.outside.client import ServiceError

NAV = (("Overview", ()), ("Audit", ("audit",)), ("System", ("system",)))

_STYLE = (resources.files("service.console") / "console.css").read_text()
_TURN_S = 1.0
_FIRST_S = 1.0
_AWAY_S = 1.5
_WAIT = "<div class='card wait' aria-busy=true></div>"

Make = Callable[[], Awaitable[str]]


@dataclass
class Region:
    """A part of a page: how its HTML is made, and every how many seconds."""

    element: ui.html
    make: Make
    every: float
    due: float = 0.0
    busy: bool = False

    async def turn(self, now: float) -> None:
        """Draws it anew, where it is due and has changed."""
        if self.busy or now < self.due:
            return
        self.busy, self.due = True, now + self.every
        try:
            made = await self.make()
        except Unreachable:
            made = self.element.content or _WAIT
        except ServiceError as error:
            made = _refused(error)
        finally:
            self.busy = False
        if made != self.element.content:
            self.element.set_content(made)


def _refused(error: ServiceError) -> str:
    what = "There is no such thing here" if error.status == 404 else "The service refuses"
    back = link("Back to the overview")
    return f"<section class=card>{nothing(f'{what}: {text(error)} {back}')}</section>"


@dataclass
class Sheet:
    """One page in one browser: its regions, and how much of the service's news they have seen."""

    session: Session
    regions: list[Region] = field(default_factory=list)
    news: int = 0

    def region(self, make: Make, every: float = 2.0, classes: str = "") -> Region:
        """A part of the page, drawn every so many seconds while the page is open."""
        found = Region(ui.html("", sanitize=False).classes(classes), make, every)
        self.regions.append(found)
        return found

    async def begin(self) -> None:
        """Draws everything that comes quickly, then goes on for as long as the browser is there."""
        self.session.reader.listen()
        now = time.monotonic()
        turns = [asyncio.create_task(region.turn(now)) for region in self.regions]
        if turns:
            await asyncio.wait(turns, timeout=_FIRST_S)
        for region in self.regions:
            if not region.element.content:
                region.element.set_content(_WAIT)
        ui.timer(_TURN_S, self._turn)

    async def redraw(self) -> None:
        """Draws everything at once: something was changed."""
        for region in self.regions:
            region.due = 0.0
        await self._turn()

    async def _turn(self) -> None:
        now, reader = time.monotonic(), self.session.reader
        reader.listen()
        if self.news != reader.news:
            self.news = reader.news
            for region in self.regions:
                region.due = 0.0
        await asyncio.gather(*(region.turn(now) for region in self.regions))


def opened(request: Request, title: str, current: str = "Overview") -> Sheet:
    """The frame of a page, for whoever asks."""
    session: Session = request.state.session
    ui.page_title(f"{title} · Trimtab")
    ui.add_head_html(f"<style>{STYLE}{_STYLE}</style><script>{SCRIPT}</script>")
    sheet = Sheet(session)
    links = "".join(
        f"<a href='/{'/'.join(parts)}'{' aria-current=page' if words == current else ''}>{words}</a>"
        for words, parts in NAV
    )
    who = text(session.name) if session.id else ""
    out = "<form method=post action=/logout><button class=plain>log out</button></form>" if session.id else ""
    role = "" if session.acts else pill("read only", "warn", "this key may look, not act")
    with ui.element("header").classes("top"):
        ui.html(
            f"<a class=brand href='/'>{ICON}Trimtab</a><nav aria-label=Pages>{links}</nav>", sanitize=False
        ).classes("left")
        sheet.region(lambda: _status(sheet), 1.0, "status")
        ui.html(f"{role}<span class=soft>{who}</span>{out}", sanitize=False).classes("who")
    sheet.region(lambda: _banner(sheet), 1.0, "banner")
    return sheet


async def _status(sheet: Sheet) -> str:
    reader = sheet.session.reader
    with contextlib.suppress(Unreachable, ServiceError):
        await reader.get(SYSTEM)
    if reader.trouble and reader.silent_s > _AWAY_S:
        return pill("unreachable", "bad")
    system = reader.peek(SYSTEM, 5.0)
    if system is None:
        return pill("connecting")
    return pill("store silent", "bad") if system["age_s"] > 5 else pill("live", "good")


async def _banner(sheet: Sheet) -> str:
    """What is wrong with the whole, `` for nothing."""
    reader = sheet.session.reader
    if reader.trouble and (reader.silent_s > _AWAY_S):
        known = reader.silent_s < float("inf")
        since = f"It answered last {seconds(round(reader.silent_s))} ago; what you see is from then." if known else ""
        return (
            f"<div class='away' role=alert><b>The service at {text(reader.url)} does not answer.</b> {since} "
            f"This page goes on by itself once it is back. <small>{text(reader.trouble)}</small></div>"
        )
    system = reader.peek(SYSTEM, 5.0)
    if system is not None and system["age_s"] > 5:
        return (
            f"<div class='away' role=alert><b>The store has been silent for {seconds(system['age_s'])}.</b> "
            f"What was served last goes on; writes are refused until it is back.</div>"
        )
    return ""
