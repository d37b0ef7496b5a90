"""Decisions joined with what came of them, read back from the log: the rows of reports and exports."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from online.events import Decided, EventError, Rewarded, decode, scoped_id
from online.log import Entry, Log, Partition
from online.outcomes import Standing, parse_standing, standing_field

_PAGE, _OTHERS = 1000, 16
"""Entries read at once: enough for an outcome of each decision and some others, at most a page."""


@dataclass(slots=True)
class Joined:
    """One decision and where it stands.

    Attributes:
        at: When it was made, in seconds since the epoch.
        standing: As the learner has it; `pending` where it has not got to it.
        delays: Seconds from the decision to each of its outcomes in the log.
    """

    decided: Decided
    entry: Entry
    at: float
    standing: Standing
    delays: list[float] = field(default_factory=list)

    @property
    def reward(self) -> float | None:
        """What the decision is worth: its reward, or the default once the wait is over; else `None`."""
        return self.standing.reward if self.standing.state in ("rewarded", "defaulted") else None


def read(log: Log, partition: Partition, last: int) -> list[Joined]:
    """The last decisions of a partition, at most so many, the oldest first; costs what is read, not what is stored."""
    entries = tail(log, partition, last)
    names = [standing_field(event.id, event.key) for entry in entries if (event := _decided(entry)) is not None]
    standings: dict[str, bytes] = {}
    for start in range(0, len(names), _PAGE):
        page = names[start : start + _PAGE]
        found = zip(page, log.lookup_all(partition, page), strict=True)
        standings |= {name: data for name, data in found if data is not None}
    return join(entries, standings, last)


def tail(log: Log, partition: Partition, decisions: int) -> list[Entry]:
    """The end of a log with at least so many decisions, or all of it: read backwards, each entry once."""
    stretches: list[list[Entry]] = []
    found, before = 0, None
    size = min(2 * decisions + _OTHERS, _PAGE)
    while found < decisions and (entries := log.read_back(partition, before, size)):
        stretches.append(entries)
        found += sum(_decided(entry) is not None for entry in entries)
        before = entries[0].id
    return [entry for stretch in reversed(stretches) for entry in stretch]


def _decided(entry: Entry) -> Decided | None:
    try:
        event = decode(entry.payload)
    except EventError:
        # The learner has set it aside and says why; a report is about the others.
        return None
    return event if isinstance(event, Decided) else None


def join(entries: Iterable[Entry], standings: Mapping[str, bytes], last: int) -> list[Joined]:
    """The last decisions among the entries, with their standings (index fields of the partition) and delays."""
    rows: deque[Joined] = deque(maxlen=last)
    by_id: dict[str, Joined] = {}
    for entry in entries:
        try:
            event = decode(entry.payload)
        except EventError:
            # The learner has set it aside and says why; a report is about the others.
            continue
        if isinstance(event, Decided):
            if len(rows) == last:
                gone = rows[0].decided
                by_id.pop(scoped_id(gone.id, gone.key), None)
            row = _row(event, entry, standings)
            rows.append(row)
            by_id[scoped_id(event.id, event.key)] = row
        elif isinstance(event, Rewarded):
            known = by_id.get(scoped_id(event.decision, event.key))
            if known is not None:
                known.delays.append((entry.at if event.at is None else event.at) - known.at)
    return list(rows)


def _row(event: Decided, entry: Entry, standings: Mapping[str, bytes]) -> Joined:
    data = standings.get(standing_field(event.id, event.key))
    standing = Standing("deferred" if event.deferred else "pending") if data is None else parse_standing(data)
    return Joined(event, entry, entry.at if event.at is None else event.at, standing)
