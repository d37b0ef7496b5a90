"""Slots: which of several equal processes on a machine this one is; the same number after a restart."""

import fcntl
import os
from itertools import count
from pathlib import Path


def take_slot(folder: Path, name: str) -> int:
    """The lowest number that no other living process holds under this name, held until this process ends.

    The lock goes with the process, however it ends: whoever is started in its place finds its number free.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    numbers = count()
    while True:
        number = next(numbers)
        descriptor = os.open(folder / f"{name}-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return number
