"""The operator's hands: buttons for what can be ordered, and the dialog that asks why."""

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui

from service.console.markup import text
from service.console.orders import Order
from service.console.pages import Sheet
from service.console.sessions import Access
from service.outside.client import ServiceError


class Hands:
    """A row of buttons, for those who may act."""

    def __init__(self, access: Access, sheet: Sheet, subject: str) -> None:
        self._access, self._sheet, self._subject = access, sheet, subject
        self._orders: dict[str, Order] = {}
        self._row = ui.element("div").classes("hands")

    def follow(self, orders: Sequence[Order]) -> None:
        """Buttons for what can be ordered now."""
        if not self._sheet.session.acts:
            return
        before, self._orders = list(self._orders), {order.name: order for order in orders}
        if before == list(self._orders):
            return
        self._row.clear()
        with self._row:
            for order in orders:
                button = ui.button(order.name, on_click=self._asked(order.name), color=None)
                button.props("flat no-caps dense").classes(f"order {order.tone}")

    def _asked(self, name: str) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            await ordered(self._access, self._sheet, self._orders[name], self._subject)

        return ask


async def ordered(access: Access, sheet: Sheet, order: Order, subject: str) -> None:
    """Asks for a reason, says what will happen, and gives the order."""
    # Not beside its button: buttons come and go while the dialog is open.
    with ui.context.client.content:
        form = _Form(access, sheet, order, subject)
    if await form.dialog:
        ui.notify(f"{order.name}: done", type="positive")
        await sheet.redraw()
    form.dialog.delete()


class _Form:
    """The dialog of one order; it ends once the service has carried the order out."""

    def __init__(self, access: Access, sheet: Sheet, order: Order, subject: str) -> None:
        self._access, self._sheet, self._order = access, sheet, order
        with ui.dialog() as self.dialog, ui.card().classes("dialog"):
            ui.html(f"<h2>{text(order.name)} · {text(subject)}</h2><p>{text(order.happens)}</p>", sanitize=False)
            self._fields = {name: _select(name, dict(values)) for name, values in order.fields.items()}
            self._fields |= {name: _area(name, written) for name, written in order.texts.items()}
            self._reason = ui.input("Why (kept in the history)").props("outlined dense autofocus").classes("full")
            self._said = ui.label().classes("refusal")
            with ui.element("div").classes("hands"):
                ui.button("Cancel", on_click=lambda: self.dialog.submit(False), color=None).props("flat no-caps")
                self._give = ui.button(order.name, on_click=self._send, color=None)
                self._give.props("unelevated no-caps").classes("give")
        self._reason.on("keydown.enter", self._send)

    async def _send(self) -> None:
        reason, session = self._reason.value.strip(), self._sheet.session
        if not reason:
            self._said.text = "Say why: whoever reads the history will want to know."
            return
        if not (session.acts and self._access.lives(session)):
            self._said.text = "Your session has ended, or may only look: log in again."
            return
        self._give.disable()
        try:
            body = self._order.body({name: field.value for name, field in self._fields.items()})
            await session.reader.post(self._order.path, {**body, "reason": reason, "actor": session.name})
        except (ServiceError, ValueError) as error:
            self._said.text = str(error)
            self._give.enable()
            return
        self.dialog.submit(True)


def _select(name: str, values: dict[str, str]) -> "ui.select | ui.textarea":
    return ui.select(values, label=name, value=next(iter(values))).props("outlined dense").classes("full")


def _area(name: str, written: str) -> "ui.select | ui.textarea":
    return ui.textarea(name, value=written).props("outlined dense autogrow").classes("full")
