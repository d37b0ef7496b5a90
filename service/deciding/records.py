"""The loop's own log: each fact with the state it led to, so that what happened stands whatever rules hold later."""

from typing import Any

import msgspec
from msgspec import Struct

from online.events import digest
from online.log import START, Draft, EntryId, Log, Partition
from service.adapt import Entry, Rules, State, Step, step
from service.facts import Fact

_PAGE = 1000


class Record(Struct, frozen=True):
    """The `sequence`-th fact that a point's loop has heard, what it made of the state, and the transition it caused."""

    sequence: int
    fact: Fact
    state: State
    entry: Entry | None = None


class Quarantined(Struct, frozen=True):
    """A bundle that the loop has taken back, and the evidence."""

    digest: str
    cycle: int
    reasons: tuple[str, ...]
    at: float


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Records:
    """The state of a point's loop and its history, over the log; one thread, like the log."""

    def __init__(self, log: Log, point: str) -> None:
        self._log, self._partition = log, partition_of(point)
        self._cursor: EntryId = START
        self._sequence = 0
        self.state = State()
        self.history: list[Entry] = []

    def follow(self) -> State:
        """The state after everything that was recorded."""
        while entries := self._log.read(self._partition, self._cursor, _PAGE):
            for entry in entries:
                self._apply(_decoder.decode(entry.payload))
            self._cursor = entries[-1].id
        return self.state

    def hear(self, fact: Fact, fact_id: str, rules: Rules) -> Step | None:
        """Record a fact that changes something.

        Returns:
            `None` where it changes nothing, was recorded before, or lost to what another adapter recorded meanwhile.
        """
        state = self.follow()
        found = step(state, fact, rules)
        if found.state == state:
            return None
        record = Record(self._sequence + 1, fact, found.state, found.entry)
        (outcome,) = self._log.append(self._partition, [Draft(fact_id, digest(fact_id), _encoder.encode(record))])
        before = self._sequence
        self.follow()
        taken = self._sequence == before + 1 and _decoder.decode(outcome.entry.payload).sequence == self._sequence
        return found if taken else None

    def _apply(self, record: Record) -> None:
        # Two adapters that heard something at once both wrote the next record: the first counts.
        if record.sequence != self._sequence + 1:
            return
        self._sequence, self.state = record.sequence, record.state
        if record.entry is not None:
            self.history.append(record.entry)


def attention(state: State) -> str:
    """Why a person is needed; empty where nobody is."""
    return f"a person is needed: {state.misfit}" if state.misfit else ""


def partition_of(point: str) -> Partition:
    """Where the loop of a point is recorded."""
    return Partition(f"adapt:{point}", 0)


def quarantine_name(point: str, digest_: str) -> str:
    """The blob under which a bundle's quarantine is kept."""
    return f"quarantine/{point}/{digest_}"


def encode(value: Any) -> bytes:
    """A value as JSON."""
    return _encoder.encode(value)
