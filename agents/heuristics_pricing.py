"""Pricing rules for one product: a fixed price, the myopic price, and fluid prices, fixed in advance or re-solved."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from agents.policy import Array
from envs.continuum import best_fixed_price
from envs.dynamics import World
from envs.fluid import fluid_prices
from envs.pricing import Pricing

Rule = Callable[[Array], NDArray[np.int64]]


def nearest(ladder: Array, price: Array) -> NDArray[np.int64]:
    """Index of the level of an ascending ladder nearest to each price, the lower of two."""
    middles = (ladder[1:] + ladder[:-1]) / 2
    return np.searchsorted(middles, price)


def _ladder(world: World) -> tuple[Pricing, Array]:
    if not isinstance(world, Pricing) or world.params.prices is None:
        raise ValueError(f"a pricing rule needs a pricing world with a ladder of prices, not {world.id}")
    return world, world.params.prices


def _best_fixed(world: World) -> Rule:
    known, ladder = _ladder(world)
    index = int(nearest(ladder, np.array(best_fixed_price(known)[0])))
    return lambda seen: np.full(len(seen), index)


def _myopic(world: World) -> Rule:
    known, ladder = _ladder(world)
    prices = np.broadcast_to(known.params.myopic_price, (known.params.periods,))
    index = nearest(ladder, prices)
    return lambda seen: index[np.minimum(seen[:, 1].astype(int), len(index) - 1)]


def _fluid(world: World) -> Rule:
    known, ladder = _ladder(world)
    index = nearest(ladder, fluid_prices(known, known.params.stock, 0))
    return lambda seen: index[np.minimum(seen[:, 1].astype(int), len(index) - 1)]


def _resolving(world: World) -> Rule:
    known, ladder = _ladder(world)
    states = np.concatenate([known.grid(period) for period in range(known.params.periods)])
    prices = [fluid_prices(known, int(max(stock, 1)), int(period))[0] for stock, period in states]
    index = nearest(ladder, np.array(prices)).reshape(known.params.periods, known.params.stock + 1)
    return lambda seen: index[np.minimum(seen[:, 1].astype(int), len(index) - 1), seen[:, 0].astype(int)]


PRICING_RULES: Mapping[str, Callable[[World], Rule]] = {
    "best-fixed-price": _best_fixed,
    "myopic": _myopic,
    "fluid": _fluid,
    "ce-resolve": _resolving,
}
