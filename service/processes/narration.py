"""What the terminal of `trimtab up` shows: the notes of the feed and the lines of a guest, as they come."""

import re
import time
from pathlib import Path

from online.log import EntryId, Log, LogUnavailable
from service.deciding import feed
from service.deciding.feed import FEED
from service.processes.supervisor import Terminal

_LOOK_EVERY_S = 1.0
_ERRORS_EVERY_S = 10.0
_ERROR = re.compile(r"\b(ERROR|CRITICAL)\b")


class Narrator:
    """Says each note of the feed once, beginning with those that come after it was made."""

    def __init__(self, log: Log, terminal: Terminal) -> None:
        """Begin at the end of the feed."""
        self._log = log
        self._terminal = terminal
        self._cursor: EntryId = log.tail(FEED)
        self._look_at = 0.0

    def __call__(self) -> None:
        """Say what is new."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        try:
            notes = feed.read(self._log, self._cursor)
        except LogUnavailable:
            return
        for entry, note in notes:
            self._cursor = entry
            speak = self._terminal.warn if note.kind in ("error", "drift") else self._terminal.say
            speak(note.source, note.text)


class Follower:
    """The lines that are added to a file from now on."""

    def __init__(self, path: Path) -> None:
        """Begin at the end of the file, which need not be there yet."""
        self._path = path
        self._place = path.stat().st_size if path.exists() else 0

    def lines(self) -> list[str]:
        """Complete lines that were added since the last call, empty ones left out."""
        if not self._path.exists():
            return []
        if self._path.stat().st_size < self._place:  # another file by now
            self._place = 0
        with self._path.open("rb") as file:
            file.seek(self._place)
            fresh = file.read()
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._place += len(complete)
        return [line.strip() for line in complete.decode(errors="replace").splitlines() if line.strip()]


class Tail:
    """Says each line that a guest writes."""

    def __init__(self, path: Path, source: str, terminal: Terminal) -> None:
        self._follower = Follower(path)
        self._source = source
        self._terminal = terminal

    def __call__(self) -> None:
        """Say what is new."""
        for line in self._follower.lines():
            self._terminal.say(self._source, line)


class Errors:
    """Says that a process logs errors: the last one, and how many, every ten seconds at most."""

    def __init__(self, path: Path, source: str, terminal: Terminal) -> None:
        self._path = path
        self._follower = Follower(path)
        self._source = source
        self._terminal = terminal
        self._found: list[str] = []
        self._say_at = 0.0

    def __call__(self) -> None:
        """Say what is new."""
        self._found += [line for line in self._follower.lines() if _ERROR.search(line)]
        now = time.monotonic()
        if self._found and now >= self._say_at:
            self._say_at = now + _ERRORS_EVERY_S
            others = f" and {len(self._found) - 1} more" if len(self._found) > 1 else ""
            self._terminal.warn(self._source, f"{self._found[-1]}{others}; its log is {self._path}")
            self._found.clear()
