"""Deliberate exploration: what each action would teach about the parameters, and where a given cost teaches most.

The Fisher information of one transition is computed for any world from its likelihood and its own chance. Exploration
is then a purchase: the share of value that may be spent goes to the states and actions that teach most per unit of
value lost (a fractional knapsack), and what it costs and what it buys is said beforehand.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc  # type: ignore[import-untyped]

from envs.conditioning import with_columns
from envs.dynamics import Array, Mask
from envs.likelihood import Likelihood

OUTCOMES = 64
"""Outcomes that stand for the distribution of what can come of an action."""

_STEP = 1e-3
_NO_COST = 1e-12


@dataclass(frozen=True, eq=False)
class Purchase:
    """Exploration that is worth its cost.

    Args:
        share: (n, a) probability given to each action in each state, on top of the policy's (which keeps the rest).
        cost: value lost per decision, on average over the states.
        gain: information gained per decision beyond the policy's own, on average, in units of what is known.
    """

    share: Array
    cost: float
    gain: float

    def mixed(self, probabilities: Array) -> Array:
        """The policy's probabilities (n, a) with the exploration in them: what is sampled from and logged."""
        return np.asarray((1.0 - self.share.sum(axis=1, keepdims=True)) * probabilities + self.share)


def fisher(known: Likelihood, values: Array, observations: NDArray[Any]) -> Array:
    """Fisher information (n, a, d, d) of one transition from each observation (n, k) under each action.

    Args:
        known: the likelihood of the parameters that count.
        values: (d,) parameters at which it is taken, physical units; the information is about their logs (or logits).
        observations: contexts of a world with a single list of actions.
    """
    n, a, d = len(observations), known.world.actions.n, len(known.columns)
    repeated = np.repeat(np.asarray(observations), a * OUTCOMES, axis=0)
    actions = np.tile(np.repeat(np.arange(a), OUTCOMES), n)
    point = known.unbounded(np.asarray(values, np.float64))
    names = tuple(dict.fromkeys(column.split("[")[0] for column in known.columns))
    told = [name for name in names if name in known.world.tunable]
    columns = np.array([not column.startswith("dispersion") for column in known.columns])
    truth = with_columns(known.world, tuple(told), np.repeat(np.asarray(values)[None, columns], len(actions), axis=0))
    state = truth.state_of(repeated)
    chance = _spread_out(truth.draw(1, np.random.default_rng(0)).shape[1])
    outcome = truth.outcome(state, actions, np.tile(chance, (n * a, 1)))
    # What an outcome reveals beyond what is logged must not teach.
    fields = {field.name: outcome[field.name] for field in known.world.outcomes}
    steps = np.concatenate([np.eye(d), -np.eye(d)]) * _STEP
    found = known.transition(known.physical(point + steps), repeated, actions, fields)
    score = ((found[:d] - found[d:]) / (2 * _STEP)).reshape(d, n, a, OUTCOMES)
    return np.asarray(np.einsum("inak,jnak->naij", score, score) / OUTCOMES, np.float64)


def _spread_out(width: int) -> Array:
    """Chance (OUTCOMES, c) that covers everything evenly: middles of equal parts, Sobol points for more than one."""
    if width == 1:
        return ((np.arange(OUTCOMES) + 0.5) / OUTCOMES)[:, None]
    return np.asarray(qmc.Sobol(width, scramble=True, rng=0).random(OUTCOMES), np.float64)


def taught(information: Array, covariance: Array) -> Array:
    """What each action teaches (n, a) about what is uncertain: trace(covariance · information).

    To first order twice the gain in the logarithm of the posterior's volume, so that directions which are known well
    count little, and those in doubt count much.
    """
    return np.asarray(np.einsum("ij,naji->na", covariance, information))


def purchase(
    probabilities: Array,
    allowed: Mask,
    taught_by: Array,
    lost_by: Array,
    budget: float,
    weights: Array | None = None,
    most: float = 0.2,
) -> Purchase:
    """Exploration that buys the most information for a cost of at most `budget` per decision.

    Args:
        probabilities: (n, a) the policy.
        allowed: (n, a).
        taught_by: (n, a) what each action teaches.
        lost_by: (n, a) value that each action loses against the best one; at least 0.
        budget: value that may be lost per decision on average; 0 buys nothing.
        weights: (n,) how often each state comes, summing to 1; even where not given.
        most: largest probability of exploring in a state.

    Raises:
        ValueError: a negative budget, or a largest probability outside 0 to 1.
    """
    if budget < 0 or not 0 <= most <= 1:
        raise ValueError(f"budget {budget:g} must be at least 0, most {most:g} lie in 0 to 1")
    n = len(probabilities)
    often = np.full(n, 1.0 / n) if weights is None else np.asarray(weights, np.float64)
    own_gain = (probabilities * taught_by).sum(axis=1, keepdims=True)
    own_loss = (probabilities * lost_by).sum(axis=1, keepdims=True)
    gain = np.where(allowed, taught_by - own_gain, -np.inf)
    loss = np.maximum(lost_by - own_loss, _NO_COST)
    ratio = np.where(gain > 0, gain / loss, -np.inf)
    best = ratio.argmax(axis=1)
    rows = np.arange(n)
    share, left = np.zeros_like(probabilities, np.float64), budget if budget > 0 else 0.0
    for row in np.argsort(-ratio[rows, best], kind="stable").tolist():
        action = int(best[row])
        if ratio[row, action] <= 0 or left <= 0:
            break
        full = often[row] * most * loss[row, action]
        part = most * min(1.0, left / full) if full > 0 else 0.0
        share[row, action] = part
        left -= often[row] * part * loss[row, action]
    spent = float((often[:, None] * share * loss).sum())
    bought = float((often[:, None] * share * np.where(np.isfinite(gain), gain, 0.0)).sum())
    return Purchase(share, spent, bought)


def standard_errors(information: Array, probabilities: Array, decisions: float, weights: Array | None = None) -> Array:
    """Standard errors (d,) of the log parameters after so many decisions under a policy; `inf` where it never tells.

    This is the consequence of an exploration of 0: what the policy does not try, it will never know.

    Args:
        information: (n, a, d, d).
        probabilities: (n, a).
        decisions: how many are taken.
        weights: (n,) how often each state comes.
    """
    n = len(probabilities)
    often = np.full(n, 1.0 / n) if weights is None else np.asarray(weights, np.float64)
    total = decisions * np.einsum("n,na,naij->ij", often, probabilities, information)
    values, vectors = np.linalg.eigh(total)
    told = values > 1e-9 * max(float(values.max()), 1e-300)
    inverse = np.where(told, 1.0 / np.where(told, values, 1.0), 0.0)
    spread = np.sqrt((vectors**2 * inverse).sum(axis=1))
    blind = (vectors[:, ~told] ** 2).sum(axis=1) > 1e-9
    return np.where(blind, np.inf, spread)
