"""Registered bundles and bandits as arms, ready to serve or to be tried."""

import math
from collections.abc import Mapping
from typing import Protocol

from agents.bundle import Bundle, BundleError, ObservationField
from agents.policy import Policy
from agents.runtime import load
from service.deciding.decide import Arm
from service.deciding.point_bandits import is_bandit
from service.deciding.points import Point

_NONE: Mapping[str, Policy] = {}


class Bundles(Protocol):
    """Where bundles are stored."""

    def bundle(self, digest_: str) -> Bundle:
        """A stored bundle, verified again."""


def arm_of(bundles: Bundles, point: Point, name: str, bandits: Mapping[str, Policy] = _NONE) -> Arm:
    """A policy by its name, ready to serve: one of the point's bandits, else a registered bundle by its digest.

    Raises:
        BundleError: It is not there, altered, or not for this point.
    """
    if is_bandit(name):
        if name not in bandits:
            raise BundleError(f"the point {point.name!r} has no {name}; it has {', '.join(bandits) or 'no bandits'}")
        return Arm(bandits[name], name, bandits[name].kind)
    bundle = bundles.bundle(name)
    point.check(bundle.card)
    nominal = point.estimates_for(bundle.card)
    bounds = {entry.name: _ends(entry) for entry in bundle.card.observation if entry.name in (nominal or {})}
    return Arm(load(bundle), name, bundle.card.kind, nominal, bounds)


def _ends(entry: ObservationField) -> tuple[float, float]:
    """The range of a parameter that a policy observes."""
    return -math.inf if entry.low is None else entry.low, math.inf if entry.high is None else entry.high
