"""Network pricing solved: exact values, the fluid model, and decomposition into single legs.

Products are asked for one at a time, so the optimum of a slot falls apart into one price per product: the best answer
to the value V(x) - V(x - usage) of what the product takes. Talluri and van Ryzin (2004), chapter 3.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

from envs.dynamics import Array
from envs.pricing_network import PricingNetwork
from envs.tabulate import StateSpaceTooLarge

MAX_VALUES = 40_000_000
"""How many values (units left × slots) are computed at most."""

Pricer = Callable[[Array, int], Array]
"""Units left (m, L) and slot → prices (m, J)."""


@dataclass(frozen=True, eq=False)
class Fluid:
    """The fluid model: prices (J,), the value of a unit of each leg (L,), and its value, an upper bound."""

    prices: Array
    duals: Array
    bound: float


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Single-leg values (T + 1, L, units) and the upper bound that they prove."""

    values: tuple[Array, ...]
    bound: float


def optimum(world: PricingNetwork) -> tuple[float, Array, Array]:
    """Value from the start, best prices (S, J) or indices into the ladder, and values (S,), slot after slot.

    Raises:
        StateSpaceTooLarge: too many units.
    """
    left = _left(world)
    value = np.zeros(len(left))
    prices, values = [], []
    for _ in range(world.params.periods):
        taken, fits = _following(world, left)
        worth = np.where(fits, value[:, None] - value[taken], np.inf)
        price, gain = _best_answer(world, worth)
        value = value + gain.sum(axis=1)
        prices.append(price)
        values.append(value)
    return float(value[-1]), np.concatenate(prices[::-1]), np.concatenate(values[::-1])


def value_of(world: PricingNetwork, pricer: Pricer) -> float:
    """The exact expected revenue of a rule.

    Raises:
        StateSpaceTooLarge: too many units.
    """
    left = _left(world)
    taken, fits = _following(world, left)
    value = np.zeros(len(left))
    for period in reversed(range(world.params.periods)):
        price = pricer(left, period)
        chance = np.where(fits, world.asked(price), 0.0)
        value = value + (chance * (price + value[taken] - value[:, None])).sum(axis=1)
    return float(value[-1])


def policy_value(world: PricingNetwork, probabilities: Array) -> float:
    """The exact value of probabilities (S, J · a) over the ladder, drawn product by product.

    Raises:
        ValueError: a world without a ladder.
    """
    if world.params.prices is None:
        raise ValueError("a table of probabilities needs a ladder of prices: use `value_of` with a rule for any price")
    left = _left(world)
    taken, fits = _following(world, left)
    ladder, products = world.params.prices, world.params.products
    chance = world.asked(ladder[:, None]).T
    value = np.zeros(len(left))
    for table in reversed(probabilities.reshape(world.params.periods, len(left), products, len(ladder))):
        asked = np.einsum("mja,ja->mj", table, chance)
        revenue = np.einsum("mja,ja->mj", table, chance * ladder)
        gain = revenue + asked * (value[taken] - value[:, None])
        value = value + np.where(fits, gain, 0.0).sum(axis=1)
    return float(value[-1])


def _left(world: PricingNetwork) -> Array:
    size = int(np.prod(world.params.capacity + 1)) * world.params.periods
    if size > MAX_VALUES:
        raise StateSpaceTooLarge(
            f"pricing-network has {size:,} states over {world.params.periods} slots, at most {MAX_VALUES:,} are "
            f"allowed: use `exact.bound`, the rule bid-price, or simulation"
        )
    return world.grid()[:, :-1]


def _following(world: PricingNetwork, left: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Index (m, J) of what is left after a sale of each product, and whether it can be made."""
    fits = world.available(left)
    after = np.maximum(left[:, None, :] - world.params.usage.T, 0.0)
    state = np.concatenate([after, np.zeros((*after.shape[:2], 1))], axis=2)
    return world.place(state.reshape(-1, state.shape[2])).reshape(fits.shape), fits


def _best_answer(world: PricingNetwork, worth: Array) -> tuple[Array, Array]:
    """Best price (m, J), or index, and gain (m, J) over not selling, when a sale gives up `worth` (m, J)."""
    a, alpha = np.asarray(world.params.volume), np.asarray(world.params.sensitivity)
    if world.params.prices is None:
        # d/dp [exp(-αp) (p - w)] = 0 at p = 1/α + w.
        return 1.0 / alpha + worth, a * np.exp(-1.0 - alpha * worth) / alpha
    gain, best = np.full(worth.shape, -np.inf), np.zeros(worth.shape)
    for index, price in enumerate(world.params.prices):
        this = a * np.exp(-alpha * price) * (price - worth)
        better = this > gain
        gain, best = np.where(better, this, gain), np.where(better, index, best)
    return best, np.where(np.isinf(worth), 0.0, gain)


def fluid(world: PricingNetwork) -> Fluid:
    """The fluid model over any prices, by its dual: minimise Σ duals · capacity + T Σ_j a_j exp(-1 - α_j w_j) / α_j."""
    a, alpha = np.asarray(world.params.volume, np.float64), np.asarray(world.params.sensitivity, np.float64)
    usage, capacity = world.params.usage, world.params.capacity.astype(np.float64)

    def dual(duals: Array) -> tuple[float, Array]:
        rate = a * np.exp(-1.0 - alpha * (duals @ usage)) * world.params.periods
        return float(duals @ capacity + (rate / alpha).sum()), capacity - usage @ rate

    start = np.full(len(capacity), 0.1)
    options = {"ftol": 1e-15, "gtol": 1e-11, "maxiter": 2_000}
    found = minimize(dual, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(capacity), options=options)
    duals = np.asarray(found.x, np.float64)
    return Fluid(1.0 / alpha + duals @ usage, duals, float(found.fun))


def decomposition(world: PricingNetwork) -> Decomposition:
    """Single-leg dynamic programs, each with the other legs paid for at their fluid duals.

    Each leg's value plus the other legs' capacities at their duals bounds the optimum; the least of these is given.
    """
    duals, capacity = fluid(world).duals, world.params.capacity
    values, bounds = [], []
    for leg in range(len(capacity)):
        values.append(_single_leg(world, leg, duals))
        others = duals @ capacity - duals[leg] * capacity[leg]
        bounds.append(float(values[-1][0, -1] + others))
    return Decomposition(tuple(values), min(bounds))


def _single_leg(world: PricingNetwork, leg: int, duals: Array) -> Array:
    """Values (T + 1, units + 1) of one leg when all others are paid for at their duals."""
    a, alpha = np.asarray(world.params.volume), np.asarray(world.params.sensitivity)
    usage = world.params.usage
    elsewhere = duals @ usage - duals[leg] * usage[leg]
    units = np.arange(world.params.capacity[leg] + 1)
    following = units[:, None] - usage[leg].astype(int)
    values = np.zeros((world.params.periods + 1, len(units)))
    for period in reversed(range(world.params.periods)):
        ahead = values[period + 1]
        worth = np.where(following >= 0, ahead[:, None] - ahead[np.maximum(following, 0)], np.inf) + elsewhere
        values[period] = ahead + (a * np.exp(-1.0 - alpha * worth) / alpha).sum(axis=1)
    return values


def static_prices(world: PricingNetwork) -> Pricer:
    """The fluid prices from the start to the end."""
    prices = fluid(world).prices
    return lambda left, _: np.broadcast_to(prices, (len(left), len(prices)))


def bid_prices(world: PricingNetwork) -> Pricer:
    """Each product at its best answer to the sum of its legs' values in the decomposition."""
    values = decomposition(world).values
    alpha, usage = np.asarray(world.params.sensitivity), world.params.usage

    def pricer(left: Array, period: int) -> Array:
        units = left.astype(np.int64)
        worth = np.zeros((len(left), usage.shape[1]))
        for leg, table in enumerate(values):
            ahead = table[min(period + 1, len(table) - 1)]
            after = np.maximum(units[:, leg, None] - usage[leg].astype(int), 0)
            worth += ahead[units[:, leg]][:, None] - ahead[after]
        return np.asarray(1.0 / alpha + worth, np.float64)

    return pricer
