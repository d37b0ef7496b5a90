"""`trimtab up`: every process of the service on one machine, started, watched and stopped together."""

import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx
from pydantic import SecretStr

from online.redis_client import connect
from online.redis_log import RedisLog
from service.access.keys import OWN, own_token
from service.access.reach import check_reach, is_private
from service.outside.client import KEY
from service.processes.children import CANNOT_START, Child, Program, tied
from service.processes.embedded import EmbeddedError, EmbeddedRedis, find_server
from service.processes.folder import DataFolder, FolderInUseError
from service.settings import Settings

SERVICES = ("api", "learner", "adapter")
"""Our own processes, in the order in which they are started and stopped."""

_TURN_S = 0.1
_READY_WITHIN_S = 60.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NICE = {"adapter": 19, "console": 10}  # training, and those who look, take what serving leaves
_OWN = "TRIMTAB_"

Asked = list[signal.Signals]


class StartError(RuntimeError):
    """The service cannot start here; the message says why and what to do."""


class Terminal(Protocol):
    """Where the supervisor speaks: one call, one line."""

    def say(self, source: str, text: str) -> None:
        """Something that happened."""

    def warn(self, source: str, text: str) -> None:
        """Something that needs attention."""


@dataclass(frozen=True)
class Plan:
    """What runs besides our own processes, and who watches.

    Attributes:
        guests: Arguments of `trimtab` by the name of the process; started once the API answers, stopped first.
            `{url}` in an argument becomes the API's address.
        watch: Makes what is called ten times a second while the service runs, and must return at once.
    """

    guests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    watch: Callable[[Settings], Callable[[], None]] | None = None


def up(settings: Settings, plan: Plan, terminal: Terminal) -> int:
    """Run the service until a signal asks it to stop; the exit status.

    Raises:
        StartError: The port, the data folder or the server is not to be had. Nothing is left running.
    """
    with _signals_noted() as asked, ExitStack() as stack:
        folder = _take(settings.data, stack)
        settings = settings.model_copy(
            update={
                "data": folder.path,
                "manifest": settings.manifest.absolute(),
                "port": free_port(settings.host, settings.port),
            }
        )
        server = _embed(folder, settings, stack) if settings.redis is None else None
        if server is not None:
            settings = settings.model_copy(
                update={"redis": server.url, "redis_password": SecretStr(server.password)},
            )
        if not is_private(settings):
            check_reach(settings, RedisLog(connect(settings.redis or "", _secret_of(settings.redis_password))))
        fleet = Fleet(server, terminal)
        stack.callback(fleet.stop, lambda: len(asked) > 1)
        services = {program.name: program for program in _services(settings)}
        # Importing torch takes seconds of both cores: the adapter waits until the first decision can be made.
        adapter = services.pop("adapter")
        fleet.start(services.values())
        if _answers(settings, fleet, asked):
            terminal.say("trimtab", f"status page {settings.url}   API {settings.url}/v1   description /openapi.json")
            fleet.start([*_guests(settings, plan.guests), adapter])
            watch = plan.watch(settings) if plan.watch else None
            _attend(fleet, watch, asked)
        if asked:
            terminal.say("trimtab", "stopping; everything is stored, and the next start goes on from here")
        return fleet.status


def _secret_of(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _take(path: Path, stack: ExitStack) -> DataFolder:
    try:
        return stack.enter_context(DataFolder(path))
    except FolderInUseError as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(f"{path} cannot be used as data folder ({error}): give another one with --data") from None


def free_port(host: str, port: int) -> int:
    """The port itself if nobody listens there, any free one for 0.

    Raises:
        StartError: It is in use, or the host has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(
                f"cannot listen on {host} port {port} ({error.strerror}): stop what uses it, or choose another --port"
            ) from None
        return int(probe.getsockname()[1])


def _embed(folder: DataFolder, settings: Settings, stack: ExitStack) -> EmbeddedRedis:
    try:
        server = EmbeddedRedis(folder, find_server(settings.redis_server), tied(signal.SIGTERM))
        stack.enter_context(server)
        server.start()
    except EmbeddedError as error:
        raise StartError(str(error)) from None
    return server


def _services(settings: Settings) -> Iterable[Program]:
    environment = _environment(settings)
    # Some River classes iterate over sets: their replay needs one hash seed. The API keeps a random one.
    seeded = environment | {"PYTHONHASHSEED": "0"}
    for name in SERVICES:
        yield Program(
            name,
            command(name),
            seeded if name == "learner" else environment,
            settings.data / "logs" / f"{name}.log",
            nice=_NICE.get(name, 0),
        )


def _guests(settings: Settings, guests: Mapping[str, Sequence[str]]) -> Iterable[Program]:
    # A guest is a client like any other: it gets the address, what is meant for it by name, a key of its own where
    # there is one, and none of the secrets.
    secret = settings.secret.get_secret_value().encode()
    foreign = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    for name, arguments in guests.items():
        meant = {key: value for key, value in os.environ.items() if key.startswith(f"{_OWN}{name.upper()}_")}
        key = {KEY: own_token(secret, name)} if name in OWN else {}
        trust = {} if settings.tls_certificate is None else {"SSL_CERT_FILE": str(settings.tls_certificate)}
        environment = {**foreign, **meant, **key, **trust, "PYTHONUNBUFFERED": "1"}
        filled = [argument.replace("{url}", settings.url) for argument in arguments]
        log = settings.data / "logs" / f"{name}.log"
        yield Program(name, command(*filled), environment, log, nice=_NICE.get(name, 0), once=True)


def _environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, **settings.environment(), "PYTHONUNBUFFERED": "1"}


def command(*arguments: str) -> list[str]:
    """The command line of `trimtab ARGUMENTS` by this interpreter, whatever lies in the working directory."""
    return [sys.executable, "-P", "-m", "service.cli", *arguments]


class Fleet:
    """The children of one run."""

    def __init__(self, server: EmbeddedRedis | None, terminal: Terminal) -> None:
        """Start with none; `server` is looked after too."""
        self.status = 0
        self._server = server
        self._terminal = terminal
        self._children: list[Child] = []

    def start(self, programs: Iterable[Program]) -> None:
        """Start these, in order, and look after them from now on."""
        for program in programs:
            child = Child(program)
            self._children.append(child)
            child.start(time.monotonic())

    def check(self) -> None:
        """Bring back what has died, and say so. Sets `status` where nothing can be brought back."""
        if self._server is not None and self._server.process is not None and self._server.process.poll() is not None:
            self._revive(self._server)
        for child in self._children:
            death = child.check(time.monotonic())
            if death is None:
                continue
            words = f": {death.last_words}" if death.last_words else ""
            if death.status == CANNOT_START:
                self._terminal.warn(child.program.name, f"cannot start{words}")
                self.status = CANNOT_START
                return
            if death.pause_s is None:
                self._terminal.say(child.program.name, f"has finished{words}")
            else:
                again = f"starting it again in {death.pause_s:g} s, its log is {child.program.log}"
                self._terminal.warn(child.program.name, f"{death.how}{words}; {again}")

    def _revive(self, server: EmbeddedRedis) -> None:
        self._terminal.warn("redis", f"ended; starting it again, its log is {server.log}")
        try:
            server.start()
        except EmbeddedError as error:
            self._terminal.warn("redis", str(error))
            self.status = 1

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Stop all but Redis: those outside first, then our own in their order."""
        order = {name: place for place, name in enumerate(SERVICES)}
        for child in sorted(self._children, key=lambda child: order.get(child.program.name, -1)):
            if not child.stop(hurry):
                self._terminal.warn(child.program.name, "did not stop in time and was killed")


def _answers(settings: Settings, fleet: Fleet, asked: Asked) -> bool:
    """Whether the API comes up; false if a signal or a process that cannot start came first."""
    deadline, url = time.monotonic() + _READY_WITHIN_S, settings.url
    with httpx.Client(timeout=1.0, trust_env=False, verify=_trusting(settings.tls_certificate)) as client:
        while not asked and fleet.status == 0:
            with suppress(httpx.TransportError):
                if client.get(f"{url}/health/live").is_success:
                    return True
            if time.monotonic() > deadline:
                raise StartError(f"the API does not answer at {url}; its log is in the data folder, logs/api.log")
            time.sleep(0.05)
            fleet.check()
    return False


def _trusting(certificate: Path | None) -> ssl.SSLContext | bool:
    """Trusts the service's own certificate, whoever signed it, under any name: it was read from the same file."""
    if certificate is None:
        return True
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _attend(fleet: Fleet, watch: Callable[[], None] | None, asked: Asked) -> None:
    while not asked and fleet.status == 0:
        time.sleep(_TURN_S)
        fleet.check()
        if watch is not None:
            watch()


@contextmanager
def _signals_noted() -> Iterator[Asked]:
    """Signals that ask to stop are put on a list; the flow of the program stays its own."""
    asked: Asked = []
    before = {number: signal.signal(number, lambda got, _: asked.append(signal.Signals(got))) for number in _SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
