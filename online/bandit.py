"""Contextual bandits: arms whose rewards River regressors learn, and the ways of choosing among them.

Each arm has a regressor of its own (disjoint models); rewards of one arm teach nothing about another. Where the
probability of each arm has a closed form it is exact, and a choice made with it can be used off-policy later. Where it
has none, or leaves arms at zero, the choice says so instead of making a number up.
"""

import copy
import math
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from online.exploration import Draw, Estimate, Explorer, Thompson, invert

CONSTANT = "constant"
"""The feature, always 1, that gives every arm an intercept."""


class BanditError(ValueError):
    """An arm or a reward that a bandit cannot take."""


class NoPropensity(ValueError):  # noqa: N818
    """A choice whose probability is not known in closed form, or without overlap: no use for off-policy estimates."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An arm taken, and the probabilities of all allowed arms; ``None`` where ``refusal`` says why there are none.

    Record `propensity` with the decision: it is the probability with which this arm was taken.
    """

    arm: str
    probabilities: Mapping[str, float] | None
    refusal: str | None = None

    @property
    def propensity(self) -> float:
        """The probability of the arm taken, exact.

        Raises:
            NoPropensity: There is none that off-policy estimates could use.
        """
        if self.probabilities is None:
            raise NoPropensity(self.refusal)
        return self.probabilities[self.arm]


@dataclass(slots=True)
class Arm:
    """An arm: its regressor, how many rewards it learned, and whether it is still offered."""

    model: Any
    rewards: int = 0
    offered: bool = True


class Bandit:
    """Arms by name, one way of exploring, and what was learned.

    Args:
        arms: Names; more can be added later.
        explorer: How to choose.
        blank: An untaught River regressor, copied for each arm. Explorers that ask for deviations need one whose
            ``predict_one(x, with_dist=True)`` gives a posterior: ``linear_model.BayesianLinearRegression``.
        trials: An arm with fewer rewards counts as good as the best, so that newcomers are tried. Explorers that ask
            for deviations need no such rule.
    """

    def __init__(self, arms: Iterable[str], explorer: Explorer, blank: Any, trials: int = 10) -> None:
        self.explorer = explorer
        self.trials = trials
        self.rewards = 0
        self._blank = copy.deepcopy(blank)
        self._arms: dict[str, Arm] = {}
        for name in arms:
            self.add(name)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms offered, in the order they were added."""
        return tuple(name for name, arm in self._arms.items() if arm.offered)

    @property
    def retired(self) -> tuple[str, ...]:
        """The arms offered no more, which keep what they learned."""
        return tuple(name for name, arm in self._arms.items() if not arm.offered)

    def add(self, name: str) -> None:
        """Offer an arm: a new one, or one that was retired, with what it had learned.

        Raises:
            BanditError: It is offered already.
        """
        arm = self._arms.get(name)
        if arm is None:
            self._arms[name] = Arm(copy.deepcopy(self._blank))
        elif arm.offered:
            raise BanditError(f"the arm {name!r} is offered already; the arms are {', '.join(self.arms)}")
        else:
            arm.offered = True

    def retire(self, name: str) -> None:
        """Stop offering an arm; rewards of choices made before still teach it.

        Raises:
            BanditError: It is not offered, or the last one.
        """
        if name not in self.arms or len(self.arms) == 1:
            raise BanditError(f"the arm {name!r} cannot be retired: one at least of {', '.join(self.arms)} must stay")
        self._arms[name].offered = False

    def estimates(self, x: Mapping[str, float], allowed: Iterable[str] | None = None) -> dict[str, Estimate]:
        """What each allowed arm (all, where ``None``) is thought to earn here. Raises `BanditError`."""
        names = self._allowed(allowed)
        context = self._context(x)
        if self.explorer.spreads:
            return {name: _posterior(self._arms[name].model, context) for name in names}
        means = {name: _mean(self._arms[name].model, context) for name in names}
        tried = [means[name] for name in names if self._arms[name].rewards >= self.trials]
        best = max(tried, default=0.0)
        return {
            name: Estimate(mean if self._arms[name].rewards >= self.trials else best) for name, mean in means.items()
        }

    def probabilities(self, x: Mapping[str, float], allowed: Iterable[str] | None = None) -> dict[str, float]:
        """The exact probability with which `choose` takes each allowed arm here.

        Raises:
            NoPropensity: There is no closed form.
        """
        estimates = self.estimates(x, allowed)
        found = self.explorer.probabilities(list(estimates.values()), self.rewards)
        if found is None:
            raise NoPropensity(self.explorer.refusal(len(estimates)))
        return dict(zip(estimates, found, strict=True))

    def choose(self, x: Mapping[str, float], draw: Draw, allowed: Iterable[str] | None = None) -> Choice:
        """An arm for features ``x``, with its probability; changes nothing. Raises `BanditError`."""
        estimates = self.estimates(x, allowed)
        names, values = list(estimates), list(estimates.values())
        found = self.explorer.probabilities(values, self.rewards)
        refusal = self.explorer.refusal(len(names))
        if found is None and isinstance(self.explorer, Thompson):
            return Choice(names[self.explorer.pick(values, draw)], None, refusal)
        taken = names[invert(found or [], draw(0))]
        return Choice(taken, None if refusal else dict(zip(names, found or [], strict=True)), refusal)

    def learn_one(self, x: Mapping[str, float], arm: str, reward: float) -> None:
        """Teach an arm what it earned with the features that it was chosen for.

        Raises:
            BanditError: There never was such an arm, or the reward is not finite.
        """
        known = self._arms.get(arm)
        if known is None or not math.isfinite(reward):
            raise BanditError(
                f"a reward of {reward!r} for {arm!r}; allowed is a finite one for {', '.join(self._arms)}"
            )
        known.model.learn_one(self._context(x), reward)
        known.rewards += 1
        self.rewards += 1

    def dump(self) -> bytes:
        """All there is to know, for `load`."""
        return pickle.dumps((self.explorer, self._blank, self.trials, self.rewards, self._arms), protocol=5)

    @classmethod
    def load(cls, data: bytes) -> "Bandit":
        """The bandit that was dumped: it chooses and learns as that one would have gone on."""
        explorer, blank, trials, rewards, arms = pickle.loads(data)
        bandit = cls((), explorer, blank, trials)
        bandit.rewards, bandit._arms = rewards, arms
        return bandit

    def _allowed(self, allowed: Iterable[str] | None) -> list[str]:
        offered = self.arms
        names = list(offered if allowed is None else dict.fromkeys(allowed))
        if not names or any(name not in offered for name in names):
            raise BanditError(f"allowed arms {names}; at least one is needed, of those offered: {', '.join(offered)}")
        return names

    def _context(self, x: Mapping[str, float]) -> dict[str, float]:
        return {name: x[name] for name in sorted(x)} | {CONSTANT: 1.0}


def _mean(model: Any, x: dict[str, float]) -> float:
    found = model.predict_one(x)
    return 0.0 if found is None or not math.isfinite(found) else float(found)


def _posterior(model: Any, x: dict[str, float]) -> Estimate:
    """The posterior of the mean: the predictive variance less that of the noise, 1/beta (Bishop 2006, eq. 3.59)."""
    noise = 1.0 / getattr(model, "beta", math.inf)
    try:
        found = model.predict_one(x, with_dist=True)
        return Estimate(found.mu, math.sqrt(max(0.0, found.sigma**2 - noise)))
    except (TypeError, AttributeError):
        raise BanditError(
            f"{type(model).__name__} gives no posterior; allowed is linear_model.BayesianLinearRegression"
        ) from None
