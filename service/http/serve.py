"""One process that serves HTTP, from its start to its end."""

import signal
from types import FrameType

import uvicorn

from service.ending import leave_soon


class _Server(uvicorn.Server):
    """A server that ends in time, whatever its threads wait for."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Somebody asked it to end."""
        leave_soon()
        super().handle_exit(sig, frame)


def serve(config: uvicorn.Config) -> None:
    """Serves until SIGTERM or SIGINT, answers what is under way, and returns: an end that was asked for is no failure.

    uvicorn raises the signal once more when it has ended, for whoever called it; that would kill the process.
    """
    server = _Server(config)

    def asked(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, asked)
    server.run()
