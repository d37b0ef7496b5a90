"""Followers: one thread for each source of the manifest, which brings somebody's stream into a model's log.

Only the process that owns the model follows, so that entries keep their order; whoever takes over goes on where it
stopped, under the same reader's name.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from online.log import Blob, Log, LogUnavailable
from online.redis_client import connect
from online.sources import Source, SourceSpec
from service.deciding.source_states import SourceState, put_state, state_of

READER = "learner"
_IDLE_S = 0.1
_AWAY_S = 1.0
_MEASURE_S = 2.0
_JOIN_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Means:
    """What a follower works with; `make_log` and `make_blob` make ones of its own, in its own thread."""

    make_log: Callable[[], Log]
    make_blob: Callable[[], Blob]
    owns: Callable[[str], bool]


class Follower:
    """Follows one source in a thread of its own until `close`."""

    def __init__(self, spec: SourceSpec, means: Means) -> None:
        self.spec = spec
        self._means = means
        self._stop = threading.Event()
        self._followed = 0
        self._told = float("-inf")
        self._skipped = 0
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name=f"source-{spec.name}", daemon=True)

    def start(self) -> "Follower":
        """Begin."""
        self._thread.start()
        return self

    def close(self) -> None:
        """End after the batch under way."""
        self._stop.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        blob = self._means.make_blob()
        source: Source | None = None
        while not self._stop.is_set():
            if not self._means.owns(self.spec.model):
                # Whoever owns the model follows; once it is ours again, what the other left comes first.
                source = None
                self._stop.wait(_IDLE_S)
                continue
            try:
                source = source or self._begin(blob)
                # Measured before the first step: reading on hides that entries in between are gone.
                self._tell(blob, source)
                count = source.step()
            except (LogUnavailable, ValueError) as error:
                self._complain(blob, str(error))
                self._stop.wait(_AWAY_S)
                continue
            self._followed += count
            self._trouble = ""
            if count == 0:
                self._stop.wait(_IDLE_S)

    def _begin(self, blob: Blob) -> Source:
        before = state_of(blob, self.spec.name)
        skipped = 0 if before is None else before.skipped
        return Source(self.spec, connect(self._address()), self._means.make_log(), READER, skipped=skipped)

    def _address(self) -> str:
        given = self.spec.redis
        if not given.startswith("$"):
            return given
        if (address := os.environ.get(given[1:])) is None:
            raise ValueError(f"sources.{self.spec.name}.redis: the environment variable {given[1:]} is not set")
        return address

    def _tell(self, blob: Blob, source: Source) -> None:
        """Say how far it is, if it is time."""
        now = time.monotonic()
        if now < self._told + _MEASURE_S and source.skipped == self._skipped:
            return
        self._told, self._skipped = now, source.skipped
        lag, before = source.lag(), state_of(blob, self.spec.name)
        # What may have been lost once may have been lost for ever.
        lost = None if before is not None and before.lost is None else lag.lost
        self._put(blob, unread=lag.unread, unfinished=lag.unfinished, lost=lost, skipped=source.skipped)

    def _complain(self, blob: Blob, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        _log.warning("source %s: %s", self.spec.name, trouble)
        try:
            before = state_of(blob, self.spec.name)
            names = ("unread", "unfinished", "lost", "skipped")
            known = {} if before is None else {name: getattr(before, name) for name in names}
            self._put(blob, **known)
        except LogUnavailable as error:
            _log.debug("%s", error)

    def _put(self, blob: Blob, **found: int | None) -> None:
        spec = self.spec
        about = {"name": spec.name, "stream": spec.stream, "model": spec.model, "trouble": self._trouble}
        state = SourceState(at=time.time(), followed=self._followed, **about, **found)  # type: ignore[arg-type]
        put_state(blob, state)
