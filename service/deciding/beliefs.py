"""What is believed of a point's world, as values: parameters with intervals, and how well it explains the rewards."""

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from online.events import Drifted

GROUPS = 6
"""Into so many groups of neighbouring actions are outcomes put when the world is held against them."""

MISFIT = 0.03
"""Share of the rewards by which they must differ from what is expected, group by group, until the world is doubted."""

UNLIKELY = 5.0
"""Standard errors, or their like, beyond which a figure is no chance."""

_NOTHING: tuple[float, ...] = (0.0,) * GROUPS


class Belief(Struct, frozen=True):
    """What is believed of the parameters, of one key or of all together.

    Attributes:
        values, lower, upper: Posterior medians and the ends of the 95 % intervals, by parameter, in its unit.
        outside: Chance that a parameter lies outside the point's ranges, by parameter.
        decisions: Outcomes that told something.
        absurd: Share of the recent outcomes that no parameters explain.
        dispersion: Variance of demand over its mean.
    """

    values: dict[str, float]
    lower: dict[str, float]
    upper: dict[str, float]
    outside: dict[str, float] = {}
    decisions: int = 0
    absurd: float = 0.0
    dispersion: float = 1.0


class Fit(Struct, frozen=True):
    """Rewards beside what the world expects of them under its estimated parameters: fading sums by group of actions.

    Attributes:
        weight: Outcomes that count.
        residual, squares: Sums of reward less expectation, and of its square.
        expected: Sums of the expectation's absolute value.
    """

    weight: tuple[float, ...] = _NOTHING
    residual: tuple[float, ...] = _NOTHING
    squares: tuple[float, ...] = _NOTHING
    expected: tuple[float, ...] = _NOTHING

    @property
    def shortfall(self) -> tuple[float, float]:
        """By how much rewards lie below what is expected, as a share of it, and in standard errors."""
        scale = sum(self.expected)
        if scale == 0:
            return 0.0, 0.0
        spread = sum(self.squares) ** 0.5
        return -sum(self.residual) / scale, -sum(self.residual) / spread if spread > 0 else 0.0

    @property
    def misfit(self) -> tuple[float, float]:
        """How far the groups lie from what is expected of each, as a share of it, and in standard normal terms.

        The second figure is that of a chi-squared sum (Wilson and Hilferty 1931): above 5 is no chance.
        """
        told = [i for i in range(GROUPS) if self.weight[i] >= 30 and self.squares[i] > 0]
        scale = sum(self.expected)
        if not told or scale == 0:
            return 0.0, 0.0
        k = len(told)
        statistic = sum(self.residual[i] ** 2 / self.squares[i] for i in told)
        normal = ((statistic / k) ** (1 / 3) - (1 - 2 / (9 * k))) / (2 / (9 * k)) ** 0.5
        return sum(abs(self.residual[i]) for i in told) / scale, normal

    @property
    def doubtful(self) -> bool:
        """Whether the rewards of the groups lie elsewhere than expected, by much and by no chance."""
        share, normal = self.misfit
        return share > MISFIT and normal > UNLIKELY


class Odds(Struct, frozen=True):
    """What groups of outcomes along one covariate ask for, each by itself: the same, where the world is right.

    Attributes:
        covariate: `action`, or an entry of the context.
        statistic: How unlikely the differences are by chance, in standard normal terms.
        values: Parameter → what each group asks for, in the order of the groups.
        decisions: Outcomes that count.
    """

    covariate: str
    statistic: float
    values: dict[str, tuple[float, ...]]
    decisions: float

    def __str__(self) -> str:
        asked = "; ".join(f"{name} {', '.join(f'{v:.3g}' for v in values)}" for name, values in self.values.items())
        return f"by {self.covariate}, outcomes ask for different parameters ({asked}; evidence {self.statistic:.0f})"


def is_doubted(fit: Fit, odds: Sequence[Odds]) -> bool:
    """Whether the world explains the outcomes under no parameters."""
    return fit.doubtful or bool(odds and odds[0].statistic > UNLIKELY)


class Estimates(Struct, frozen=True):
    """Everything that readers of a snapshot need of the estimator.

    Attributes:
        odds: Along which covariates outcomes were compared, the strongest evidence first.
        own: Key → belief, where each key learns alone.
        alarms: The last alarms, the oldest first.
        heard: Outcomes learned from.
    """

    pooled: Belief | None = None
    own: dict[str, Belief] = {}
    alarms: list[Drifted] = []
    fit: Fit = Fit()
    heard: int = 0
    odds: list[Odds] = []

    @property
    def doubt(self) -> str:
        """Why the world explains the outcomes under no parameters; empty where it may."""
        if not is_doubted(self.fit, self.odds):
            return ""
        if self.odds and self.odds[0].statistic > UNLIKELY:
            return str(self.odds[0])
        share, _ = self.fit.misfit
        return f"rewards differ from what the world expects by {share:.0%} whatever its parameters"

    def of(self, key: str | None) -> Belief | None:
        """What is believed of a key: its own belief, else the pooled one."""
        return self.own.get(key, self.pooled) if key is not None else self.pooled


NO_ESTIMATES = Estimates()
"""Where nothing was learned."""

_PAST = 400

Past: TypeAlias = tuple[tuple[float, Belief], ...]


def with_belief(past: Past, now: float, belief: Belief | None) -> Past:
    """What was believed, and now this too; of a long past every second moment is dropped.

    >>> belief = Belief({"k": 1.0}, {"k": 0.5}, {"k": 2.0})
    >>> past = ()
    >>> for at in range(1000):
    ...     past = with_belief(past, float(at), belief)
    >>> len(past) <= 400, past[0][0], past[-1][0]
    (True, 0.0, 999.0)
    """
    if belief is None:
        return past
    if len(past) >= _PAST:
        past = past[::2]
    return (*past, (now, belief))
