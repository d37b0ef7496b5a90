"""A sign of life for platforms: by the age of a file they see that a process without a port stands still."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

EVERY_S = 1.0


class Pulse:
    """Touches a file while a loop turns, at most once a second.

    The loop turns while the store is away too: that is no reason to be started anew.

    Args:
        path: The file, such as `learner-0.alive` in the data folder.
        clock: Seconds, never set back.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._next = 0.0

    def __call__(self) -> None:
        """Touch it, if it is time."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + EVERY_S
        # A disk that takes nothing has messages of its own.
        with contextlib.suppress(OSError):
            self._path.touch(mode=0o600)
