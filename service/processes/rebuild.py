"""A rebuild: a model that was declared anew learns its whole past beside the one that serves, then takes its place."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from online.events import Ticked, draft_id, encode
from online.fold import Parts
from online.learner import ModelLearner, model_fold
from online.log import Blob, Commit, Draft, EntryId, History, Log, LogUnavailable
from online.rehearsal import Rehearsal
from online.specs import ModelSpec
from online.worker import Pace, Worker
from service.deciding.live_specs import Progress, forget_others, load_learner, remember, tell_progress

_BUSY_S = 0.02
_CALM_S = 0.1
_CATCH_UP_S = 30.0


@dataclass
class ModelMake:
    """Makes the learner of a model: of the spec that its snapshot is of, of the wanted one where there is none."""

    wanted: ModelSpec
    blob: Blob

    def __call__(self, snapshot: bytes | None, parts: Parts) -> ModelLearner:
        remember(self.blob, self.wanted)
        if snapshot is None:
            return ModelLearner(self.wanted, parts)
        return load_learner(self.blob, self.wanted, snapshot, parts)


class Rebuild:
    """Brings one model from the spec that serves to the one that is wanted. `step` never takes long, but at the end.

    The switch is one commit: a crash before it leaves the old model serving and the replay to be done again; after it
    the new one serves.

    Args:
        live: The worker of the old spec, which owns the partition; it goes on meanwhile.
        history: Where entries are that were trimmed from the log.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        log: Log,
        history: History | None,
        blob: Blob,
        live: Worker,
        wanted: ModelSpec,
        secret: bytes,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.live, self.wanted = live, wanted
        self._log, self._blob, self._partition = log, blob, live.partition
        self._rehearsal = Rehearsal(log, history, live.partition)
        pace = Pace(commit=1.0, dumping=0.02)
        never = float("-inf")
        self._worker = Worker(
            self._rehearsal, model_fold(wanted), live.partition, "rebuild", secret=secret, now=lambda: never, pace=pace
        )
        self._now = now
        self._started = now()
        self._told = never

    def step(self) -> bool:
        """Replay some more; once all is, switch. Whether the new model serves now.

        Raises:
            LogUnavailable, Fenced: Nothing has changed; begin again once the partition is owned again.
        """
        if self.live.fold is None:
            # Another process owns the partition, and rebuilds.
            return False
        self._rehearsal.since = None
        calm = self.live.cursor >= self._log.tail(self._partition)
        until = time.monotonic() + (_CALM_S if calm else _BUSY_S)
        while time.monotonic() < until:
            self._worker.step()
            if self._worker.fold is None:
                break
        self._tell("replaying")
        if not calm or self._worker.fold is None or self._worker.cursor < self.live.cursor:
            return False
        return self._switch()

    def _switch(self) -> bool:
        live, partition = self.live, self._partition
        if not _advance(live, self._worker.cursor):
            return False
        live.close()
        if live.fold is None:
            return False
        # From here on nobody but the new model reports: on everything that the old one has not reported on.
        since = self._rehearsal.since = live.cursor
        tick = Ticked(at=self._now())
        (answer,) = self._log.append(partition, [Draft(draft_id(tick), b"", encode(tick))])
        if not _advance(self._worker, answer.entry.id):
            return False
        self._worker.close()
        outcome = self._rehearsal.outcome(partition, ("reject",))
        old_parts = {name: None for name, _ in self._log.parts(partition, "")}
        old_index = {name: None for name, _ in self._log.fields(partition, "reject")}
        remember(self._blob, self.wanted)
        epoch = self._log.acquire(partition, live.owner)
        if self._log.head(partition).cursor != since:
            raise LogUnavailable(f"{partition} had another owner meanwhile: the switch is tried again")
        whole = Commit(
            cursor=outcome.cursor,
            snapshot=outcome.snapshot,
            reports=outcome.reports,
            index=old_index | dict(outcome.index),
            parts=old_parts | dict(outcome.parts),
            learned=outcome.learned,
        )
        self._log.commit(partition, epoch, whole)
        self._log.confirm(partition, epoch)
        if isinstance(live.fold, ModelLearner):
            forget_others(self._blob, self.wanted, live.fold.spec)
        self._tell("live", now=True)
        return True

    def _tell(self, state: str, *, now: bool = False) -> None:
        at = self._now()
        if not now and at - self._told < 1.0:
            return
        self._told = at
        fold = self._worker.fold
        done = 0 if fold is None else fold.place.number
        tail = self._log.tail(self._partition)
        last = self._log.read(self._partition, tail.before, 1)
        of = max(done, last[0].number if last else 0)
        left = (at - self._started) * (of - done) / done if done else None
        progress = Progress(
            state=state,
            entries=done,
            of=of,
            started=self._started,
            at=at,
            left_s=None if left is None else round(left, 1),
            trouble=self._worker.trouble or "",
        )
        tell_progress(self._blob, self.wanted.name, progress)


def _advance(worker: Worker, until: EntryId) -> bool:
    """Step a worker until it has applied an entry; false where it cannot get there."""
    deadline = time.monotonic() + _CATCH_UP_S
    while worker.fold is not None and worker.cursor < until and time.monotonic() < deadline:
        worker.step()
    return worker.fold is not None and worker.cursor >= until
