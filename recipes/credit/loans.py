"""Applications in their order, how their loans ended, and the groups that the applicants belong to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recipes.credit.lending import Economics
from recipes.measures import Array, Flags, by_group
from recipes.rows import Case

PARTS, SKIPPED = 10, 2
"""Parts of the stream, and how many of them teach before anything is measured."""

PROTECTED = ("Age", "Marital")
BANDS = (30, 45, 60)
FEWEST = 50
"""People in a group for a rate that is compared."""

INFLATED = 1.3
ECONOMICS = Economics()

Actions = NDArray[np.int64]


@dataclass(frozen=True)
class Loans:
    """Applications in the order they came, and how their loans ended."""

    cases: Sequence[Case]
    bad: Flags
    amounts: Array
    months: Array

    @property
    def tested(self) -> slice:
        """Those that figures are about."""
        return slice(len(self.cases) * SKIPPED // PARTS, None)

    @property
    def parts(self) -> list[NDArray[np.int64]]:
        """Equal parts of the stream, less those that only teach."""
        return np.array_split(np.arange(len(self.cases)), PARTS)[SKIPPED:]

    def profit(self, actions: Actions) -> Array:
        """What each of those tested earns under these terms, its end being known."""
        kept = self.tested
        amounts, months, bad = self.amounts[kept], self.months[kept], self.bad[kept]
        known = [ECONOMICS.profits(amounts, months, bad=end) for end in (False, True)]
        rows = np.where(bad[:, None], known[1], known[0])
        return np.asarray(rows[np.arange(len(rows)), actions[kept]])


def rule(loans: Loans) -> Array:
    """What people would write by hand: late payments, no permanent job, a rented home, few years in the job."""
    signs = [
        (2.0, [case.features["records"] is True for case in loans.cases]),
        (1.0, [case.features["job"] != "fixed" for case in loans.cases]),
        (1.0, [case.features["home"] != "owner" for case in loans.cases]),
        (1.0, [case.beside["Seniority"] < 3 for case in loans.cases]),
    ]
    return np.asarray(sum(points * np.array(sign, float) for points, sign in signs))


def groups(loans: Loans) -> dict[str, list[str]]:
    """The group of each application by each protected column that the rows have."""
    return {
        name: [band(case.beside.get(name)) for case in loans.cases]
        for name in PROTECTED
        if all(name in case.beside for case in loans.cases)
    }


def band(cell: object) -> str:
    """Ages in bands; other cells as they are."""
    if not isinstance(cell, int | float):
        return str(cell)
    low = max((age for age in BANDS if cell >= age), default=None)
    return f"under {BANDS[0]}" if low is None else f"from {low}"


def gap(names: Sequence[str], approved: Flags, repaid: Flags) -> float:
    """The largest difference in approval of those who repay, between groups large enough; NaN if there are none."""
    rates = [group.caught for group in by_group(names, approved, repaid) if group.n >= FEWEST]
    return max(rates, default=float("nan")) - min(rates, default=float("nan"))


def let_in(loans: Loans) -> Loans:
    """Applications with the protected columns among their features."""
    cases = [
        replace(case, features={**case.features, **{name: case.beside[name] for name in PROTECTED}})
        for case in loans.cases
    ]
    return replace(loans, cases=cases)


def overstated(case: Case) -> Case:
    """The same person, who says more of the income."""
    income, burden = (case.features[name] for name in ("income", "burden"))
    if not isinstance(income, float) or not isinstance(burden, float):
        return case
    return replace(case, features={**case.features, "income": income + math.log(INFLATED), "burden": burden / INFLATED})
