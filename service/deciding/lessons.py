"""Exploration spent where it teaches most: what is given to which action, by the states that a policy comes to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import Array, Mask


@dataclass(frozen=True, eq=False)
class Lessons:
    """What to try for its lesson, in states that stand for those around them.

    Attributes:
        rows: (n, k) contexts.
        share: (n, a) probability given to each action there.
        cost: Value lost per decision, as a share of what decisions earn.
        policy: Name of the policy that comes to these states.
    """

    rows: Array
    share: Array
    cost: float
    policy: str

    def mixed(self, rows: NDArray[Any], probabilities: Array, allowed: Mask) -> Array:
        """The probabilities (n, a) with what is tried for its lesson mixed in, by the nearest state of each row."""
        width = np.maximum(np.ptp(self.rows, axis=0), 1e-9)
        apart = (np.asarray(rows, np.float64)[:, None, :] - self.rows[None]) / width
        given = np.where(allowed, self.share[(apart**2).sum(axis=2).argmin(axis=1)], 0.0)
        return np.asarray((1.0 - given.sum(axis=1, keepdims=True)) * probabilities + given)
