"""What the terminal of `trimtab up` shows: the notes of the feed and the lines of a guest, as they come."""

import time
from collections.abc import Iterator
from pathlib import Path

from online.log import EntryId, Log, LogUnavailable
from service import feed
from service.feed import FEED
from service.supervisor import Terminal

_LOOK_EVERY_S = 1.0


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


class Tail:
    """Says each complete line that is added to a file from now on."""

    def __init__(self, path: Path, source: str, terminal: Terminal) -> None:
        """Begin at the end of the file, which need not be there yet."""
        self._path = path
        self._source = source
        self._terminal = terminal
        self._place = path.stat().st_size if path.exists() else 0

    def __call__(self) -> None:
        """Say what is new."""
        for line in self._lines():
            self._terminal.say(self._source, line)

    def _lines(self) -> Iterator[str]:
        if not self._path.exists():
            return
        if self._path.stat().st_size < self._place:  # another file by now
            self._place = 0
        with self._path.open("rb") as file:
            file.seek(self._place)
            fresh = file.read()
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._place += len(complete)
        yield from filter(None, (line.strip() for line in complete.decode(errors="replace").splitlines()))
