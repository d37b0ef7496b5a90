"""A back-test: rows of a data set through a log and the worker that also learns from live events."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from msgspec import UNSET, structs

from online import pickling
from online.candidates import Standing
from online.events import Finding, Labelled, Observed, Scalar, digest, draft_id, encode
from online.learner import ModelLearner, model_fold
from online.ledger import Alarmed, Ledger, Refused
from online.log import Draft, Log, Partition
from online.memory_log import MemoryLog
from online.specs import DECLARED, ModelSpec
from online.worker import Pace, Worker

_TOGETHER = 1_000


class BeyondError(ValueError):
    """A restart after more rows than there are."""


class UntimedError(ValueError):
    """Labels that are late by event time, of rows that have none."""


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
class Result:
    """What a back-test found: progressive metrics, the simple rules' figures, counts, alarms.

    ``curve`` has the metrics so far after some rows, ``errors`` the error of each row, NaN where there is none.
    ``answered`` says whether any row was predicted; ``refused`` has the first rows and labels that were set aside, of
    which ``counts`` tells how many they are. ``champion`` answers in the end, beside the ``challengers``, of which
    comparisons found the ``findings``. ``halted`` says why it learned no more in the end.
    """

    rows: int
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    counts: Mapping[str, int]
    alarms: tuple[Alarmed, ...] = ()
    restarts: int = 0
    curve: tuple[tuple[int, Mapping[str, float]], ...] = ()
    errors: Sequence[float] = ()
    answered: bool = True
    refused: tuple[Refused, ...] = ()
    champion: str = DECLARED
    challengers: tuple[Standing, ...] = ()
    findings: tuple[Finding, ...] = ()
    halted: str | None = None

    def stretches(self, most: int = 200) -> list[tuple[int, float]]:
        """The first row of each stretch of equal length, at most so many, and its mean error."""
        return list(_stretches(self.errors, max(1, math.ceil(len(self.errors) / most))))


@dataclass(slots=True)
class _Run:
    """The state of a back-test on its way; ``events`` are those that were played."""

    spec: ModelSpec
    log: Log
    partition: Partition
    worker: Worker
    drafts: list[Draft] = field(default_factory=list)
    events: int = 0
    rows: int = 0
    restarts: int = 0
    curve: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)

    def play(self, events: Iterable[Observed | Labelled], restart_at: int | None) -> Iterator[None]:
        """Append the events; yields whenever the fold has taken all of them so far."""
        for event in events:
            if isinstance(event, Observed):
                if restart_at is not None and self.rows == restart_at:
                    self.restart()
                self.rows += 1
            payload = encode(event)
            self.drafts.append(Draft(draft_id(event), digest(payload), payload))
            self.events += 1
            if len(self.drafts) >= _TOGETHER:
                self.flush()
                yield

    def flush(self) -> None:
        if self.drafts:
            self.log.append(self.partition, self.drafts)
            self.drafts.clear()
        while self.worker.step():
            pass
        fold = self.worker.fold
        if isinstance(fold, ModelLearner) and fold.counts["labelled"]:
            self.curve.append((self.rows, fold.metrics()))
        self.ledger.read(self.log, self.partition, self.rows)

    def restart(self) -> None:
        """Lose everything in memory, as a killed learner does, and begin again from the last snapshot."""
        self.flush()
        self.restarts += 1
        self.worker = _worker(self.spec, self.log, self.partition)

    def checkpoint(self) -> bytes | None:
        """All of it, for `go_on`; ``None`` where the log is none in memory. To be asked for when all is flushed."""
        if not isinstance(self.log, MemoryLog):
            return None
        self.worker.close()
        fold = self.worker.fold
        kept = None if fold is None else self.log.keep(self.partition, fold.oldest())
        if kept is None:
            return None
        return pickling.dumps((self.events, self.rows, self.restarts, self.curve, self.ledger, kept))

    def go_on(self, checkpoint: bytes) -> None:
        """Become what the run was that made the checkpoint."""
        if not isinstance(self.log, MemoryLog):
            raise TypeError(f"a back-test is resumed in a log in memory, not in a {type(self.log).__name__}")
        self.events, self.rows, self.restarts, self.curve, self.ledger, kept = pickling.loads(checkpoint)
        self.log.go_on(self.partition, kept)


def backtest(
    spec: ModelSpec,
    rows: Iterable[Row],
    log: Log,
    *,
    delay: Delay | None = None,
    restart_at: int | None = None,
    season: int | None = None,
    progress: Callable[[int], None] | None = None,
    keep: Callable[[Callable[[], bytes | None]], None] | None = None,
    resume: bytes | None = None,
) -> Result:
    """Play the rows in order; every prediction is made before its label is learned.

    The log must be empty for ``model:<name>``. ``restart_at`` drops the learner after that many rows and starts another
    from what the log holds. ``progress`` is called with the number of rows played, whenever the fold has taken them.
    A forecast of ``horizon`` steps ahead is made ``horizon`` rows before its label is known, so that labels come
    ``horizon - 1`` rows late at least; with ``season`` rows a season, it is compared with the last known value of the
    same place in one.

    ``keep`` is called as often, with a function that makes a checkpoint (``None`` where the log is none in memory).
    Given to ``resume``, with the same rows and options and an empty log in memory, the run goes on from there as if it
    had never been cut. A checkpoint is a pickle: resume from your own alone.

    Raises:
        LogUnavailable: The log could not be written or read.
        BeyondError: ``restart_at`` lies beyond the rows.
        UntimedError: Labels are late by event time, and a row has none.
        TypeError: ``resume`` with another log than one in memory.
    """
    partition = Partition(f"model:{spec.name}", 0)
    run = _Run(spec, log, partition, _worker(spec, log, partition))
    delay = delay or Delay()
    forecasts = spec.task == "forecasting"
    labels: list[Scalar] = []
    if forecasts:
        delay = replace(delay, rows=max(delay.rows, spec.horizon - 1))
        rows = _kept(rows, labels)
    if resume is not None:
        run.go_on(resume)
    for _ in run.play(islice(_events(rows, delay), run.events, None), restart_at):
        if progress is not None:
            progress(run.rows)
        if keep is not None:
            keep(run.checkpoint)
    if restart_at is not None and not run.restarts:
        raise BeyondError(f"a restart after {restart_at:,} rows; allowed is less than the {run.rows:,} rows there are")
    run.flush()
    run.worker.close()
    fold = run.worker.fold
    if not isinstance(fold, ModelLearner):
        raise ConnectionError(f"the log of {partition} went away: {run.worker.trouble}")
    ledger = run.ledger
    baseline = naive(labels, ledger.errors, spec.horizon, season) if forecasts else fold.baseline()
    return Result(
        run.rows,
        fold.metrics(),
        baseline,
        fold.counts,
        tuple(ledger.alarms),
        run.restarts,
        tuple(run.curve),
        ledger.errors,
        ledger.answered,
        tuple(ledger.refused),
        fold.candidates.champion,
        tuple(fold.candidates.standings()),
        tuple(fold.candidates.comparison.findings),
        fold.candidates.current.halted,
    )


def _kept(rows: Iterable[Row], labels: list[Scalar]) -> Iterator[Row]:
    for row in rows:
        labels.append(row.label)
        yield row


def naive(labels: Sequence[Scalar], errors: Sequence[float], horizon: int, season: int | None) -> dict[str, float]:
    """Mean absolute errors of rules that forecast ``horizon`` steps ahead, and of the model over the same rows.

    ``no-change`` says the last value known then, ``seasonal-naive`` the last known one of the same place in the season.
    ``errors`` are the model's by row, NaN where it had no forecast.
    """
    lags = {"no-change": horizon}
    if season is not None:
        lags["seasonal-naive"] = season * math.ceil(horizon / season)
    longest = max(lags.values())
    numbers = [float(y) if isinstance(y, int | float) else math.nan for y in labels]
    same = [row for row in range(longest, len(numbers)) if errors[row] == errors[row]]
    if not same:
        return {}
    found = {f"{name} MAE": [abs(numbers[row] - numbers[row - lag]) for row in same] for name, lag in lags.items()}
    found["model's MAE on the same rows"] = [errors[row] for row in same]
    return {name: math.fsum(values) / len(same) for name, values in found.items()}


def _worker(spec: ModelSpec, log: Log, partition: Partition) -> Worker:
    # Event time is the data's own: this worker never says what time it is.
    return Worker(log, model_fold(spec), partition, "backtest", now=lambda: -math.inf, pace=Pace(calm=0.0))


def _events(rows: Iterable[Row], delay: Delay) -> Iterator[Observed | Labelled]:
    """Observations, each labelled at once or followed by its label when it is due."""
    waiting: deque[tuple[int, float, Labelled]] = deque()
    at = 0.0
    for number, row in enumerate(rows):
        if delay.seconds and row.at is None:
            raise UntimedError(f"row {number:,} has no time")
        at = float(number) if row.at is None else row.at
        while waiting and (waiting[0][0] <= number and waiting[0][1] <= at):
            yield _due(waiting.popleft()[2], at)
        known = delay.chance is None or delay.probability >= 1.0 or delay.chance() < delay.probability
        at_once = known and not delay.rows and not delay.seconds
        label: Any = row.label if at_once else UNSET
        yield Observed(id=str(number), key=row.key, at=at, features=dict(row.features), label=label)
        if known and not at_once:
            due = at + delay.seconds
            labelled = Labelled(id=str(number), key=row.key, label=row.label, at=due if delay.seconds else None)
            waiting.append((number + delay.rows + (not delay.seconds), due, labelled))
    for _, _, labelled in waiting:
        yield _due(labelled, at)


def _due(labelled: Labelled, at: float) -> Labelled:
    """A label at its time: that of the row before which it comes, where it is late by rows."""
    return labelled if labelled.at is not None else structs.replace(labelled, at=at)


def _stretches(errors: Sequence[float], size: int) -> Iterator[tuple[int, float]]:
    for begin in range(0, len(errors), size):
        known = [error for error in errors[begin : begin + size] if error == error]
        if known:
            yield begin, math.fsum(known) / len(known)
