"""A point's page put together: what it reads of the service, how often, and where the operator's buttons stand."""

import asyncio
from typing import Any

from nicegui import ui

from service.console import point
from service.console.hands import Hands
from service.console.markup import is_digest, path
from service.console.orders import orders_of
from service.console.pages import Sheet
from service.console.reader import SYSTEM
from service.console.sessions import Access

_LAST = 2000
"""Decisions by which policies are held against one another; the service reads no more of its log for that."""

_RIVALS = 6


class PointSheet:
    """The page of one point in one browser, over the last `span` seconds; 0 is everything."""

    def __init__(self, access: Access, sheet: Sheet, name: str, span: int) -> None:
        self._access, self._sheet, self._name, self._span = access, sheet, name, span
        self._reader = sheet.session.reader
        self._base, self._bundles = path("v1", "points", name), path("v1", "policies", name)
        self._report = f"{path('v1', 'decisions', name)}/report?last={_LAST}"

    async def begin(self) -> None:
        """Puts every part in its place."""
        sheet = self._sheet
        with ui.element("main").classes("page"):
            with ui.element("div").classes("head"):
                sheet.region(self._title, 1.0)
                self._hands = Hands(self._access, sheet, self._name)
            sheet.region(self._strip, 1.0)
            ui.html(point.spans(self._span), sanitize=False)
            sheet.region(self._charts, 2.0)
            with ui.element("div").classes("grid"):
                sheet.region(self._adaptation, 1.0)
                sheet.region(self._registered, 2.0)
            sheet.region(self._evidence, 1.0)
            sheet.region(self._releases, 2.0)
            sheet.region(self._latest, 2.0)
        await sheet.begin()

    async def _view(self) -> Any:
        seen = await self._reader.get(SYSTEM)
        found = next((one for one in seen["points"] if one["name"] == self._name), None)
        # A point that is not there: the service's own words say which there are.
        return found if found is not None else await self._reader.get(self._base)

    async def _title(self) -> str:
        return point.title(await self._view(), self._reader.peek(f"{self._base}/adaptation", 2.0))

    async def _strip(self) -> str:
        beliefs = await self._reader.get(f"{self._base}/beliefs")
        report = self._reader.peek(self._report, 120.0)
        return point.strip(await self._view(), report, beliefs, self._reader.peek(f"{self._base}/worth", 30.0))

    async def _charts(self) -> str:
        series, beliefs, releases, told = await asyncio.gather(
            self._reader.get(f"{self._base}/series?span={self._span}", 5.0),
            self._reader.get(f"{self._base}/beliefs"),
            self._reader.get(f"{self._bundles}/releases", 5.0),
            self._reader.get(self._base, 60.0),
        )
        past = releases["releases"]
        served = [one[role] for one in past[:_RIVALS] for role in ("incumbent", "candidate")]
        # What is lost to the optimum is known of bundles and the rule; a bandit has no fixed answer to reckon it from.
        bundles = [name for name in served if name and is_digest(name)]
        names = list(dict.fromkeys(["baseline", *bundles]))[:_RIVALS]
        worth = self._reader.peek(f"{self._base}/worth?policies={','.join(names)}", 60.0)
        report = self._reader.peek(self._report, 120.0)
        outcomes = "<div class='card wait'></div>" if report is None else point.outcomes(report)
        return f"<div class=grid>{point.charts(series, beliefs, worth, past, told['action_unit'])}{outcomes}</div>"

    async def _adaptation(self) -> str:
        return point.adaptation(await self._reader.get(f"{self._base}/adaptation"))

    async def _evidence(self) -> str:
        report = self._reader.peek(self._report, 120.0)
        if report is None:
            return "<div class='card wait'></div>"
        return point.evidence(report)

    async def _releases(self) -> str:
        return point.releases(self._name, await self._reader.get(f"{self._bundles}/releases", 5.0))

    async def _registered(self) -> str:
        found = await self._reader.get(self._bundles, 5.0)
        self._hands.follow(orders_of(self._name, found))
        return point.policies(self._name, found)

    async def _latest(self) -> str:
        return point.latest(self._name, await self._reader.get(f"{self._base}/latest?last=12", 2.0))
