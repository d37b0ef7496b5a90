"""Dynamic pricing of a stock that is replenished by chance, judged by the average reward per period."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.demand import CumulativeTable, poisson_cdf, poisson_expected_min, poisson_pmf, poisson_quantile
from envs.dynamics import (
    Action,
    ActionSet,
    Array,
    Branches,
    Chance,
    Field,
    Fields,
    Mask,
    State,
    every,
    per_row,
    rescaled,
)


@dataclass(frozen=True, eq=False)
class ReplenishedParams:
    """Parameters of `PricingReplenished`.

    Args:
        capacity: most items in stock.
        volume: expected arrivals per period at price 0; a number, or (n, 1) by row.
        sensitivity: decay of demand with price, 1/money; shapes as volume.
        batch: items in a delivery.
        batch_probability: chance of a delivery in a period; shapes as volume.
        holding_cost: money per item left and period; shapes as volume.
        prices: ladder of prices (a,), ascending.
    """

    capacity: int
    volume: Any
    sensitivity: Any
    batch: int
    batch_probability: Any
    holding_cost: Any
    prices: Array


class PricingReplenished:
    """Selling from a shelf that is refilled by chance, one price per period, for ever.

    Description:
        See the stock; post price p; D ~ Poisson(volume · exp(-sensitivity · p)); sell s = min(D, stock); pay the
        holding cost on what is left; then with `batch_probability` a batch arrives, as far as there is room.

    Action Space:
        `Discrete(a)`: index into the price ladder, in money.

    Observation Space:
        `Box(1)`: stock (items, 0 to `capacity`).

    Rewards:
        p · s - holding_cost · (stock - s), in money; the average per period counts.

    Starting State:
        Full.

    Episode End:
        Never; the shells truncate.

    Source:
        Gallego and van Ryzin (1994) with replenishment, as a Markov decision process with average reward.
    """

    id = "pricing-replenished"
    horizon: int | None = None
    stationary = True
    tunable: Mapping[str, int] = {"volume": 1, "sensitivity": 1, "batch_probability": 1, "holding_cost": 1}
    outcomes: tuple[Field, ...] = (
        Field("sold", "items", 0.0, np.inf, "items sold in the period", whole=True),
        Field("arrived", "items", 0.0, np.inf, "items delivered at its end, with or without room", whole=True),
    )

    def __init__(self, params: ReplenishedParams) -> None:
        self.params = params
        self.context: tuple[Field, ...] = (
            Field("stock", "items", 0.0, float(params.capacity), "items to sell", whole=True),
        )
        self.actions = ActionSet(params.prices, (len(params.prices),), "money", "price")

    @cached_property
    def _table(self) -> CumulativeTable | None:
        if np.ndim(self.params.volume) or np.ndim(self.params.sensitivity):
            return None
        rates = self.params.volume * np.exp(-self.params.sensitivity * self.params.prices)
        return CumulativeTable(poisson_cdf(np.arange(self.params.capacity), rates[:, None]))

    def rate(self, price: Array) -> Array:
        """Expected demand at prices (n,)."""
        return np.asarray(per_row(self.params.volume) * np.exp(-per_row(self.params.sensitivity) * price))

    def _outcome(self, state: State, action: Action, chance: Chance) -> tuple[Array, Array]:
        if self._table is not None:
            demand = self._table.quantile(np.asarray(action, np.int64), chance[:, 0])
        else:
            demand = poisson_quantile(chance[:, 0], self.rate(self.params.prices[action]))
        arrived = self.params.batch * (chance[:, 1] < per_row(self.params.batch_probability))
        return np.minimum(demand, state[:, 0]), arrived.astype(np.float64)

    def initial(self, n: int, rng: np.random.Generator) -> State:  # noqa: ARG002
        """Full."""
        return np.full((n, 1), float(self.params.capacity))

    def draw(self, n: int, rng: np.random.Generator) -> Chance:
        """One uniform for demand, one for the delivery."""
        return rng.random((n, 2))

    def step(self, state: State, action: Action, chance: Chance) -> tuple[State, Array, Mask]:
        """Sell, pay for what is left, receive."""
        sold, arrived = self._outcome(state, action, chance)
        left = state[:, 0] - sold
        reward = self.params.prices[action] * sold - per_row(self.params.holding_cost) * left
        following = np.minimum(left + arrived, self.params.capacity)[:, None]
        return following, reward, np.zeros(len(state), bool)

    def observe(self, state: State) -> NDArray[np.float32]:
        """The stock."""
        return state.astype(np.float32)

    def state_of(self, observation: NDArray[Any]) -> State:
        """The observation is the state."""
        return np.asarray(observation[:, :1], np.float64)

    def allowed(self, state: State) -> Mask:
        """Every price, always."""
        return every(len(state), self.actions.n)

    def allowed_of(self, observation: NDArray[Any]) -> Mask:
        """Every price, always."""
        return self.allowed(observation)

    def outcome(self, state: State, action: Action, chance: Chance) -> dict[str, NDArray[Any]]:
        """Items sold and delivered."""
        sold, arrived = self._outcome(state, action, chance)
        return {"sold": sold, "arrived": arrived}

    def reward_of(self, observation: NDArray[Any], action: Action, fields: Fields) -> Array:
        """Revenue less holding cost."""
        sold = np.asarray(fields["sold"], np.float64)
        left = np.asarray(observation[:, 0], np.float64) - sold
        return np.asarray(self.params.prices[action] * sold - per_row(self.params.holding_cost) * left)

    def expected_reward(self, state: State, action: Action) -> Array:
        """The reward with sales at their mean."""
        price = self.params.prices[action]
        sold = poisson_expected_min(self.rate(price), state[:, 0])
        return np.asarray(price * sold - per_row(self.params.holding_cost) * (state[:, 0] - sold))

    def with_params(self, values: Mapping[str, ArrayLike]) -> "PricingReplenished":
        """Demand, deliveries and costs replaced, ladder kept."""
        replaced = {name: rescaled(getattr(self.params, name), value) for name, value in values.items()}
        return PricingReplenished(replace(self.params, **replaced))

    def grid(self, period: int = 0) -> State:  # noqa: ARG002
        """Stock 0 to full."""
        return np.arange(self.params.capacity + 1.0)[:, None]

    def place(self, state: State) -> NDArray[np.int64]:
        """The stock."""
        return state[:, 0].astype(np.int64)

    def branches(self, state: State, action: Action) -> Branches:
        """Sales of 0 to all of the stock, without and with a delivery."""
        price, stock = self.params.prices[action], state[:, 0, None]
        rate = self.rate(price)[:, None]
        sold = np.arange(self.params.capacity + 1.0)
        beyond = 1.0 - poisson_cdf(stock - 1, rate)
        chance = np.where(sold < stock, poisson_pmf(sold, rate), np.where(sold == stock, beyond, 0.0))
        left = np.maximum(stock - sold, 0.0)
        reward = price[:, None] * sold - self.params.holding_cost * left
        delivered = self.params.batch_probability
        probability = np.concatenate([chance * (1 - delivered), chance * delivered], axis=1)
        full = np.minimum(left + self.params.batch, self.params.capacity)
        following = np.concatenate([left, full], axis=1)[:, :, None]
        return Branches(probability, following, np.tile(reward, 2), np.zeros(probability.shape, bool))
