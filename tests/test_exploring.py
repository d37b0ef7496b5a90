"""What exploration costs and teaches, for a policy that tries one price and for one that does not."""

from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from agents.policy import FixedAction
from online.events import Decided
from service.deciding.decide import Arm, Ask, ServedPoint, decide_all
from service.deciding.exploring import Exploring, exploring, lessons
from service.deciding.points import Point
from service.deciding.releases import Release
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


INFORMATIVE = {"share": 0.02, "over": "informative"}


def test_what_teaches_most_is_tried_at_no_higher_cost_and_teaches_more_than_neighbours_do() -> None:
    usual = explored({"share": 0.02, "over": "neighbours"}, BOTH)
    best = explored(INFORMATIVE, BOTH)
    assert usual is not None
    assert best is not None
    assert usual.cost is not None
    assert best.cost is not None
    assert best.over == "informative"
    assert best.cost <= 1.02 * usual.cost
    assert best.errors == best.best == usual.best
    for name in BOTH:
        assert float(best.errors[name] or np.inf) < 0.7 * float(usual.errors[name] or np.inf)


def test_without_a_share_nothing_is_tried_for_its_lesson() -> None:
    table = {"world": "pricing", "params": PARAMS, "ranges": BOTH, "exploration": {"share": 0, "over": "informative"}}
    point = Point.of(parse({"points": {"p": table}}).points["p"])
    arm = Arm(FixedAction(8, point.world.actions.n), "one", "rule")
    assert lessons(point, arm, {}) is None
    told = exploring(point, arm, {})
    assert told is not None
    assert told.cost == 0.0
    assert None in told.errors.values(), "the consequence"


def test_what_is_tried_for_its_lesson_is_in_the_propensities_and_comes_as_often_as_they_say() -> None:
    table = {"world": "pricing", "params": PARAMS, "ranges": BOTH, "exploration": INFORMATIVE, "mode": "live"}
    point = Point.of(parse({"points": {"p": table}}).points["p"])
    arm = Arm(FixedAction(8, point.world.actions.n), "one", "rule")
    served = ServedPoint(point, Release("p", "live"), arm, arm, lessons=lessons(point, arm, {}))
    assert served.lessons is not None
    row = served.lessons.rows[int(served.lessons.share.sum(axis=1).argmax())]
    context = dict(zip(("stock", "period"), row.tolist(), strict=True))
    for allowed in (None, [point.actions[i] for i in (0, 7, 8)]):
        body: dict[str, Any] = {"context": context} | ({} if allowed is None else {"allowed": allowed})
        request = point.decoder.decode(msgspec.json.encode(body))
        made = decide_all(served, [Ask(request, f"d{n}") for n in range(20_000)], b"a secret of the tests, long enough")
        decided = [one for one in made if isinstance(one, Decided)]
        expected = np.array(decided[0].probabilities)
        assert expected.sum() == pytest.approx(1.0, abs=1e-9)
        counts = np.bincount(np.array([one.index for one in decided]), minlength=len(expected))
        there = expected > 0
        assert (counts[~there] == 0).all()
        if there.sum() > 1:
            assert stats.chisquare(counts[there], 20_000 * expected[there]).pvalue > 1e-4
        assert allowed is not None or there.sum() > 1


def test_a_point_says_what_it_tries_for_its_lesson_and_does_it(start_service: Any) -> None:
    table = {"world": "pricing", "params": PARAMS, "ranges": BOTH, "exploration": INFORMATIVE, "mode": "live"}
    service = start_service({"points": {"p": table}})
    service.settle()
    told = service.get("/v1/points/p/exploration")["exploring"]
    assert told["over"] == "informative"
    assert told["errors"] == told["best"]
    explores = [
        service.post("/v1/decisions/p", {"context": {"stock": stock, "period": 0}})["probabilities"]
        for stock in range(1, 21)
    ]
    assert any(sum(p > 0 for p in one) > 1 for one in explores)
    assert all(sum(one) == pytest.approx(1.0, abs=1e-9) for one in explores)
