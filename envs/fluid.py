"""The fluid model of pricing: demand at its mean, which bounds the optimum from above and prices well.

Gallego and van Ryzin (1994), section 3: maximise sum_t p_t λ_t(p_t) with sum_t λ_t(p_t) <= stock. With exponential
demand the price is the myopic one plus the value of an item, p_t = 1/sensitivity_t + multiplier.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq  # type: ignore[import-untyped]

from envs.dynamics import Array
from envs.pricing import Pricing


def fluid_multiplier(world: Pricing, stock: float, period: int) -> float:
    """What an item is worth in the fluid model when `stock` are left at `period`: 0 where they are plenty."""
    periods = np.arange(period, world.params.periods)

    def excess(multiplier: float) -> float:
        return float(np.sum(_rates(world, periods, multiplier)) - stock)

    if stock <= 0:
        return np.inf
    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2.0
    return float(brentq(excess, 0.0, high, xtol=1e-14, rtol=1e-14))


def fluid_prices(world: Pricing, stock: float, period: int) -> Array:
    """The fluid price path from `period` to the end of the season, over any prices."""
    periods = np.arange(period, world.params.periods)
    return _prices(world, periods, fluid_multiplier(world, stock, period))


def fluid_bound(world: Pricing) -> float:
    """Upper bound of the optimum: the value of the fluid model from the start, over any prices."""
    periods = np.arange(world.params.periods)
    multiplier = fluid_multiplier(world, world.params.stock, 0)
    return float(np.sum(_prices(world, periods, multiplier) * _rates(world, periods, multiplier)))


def _prices(world: Pricing, periods: NDArray[np.int64], multiplier: float) -> Array:
    myopic = np.broadcast_to(world.params.myopic_price, (world.params.periods,))
    return np.asarray(myopic[periods] + multiplier)


def _rates(world: Pricing, periods: NDArray[np.int64], multiplier: float) -> Array:
    return np.broadcast_to(world.rate(periods, _prices(world, periods, multiplier)), periods.shape)
