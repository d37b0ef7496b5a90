"""Dynamic pricing of a finite stock over a finite season (Gallego and van Ryzin 1994), in epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.demand import (
    CumulativeTable,
    poisson_cdf,
    poisson_expected_min,
    poisson_pmf,
    poisson_quantile,
    poisson_support,
)
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
    profile_at,
    rescaled,
)

STOCK, PERIOD = 0, 1


@dataclass(frozen=True, eq=False)
class PricingParams:
    """Parameters of `Pricing`.

    Args:
        stock: items to sell, a whole number from 1.
        periods: epochs of the season, a whole number from 1.
        volume: expected arrivals per period at price 0: a number, (T,) by period, or (n, 1 or T) by row.
        sensitivity: decay of demand with price, 1/money; shapes as volume.
        prices: ladder of prices (a,), ascending, or `None` for any price of at least 0 (for evaluation).
    """

    stock: int = 20
    periods: int = 50
    volume: Any = float(np.e)
    sensitivity: Any = 1.0
    prices: Array | None = None

    def __post_init__(self) -> None:
        for name in ("volume", "sensitivity"):
            profile = getattr(self, name)
            if np.ndim(profile) and np.shape(profile)[-1] not in (1, self.periods):
                raise ParamsError(
                    f"{name} has {np.shape(profile)[-1]} values for {self.periods} periods: "
                    f"give one number, or one for each period"
                )

    @property
    def myopic_price(self) -> Any:
        """The price 1/sensitivity that maximises revenue per period when stock does not matter."""
        return 1.0 / np.asarray(self.sensitivity, np.float64)


class Pricing:
    """Selling a finite stock before the season ends, one price per period.

    Description:
        Each period a price is posted, customers arrive and buy while stock lasts. Left-over stock is worth nothing.
        One epoch t = 0..periods-1: see (stock, t); post price p; D ~ Poisson(volume_t · exp(-sensitivity_t · p)); sell
        s = min(D, stock).

    Action Space:
        `Discrete(a)`: index into the price ladder `actions.values`, in money.

    Observation Space:
        `Box(2)`: stock left (items, 0 to `stock`), period (0 to `periods`).

    Rewards:
        p · s, in money; the return of an episode is its revenue, undiscounted.

    Starting State:
        Full stock, period 0.

    Episode End:
        Terminates when the stock is sold out or the season is over.

    Source:
        Gallego and van Ryzin (1994), Management Science 40(8), here in epochs with Poisson demand; the continuous-time
        value log sum_{i<=n} (lambda* t)^i / i! is the limit of ever shorter epochs.
    """

    id = "pricing"
    tunable: Mapping[str, int] = {"volume": 1, "sensitivity": 1}
    outcomes: tuple[Field, ...] = (Field("sold", "items", 0.0, np.inf, "items sold in the period", whole=True),)

    def __init__(self, params: PricingParams) -> None:
        self.params = params
        self.horizon: int | None = params.periods
        self.context: tuple[Field, ...] = (
            Field("stock", "items", 0.0, float(params.stock), "items left to sell", whole=True),
            Field("period", "periods", 0.0, float(params.periods), "periods that have passed", whole=True),
        )
        nvec = () if params.prices is None else (len(params.prices),)
        self.actions = ActionSet(params.prices, nvec, "money", "price")

    @property
    def stationary(self) -> bool:
        """Whether demand is the same in each period."""
        return all(np.shape(v)[-1:] in ((), (1,)) for v in (self.params.volume, self.params.sensitivity))

    @cached_property
    def _by_row(self) -> bool:
        return max(np.ndim(self.params.volume), np.ndim(self.params.sensitivity)) > 1

    @cached_property
    def _cumulative(self) -> Array | None:
        """P(D <= 0, 1, ...) by period and price, where they are the same for all rows and few enough."""
        prices = self.params.prices
        if self._by_row or prices is None:
            return None
        periods = np.arange(1 if self.stationary else self.params.periods)
        volume = np.broadcast_to(profile_at(self.params.volume, periods), periods.shape)
        sensitivity = np.broadcast_to(profile_at(self.params.sensitivity, periods), periods.shape)
        rates = (volume[:, None] * np.exp(-sensitivity[:, None] * prices)).ravel()
        columns = min(self.params.stock, poisson_support(float(rates.max())))
        if rates.size * columns > 2_000_000:
            return None
        return poisson_cdf(np.arange(columns), rates[:, None])

    @cached_property
    def _table(self) -> CumulativeTable | None:
        return None if self._cumulative is None else CumulativeTable(self._cumulative)

    @cached_property
    def _expected_sales(self) -> Array | None:
        """E[min(D, 0, 1, ...)] by period and price: sums of P(D > k)."""
        if self._cumulative is None:
            return None
        sums = np.cumsum(1.0 - self._cumulative, axis=1)
        return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)

    def _row(self, state: State, action: Action) -> NDArray[np.int64]:
        """Row of the tables by period and price."""
        row = np.asarray(action, np.int64)
        if self.stationary:
            return row
        return np.asarray(row + np.minimum(_period(state), self.params.periods - 1) * self.actions.n)

    def price(self, action: Action) -> Array:
        """Prices (n,) of actions (n,)."""
        return np.asarray(action if self.params.prices is None else self.params.prices[action], np.float64)

    def rate(self, period: NDArray[np.int64], price: ArrayLike) -> Array:
        """Expected demand volume_t · exp(-sensitivity_t · p) of each row."""
        volume = profile_at(self.params.volume, period)
        return np.asarray(volume * np.exp(-profile_at(self.params.sensitivity, period) * np.asarray(price)))

    def _sold(self, state: State, action: Action, chance: Chance) -> Array:
        table = self._table
        if table is None:
            demand = poisson_quantile(chance[:, 0], self.rate(_period(state), self.price(action)))
        else:
            demand = table.quantile(self._row(state, action), chance[:, 0])
        return np.minimum(demand, state[:, STOCK])

    def initial(self, n: int, rng: np.random.Generator) -> State:  # noqa: ARG002
        """Full stock, period 0."""
        state = np.zeros((n, 2))
        state[:, STOCK] = self.params.stock
        return state

    def draw(self, n: int, rng: np.random.Generator) -> Chance:
        """One uniform for demand."""
        return rng.random((n, 1))

    def step(self, state: State, action: Action, chance: Chance) -> tuple[State, Array, Mask]:
        """Sell what is asked for while stock lasts."""
        sold = self._sold(state, action, chance)
        following = np.empty_like(state)
        np.subtract(state[:, STOCK], sold, out=following[:, STOCK])
        np.add(state[:, PERIOD], 1.0, out=following[:, PERIOD])
        terminated = (following[:, STOCK] <= 0.0) | (following[:, PERIOD] >= self.params.periods)
        return following, self.price(action) * sold, terminated

    def observe(self, state: State) -> NDArray[np.float32]:
        """Stock and period."""
        return state.astype(np.float32)

    def state_of(self, observation: NDArray[Any]) -> State:
        """The observation is the state."""
        return np.asarray(observation[:, :2], np.float64)

    def allowed(self, state: State) -> Mask:
        """Every price, always."""
        return every(len(state), sum(self.actions.nvec))

    def allowed_of(self, observation: NDArray[Any]) -> Mask:
        """Every price, always."""
        return self.allowed(observation)

    def outcome(self, state: State, action: Action, chance: Chance) -> dict[str, NDArray[Any]]:
        """Items sold."""
        return {"sold": self._sold(state, action, chance)}

    def reward_of(self, observation: NDArray[Any], action: Action, fields: Fields) -> Array:  # noqa: ARG002
        """Price times items sold."""
        return self.price(action) * np.asarray(fields["sold"], np.float64)

    def expected_reward(self, state: State, action: Action) -> Array:
        """p · E[min(D, stock)]."""
        price, table = self.price(action), self._expected_sales
        if table is None:
            return price * poisson_expected_min(self.rate(_period(state), price), state[:, STOCK])
        stock = np.minimum(state[:, STOCK], table.shape[1] - 1).astype(np.int64)
        return np.asarray(price * table[self._row(state, action), stock])

    def with_params(self, values: Mapping[str, ArrayLike]) -> "Pricing":
        """Demand replaced, ladder kept; a profile by period keeps its shape."""
        replaced = {name: rescaled(getattr(self.params, name), value) for name, value in values.items()}
        return Pricing(replace(self.params, **replaced))

    def grid(self, period: int = 0) -> State:
        """Stock 0 to full at that period."""
        stock = np.arange(self.params.stock + 1.0)
        return np.stack([stock, np.full_like(stock, period)], axis=1)

    def place(self, state: State) -> NDArray[np.int64]:
        """The stock."""
        return state[:, STOCK].astype(np.int64)

    def branches(self, state: State, action: Action) -> Branches:
        """Sales of 0 to all of the stock."""
        price = self.price(action)
        rate = self.rate(_period(state), price)
        most = min(self.params.stock, poisson_support(float(rate.max(initial=0.0))))
        sold = np.arange(most + 1.0)
        stock = state[:, STOCK, None]
        # At the stock itself lies everything that would have been asked for beyond it.
        exact = poisson_pmf(sold, rate[:, None])
        probability = np.where(
            sold < stock, exact, np.where(sold == stock, 1.0 - poisson_cdf(stock - 1, rate[:, None]), 0.0)
        )
        left = np.maximum(stock - sold, 0.0)
        period = np.broadcast_to(state[:, PERIOD, None] + 1.0, left.shape)
        terminated = (left <= 0.0) | (period >= self.params.periods)
        return Branches(probability, np.stack([left, period], axis=2), price[:, None] * sold, terminated)


def _period(state: State) -> NDArray[np.int64]:
    return state[:, PERIOD].astype(np.int64)
