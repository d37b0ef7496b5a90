"""Watching a release by its outcomes, with the world's own expectation as a control variate. Pure.

Few episodes finish before a bad release should be gone, and what one earns is mostly luck. So what each decision led
to is taken apart: `advantage`, what the calibrated world expects it to have cost against the best action there, and
`luck`, what came beyond that expectation. Over a unit both sum to what it earned less its value at the start, the same
for both arms: their differences sum to the gain, whatever world is believed in (the performance difference lemma,
Kakade and Langford 2002, lemma 6.1). Where the world is right, luck averages zero in both arms and need not be waited
for.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import cast

import numpy as np
from numpy.typing import NDArray

from agents.gate import CanaryRule, Units, Verdict, canary_gate
from envs import exact
from envs.dynamics import Array, Enumerable, State, World
from envs.tabulate import StateSpaceTooLarge, tabulate


@dataclass(frozen=True, eq=False)
class Expectations:
    """What a world expects of every state and action: optimal values (S,) and action values (S, a).

    Where the world never ends they are relative, and the average reward of a period is taken off each action value.
    """

    values: Array
    action_values: Array
    _place: dict[bytes, int]

    @classmethod
    def of(cls, world: World) -> "Expectations | None":
        """Those of a world that can be solved exactly; `None` for any other."""
        try:
            solution = exact.solve(world)
        except (StateSpaceTooLarge, ValueError):
            return None
        listed = solution.states
        if len(listed) != len(solution.values) or len(listed) == 0 or solution.n == 0:
            return None
        table = _action_values(world, solution)
        return cls(solution.values, table, {row.tobytes(): i for i, row in enumerate(listed)})

    def places(self, states: State) -> NDArray[np.int64]:
        """The rows (n,) of states (n, s), -1 for one that the world cannot be in."""
        return np.array([self._place.get(row.tobytes(), -1) for row in np.asarray(states, np.float64)], np.int64)


def _action_values(world: World, solution: exact.Solution) -> Array:
    known, values = cast(Enumerable, world), solution.values  # it was solved exactly
    if world.horizon is None:
        return tabulate(known).values(values) - solution.value
    periods = np.split(values, world.horizon)
    last = tabulate(known, world.horizon - 1)
    inner = tabulate(known) if known.stationary and world.horizon > 1 else None
    tables = []
    for period in range(world.horizon):
        is_last = period == world.horizon - 1
        stage = last if is_last else inner or tabulate(known, period)
        tables.append(stage.values(np.zeros(stage.kernel.shape[1]) if is_last else periods[period + 1]))
    return np.concatenate(tables)


@dataclass(frozen=True)
class Watched:
    """The units (episodes, else keys, else decisions) of a release and its control, those under way included.

    Args:
        candidate: (n,) whether the unit was assigned to the candidate.
        earned: (n,) rewards so far.
        advantage: (n,) sum of Q(s, a) − V(s) over its decisions whose outcome is known, 0 or less each.
        luck: (n,) sum of r + V(s') − Q(s, a) over the same decisions.
        finished: (n,) whether its horizon and waiting time are over.
        share: the candidate's probability of being assigned.
    """

    candidate: NDArray[np.bool_]
    earned: Array
    advantage: Array
    luck: Array
    finished: NDArray[np.bool_]
    share: float


@dataclass(frozen=True)
class WatchRule:
    """How a release is judged.

    Args:
        tolerance: loss, as a share of what a unit of the other arm earned, beyond which the candidate is `worse`.
        confidence: probability that a verdict needs.
        trust: how far off the world's expectation of the gain may be: the standard deviation of its error, as a share
            of what a unit earns. Infinite where the world is known not to fit: then outcomes alone count.
        warm_up: units of each arm before the first look.
        budget: units after which a canary without a verdict should end.
    """

    tolerance: float = 0.01
    confidence: float = 0.98
    trust: float = 0.03
    warm_up: int = 5
    budget: int = 100_000


@dataclass(frozen=True)
class Gain:
    """The candidate's gain per unit: what the world expects of it, what outcomes say, and both weighed together.

    All but `level` are shares of `level`, what a unit of the other arm earned; `error` is the standard error of
    `value`, `credit` how much of the measured luck counts.
    """

    expected: float
    outcomes: float
    value: float
    error: float
    level: float
    credit: float


def gain_of(units: Watched, rule: WatchRule) -> Gain | None:
    """The gain, by normal approximation; `None` during the warm-up.

    The world's expectation of the gain is off by a normal error of standard deviation `trust`, and luck measures that
    error: its posterior mean is the share `credit` of the measured difference of luck. With boundless trust in outcomes
    (`trust` infinite) the credit is 1 and the gain is the plain difference of the arms.
    """
    arm = units.candidate
    n, m = int(arm.sum()), int((~arm).sum())
    if min(n, m) < max(2, rule.warm_up):
        return None
    level = abs(float(units.earned[~arm].mean()))
    if level == 0:
        return None
    expected = _difference(units.advantage, arm)
    luck = _difference(units.luck, arm)
    noise = _variance(units.luck, arm)
    trust = (rule.trust * level) ** 2
    credit = 1.0 if math.isinf(trust) else trust / (trust + noise) if noise > 0 else 1.0
    value = expected + credit * luck
    # With the credit fixed: what the sampling of states leaves, plus what is not known of the world's own error.
    error = math.sqrt(_variance(units.advantage, arm) + credit * noise)
    return Gain(expected / level, (expected + luck) / level, value / level, error / level, level, credit)


def _difference(values: Array, arm: NDArray[np.bool_]) -> float:
    return float(values[arm].mean() - values[~arm].mean())


def _variance(values: Array, arm: NDArray[np.bool_]) -> float:
    """Variance of the difference of the arms' means; the spread of both is taken as one, as either may be small."""
    n, m = int(arm.sum()), int((~arm).sum())
    centred = np.where(arm, values - values[arm].mean(), values - values[~arm].mean())
    return float((centred**2).sum() / (n + m - 2) * (1 / n + 1 / m))


def watch_gate(units: Watched, rule: WatchRule) -> Verdict:
    """Verdict on a release beside its control, which may be asked for at any time.

    A posterior probability needs no correction for looking often, as long as the world's error is what `trust` says; so
    outcomes alone are heard too (`canary_gate` on the finished units), and either may find the release worse.
    """
    gain = gain_of(units, rule)
    alone = _outcomes_alone(units, rule)
    if gain is None:
        arms = int(units.candidate.sum())
        reason = f"{arms} units with the candidate and {len(units.candidate) - arms} without: {rule.warm_up} of each"
        return Verdict("not enough evidence", (f"{reason} are needed",))
    figures = (
        f"gain {gain.value:+.2%} ± {gain.error:.2%} of {gain.level:.4g} a unit over {len(units.candidate)} units "
        f"({gain.expected:+.2%} by the world, {gain.outcomes:+.2%} by outcomes alone, which weigh {gain.credit:.0%})"
    )
    z = NormalDist().inv_cdf(rule.confidence)
    if gain.value + z * gain.error < -rule.tolerance:
        return Verdict("worse", (figures, f"a loss beyond the tolerance of {rule.tolerance:.2%}"))
    if alone.verdict == "worse":
        return Verdict("worse", (figures, *alone.reasons))
    if gain.value - z * gain.error > 0:
        return Verdict("better", (figures,))
    return Verdict("not enough evidence", (figures,))


def _outcomes_alone(units: Watched, rule: WatchRule) -> Verdict:
    over = units.finished
    share = np.full(int(over.sum()), units.share)
    found = Units(units.candidate[over], units.earned[over], share)
    return canary_gate(found, CanaryRule(tolerance=rule.tolerance, confidence=rule.confidence, budget=rule.budget))
