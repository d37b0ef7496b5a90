"""Predictions that wait for their labels, those that wait no more, and labels that came before their prediction."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import msgspec

from online.events import Observed, Scalar, decode, scoped_id
from online.log import Entry, EntryId
from online.pending import Early, Pending, Recent, Waiting
from online.tasks import NOTHING, Guess

Features: TypeAlias = dict[str, Any]

_REMEMBERED = 100_000
_EARLY = 1_000


class Said(NamedTuple):
    """What was said of a case: by the champion of the time, and by its challengers.

    ``foreseen`` is the probability, as it was foreseen, that the champion is right.
    """

    champion: str
    guess: Guess
    others: Mapping[str, Guess] = MappingProxyType({})
    foreseen: float | None = None

    @property
    def by_name(self) -> dict[str, Guess]:
        """What each candidate said."""
        return {**self.others, self.champion: self.guess}

    def of(self, candidate: str) -> Guess:
        """What one of them said; nothing where it was not asked."""
        return self.guess if candidate == self.champion else self.others.get(candidate, NOTHING)


class Guessed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A guess as it is stored: classes are no keys that every format can hold."""

    value: Scalar = None
    probabilities: list[tuple[Scalar, float]] | None = None

    @classmethod
    def of(cls, guess: Guess) -> "Guessed":
        """What a challenger said."""
        return cls(guess.value, _pairs(guess.probabilities))

    @property
    def guess(self) -> Guess:
        """The guess that was stored."""
        return Guess(self.value, None if self.probabilities is None else dict(self.probabilities))


def _pairs(probabilities: Mapping[Any, float] | None) -> list[tuple[Any, float]] | None:
    return None if probabilities is None else [(label, float(p)) for label, p in probabilities.items()]


class Awaiting(Waiting, kw_only=True):
    """A prediction that waits for its label; ``added`` is what was computed for its features at the time."""

    key: str | None = None
    value: Scalar = None
    probabilities: list[tuple[Scalar, float]] | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None
    learn: bool = True
    at: float = 0.0
    added: dict[str, Scalar] | None = None
    champion: str = ""
    others: dict[str, Guessed] | None = None
    foreseen: float | None = None

    @property
    def said(self) -> Said:
        """The predictions as they were made."""
        probabilities = None if self.probabilities is None else dict(self.probabilities)
        guess = Guess(self.value, probabilities, self.score, self.interval)
        others = {name: other.guess for name, other in (self.others or {}).items()}
        return Said(self.champion, guess, others, self.foreseen)


class Done(msgspec.Struct, frozen=True):
    """A prediction that waits no more."""

    state: str
    value: Scalar = None


class Unlabelled:
    """What a model's partition holds of cases without a label, by their scoped ids.

    Features are kept in memory alone: after a restart `remember` takes them from the log.

    Args:
        wait: Seconds of event time that a prediction waits for its label.
        early: Seconds of event time that a label waits for its prediction.
        ceiling: How many predictions may wait; beyond, the wait of the first to end is over.
    """

    def __init__(self, wait: float, early: float, ceiling: int) -> None:
        self.count = 0
        self._wait = wait
        self._pending = Pending(Awaiting, ceiling)
        self._recent = Recent(Done, min(ceiling, _REMEMBERED))
        self._early = Early(early, _EARLY)
        self._features: dict[EntryId, Features] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._pending or self._recent.get(name) is not None

    def begin(
        self, entry: Entry, event: Observed, at: float, said: Said, checked: Features, added: Features | None
    ) -> None:
        """Wait for the label of a prediction made from the checked features; ``added`` are those not in the event."""
        guess = said.guess
        waiting = Awaiting(
            entry=entry.id,
            deadline=at + self._wait,
            key=event.key,
            value=guess.value,
            probabilities=_pairs(guess.probabilities),
            score=guess.score,
            interval=guess.interval,
            learn=event.learn,
            at=at,
            added=added,
            champion=said.champion,
            others={name: Guessed.of(other) for name, other in said.others.items()} or None,
            foreseen=said.foreseen,
        )
        self._pending.put(scoped_id(event.id, event.key), waiting)
        self._features[entry.id] = checked
        self._recount()

    def get(self, name: str) -> Awaiting | None:
        """The prediction that waits under this id."""
        return self._pending.get(name)

    def features(self, waiting: Awaiting) -> Features | None:
        """What a waiting prediction was made from; ``None`` where the log holds it no more."""
        return self._features.get(waiting.entry)

    def done(self, name: str) -> Done | None:
        """How this id stopped waiting, ``None`` if it did not, or too long ago."""
        return self._recent.get(name)

    def finish(self, name: str, waiting: Awaiting, done: Done) -> None:
        """Stop waiting for a label."""
        self._pending.pop(name)
        self._features.pop(waiting.entry, None)
        self._recent.put(name, done)
        self._recount()

    def mark(self, name: str, done: Done) -> None:
        """Note what became of an id that had stopped waiting."""
        self._recent.put(name, done)

    def put_early(self, name: str, entry: Entry, now: float) -> None:
        """Keep a label until its prediction comes."""
        self._early.put(name, entry, now)
        self._recount()

    def take_early(self, name: str) -> list[Entry]:
        """The labels that came before the prediction under this id."""
        return self._early.take(name)

    def ended(self, now: float) -> Iterator[str]:
        """Finishes the predictions whose wait is over: they default to what was predicted."""
        for name, waiting in self._pending.ended(now):
            self.finish(name, waiting, Done("defaulted", waiting.value))
            yield name

    def ended_early(self, now: float) -> Iterator[Entry]:
        """Takes out the labels that have waited in vain."""
        yield from self._early.ended(now)
        self._recount()

    def _recount(self) -> None:
        self.count = len(self._pending) + len(self._early)

    def oldest(self) -> EntryId | None:
        """The entry of the oldest prediction that waits."""
        return self._pending.oldest()

    def deadline(self) -> float:
        """When the next wait is over, in event time; infinite where none will be."""
        return min(self._pending.deadline(), self._early.deadline())

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since this was asked last."""
        return self._pending.changes() | self._recent.changes()

    def dump(self) -> tuple[int, list[tuple[float, str, Entry]]]:
        """What goes into a snapshot: how many wait, and the early labels; all else is kept in parts."""
        return self.count, self._early.dump()

    def load(self, count: int, early: Iterable[tuple[float, str, Entry]]) -> None:
        """Take back what was dumped. The count is right before the parts are restored, which a reader never does."""
        self._early.restore(early)
        self.count = count

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take the parts back."""
        self._pending.restore(parts)
        self._recent.restore(parts)

    def remember(self, entries: Iterable[Entry], recall: Callable[[Features, Features | None], Features]) -> None:
        """Take the features of waiting predictions back from the entries; ``recall`` makes them what they were."""
        wanted = self._pending.by_entry()
        for entry in entries:
            if entry.id in wanted:
                event = decode(entry.payload)
                if isinstance(event, Observed):
                    waiting = self._pending.get(wanted[entry.id])
                    added = None if waiting is None else waiting.added
                    self._features[entry.id] = recall(event.features, added)
