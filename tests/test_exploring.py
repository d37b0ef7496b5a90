"""What exploration costs and teaches, for a policy that tries one price and for one that does not."""

from typing import Any

import numpy as np
import pytest

from agents.policy import FixedAction
from service.deciding.decide import Arm
from service.deciding.exploring import Exploring, exploring
from service.deciding.points import Point
from service.manifest import parse

PARAMS: dict[str, Any] = {"stock": 20, "periods": 50, "prices": {"geometric": [0.5, 4.0, 15]}}


def explored(exploration: Any, ranges: dict[str, list[float]], world: str = "pricing") -> Exploring | None:
    table = {"world": world, "params": PARAMS if world == "pricing" else {}, "ranges": ranges}
    point = Point.of(parse({"points": {"p": {**table, "exploration": exploration}}}).points["p"])
    return exploring(point, Arm(FixedAction(8, point.world.actions.n), "one", "rule"), {})


BOTH = {"volume": [1.0, 6.0], "sensitivity": [0.5, 2.0]}


def test_a_policy_that_never_varies_tells_volume_and_sensitivity_apart_only_by_exploring() -> None:
    blind = explored(0.0, BOTH)
    assert blind is not None
    assert blind.cost == 0.0
    assert blind.errors == blind.without
    assert None in blind.without.values(), "one price tells one combination of the two"
    found = explored({"share": 0.02, "over": "neighbours"}, BOTH)
    assert found is not None
    assert all(error is not None for error in found.errors.values())


def test_more_exploration_costs_and_teaches_more_and_a_purchase_teaches_most() -> None:
    little, much = (explored({"share": share, "over": "allowed"}, BOTH) for share in (0.02, 0.1))
    assert little is not None
    assert much is not None
    assert little.cost is not None
    assert much.cost == pytest.approx(5 * little.cost)
    for name in BOTH:
        assert float(much.errors[name] or 0) < float(little.errors[name] or 0)
        assert float(little.best[name] or np.inf) < float(little.errors[name] or 0)


def test_without_ranges_everything_that_outcomes_tell_is_told_of() -> None:
    found = explored(0.02, {})
    assert found is not None
    assert set(found.errors) == set(BOTH)
