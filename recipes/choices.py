"""A declared bandit in this process, asked and rewarded as the service would: the same learner over a log in memory."""

from collections.abc import Callable, Mapping, Sequence

from online.bandit import Choice
from online.bandit_learner import BanditLearner
from online.bandit_specs import BanditSpec
from online.events import Chosen, Rewarded, digest, draft_id, encode
from online.log import Draft, Partition
from online.memory_log import MemoryLog

_LATER = 1e10
"""The log's own clock, in seconds: after all events, whose time is the data's own."""


class Choices:
    """One bandit: `choose` logs an arm with its exact probability, `reward` what it earned.

    Args:
        draw: uniform numbers in [0, 1), one for each choice.
    """

    def __init__(self, spec: BanditSpec, draw: Callable[[], float]) -> None:
        self.learner = BanditLearner(spec)
        self.chosen = 0
        self._draw = draw
        self._log = MemoryLog(clock=lambda: _LATER)
        self._partition = Partition(f"bandit:{spec.name}", 0)

    def estimates(self, features: Mapping[str, float]) -> dict[str, float]:
        """What each arm is thought to earn now."""
        return {arm: found.mean for arm, found in self.learner.bandit.estimates(features).items()}

    def choose(
        self, features: Mapping[str, float], *, allowed: Sequence[str] | None = None, at: float | None = None
    ) -> tuple[str, Choice]:
        """An arm for a case, and the id under which its reward may follow."""
        drawn = self._draw()
        choice = self.learner.bandit.choose(features, lambda _: drawn, allowed)
        event = Chosen(
            id=str(self.chosen),
            arm=choice.arm,
            features=dict(features),
            allowed=None if allowed is None else list(allowed),
            probabilities=None if choice.probabilities is None else dict(choice.probabilities),
            propensity=None if choice.probabilities is None else choice.propensity,
            refusal=choice.refusal,
            rewards=self.learner.bandit.rewards,
            at=at,
        )
        self.chosen += 1
        self._append(event)
        return event.id, choice

    def reward(self, choice_id: str, value: float, *, at: float | None = None) -> None:
        """What a choice earned."""
        self._append(Rewarded(id=f"{choice_id}/0", decision=choice_id, value=value, at=at))

    def _append(self, event: Chosen | Rewarded) -> None:
        payload = encode(event)
        appended = self._log.append(self._partition, [Draft(draft_id(event), digest(payload), payload)])
        self.learner.apply(appended[0].entry)
