"""Champion and challengers on one stream: paired tests of their errors, valid at a sample size announced before."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scipy import stats  # type: ignore[import-untyped]

from online.events import Finding

BLOCKS = 20
"""Into how many blocks the labels are cut; the test is on their means.

Errors of models that learn depend on one another. With a fixed number of blocks the t-test is right for long streams
all the same, since each block holds most of what its labels have in common (Glynn and Whitt 1991).
"""


DEVIATION = 0.3
"""The standard deviation of the difference of two errors on one label, for classifiers that disagree on 9 in 100."""

POWER = 0.9

FINDINGS = 100

SWITCHES = ("operator", "better")
"""Who changes the champion: people alone, or also the rule that takes the best of those found better."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was announced before the comparison: it is judged once, after so many labels, at this level.

    ``level`` is the probability that any of the challengers is called better although none is (one-sided, divided among
    them after Bonferroni). ``switch`` says who acts on it.
    """

    labels: int = 2_640
    level: float = 0.025
    switch: str = SWITCHES[0]

    def __post_init__(self) -> None:
        if self.labels < BLOCKS or self.labels % BLOCKS:
            raise ValueError(f"labels is {self.labels!r}; allowed is a multiple of {BLOCKS}, such as {announced()}")
        if not 0.0 < self.level < 0.5:
            raise ValueError(f"level is {self.level!r}; allowed is a number between 0 and 0.5")

    def announcement(self, rivals: int) -> "Announcement":
        """What it promises where so many challengers are compared."""
        level = self.level / max(1, rivals)
        return Announcement(rivals, level, _errors(level, POWER) * DEVIATION / math.sqrt(self.labels))


def announced(
    difference: float = 0.02, deviation: float = DEVIATION, level: float = 0.025, power: float = POWER, rivals: int = 1
) -> int:
    """The labels at which a challenger better by ``difference`` is recognised with probability ``power``.

    Of several ``rivals`` each is tested at its share of the level, after Bonferroni, which takes more labels.
    ``deviation`` is the standard deviation of the difference of two errors on one label: for classifiers that disagree
    in a share q of the cases, about √q.

    >>> announced(0.02, 0.3)
    2640
    """
    if difference <= 0.0 or deviation <= 0.0:
        raise ValueError(f"difference {difference!r}, deviation {deviation!r}; allowed are positive numbers")
    errors = _errors(level / rivals, power)
    return math.ceil((errors * deviation / difference) ** 2 / BLOCKS) * BLOCKS


def _errors(level: float, power: float) -> float:
    """How many standard errors a difference must be to be found at this level with this probability."""
    return float(stats.t.ppf(1.0 - level, BLOCKS - 1) + stats.t.ppf(power, BLOCKS - 1))


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a comparison of so many rivals promises.

    Attributes:
        rivals: The challengers that are compared with the champion.
        level: The probability that a certain one of them is called better although it is not: their common level
            divided among them, after Bonferroni.
        difference: The difference of mean errors that is recognised in nine of ten comparisons, between classifiers
            that disagree on 9 cases in 100.
    """

    rivals: int
    level: float
    difference: float


@dataclass(slots=True)
class Comparison:
    """The champion's errors against each challenger's, label by label.

    Every comparison is judged once, when its announced labels are in; then the next begins. ``findings`` keeps the last
    `FINDINGS`.
    """

    plan: Plan
    labels: int = 0
    findings: list[Finding] = field(default_factory=list)
    _open: dict[str, float] = field(default_factory=dict)
    _blocks: dict[str, list[float]] = field(default_factory=dict)

    def update(self, champion: float, challengers: Mapping[str, float]) -> list[Finding]:
        """The errors of all on one label; what was found where this was the last label announced.

        Raises:
            ValueError: Other challengers than those the comparison began with, or an error that is not finite.
        """
        if self.labels and challengers.keys() != self._open.keys():
            raise ValueError(f"the errors are of {sorted(challengers)}; allowed are those of {sorted(self._open)}")
        if not all(map(math.isfinite, (champion, *challengers.values()))):
            raise ValueError(f"errors of {champion!r} and {dict(challengers)!r}; allowed are finite ones")
        for name in sorted(challengers):
            self._open[name] = self._open.get(name, 0.0) + champion - challengers[name]
        self.labels += 1
        size = self.plan.labels // BLOCKS
        if self.labels % size == 0:
            for name, total in self._open.items():
                self._blocks.setdefault(name, []).append(total / size)
                self._open[name] = 0.0
        if self.labels < self.plan.labels:
            return []
        level = self.plan.announcement(len(self._blocks)).level
        found = [judged(name, blocks, self.plan.labels, level) for name, blocks in self._blocks.items()]
        self.findings = [*self.findings, *found][-FINDINGS:]
        self.restart()
        return found

    def restart(self) -> None:
        """Begin again, as after a change of the champion: labels before it prove nothing."""
        self.labels = 0
        self._open.clear()
        self._blocks.clear()


def judged(challenger: str, blocks: list[float], labels: int, level: float) -> Finding:
    """The t-test on block means of paired differences: Diebold and Mariano (1995), with blocks for the dependence."""
    count = len(blocks)
    mean, deviation = math.fsum(blocks) / count, standard_error(blocks)
    margin = deviation * float(stats.t.ppf(1.0 - level, count - 1))
    p = float(stats.t.sf(mean / deviation, count - 1)) if deviation > 0.0 else float(mean <= 0.0)
    low, high = mean - margin, mean + margin
    verdict = "better" if low > 0.0 else "worse" if high < 0.0 else "not told apart"
    return Finding(challenger, verdict, mean, low, high, p, labels)


def block_means(values: Iterable[float]) -> list[float]:
    """The means of `BLOCKS` blocks of equal length, in order; the first values that are too many for that are left out.

    >>> block_means(range(41))[:2]
    [1.5, 3.5]
    """
    given = list(values)
    size = len(given) // BLOCKS
    first = len(given) - size * BLOCKS
    return [math.fsum(given[begin : begin + size]) / size for begin in range(first, len(given), size)]


def standard_error(blocks: Sequence[float]) -> float:
    """The standard error of the mean of block means."""
    count = len(blocks)
    mean = math.fsum(blocks) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in blocks) / (count - 1) / count)
