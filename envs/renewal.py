"""Closed forms of age and block replacement by renewal reward (Barlow and Hunter 1960; Barlow and Proschan 1965)."""

from typing import NamedTuple

import numpy as np
from scipy.integrate import quad  # type: ignore[import-untyped]
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import gamma  # type: ignore[import-untyped]

from envs.dynamics import Array
from envs.replacement import Replacement


class Interval(NamedTuple):
    """A replacement interval and its average cost per period."""

    interval: float
    cost: float


def age_costs(world: Replacement) -> Array:
    """Average cost (max_age,) of replacing at age N = 1, 2, ..., max_age, in the unit periods of the world."""
    ages = np.arange(world.params.max_age + 1.0)
    survival = np.cumprod(np.append(1.0, 1.0 - world.failure(ages[:-1])))
    planned, failure = world.params.replace_cost, world.params.failure_cost
    return np.asarray((planned * survival[1:] + failure * (1 - survival[1:])) / np.cumsum(survival)[:-1])


def block_costs(world: Replacement) -> Array:
    """Average cost (max_age,) of replacing every N periods whatever happened, failures being replaced between."""
    size = world.params.max_age
    survival = np.cumprod(np.append(1.0, 1.0 - world.failure(np.arange(float(size)))))
    first = -np.diff(survival)
    expected = np.zeros(size + 1)
    for n in range(1, size + 1):
        # Renewal equation: the first failure in period k starts the rest afresh.
        expected[n] = np.sum(first[:n] * (1.0 + expected[n - 1 :: -1][:n]))
    every = np.arange(1, size + 1)
    return np.asarray((world.params.replace_cost + world.params.failure_cost * expected[1:]) / every)


def run_to_failure_cost(world: Replacement) -> float:
    """Average cost per period of replacing at failure alone, in the unit periods of the world."""
    age, survival, total = 0, 1.0, 0.0
    while survival > 1e-18:
        total += survival
        survival *= 1.0 - float(world.failure(np.array(float(age))))
        age += 1
    return float(world.params.failure_cost) / total


def continuous_age(shape: float, scale: float, replace_cost: float, failure_cost: float) -> Interval:
    """The optimal age in continuous time, where (failure_cost - replace_cost) · hazard(T*) equals the cost.

    Raises:
        ValueError: a unit that does not wear out, or a failure that costs no more than a replacement.
    """
    if shape <= 1 or failure_cost <= replace_cost:
        raise ValueError(
            f"shape {shape:g} and costs {replace_cost:g}, {failure_cost:g}: replacing early pays only if the shape is "
            f"above 1 and a failure costs more; run to failure instead"
        )

    def cost(age: float) -> float:
        survival = np.exp(-((age / scale) ** shape))
        lived = quad(lambda t: np.exp(-((t / scale) ** shape)), 0.0, age, epsabs=1e-14, epsrel=1e-13)[0]
        return float((replace_cost * survival + failure_cost * (1 - survival)) / lived)

    def slope(age: float) -> float:
        return float((failure_cost - replace_cost) * shape / scale * (age / scale) ** (shape - 1) - cost(age))

    high = scale
    while slope(high) < 0:
        high *= 2.0
    best = float(brentq(slope, 1e-6 * scale, high, xtol=1e-14, rtol=1e-14))
    return Interval(best, cost(best))


def continuous_run_to_failure(shape: float, scale: float, failure_cost: float) -> float:
    """failure_cost / (scale · Γ(1 + 1/shape))."""
    return float(failure_cost / (scale * gamma(1.0 + 1.0 / shape)))
