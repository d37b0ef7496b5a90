"""One process that serves HTTP, from its start to its end."""

import signal

import uvicorn


def serve(config: uvicorn.Config) -> None:
    """Serves until SIGTERM or SIGINT, answers what is under way, and returns: an end that was asked for is no failure.

    uvicorn raises the signal once more when it has ended, for whoever called it; that would kill the process.
    """
    server = uvicorn.Server(config)

    def leave(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    server.run()
