"""Which page stands where: what each reads of the service, and how often."""

import asyncio
from collections.abc import Mapping
from typing import Any

from nicegui import ui
from starlette.requests import Request

from service.console import audit, decision, model, overview, point, policy, system
from service.console.hands import Hands, ordered
from service.console.markup import card, nothing, path
from service.console.orders import champions, replay, resumed
from service.console.pages import Sheet, opened
from service.console.point_sheet import PointSheet
from service.console.reader import SYSTEM, Reader
from service.console.sessions import Access

_SPANS = {str(span): span for span, _ in point.SPANS}
_NO_BELIEFS: Mapping[str, Any] = {"parameters": [], "alarms": []}


def register(access: Access) -> None:
    """Puts every page in its place."""

    @ui.page("/")
    async def overview_page(request: Request) -> None:
        await _overview(opened(request, "Overview"))

    @ui.page("/points/{name}")
    async def point_page(request: Request, name: str, span: str = "3600") -> None:
        await PointSheet(access, opened(request, name), name, _SPANS.get(span, 3600)).begin()

    @ui.page("/decisions/{name}/{decision_id}")
    async def decision_page(request: Request, name: str, decision_id: str, key: str = "") -> None:
        await _decision(opened(request, decision_id), name, decision_id, key)

    @ui.page("/models/{name}")
    async def model_page(request: Request, name: str, span: str = "3600") -> None:
        await _model(access, opened(request, name), name, _SPANS.get(span, 3600))

    @ui.page("/policies/{name}/{digest}")
    async def policy_page(request: Request, name: str, digest: str, other: str = "baseline") -> None:
        await _policy(opened(request, digest[:10]), name, digest, request, other)

    @ui.page("/audit")
    async def audit_page(request: Request, before: str = "") -> None:
        await _audit(opened(request, "Audit", "Audit"), before)

    @ui.page("/system")
    async def system_page(request: Request) -> None:
        await _system(opened(request, "System", "System"))


async def _overview(sheet: Sheet) -> None:
    reader = sheet.session.reader

    async def needs() -> str:
        return overview.attention(await reader.get(SYSTEM), reader.peek)

    async def points() -> str:
        return overview.points(await reader.get(SYSTEM), reader.peek)

    async def models() -> str:
        return overview.models(await reader.get(SYSTEM), reader.peek)

    async def feed() -> str:
        return card("What happened", overview.feed((await reader.get(SYSTEM))["feed"]))

    with ui.element("main").classes("page"):
        sheet.region(needs, 1.0)
        with ui.element("div").classes("split"):
            with ui.element("div"):
                ui.html("<h2 class=section>Decision points</h2>", sanitize=False)
                sheet.region(points, 2.0)
                ui.html("<h2 class=section>Models</h2>", sanitize=False)
                sheet.region(models, 2.0)
            sheet.region(feed, 1.0)
    await sheet.begin()


async def _decision(sheet: Sheet, name: str, decision_id: str, key: str) -> None:
    reader = sheet.session.reader

    async def page() -> str:
        query = f"?key={path(key)[1:]}" if key else ""
        trace, told = await asyncio.gather(
            reader.get(path("v1", "decisions", name, decision_id) + query, 2.0),
            reader.get(path("v1", "points", name), 60.0),
        )
        return decision.page({**trace, "point": name}, told)

    with ui.element("main").classes("page"):
        sheet.region(page, 2.0)
    await sheet.begin()


async def _model(access: Access, sheet: Sheet, name: str, span: int) -> None:
    reader, base = sheet.session.reader, path("v1", "models", name)

    async def title() -> str:
        found = await reader.get(base)
        hands.follow([*champions(name, found), *resumed(name, found)])
        return model.title(found)

    async def strip() -> str:
        return model.strip(await reader.get(base))

    async def errors() -> str:
        series, alarms = await asyncio.gather(
            reader.get(f"{base}/series?span={span}", 2.0), reader.get(f"{base}/alarms", 2.0)
        )
        return model.errors(series, alarms)

    async def drift() -> str:
        return model.drift(await reader.get(f"{base}/alarms", 2.0))

    async def declared() -> str:
        found = await reader.get(base)
        return f"<div class=grid>{model.challengers(found)}{model.labels(found)}{model.features(found)}</div>"

    with ui.element("main").classes("page"):
        with ui.element("div").classes("head"):
            sheet.region(title, 1.0)
            hands = Hands(access, sheet, name)
        sheet.region(strip, 1.0)
        ui.html(point.spans(span), sanitize=False)
        sheet.region(errors, 2.0)
        sheet.region(drift, 5.0)
        sheet.region(declared, 5.0)
        await _rejects(access, sheet, name, reader)
    await sheet.begin()


async def _rejects(access: Access, sheet: Sheet, name: str, reader: Reader) -> None:
    """What was set aside, with a button each to bring it back."""
    base = path("v1", "models", name, "rejects")
    with ui.element("section").classes("card"):
        ui.html("<header><h2>Set aside</h2></header>", sanitize=False)
        rows = ui.element("div").classes("rejects")
    shown: list[str] = []

    async def follow() -> str:
        found = (await reader.get(f"{base}?limit=20", 2.0))["rejects"]
        entries = [one["entry"] for one in found]
        if entries != shown or not rows.default_slot.children:
            shown[:] = entries
            rows.clear()
            with rows:
                if not found:
                    ui.html(nothing("Nothing was set aside: every entry could be learned from."), sanitize=False)
                for one in found:
                    _reject(access, sheet, name, one)
        return ""

    sheet.region(follow, 2.0)


def _reject(access: Access, sheet: Sheet, name: str, found: Mapping[str, Any]) -> None:
    order = replay(name, found)
    with ui.element("div").classes("reject"):
        ui.html(model.reject_line(found), sanitize=False)
        if sheet.session.acts:
            button = ui.button("Replay", on_click=lambda: ordered(access, sheet, order, name), color=None)
            button.props("flat no-caps dense").classes("order")


async def _policy(sheet: Sheet, name: str, digest: str, request: Request, other: str) -> None:
    reader, bundles = sheet.session.reader, path("v1", "policies", name)
    across, down = request.query_params.get("across", ""), request.query_params.get("down", "")
    axes = "&".join(f"{side}={value}" for side, value in (("across", across), ("down", down)) if value)

    async def title() -> str:
        bundle, listed = await asyncio.gather(reader.get(f"{bundles}/bundles/{digest}", 60.0), reader.get(bundles, 2.0))
        role = next((one["role"] for one in listed["policies"] if one["digest"] == digest), "")
        return policy.title(name, bundle, role)

    async def facts() -> str:
        bundle = await reader.get(f"{bundles}/bundles/{digest}", 60.0)
        beside = f"<div class=stack>{policy.training(bundle)}{policy.measured(bundle)}</div>"
        return f"<div class=grid>{policy.described(bundle)}{beside}</div>"

    async def worth() -> str:
        asked = dict.fromkeys([digest, other, "baseline"])
        found, beliefs = await asyncio.gather(
            reader.get(f"{path('v1', 'points', name)}/worth?policies={','.join(asked)}", 60.0),
            reader.get(f"{path('v1', 'points', name)}/beliefs", 2.0),
        )
        return policy.worth(found, {one: one[:10] for one in asked}, beliefs)

    async def maps() -> str:
        wanted = [one for one in dict.fromkeys([digest, other]) if one]
        found = await asyncio.gather(*(reader.get(f"{bundles}/bundles/{one}/map?{axes}", 30.0) for one in wanted))
        named = [(one[:10], answer) for one, answer in zip(wanted, found, strict=True)]
        return f"<div class=grid>{policy.maps(named[0], named[1] if len(named) > 1 else None)}</div>"

    async def chosen() -> str:
        listed, seen = await asyncio.gather(
            reader.get(bundles, 2.0), reader.get(f"{bundles}/bundles/{digest}/map?{axes}", 30.0)
        )
        return policy.choices(digest, other, [one["digest"] for one in listed["policies"]], seen)

    with ui.element("main").classes("page"):
        sheet.region(title, 2.0)
        sheet.region(chosen, 5.0)
        sheet.region(worth, 5.0)
        sheet.region(maps, 10.0)
        sheet.region(facts, 10.0)
    await sheet.begin()


async def _audit(sheet: Sheet, before: str) -> None:
    reader = sheet.session.reader
    earlier = f"&before={before}" if before.isdigit() else ""

    async def orders() -> str:
        found = await reader.get(f"/v1/audit?last=50{earlier}", 2.0)
        return audit.orders(found, reader.peek("/v1/audit/check", 60.0))

    async def changes() -> str:
        seen, work = await asyncio.gather(reader.get(SYSTEM), reader.get("/v1/jobs", 2.0))
        names = [one["name"] for one in seen["points"]]
        found = await asyncio.gather(*(reader.get(f"{path('v1', 'policies', one)}/releases", 3.0) for one in names))
        releases = [(one, release) for one, answer in zip(names, found, strict=True) for release in answer["releases"]]
        return audit.changes(releases, work["jobs"])

    with ui.element("main").classes("page"):
        ui.html("<div class=title><h1>Audit</h1><p class=soft>who changed what, and why</p></div>", sanitize=False)
        sheet.region(orders, 2.0)
        sheet.region(changes, 2.0)
    await sheet.begin()


async def _system(sheet: Sheet) -> None:
    reader = sheet.session.reader
    before: list[tuple[float, int]] = []

    async def strip() -> str:
        seen = await reader.get(SYSTEM)
        before.append((seen["at"], sum(one["decisions"] for one in seen["points"])))
        del before[:-30]
        (first, few), (last, many) = before[0], before[-1]
        return system.strip(seen, (many - few) / (last - first) if last > first else None)

    async def processes() -> str:
        return system.processes(await reader.get(SYSTEM))

    async def store() -> str:
        return system.store(await reader.get("/v1/system/store", 5.0))

    async def learners() -> str:
        return system.learners(await reader.get(SYSTEM))

    async def jobs() -> str:
        return system.jobs(await reader.get(SYSTEM))

    async def history() -> str:
        return system.history(await reader.get(SYSTEM))

    async def counted() -> str:
        return system.counted(await reader.text("/metrics"))

    with ui.element("main").classes("page"):
        ui.html("<div class=title><h1>System</h1></div>", sanitize=False)
        sheet.region(strip, 1.0)
        sheet.region(processes, 1.0)
        with ui.element("div").classes("grid"):
            sheet.region(store, 5.0)
            sheet.region(counted, 5.0)
            sheet.region(learners, 2.0, "wide")
        sheet.region(jobs, 2.0)
        sheet.region(history, 2.0)
    await sheet.begin()
