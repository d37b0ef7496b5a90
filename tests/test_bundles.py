"""Looking into bundles, by HTTP: the card, the policy as a map, what it is worth."""

import numpy as np
import pytest

from agents import baselines
from agents.worth import OPTIMUM, Rival, worth
from envs import exact, worlds
from envs.tabulate import StateSpaceTooLarge

POINT = "/v1/points/price"
POLICIES = "/v1/policies/price"


@pytest.fixture
def digest(service, make_bundle):
    """A bundle that takes action 2 wherever it is."""
    return service.register("price", make_bundle([[0, 0, 0], [0, 0, 0], [0, 0, 9], [0, 0, 0]], note="always 2"))


def test_worth_is_the_exact_value_in_each_world():
    world = worlds.make("pricing", {"stock": 3, "periods": 4, "prices": [1.0, 2.0]}, {})
    rule = baselines.make("best-fixed-price", world)
    found = worth(world, {"sensitivity": (0.5, 2.0)}, {"rule": Rival(rule)})
    ((name, values),) = found.axes
    assert (name, values[0], values[-1]) == ("sensitivity", 0.25, pytest.approx(4.0))
    there = world.with_params({"sensitivity": values[8]})
    assert found.values[OPTIMUM][8] == pytest.approx(exact.solve(there).value)
    assert np.all(np.array(found.values["rule"]) <= np.array(found.values[OPTIMUM]) + 1e-9)


def test_a_world_that_takes_long_to_solve_is_refused():
    world = worlds.make("pricing", {"stock": 400, "periods": 400}, {})
    with pytest.raises(StateSpaceTooLarge, match="solved at once"):
        worth(world, {}, {})


def test_the_card_of_a_bundle_is_shown(service, digest):
    answer = service.get(f"{POLICIES}/bundles/{digest}")
    assert (answer["digest"], answer["card"]["world"], answer["card"]["note"]) == (digest, "pricing", "always 2")
    assert service.refused(f"{POLICIES}/bundles/{'0' * 64}", None, method="GET")["type"].endswith("unknown-policy")


def test_a_policy_is_shown_as_a_map(service, digest):
    answer = service.get(f"{POLICIES}/bundles/{digest}/map")
    cells = np.array(answer["cells"], float)
    assert (answer["down"]["name"], answer["across"]["name"]) == ("stock", "period")
    assert cells.shape == (len(answer["down"]["values"]), len(answer["across"]["values"]))
    # The logits 0, 0, 9, 0 over the prices 1, 1.5, 2, 2.5.
    weights = np.exp([0.0, 0.0, 9.0, 0.0])
    assert cells[1:, 0] == pytest.approx(weights @ [1.0, 1.5, 2.0, 2.5] / weights.sum())
    turned = service.get(f"{POLICIES}/bundles/{digest}/map?across=stock&down=period")
    assert turned["across"]["name"] == "stock"
    assert service.get(f"{POLICIES}/bundles/baseline/map")["unit"] == answer["unit"]
    assert service.refused(f"{POLICIES}/bundles/{digest}/map?across=x", None, method="GET")["status"] == 422


def test_a_policy_is_held_against_optimum_and_baseline(service, digest):
    answer = service.get(f"{POINT}/worth?policies=baseline,{digest}")
    assert set(answer["values"]) == {"optimum", "baseline", digest}
    (axis,) = answer["axes"]
    values = axis["values"]
    assert axis["name"] == "volume"
    assert len(answer["values"]["optimum"]) == len(values)
    assert all(best >= own - 1e-9 for best, own in zip(*map(answer["values"].get, ("optimum", digest)), strict=True))
    # A bundle that was trained for more than is declared now widens the axis.
    assert (values[0], values[-1]) == (0.25, 16.0)
    assert set(service.get(f"{POINT}/worth")["values"]) == {"optimum", "baseline"}
    assert service.refused(f"{POINT}/worth?policies=none", None, method="GET")["status"] == 404
