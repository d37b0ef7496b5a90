"""Conversations with people who may leave, and how likely each helps: made up, because no data say so."""

import math
from collections.abc import Mapping

from online.events import Scalar

ARMS = ("workload", "career", "pay", "manager")

_WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "workload": {"constant": -1.6, "overtime": 2.0},
    "career": {"constant": -1.3, "waiting": 2.5},
    "pay": {"constant": -0.6, "income": -2.5},
    "manager": {"constant": -1.2, "at_odds": 1.6},
}
"""Log-odds that a conversation helps, by what is known of the person."""


def situation(features: Mapping[str, Scalar]) -> dict[str, float]:
    """What a choice among conversations is told of a person: numbers from 0 to about 1.

    >>> situation({"OverTime": True, "YearsSinceLastPromotion": 5, "MonthlyIncome": 4000})
    {'overtime': 1.0, 'waiting': 0.5, 'income': 0.4, 'at_odds': 0.0}
    """
    years, income = (features.get(name) for name in ("YearsSinceLastPromotion", "MonthlyIncome"))
    return {
        "overtime": float(features.get("OverTime") is True),
        "waiting": min(float(years or 0), 10.0) / 10.0,
        "income": min(float(income or 0), 10_000.0) / 10_000.0,
        "at_odds": float(features.get("RelationshipSatisfaction") == "Low"),
    }


def helps(person: Mapping[str, float]) -> dict[str, float]:
    """The chance that each conversation helps.

    >>> {name: round(chance, 2) for name, chance in helps(situation({"OverTime": True})).items()}
    {'workload': 0.6, 'career': 0.21, 'pay': 0.35, 'manager': 0.23}
    """
    known = {**person, "constant": 1.0}
    return {
        arm: 1.0 / (1.0 + math.exp(-sum(weight * known[name] for name, weight in weights.items())))
        for arm, weights in _WEIGHTS.items()
    }
