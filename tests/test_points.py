"""Points and the bundles that fit them: parameters that are lists are observed one number at a time."""

import pytest

from agents.bundle import BundleError, Card, ObservationField
from agents.cards import actions_of
from envs.conditioning import nominal
from service.deciding.points import Point
from service.manifest import parse


def fleet() -> Point:
    spec = {"world": "maintenance", "ranges": {"jump": [0.1, 0.9], "wear": [0.1, 0.9]}}
    return Point.of(parse({"points": {"fleet": spec}}).points["fleet"])


def card_for(point: Point, *observed: str) -> Card:
    entries = [ObservationField(one.name, one.unit, one.low, one.high) for one in point.context]
    entries += [ObservationField(name, "", 0.0, 1.0) for name in observed]
    return Card(world="maintenance", params={}, actions=actions_of(point.world), observation=tuple(entries))


def test_a_policy_over_a_list_of_parameters_fits_and_begins_with_what_the_point_declares() -> None:
    point = fleet()
    numbers = nominal(point.world)
    card = card_for(point, *numbers)
    point.check(card)
    assert point.estimates_for(card) == numbers


def test_a_list_has_no_more_entries_than_the_world() -> None:
    point = fleet()
    with pytest.raises(BundleError, match=r"wear\[4\]"):
        point.check(card_for(point, "wear[0]", "wear[4]"))
