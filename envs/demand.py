"""Discrete demand by inverse CDF, and what can be sold of it: Poisson and geometric on {0, 1, ...}."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc, gammaln, pdtr, pdtrik  # type: ignore[import-untyped]

Array = NDArray[np.float64]

# Above this mean the recursion takes more steps than the incomplete gamma function costs.
RECURSION_LIMIT = 60.0
# Parts of a guide table; 128 keep the tables of 41 prices in the processor's cache.
PARTS = 128
# What lies beyond this probability cannot be told from 0 by a uniform with 53 bits.
NEGLIGIBLE = 2.0**-60


def poisson_quantile(u: Array, rate: ArrayLike) -> Array:
    """Poisson demand (n,) at uniforms (n,) in [0, 1): the smallest d with P(D <= d) > u. Rates (n,) or one number.

    >>> poisson_quantile(np.array([0.0, 0.36, 0.37, 0.999]), 1.0)
    array([0., 0., 1., 5.])
    """
    rates = np.broadcast_to(np.asarray(rate, np.float64), u.shape)
    if rates.size and rates.max() > RECURSION_LIMIT:
        return np.where(rates > RECURSION_LIMIT, _by_gamma(u, rates), _by_recursion(u, np.minimum(rates, 60.0)))
    return _by_recursion(u, rates)


def _by_recursion(u: Array, rate: Array) -> Array:
    term = np.exp(-rate)
    cumulative = term.copy()
    demand = np.zeros(u.shape)
    count = 0
    above = u >= cumulative
    while above.any():
        demand += above
        count += 1
        term = term * (rate / count)
        cumulative = cumulative + term
        # Rounding can leave the sum just below u for ever; beyond the mean a negligible term ends the row.
        above &= (u >= cumulative) & ((term > NEGLIGIBLE) | (count < rate))
    return demand


def _by_gamma(u: Array, rate: Array) -> Array:
    guess = np.ceil(pdtrik(np.clip(u, 1e-300, 1.0), np.maximum(rate, 1e-9)))
    guess = np.maximum(guess, 0.0)
    guess = np.where(pdtr(guess, rate) <= u, guess + 1.0, guess)
    lower = np.maximum(guess - 1.0, 0.0)
    return np.asarray(np.where(pdtr(lower, rate) > u, lower, guess), np.float64)


def poisson_pmf(count: ArrayLike, rate: ArrayLike) -> Array:
    """P(D = count) of a Poisson demand, elementwise; a rate of 0 puts everything on 0."""
    k, lam = np.broadcast_arrays(np.asarray(count, np.float64), np.asarray(rate, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.where(k > 0, k * np.log(lam), 0.0) - lam - gammaln(k + 1.0)
    return np.asarray(np.exp(log))


def poisson_cdf(count: ArrayLike, rate: ArrayLike) -> Array:
    """P(D <= count), 0 for a negative count."""
    k = np.asarray(count, np.float64)
    return np.asarray(np.where(k < 0, 0.0, pdtr(np.maximum(k, 0.0), rate)), np.float64)


def poisson_reach(count: ArrayLike, rate: ArrayLike) -> Array:
    """P(D >= count), with all its digits far out in the tail."""
    k = np.asarray(count, np.float64)
    return np.asarray(np.where(k <= 0, 1.0, gammainc(np.maximum(k, 0.5), rate)), np.float64)


def poisson_expected_min(rate: ArrayLike, cap: ArrayLike) -> Array:
    """E[min(D, cap)] of a Poisson demand: rate · P(D <= cap - 2) + cap · P(D >= cap)."""
    lam, m = np.asarray(rate, np.float64), np.asarray(cap, np.float64)
    return np.asarray(lam * poisson_cdf(m - 2.0, lam) + m * (1.0 - poisson_cdf(m - 1.0, lam)))


def poisson_support(rate: float) -> int:
    """Smallest d with P(D > d) below 2^-60, roughly: where a table of the distribution may stop."""
    spread = rate + 9.5 * np.sqrt(rate) + 30.0
    return int(np.ceil(spread))


def geometric_quantile(u: Array, mean: ArrayLike) -> Array:
    """Geometric demand on {0, 1, ...} with that mean at uniforms (n,): P(D > d) = (mean / (1 + mean))^(d + 1)."""
    decay = np.asarray(mean, np.float64) / (1.0 + np.asarray(mean, np.float64))
    return np.asarray(np.floor(np.log1p(-u) / np.log(decay)))


def geometric_pmf(count: ArrayLike, mean: ArrayLike) -> Array:
    """P(D = count) = (1 / (1 + mean)) · (mean / (1 + mean))^count."""
    mu = np.asarray(mean, np.float64)
    return np.asarray((mu / (1.0 + mu)) ** np.asarray(count, np.float64) / (1.0 + mu))


class CumulativeTable:
    """Demand distributions listed row by row, for fast inverse CDF by guide tables (Chen and Asau 1974).

    Each row's unit interval is cut in equal parts; where a part begins is kept, so that one look and seldom more than
    one step find the demand, without the unpredictable branches of a binary search (seven times slower here).

    Args:
        cumulative: (r, c) P(D <= 0..c-1) of each row; demand beyond c is reported as c.
    """

    def __init__(self, cumulative: Array) -> None:
        rows, self._columns = cumulative.shape
        # A last column that no uniform reaches stops every search.
        ends = np.concatenate([np.minimum(cumulative, 1.0), np.full((rows, 1), 2.0)], axis=1)
        self._ends = ends.ravel()
        starts = np.arange(PARTS) / PARTS
        first = [np.searchsorted(row, starts, side="right") for row in ends]
        self._guide = (np.stack(first) + np.arange(rows)[:, None] * (self._columns + 1)).ravel()

    def quantile(self, row: NDArray[np.int64], u: Array) -> Array:
        """Demand (n,) of the rows (n,) at uniforms (n,)."""
        place = self._guide.take(row * PARTS + (u * PARTS).astype(np.int64))
        beyond = np.flatnonzero(self._ends.take(place) <= u)
        while len(beyond):
            place[beyond] += 1
            beyond = beyond[self._ends.take(place[beyond]) <= u[beyond]]
        return np.asarray(place - row * (self._columns + 1), np.float64)
