"""The field's standard rules as policies; each tunes itself on the parameters of its world."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.heuristics_inventory import INVENTORY_RULES
from agents.heuristics_maintenance import MAINTENANCE_RULES, REPLACEMENT_RULES
from agents.heuristics_pricing import NETWORK_RULES, PRICING_RULES, REPLENISHED_RULES, RIVAL_RULES
from agents.policy import Array, Mask, Observation, Policy, greedy
from envs.dynamics import World

Rule = Callable[[Array], NDArray[np.int64]]
_RULES: Mapping[str, Mapping[str, Callable[[World], Rule]]] = {
    "pricing": PRICING_RULES,
    "pricing-replenished": REPLENISHED_RULES,
    "pricing-rival": RIVAL_RULES,
    "pricing-network": NETWORK_RULES,
    "replacement": REPLACEMENT_RULES,
    "maintenance": MAINTENANCE_RULES,
    "inventory": INVENTORY_RULES,
}

BASELINES: Mapping[str, tuple[str, ...]] = {world: tuple(rules) for world, rules in _RULES.items()}
"""Names of the rules of each world; the first one is the usual baseline."""


@dataclass(frozen=True, eq=False)
class RulePolicy:
    """A rule that names one action for each observation; where that one is not allowed, the nearest allowed index.

    Args:
        kind: the rule's name.
        entries: how many entries of an observation the rule reads; whatever follows (parameters) is ignored.
        nvec: number of choices of each factor of an action.
        rule: observations (n, entries) → indices (n,), or (n, factors).
    """

    kind: str
    entries: int
    nvec: tuple[int, ...]
    rule: Rule

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """All mass on the rule's action, factor after factor."""
        index = self.rule(np.asarray(observation[:, : self.entries], np.float64)).reshape(len(observation), -1)
        masks = np.split(allowed, np.cumsum(self.nvec)[:-1], axis=1)
        each = [
            greedy(-np.abs(np.arange(n) - column[:, None]), mask)
            for n, column, mask in zip(self.nvec, index.T, masks, strict=True)
        ]
        return np.concatenate(each, axis=1)


def make(name: str, world: World) -> Policy:
    """The rule `name`, tuned on the parameters of `world`.

    Args:
        name: one of `BASELINES[world.id]`.
        world: with the same parameters in all rows, and a list of actions.

    Raises:
        ValueError: a rule that this world does not have.

    >>> from envs import worlds
    >>> world = worlds.make("pricing", {"prices": "0.5:4.25:0.25"})
    >>> policy = make("best-fixed-price", world)
    >>> world.actions.values[policy.probabilities(np.array([[20.0, 0.0]]), np.ones((1, 16), bool)).argmax()]
    np.float64(2.0)
    """
    rules = _RULES.get(world.id, {})
    if name not in rules:
        known = ", ".join(rules) or "none"
        raise ValueError(f"{world.id} has no rule {name!r}: give one of {known}")
    return RulePolicy(name, len(world.context), world.actions.nvec, rules[name](world))
