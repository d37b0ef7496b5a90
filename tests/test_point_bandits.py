"""Bandits as policies of a point: exact propensities, what teaches them, and where they are refused."""

from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from online.events import Decided
from service.deciding.decide import Arm, Ask, ServedPoint, decide_all
from service.deciding.listening import tutor_of
from service.deciding.point_bandits import BanditPolicy, Tutor, shares_of
from service.deciding.points import Point
from service.deciding.releases import Release
from service.manifest import ManifestError, PointSpec, parse
from tests.conftest import Clock, Service

SECRET = b"a secret of the tests, long enough"
PRICE = "/v1/decisions/price"
POINT: dict[str, Any] = {
    "world": "pricing",
    "params": {"stock": 5, "periods": 10, "prices": [0.5, 1.0, 1.5, 2.0]},
    "mode": "live",
    "outcome": {"wait": "1min"},
    "bandits": ["offers"],
}
CONTEXT = {"stock": 5, "period": 2}


def declared(bandit: dict[str, Any] | None = None, **point: Any) -> dict[str, Any]:
    return {"bandits": {"offers": bandit or {}}, "points": {"price": POINT | point}}


def spec(bandit: dict[str, Any] | None = None, **point: Any) -> PointSpec:
    return parse(declared(bandit, **point)).points["price"]


def taught(tutor: Tutor, best: int, count: int = 400) -> BanditPolicy:
    """A bandit that was told that one action earns 1 and the others nothing."""
    for n in range(count):
        index = n % tutor.actions
        context = {"stock": float(n % 5 + 1), "period": float(n % 10)}
        made = Decided(
            id=str(n), context=context, index=index, action=index, propensity=1.0, policy="x", kind="x", mode="live"
        )
        tutor.close(made, float(index == best))
    return tutor.policies()["bandit:offers"]


def test_bounded_entries_are_seen_as_shares_of_their_range() -> None:
    point = Point.of(spec())
    assert shares_of(point.context, np.array([[0.0, 0.0], [5.0, 5.0]]))[1].tolist() == [1.0, 0.5]


@pytest.mark.parametrize("explore", [{"use": "inverse_gap"}, {"use": "epsilon_greedy", "epsilon": 0.2}])
def test_probabilities_sum_to_one_over_the_allowed_actions_and_follow_what_was_learned(explore: Any) -> None:
    point = Point.of(spec({"explore": explore}))
    policy = taught(tutor_of(point), best=2)
    rows = np.array([[5.0, 2.0], [1.0, 9.0]], np.float32)
    every, some = np.ones((2, 4), bool), np.array([[True, True, False, True]] * 2)
    assert policy.probabilities(rows, every).sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-12)
    assert policy.probabilities(rows, every).argmax(axis=1).tolist() == [2, 2]
    narrowed = policy.probabilities(rows, some)
    assert narrowed[:, 2].tolist() == [0.0, 0.0]
    assert (narrowed[:, [0, 1, 3]] > 0).all()
    assert np.array_equal(policy.probabilities(rows[:1], some[:1]), narrowed[:1])


@pytest.mark.parametrize("allowed", [None, [0.5, 1.5, 2.0]])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_actions_come_as_often_as_their_logged_propensities_say(allowed: Any, share: float) -> None:
    point = Point.of(spec(exploration={"share": share, "over": "neighbours"}))
    policy = taught(tutor_of(point), best=1, count=60)
    arm = Arm(policy, "bandit:offers", policy.kind)
    served = ServedPoint(point, Release("price", "live", incumbent=arm.name), arm, arm)
    body: dict[str, Any] = {"context": CONTEXT} | ({} if allowed is None else {"allowed": allowed})
    request = point.decoder.decode(msgspec.json.encode(body))
    made = decide_all(served, [Ask(request, f"d{n}") for n in range(20_000)], SECRET)
    decided = [one for one in made if isinstance(one, Decided)]
    assert len(decided) == 20_000
    expected = np.array(decided[0].probabilities)
    counts = np.bincount(np.array([one.index for one in decided]), minlength=4)
    assert expected.sum() == pytest.approx(1.0, abs=1e-9)
    assert (counts[expected == 0] == 0).all()
    there = expected > 0
    assert stats.chisquare(counts[there], 20_000 * expected[there] / expected[there].sum()).pvalue > 1e-4
    assert {one.propensity for one in decided} <= set(expected[there].tolist())
    assert {(one.policy, one.kind) for one in decided} == {("bandit:offers", "bandit")}


@pytest.mark.parametrize(
    ("bandit", "point", "said"),
    [
        ({"explore": "thompson"}, {}, "no closed form among 4 arms"),
        ({"explore": "lin_ucb"}, {}, "LinUCB"),
        ({}, {"bandits": ["others"]}, "bandits that are declared: offers"),
        ({}, {"bandits": [], "baseline": "bandit:offers"}, "one of: best-fixed-price"),
        ({}, {"world": "pricing-network", "params": {}}, "a product of choices"),
    ],
)
def test_a_bandit_that_cannot_serve_a_point_is_refused_with_the_reason(bandit: Any, point: Any, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        spec(bandit, **point)


def serve(service: Service, name: str = "bandit:offers") -> None:
    service.post("/v1/policies/price/promote", {"digest": name, "reason": "let it learn"})


def learned(service: Service) -> int:
    service.settle()
    return int(service.get("/v1/policies/price")["bandits"]["bandit:offers"])


def decide(service: Service, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = service.post(PRICE, {"context": CONTEXT} | more)
    return answer


def test_it_is_released_like_a_bundle_and_learns_once_the_wait_is_over(start_service: Any, clock: Clock) -> None:
    service: Service = start_service(declared())
    serve(service)
    first = decide(service, id="d1")
    assert first["policy"] == {"digest": "bandit:offers", "kind": "bandit"}
    assert first["probabilities"] == pytest.approx([0.25] * 4)
    for n in range(200):
        answer = decide(service, id=f"e{n}")
        service.post(f"{PRICE}/outcomes", {"id": f"e{n}", "value": float(answer["action"] == 1.5)})
    assert learned(service) == 0
    clock.now += 61
    assert learned(service) == 200
    after = decide(service)
    assert max(range(4), key=after["probabilities"].__getitem__) == 2
    assert after["probabilities"][after["index"]] == after["propensity"]
    trace = service.get(f"{PRICE}/e0")
    assert trace["policy"]["kind"] == "bandit"
    restarted: Service = start_service(declared())
    assert learned(restarted) == 200
    assert decide(restarted)["probabilities"] == after["probabilities"]


def test_what_teaches_is_what_the_point_joins(start_service: Any, clock: Clock) -> None:
    service: Service = start_service(declared(outcome={"wait": "1min", "default": 0.0, "aggregate": "sum"}))
    serve(service)
    for name in ("twice", "never", "late"):
        decide(service, id=name)
    decide(service, id="deferred", deferred=True)
    service.post(f"{PRICE}/outcomes", {"id": "deferred", "value": 1.0})
    service.post(f"{PRICE}/outcomes", {"id": "twice", "outcome_id": "a", "value": 1.0})
    service.post(f"{PRICE}/outcomes", {"id": "twice", "outcome_id": "b", "value": 2.0})
    service.settle()
    clock.now += 61
    assert learned(service) == 1
    service.post(f"{PRICE}/outcomes", {"id": "late", "value": 9.0})
    assert learned(service) == 1


def test_a_missing_outcome_teaches_the_default_of_the_bandit_alone(start_service: Any, clock: Clock) -> None:
    service: Service = start_service(declared({"default": 0.0}))
    serve(service)
    decide(service, id="never")
    service.settle()
    clock.now += 61
    assert learned(service) == 1


def test_it_learns_from_what_others_decide_and_may_be_tried_in_a_canary(start_service: Any, clock: Clock) -> None:
    service: Service = start_service(declared())
    decide(service, id="by-the-rule")
    service.post(f"{PRICE}/outcomes", {"id": "by-the-rule", "value": 2.0})
    service.settle()
    clock.now += 61
    assert learned(service) == 1
    order = {"mode": "canary", "digest": "bandit:offers", "share": 0.5, "reason": "try it"}
    assert service.post("/v1/policies/price/mode", order)["candidate"] == "bandit:offers"
    kinds = {decide(service, id=f"c{n}")["policy"]["kind"] for n in range(40)}
    assert kinds == {"best-fixed-price", "bandit"}
    assert service.post("/v1/policies/price/rollback", {"reason": "enough"})["candidate"] is None
    report = service.get(f"{PRICE}/report")
    assert {policy["policy"] for policy in report["policies"]} >= {"bandit:offers"}


def test_it_may_stand_where_no_bundle_does(start_service: Any) -> None:
    service: Service = start_service(declared(mode="off", baseline="bandit:offers"))
    answer = decide(service)
    assert answer["policy"] == {"digest": "bandit:offers", "kind": "bandit"}
    assert answer["probabilities"] == pytest.approx([0.25] * 4)


def test_only_the_bandits_of_the_point_can_be_released(start_service: Any) -> None:
    service: Service = start_service(declared())
    problem = service.refused("/v1/policies/price/promote", {"digest": "bandit:others", "reason": "no"})
    assert problem["type"].endswith("unknown-policy")
    assert "bandit:offers" in problem["detail"]
    assert service.refused("/v1/bandits/offers/choose", {"features": {}})["type"].endswith("unknown-bandit")
