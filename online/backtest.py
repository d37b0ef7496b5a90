"""A back-test: rows of a data set through a log and the worker that also learns from live events."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from online.events import (
    Drifted,
    Labelled,
    Observed,
    Predicted,
    Scalar,
    Scored,
    decode_reports,
    digest,
    draft_id,
    encode,
)
from online.learner import ModelLearner, model_fold
from online.log import START, Draft, Log, Partition
from online.specs import ModelSpec
from online.worker import Pace, Worker

_TOGETHER = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """One case: features, label, and where known the entity's key and the time in seconds since the epoch."""

    features: Mapping[str, Scalar]
    label: Scalar = None
    key: str | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Delay:
    """How labels come: after ``rows`` further rows, or ``seconds`` of event time; each with ``probability``.

    ``chance`` gives a uniform number for each row; it is asked only where the probability is below one.
    """

    rows: int = 0
    seconds: float = 0.0
    probability: float = 1.0
    chance: Callable[[], float] | None = None


@dataclass(frozen=True, slots=True)
class Alarmed:
    """A drift alarm, at the row (from 0) that raised it."""

    row: int
    signal: str
    detector: str
    evidence: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Result:
    """What a back-test found: progressive metrics, the simple rules' figures, counts, alarms."""

    rows: int
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    counts: Mapping[str, int]
    alarms: tuple[Alarmed, ...] = ()
    restarts: int = 0


@dataclass(slots=True)
class _Run:
    """The state of a back-test on its way."""

    spec: ModelSpec
    log: Log
    partition: Partition
    worker: Worker
    drafts: list[Draft] = field(default_factory=list)
    rows: int = 0
    restarts: int = 0

    def append(self, event: Observed | Labelled) -> None:
        payload = encode(event)
        self.drafts.append(Draft(draft_id(event), digest(payload), payload))
        if len(self.drafts) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        if self.drafts:
            self.log.append(self.partition, self.drafts)
            self.drafts.clear()
        while self.worker.step():
            pass

    def restart(self) -> None:
        """Lose everything in memory, as a killed learner does, and begin again from the last snapshot."""
        self.flush()
        self.restarts += 1
        self.worker = _worker(self.spec, self.log, self.partition)


def backtest(
    spec: ModelSpec,
    rows: Iterable[Row],
    log: Log,
    *,
    delay: Delay | None = None,
    restart_at: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Play the rows in order; every prediction is made before its label is learned.

    The log must be empty for ``model:<name>``. ``restart_at`` drops the learner after that many rows and starts another
    from what the log holds. ``progress`` is called with the number of rows played, now and then.

    Raises:
        LogUnavailable: The log could not be written or read.
    """
    partition = Partition(f"model:{spec.name}", 0)
    run = _Run(spec, log, partition, _worker(spec, log, partition))
    for event in _events(rows, delay or Delay()):
        if isinstance(event, Observed):
            if restart_at is not None and run.rows == restart_at:
                run.restart()
            run.rows += 1
            if progress is not None and run.rows % _TOGETHER == 0:
                progress(run.rows)
        run.append(event)
    run.flush()
    run.worker.close()
    fold = run.worker.fold
    if not isinstance(fold, ModelLearner):
        raise ConnectionError(f"the log of {partition} went away: {run.worker.trouble}")
    alarms = tuple(_alarms(log, partition))
    return Result(run.rows, fold.metrics(), fold.baseline(), fold.counts, alarms, run.restarts)


def _worker(spec: ModelSpec, log: Log, partition: Partition) -> Worker:
    # Event time is the data's own: this worker never says what time it is.
    return Worker(log, model_fold(spec), partition, "backtest", now=lambda: -math.inf, pace=Pace(calm=0.0))


def _events(rows: Iterable[Row], delay: Delay) -> Iterator[Observed | Labelled]:
    """Observations, each labelled at once or followed by its label when it is due."""
    waiting: deque[tuple[int, float, Labelled]] = deque()
    for number, row in enumerate(rows):
        at = float(number) if row.at is None else row.at
        while waiting and (waiting[0][0] <= number and waiting[0][1] <= at):
            yield waiting.popleft()[2]
        known = delay.chance is None or delay.probability >= 1.0 or delay.chance() < delay.probability
        at_once = known and not delay.rows and not delay.seconds
        label: Any = row.label if at_once else UNSET
        yield Observed(id=str(number), key=row.key, at=at, features=dict(row.features), label=label)
        if known and not at_once:
            due = at + delay.seconds
            labelled = Labelled(id=str(number), key=row.key, label=row.label, at=due if delay.seconds else None)
            waiting.append((number + delay.rows + (not delay.seconds), due, labelled))
    for _, _, labelled in waiting:
        yield labelled


def _alarms(log: Log, partition: Partition) -> Iterator[Alarmed]:
    after = START
    while entries := log.reports(partition, after, _TOGETHER):
        after = entries[-1].id
        for entry in entries:
            reports = decode_reports(entry.payload)
            row = next((int(report.id) for report in reports if isinstance(report, Predicted | Scored)), -1)
            yield from (
                Alarmed(row, report.signal, report.detector, report.evidence)
                for report in reports
                if isinstance(report, Drifted)
            )
