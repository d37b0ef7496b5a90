"""Lost-sales inventory with a lead time (Karlin and Scarf 1958; Zipkin 2008)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.demand import (
    CumulativeTable,
    geometric_pmf,
    geometric_quantile,
    poisson_pmf,
    poisson_quantile,
    poisson_reach,
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
    per_row,
    rescaled,
)

ON_HAND = 0
DEMANDS = ("poisson", "geometric")

# So many periods of demand are added to the stock that could be wanted: nobody who orders sensibly gets there.
_ROOM = 12
_FAR_OUT = 1e-280


@dataclass(frozen=True, eq=False)
class InventoryParams:
    """Parameters of `Inventory`.

    Args:
        demand: `poisson`, or `geometric` on {0, 1, ...}.
        mean: expected demand per period; a number, or (n, 1) by row.
        lead_time: periods from order to arrival, from 1.
        holding_cost: money per item left and period; shapes as mean.
        penalty_cost: money per item of demand lost; shapes as mean.
        max_order: largest order, items.
        capacity: most items on hand; what would arrive beyond it is refused. Large enough not to matter.
    """

    demand: str = "poisson"
    mean: Any = 5.0
    lead_time: int = 4
    holding_cost: Any = 1.0
    penalty_cost: Any = 19.0
    max_order: int = 9
    capacity: int = 90

    def __post_init__(self) -> None:
        if self.demand not in DEMANDS:
            raise ParamsError(f"demand is {self.demand!r}: give one of {', '.join(DEMANDS)}")

    @property
    def critical_ratio(self) -> float:
        """penalty / (penalty + holding): the share of periods without a lost sale that is worth its cost."""
        penalty, holding = float(np.max(self.penalty_cost)), float(np.min(self.holding_cost))
        return penalty / (penalty + holding)

    def newsvendor(self, periods: int) -> int:
        """Smallest level that meets the demand of so many periods with probability `critical_ratio`.

        The position (on hand and on order) of an optimal policy never rises above that of lead time + 1 periods, nor
        the last j orders above that of j periods (Zipkin 2008, section 4).
        """
        cumulative = np.cumsum(self.demand_pmf(periods))
        return int(np.searchsorted(cumulative, min(self.critical_ratio, 1 - 1e-12)))

    def demand_pmf(self, periods: int = 1) -> Array:
        """P(D = 0, 1, ...) of the demand of so many periods, cut where nothing is left."""
        mean = float(np.max(self.mean))
        if self.demand == "poisson":
            return poisson_pmf(np.arange(poisson_support(periods * mean)), periods * mean)
        decay = mean / (1.0 + mean)
        size = int(np.ceil(np.log(2.0**-60) / np.log(decay))) + 1
        one = geometric_pmf(np.arange(size), mean)
        total = one
        for _ in range(periods - 1):
            total = np.convolve(total, one)
        return total


class Inventory:
    """Ordering one product whose unmet demand is lost, with a lead time.

    Description:
        State (x, q_1..q_{L-1}): x on hand, including what has arrived this period; q_i arrives in i periods. Order z,
        due in L periods; demand D comes; pay h (x - D)^+ + p (D - x)^+; then x' = (x - D)^+ + q_1 (z itself if L = 1).

    Action Space:
        `Discrete(max_order + 1)`: the order quantity.

    Observation Space:
        `Box(L)`: on hand, then the pipeline, soonest arrival first (items).

    Rewards:
        Minus the cost of the period, in money; the average per period counts.

    Starting State:
        The mean demand on hand and at each place of the pipeline.

    Episode End:
        Never; the shells truncate.

    Source:
        Zipkin (2008), Operations Research 56(5), "Old and New Methods for Lost-Sales Inventory Systems".
    """

    id = "inventory"
    horizon: int | None = None
    tunable: Mapping[str, int] = {"mean": 1, "holding_cost": 1, "penalty_cost": 1}
    outcomes: tuple[Field, ...] = (Field("sold", "items", 0.0, np.inf, "items sold in the period", whole=True),)
    stationary = True

    def __init__(self, params: InventoryParams) -> None:
        self.params = params
        pipeline = (
            Field(f"pipeline[{i}]", "items", 0.0, float(params.max_order), f"items due in {i + 1} periods", whole=True)
            for i in range(params.lead_time - 1)
        )
        on_hand = Field(
            "on_hand", "items", 0.0, float(params.capacity), "items on hand, this period's arrival included"
        )
        self.context: tuple[Field, ...] = (on_hand, *pipeline)
        self.actions = ActionSet(np.arange(params.max_order + 1.0), (params.max_order + 1,), "items", "quantity")

    @cached_property
    def _table(self) -> CumulativeTable | None:
        if np.ndim(self.params.mean):
            return None
        return CumulativeTable(np.cumsum(self.params.demand_pmf())[None])

    @cached_property
    def _quantile(self) -> Callable[[Array, Any], Array]:
        return poisson_quantile if self.params.demand == "poisson" else geometric_quantile

    def demand(self, chance: Chance) -> Array:
        """Demand (n,) of the period."""
        if self._table is not None:
            return self._table.quantile(np.zeros(len(chance), np.int64), chance[:, 0])
        return np.asarray(self._quantile(chance[:, 0], per_row(self.params.mean)))

    def initial(self, n: int, rng: np.random.Generator) -> State:  # noqa: ARG002
        """The mean demand everywhere."""
        usual = round(float(np.mean(self.params.mean)))
        row = np.minimum(np.full(self.params.lead_time, usual, float), self.params.max_order)
        row[ON_HAND] = min(usual, self.params.capacity)
        return np.repeat(row[None], n, axis=0)

    def draw(self, n: int, rng: np.random.Generator) -> Chance:
        """One uniform for demand."""
        return rng.random((n, 1))

    def step(self, state: State, action: Action, chance: Chance) -> tuple[State, Array, Mask]:
        """Order, meet demand, receive what is due."""
        on_hand, demand = state[:, ON_HAND], self.demand(chance)
        left = np.maximum(on_hand - demand, 0.0)
        lost = np.maximum(demand - on_hand, 0.0)
        following = np.empty_like(state)
        following[:, 1:-1] = state[:, 2:]
        if self.params.lead_time > 1:
            following[:, -1] = action
        arriving = state[:, 1] if self.params.lead_time > 1 else action
        np.minimum(left + arriving, self.params.capacity, out=following[:, ON_HAND])
        cost = per_row(self.params.holding_cost) * left + per_row(self.params.penalty_cost) * lost
        return following, -cost, np.zeros(len(state), bool)

    def observe(self, state: State) -> NDArray[np.float32]:
        """On hand and pipeline."""
        return state.astype(np.float32)

    def state_of(self, observation: NDArray[Any]) -> State:
        """The observation is the state."""
        return np.asarray(observation[:, : self.params.lead_time], np.float64)

    def allowed(self, state: State) -> Mask:
        """Every quantity, always."""
        return every(len(state), self.actions.n)

    def allowed_of(self, observation: NDArray[Any]) -> Mask:
        """Every quantity, always."""
        return self.allowed(observation)

    def outcome(self, state: State, action: Action, chance: Chance) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        """Items sold, and lost demand, which a shop seldom sees."""
        demand = self.demand(chance)
        sold = np.minimum(demand, state[:, ON_HAND])
        return {"sold": sold, "lost": demand - sold}

    def reward_of(self, observation: NDArray[Any], action: Action, fields: Fields) -> Array:  # noqa: ARG002
        """Minus the cost; lost demand that is not among the fields counts with its mean given a sold-out shelf."""
        on_hand, sold = np.asarray(observation[:, ON_HAND], np.float64), np.asarray(fields["sold"], np.float64)
        if "lost" in fields:
            lost = np.asarray(fields["lost"], np.float64)
        else:
            lost = np.where(sold >= on_hand, self.excess(on_hand), 0.0)
        left = on_hand - sold
        return np.asarray(-per_row(self.params.holding_cost) * left - per_row(self.params.penalty_cost) * lost)

    def reach(self, level: Array) -> Array:
        """P(D >= level), elementwise."""
        mean = per_row(self.params.mean)
        if self.params.demand == "geometric":
            return np.asarray((mean / (1.0 + mean)) ** np.maximum(level, 0.0))
        return np.maximum(poisson_reach(level, mean), 1e-300)

    def expected_lost(self, level: Array) -> Array:
        """E[(D - level)^+], elementwise, without an edge: it stays convex and positive for any level."""
        mean = per_row(self.params.mean)
        if self.params.demand == "geometric":
            return np.asarray(mean * (mean / (1.0 + mean)) ** level)
        # λ P(D >= x) - x P(D > x), with tails that keep their digits: no cancellation far out.
        lost = mean * poisson_reach(level, mean) - level * poisson_reach(level + 1.0, mean)
        return np.asarray(np.maximum(lost, 0.0), np.float64)

    def excess(self, level: Array) -> Array:
        """E[D - level | D >= level], elementwise: what was lost on average where the shelf sold out."""
        mean = per_row(self.params.mean)
        if self.params.demand == "geometric":
            return np.asarray(np.broadcast_to(mean, np.shape(level)), np.float64)
        reach = self.reach(level)
        # Where nothing is left of the tail it falls geometrically, with the ratio of its next two terms.
        ratio = np.minimum(mean / (np.asarray(level, np.float64) + 1.0), 0.999)
        tail = ratio / (1.0 - ratio)
        return np.where(reach < _FAR_OUT, tail, self.expected_lost(level) / reach)

    def expected_reward(self, state: State, action: Action) -> Array:  # noqa: ARG002
        """Minus the mean cost of the period given what is on hand."""
        on_hand = state[:, ON_HAND]
        if self._costs is not None:
            return -self._costs[on_hand.astype(np.int64)]
        return -self._cost(on_hand)

    @cached_property
    def _costs(self) -> Array | None:
        """Mean cost by stock on hand, up to the capacity, which a state cannot exceed."""
        if any(np.ndim(v) for v in (self.params.mean, self.params.holding_cost, self.params.penalty_cost)):
            return None
        return self._cost(np.arange(self.params.capacity + 1.0))

    def _cost(self, on_hand: Array) -> Array:
        lost = self.expected_lost(on_hand)
        left = on_hand - per_row(self.params.mean) + lost
        return np.asarray(per_row(self.params.holding_cost) * left + per_row(self.params.penalty_cost) * lost)

    def with_params(self, values: Mapping[str, ArrayLike]) -> "Inventory":
        """Demand and costs replaced, orders kept."""
        replaced = {name: rescaled(getattr(self.params, name), value) for name, value in values.items()}
        return Inventory(replace(self.params, **replaced))

    def grid(self, period: int = 0) -> State:  # noqa: ARG002
        """All (x, q_1..q_{L-1}), x running fastest."""
        orders = np.arange(self.params.max_order + 1.0)
        axes = [orders] * (self.params.lead_time - 1) + [np.arange(self.params.capacity + 1.0)]
        columns = [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]
        return np.stack([columns[-1], *columns[:-1]], axis=1)

    def place(self, state: State) -> NDArray[np.int64]:
        """Mixed-radix index of (q_1..q_{L-1}, x)."""
        code = np.zeros(len(state), np.int64)
        for column in state[:, 1:].T.astype(np.int64):
            code = code * (self.params.max_order + 1) + column
        return np.asarray(code * (self.params.capacity + 1) + state[:, ON_HAND].astype(np.int64))

    def branches(self, state: State, action: Action) -> Branches:
        """Sales of 0 to all that is on hand; the reward of a branch is its mean."""
        size = min(len(self.params.demand_pmf()), int(state[:, ON_HAND].max(initial=0.0))) + 1
        sold = np.arange(float(size))
        on_hand = state[:, ON_HAND, None]
        pmf = np.append(self.params.demand_pmf(), np.zeros(size))[:size]
        beyond = self.reach(on_hand)
        probability = np.where(sold < on_hand, pmf, np.where(sold == on_hand, beyond, 0.0))
        left = np.maximum(on_hand - sold, 0.0)
        arriving = state[:, 1, None] if self.params.lead_time > 1 else np.asarray(action, float)[:, None]
        following = np.empty((*left.shape, state.shape[1]))
        following[:, :, 1:-1] = state[:, None, 2:]
        if self.params.lead_time > 1:
            following[:, :, -1] = np.asarray(action)[:, None]
        following[:, :, ON_HAND] = np.minimum(left + arriving, self.params.capacity)
        lost = np.where(sold == on_hand, self.excess(on_hand), 0.0)
        reward = -self.params.holding_cost * left - self.params.penalty_cost * lost
        return Branches(probability, following, reward, np.zeros(left.shape, bool))


def room(params: InventoryParams) -> int:
    """A capacity that no sensible policy reaches: what could be wanted, and some periods of demand more."""
    return params.newsvendor(params.lead_time + 1) + params.max_order + int(np.ceil(_ROOM * float(np.max(params.mean))))
