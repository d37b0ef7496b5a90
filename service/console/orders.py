"""The operator's hands: each order asks for a reason, says what will happen, and is carried out by the API."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from service.console.markup import path, short
from service.console.pages import Sheet
from service.console.sessions import Access
from service.outside.client import ServiceError

MODES = ("off", "apprentice", "shadow", "canary", "live")


@dataclass(frozen=True)
class Order:
    """One button.

    Attributes:
        happens: What will happen, in a sentence.
        fields: Names of what else must be chosen, with the possible values.
        body: What is sent besides reason and actor, from what was chosen.
    """

    name: str
    happens: str
    path: str
    fields: Mapping[str, Mapping[str, str]]
    body: Callable[[Mapping[str, Any]], dict[str, Any]]
    tone: str = ""


def orders_of(point: str, policies: Mapping[str, Any]) -> list[Order]:
    """What can be ordered at a point as it stands."""
    base = path("v1", "policies", point)
    release = policies["release"]
    serving = short(release["incumbent"]) or "the rule"
    bundles = {
        one["digest"]: f"{short(one['digest'])} · {one['algo'] or one['kind']} {one['role']}"
        for one in policies["policies"]
    }
    held = policies["held"]
    nothing: Mapping[str, Mapping[str, str]] = {}
    hold = Order(
        "Release hold" if held else "Hold",
        "The service may release by itself again."
        if held
        else "The service releases nothing by itself until the hold ends; what serves goes on.",
        f"{base}/{'release' if held else 'hold'}",
        nothing,
        dict,
    )
    found = [
        Order(
            "Stop",
            "The rule serves every request at once, without exploration. Nothing is lost: Mode brings the policy back.",
            f"{base}/mode",
            nothing,
            lambda _: {"mode": "off"},
            "stop",
        ),
        Order(
            "Roll back",
            "The candidate is dropped; where there is none, what served before serves again.",
            f"{base}/rollback",
            nothing,
            dict,
        ),
        Order(
            "Mode",
            f"The point is served in another mode; {serving} is the incumbent now.",
            f"{base}/mode",
            {"mode": {m: m for m in MODES}, "digest": {"": "as it is", **bundles}},
            _chosen,
        ),
        Order(
            "Promote",
            f"The bundle serves every request, live, instead of {serving}.",
            f"{base}/promote",
            {"digest": bundles},
            _chosen,
        ),
        Order(
            "Train now",
            "A job is queued: a candidate is trained for the declared ranges. It does not serve until it is released.",
            f"{base}/train",
            nothing,
            dict,
        ),
        hold,
    ]
    return [order for order in found if all(order.fields.values())]


def _chosen(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


class Hands:
    """The row of buttons of a point, for those who may act."""

    def __init__(self, access: Access, sheet: Sheet, point: str) -> None:
        self._access = access
        self._sheet = sheet
        self._point = point
        self._shown: tuple[str, ...] = ()
        self._row = ui.element("div").classes("hands")

    async def follow(self, policies: Mapping[str, Any]) -> None:
        """Buttons for what can be ordered now."""
        if not self._sheet.session.acts:
            return
        orders = orders_of(self._point, policies)
        names = tuple(order.name for order in orders)
        self._orders = {order.name: order for order in orders}
        if names == self._shown:
            return
        self._shown = names
        self._row.clear()
        with self._row:
            for order in orders:
                ui.button(order.name, on_click=self._asked(order.name), color=None).props("flat no-caps dense").classes(
                    f"order {order.tone}"
                )

    def _asked(self, name: str) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            await ordered(self._access, self._sheet, self._orders[name], self._point)

        return ask


async def ordered(access: Access, sheet: Sheet, order: Order, subject: str) -> None:
    """Asks for a reason, says what will happen, and gives the order."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        ui.html(f"<h2>{order.name} · {subject}</h2><p>{order.happens}</p>", sanitize=True)
        chosen = {
            name: ui.select(dict(values), label=name, value=next(iter(values))).props("outlined dense").classes("full")
            for name, values in order.fields.items()
        }
        reason = ui.input("Why (kept in the history)").props("outlined dense autofocus").classes("full")
        said = ui.label().classes("refusal")
        with ui.element("div").classes("hands"):
            ui.button("Cancel", on_click=lambda: dialog.submit(None), color=None).props("flat no-caps")
            give = ui.button(order.name, color=None).props("unelevated no-caps").classes("give")

    async def send() -> None:
        if not reason.value.strip():
            said.text = "Say why: whoever reads the history will want to know."
            return
        if not (sheet.session.acts and access.lives(sheet.session)):
            said.text = "Your session has ended, or may only look: log in again."
            return
        body = order.body({name: field.value for name, field in chosen.items()})
        give.disable()
        try:
            await sheet.session.reader.post(
                order.path, {**body, "reason": reason.value.strip(), "actor": sheet.session.name}
            )
        except ServiceError as error:
            said.text = str(error)
            give.enable()
            return
        dialog.submit(True)

    give.on_click(send)
    reason.on("keydown.enter", send)
    if await dialog:
        ui.notify(f"{order.name}: done", type="positive")
        await sheet.redraw()
    dialog.delete()
