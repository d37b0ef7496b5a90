"""Policies: observations in, probabilities over allowed actions out; and the one place where an action is drawn.

A policy never draws. Whoever serves it mixes in exploration (`explore`), takes a keyed uniform number (`draw`) and
inverts the cumulative distribution (`sample`), so that the probability that is logged is the one that was used.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Observation = NDArray[Any]

# 53 bits are what a double holds below 1; more would round up to 1.0.
DRAW_BITS = 53
MIN_SECRET, MAX_SECRET = 16, 64


class Policy(Protocol):
    """Observations to probabilities over allowed actions: pure, and row by row (a batch equals its rows)."""

    @property
    def kind(self) -> str:
        """What sort of policy it is, e.g. `network`, `table`, `best-fixed-price`."""

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """Probabilities (n, a) for observations (n, k) and masks (n, a): rows sum to 1, exactly 0 where not allowed."""


@dataclass(frozen=True)
class FixedAction:
    """One action whatever is observed; where it is not allowed, the nearest allowed index (the lower one of two).

    >>> FixedAction(2, 3).probabilities(np.zeros((2, 1)), np.array([[True, True, True], [True, True, False]]))
    array([[0., 0., 1.],
           [0., 1., 0.]])
    """

    index: int
    n: int
    kind: str = "fixed"

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.n:
            raise ValueError(f"action index {self.index} is not one of the {self.n} actions: give 0 to {self.n - 1}")

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """All mass on the action, or on the nearest allowed one."""
        nearness = -np.abs(np.arange(self.n) - self.index)
        return greedy(np.broadcast_to(nearness, (len(observation), self.n)), allowed)


@dataclass(frozen=True)
class Table:
    """Probabilities listed state by state, found again by the observation.

    Each entry of an observation is taken to the nearest value which that entry has in the table, so that a rounded
    float32 finds its state.

    Args:
        observations: (S, k) physical observations, one row per state, all different.
        values: (S, a) probabilities.
        kind: the name it is served under.

    Raises:
        ValueError: shapes that do not fit, two equal observations, or (when asked) a combination that is no state.
    """

    observations: Observation
    values: Array
    kind: str = "table"
    _axes: tuple[Array, ...] = field(init=False, repr=False, compare=False)
    _codes: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _order: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        observations = np.asarray(self.observations, np.float32).astype(np.float64)
        if observations.ndim != 2 or len(observations) != len(self.values):
            given = f"{np.shape(self.observations)} observations, {np.shape(self.values)} probabilities"
            raise ValueError(f"a table needs one observation (S, k) for each row of probabilities (S, a): {given}")
        object.__setattr__(self, "_axes", tuple(np.unique(column) for column in observations.T))
        codes = self._encode(observations)
        order = np.argsort(codes)
        if len(np.unique(codes)) < len(codes):
            raise ValueError("two states of the table have the same observation: add what tells them apart")
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_codes", codes[order])

    def _encode(self, observation: Observation) -> NDArray[np.int64]:
        code = np.zeros(len(observation), np.int64)
        for axis, column in zip(self._axes, np.asarray(observation, np.float64).T, strict=True):
            middles = (axis[1:] + axis[:-1]) / 2
            code = code * len(axis) + np.searchsorted(middles, column)
        return code

    def grid(self, limit: int = 2_000_000) -> tuple[tuple[Array, ...], NDArray[np.int64]]:
        """Each entry's values in order, and the state at each cell of their product, flattened; S where there is none.

        Raises:
            ValueError: a product of more than `limit` cells.
        """
        size = math.prod(len(axis) for axis in self._axes)
        if size > limit:
            raise ValueError(f"the product of the table's entries has {size} cells, at most {limit} are allowed")
        cells = np.full(size, len(self._codes))
        cells[self._codes] = self._order
        return self._axes, cells

    def rows(self, observation: Observation) -> NDArray[np.int64]:
        """Index of the state (n,) that each observation (n, k) shows."""
        codes = self._encode(observation)
        place = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        unknown = self._codes[place] != codes
        if unknown.any():
            row = np.asarray(observation)[np.argmax(unknown)].tolist()
            raise ValueError(f"observation {row} is no state of this table of {len(self._codes)} states")
        return self._order[place]

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """The rows of the table, restricted to the allowed actions."""
        return restrict(self.values[self.rows(observation)], allowed)


@dataclass(frozen=True)
class Mixture:
    """Several policies, one of them used for each decision with the given weight.

    This is the mixture per decision. A canary draws its arm once per unit and is not this.
    """

    policies: tuple[Policy, ...]
    weights: tuple[float, ...]
    kind: str = "mixture"

    def __post_init__(self) -> None:
        if len(self.policies) != len(self.weights) or not self.policies:
            raise ValueError(f"{len(self.policies)} policies and {len(self.weights)} weights: give one weight each")
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-9:
            raise ValueError(f"weights {self.weights} of a mixture must be at least 0 and sum to 1")

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """Σ weight · probabilities."""
        rows = (w * p.probabilities(observation, allowed) for p, w in zip(self.policies, self.weights, strict=True))
        return np.asarray(np.sum(list(rows), axis=0), np.float64)


@dataclass(frozen=True)
class Greedy:
    """The most probable action of another policy with probability 1 − epsilon, else any allowed action.

    Equally probable actions: the one with the lowest index.
    """

    policy: Policy
    epsilon: float = 0.0
    kind: str = "greedy"

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon {self.epsilon} is a probability: give 0 to 1")

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """Mass 1 − epsilon on the arg-max, epsilon spread evenly over the allowed actions."""
        best = greedy(self.policy.probabilities(observation, allowed), allowed)
        return explore(best, allowed, Exploration(self.epsilon, "allowed"))


@dataclass(frozen=True)
class Exploration:
    """How much probability is given away, and to which actions.

    Args:
        share: the probability given away, 0 to 1.
        over: `allowed`: evenly over all allowed actions. `neighbours`: each action gives half of its part to the
            nearest allowed action on either side (all of it where there is only one), which on a price ladder costs
            far less: 2 % over everything costs 0.85 % of the value of GVR-M, over two neighbours 0.01 %.
    """

    share: float
    over: Literal["allowed", "neighbours"] = "allowed"

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"exploration share {self.share} is a probability: give 0 to 1")
        if self.over not in ("allowed", "neighbours"):
            raise ValueError(f'exploration over {self.over!r}: allowed are "allowed" and "neighbours"')


def explore(probabilities: Array, allowed: Mask, exploration: Exploration) -> Array:
    """Probabilities (n, a) with exploration mixed in; done before sampling, so that it is part of the propensity.

    >>> p, every = np.array([[0.0, 1.0, 0.0]]), np.ones((1, 3), bool)
    >>> explore(p, every, Exploration(0.02, "neighbours")).round(4)
    array([[0.01, 0.98, 0.01]])
    """
    if exploration.share == 0:
        return probabilities
    if exploration.over == "allowed":
        given = allowed / allowed.sum(axis=1, keepdims=True)
    else:
        given = _to_neighbours(probabilities, allowed)
    return np.asarray((1 - exploration.share) * probabilities + exploration.share * given)


def _to_neighbours(probabilities: Array, allowed: Mask) -> Array:
    """Each action's mass moved to the nearest allowed actions below and above it; kept where it stands alone."""
    n, a = allowed.shape
    if a > 1 and allowed.all():
        return _to_both_sides(probabilities)
    index = np.arange(a)
    below = np.full((n, a), -1)
    below[:, 1:] = np.maximum.accumulate(np.where(allowed, index, -1), axis=1)[:, :-1]
    above = np.full((n, a), a)
    above[:, :-1] = np.minimum.accumulate(np.where(allowed, index, a)[:, ::-1], axis=1)[:, ::-1][:, 1:]
    has_below, has_above = below >= 0, above < a
    parts = np.maximum(1, has_below.astype(int) + has_above)
    moved = np.where(has_below | has_above, 0.0, probabilities)
    rows = np.broadcast_to(np.arange(n)[:, None], (n, a))
    for exists, target in ((has_below, below), (has_above, above)):
        np.add.at(moved, (rows[exists], target[exists]), (probabilities / parts)[exists])
    return moved


def _to_both_sides(probabilities: Array) -> Array:
    """`_to_neighbours` where every action is allowed, as nearly always: half to each side, all inwards at the ends."""
    shares = probabilities / 2
    shares[:, [0, -1]] = probabilities[:, [0, -1]]
    moved = np.zeros_like(shares)
    moved[:, :-1] = shares[:, 1:]
    moved[:, 1:] += shares[:, :-1]
    return moved


def restrict(probabilities: Array, allowed: Mask) -> Array:
    """Probabilities conditional on the action being allowed; even over the allowed ones where nothing is left.

    Raises:
        ValueError: a row that allows no action.
    """
    _require_some(allowed)
    kept = np.where(allowed, probabilities, 0.0)
    total = kept.sum(axis=1, keepdims=True)
    even = allowed / allowed.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, np.divide(kept, total, where=total > 0, out=np.zeros_like(kept)), even))


def softmax(logits: NDArray[Any], allowed: Mask, temperature: float = 1.0, factors: int = 1) -> Array:
    """Softmax (n, a) in float64 of logits divided by the temperature, over the allowed actions only.

    Where an action is a product of several choices from one list, the row holds one list after another, and each sums
    to 1.

    Raises:
        ValueError: a row that allows no action, a temperature that is not positive, a logit that is not finite.
    """
    _require_some(allowed)
    if factors > 1:
        listed, mask = (rows.reshape(len(rows) * factors, -1) for rows in (logits, allowed))
        return softmax(listed, mask, temperature).reshape(logits.shape)
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} must be positive; for the arg-max use Greedy")
    if not np.isfinite(logits).all():
        raise ValueError("the policy gave logits that are not finite: it must not be served")
    scaled = np.where(allowed, np.asarray(logits, np.float64) / temperature, -np.inf)
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def greedy(preference: NDArray[Any], allowed: Mask, factors: int = 1) -> Array:
    """All mass (n, a) on the allowed action with the highest preference, the lowest index of equals; in each factor."""
    if factors > 1:
        listed, mask = (rows.reshape(len(rows) * factors, -1) for rows in (preference, allowed))
        return greedy(listed, mask).reshape(allowed.shape)
    _require_some(allowed)
    best = np.argmax(np.where(allowed, preference, -np.inf), axis=1)
    return np.asarray(np.arange(allowed.shape[1]) == best[:, None], np.float64)


def _require_some(allowed: Mask) -> None:
    if not allowed.any(axis=1).all():
        row = int(np.argmin(allowed.any(axis=1)))
        raise ValueError(f"row {row} allows no action: allow at least one")


def draw(secret: bytes, decision_id: str, domain: str) -> float:
    """Uniform number in [0, 1) that belongs to a decision: keyed, so that a caller cannot steer it by the id.

    Args:
        secret: 16 to 64 random bytes; keyed BLAKE2b (RFC 7693).
        decision_id: what is drawn for.
        domain: what the number is for (`action`, `arm`); different domains give independent numbers.

    >>> draw(bytes(16), "a", "action") == draw(bytes(16), "a", "action") != draw(bytes(16), "a", "arm")
    True
    """
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise ValueError(f"the secret has {len(secret)} bytes: give {MIN_SECRET} to {MAX_SECRET}")
    tag = domain.encode()
    # The length keeps ("ab", "c") and ("a", "bc") apart.
    message = len(tag).to_bytes(4, "big") + tag + decision_id.encode()
    digest = hashlib.blake2b(message, key=secret, digest_size=8).digest()
    number: int = int.from_bytes(digest, "big") >> (64 - DRAW_BITS)
    return number / 2.0**DRAW_BITS


def sample(probabilities: Sequence[float] | Array, u: float) -> int:
    """Index of the action that a uniform number u in [0, 1) picks by inverse CDF; never one of probability zero.

    >>> [sample([0.0, 0.25, 0.0, 0.75], u) for u in (0.0, 0.2499, 0.25, 0.999999)]
    [1, 1, 3, 3]
    """
    if not 0 <= u < 1:
        raise ValueError("a draw lies outside [0, 1)")
    values = np.asarray(probabilities, np.float64).tolist()
    # Plain numbers: for one row they are several times faster than arrays, and add up in the same order.
    cumulative = list(accumulate(values))
    index = bisect_right(cumulative, u * cumulative[-1])
    return index if index < len(values) else max(i for i, p in enumerate(values) if p > 0)


def sample_rows(probabilities: Array, u: Array) -> NDArray[np.int64]:
    """Indices (n,) that uniform numbers (n,) pick from probabilities (n, a), each row as `sample` does."""
    if not ((u >= 0) & (u < 1)).all():
        raise ValueError("a draw lies outside [0, 1)")
    cumulative = np.cumsum(probabilities, axis=1)
    total = cumulative[:, -1:]
    index = (cumulative <= u[:, None] * total).sum(axis=1)
    # u · total can round up to the total: the last action that has probability then.
    last = probabilities.shape[1] - 1 - np.argmax(probabilities[:, ::-1] > 0, axis=1)
    return np.asarray(np.minimum(index, last), np.int64)


def sample_factors(probabilities: Array, u: Array) -> NDArray[np.int64]:
    """Indices (n, j) that uniform numbers (n, j) pick, one from each of the j lists that stand side by side in a row.

    >>> sample_factors(np.array([[0.5, 0.5, 0.1, 0.9]]), np.array([[0.2, 0.2]]))
    array([[0, 1]])
    """
    lists = probabilities.reshape(u.size, -1)
    return sample_rows(lists, u.reshape(-1)).reshape(u.shape)


def propensity(probabilities: Array, action: NDArray[np.int64]) -> Array:
    """Probability (n,) of actions (n, j) that were drawn list by list: the product over the j lists.

    >>> propensity(np.array([[0.5, 0.5, 0.1, 0.9]]), np.array([[0, 1]]))
    array([0.45])
    """
    lists = probabilities.reshape(*action.shape, -1)
    return np.asarray(np.take_along_axis(lists, action[:, :, None], axis=2)[:, :, 0].prod(axis=1))
