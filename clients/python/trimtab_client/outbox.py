"""What must not be lost while the service is away: outcomes, labels and events, kept in a file until they arrive."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from types import TracebackType
from typing import Any

from trimtab_client import calls
from trimtab_client.answers import Written
from trimtab_client.calls import Call
from trimtab_client.client import Client
from trimtab_client.errors import RefusedError, TrimtabError
from trimtab_client.retry import Retry

_AT_ONCE = 500
_BYTES_AT_ONCE = 1_000_000
_ONE_TRY = Retry(patience=0.0)
_NOT_ALLOWED = (401, 403)
_SCHEMA = """
create table if not exists waiting (number integer primary key autoincrement, path text not null, line blob not null);
create table if not exists refused (number integer primary key, path text not null, line blob not null, reason text);
"""


@dataclass(frozen=True)
class Refused:
    """A line that the service will not take, and why."""

    path: str
    line: bytes
    reason: str


class Outbox:
    """A queue on disk. What was added is delivered once the service is there, also by a later process.

    A line leaves the file only after the service has it on disk; if the process dies in between, it is sent again and
    recognised by its id. Lines that the service refuses are kept apart, with the reason (`refused`). May be shared by
    threads; two processes on one file deliver some lines twice, which changes nothing.

    Attributes:
        trouble: Why nothing can be delivered at present, or "".

    Args:
        client: Delivers.
        path: The file; made where it is missing.
        pause: Seconds between attempts while the service is away.
    """

    def __init__(self, client: Client, path: str | PathLike[str], *, pause: float = 1.0) -> None:
        self._client = client
        self._pause = pause
        self.trouble = ""
        self._lock = threading.Lock()
        self._delivering = threading.Lock()
        self._news = threading.Event()
        self._closed = threading.Event()
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._file.execute("pragma journal_mode = wal")
        self._file.execute("pragma synchronous = full")
        self._file.executescript(_SCHEMA)
        self._thread = threading.Thread(target=self._run, name="trimtab-outbox", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Outbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop delivering and close the file; what is left waits there for the next process."""
        self._closed.set()
        self._news.set()
        self._thread.join()
        self._file.close()

    def outcome(self, point: str, id: str, value: float | None = None, **more: Any) -> None:
        """Keep an outcome until it is delivered; `more` as in `calls.outcome_line`."""
        self.add(calls.outcomes_path(point), [calls.outcome_line(id, value, **more)])

    def label(self, model: str, id: str, label: Any, **more: Any) -> None:
        """Keep a label until it is delivered; `more` as in `calls.label_line`."""
        self.add(calls.labels_path(model), [calls.label_line(id, label, **more)])

    def event(self, model: str, features: Mapping[str, Any], label: Any = None, **more: Any) -> None:
        """Keep an event until it is delivered; `more` as in `calls.event_line`."""
        self.add(calls.events_path(model), [calls.event_line(features, label, **more)])

    def add(self, path: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Keep many lines for one route, with one write to disk.

        Raises:
            ValueError, TypeError: a line that is no JSON; none of them is kept.
            sqlite3.Error: The file takes nothing at present; none of them is kept.
        """
        rows = [(path, calls.encoded(line)) for line in lines]
        with self._written() as file:
            file.executemany("insert into waiting (path, line) values (?, ?)", rows)
        self._news.set()

    @property
    def waiting(self) -> int:
        """How many lines have not been delivered."""
        with self._lock:
            return int(self._file.execute("select count(*) from waiting").fetchone()[0])

    def refused(self) -> list[Refused]:
        """What the service will not take, oldest first."""
        with self._lock:
            rows = self._file.execute("select path, line, reason from refused order by number").fetchall()
        return [Refused(*row) for row in rows]

    def retry_refused(self) -> None:
        """Send what was refused once more, once its cause is gone."""
        with self._written() as file:
            file.execute("insert into waiting (path, line) select path, line from refused order by number")
            file.execute("delete from refused")
        self._news.set()

    def deliver(self) -> int:
        """Deliver what is waiting now, and say how many lines that were.

        Raises:
            UnreachableError: The service is away; what was not delivered is still waiting.
            RefusedError: The key is not allowed to write there; the same.
        """
        delivered = 0
        with self._delivering:
            while not self._closed.is_set() and (rows := self._next()):
                delivered += len(rows)
                path, lines = rows[0][1], [line for _, _, line in rows]
                self._settle(rows, self._refusals(calls.lines_call(path, lines), len(rows)))
        return delivered

    def _refusals(self, call: Call[Written], count: int) -> dict[int, str]:
        """Reason by line, counted from 0, of what the service will not take."""
        try:
            return {line.line - 1: line.reason for line in self._client.send(call, _ONE_TRY).rejected}
        except RefusedError as error:
            if error.status in _NOT_ALLOWED:
                raise
            return dict.fromkeys(range(count), str(error))

    def _next(self) -> list[tuple[int, str, bytes]]:
        """The oldest lines, as far as they go to one route and make no more than one request."""
        with self._lock:
            rows = self._file.execute(
                "select number, path, line from waiting order by number limit ?", (_AT_ONCE,)
            ).fetchall()
        size = 0
        batch: list[tuple[int, str, bytes]] = []
        for row in rows:
            size += len(row[2])
            if row[1] != rows[0][1] or (batch and size > _BYTES_AT_ONCE):
                break
            batch.append(row)
        return batch

    def _settle(self, rows: list[tuple[int, str, bytes]], refusals: Mapping[int, str]) -> None:
        with self._written() as file:
            file.executemany(
                "insert or ignore into refused values (?, ?, ?, ?)",
                [(*rows[index], reason) for index, reason in refusals.items()],
            )
            file.executemany("delete from waiting where number = ?", [(row[0],) for row in rows])

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        """All of what is written within, or nothing; a write that fails leaves no transaction open."""
        with self._lock:
            self._file.execute("begin immediate")
            try:
                yield self._file
                self._file.execute("commit")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("rollback")
                raise

    def _run(self) -> None:
        while not self._closed.is_set():
            self._news.clear()
            try:
                self.deliver()
            except (TrimtabError, sqlite3.Error) as error:
                # The disk may be full, or another process may hold the file: that passes too.
                self.trouble = str(error)
                self._closed.wait(self._pause)
            else:
                self.trouble = ""
                self._news.wait()
