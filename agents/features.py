"""Features: what a network learns from, computed from named physical columns inside the exported graph.

Every module takes the columns of an observation, each (n, 1), and gives (n, width). A parameter that is not among the
columns is a constant of the graph, so that a policy for one world and one for a range of worlds have the same shape,
and either can be the start of the other.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from envs import network
from envs import pricing_network as network_world

Columns = Mapping[str, Tensor]
# Keeps logarithms of costs and probabilities finite where one of them is 0.
TINY = 1e-6
# Of the components, so many of the worst are shown one by one where an action is how many of the worst to service.
WORST = 9


@dataclass(frozen=True)
class Layout:
    """What the columns of an observation are, and which parameters are fixed.

    Args:
        world: world id; it decides the features.
        context: the world's own entries of an observation.
        conditioned: the parameters that follow them.
        params: the world's parameters; those not conditioned on are constants of the graph.
        bounds: (k, 2) lowest and highest value of each entry, for worlds without features of their own.
    """

    world: str
    context: tuple[str, ...]
    conditioned: tuple[str, ...]
    params: Mapping[str, Any]
    bounds: NDArray[np.float64]


class _Market(nn.Module):
    """Base of all features: parameters as columns, observed or constant."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        numbers = {name: value for name, value in layout.params.items() if _numeric(value)}
        self.means = {name: float(np.mean(value)) for name, value in numbers.items()}

    def table(self, name: str, values: Any) -> None:
        """Keep constants (float32) as a part of the graph, but not of the weights."""
        self.register_buffer(name, torch.tensor(np.asarray(values), dtype=torch.float32), persistent=False)

    def level(self, x: Columns, name: str) -> Tensor:
        """A parameter (n, 1): its column, or its (mean) constant."""
        return x[name] if name in x else torch.full_like(next(iter(x.values())), self.means[name])


def _numeric(value: Any) -> bool:
    return value is not None and np.asarray(value).dtype.kind in "biuf"


def _series(value: Any, periods: int) -> NDArray[np.float64]:
    return np.broadcast_to(np.asarray(value, np.float64), periods)


class Pricing(_Market):
    """`pricing`: time and stock left, and the stock against the demand still to come.

    The demand to come is counted at the price that maximises revenue per arrival, where 1/e of the arrivals buy. The
    last column is the logarithm of the sensitivity, in whose unit the head counts prices (`PriceHead`).
    """

    MARKET = 2

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.ladder: NDArray[np.float64] = layout.params["prices"]
        periods = int(layout.params["periods"])
        self.stock, self.periods = float(layout.params["stock"]), float(periods)
        volume = _series(layout.params["volume"], periods)
        sensitivity = _series(layout.params["sensitivity"], periods)
        self.table("left", np.append(volume[::-1].cumsum()[::-1] / volume.mean(), 0.0))
        self.table("volume_now", np.append(volume, volume[-1]) / volume.mean())
        self.table("sensitivity_now", np.append(sensitivity, sensitivity[-1]) / sensitivity.mean())

    def forward(self, x: Columns) -> Tensor:
        """Features (n, 7)."""
        stock, period = torch.clamp(x["stock"], min=0.0), x["period"]
        volume, sensitivity = self.level(x, "volume"), self.level(x, "sensitivity")
        row = torch.clamp(period, 0.0, self.periods).long()
        left = self.get_buffer("left")[row]
        share = stock / self.stock
        parts = [
            2 * share - 1,
            2 * period / self.periods - 1,
            torch.log((stock + 0.5) / (volume * left / math.e + 0.5)),
            2 * torch.sqrt(share) - 1,
            2 * torch.sqrt(left / self.periods) - 1,
            torch.log(volume * self.get_buffer("volume_now")[row]) - 1,
            torch.log(sensitivity * self.get_buffer("sensitivity_now")[row]),
        ]
        return torch.cat(parts, dim=1)


class PricingRival(_Market):
    """`pricing-rival`: as `pricing`, with the rival's level one-hot."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.stock, self.periods = float(layout.params["stock"]), float(layout.params["periods"])
        levels = np.asarray(layout.params["rival_prices"], np.float64)
        self.scale = float(levels.max())
        self.table("middles", (levels[1:] + levels[:-1]) / 2)

    def forward(self, x: Columns) -> Tensor:
        """Features (n, 9 + levels)."""
        stock = torch.clamp(x["stock"], min=0.0)
        left = torch.clamp(self.periods - x["period"], min=0.0)
        arrivals = self.level(x, "arrivals")
        above = (x["rival_price"] > self.get_buffer("middles")).float()
        # From "above this middle" to "this level": the difference of neighbours.
        ones, zeros = torch.ones_like(stock), torch.zeros_like(stock)
        level = torch.cat([ones, above], dim=1) - torch.cat([above, zeros], dim=1)
        parts = [
            2 * stock / self.stock - 1,
            2 * left / self.periods - 1,
            torch.log((stock + 0.5) / (0.4 * arrivals * left + 0.5)),
            2 * torch.sqrt(stock / self.stock) - 1,
            2 * torch.sqrt(left / self.periods) - 1,
            torch.log(arrivals),
            self.level(x, "attraction") - 2,
            torch.log(self.level(x, "sensitivity")),
            2 * self.level(x, "reaction") - 1,
            level,
        ]
        return torch.cat(parts, dim=1)


class PricingReplenished(_Market):
    """`pricing-replenished`: the stock on several scales, and the market."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.capacity = float(layout.params["capacity"])

    def forward(self, x: Columns) -> Tensor:
        """Features (n, 8)."""
        stock = torch.clamp(x["stock"], min=0.0)
        volume, refill = self.level(x, "volume"), self.level(x, "batch_probability")
        parts = [
            2 * stock / self.capacity - 1,
            2 * torch.sqrt(stock / self.capacity) - 1,
            torch.exp(-stock / 3),
            torch.log((stock + 0.5) / (volume * 3 + 0.5)),
            torch.log(volume) - 1,
            torch.log(self.level(x, "sensitivity")),
            4 * refill - 1,
            10 * self.level(x, "holding_cost"),
        ]
        return torch.cat(parts, dim=1)


class Replacement(_Market):
    """`replacement`: the age against the scale, the hazard, and the costs."""

    def forward(self, x: Columns) -> Tensor:
        """Features (n, 6)."""
        shape, scale = self.level(x, "shape"), self.level(x, "scale")
        age = torch.clamp(x["age"], min=0.0) / scale
        cost = torch.log((self.level(x, "failure_cost") + TINY) / (self.level(x, "replace_cost") + TINY))
        hazard = torch.log((age + 0.5 / scale) ** (shape - 1) * shape / scale + TINY)
        parts = [2 * age - 1, hazard / 3 + 1, (hazard + cost) / 3, cost / 3, torch.log(shape), torch.log(scale) / 3 - 1]
        return torch.cat(parts, dim=1)


class PricingNetwork(_Market):
    """`pricing-network`: what is left of each leg and the time, and what selling each product gives up.

    What it gives up is read from the single-leg values of the decomposition, which are tables of the graph. The last
    columns are the prices that the decomposition would post: the head starts from them (`AnchoredHead`).

    Over ranges the tables are those of the nominal world, and the prices follow each row's own sensitivity.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        world = network_world.PricingNetwork(network_world.NetworkParams(**layout.params))
        self.ladder: NDArray[np.float64] = layout.params["prices"]
        self.legs, self.products = world.params.usage.shape
        self.periods = float(world.params.periods)
        tables = network.decomposition(world).values
        sizes = np.array([table.shape[1] for table in tables])
        starts = np.cumsum([0, *(table.size for table in tables[:-1])])
        self.table("values", np.concatenate([(table - table[-1:, :1]).ravel() for table in tables]))
        self.table("capacity", world.params.capacity[None])
        for name, whole in (("sizes", sizes), ("starts", starts), ("usage", world.params.usage)):
            self.register_buffer(name, torch.tensor(np.asarray(whole, np.int64)), persistent=False)
        demand = (world.params.usage * world.params.volume).sum(axis=1) * world.params.periods / math.e
        self.table("demand", demand[None])
        for name in ("volume", "sensitivity"):
            self.table(name, np.asarray(getattr(world.params, name), np.float64)[None])

    def forward(self, x: Columns) -> Tensor:
        """Features (n, 2 · legs + 4 · products + 1)."""
        capacity = self.get_buffer("capacity")
        left = torch.cat([x[f"capacity[{leg}]"] for leg in range(self.legs)], dim=1)
        left = torch.minimum(torch.clamp(left, min=0.0), capacity)
        period = torch.clamp(x["period"], 0.0, self.periods)
        volume, sensitivity = self._each(x, "volume"), self._each(x, "sensitivity")
        given_up = self._given_up(left, period)
        price = 1.0 / sensitivity + given_up
        to_come = self.get_buffer("demand") * (1 - period / self.periods)
        parts = [
            2 * left / capacity - 1,
            2 * period / self.periods - 1,
            torch.log((left + 0.5) / (to_come + 0.5)),
            given_up * sensitivity - 1,
            torch.log(volume) + 3,
            torch.log(sensitivity),
            price,
        ]
        return torch.cat(parts, dim=1)

    def _each(self, x: Columns, name: str) -> Tensor:
        """A parameter of each product (n, J): its columns, or constants."""
        if f"{name}[0]" in x:
            return torch.cat([x[f"{name}[{j}]"] for j in range(self.products)], dim=1)
        return self.get_buffer(name).expand(x["period"].shape[0], self.products)

    def _given_up(self, left: Tensor, period: Tensor) -> Tensor:
        """Value (n, J) that the legs lose by a sale of each product, after this slot."""
        ahead = torch.clamp(period.long() + 1, max=int(self.periods))
        units = torch.round(left).long()
        start = self.get_buffer("starts") + ahead * self.get_buffer("sizes")
        after = torch.clamp(units[:, :, None] - self.get_buffer("usage"), min=0)
        values = self.get_buffer("values")
        return (values[start + units][:, :, None] - values[start[:, :, None] + after]).sum(dim=1)


class Maintenance(_Market):
    """`maintenance`: every component's level one-hot with its wear, and the costs.

    Where an action is a number of the worst components, they are shown sorted, worst first, with counts and wear sums
    of each level: what the action means then does not depend on which component is which.
    """

    COSTS = ("jump", "setup_cost", "preventive_cost", "corrective_cost", "downtime_cost")

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.levels, self.sorted = int(layout.params["levels"]), layout.params["choice"] == "worst"
        self.components = len(layout.context)
        self.table("grades", np.arange(self.levels))
        self.table("wear", np.asarray(layout.params["wear"], np.float64)[None])

    def forward(self, x: Columns) -> Tensor:
        """Features; (n, components · (levels + 1) + 5) where sets are chosen."""
        level = torch.cat([x[f"levels[{i}]"] for i in range(self.components)], dim=1)
        if "wear[0]" in x:
            wear = torch.cat([x[f"wear[{i}]"] for i in range(self.components)], dim=1)
        else:
            wear = self.get_buffer("wear").expand(level.shape[0], self.components)
        costs = torch.cat([self.level(x, name) for name in self.COSTS], dim=1)
        market = torch.cat([2 * costs[:, :1] - 1, torch.log(costs[:, 1:] + 0.1) - 0.7], dim=1)
        shown = self._worst(level, wear) if self.sorted else self._each(level, wear)
        return torch.cat([shown, market], dim=1)

    def _hot(self, level: Tensor) -> Tensor:
        """One-hot levels (n, components, levels)."""
        return ((level[:, :, None] - self.get_buffer("grades")).abs() < 0.5).float()

    def _each(self, level: Tensor, wear: Tensor) -> Tensor:
        return torch.cat([self._hot(level).flatten(1), torch.log(wear + TINY) + 1.8], dim=1)

    def _worst(self, level: Tensor, wear: Tensor) -> Tensor:
        many = min(WORST, self.components)
        order = torch.topk(level + 0.5 * wear, many, dim=1).indices
        worst, theirs = torch.gather(level, 1, order), torch.gather(wear, 1, order)
        hot = self._hot(level)
        parts = [
            2 * worst / (self.levels - 1) - 1,
            torch.log(theirs + TINY) + 1.8,
            self._hot(worst[:, : min(6, many)]).flatten(1),
            hot.sum(dim=1) / self.components * 2,
            (hot * wear[:, :, None]).sum(dim=1),
        ]
        return torch.cat(parts, dim=1)


class Inventory(_Market):
    """`inventory`: what is on hand and due, and each partial position in standard deviations of its demand."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.names = layout.context
        self.spread = 1.0 if layout.params["demand"] == "poisson" else 0.0

    def forward(self, x: Columns) -> Tensor:
        """Features (n, 2 · lead time + 2)."""
        mean = self.level(x, "mean")
        ratio = torch.log(self.level(x, "penalty_cost") / self.level(x, "holding_cost"))
        amounts = [x[name] for name in self.names]
        parts, position = [ratio - 2.5, torch.log(mean) - 1.6], torch.zeros_like(mean)
        for i, amount in enumerate(amounts):
            position = position + amount
            demand = (i + 1) * mean
            variance = demand if self.spread else demand * (1 + mean)
            parts += [amount / mean - 1, (position - demand) / torch.sqrt(variance) / 2]
        # Far more stock than any sensible policy holds looks like the most of it.
        return torch.clamp(torch.cat(parts, dim=1), -8.0, 8.0)


class Scaled(nn.Module):
    """Every entry of the observation moved and scaled to about −1 to 1, by its bounds."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        low, high = layout.bounds.T
        finite = np.isfinite(low) & np.isfinite(high) & (high > low)
        low, high = np.where(finite, low, -1.0), np.where(finite, high, 1.0)
        centre, half = (low + high) / 2, (high - low) / 2
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float32), persistent=False)
        self.register_buffer("reach", torch.tensor(half, dtype=torch.float32), persistent=False)

    def forward(self, x: Columns) -> Tensor:
        """Features (n, k)."""
        return (torch.cat(list(x.values()), dim=1) - self.get_buffer("centre")) / self.get_buffer("reach")


FEATURES: Mapping[str, Callable[[Layout], nn.Module]] = MappingProxyType(
    {
        "pricing": Pricing,
        "pricing-rival": PricingRival,
        "pricing-replenished": PricingReplenished,
        "pricing-network": PricingNetwork,
        "replacement": Replacement,
        "maintenance": Maintenance,
        "inventory": Inventory,
    }
)


def features(layout: Layout) -> nn.Module:
    """The world's own features, or scaled entries."""
    return FEATURES.get(layout.world, Scaled)(layout)
