"""What a policy is worth in a world: exactly where the states can be listed, else by simulation on common chance."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Evaluation:
    """The value of a policy, higher being better (a cost is a negative value).

    Args:
        value: expected return of an episode, or average reward per period where the world never ends.
        interval: 95 % interval of the value; both ends equal the value where it is exact.
        method: `exact` or `simulation`.
        episodes: simulated episodes (0 where exact).
        seed: of the simulation; equal seeds use the same chance and so can be compared pair by pair.
        returns: (episodes,) what each simulated episode gave.
    """

    value: float
    interval: tuple[float, float]
    method: Literal["exact", "simulation"]
    episodes: int = 0
    seed: int | None = None
    returns: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)

    def summary(self) -> dict[str, Any]:
        """Everything but the single returns, ready for JSON."""
        names = ("value", "interval", "method", "episodes", "seed")
        return {name: getattr(self, name) for name in names}
