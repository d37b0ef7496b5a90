"""The data folder: everything the service stores, held by one `trimtab up` at a time."""

import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class FolderInUseError(RuntimeError):
    """Another trimtab, or a Redis it left behind, holds the data folder."""


class DataFolder:
    """The folder that holds everything, locked for one holder for as long as a descriptor of it is open.

    The lock belongs to the open file, not to the process: a server that inherits the descriptor keeps the folder
    locked after its starter has died, so that no second server ever opens the same files.
    """

    def __init__(self, path: Path, patience: float = 2.0) -> None:
        """Take the lock; wait `patience` seconds at most, and only where the holder's starter is already gone.

        Raises:
            FolderInUseError: it is held by another.
        """
        self.path = path.absolute()
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(time.monotonic() + patience)
        except BaseException:
            os.close(self._descriptor)
            raise
        left_behind = self._note().get("socket_folder")
        if left_behind and Path(left_behind).name.startswith("trimtab-"):
            shutil.rmtree(left_behind, ignore_errors=True)
        self.note()

    def _lock(self, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = self._note().get("pid")
                if _lives(holder) or time.monotonic() > deadline:
                    who = f"process {holder}" if _lives(holder) else "a Redis that is still stopping"
                    raise FolderInUseError(
                        f"{self.path} is in use by {who}: stop it first, or give another folder with --data"
                    ) from None
                time.sleep(0.05)
            else:
                return

    @property
    def descriptor(self) -> int:
        """The open lock, for a child that must keep the folder locked."""
        return self._descriptor

    def _note(self) -> dict[str, Any]:
        try:
            note = json.loads(os.pread(self._descriptor, 4096, 0) or b"{}")
        except ValueError:
            return {}
        return note if isinstance(note, dict) else {}

    def note(self, **facts: Any) -> None:
        """Write into the lock file who holds it, for the one who comes second."""
        text = json.dumps({"pid": os.getpid(), **facts}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    def release(self) -> None:
        """Let the folder go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _lives(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
