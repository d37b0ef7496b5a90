"""The store of one thread: log, blobs and registry; and the thread that requests borrow it from.

A log and its connection belong to one thread. Handlers that need more than the write path ask this one.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from online.log import Blob, Log, LogUnavailable
from service.access.ledger import AuditLog, KeyLog
from service.deciding.declarations import Declarations
from service.deciding.registry import Registry
from service.http.problems import ProblemError

T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """Everything that is shared by all processes, as one thread sees it."""

    log: Log
    blob: Blob
    registry: Registry
    declarations: Declarations
    keys: KeyLog
    audit: AuditLog


class StoreThread:
    """One thread with a store of its own, which answers one question at a time.

    Args:
        make_store: Makes the store; called in that thread, at the first question.
        waiting: How many questions may wait.
    """

    def __init__(self, make_store: Callable[[], Store], waiting: int = 256) -> None:
        self._make_store = make_store
        self._store: Store | None = None
        self._limit = waiting
        self._waiting = 0
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    async def ask(self, question: Callable[[Store], T]) -> T:
        """What `question` makes of the store.

        Raises:
            ProblemError: 429 where too many wait, 503 where the store does not answer.
        """
        if self._waiting >= self._limit:
            detail = f"{self._waiting} requests are waiting for the store. Try again in a second."
            raise ProblemError("overloaded", detail, headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._put, question)
        except LogUnavailable:
            detail = "The store did not answer. Try again; what was written before is safe."
            raise ProblemError("unavailable", detail, headers={"Retry-After": "1"}) from None
        finally:
            self._waiting -= 1

    def _put(self, question: Callable[[Store], T]) -> T:
        if self._store is None:
            self._store = self._make_store()
        return question(self._store)

    def close(self) -> None:
        """Answers what was asked, then ends."""
        self._executor.shutdown(wait=True, cancel_futures=True)
