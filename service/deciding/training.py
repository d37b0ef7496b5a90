"""Training orders: what a job says about how to train, checked before torch sees it."""

from collections.abc import Mapping
from typing import Any

import msgspec


class OrderError(ValueError):
    """The order asks for what cannot be trained; the message names the field and what is allowed."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to train.

    Attributes:
        steps, minutes: The budget; the preset's where neither is given.
        ranges: Parameter → (low, high), over which a policy is trained that follows the parameters; `None` takes the
            point's own.
        params: Parameters round which to train, where they differ from the point's own.
        start: Digest of a registered bundle to train on.
    """

    algo: str = "ppo"
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    ranges: dict[str, tuple[float, float]] | None = None
    params: dict[str, float] = {}
    start: str | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("steps and minutes were given: give one of them")
        if (self.steps is not None and self.steps < 1) or (self.minutes is not None and not self.minutes > 0):
            raise ValueError("a budget of nothing was given: give more than 0 steps or minutes")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} was given: give 0 or more")

    @property
    def settings(self) -> dict[str, Any]:
        """What `agents.train.train` takes by these names."""
        return {name: getattr(self, name) for name in ("algo", "seed", "steps", "minutes")}


def read(order: Mapping[str, Any]) -> Order:
    """The order in a mapping.

    Raises:
        OrderError: A field is unknown, of another type, or out of range.

    >>> read({"steps": 1000}).steps
    1000
    """
    try:
        return msgspec.convert(dict(order), Order)
    except msgspec.ValidationError as error:
        raise OrderError(f"the training order cannot be read: {error}") from None
