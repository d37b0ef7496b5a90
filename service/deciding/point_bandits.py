"""Bandits as policies of a point: actions are their arms, the context their features, joined rewards teach them.

A bandit learns from every decision of its point whose wait is over, whoever made it: what is learned of an arm does not
depend on why it was taken. What several outcomes came to counts as the point aggregates them; a missing one teaches
nothing, unless the bandit itself declares a default. Late outcomes and decisions that were never activated do not.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from river.__version__ import __version__ as river_version

from agents.policy import Array, Mask, Observation
from envs.dynamics import Field
from online.bandit import Bandit
from online.bandit_specs import BanditSpec
from online.components import construct
from online.events import Decided, digest
from online.fold import Parts

PREFIX = "bandit:"
"""Before a bandit's name, where a policy is named."""

_PART = "bandit/"


def is_bandit(name: str | float | None) -> bool:
    """Whether this is the name of a bandit as a policy: ``bandit:offers``."""
    return isinstance(name, str) and name.startswith(PREFIX)


def shares_of(context: tuple[Field, ...], rows: Observation) -> Array:
    """Contexts (n, k) with each bounded entry as a share of its range, so that regressors see like sizes.

    >>> shares_of((Field("stock", "items", 0.0, 20.0, "left"),), np.array([[5.0]]))
    array([[0.25]])
    """
    low = np.array([entry.low if np.isfinite(entry.low) else 0.0 for entry in context])
    width = np.array(
        [entry.high - entry.low if np.isfinite(entry.high) and np.isfinite(entry.low) else 1.0 for entry in context]
    )
    return np.asarray((np.asarray(rows, np.float64)[:, : len(context)] - low) / np.where(width > 0, width, 1.0))


@dataclass(frozen=True, eq=False)
class BanditPolicy:
    """A bandit as a policy: the probability of each allowed action, in closed form."""

    bandit: Bandit
    context: tuple[Field, ...]
    actions: int
    kind: str = "bandit"

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """Probabilities (n, a) for observations (n, k) and masks (n, a)."""
        found = np.zeros((len(observation), self.actions))
        for i, row in enumerate(shares_of(self.context, observation).tolist()):
            places = np.flatnonzero(allowed[i]).tolist()
            x = dict(zip((entry.name for entry in self.context), row, strict=True))
            given = np.fromiter(self.bandit.probabilities(x, map(str, places)).values(), np.float64, len(places))
            found[i, places] = given / given.sum()
        return found


@dataclass
class Tutor:
    """Teaches the bandits of a point; a part of its fold's state.

    Args:
        context: Entries of the context.
        actions: How many there are: each is an arm.
    """

    specs: Mapping[str, BanditSpec]
    context: tuple[Field, ...]
    actions: int
    bandits: dict[str, Bandit] = field(init=False)
    _changed: bool = False

    def __post_init__(self) -> None:
        self.bandits = {name: self._blank(spec) for name, spec in self.specs.items()}

    def _blank(self, spec: BanditSpec) -> Bandit:
        return Bandit(map(str, range(self.actions)), spec.explore, construct(spec.model))

    def close(self, decided: Decided, reward: float | None) -> None:
        """Learn what a decision came to; ``None`` where no outcome came."""
        (row,) = shares_of(self.context, np.array([[decided.context[entry.name] for entry in self.context]])).tolist()
        x = dict(zip((entry.name for entry in self.context), row, strict=True))
        for name, bandit in self.bandits.items():
            told = self.specs[name].default if reward is None else reward
            if told is not None:
                bandit.learn_one(x, str(decided.index), told)
                self._changed = True

    def changes(self) -> dict[str, bytes | None]:
        """What was learned since this was asked last, by part."""
        if not self._changed:
            return {}
        self._changed = False
        return {_PART + name: pickle.dumps((self._made_of(name), one.dump())) for name, one in self.bandits.items()}

    def load(self, parts: Parts) -> None:
        """Go on from what was learned before; a bandit that was declared otherwise then begins anew."""
        for name in self.bandits:
            data = parts(_PART + name)
            made_of, dumped = (None, b"") if data is None else pickle.loads(data)
            if made_of == self._made_of(name):
                self.bandits[name] = Bandit.load(dumped)

    def policies(self) -> dict[str, BanditPolicy]:
        """The bandits as policies, by the names under which they serve."""
        return {PREFIX + name: BanditPolicy(one, self.context, self.actions) for name, one in self.bandits.items()}

    def _made_of(self, name: str) -> tuple[str, str, int, tuple[str, ...]]:
        entries = tuple(entry.name for entry in self.context)
        return digest(dict(self.specs[name].source)).hex(), river_version, self.actions, entries
