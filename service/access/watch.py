"""The thread that keeps the keys of one process up to date: whatever else is slow or broken, an ended key ends."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from online.log import Log, LogUnavailable
from service.access.keys import Keyring
from service.access.ledger import AuditHead, AuditLog, KeyLog

EVERY_S = 0.25
_SETTLE_S = 5.0
_log = logging.getLogger(__name__)


class Watch:
    """Reads keys and the end of the audit chain, several times a second.

    A store that is away leaves what was read last: a key that was good stays good until the store is back.

    Args:
        make_log: Makes the log; called in the thread.
        secret: The service's own.
    """

    def __init__(self, make_log: Callable[[], Log], secret: bytes) -> None:
        self._make_log = make_log
        self._secret = secret
        self._wake = threading.Event()
        self._turned = threading.Condition()
        self._turns = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)
        self.keyring: Keyring | None = None
        self.audited = AuditHead(0, "")

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def close(self) -> None:
        """Ends after the turn under way."""
        self._closing = True
        self._wake.set()
        self._thread.join(_SETTLE_S)

    async def settle(self) -> None:
        """Waits, for a bounded time, until everything that is stored by now is known here."""
        await asyncio.to_thread(self._await_turns, 2)

    def _await_turns(self, turns: int) -> None:
        # The turn under way may have read before the caller wrote: the one after it has not.
        with self._turned:
            wanted, deadline = self._turns + turns, time.monotonic() + _SETTLE_S
            while self._turns < wanted and time.monotonic() < deadline and not self._closing:
                self._wake.set()
                self._turned.wait(EVERY_S)

    def _run(self) -> None:
        log = self._make_log()
        keys, audit = KeyLog(log, self._secret), AuditLog(log, self._secret)
        while not self._closing:
            try:
                self.keyring, self.audited = keys.follow(), audit.head()
            except LogUnavailable as error:
                _log.warning("the keys cannot be read: %s", error)
            except Exception:  # noqa: BLE001 - keys that end later must still be seen
                _log.exception("the keys cannot be read")
            with self._turned:
                self._turns += 1
                self._turned.notify_all()
            self._wake.wait(EVERY_S)
            self._wake.clear()
