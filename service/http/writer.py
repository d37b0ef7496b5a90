"""The write path: many requests wait for one append, so that one fsync serves them all."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from online.log import Appended, Conflict, Draft, Log, LogUnavailable, Partition
from service.http.problems import ProblemError, failure

Outcome: TypeAlias = Appended | Conflict
Deliver: TypeAlias = Callable[[list[Outcome] | Exception], None]

_journal = logging.getLogger(__name__)


@dataclass(frozen=True)
class WriterLimits:
    """How many drafts may wait, how many go in one call, how long a write in doubt is repeated (seconds).

    Attributes:
        doubt: Seconds after a failed write until another may be tried for what it is worth.
    """

    waiting: int = 8192
    batch: int = 512
    patience: float = 5.0
    doubt: float = 5.0
    pause: float = 0.05


@dataclass(eq=False, slots=True)
class _Waiting:
    """Drafts that came together, and whom to tell, in which loop, what becomes of them."""

    partition: Partition
    drafts: Sequence[Draft]
    loop: asyncio.AbstractEventLoop
    deliver: Deliver


class Writer:
    """One thread that owns a log and appends what the event loop's requests hand it.

    While one call is under way, the next requests gather; they leave together in one call per partition. A write in
    doubt is repeated with the same ids until it is certain, for a bounded time; then whoever waits gets a 503 and may
    repeat it in turn, under the same id.

    Args:
        make_log: Makes the log; called in the writer's own thread.
    """

    def __init__(self, make_log: Callable[[], Log], limits: WriterLimits | None = None) -> None:
        self._make_log = make_log
        self._log: Log | None = None
        self._limits = limits or WriterLimits()
        self._queue: deque[_Waiting] = deque()
        self._depth = 0
        self._wake = threading.Event()
        self._closing = False
        self._failed: float | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Begins to append."""
        self._thread.start()

    def close(self) -> None:
        """Appends what waits, then ends."""
        self._closing = True
        self._wake.set()
        self._thread.join(self._limits.patience + 5.0)

    @property
    def depth(self) -> int:
        """How many drafts wait or are under way."""
        return self._depth

    @property
    def healthy(self) -> bool:
        """Whether the thread lives, and the last write that was tried got through or is too long ago to say anything.

        Where nobody sends requests to a replica that is not ready, only the next write can find out that all is well
        again: it must be let in.
        """
        silent = self._failed is None or time.monotonic() - self._failed > self._limits.doubt
        return silent and self._thread.is_alive()

    async def append(self, partition: Partition, draft: Draft) -> Outcome:
        """Appends one draft durably.

        Raises:
            ProblemError: 429 where too many wait, 503 where the log stays out of reach.
        """
        return (await self.append_all(partition, (draft,)))[0]

    async def append_all(self, partition: Partition, drafts: Sequence[Draft]) -> list[Outcome]:
        """Appends several drafts of one partition in one call, in order; as `append`."""
        if not drafts:
            return []
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

        def deliver(outcomes: list[Outcome] | Exception) -> None:
            if answer.done():
                return
            if isinstance(outcomes, Exception):
                answer.set_exception(outcomes)
            else:
                answer.set_result(outcomes)

        self.submit(partition, drafts, deliver)
        return await answer

    def submit(self, partition: Partition, drafts: Sequence[Draft], deliver: Deliver) -> None:
        """Hands drafts of one partition over; `deliver` is called in this event loop with what became of them.

        Raises:
            ProblemError: 429 where too many wait.
        """
        # Where there is room for one there is room for a whole batch: others' small writes must not keep it out.
        if self._closing or self._depth >= self._limits.waiting:
            detail = f"{self._depth} writes are waiting for the log. Try again in a second, with the same id."
            raise ProblemError("overloaded", detail, headers={"Retry-After": "1"})
        self._depth += len(drafts)
        self._queue.append(_Waiting(partition, drafts, asyncio.get_running_loop(), deliver))
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                self._tell(batch, self._append(batch))
            if self._closing and not self._queue:
                return

    def _take(self) -> list[_Waiting]:
        """What waits, up to one batch, all of one partition; the rest keeps its order."""
        taken: list[_Waiting] = []
        others: list[_Waiting] = []
        size = 0
        while self._queue and size < self._limits.batch:
            waiting = self._queue.popleft()
            if taken and waiting.partition != taken[0].partition:
                others.append(waiting)
                continue
            taken.append(waiting)
            size += len(waiting.drafts)
        self._queue.extendleft(reversed(others))
        return taken

    def _append(self, batch: list[_Waiting]) -> list[Outcome] | Exception:
        """Appends a batch; what became of each draft, or why of none."""
        drafts = [draft for waiting in batch for draft in waiting.drafts]
        until = time.monotonic() + self._limits.patience
        while True:
            try:
                if self._log is None:
                    self._log = self._make_log()
                outcomes = self._log.append(batch[0].partition, drafts)
                self._failed = None
            except LogUnavailable as error:
                self._failed = time.monotonic()
                if time.monotonic() < until and not self._closing:
                    time.sleep(self._limits.pause)
                    continue
                _journal.warning("%d writes given up: %s", len(drafts), error)
                detail = "The log did not answer; the write may have happened or not. Repeat it with the same id."
                return ProblemError("unavailable", detail, headers={"Retry-After": "1"})
            except Exception:  # noqa: BLE001 - whoever waits must hear of it, and the thread must go on
                _journal.exception("%d writes failed", len(drafts))
                return failure()
            return outcomes

    def _tell(self, batch: list[_Waiting], outcomes: list[Outcome] | Exception) -> None:
        """Wakes the event loop once for the whole batch, not once for each request."""
        try:
            batch[0].loop.call_soon_threadsafe(self._deliver, batch, outcomes)
        except RuntimeError:
            # Its event loop has ended, and with it whoever waited.
            self._depth -= sum(len(waiting.drafts) for waiting in batch)

    def _deliver(self, batch: list[_Waiting], outcomes: list[Outcome] | Exception) -> None:
        at = 0
        for waiting in batch:
            end = at + len(waiting.drafts)
            self._depth -= len(waiting.drafts)
            try:
                waiting.deliver(outcomes if isinstance(outcomes, Exception) else outcomes[at:end])
            except Exception:  # noqa: BLE001 - the others must hear what became of theirs
                _journal.exception("what became of %d writes could not be told", len(waiting.drafts))
            at = end
