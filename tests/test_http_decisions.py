"""Decisions over HTTP: what is answered, what is logged, and that both are the same for ever."""

import numpy as np
import pytest
from msgspec.json import encode
from scipy import stats

from online.events import Decided, decode
from online.log import START, Partition
from service.deciding.decide import Ask, decide

PRICE = "/v1/decisions/price"
FARE = "/v1/decisions/fare"
CONTEXT = {"stock": 3, "period": 2}


def entries(service, name):
    return service.make_log().read(Partition(f"point:{name}"), START, 10_000)


def decided(service, name):
    return [decode(entry.payload) for entry in entries(service, name)]


def test_a_decision_is_logged_as_it_was_answered(service):
    answer = service.post(PRICE, {"id": "d1", "context": CONTEXT})
    (entry,) = entries(service, "price")
    event = decode(entry.payload)
    assert isinstance(event, Decided)
    assert answer["entry"] == f"0:{entry.id}"
    assert (event.id, event.action, event.index) == ("d1", answer["action"], answer["index"])
    assert event.probabilities == answer["probabilities"]
    assert event.propensity == answer["propensity"] == event.probabilities[event.index]
    assert event.context == {"stock": 3.0, "period": 2.0}
    assert answer["policy"] == {"digest": None, "kind": "best-fixed-price"}


def test_the_same_request_again_gets_the_same_answer_and_one_entry(service):
    first = service.post(PRICE, {"id": "d1", "context": CONTEXT})
    reordered = {"context": {"period": 2.0, "stock": 3.0}, "id": "d1", "episode": None, "deferred": False}
    assert service.post(PRICE, reordered) == first
    assert len(entries(service, "price")) == 1


def test_the_same_id_with_another_payload_is_a_conflict_and_changes_nothing(service):
    service.post(PRICE, {"id": "d1", "context": CONTEXT})
    problem = service.refused(PRICE, {"id": "d1", "context": {"stock": 4, "period": 2}})
    assert problem["status"] == 409
    assert problem["errors"][0]["field"] == "id"
    assert len(entries(service, "price")) == 1


def test_a_retry_after_a_promotion_on_another_replica_gets_the_first_answer(start_service, make_bundle):
    one, other = start_service(), start_service()
    first = one.post(PRICE, {"id": "d1", "context": CONTEXT})
    digest = one.client.post("/v1/policies/price", content=make_bundle()).json()["digest"]
    one.post("/v1/policies/price/promote", {"digest": digest, "reason": "try"})
    other.refresh()
    assert other.post(PRICE, {"id": "d1", "context": CONTEXT}) == first
    assert other.post(PRICE, {"id": "d2", "context": CONTEXT})["policy"]["digest"] == digest
    assert len(entries(one, "price")) == 2


def test_two_replicas_draw_alike_for_the_same_id(start_service):
    manifests = {"points": {"price": {"world": "pricing", "params": {"prices": [1, 2, 3]}, "mode": "live"}}}
    manifests["points"]["price"]["exploration"] = {"share": 1.0, "over": "allowed"}
    one, other = start_service(manifests), start_service(manifests)
    chosen = [
        [replica.post(PRICE, {"id": f"{prefix}{i}", "context": CONTEXT})["index"] for i in range(20)]
        for replica, prefix in ((one, "a"), (other, "a"), (one, "b"))
    ]
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


def test_the_same_id_gives_the_same_action_on_a_second_replica_and_after_a_restart(start_service, make_bundle):
    point = {"world": "pricing", "params": {"stock": 5, "periods": 10, "prices": [1, 1.5, 2, 2.5]}}
    manifest = {"points": {"price": point | {"mode": "live", "exploration": {"share": 0.5, "over": "allowed"}}}}
    one = start_service(manifest)
    digest = one.register("price", make_bundle(np.eye(4, 3)))
    one.post("/v1/policies/price/promote", {"digest": digest, "reason": "try"})
    bodies = [{"id": f"d{i}", "context": CONTEXT} for i in range(40)]
    first = [one.post(PRICE, body) for body in bodies]
    assert len({answer["index"] for answer in first}) > 1
    # Each reads store and log from their beginning: a second replica, and one that was started again.
    for _ in range(2):
        other = start_service(manifest)
        assert [other.post(PRICE, body) for body in bodies] == first
        served, secret = other.api.point("price"), other.api.secret
        drawn = [decide(served, Ask(served.point.decoder.decode(encode(body)), body["id"]), secret) for body in bodies]
        for answer, event in zip(first, drawn, strict=True):
            assert (event.index, event.propensity, event.policy) == (answer["index"], answer["propensity"], digest)


def test_an_id_is_made_where_none_is_given(service):
    ids = {service.post(PRICE, {"context": CONTEXT})["id"] for _ in range(3)}
    assert len(ids) == 3
    assert {event.id for event in decided(service, "price")} == ids


def test_ids_are_unique_within_their_key_alone(service):
    both = [service.post(FARE, {"id": "d1", "key": key, "context": CONTEXT}) for key in ("east", "west")]
    assert both[0]["entry"] != both[1]["entry"]
    assert [event.key for event in decided(service, "fare")] == ["east", "west"]


def test_only_allowed_actions_have_probability(service):
    for i in range(30):
        answer = service.post(PRICE, {"id": f"d{i}", "context": CONTEXT, "allowed": [1.0, 2.5]})
        assert answer["action"] in (1.0, 2.5)
        assert answer["probabilities"][1:3] == [0.0, 0.0]
        assert sum(answer["probabilities"]) == pytest.approx(1.0, abs=1e-9)


def test_the_callers_baseline_is_taken_in_apprentice_with_certainty(service):
    answer = service.post(FARE, {"key": "east", "context": CONTEXT, "baseline": 1.5})
    assert (answer["action"], answer["propensity"], answer["policy"]["kind"]) == (1.5, 1.0, "caller")
    ruled = service.post(FARE, {"key": "east", "context": CONTEXT})
    assert (ruled["action"], ruled["propensity"], ruled["policy"]["kind"]) == (2.0, 1.0, "fixed:2")


def test_the_callers_baseline_is_only_noted_when_live(service):
    service.post(PRICE, {"id": "d1", "context": CONTEXT, "baseline": 2.5})
    (event,) = decided(service, "price")
    assert event.baseline == 3
    assert event.kind == "baseline"


def test_a_bundle_that_sees_parameters_gets_the_points_own_and_they_are_logged(service, make_bundle):
    # The last price's logit is the volume minus 2.7: as likely as the others only if 2.7 was filled in.
    weights = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 100, -270]]
    digest = service.client.post("/v1/policies/price", content=make_bundle(weights, ranges=True)).json()["digest"]
    service.post("/v1/policies/price/promote", {"digest": digest, "reason": "try"})
    answer = service.post(PRICE, {"id": "d1", "context": CONTEXT})
    assert answer["estimates"] == {"volume": 2.7}
    assert np.allclose(answer["probabilities"], 0.25, atol=1e-5)
    assert decided(service, "price")[-1].estimates == {"volume": 2.7}


def test_a_trace_tells_how_well_the_estimate_was_known_that_was_decided_on(service, make_bundle):
    for i in range(60):
        service.post(PRICE, {"id": f"d{i}", "context": CONTEXT})
        service.post(f"{PRICE}/outcomes", {"id": f"d{i}", "fields": {"sold": i % 2}})
    digest = service.register("price", make_bundle([[0, 0, 0, 0]] * 4, ranges=True))
    service.post("/v1/policies/price/promote", {"digest": digest, "reason": "try"})
    service.settle()
    service.refresh()
    service.post(PRICE, {"id": "known", "context": CONTEXT})
    trace = service.get(f"{PRICE}/known")
    (volume,) = service.get("/v1/points/price/beliefs")["parameters"]
    assert trace["estimates"] == {"volume": volume["mid"]}
    assert trace["intervals"] == {"volume": [volume["low"], volume["high"]]}
    assert volume["low"] < volume["mid"] < volume["high"]


def test_actions_come_as_often_as_their_logged_probabilities_say(service, make_bundle):
    digest = service.client.post(
        "/v1/policies/price", content=make_bundle([[0, 0, 1.0], [0, 0, 0], [0, 0, 0.5], [0, 0, -1]])
    ).json()["digest"]
    service.post("/v1/policies/price/promote", {"digest": digest, "reason": "try"})
    answers = [service.post(PRICE, {"id": f"d{i}", "context": CONTEXT}) for i in range(2000)]
    probabilities = np.array(answers[0]["probabilities"])
    softmax = np.exp([1.0, 0, 0.5, -1]) / np.exp([1.0, 0, 0.5, -1]).sum()
    assert np.allclose(probabilities, 0.8 * softmax + 0.2 / 4, atol=1e-6)
    counts = np.bincount([answer["index"] for answer in answers], minlength=4)
    statistic = ((counts - 2000 * probabilities) ** 2 / (2000 * probabilities)).sum()
    assert statistic < stats.chi2.ppf(1 - 1e-4, 3)


def test_a_canary_keeps_its_arm_for_a_whole_episode_and_logs_both_probabilities(service, make_bundle):
    sure = [make_bundle([[0, 0, 50 * (action == chosen)] for action in range(4)]) for chosen in (0, 3)]
    incumbent, candidate = (service.client.post("/v1/policies/price", content=data).json()["digest"] for data in sure)
    service.post("/v1/policies/price/promote", {"digest": incumbent, "reason": "first"})
    trial = {"mode": "canary", "digest": candidate, "share": 0.3, "reason": "trial"}
    assert service.post("/v1/policies/price/mode", trial)["candidate"] == candidate
    for episode in range(150):
        for step in range(2):
            service.post(PRICE, {"id": f"{episode}-{step}", "episode": f"e{episode}", "context": CONTEXT})
    events = decided(service, "price")
    arms = {}
    for event in events:
        arms.setdefault(event.episode, set()).add(event.arm)
        given = {"incumbent": [0.85, 0.05, 0.05, 0.05], "candidate": [0.05, 0.05, 0.05, 0.85]}
        assert np.allclose(event.probabilities, given[event.arm], atol=1e-9)
        assert event.arm_probability == pytest.approx({"incumbent": 0.7, "candidate": 0.3}[event.arm])
        marginal = 0.7 * np.array(given["incumbent"]) + 0.3 * np.array(given["candidate"])
        assert event.propensity == pytest.approx(marginal[event.index])
    assert all(len(seen) == 1 for seen in arms.values())
    on_trial = sum("candidate" in seen for seen in arms.values())
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 150, 0.3)
    assert low <= on_trial <= high


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({"context": {"stock": 3}}, "context.period", "a whole number from 0 to 10 (periods)"),
        ({"context": {"stock": "3", "period": 2}}, "context.stock", "a whole number from 0 to 5 (items)"),
        ({"context": {"stock": 6, "period": 2}}, "context.stock", "a whole number from 0 to 5 (items)"),
        ({"context": {"stock": True, "period": 2}}, "context.stock", "a whole number from 0 to 5 (items)"),
        ({"context": {**CONTEXT, "colour": 1}}, "context.colour", "one of: stock, period"),
        ({"context": CONTEXT, "contex": 1}, "contex", "one of: context, id, episode, at, allowed, baseline, deferred"),
        ({"context": CONTEXT, "id": ""}, "id", "a string of 1 to 200 characters"),
        ({"context": CONTEXT, "id": "a/b"}, "id", "a string of 1 to 200 characters without slashes"),
        ({"context": CONTEXT, "allowed": [3.0]}, "allowed[0]", "one of the actions 1, 1.5, 2, 2.5"),
        ({"context": CONTEXT, "allowed": []}, "allowed", "at least one of 1, 1.5, 2, 2.5"),
        ({"context": CONTEXT, "baseline": 7}, "baseline", "one of the actions 1, 1.5, 2, 2.5"),
        ({"context": CONTEXT, "baseline": 1.0, "allowed": [2.0]}, "baseline", "one of the allowed actions"),
        ({"context": CONTEXT, "at": 1_700_000_400}, "at", "at most 300 s ahead of now"),
        ({"context": CONTEXT, "id": "report"}, "id", "any id but report, export"),
        ({}, "context", "an object with the numbers stock, period"),
        (b'{"context": {"stock": NaN, "period": 2}}', "context.stock", "a whole number from 0 to 5 (items)"),
        (b'{"context": {"stock": 1e999, "period": 2}}', "context.stock", "a whole number from 0 to 5 (items)"),
        (b'{"context": {"stock": 1' + b"0" * 5000 + b', "period": 2}}', "context.stock", "from 0 to 5"),
    ],
)
def test_a_request_that_does_not_fit_names_the_field_and_what_is_allowed(service, body, field, allowed):
    problem = service.refused(PRICE, body)
    assert problem["status"] == 422
    (fault,) = problem["errors"]
    assert fault["field"] == field
    assert allowed in fault["allowed"]
    assert entries(service, "price") == []


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"context": "\xff"}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_problem_too(service, body):
    assert service.refused(PRICE, body)["status"] in (400, 422)


def test_a_keyed_point_wants_its_key_and_another_wants_none(service):
    assert service.refused(FARE, {"context": CONTEXT})["errors"][0]["field"] == "key"
    assert service.refused(PRICE, {"context": CONTEXT, "key": "a"})["errors"][0]["field"] == "key"


def test_an_unknown_point_lists_those_that_there_are(service):
    problem = service.refused("/v1/decisions/prize", {"context": CONTEXT})
    assert problem["status"] == 404
    assert problem["errors"][0]["known"] == ["price", "fare"]


def test_the_whole_vector_is_left_out_above_64_actions_unless_it_is_asked_for(start_service):
    many = {"world": "pricing", "params": {"prices": {"geometric": [0.1, 8, 65]}}, "mode": "live"}
    service = start_service({"points": {"price": many}})
    short = service.post(PRICE, {"id": "d1", "context": CONTEXT})
    full = service.post(f"{PRICE}?full", {"id": "d1", "context": CONTEXT})
    assert "probabilities" not in short
    assert len(full.pop("probabilities")) == 65
    assert full == short
    assert len(service.get(f"{PRICE}/d1")["probabilities"]) == 65


def test_a_trace_tells_everything_about_a_decision(service):
    answer = service.post(PRICE, {"id": "d1", "context": CONTEXT, "episode": "e1", "allowed": [1.0, 2.0]})
    trace = service.get(f"{PRICE}/d1")
    assert {name: trace[name] for name in answer} == answer
    assert trace["context"] == CONTEXT
    assert trace["allowed"] == [True, False, True, False]
    assert trace["episode"] == "e1"
    assert trace["state"] == "pending"
    cumulative = np.cumsum(trace["probabilities"])
    assert np.searchsorted(cumulative, trace["draw"], side="right") == trace["index"]


def test_a_trace_of_an_unknown_decision_is_a_404_that_names_the_id(service):
    problem = service.refused(f"{PRICE}/nobody", None, method="GET")
    assert (problem["status"], problem["errors"][0]["field"]) == (404, "id")
