"""The worlds by name, and how parameters that people write become a world."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.dynamics import Array, Field, ParamsError, World
from envs.inventory import Inventory, InventoryParams, room
from envs.maintenance import Maintenance, MaintenanceParams
from envs.parsing import Ranges, checked_ranges, read
from envs.pricing import Pricing, PricingParams
from envs.pricing_network import NetworkParams, PricingNetwork
from envs.pricing_replenished import PricingReplenished, ReplenishedParams
from envs.pricing_rival import PricingRival, RivalParams
from envs.replacement import Replacement, ReplacementParams

__all__ = ["WORLDS", "ParamsError", "Ranges", "WorldKind", "make"]

LADDER_LEVELS = 41


@dataclass(frozen=True)
class WorldKind:
    """A world before it has parameters.

    Args:
        id: its name in the CLI, the manifest and over HTTP.
        doc: what it is about, in one line.
        parameters: what can be given, with units and ranges.
        defaults: what holds where nothing is given; `None` for what is derived from the others.
        timing: the order of events in one period.
        source: where it comes from.
        build: makes the world of parameters that have been read and checked.
    """

    id: str
    doc: str
    parameters: tuple[Field, ...]
    defaults: Mapping[str, Any]
    timing: str
    source: str
    build: Callable[[dict[str, Any], Ranges], World]


def make(name: str, params: Mapping[str, Any] | None = None, ranges: Ranges | None = None) -> World:
    """The world `name` under the given parameters, the kind's defaults for the rest.

    Args:
        name: one of `WORLDS`.
        params: numbers, lists (`[1, 2]`, `"0.5:4.25:0.25"` with both ends, `{"geometric": [low, high, n]}`), or `"any"`
            for prices without a ladder; text is understood as the CLI writes it.
        ranges: where parameters will vary; what is fixed once for all (a default price ladder) covers these too.

    Raises:
        ParamsError: an unknown world or field, or a value that makes no world.

    >>> make("pricing", {"stock": 5, "prices": "0.5:1.5:0.5"}).actions.values.tolist()
    [0.5, 1.0, 1.5]
    """
    if name not in WORLDS:
        raise ParamsError(f"there is no world {name!r}: give one of {', '.join(WORLDS)}")
    kind = WORLDS[name]
    fields = {field.name: field for field in kind.parameters}
    given = dict(params or {})
    for field in given:
        if field not in fields:
            raise ParamsError(f"{name} has no parameter {field!r}: give any of {', '.join(fields)}")
    values = {
        field: read(fields[field], given[field]) if given.get(field) is not None else default
        for field, default in kind.defaults.items()
    }
    return kind.build(values, checked_ranges(fields, ranges or {}))


def default_ladder(sensitivity: Any, ranges: Ranges) -> Array:
    """41 geometric prices from half the smallest to twice the largest myopic price 1/sensitivity, ranges included."""
    known = np.ravel(np.asarray(sensitivity, np.float64))
    every = np.concatenate([known, np.asarray(ranges.get("sensitivity", ()), np.float64)])
    return np.geomspace(0.5 / every.max(), 2.0 / every.min(), LADDER_LEVELS)


def _ladder_or_default(values: Mapping[str, Any], ranges: Ranges) -> Array | None:
    prices = values["prices"]
    if prices is None:
        return default_ladder(values["sensitivity"], ranges)
    return None if isinstance(prices, str) else np.asarray(prices)


def _ladder(world: str, values: Mapping[str, Any], ranges: Ranges) -> Array:
    prices = _ladder_or_default(values, ranges)
    if prices is None:
        raise ParamsError(f"prices of {world} must be a ladder: any price is for pricing and pricing-network only")
    return prices


def _pricing(values: dict[str, Any], ranges: Ranges) -> World:
    return Pricing(PricingParams(**values | {"prices": _ladder_or_default(values, ranges)}))


def _replenished(values: dict[str, Any], ranges: Ranges) -> World:
    return PricingReplenished(ReplenishedParams(**values | {"prices": _ladder("pricing-replenished", values, ranges)}))


def _rival(values: dict[str, Any], ranges: Ranges) -> World:
    levels = values["rival_prices"]
    if levels is None or isinstance(levels, str):
        raise ParamsError(f"rival_prices is {levels!r}: give the rival's price levels")
    prices = _ladder("pricing-rival", values, ranges)
    return PricingRival(RivalParams(**values | {"prices": prices, "rival_prices": np.asarray(levels)}))


def _network(values: dict[str, Any], ranges: Ranges) -> World:
    usage = np.atleast_2d(np.asarray(values["usage"], np.float64))
    legs, products = usage.shape
    lists = {name: _each(values[name], products) for name in ("volume", "sensitivity")}
    capacity = _each(values["capacity"], legs).astype(np.int64)
    prices = _ladder_or_default(values, ranges)
    return PricingNetwork(NetworkParams(**values | lists | {"usage": usage, "capacity": capacity, "prices": prices}))


def _each(value: Any, size: int) -> Array:
    """One number for all, or a list as it is."""
    return np.full(size, float(value)) if np.ndim(value) == 0 else np.asarray(value, np.float64)


def _replacement(values: dict[str, Any], ranges: Ranges) -> World:  # noqa: ARG001
    return Replacement(ReplacementParams(**values))


def _maintenance(values: dict[str, Any], ranges: Ranges) -> World:  # noqa: ARG001
    return Maintenance(MaintenanceParams(**values | {"wear": np.atleast_1d(np.asarray(values["wear"], np.float64))}))


def _inventory(values: dict[str, Any], ranges: Ranges) -> World:
    """Orders and shelf that follow from the other parameters cover the ranges as well."""
    high = {name: ranges[name][1] for name in ("mean", "penalty_cost") if name in ranges}
    widest = InventoryParams(**{**values, "max_order": 0, "capacity": 1, **high})
    most = widest.newsvendor(1) if values["max_order"] is None else values["max_order"]
    shelf = room(InventoryParams(**{**values, "max_order": most, "capacity": 1, **high}))
    capacity = shelf if values["capacity"] is None else values["capacity"]
    return Inventory(InventoryParams(**values | {"max_order": most, "capacity": capacity}))


_ANY = np.inf
_STOCK = Field("stock", "items", 1, 100_000, "items to sell", whole=True)
_PERIODS = Field("periods", "periods", 1, 100_000, "periods of the season", whole=True)
_VOLUME = Field("volume", "arrivals/period", 1e-9, 1e6, "expected arrivals at price 0")
_SENSITIVITY = Field("sensitivity", "1/money", 1e-6, 1e6, "decay of demand with price")
_LADDER = "a:b:step (b included), [..] or {geometric = [low, high, n]}"
_PRICES = Field("prices", "money", 0.0, _ANY, f"price ladder: {_LADDER}; any = no ladder, where noted")


def _money(name: str, doc: str) -> Field:
    return Field(name, "money", 0.0, 1e9, doc)


def _chance(name: str, doc: str) -> Field:
    return Field(name, "", 0.0, 1.0, doc)


_KINDS = (
    WorldKind(
        "pricing",
        "sell a finite stock before the season ends, one price per period",
        (
            _STOCK,
            _PERIODS,
            Field(
                "volume", "arrivals/period", 1e-9, 1e6, "expected arrivals at price 0: one number, or one per period"
            ),
            Field("sensitivity", "1/money", 1e-6, 1e6, "decay of demand with price: one number, or one per period"),
            Field("prices", "money", 0.0, _ANY, f"price ladder: {_LADDER}; or any, for evaluation"),
        ),
        {"stock": 20, "periods": 50, "volume": float(np.e), "sensitivity": 1.0, "prices": None},
        "see stock and period, post a price, sell min(Poisson(volume exp(-sensitivity price)), stock)",
        "Gallego and van Ryzin (1994), Management Science 40(8)",
        _pricing,
    ),
    WorldKind(
        "pricing-replenished",
        "sell from a shelf that is refilled by chance, for ever",
        (
            Field("capacity", "items", 1, 10_000, "most items in stock", whole=True),
            _VOLUME,
            _SENSITIVITY,
            Field("batch", "items", 1, 10_000, "items in a delivery", whole=True),
            _chance("batch_probability", "chance of a delivery in a period"),
            _money("holding_cost", "cost of an item left, per period"),
            _PRICES,
        ),
        {
            "capacity": 20,
            "volume": 0.8 * float(np.e),
            "sensitivity": 1.0,
            "batch": 5,
            "batch_probability": 0.2,
            "holding_cost": 0.02,
            "prices": None,
        },
        "see stock, post a price, sell, pay holding on what is left, receive a batch with its probability",
        "Gallego and van Ryzin (1994) with replenishment",
        _replenished,
    ),
    WorldKind(
        "pricing-rival",
        "sell a finite stock beside a rival who undercuts",
        (
            _STOCK,
            _PERIODS,
            Field("arrivals", "customers/period", 1e-9, 1e6, "expected customers"),
            Field("attraction", "", -50.0, 50.0, "utility of either product at price 0"),
            Field("sensitivity", "1/money", 1e-6, 1e6, "loss of utility with price"),
            Field("rival_prices", "money", 0.0, _ANY, f"the rival's price levels: {_LADDER}"),
            Field("rival_start", "money", 0.0, 1e9, "the rival's first price, one of its levels"),
            _chance("reaction", "chance that the rival reacts in a period"),
            _PRICES,
        ),
        {
            "stock": 30,
            "periods": 60,
            "arrivals": 1.5,
            "attraction": 2.0,
            "sensitivity": 2.0,
            "rival_prices": np.array([0.8, 1.0, 1.2, 1.4, 1.6, 1.8]),
            "rival_start": 1.4,
            "reaction": 0.25,
            "prices": np.round(np.arange(0.7, 2.25, 0.1), 12),
        },
        "see stock, period and rival price, post a price, sell, then the rival may jump just below it",
        "multinomial-logit competition, Talluri and van Ryzin (2004), section 7.3",
        _rival,
    ),
    WorldKind(
        "pricing-network",
        "sell products that share legs, one price per product and slot",
        (
            Field("usage", "units", 0, 1_000, "units that each product (column) takes of each leg (row)", whole=True),
            Field("capacity", "units", 1, 10_000, "units of each leg: one number, or one per leg", whole=True),
            Field("periods", "slots", 1, 100_000, "slots of the season", whole=True),
            Field(
                "volume", "", 1e-9, 1.0, "chance that a product is asked for at price 0: one number, or one per product"
            ),
            Field("sensitivity", "1/money", 1e-6, 1e6, "its decay with price: one number, or one per product"),
            Field("prices", "money", 0.0, _ANY, f"price ladder of all products: {_LADDER}; or any, for evaluation"),
        ),
        {
            "usage": np.array([[1, 0, 1], [0, 1, 1]]),
            "capacity": np.array([8, 8]),
            "periods": 60,
            "volume": np.array([0.3, 0.3, 0.3]),
            "sensitivity": np.array([1.0, 1.0, 0.6]),
            "prices": None,
        },
        "see what is left of each leg, post a price per product, at most one customer comes and buys",
        "Gallego and van Ryzin (1997), Operations Research 45(1)",
        _network,
    ),
    WorldKind(
        "replacement",
        "keep or replace one unit that ages",
        (
            Field("shape", "", 0.05, 50.0, "Weibull shape, above 1 for wear"),
            Field("scale", "periods", 1e-3, 1e6, "Weibull scale"),
            _money("replace_cost", "cost of a planned replacement"),
            _money("failure_cost", "cost of a failure, new unit included"),
            Field("max_age", "periods", 1, 100_000, "age at which a unit must be replaced", whole=True),
        ),
        {"shape": 3.0, "scale": 20.0, "replace_cost": 1.0, "failure_cost": 10.0, "max_age": 40},
        "see the age, keep or replace, run the period; a failed unit is new at the next epoch",
        "Barlow and Hunter (1960), Operations Research 8(1)",
        _replacement,
    ),
    WorldKind(
        "maintenance",
        "choose which wearing components to service, sharing a set-up",
        (
            Field("levels", "", 2, 100, "condition levels, the last one failed", whole=True),
            Field("wear", "", 0.0, 1.0, "chance that a component moves in a period, one per component"),
            _chance("jump", "chance that a move is by two levels"),
            Field("crews", "components", 1, 100, "most components serviced in a period", whole=True),
            _money("setup_cost", "cost of a period in which anything is serviced"),
            _money("preventive_cost", "cost of servicing a working component"),
            _money("corrective_cost", "cost of servicing a failed component"),
            _money("downtime_cost", "cost of leaving a failed component, per period"),
            Field("choice", "", 0, 0, "sets = any set of components, worst = how many of the worst"),
        ),
        {
            "levels": 5,
            "wear": np.array([0.10, 0.15, 0.20, 0.25]),
            "jump": 0.2,
            "crews": 2,
            "setup_cost": 2.0,
            "preventive_cost": 1.0,
            "corrective_cost": 4.0,
            "downtime_cost": 5.0,
            "choice": "sets",
        },
        "see the levels, service a set, pay, then every component may move by one or two levels",
        "economic dependence, Dekker, Wildeman and van der Duyn Schouten (1997)",
        _maintenance,
    ),
    WorldKind(
        "inventory",
        "order one product whose unmet demand is lost, with a lead time",
        (
            Field("demand", "", 0, 0, "poisson, or geometric"),
            Field("mean", "items/period", 0.05, 1e4, "expected demand"),
            Field("lead_time", "periods", 1, 12, "periods from order to arrival", whole=True),
            Field("holding_cost", "money", 1e-9, 1e9, "cost of an item left, per period"),
            Field("penalty_cost", "money", 1e-9, 1e9, "cost of an item of demand lost"),
            Field(
                "max_order",
                "items",
                0,
                10_000,
                "largest order; by default the newsvendor level of a period",
                whole=True,
            ),
            Field(
                "capacity", "items", 1, 100_000, "most items on hand; by default more than is ever wanted", whole=True
            ),
        ),
        {
            "demand": "poisson",
            "mean": 5.0,
            "lead_time": 4,
            "holding_cost": 1.0,
            "penalty_cost": 19.0,
            "max_order": None,
            "capacity": None,
        },
        "see stock and pipeline, order, meet demand, pay, receive what is due",
        "Zipkin (2008), Operations Research 56(5)",
        _inventory,
    ),
)

WORLDS: Mapping[str, WorldKind] = {kind.id: kind for kind in _KINDS}
