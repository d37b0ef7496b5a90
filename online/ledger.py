"""The ledger of a back-test: what the reports say of its rows, read as they come."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from online.events import Drifted, Predicted, Rejected, Report, Scored, bare_id, decode_reports
from online.log import START, EntryId, Log, Partition

REFUSALS = 20
"""How many refusals are kept: the first ones say what is wrong with a file."""

_TOGETHER = 1_000


@dataclass(frozen=True, slots=True)
class Alarmed:
    """A drift alarm, and the row (from 0) that was played last when it was raised.

    ``name`` is the watch's, as it is declared; ``detector`` the kind that it is.
    """

    row: int
    name: str
    signal: str
    detector: str
    evidence: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was set aside, or its label: why, and which field."""

    row: int
    reason: str
    field: str | None


@dataclass(slots=True)
class Ledger:
    """Errors by row, NaN where there is none; alarms; the first refusals."""

    errors: list[float] = field(default_factory=list)
    alarms: list[Alarmed] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    _after: EntryId = START
    _row: int = -1

    @property
    def answered(self) -> bool:
        """Whether any row was predicted."""
        return self._row >= 0

    def read(self, log: Log, partition: Partition, rows: int) -> None:
        """Take in the reports that came since this was asked last; ``rows`` have been played."""
        self.errors += [math.nan] * (rows - len(self.errors))
        while entries := log.reports(partition, self._after, _TOGETHER):
            self._after = entries[-1].id
            for entry in entries:
                self._enter(decode_reports(entry.payload))

    def _enter(self, reports: list[Report]) -> None:
        """The reports that one entry caused; an alarm among them may come before the score that raised it."""
        for report in reports:
            if isinstance(report, Predicted | Scored):
                self._row = max(self._row, int(report.id))
            if isinstance(report, Scored) and report.error is not None:
                self.errors[int(report.id)] = report.error
            if isinstance(report, Rejected) and len(self.refused) < REFUSALS:
                self.refused.append(Refused(_row(report.id), report.reason, report.field))
        for report in reports:
            if isinstance(report, Drifted):
                name = report.name or report.signal
                self.alarms.append(Alarmed(self._row, name, report.signal, report.detector, report.evidence))


def _row(draft: str) -> int:
    """The row whose event, or whose label, has this id in the log."""
    return int(bare_id(draft).partition("/")[0])
