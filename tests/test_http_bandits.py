"""Bandits over HTTP: arms with exact propensities, rewards that teach, arms that come and go, and restarts."""

from typing import Any

import pytest
from scipy import stats

from tests.conftest import Service

OFFERS = "/v1/bandits/offers"
TABLE: dict[str, Any] = {"arms": ["none", "ten", "twenty"]}
EXACT = [{"use": "inverse_gap"}, {"use": "epsilon_greedy", "epsilon": 0.2}]


def started(start_service: Any, **changes: Any) -> Service:
    service: Service = start_service({"bandits": {"offers": TABLE | changes}})
    return service


def earned(arm: str, x: float) -> float:
    """What an arm earns: ten pays for large baskets, none for small ones, twenty never."""
    return {"none": 1.0 - x, "ten": x, "twenty": 0.2}.get(arm, 2.0)


def play(service: Service, count: int, *, prefix: str = "c", **request: Any) -> list[dict[str, Any]]:
    answers = []
    for number in range(count):
        x = number % 10 / 10
        answer = service.post(f"{OFFERS}/choose", {"id": f"{prefix}{number}", "features": {"x": x}, **request})
        service.post(f"{OFFERS}/rewards", {"id": answer["id"], "reward": earned(answer["arm"], x)})
        answers.append(answer)
        if number % 25 == 24:
            service.settle()
    service.settle()
    return answers


@pytest.mark.parametrize("explore", EXACT)
def test_arms_learn_from_rewards_and_the_best_is_taken_more_and_more(start_service: Any, explore: Any) -> None:
    service = started(start_service, explore=explore)
    play(service, 200)
    described = service.get(OFFERS)
    assert (described["rewards"], described["waiting"], described["rejected"]) == (200, 0, 0)
    assert sum(arm["rewards"] for arm in described["arms"]) == 200
    for x, best in ((0.0, "none"), (0.9, "ten")):
        answer = service.post(f"{OFFERS}/choose", {"features": {"x": x}})
        assert max(answer["probabilities"], key=answer["probabilities"].get) == best
        assert answer["probabilities"][answer["arm"]] == answer["propensity"]
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    restarted = started(start_service, explore=explore)
    restarted.settle()
    assert restarted.get(OFFERS)["arms"] == described["arms"]


@pytest.mark.parametrize("explore", EXACT)
def test_propensities_are_the_frequencies_with_which_arms_are_taken(start_service: Any, explore: Any) -> None:
    service = started(start_service, explore=explore)
    play(service, 100)
    answers = [service.post(f"{OFFERS}/choose", {"id": f"s{n}", "features": {"x": 0.3}}) for n in range(400)]
    probabilities = answers[0]["probabilities"]
    assert all(answer["probabilities"] == probabilities for answer in answers)
    observed = [sum(answer["arm"] == arm for answer in answers) for arm in probabilities]
    assert stats.chisquare(observed, [400 * p for p in probabilities.values()]).pvalue > 0.001


def test_a_retry_reads_the_same_arm_also_when_the_bandit_has_learned_since(start_service: Any) -> None:
    service = started(start_service)
    request = {"id": "c-1", "features": {"x": 0.5}}
    first = service.post(f"{OFFERS}/choose", request)
    play(service, 50)
    assert service.post(f"{OFFERS}/choose", request) == first
    assert service.post(f"{OFFERS}/choose", {**request, "id": "c-2"})["rewards"] == 50
    assert service.refused(f"{OFFERS}/choose", {"id": "c-1", "features": {"x": 0.6}})["status"] == 409
    reward = {"id": "c-1", "reward": 1.0}
    assert service.post(f"{OFFERS}/rewards", reward) == service.post(f"{OFFERS}/rewards", reward)
    assert service.refused(f"{OFFERS}/rewards", {"id": "c-1", "reward": 2.0})["status"] == 409


def test_only_allowed_arms_are_taken(start_service: Any) -> None:
    service = started(start_service)
    answers = play(service, 40, allowed=["ten", "twenty"])
    assert {answer["arm"] for answer in answers} == {"ten", "twenty"}
    assert all(answer["probabilities"].keys() == {"ten", "twenty"} for answer in answers)
    for allowed in (["thirty"], []):
        problem = service.refused(f"{OFFERS}/choose", {"features": {}, "allowed": allowed})
        assert problem["errors"][0]["field"] == "allowed"
        assert "none, ten, twenty" in problem["errors"][0]["allowed"]


def test_arms_are_added_and_retired_while_it_runs(start_service: Any) -> None:
    service = started(start_service)
    play(service, 100)
    assert service.client.put(f"{OFFERS}/arms/free?actor=ann&reason=spring").is_success
    service.settle()
    answers = play(service, 150, prefix="d")
    # The newcomer earns twice what the others do.
    assert sum(answer["arm"] == "free" for answer in answers[-50:]) > 30
    assert service.client.delete(f"{OFFERS}/arms/twenty").is_success
    service.settle()
    assert "twenty" not in {answer["arm"] for answer in play(service, 30, prefix="e")}
    states = {arm["arm"]: arm["offered"] for arm in service.get(OFFERS)["arms"]}
    assert states == {"none": True, "ten": True, "free": True, "twenty": False}
    restarted = started(start_service)
    restarted.settle()
    assert restarted.get(OFFERS) == service.get(OFFERS)
    assert service.refused(f"{OFFERS}/arms/ten", None, method="PUT")["status"] == 422
    assert service.refused(f"{OFFERS}/arms/twenty", None, method="DELETE")["status"] == 422


@pytest.mark.parametrize(
    ("explore", "why"),
    [({"use": "lin_ucb"}, "takes one arm for certain"), ({"use": "thompson"}, "no closed form among 3 arms")],
)
def test_choices_without_propensities_are_refused_off_policy(start_service: Any, explore: Any, why: str) -> None:
    service = started(start_service, explore=explore)
    answers = play(service, 60)
    assert all(answer["propensity"] is None and why in answer["refusal"] for answer in answers)
    described = service.get(OFFERS)
    assert why in described["refusal"]
    assert all(arm["value"] is None for arm in described["arms"])
    assert sum(arm["rewards"] for arm in described["arms"]) == 60


def test_thompson_is_exact_between_two_arms(start_service: Any) -> None:
    service = started(start_service, explore={"use": "thompson"})
    answer = service.post(f"{OFFERS}/choose", {"features": {"x": 0.1}, "allowed": ["none", "ten"]})
    assert answer["refusal"] is None
    assert answer["propensity"] == pytest.approx(0.5)


def test_what_an_arm_would_have_earned_everywhere_is_told_from_propensities(start_service: Any) -> None:
    service = started(start_service, explore={"use": "epsilon_greedy", "epsilon": 0.5})
    play(service, 300)
    arms = {arm["arm"]: arm for arm in service.get(OFFERS)["arms"]}
    # Taken where it pays, ten earns more than it would everywhere, which is the mean of x.
    assert arms["ten"]["mean"] > 0.55
    assert arms["ten"]["value"] == pytest.approx(0.45, abs=0.1)
    assert arms["twenty"]["value"] == pytest.approx(0.2)


def test_a_choice_without_a_reward_earned_the_default(start_service: Any) -> None:
    service = started(start_service, wait="1h", default=0)
    for number in range(5):
        service.post(f"{OFFERS}/choose", {"id": f"c{number}", "features": {"x": 0.5}})
    service.post(f"{OFFERS}/rewards", {"id": "c0", "reward": 1.0})
    service.settle()
    assert (service.get(OFFERS)["rewards"], service.get(OFFERS)["waiting"]) == (1, 4)
    service.clock.now += 3_601
    service.post(f"{OFFERS}/choose", {"id": "later", "features": {"x": 0.5}})
    service.settle()
    described = service.get(OFFERS)
    assert (described["rewards"], described["waiting"]) == (5, 1)
    service.post(f"{OFFERS}/rewards", {"id": "c1", "reward": 1.0})
    service.settle()
    assert service.get(OFFERS)["rejected"] == 1


def test_an_unknown_bandit_is_named_with_those_there_are(start_service: Any) -> None:
    service = started(start_service)
    assert [bandit["name"] for bandit in service.get("/v1/bandits")["bandits"]] == ["offers"]
    problem = service.refused("/v1/bandits/offer/choose", {"features": {}})
    assert problem["status"] == 404
    assert "offers" in problem["detail"]


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"arms": []}, "bandits.offers.arms"),
        ({"arms": ["a", "a"]}, "bandits.offers.arms"),
        ({"explore": "softmax"}, "bandits.offers.explore"),
        ({"explore": {"use": "inverse_gap", "epsilon": 0.1}}, "bandits.offers.explore.epsilon"),
        ({"explore": {"use": "epsilon_greedy", "epsilon": 2}}, "bandits.offers.explore"),
        ({"explore": "thompson", "model": "linear_model.LinearRegression"}, "bandits.offers.model.use"),
        ({"model": "naive_bayes.GaussianNB"}, "bandits.offers.model.use"),
        ({"wait": "soon"}, "bandits.offers.wait"),
        ({"default": "none"}, "bandits.offers.default"),
        ({"reward": 1}, "bandits.offers.reward"),
    ],
)
def test_what_cannot_be_a_bandit_is_refused_with_its_path(start_service: Any, table: dict[str, Any], path: str) -> None:
    with pytest.raises(ValueError, match=path.replace(".", r"\.")):
        started(start_service, **table)


def test_a_retired_arm_stays_visible_with_who_retired_it_and_why(start_service: Any) -> None:
    service = started(start_service)
    service.client.put(f"{OFFERS}/arms/thirty?actor=ann&reason=spring")
    service.settle()
    service.client.delete(f"{OFFERS}/arms/thirty?actor=bob&reason=over")
    service.settle()
    described = service.get(OFFERS)
    (thirty,) = (arm for arm in described["arms"] if arm["arm"] == "thirty")
    assert (thirty["offered"], thirty["rewards"], thirty["mean"], thirty["effective"]) == (False, 0, None, None)
    told = [(one["arm"], one["offered"], one["actor"], one["reason"]) for one in described["history"]]
    assert told == [("thirty", True, "ann", "spring"), ("thirty", False, "bob", "over")]


def test_a_rejected_reward_is_listed_mended_and_brought_back(start_service: Any) -> None:
    service = started(start_service)
    service.post(f"{OFFERS}/choose", {"id": "c1", "features": {"x": 0.5}})
    service.post(f"{OFFERS}/rewards", {"id": "c", "reward": 1})
    service.settle()
    (rejected,) = service.get(f"{OFFERS}/rejects")["rejects"]
    assert rejected["event"]["decision"] == "c"
    assert "no choice waits" in rejected["reason"]
    again = f"{OFFERS}/rejects/{rejected['entry']}/replay"
    assert service.refused(again, {"event": {"decision": "c1"}})["status"] == 422
    assert service.refused(f"{OFFERS}/rejects/1-1/replay", {"reason": "x"})["status"] == 404
    service.post(again, {"reason": "the id was cut off", "event": {"decision": "c1"}})
    service.settle()
    described = service.get(OFFERS)
    assert (described["rewards"], described["waiting"]) == (1, 0)
    assert service.get(f"{OFFERS}/rejects")["rejects"] == []
