"""The fold of a bandit's partition: choices wait for their rewards, rewards teach arms, arms come and go."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from river.__version__ import __version__ as river_version

from online import pickling
from online.bandit import Bandit, BanditError
from online.bandit_specs import BanditSpec
from online.components import construct
from online.events import (
    Armed,
    Chosen,
    EventError,
    Rejected,
    Replayed,
    Report,
    Rewarded,
    Settled,
    Ticked,
    decode,
    digest,
)
from online.fold import Parts, Place, Poisoned, Stale
from online.log import Entry, EntryId
from online.pending import Pending, Waiting
from online.rejects import Rejects

LAYOUT = 2
CEILING = 1_000_000
HISTORY = 100
"""Changes of arms that are remembered."""


class _Open(Waiting, kw_only=True):
    """A choice that waits for its reward."""

    arm: str
    features: dict[str, float]
    propensity: float | None


@dataclass(slots=True)
class Earned:
    """What an arm earned.

    ``weight``, ``weighted`` and ``squares`` sum 1/p, reward/p and 1/p² over choices of known probability p.
    """

    rewards: int = 0
    total: float = 0.0
    weight: float = 0.0
    weighted: float = 0.0
    squares: float = 0.0

    def add(self, reward: float, propensity: float | None) -> None:
        """One more reward."""
        self.rewards += 1
        self.total += reward
        if propensity is not None:
            self.weight += 1.0 / propensity
            self.weighted += reward / propensity
            self.squares += 1.0 / propensity**2

    @property
    def mean(self) -> float | None:
        """The mean reward where the arm was taken: that of the cases it was chosen for, not of all."""
        return self.total / self.rewards if self.rewards else None

    @property
    def value(self) -> float | None:
        """What always taking it would have earned: self-normalised inverse propensity (Swaminathan, Joachims 2015).

        A ratio of two means: consistent, with a bias of the order of one over `effective`.
        """
        return self.weighted / self.weight if self.weight else None

    @property
    def effective(self) -> float | None:
        """How many even-handed choices `value` is worth (Kish 1965): few where rewards had small propensities."""
        return self.weight**2 / self.squares if self.squares else None


class BanditLearner:
    """The fold of a bandit. ``bandit`` may be asked of any learner, also of one loaded from a snapshot alone.

    ``earned`` is by arm, ``history`` the last changes of the arms offered, the oldest first.
    """

    def __init__(self, spec: BanditSpec) -> None:
        self.spec = spec
        self.place = Place()
        self.bandit = Bandit(spec.arms, spec.explore, construct(spec.model))
        self.earned: dict[str, Earned] = {}
        self.history: list[Armed] = []
        self.pending = 0
        self._open = Pending(_Open, CEILING)
        self._rejects = Rejects()

    @property
    def learned(self) -> int:
        """Rewards learned."""
        return self.bandit.rewards

    @property
    def warning(self) -> None:
        """Nothing to say."""
        return

    def apply(self, entry: Entry) -> list[Report]:
        """Change the state by an entry; what there is to say about it.

        Raises:
            Poisoned: A regressor failed half-way: the state must be dropped.
        """
        reports = self.place.follow(entry)
        try:
            if not entry.intact:
                raise EventError("its checksum does not fit: the entry was altered")
            self._fold(entry, decode(entry.payload), reports)
        except (EventError, BanditError) as error:
            reports.append(self._set_aside(entry, str(error)))
        self._end_waits(reports)
        return reports

    def _fold(self, entry: Entry, event: Any, reports: list[Report]) -> None:
        at = self.place.time(getattr(event, "at", None), entry.at)
        # Before the event: a reward that comes after its wait is late, whatever came in between.
        self._end_waits(reports)
        match event:
            case Chosen():
                held = _Open(
                    entry=entry.id,
                    deadline=at + self.spec.wait,
                    arm=event.arm,
                    features=event.features,
                    propensity=event.propensity,
                )
                self._open.put(event.id, held)
            case Rewarded():
                self._take_reward(event, reports)
            case Armed():
                self._change_arms(event)
            case Replayed():
                self._fold(entry, self._rejects.bring_back(event), reports)
            case Ticked():
                pass
            case _:
                raise EventError(f"a bandit learns nothing from a {type(event).__name__!r} event")

    def _change_arms(self, event: Armed) -> None:
        """Offer an arm, or no more. Raises `BanditError`."""
        if event.offered:
            self.bandit.add(event.arm)
        else:
            self.bandit.retire(event.arm)
        self.history = [*self.history[1 - HISTORY :], event]

    def _take_reward(self, event: Rewarded, reports: list[Report]) -> None:
        held = self._open.get(event.decision)
        if held is None or event.value is None:
            raise EventError("no choice waits for it: there was none under this id, or its wait is over")
        self._learn(held, event.value)
        self._open.pop(event.decision)
        reports.append(Settled(id=event.decision, state="rewarded", reward=event.value, outcomes=1, closed=True))

    def _learn(self, held: _Open, reward: float) -> None:
        """Teach the arm that was taken. Raises `BanditError`."""
        try:
            self.bandit.learn_one(held.features, held.arm, reward)
        except BanditError:
            raise
        except Exception as error:  # River's classes raise anything, and have changed on the way
            raise Poisoned(f"learning failed: {type(error).__name__}: {error}"[:200]) from error
        self.earned.setdefault(held.arm, Earned()).add(reward, held.propensity)

    def _end_waits(self, reports: list[Report]) -> None:
        for name, held in self._open.ended(self.place.now):
            if self.spec.default is not None:
                self._learn(held, self.spec.default)
            reports.append(Settled(id=name, state="defaulted", reward=self.spec.default, closed=True))
        self.pending = len(self._open)

    def run(self, entries: Sequence[Entry], made: list[tuple[EntryId, bytes]]) -> int:  # noqa: ARG002
        """No entry of a bandit is plain."""
        return 0

    def reject(self, entry: Entry, reason: str, field: str | None = None) -> list[Report]:
        """Set an entry aside that broke `apply`, on the state from before it."""
        return [*self.place.follow(entry), self._set_aside(entry, reason, field)]

    def _set_aside(self, entry: Entry, reason: str, field: str | None = None) -> Rejected:
        return self._rejects.add(self.place, entry, reason, field)

    def dump(self) -> bytes:
        """The snapshot: everything but the parts."""
        state = (self.place, self.bandit.dump(), self.earned, self.history, self.pending)
        return pickling.dumps((_made_by(self.spec), state))

    @classmethod
    def load(cls, spec: BanditSpec, data: bytes) -> "BanditLearner":
        """The learner that this snapshot was dumped from, parts apart.

        Raises:
            Stale: It is of another spec, or of another version of River.
        """
        made_by, state = pickling.loads(data)
        if made_by != _made_by(spec):
            raise Stale(f"the snapshot of the bandit {spec.name!r} is of another spec: replay the log")
        learner = cls(spec)
        learner.place, bandit, learner.earned, learner.history, learner.pending = state
        learner.bandit = Bandit.load(bandit)
        return learner

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since this was asked last."""
        return self._open.changes()

    def index(self) -> dict[str, bytes | None]:
        """The index fields that changed since this was asked last."""
        return self._rejects.changes()

    def oldest(self) -> EntryId | None:
        """None: what a reward teaches is kept with the choice that waits for it."""
        return None

    def deadline(self) -> float:
        """When the next wait is over, in event time; infinite where none will be."""
        return self._open.deadline() if self.pending else math.inf

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take the parts back, after `load`."""
        self._open.restore(parts)

    def remember(self, entries: Iterable[Entry]) -> None:
        """Nothing is taken back from entries."""


def _made_by(spec: BanditSpec) -> tuple[str, str, int]:
    return digest(dict(spec.source)).hex(), river_version, LAYOUT


def bandit_fold(spec: BanditSpec) -> Callable[[bytes | None, Parts], BanditLearner]:
    """Makes learners of a bandit, fresh or from a snapshot, for a worker."""

    def make(snapshot: bytes | None, parts: Parts) -> BanditLearner:  # noqa: ARG001 - all of it is in memory
        return BanditLearner(spec) if snapshot is None else BanditLearner.load(spec, snapshot)

    return make
