"""What a loan earns: the stated economics, the terms they lead to, and how a decision is explained to the applicant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from online.events import Scalar
from recipes.measures import Array

TERMS = ("approve", "price", "refer")
"""At the standard rate, at a higher one, or to a person: the machine refuses nobody."""

MOST_REASONS = 3


@dataclass(frozen=True)
class Economics:
    """Made up, and yours to replace; all but the review are shares.

    Args:
        margin, extra: per year over the cost of money at the standard rate, and what the higher one adds.
        loss: of the amount, where it is not repaid.
        good_take, bad_take: of those who will repay, or not, how many take the higher rate.
        review: what a person's look costs, in the unit of the amounts.
        found, wronged: of those who will not repay, and of those who will, how many that person refuses.
    """

    margin: float = 0.1
    extra: float = 0.04
    loss: float = 0.5
    good_take: float = 0.65
    bad_take: float = 0.8
    review: float = 60.0
    found: float = 0.6
    wronged: float = 0.15

    def profits(self, amounts: Array, months: Array, bad: bool) -> Array:
        """What each of `TERMS` is expected to earn (n, 3), for loans of which it is known how they end.

        A loan is repaid evenly: over its time half of the amount is lent.

        >>> Economics().profits(np.array([1000.0]), np.array([24.0]), bad=False).round(1).tolist()
        [[100.0, 91.0, 25.0]]
        """
        years = amounts * months / 24.0
        standard = -self.loss * amounts if bad else self.margin * years
        dear = -self.loss * amounts if bad else (self.margin + self.extra) * years
        taken = self.bad_take if bad else self.good_take
        passed = 1.0 - (self.found if bad else self.wronged)
        return np.stack([standard, taken * dear, passed * standard - self.review], axis=1)

    def expected(self, chances: Array, amounts: Array, months: Array) -> Array:
        """What each of `TERMS` is expected to earn (n, 3) at these chances of default."""
        p = chances[:, None]
        return p * self.profits(amounts, months, bad=True) + (1.0 - p) * self.profits(amounts, months, bad=False)


WORDS: Mapping[str, tuple[str, str]] = {
    "seniority": ("few years in the present job", "many years in the present job"),
    "months": ("a short time to repay", "a long time to repay"),
    "amount": ("a small amount", "a large amount"),
    "share": ("a large down payment", "a small down payment"),
    "expenses": ("low expenses", "high expenses"),
    "income": ("a low income", "a high income"),
    "burden": ("a small instalment for the income", "a large instalment for the income"),
    "assets": ("few assets", "many assets"),
    "debt": ("little other debt", "much other debt"),
}
"""A feature below and above what is typical, in plain words."""

NAMED: Mapping[tuple[str, Scalar], str] = {
    ("records", True): "late payments on record",
    ("records", False): "no late payments on record",
    ("home", "owner"): "owning the home",
    ("home", "rent"): "renting the home",
    ("home", "parents"): "living with parents",
    ("home", "priv"): "a home of another kind",
    ("job", "fixed"): "a permanent job",
    ("job", "freelance"): "working freelance",
    ("job", "partime"): "working part-time",
}


def in_words(name: str, value: Scalar, usual: Scalar) -> str:
    """One feature of an application, in plain words."""
    if value is None:
        return f"no word of {name}"
    if name in WORDS and isinstance(value, int | float) and isinstance(usual, int | float):
        return WORDS[name][value > usual]
    return NAMED.get((name, value), f"{name}: {value}")


def reasons(added: Mapping[str, float], features: Mapping[str, Scalar], usual: Mapping[str, Scalar]) -> list[str]:
    """The features that raise the risk most, in plain words; `added` has the largest first."""
    names = [name for name, value in added.items() if value > 0.0][:MOST_REASONS]
    return [in_words(name, features.get(name), usual[name]) for name in names]


def letter(terms: str, why: Sequence[str]) -> str:
    """The draft of what the applicant is told where the standard rate is not offered at once."""
    if terms == "approve":
        return "Your application is approved at the standard rate."
    first = {
        "price": "We offer the loan at a rate above our standard one.",
        "refer": "We could not approve your application automatically; a person will decide on it.",
    }[terms]
    told = "; ".join(why) or "none stands out"
    return (
        f"{first} What weighed most: {told}. You may ask for the data used, have them corrected, and add what we "
        "do not know. Neither age nor marital status was used."
    )
