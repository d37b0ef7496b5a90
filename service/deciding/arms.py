"""Registered bundles as arms, ready to serve or to be tried."""

import math
from typing import Protocol

from agents.bundle import Bundle, ObservationField
from agents.runtime import load
from service.deciding.decide import Arm
from service.deciding.points import Point


class Bundles(Protocol):
    """Where bundles are stored."""

    def bundle(self, digest_: str) -> Bundle:
        """A stored bundle, verified again."""


def arm_of(bundles: Bundles, point: Point, digest: str) -> Arm:
    """A registered bundle, ready to serve.

    Raises:
        BundleError: It is not there, altered, or not for this point.
    """
    bundle = bundles.bundle(digest)
    point.check(bundle.card)
    nominal = point.estimates_for(bundle.card)
    bounds = {entry.name: _ends(entry) for entry in bundle.card.observation if entry.name in (nominal or {})}
    return Arm(load(bundle), digest, bundle.card.kind, nominal, bounds)


def _ends(entry: ObservationField) -> tuple[float, float]:
    """The range of a parameter that a policy observes."""
    return -math.inf if entry.low is None else entry.low, math.inf if entry.high is None else entry.high
