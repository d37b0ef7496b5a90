"""Bandits as an API process serves them: read from the last snapshot whenever a learner has published another."""

from dataclasses import dataclass, field

from online.bandit_learner import BanditLearner
from online.fold import Stale
from online.log import START, EntryId, Partition
from online.snapshot import open_sealed
from service.deciding.store import Store
from service.http.problems import unknown


@dataclass(frozen=True)
class ServedBandit:
    """A bandit that learns no more, and the last entry that is in it."""

    learner: BanditLearner
    cursor: EntryId = START
    version: int = 0


@dataclass
class BanditShelf:
    """What was read last of each bandit; belongs to the thread of its store."""

    secret: bytes
    _served: dict[str, ServedBandit] = field(default_factory=dict)

    def names(self, store: Store) -> tuple[str, ...]:
        """The bandits that have arms of their own; one without is but a policy of points."""
        return tuple(name for name, spec in store.declarations.follow().bandits.items() if spec.arms)

    def now(self, store: Store, name: str) -> ServedBandit:
        """A bandit with everything that its learner has published; untaught where that is of another spec.

        Raises:
            ProblemError: There is none of this name.
        """
        spec = store.declarations.follow().bandits.get(name)
        if spec is None or not spec.arms:
            raise unknown("unknown-bandit", "bandit", name, self.names(store))
        served = self._served.get(spec.name)
        if served is None or served.learner.spec != spec:
            served = ServedBandit(BanditLearner(spec))
        partition = partition_of(spec.name)
        if store.log.head(partition).version != served.version and (saved := store.log.load(partition)) is not None:
            data = open_sealed(self.secret, partition, saved.cursor, saved.snapshot)
            try:
                served = ServedBandit(BanditLearner.load(spec, data), saved.cursor, saved.version)
            except Stale:
                served = ServedBandit(BanditLearner(spec))
        self._served[spec.name] = served
        return served


def partition_of(bandit: str) -> Partition:
    """Where a bandit's choices and rewards are logged."""
    return Partition.of(f"bandit:{bandit}", None)
