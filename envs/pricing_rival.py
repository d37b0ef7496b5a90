"""Dynamic pricing against one rival who reacts, with multinomial-logit customers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.demand import poisson_cdf, poisson_expected_min, poisson_pmf, poisson_quantile, poisson_support
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
    per_row,
    rescaled,
)

STOCK, PERIOD, RIVAL = 0, 1, 2
_SAME_PRICE = 1e-9


@dataclass(frozen=True, eq=False)
class RivalParams:
    """Parameters of `PricingRival`.

    Args:
        stock: items to sell.
        periods: epochs of the season.
        arrivals: expected customers per period; a number, or (n, 1) by row.
        attraction: utility of either product at price 0, against 0 for buying nothing; shapes as arrivals.
        sensitivity: loss of utility with price, 1/money; shapes as arrivals.
        rival_prices: the rival's price levels (r,), ascending.
        rival_start: the rival's price at the start, one of its levels.
        reaction: chance that the rival reacts in a period; shapes as arrivals.
        prices: own ladder (a,), ascending.
    """

    stock: int
    periods: int
    arrivals: Any
    attraction: Any
    sensitivity: Any
    rival_prices: Array
    rival_start: float
    reaction: Any
    prices: Array

    def __post_init__(self) -> None:
        if np.abs(self.rival_prices - self.rival_start).min() > _SAME_PRICE:
            levels = ", ".join(f"{price:g}" for price in self.rival_prices)
            raise ParamsError(f"rival_start is {self.rival_start:g}: give one of rival_prices, {levels}")


class PricingRival:
    """Selling a finite stock beside a rival who undercuts.

    Description:
        See (stock, t, rival price q); post price p; D ~ Poisson(arrivals · e^(u-bp) / (1 + e^(u-bp) + e^(u-bq))),
        u being the attraction and b the sensitivity; sell s = min(D, stock). After the sale the rival, with chance
        `reaction`, jumps to its highest level below p (to its highest of all if none is).

    Action Space:
        `Discrete(a)`: index into the price ladder, in money.

    Observation Space:
        `Box(3)`: stock (items), period, rival price (money).

    Rewards:
        p · s, in money; the return of an episode is its revenue, undiscounted.

    Starting State:
        Full stock, period 0, the rival at `rival_start`.

    Episode End:
        Terminates when the stock is sold out or the season is over.

    Source:
        Multinomial-logit competition as in Talluri and van Ryzin (2004), The Theory and Practice of Revenue
        Management, section 7.3, with a rival who follows a fixed rule.
    """

    id = "pricing-rival"
    stationary = True
    tunable: Mapping[str, int] = {"arrivals": 1, "attraction": 1, "sensitivity": 1, "reaction": 1}
    outcomes: tuple[Field, ...] = (
        Field("sold", "items", 0.0, np.inf, "items sold in the period", whole=True),
        Field("rival_price", "money", 0.0, np.inf, "the rival's price at the end of the period"),
    )

    def __init__(self, params: RivalParams) -> None:
        self.params = params
        self.horizon: int | None = params.periods
        low, high = float(params.rival_prices[0]), float(params.rival_prices[-1])
        self.context: tuple[Field, ...] = (
            Field("stock", "items", 0.0, float(params.stock), "items left to sell", whole=True),
            Field("period", "periods", 0.0, float(params.periods), "periods that have passed", whole=True),
            Field("rival_price", "money", low, high, "the rival's price"),
        )
        self.actions = ActionSet(params.prices, (len(params.prices),), "money", "price")
        # The level to which the rival jumps when it meets each of our prices.
        below = np.searchsorted(params.rival_prices, params.prices - _SAME_PRICE) - 1
        self.target: NDArray[np.int64] = np.where(below < 0, len(params.rival_prices) - 1, below)

    def rate(self, price: ArrayLike, rival_price: ArrayLike) -> Array:
        """Expected demand at our price and the rival's, elementwise over rows."""
        u, b = per_row(self.params.attraction), per_row(self.params.sensitivity)
        ours, theirs = np.exp(u - b * np.asarray(price)), np.exp(u - b * np.asarray(rival_price))
        return np.asarray(per_row(self.params.arrivals) * ours / (1.0 + ours + theirs))

    def _outcome(self, state: State, action: Action, chance: Chance) -> tuple[Array, NDArray[np.int64]]:
        rival = state[:, RIVAL].astype(np.int64)
        rate = self.rate(self.params.prices[action], self.params.rival_prices[rival])
        sold = np.minimum(poisson_quantile(chance[:, 0], rate), state[:, STOCK])
        return sold, np.where(chance[:, 1] < per_row(self.params.reaction), self.target[action], rival)

    def initial(self, n: int, rng: np.random.Generator) -> State:  # noqa: ARG002
        """Full stock, period 0, the rival at its start."""
        place = int(np.abs(self.params.rival_prices - self.params.rival_start).argmin())
        return np.tile(np.array([float(self.params.stock), 0.0, float(place)]), (n, 1))

    def draw(self, n: int, rng: np.random.Generator) -> Chance:
        """One uniform for demand, one for the rival."""
        return rng.random((n, 2))

    def step(self, state: State, action: Action, chance: Chance) -> tuple[State, Array, Mask]:
        """Sell, then let the rival react."""
        sold, rival = self._outcome(state, action, chance)
        following = np.stack([state[:, STOCK] - sold, state[:, PERIOD] + 1.0, rival.astype(np.float64)], axis=1)
        terminated = (following[:, STOCK] <= 0.0) | (following[:, PERIOD] >= self.params.periods)
        return following, self.params.prices[action] * sold, terminated

    def observe(self, state: State) -> NDArray[np.float32]:
        """Stock, period and the rival's price."""
        seen = state.astype(np.float32)
        seen[:, RIVAL] = self.params.rival_prices[state[:, RIVAL].astype(np.int64)]
        return seen

    def state_of(self, observation: NDArray[Any]) -> State:
        """The rival's price is taken to its nearest level."""
        state = np.asarray(observation[:, :3], np.float64).copy()
        middles = (self.params.rival_prices[1:] + self.params.rival_prices[:-1]) / 2
        state[:, RIVAL] = np.searchsorted(middles, state[:, RIVAL])
        return state

    def allowed(self, state: State) -> Mask:
        """Every price, always."""
        return every(len(state), self.actions.n)

    def allowed_of(self, observation: NDArray[Any]) -> Mask:
        """Every price, always."""
        return self.allowed(observation)

    def outcome(self, state: State, action: Action, chance: Chance) -> dict[str, NDArray[Any]]:
        """Items sold, and the rival's price afterwards."""
        sold, rival = self._outcome(state, action, chance)
        return {"sold": sold, "rival_price": self.params.rival_prices[rival]}

    def reward_of(self, observation: NDArray[Any], action: Action, fields: Fields) -> Array:  # noqa: ARG002
        """Price times items sold."""
        return np.asarray(self.params.prices[action] * np.asarray(fields["sold"], np.float64))

    def expected_reward(self, state: State, action: Action) -> Array:
        """p · E[min(D, stock)]."""
        price = self.params.prices[action]
        rate = self.rate(price, self.params.rival_prices[state[:, RIVAL].astype(np.int64)])
        return np.asarray(price * poisson_expected_min(rate, state[:, STOCK]))

    def with_params(self, values: Mapping[str, ArrayLike]) -> "PricingRival":
        """Customers and rival replaced, ladders kept."""
        replaced = {name: rescaled(getattr(self.params, name), value) for name, value in values.items()}
        return PricingRival(replace(self.params, **replaced))

    def grid(self, period: int = 0) -> State:
        """All (stock, rival level) at that period, the rival running fastest."""
        stock, rival = np.divmod(
            np.arange((self.params.stock + 1) * len(self.params.rival_prices)), len(self.params.rival_prices)
        )
        return np.stack([stock, np.full_like(stock, period), rival], axis=1).astype(np.float64)

    def place(self, state: State) -> NDArray[np.int64]:
        """Mixed-radix index of (stock, rival level)."""
        return np.asarray(state[:, STOCK] * len(self.params.rival_prices) + state[:, RIVAL], np.int64)

    def branches(self, state: State, action: Action) -> Branches:
        """Sales of 0 to all of the stock, with the rival staying and jumping."""
        price, rival = self.params.prices[action], state[:, RIVAL].astype(np.int64)
        rate = self.rate(price, self.params.rival_prices[rival])[:, None]
        sold = np.arange(min(self.params.stock, poisson_support(float(rate.max(initial=0.0)))) + 1.0)
        stock = state[:, STOCK, None]
        beyond = 1.0 - poisson_cdf(stock - 1, rate)
        chance = np.where(sold < stock, poisson_pmf(sold, rate), np.where(sold == stock, beyond, 0.0))
        left = np.maximum(stock - sold, 0.0)
        probability = np.concatenate([chance * (1 - self.params.reaction), chance * self.params.reaction], axis=1)
        period = np.broadcast_to(state[:, PERIOD, None] + 1.0, probability.shape)
        levels = np.concatenate(
            [np.broadcast_to(x[:, None], left.shape) for x in (rival, self.target[action])], axis=1
        ).astype(np.float64)
        following = np.stack([np.tile(left, 2), period, levels], axis=2)
        terminated = (following[:, :, STOCK] <= 0.0) | (period >= self.params.periods)
        return Branches(probability, following, np.tile(price[:, None] * sold, 2), terminated)
