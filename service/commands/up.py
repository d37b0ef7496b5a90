"""`trimtab up`."""

import importlib.util
import logging
import time
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.text import Text

from online.redis_client import connect
from online.redis_log import RedisLog
from service import settings as environment
from service.commands.output import CommandError, UsageError, visible
from service.console import settings as console_settings
from service.processes.narration import Errors, Narrator, Tail
from service.processes.supervisor import SERVICES, Plan, StartError, free_port, up
from service.settings import Settings, SettingsError

_SHOP, _CONSOLE = "shop", "console"
_POINT, _MODEL = "price", "demand"
_RATE = 40.0
_ENTITIES = 20
_SHIFTS = ((2.5, "sensitivity=1.8"), (4.0, "sensitivity=4"))
"""Minutes of the shop's traffic, and what its customers become: within what the policy was trained for, then beyond."""

_WINDOW = 100_000


class Screen:
    """The terminal of the person who typed `trimtab up`. A terminal that has gone away is no reason to fail."""

    def __init__(self) -> None:
        """Colour where there is a terminal, plain lines where there is none."""
        self._console = Console(highlight=False, soft_wrap=True)

    def say(self, source: str, text: str) -> None:
        """One line."""
        self._line(source, text, "")

    def warn(self, source: str, text: str) -> None:
        """One line that stands out."""
        self._line(source, text, "bold yellow")

    def _line(self, source: str, text: str, style: str) -> None:
        line = Text.assemble(
            (time.strftime("%H:%M:%S"), "dim"), "  ", (f"{source:<8}", "cyan"), " ", (visible(text), style)
        )
        try:
            self._console.print(line)
        except OSError:
            logging.getLogger(__name__).debug("the terminal is gone")


def run(
    manifest: Path | None,
    data: Path | None,
    demo: bool,
    port: int | None,
    tls: tuple[Path | None, Path | None],
    console: bool,
    others: Mapping[str, list[str]] = MappingProxyType({}),
) -> int:
    """Run the service until Ctrl-C; `others` are commands that are played against it, by name."""
    screen = Screen()
    if demo and manifest is None:
        manifest = demo_manifest()
    try:
        # A demo that runs for weeks must not fill the memory of a laptop with the ids of its shop.
        window = _WINDOW if demo else None
        certificate, key = (path and path.absolute() for path in tls)
        given = {"manifest": manifest, "data": data, "port": port, "tls_certificate": certificate, "tls_key": key}
        settings = environment.read(window=window, **given)
        _require(settings.manifest)
        guests = {_SHOP: shop(_RATE)} if demo else dict(others)
        if console:
            guests |= _console(screen)
        return up(settings, Plan(guests, lambda running: _watch(running, screen)), screen)
    except SettingsError as error:
        raise UsageError(str(error)) from None
    except StartError as error:
        raise CommandError(str(error)) from None


def demo_manifest() -> Path:
    """The manifest that comes along."""
    return Path(str(resources.files("service") / "demo.toml"))


def shop(rate: float) -> list[str]:
    """The demo's outside world: one shop that asks for prices, and whose customers change after some minutes."""
    shifts = [part for at, what in _SHIFTS for part in ("--shift", f"at={round(at * 60 * rate)},{what}")]
    return [
        *("simulate", _POINT, "--url", "{url}", "--decisions", "0", "--rate", f"{rate:g}"),
        *("--entities", f"{_ENTITIES}", "--model", _MODEL, "--every", "30", *shifts),
    ]


def _console(screen: Screen) -> dict[str, list[str]]:
    """The console as a guest, on its own port or any free one; nobody where its packages are not installed."""
    if importlib.util.find_spec("nicegui") is None:
        screen.say("trimtab", "no console: its packages come with pip install 'trimtab[console]'")
        return {}
    wanted = console_settings.read()
    try:
        port = free_port(wanted.host, wanted.port)
    except StartError:
        port = free_port(wanted.host, 0)
    return {_CONSOLE: ["console", "--url", "{url}", "--port", str(port)]}


def _require(manifest: Path) -> None:
    if manifest.is_file():
        return
    raise UsageError(
        f"there is no manifest {manifest}: write one (a copy of {demo_manifest()} is a beginning), name another with "
        f"--manifest, or see the demo with `trimtab up --demo`"
    )


def _watch(settings: Settings, screen: Screen) -> Callable[[], None]:
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    logs = settings.data / "logs"
    watchers: list[Callable[[], None]] = [
        Narrator(RedisLog(connect(settings.redis or "", password)), screen),
        *(Tail(logs / f"{name}.log", name, screen) for name in (_SHOP, _CONSOLE)),
        *(Errors(logs / f"{name}.log", name, screen) for name in SERVICES),
    ]

    def watch() -> None:
        for look in watchers:
            look()

    return watch
