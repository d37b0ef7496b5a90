"""Pricing with any price instead of a ladder: exact values by backward induction over a continuum of prices."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

from envs.demand import poisson_expected_min, poisson_pmf
from envs.dynamics import Array
from envs.pricing import Pricing

_COARSE = 160
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_REFINEMENTS = 45


def solve_continuum(world: Pricing) -> tuple[float, Array, Array]:
    """The optimum over continuous prices: value from the start, prices (S,) and values (S,) by period and stock."""
    value = np.zeros(world.params.stock + 1)
    prices, values = [], []
    for period in reversed(range(world.params.periods)):
        following = value

        def worth(price: Array, following: Array = following, period: int = period) -> Array:
            return _worth(world, period, price, following)

        best = _maximise(worth, _grid(world), world.params.stock)
        # With nothing to sell every price is as good: say the myopic one.
        best[0] = _myopic(world, period)
        value = worth(best)
        prices.append(best)
        values.append(value)
    return float(value[-1]), np.concatenate(prices[::-1]), np.concatenate(values[::-1])


def value_of_prices(world: Pricing, prices: Array) -> float:
    """The exact value of posting the price (S,) in each state, in the order of `exact.states`."""
    size = world.params.stock + 1
    if prices.shape != (size * world.params.periods,) or not np.isfinite(prices).all() or prices.min() < 0:
        raise ValueError(
            f"a policy over any price is one price of at least 0 for each of the {size * world.params.periods} states"
        )
    value = np.zeros(size)
    for period in reversed(range(world.params.periods)):
        value = _worth(world, period, prices[period * size : (period + 1) * size], value)
    return float(value[-1])


def best_fixed_price(world: Pricing) -> tuple[float, float]:
    """The best single price for the whole season, and its value.

    With one price the sales of a season are min(D, stock) with D Poisson of the summed rate, whatever its shape.
    """
    every = np.arange(world.params.periods)

    def revenue(price: float) -> float:
        rate = float(np.sum(np.broadcast_to(world.rate(every, price), every.shape)))
        return float(price * poisson_expected_min(rate, world.params.stock))

    if world.params.prices is not None:
        ladder = [revenue(float(price)) for price in world.params.prices]
        best = int(np.argmax(ladder))
        return float(world.params.prices[best]), ladder[best]
    grid = _grid(world)
    place = int(np.argmax([revenue(float(price)) for price in grid]))
    bracket = (float(grid[max(place - 1, 0)]), float(grid[min(place + 1, len(grid) - 1)]))
    found = minimize_scalar(lambda p: -revenue(p), bounds=bracket, method="bounded", options={"xatol": 1e-10})
    return float(found.x), revenue(float(found.x))


def _myopic(world: Pricing, period: int) -> float:
    price = np.atleast_1d(world.params.myopic_price)
    return float(price[min(period, len(price) - 1)])


def _grid(world: Pricing) -> Array:
    myopic = np.atleast_1d(world.params.myopic_price)
    return np.geomspace(0.02 * myopic.min(), 40.0 * myopic.max(), _COARSE)


def _worth(world: Pricing, period: int, price: Array, following: Array) -> Array:
    """Revenue to come for each stock (m,) when it posts `price` (m,) now: sum over sales of P(s) (p s + V(m - s))."""
    sold = np.arange(len(following))
    rate = world.rate(np.full(len(price), period), price)
    below = poisson_pmf(sold, rate[:, None])
    left = sold[:, None] - sold
    below = np.where(left > 0, below, 0.0)
    sold_out = 1.0 - below.sum(axis=1)
    ahead = (below * following[np.maximum(left, 0)]).sum(axis=1) + sold_out * following[0]
    return np.asarray(price * poisson_expected_min(rate, sold) + ahead, np.float64)


def _maximise(worth: Callable[[Array], Array], grid: Array, stock: int) -> Array:
    """The best price for each stock: a coarse grid, then golden section round its best point, all stocks at once."""
    coarse = np.stack([worth(np.full(stock + 1, price)) for price in grid])
    place = coarse.argmax(axis=0)
    low, high = grid[np.maximum(place - 1, 0)], grid[np.minimum(place + 1, len(grid) - 1)]
    for _ in range(_REFINEMENTS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        better = worth(left) >= worth(right)
        low, high = np.where(better, low, left), np.where(better, right, high)
    return np.asarray((low + high) / 2.0, np.float64)
