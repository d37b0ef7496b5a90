"""Payments that are made up, because no set of real ones is free: what fraud is, and when it changes, is known.

Everything about a payment is drawn given what it is (good, the first attack, the second), so that the probability of
fraud given all that can be seen follows from Bayes' rule: nobody can rank payments better than by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MERCHANTS = ("grocery", "fuel", "travel", "electronics", "fashion", "gift-card", "games")
DAY = 86_400.0
START = 1_767_225_600.0
"""Midnight of 1 January 2026 (UTC)."""


@dataclass(frozen=True)
class Kind:
    """How one kind of payment looks: shares of merchants, median amount at each, and the rest."""

    merchants: tuple[float, ...]
    medians: tuple[float, ...]
    abroad: float
    new_device: float
    account: float
    velocity: float


GOOD = Kind((0.40, 0.15, 0.05, 0.08, 0.15, 0.05, 0.12), (35, 50, 300, 150, 60, 40, 20), 0.06, 0.06, 900, 1.5)
FIRST = Kind((0.02, 0.03, 0.25, 0.50, 0.15, 0.03, 0.02), (90, 60, 600, 450, 180, 60, 25), 0.60, 0.25, 600, 2.5)
SECOND = Kind((0.04, 0.01, 0.02, 0.05, 0.08, 0.45, 0.35), (30, 40, 200, 120, 50, 45, 25), 0.10, 0.70, 150, 5.0)
SPREAD = 0.8
"""Standard deviation of the logarithm of an amount."""

RATE = 0.01
"""Share of fraud among the payments."""


@dataclass(frozen=True)
class Plan:
    """How many days there are, with how many payments each, and from which day on the second attack is made."""

    days: int = 110
    per_day: int = 1000
    change: int = 60


def made(plan: Plan, seed: int) -> Iterator[dict[str, object]]:
    """Payments in the order of their time."""
    rng = np.random.default_rng(seed)
    for day in range(plan.days):
        attack = FIRST if day < plan.change else SECOND
        fraud = rng.random(plan.per_day) < RATE
        seconds = np.sort(rng.random(plan.per_day)) * DAY
        parts = [_drawn(kind, plan.per_day, rng) for kind in (GOOD, attack)]
        merchant, amount, abroad, new, account, velocity = (
            np.where(fraud, bad, good) for good, bad in zip(*parts, strict=True)
        )
        seen = (merchant.astype(int), amount, abroad, new, account, velocity)
        ratio = np.exp(_log_density(attack, *seen) - _log_density(GOOD, *seen))
        chance = RATE * ratio / (RATE * ratio + 1.0 - RATE)
        for i in range(plan.per_day):
            yield {
                "at": START + day * DAY + float(seconds[i]),
                "amount": round(float(amount[i]), 2),
                "merchant": MERCHANTS[int(merchant[i])],
                "abroad": bool(abroad[i]),
                "new_device": bool(new[i]),
                "account": int(account[i]),
                "velocity": int(velocity[i]),
                "fraud": bool(fraud[i]),
                "chance": float(chance[i]),
            }


def _drawn(kind: Kind, n: int, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
    merchant: NDArray[Any] = rng.choice(len(MERCHANTS), n, p=kind.merchants)
    amount = np.maximum(np.array(kind.medians)[merchant] * np.exp(SPREAD * rng.standard_normal(n)), 0.5)
    return (
        merchant,
        amount,
        rng.random(n) < kind.abroad,
        rng.random(n) < kind.new_device,
        np.floor(rng.exponential(kind.account, n)),
        rng.poisson(kind.velocity, n),
    )


def _log_density(
    kind: Kind, merchant: NDArray[np.int64], amount: Array, abroad: Array, new: Array, account: Array, velocity: Array
) -> Array:
    """Logarithm of the density of what is seen, up to a term that all kinds share."""
    middle = np.log(np.array(kind.medians, float))[merchant]
    found = np.log(np.array(kind.merchants))[merchant] - (np.log(amount) - middle) ** 2 / (2 * SPREAD**2)
    for share, yes in ((kind.abroad, abroad), (kind.new_device, new)):
        found = found + np.where(yes.astype(bool), np.log(share), np.log1p(-share))
    return np.asarray(
        found - account / kind.account - np.log(kind.account) + velocity * np.log(kind.velocity) - kind.velocity
    )
