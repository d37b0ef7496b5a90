"""What a logged transition says about the parameters of its world: likelihoods, censored where sales were.

A transition is first reduced to evidence: short rows of numbers that hold all it can say, with few different values, so
that a million transitions are a table of counts. Rows are independent given the parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammainc, gammaln, xlog1py, xlogy  # type: ignore[import-untyped]

from envs.conditioning import columns_of
from envs.dynamics import Action, Array, Fields, World
from envs.inventory import Inventory
from envs.maintenance import Maintenance
from envs.pricing import Pricing
from envs.pricing_network import PricingNetwork
from envs.pricing_replenished import PricingReplenished
from envs.pricing_rival import PricingRival
from envs.replacement import REPLACE, Replacement

Evidence = Callable[[NDArray[Any], Action, Fields], Array]
LogLik = Callable[[Mapping[str, Array], Array], Array]

NOTHING = -1.0
"""First number of a row that says nothing."""

DISPERSION = "dispersion"
"""Variance of demand over its mean, 1 for Poisson: an extra column where demand is counted."""

_TINY = 1e-300
_POISSON = 1.0 + 1e-6


@dataclass(frozen=True, eq=False)
class Likelihood:
    """The likelihood of a world's transitions as a function of some of its parameters.

    Args:
        world: everything that is not a column is known from it.
        columns: names of the parameters, lists spread over their entries.
        nominal: (d,) their values in the world.
        positive: (d,) whether a column is above 0 without limit; otherwise it is a probability, or any number.
        probability: (d,) whether a column lies in 0 to 1.
        advice: what to try where the data cannot tell a column, by parameter.
        factors: columns in groups of which each can be told by itself: the log-likelihood is a sum over the groups.
            Empty: all columns together.
    """

    world: World
    columns: tuple[str, ...]
    nominal: Array
    positive: NDArray[np.bool_]
    probability: NDArray[np.bool_]
    advice: Mapping[str, str]
    _evidence: Evidence
    _loglik: LogLik
    factors: tuple[tuple[str, ...], ...] = ()

    def unbounded(self, values: Array) -> Array:
        """Logs of positive parameters, logits of probabilities, the others as they are: (..., d) without limits."""
        inside = np.clip(values, 1e-6, 1.0 - 1e-6)
        logit = np.log(inside) - np.log1p(-inside)
        return np.where(self.probability, logit, np.where(self.positive, np.log(np.maximum(values, 1e-9)), values))

    def physical(self, points: Array) -> Array:
        """The inverse of `unbounded`; limits keep the likelihood from overflowing."""
        limited = np.clip(points, -40.0, 40.0)
        logistic = 1.0 / (1.0 + np.exp(-limited))
        return np.where(self.probability, logistic, np.where(self.positive, np.exp(limited), points))

    def slope(self, values: Array) -> Array:
        """Derivative of parameters (d,) by their unbounded form."""
        return np.where(self.probability, values * (1 - values), np.where(self.positive, values, 1.0))

    def evidence(self, observation: NDArray[Any], action: Action, fields: Fields) -> Array:
        """Rows (n, r, c) of transitions: observations (n, k), actions (n,), fields (n,) each.

        Rows that say nothing begin with -1.
        """
        return self._evidence(np.asarray(observation, np.float64), np.asarray(action), fields)

    def loglik(self, values: Array, rows: Array) -> Array:
        """Log-likelihood (m, q) of rows (q, c) under m parameter vectors (m, d); 0 for rows that say nothing."""
        named = {name: values[:, j, None] for j, name in enumerate(self.columns)}
        known = {name: np.array([[value]]) for name, value in _nominal(self.world).items() if name not in named}
        # A parameter that is next to impossible is very unlikely, never -inf or nan.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = np.nan_to_num(self._loglik(known | named, rows), nan=-1e6, neginf=-1e6, posinf=0.0)
        result: Array = np.where(rows[:, 0] == NOTHING, 0.0, found)
        return result

    def transition(self, values: Array, observation: NDArray[Any], action: Action, fields: Fields) -> Array:
        """Log-likelihood (m, n) of n transitions under m parameter vectors (m, d)."""
        rows = self.evidence(observation, action, fields)
        n, r, c = rows.shape
        each = self.loglik(values, rows.reshape(n * r, c)).reshape(len(values), n, r)
        return np.asarray(each.sum(axis=2), np.float64)


def likelihood(world: World, names: tuple[str, ...] | None = None) -> Likelihood:
    """The likelihood of a world as a function of `names`, by default of all that its transitions can tell.

    A world of one's own offers a method `likelihood(names)`.

    Raises:
        ValueError: a parameter that transitions say nothing about, or a world without a likelihood.
    """
    own = getattr(world, "likelihood", None)
    if own is not None:
        found: Likelihood = own(names)
        return found
    makers = [maker for kind, maker in _MAKERS.items() if isinstance(world, kind)]
    if not makers:
        raise ValueError(f"{world.id} has no likelihood: give it a method `likelihood(names)`")
    told, advice, evidence, loglik = makers[0](world)
    chosen = told if names is None else names
    extra = (DISPERSION,) if isinstance(world, _COUNTED) else ()
    if unknown := [name for name in chosen if name not in (*told, *extra)]:
        raise ValueError(f"transitions of {world.id} do not tell {unknown[0]!r}: give any of {', '.join(told)}")
    columns = tuple(
        column for name in chosen for column in ((name,) if name == DISPERSION else columns_of(world, name))
    )
    nominal = np.array([_nominal(world)[column] for column in columns])
    chances = np.array([name.split("[")[0] in _probabilities(world) for name in columns])
    free = np.array([name in _UNBOUNDED for name in columns])
    factors = _factors(world, columns)
    return Likelihood(world, columns, nominal, ~chances & ~free, chances, advice, evidence, loglik, factors)


_UNBOUNDED = ("attraction",)
_ALONE = ("batch_probability", "reaction", "wear", "jump")


def _factors(world: World, columns: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """What shares no row, or enters it as a term of its own: components, products, deliveries, the rival's moves."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        name, _, place = column.partition("[")
        own = column if name in _ALONE else place if isinstance(world, PricingNetwork) else ""
        groups.setdefault(own, []).append(column)
    return tuple(tuple(group) for group in groups.values())


def dispersed(world: World) -> bool:
    """Whether the likelihood knows a dispersion of demand."""
    return isinstance(world, _COUNTED) and getattr(world.params, "demand", "poisson") == "poisson"


def _probabilities(world: World) -> tuple[str, ...]:
    own = ("volume",) if isinstance(world, PricingNetwork) else ()
    return ("batch_probability", "reaction", "wear", "jump", *own)


def _nominal(world: World) -> dict[str, float]:
    """Each column's value in the world; of a profile its mean."""
    found = {DISPERSION: 1.0}
    for name, width in world.tunable.items():
        value = np.asarray(getattr(world.params, name), np.float64)
        entries = [float(value.mean())] if width == 1 else value.ravel().tolist()
        found.update(zip(columns_of(world, name), entries, strict=True))
    return found


def counted(count: Array, censored: Array, rate: Array, dispersion: Array) -> Array:
    """Log-likelihood of a count, or of at least that count where it is censored; Poisson or negative binomial.

    With dispersion f > 1 the variance is f times the mean: a negative binomial with rate / (f - 1) failures.
    """
    rates, spreads = np.broadcast_arrays(rate, dispersion)
    shape = np.broadcast_shapes(rates.shape, count.shape)
    found = np.empty(shape)
    # Tails cost far more than single terms, and most demand is Poisson: each is computed only where it is wanted.
    for columns, law in ((censored <= 0, _exactly), (censored > 0, _at_least)):
        if columns.any():
            wide = np.broadcast_to(rates, shape)[:, columns], np.broadcast_to(spreads, shape)[:, columns]
            found[:, columns] = law(count[columns], *wide)
    return found


def _exactly(count: Array, rate: Array, dispersion: Array) -> Array:
    """log P(D = count)."""
    plain = xlogy(count, rate) - rate - gammaln(count + 1.0)
    if (dispersion < _POISSON).all():
        return np.asarray(plain, np.float64)
    size, share = _negative_binomial(rate, dispersion)
    wide = gammaln(count + size) - gammaln(size) - gammaln(count + 1.0) + size * np.log1p(-share) + xlogy(count, share)
    return np.asarray(np.where(dispersion < _POISSON, plain, wide), np.float64)


def _at_least(count: Array, rate: Array, dispersion: Array) -> Array:
    """log P(D >= count); far out the first term, which is nearly all of the tail there, keeps the digits."""
    least = np.maximum(count, 0.5)
    plain = np.log(np.maximum(gammainc(least, rate), _TINY))
    if (plain < -600.0).any():
        plain = np.where(plain < -600.0, xlogy(count, rate) - rate - gammaln(count + 1.0), plain)
    if (dispersion < _POISSON).all():
        return np.asarray(plain, np.float64)
    size, share = _negative_binomial(rate, dispersion)
    wide = np.log(np.maximum(betainc(least, size, share), _TINY))
    return np.asarray(np.where(dispersion < _POISSON, plain, wide), np.float64)


def _negative_binomial(rate: Array, dispersion: Array) -> tuple[Array, Array]:
    spread = np.maximum(dispersion - 1.0, 1e-9)
    return rate / spread, spread / (1.0 + spread)


def _either(happened: Array, chance: Array) -> Array:
    return np.asarray(xlogy(happened, chance) + xlog1py(1.0 - happened, -chance), np.float64)


def _sales(sold: NDArray[Any], stock: Array, *keys: Array) -> Array:
    """Rows (n, 1, c): keys, sold, censored; nothing is learnt from an empty shelf."""
    sold = np.asarray(sold, np.float64)
    rows = np.stack([*np.broadcast_arrays(*keys, sold), (sold >= stock).astype(np.float64)], axis=1)
    rows[stock <= 0] = NOTHING
    return rows[:, None, :]


_PRICES_ADVICE = "let prices differ, at least two of them, some of the time"
Maker = Callable[[Any], tuple[tuple[str, ...], Mapping[str, str], Evidence, LogLik]]


def _pricing(world: Pricing) -> tuple[tuple[str, ...], Mapping[str, str], Evidence, LogLik]:
    p = world.params
    shapes = [np.atleast_1d(np.asarray(v, np.float64) / np.mean(v)) for v in (p.volume, p.sensitivity)]

    def evidence(seen: NDArray[Any], action: Action, fields: Fields) -> Array:
        period = np.zeros(len(seen)) if world.stationary else np.minimum(seen[:, 1], p.periods - 1)
        return _sales(fields["sold"], seen[:, 0], period, np.asarray(action, np.float64))

    def loglik(values: Mapping[str, Array], rows: Array) -> Array:
        period = np.maximum(rows[:, 0], 0).astype(int)
        price = world.price(np.maximum(rows[:, 1], 0).astype(int) if p.prices is not None else rows[:, 1])
        volume, sensitivity = (shape[np.minimum(period, len(shape) - 1)] for shape in shapes)
        rate = values["volume"] * volume * np.exp(-values["sensitivity"] * sensitivity * price)
        return counted(rows[:, 2], rows[:, 3], rate, values[DISPERSION])

    advice = {
        "volume": f"{_PRICES_ADVICE}, and offer low ones while there is stock",
        "sensitivity": _PRICES_ADVICE,
    }
    return ("volume", "sensitivity"), advice, evidence, loglik


def _replenished(world: PricingReplenished) -> tuple[tuple[str, ...], Mapping[str, str], Evidence, LogLik]:
    def evidence(seen: NDArray[Any], action: Action, fields: Fields) -> Array:
        kind = np.zeros(len(seen))
        sales = _sales(fields["sold"], seen[:, 0], kind, np.asarray(action, np.float64))
        arrived = (np.asarray(fields["arrived"], np.float64) > 0).astype(np.float64)
        delivery = np.stack([kind + 1.0, kind, arrived, kind], axis=1)[:, None, :]
        return np.concatenate([sales, delivery], axis=1)

    def loglik(values: Mapping[str, Array], rows: Array) -> Array:
        price = world.params.prices[np.maximum(rows[:, 1], 0).astype(int)]
        rate = values["volume"] * np.exp(-values["sensitivity"] * price)
        sales = counted(rows[:, 2], rows[:, 3], rate, values[DISPERSION])
        return np.where(rows[:, 0] == 0, sales, _either(np.minimum(rows[:, 2], 1.0), values["batch_probability"]))

    advice = {"volume": _PRICES_ADVICE, "sensitivity": _PRICES_ADVICE, "batch_probability": "log deliveries as well"}
    return ("volume", "sensitivity", "batch_probability"), advice, evidence, loglik


def _rival(world: PricingRival) -> tuple[tuple[str, ...], Mapping[str, str], Evidence, LogLik]:
    p = world.params

    def evidence(seen: NDArray[Any], action: Action, fields: Fields) -> Array:
        rival = world.state_of(seen)[:, 2]
        sales = _sales(fields["sold"], seen[:, 0], np.zeros(len(seen)), np.asarray(action, np.float64), rival)
        after = world.state_of(np.column_stack([seen[:, :2], np.asarray(fields["rival_price"], np.float64)]))[:, 2]
        move = np.zeros_like(sales)
        move[:, 0, 0] = np.where(world.target[action] == rival, NOTHING, 1.0)
        move[:, 0, 1] = after != rival
        return np.concatenate([sales, move], axis=1)

    def loglik(values: Mapping[str, Array], rows: Array) -> Array:
        sale = rows[:, 0] == 0
        price = p.prices[np.where(sale, rows[:, 1], 0).astype(int)]
        rival = p.rival_prices[np.where(sale, rows[:, 2], 0).astype(int)]
        u, b = values["attraction"], values["sensitivity"]
        ours, theirs = np.exp(u - b * price), np.exp(u - b * rival)
        rate = values["arrivals"] * ours / (1.0 + ours + theirs)
        sales = counted(rows[:, 3], rows[:, 4], rate, values[DISPERSION])
        return np.where(sale, sales, _either(np.clip(rows[:, 1], 0.0, 1.0), values["reaction"]))

    advice = dict.fromkeys(("arrivals", "attraction", "sensitivity"), f"{_PRICES_ADVICE}, over the whole ladder")
    advice["reaction"] = "change the price, so that the rival has something to react to"
    return ("arrivals", "attraction", "sensitivity", "reaction"), advice, evidence, loglik


def _network(world: PricingNetwork) -> tuple[tuple[str, ...], Mapping[str, str], Evidence, LogLik]:
    """Each product by itself: whether it was sold is Bernoulli with its own chance, whatever the others cost."""
    products = world.params.products

    def evidence(seen: NDArray[Any], action: Action, fields: Fields) -> Array:
        sold = np.stack([np.asarray(fields[field.name], np.float64) for field in world.outcomes], axis=1)
        which = np.broadcast_to(np.arange(float(products)), sold.shape)
        open_ = world.available(seen[:, : len(world.context) - 1])
        return np.stack([np.where(open_, which, NOTHING), np.asarray(action, np.float64), sold], axis=2)

    def loglik(values: Mapping[str, Array], rows: Array) -> Array:
        j = np.maximum(rows[:, 0], 0).astype(int)
        price = world.price(rows[:, 1].astype(int) if world.params.prices is not None else rows[:, 1])
        volume, sensitivity = (
            np.concatenate(np.broadcast_arrays(*[values[f"{name}[{i}]"] for i in range(products)]), axis=1)[:, j]
            for name in ("volume", "sensitivity")
        )
        return _either(rows[:, 2], volume * np.exp(-sensitivity * price))

    advice = {"volume": _PRICES_ADVICE, "sensitivity": _PRICES_ADVICE}
    return ("volume", "sensitivity"), advice, evidence, loglik


def _replacement(world: Replacement) -> tuple[tuple[str, ...], Mapping[str, str], Evidence, LogLik]:
    del world

    def evidence(seen: NDArray[Any], action: Action, fields: Fields) -> Array:
        age = np.where(np.asarray(action) == REPLACE, 0.0, seen[:, 0])
        return np.stack([age, np.asarray(fields["failed"], np.float64)], axis=1)[:, None, :]

    def loglik(values: Mapping[str, Array], rows: Array) -> Array:
        age, scale, shape = np.maximum(rows[:, 0], 0.0), values["scale"], values["shape"]
        hazard = ((age + 1.0) / scale) ** shape - (age / scale) ** shape
        return np.where(rows[:, 1] > 0, np.log(-np.expm1(-hazard)), -hazard)

    advice = {"shape": "let some units grow old before they are replaced", "scale": "let some units fail"}
    return ("shape", "scale"), advice, evidence, loglik


def _maintenance(world: Maintenance) -> tuple[tuple[str, ...], Mapping[str, str], Evidence, LogLik]:
    n, top = world.params.components, world.params.levels - 1

    def evidence(seen: NDArray[Any], action: Action, fields: Fields) -> Array:
        state = world.state_of(seen)
        after = np.stack([np.asarray(fields[field.name], np.float64) for field in world.outcomes], axis=1)
        before = np.where(world.members(state, action), 0.0, state)
        which = np.where(before >= top, NOTHING, np.arange(float(n)))
        # One level below failure both kinds of moves look alike.
        return np.stack([which, after - before, (before == top - 1).astype(np.float64)], axis=2)

    def loglik(values: Mapping[str, Array], rows: Array) -> Array:
        wears = np.concatenate(np.broadcast_arrays(*[values[f"wear[{i}]"] for i in range(n)]), axis=1)
        wear = wears[:, np.maximum(rows[:, 0], 0).astype(int)]
        moved = _either(np.minimum(np.maximum(rows[:, 1], 0.0), 1.0), wear)
        told = (rows[:, 1] > 0) & (rows[:, 2] == 0)
        return moved + np.where(told, _either(np.clip(rows[:, 1] - 1.0, 0.0, 1.0), values["jump"]), 0.0)

    advice = {"wear": "leave the component alone for a while", "jump": "let components reach middle levels"}
    return ("wear", "jump"), advice, evidence, loglik


def _inventory(world: Inventory) -> tuple[tuple[str, ...], Mapping[str, str], Evidence, LogLik]:
    geometric = world.params.demand == "geometric"

    def evidence(seen: NDArray[Any], action: Action, fields: Fields) -> Array:
        del action
        sold, on_hand = np.asarray(fields["sold"], np.float64), seen[:, 0]
        if "lost" in fields:
            return _sales(sold + np.asarray(fields["lost"]), np.full(len(seen), np.inf), np.zeros(len(seen)))
        return _sales(sold, on_hand, np.zeros(len(seen)))

    def loglik(values: Mapping[str, Array], rows: Array) -> Array:
        mean, count = values["mean"], np.maximum(rows[:, 1], 0.0)
        if geometric:
            reach = count * (np.log(mean) - np.log1p(mean))
            return np.asarray(np.where(rows[:, 2] > 0, reach, reach - np.log1p(mean)), np.float64)
        return counted(count, rows[:, 2], np.broadcast_to(mean, (len(mean), 1)), values[DISPERSION])

    return ("mean",), {"mean": "keep enough stock that demand shows"}, evidence, loglik


_COUNTED = (Pricing, PricingReplenished, PricingRival, Inventory)
_MAKERS: Mapping[type, Maker] = {
    Pricing: _pricing,
    PricingReplenished: _replenished,
    PricingRival: _rival,
    PricingNetwork: _network,
    Replacement: _replacement,
    Maintenance: _maintenance,
    Inventory: _inventory,
}
