"""Active learning: which labels are worth buying, within a budget."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

STEP = 0.02
"""How fast the discount follows the budget, per event."""


def entropy(probabilities: Mapping[Any, float] | None) -> float:
    """The uncertainty of a prediction from 0 to 1: as in River's ``active.EntropySampler``; 1 where there is none.

    >>> entropy({True: 0.5, False: 0.5}), entropy({True: 1.0, False: 0.0}), entropy({})
    (1.0, 0.0, 1.0)
    """
    if not probabilities:
        return 1.0
    positive = [p for p in probabilities.values() if p > 0.0]
    if len(positive) < 2:
        return 0.0
    return -math.fsum(p * math.log2(p) for p in positive) / math.log2(len(positive))


def uniforms(event_id: str) -> tuple[float, float]:
    """Two uniform numbers in [0, 1) that belong to an event: every replay draws the same."""
    digest = blake2b(event_id.encode(), digest_size=16, person=b"label-wanted").digest()
    return tuple(int.from_bytes(part, "big") / 2**64 for part in (digest[:8], digest[8:]))  # type: ignore[return-value]


@dataclass(slots=True)
class Buyer:
    """Buys labels for a share ``budget`` of all events: partly at random, partly where the model is uncertain.

    The first ``advance`` labels are all bought, since a model that knows nothing gains most from them; the debt is paid
    back soon, by buying less in proportion to it: a third of it is left after ``advance / 2 budget`` events. A share
    ``at_random`` of the events is left to pure chance: the labels bought there are a fair sample, and a change is seen
    where the model is sure of itself (Žliobaitė et al. 2014, "split"). In the others a label is wanted with probability
    ``entropy ** discount``, which is River's ``active.EntropySampler``; the discount follows the budget.
    """

    budget: float = 0.1
    at_random: float = 0.3
    advance: int = 30
    discount: float = 3.0
    seen: int = 0
    bought: int = 0

    def __post_init__(self) -> None:
        for name in ("budget", "at_random"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed is a share from 0 to 1")
        if self.advance < 1:
            raise ValueError(f"advance is {self.advance!r}; allowed is 1 or more labels")

    @property
    def rate(self) -> float:
        """The share of the events whose labels are bought now."""
        if self.bought < self.advance and self.seen == self.bought and self.budget > 0.0:
            return 1.0
        return min(1.0, max(0.0, self.budget * (1.0 - 2.0 * (self.bought - self.budget * self.seen) / self.advance)))

    def wants(self, probabilities: Mapping[Any, float] | None, chance: tuple[float, float]) -> bool:
        """Whether a label for this prediction is wanted; changes nothing. ``chance`` is two uniform numbers."""
        rate = self.rate
        if rate in (0.0, 1.0) or self.is_fair(chance):
            return chance[1] < rate
        return chance[1] < math.pow(entropy(probabilities), self.discount) * rate / self.budget

    def is_fair(self, chance: tuple[float, float]) -> bool:
        """Whether what the model says of this event has no say in whether its label is wanted."""
        return chance[0] < self.at_random

    def note(self, probabilities: Mapping[Any, float] | None, chance: tuple[float, float], *, wanted: bool) -> None:
        """Count an event, and whether its label was bought."""
        rate = self.rate
        self.seen += 1
        self.bought += wanted
        if not self.is_fair(chance) and 0.0 < rate < 1.0:
            spent = math.pow(entropy(probabilities), self.discount) / self.budget
            self.discount = min(100.0, max(0.01, self.discount * math.exp(STEP * min(4.0, spent - 1.0))))
