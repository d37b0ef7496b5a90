"""Pricing rules: a fixed price, the myopic price, fluid prices fixed in advance or re-solved, and bid prices."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from agents.policy import Array
from envs import exact, network
from envs.continuum import best_fixed_price
from envs.dynamics import World
from envs.fluid import fluid_prices
from envs.pricing import Pricing
from envs.pricing_network import PricingNetwork
from envs.pricing_replenished import PricingReplenished
from envs.pricing_rival import PricingRival

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


def _always(world: World) -> Rule:
    """The action that is best when it is always taken, by its exact value."""
    size = len(exact.states(world))
    values = [exact.policy_value(world, np.broadcast_to(row, (size, len(row)))) for row in np.eye(world.actions.n)]
    index = int(np.argmax(values))
    return lambda seen: np.full(len(seen), index)


def _ignoring_stock(world: World) -> Rule:
    """The price that earns most this period if nothing runs out, and nobody reacts."""
    if isinstance(world, PricingReplenished):
        rates = world.rate(world.params.prices)[None]
        return lambda seen: np.full(len(seen), int(np.argmax(world.params.prices * rates[0])))
    if not isinstance(world, PricingRival):
        raise ValueError(f"a pricing rule needs a pricing world with a ladder of prices, not {world.id}")
    prices = world.params.prices
    return lambda seen: np.argmax(prices * world.rate(prices, seen[:, 2:3]), axis=1)


def _on_ladder(world: World, rule: Callable[[PricingNetwork], network.Pricer]) -> Rule:
    if not isinstance(world, PricingNetwork) or world.params.prices is None:
        raise ValueError(f"a network rule needs a pricing-network world with a ladder of prices, not {world.id}")
    pricer, ladder = rule(world), world.params.prices

    def indices(seen: Array) -> NDArray[np.int64]:
        found = np.empty((len(seen), world.params.products), np.int64)
        for period in np.unique(seen[:, -1]).astype(int):
            rows = seen[:, -1] == period
            found[rows] = nearest(ladder, pricer(seen[rows, :-1], int(period)))
        return found

    return indices


REPLENISHED_RULES: Mapping[str, Callable[[World], Rule]] = {"best-fixed-price": _always, "myopic": _ignoring_stock}

RIVAL_RULES: Mapping[str, Callable[[World], Rule]] = REPLENISHED_RULES

NETWORK_RULES: Mapping[str, Callable[[World], Rule]] = {
    "fluid": lambda world: _on_ladder(world, network.static_prices),
    "bid-price": lambda world: _on_ladder(world, network.bid_prices),
}
