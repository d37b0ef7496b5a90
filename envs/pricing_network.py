"""Dynamic pricing of products that share resources (network revenue management)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.dynamics import (
    Action,
    ActionSet,
    Array,
    Branches,
    Chance,
    Field,
    Fields,
    Mask,
    ParamsError,
    State,
    every,
    rescaled,
)


@dataclass(frozen=True, eq=False)
class NetworkParams:
    """Parameters of `PricingNetwork`.

    Args:
        usage: (L, J) units of leg l that product j takes.
        capacity: (L,) units of each leg.
        periods: slots of the season.
        volume: chance (J,) that product j is asked for in a slot at price 0, in sum at most 1; or (n, J) by row.
        sensitivity: decay (J,) of that chance with price, 1/money; or (n, J) by row.
        prices: ladder (a,), ascending, shared by all products, or `None` for any price (for bounds and rules).
    """

    usage: Array
    capacity: NDArray[np.int64]
    periods: int
    volume: Any
    sensitivity: Any
    prices: Array | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.usage) != 2 or np.shape(self.usage)[0] != len(self.capacity):
            raise ParamsError(
                f"usage has shape {np.shape(self.usage)} for {len(self.capacity)} legs: give one row for each leg and "
                f"one column for each product"
            )
        for name in ("volume", "sensitivity"):
            if np.shape(getattr(self, name))[-1:] != (self.products,):
                raise ParamsError(f"{name} must have one number for each of the {self.products} products")
        if np.sum(self.volume, axis=-1).max() > 1.0 + 1e-12:
            most = float(np.sum(self.volume, axis=-1).max())
            raise ParamsError(f"volume sums to {most:g}: at most one customer comes in a slot, so at most 1 is allowed")

    @property
    def products(self) -> int:
        """Number of products."""
        return int(np.shape(self.usage)[1])


class PricingNetwork:
    """Selling products that use several legs, one price for each product and slot.

    Description:
        See what is left of each leg, and the slot. Post a price p_j for each product; at most one customer comes and
        asks for product j with probability volume_j · exp(-sensitivity_j · p_j). The sale is made if every leg still
        has what the product uses.

    Action Space:
        `MultiDiscrete([a] * J)`: an index into the price ladder for each product, in money.

    Observation Space:
        `Box(L + 1)`: units left of each leg, slot.

    Rewards:
        The price of what was sold, in money; the return of an episode is its revenue, undiscounted.

    Starting State:
        Full capacity, slot 0.

    Episode End:
        Terminates when the season is over or nothing can be sold any more.

    Source:
        Gallego and van Ryzin (1997), Operations Research 45(1), "A Multiproduct Dynamic Pricing Problem".
    """

    id = "pricing-network"
    stationary = True

    def __init__(self, params: NetworkParams) -> None:
        self.params = params
        self.horizon: int | None = params.periods
        legs, products = params.usage.shape
        self.tunable: Mapping[str, int] = {"volume": products, "sensitivity": products}
        self.context: tuple[Field, ...] = (
            *(
                Field(f"capacity[{leg}]", "units", 0.0, float(params.capacity[leg]), f"left of leg {leg}", whole=True)
                for leg in range(legs)
            ),
            Field("period", "slots", 0.0, float(params.periods), "slots that have passed", whole=True),
        )
        self.outcomes: tuple[Field, ...] = tuple(
            Field(f"sold[{j}]", "items", 0.0, 1.0, f"whether product {j} was sold", whole=True) for j in range(products)
        )
        nvec = () if params.prices is None else (len(params.prices),) * products
        self.actions = ActionSet(params.prices, nvec, "money", "prices")

    def price(self, action: Action) -> Array:
        """Prices (n, J) of actions (n, J)."""
        return np.asarray(action if self.params.prices is None else self.params.prices[action], np.float64)

    def asked(self, price: Array) -> Array:
        """Chance (n, J) that each product is asked for at prices (n, J)."""
        return np.asarray(self.params.volume * np.exp(-np.asarray(self.params.sensitivity) * price), np.float64)

    def available(self, left: Array) -> Mask:
        """Which products (n, J) can still be sold with these units (n, L)."""
        return np.asarray((left[:, :, None] >= self.params.usage).all(axis=1))

    def _sold(self, state: State, price: Array, chance: Chance) -> Mask:
        """Which product (n, J), if any, is sold."""
        cumulative = np.cumsum(self.asked(price), axis=1)
        u = chance[:, :1]
        before = np.concatenate([np.zeros_like(u), cumulative[:, :-1]], axis=1)
        return (u >= before) & (u < cumulative) & self.available(state[:, :-1])

    def initial(self, n: int, rng: np.random.Generator) -> State:  # noqa: ARG002
        """Full capacity, slot 0."""
        return np.tile(np.append(self.params.capacity.astype(np.float64), 0.0), (n, 1))

    def draw(self, n: int, rng: np.random.Generator) -> Chance:
        """One uniform for the customer."""
        return rng.random((n, 1))

    def step(self, state: State, action: Action, chance: Chance) -> tuple[State, Array, Mask]:
        """At most one sale."""
        price = self.price(action)
        sold = self._sold(state, price, chance)
        # Products of small whole numbers are exact in any order, so the product may be a matrix product.
        left = state[:, :-1] - sold @ self.params.usage.T
        following = np.concatenate([left, state[:, -1:] + 1.0], axis=1)
        over = (following[:, -1] >= self.params.periods) | ~self.available(left).any(axis=1)
        return following, np.where(sold, price, 0.0).max(axis=1), over

    def observe(self, state: State) -> NDArray[np.float32]:
        """What is left of each leg, and the slot."""
        return state.astype(np.float32)

    def state_of(self, observation: NDArray[Any]) -> State:
        """The observation is the state."""
        return np.asarray(observation[:, : len(self.context)], np.float64)

    def allowed(self, state: State) -> Mask:
        """Every price, always."""
        return every(len(state), sum(self.actions.nvec))

    def allowed_of(self, observation: NDArray[Any]) -> Mask:
        """Every price, always."""
        return self.allowed(observation)

    def outcome(self, state: State, action: Action, chance: Chance) -> dict[str, NDArray[Any]]:
        """What was sold."""
        sold = self._sold(state, self.price(action), chance).astype(np.float64)
        return {f"sold[{j}]": sold[:, j] for j in range(sold.shape[1])}

    def reward_of(self, observation: NDArray[Any], action: Action, fields: Fields) -> Array:  # noqa: ARG002
        """Prices times what was sold."""
        sold = np.stack([np.asarray(fields[field.name], np.float64) for field in self.outcomes], axis=1)
        return np.asarray((self.price(action) * sold).sum(axis=1))

    def expected_reward(self, state: State, action: Action) -> Array:
        """Prices times the chance of each sale."""
        price = self.price(action)
        return np.asarray((price * self.asked(price) * self.available(state[:, :-1])).sum(axis=1))

    def with_params(self, values: Mapping[str, ArrayLike]) -> "PricingNetwork":
        """Demand replaced, ladder kept; one number sets the mean over the products."""
        replaced = {name: rescaled(getattr(self.params, name), value, listed=True) for name, value in values.items()}
        return PricingNetwork(replace(self.params, **replaced))

    def grid_size(self) -> int:
        """Number of states of one slot, without listing them."""
        return math.prod(int(units) + 1 for units in self.params.capacity)

    def grid(self, period: int = 0) -> State:
        """All units left at that slot, those of the last leg running fastest."""
        shape = tuple(int(units) + 1 for units in self.params.capacity)
        left = np.indices(shape).reshape(len(shape), -1).T.astype(np.float64)
        return np.concatenate([left, np.full((len(left), 1), float(period))], axis=1)

    def place(self, state: State) -> NDArray[np.int64]:
        """Mixed-radix index of the units left."""
        code = np.zeros(len(state), np.int64)
        for column, units in zip(state[:, :-1].T.astype(np.int64), self.params.capacity, strict=True):
            code = code * (int(units) + 1) + column
        return code

    def branches(self, state: State, action: Action) -> Branches:
        """One branch for each product that is sold, and one without a sale."""
        price = self.price(action)
        sold = self.asked(price) * self.available(state[:, :-1])
        probability = np.concatenate([sold, 1.0 - sold.sum(axis=1, keepdims=True)], axis=1)
        taken = np.concatenate([self.params.usage.T, np.zeros((1, self.params.usage.shape[0]))])
        left = np.maximum(state[:, None, :-1] - taken, 0.0)
        period = np.broadcast_to(state[:, None, -1:] + 1.0, (*left.shape[:2], 1))
        following = np.concatenate([left, period], axis=2)
        reward = np.concatenate([price, np.zeros((len(price), 1))], axis=1)
        alive = self.available(left.reshape(-1, left.shape[2])).any(axis=1).reshape(left.shape[:2])
        return Branches(probability, following, reward, (period[:, :, 0] >= self.params.periods) | ~alive)
