"""Outcomes over HTTP: joined to their decisions, once, whatever the order they come in."""

import pytest

from online.log import START, Partition

PRICE = "/v1/decisions/price"
FARE = "/v1/decisions/fare"
CONTEXT = {"stock": 3, "period": 2}


@pytest.fixture
def decision(service):
    return service.post(PRICE, {"id": "d1", "context": CONTEXT})


def length(service, name="price"):
    return service.make_log().length(Partition(f"point:{name}"))


def test_an_outcome_by_value_rewards_its_decision(service, decision):
    answer = service.post(f"{PRICE}/outcomes", {"id": "d1", "value": 2.5})
    assert (answer["accepted"], answer["rejected"], answer["id"]) == (1, [], "d1")
    service.settle()
    trace = service.get(f"{PRICE}/d1")
    assert (trace["state"], trace["reward"], trace["outcomes"]) == ("rewarded", 2.5, 1)
    assert trace["propensity"] == decision["propensity"]


def test_an_outcome_by_fields_is_worth_what_the_world_says(service, decision):
    service.post(f"{PRICE}/outcomes", {"id": "d1", "fields": {"sold": 2}})
    service.settle()
    assert service.get(f"{PRICE}/d1")["reward"] == 2 * decision["action"]


@pytest.mark.usefixtures("decision")
def test_several_outcomes_are_aggregated_as_the_point_declares(service):
    for name, value in (("a", -3.0), ("b", 0.0), ("c", -1.0)):
        service.post(f"{PRICE}/outcomes", {"id": "d1", "outcome_id": name, "value": value})
    service.post(FARE, {"id": "d1", "key": "east", "context": CONTEXT})
    for name, value in (("a", -3.0), ("b", -1.0), ("c", -2.0)):
        service.post(f"{FARE}/outcomes", {"id": "d1", "key": "east", "outcome_id": name, "value": value})
    service.settle()
    assert service.get(f"{PRICE}/d1")["reward"] == -4.0
    assert service.get(f"{FARE}/d1?key=east")["reward"] == -1.0


def test_a_trace_lists_every_outcome_late_ones_too_in_the_order_in_which_they_came(service, decision):
    first = service.post(f"{PRICE}/outcomes", {"id": "d1", "fields": {"sold": 2}})
    at = service.clock.now
    service.clock.now += 10
    named = service.post(f"{PRICE}/outcomes", {"id": "d1", "outcome_id": "return", "value": -1.0, "at": at})
    service.settle()
    service.clock.now += 3700
    service.post(f"{PRICE}/outcomes", {"id": "d1", "outcome_id": "too late", "value": 5.0})
    unseen = service.get(f"{PRICE}/d1")
    service.settle()
    trace = service.get(f"{PRICE}/d1")
    told = [{"entry": first["entry"], "at": at, "fields": {"sold": 2}}]
    told += [{"entry": named["entry"], "at": at + 10, "outcome_id": "return", "value": -1.0, "happened": at}]
    assert unseen["received"] == told
    assert trace["received"][:2] == told
    assert [one["outcome_id"] for one in trace["received"][1:]] == ["return", "too late"]
    assert (trace["reward"], trace["outcomes"], trace["late"]) == (2 * decision["action"] - 1.0, 2, 1)


@pytest.mark.usefixtures("decision")
def test_the_same_outcome_again_counts_once_and_another_under_its_id_is_a_conflict(service):
    first = service.post(f"{PRICE}/outcomes", {"id": "d1", "value": 2.5})
    again = service.post(f"{PRICE}/outcomes", {"id": "d1", "value": 2.5, "early": True})
    assert again == {**first, "duplicates": 1}
    assert service.refused(f"{PRICE}/outcomes", {"id": "d1", "value": 9.0})["status"] == 409
    service.settle()
    assert service.get(f"{PRICE}/d1")["reward"] == 2.5


def test_an_outcome_of_an_unknown_decision_is_refused_and_leaves_no_trace(service):
    problem = service.refused(f"{PRICE}/outcomes", {"id": "nobody", "value": 1.0})
    assert problem["status"] == 404
    (fault,) = problem["errors"]
    assert fault["field"] == "id"
    assert fault["given"] == '"nobody"'
    assert "the id of a decision of 'price'" in fault["allowed"]
    assert length(service) == 0


def test_an_early_outcome_waits_for_its_decision(service):
    service.post(f"{PRICE}/outcomes", {"id": "d1", "value": 2.5, "early": True})
    service.settle()
    service.post(PRICE, {"id": "d1", "context": CONTEXT})
    service.settle()
    trace = service.get(f"{PRICE}/d1")
    assert (trace["state"], trace["reward"]) == ("rewarded", 2.5)


@pytest.mark.usefixtures("decision")
def test_a_decision_without_outcome_defaults_after_the_wait_and_a_late_one_changes_nothing(service):
    service.settle()
    service.clock.now += 3601
    service.settle()
    trace = service.get(f"{PRICE}/d1")
    assert (trace["state"], trace["reward"], trace["closed"]) == ("defaulted", 0.0, True)
    service.post(f"{PRICE}/outcomes", {"id": "d1", "value": 2.5})
    service.settle()
    trace = service.get(f"{PRICE}/d1")
    assert (trace["state"], trace["reward"], trace["late"]) == ("defaulted", 0.0, 1)


def test_a_deferred_decision_counts_once_it_is_activated(service):
    service.post(PRICE, {"id": "d1", "context": CONTEXT, "deferred": True})
    service.settle()
    assert service.get(f"{PRICE}/d1")["state"] == "deferred"
    first = service.post(f"{PRICE}/activate", {"id": "d1"})
    assert service.post(f"{PRICE}/activate", {"id": "d1"}) == first
    service.post(f"{PRICE}/outcomes", {"id": "d1", "value": 2.5})
    service.settle()
    assert service.get(f"{PRICE}/d1")["reward"] == 2.5
    assert service.refused(f"{PRICE}/activate", {"id": "nobody"})["status"] == 404


@pytest.mark.usefixtures("decision")
def test_a_bad_line_rejects_that_line_alone(service):
    answer = service.lines(
        f"{PRICE}/outcomes",
        [
            {"id": "d1", "value": 1.0, "outcome_id": "a"},
            b'{"id": "d1", "value": ',
            {"id": "nobody", "value": 1.0},
            b"",
            {"id": "d1", "value": "2"},
            b'{"id": "d1", "value": NaN}',
            {"id": "d1", "value": 1.0, "outcome_id": "a"},
            {"id": "d1", "value": 7.0, "outcome_id": "a"},
            {"id": "d1", "fields": {"sold": 1}, "outcome_id": "b"},
        ],
    )
    assert (answer["accepted"], answer["duplicates"]) == (3, 1)
    told = [(line["line"], line["status"], line.get("field", "")) for line in answer["rejected"]]
    assert told == [(2, 400, ""), (3, 404, "id"), (5, 422, "value"), (6, 422, "value"), (8, 409, "id")]
    assert length(service) == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "d1"}, "value"),
        ({"id": "d1", "value": 1.0, "fields": {"sold": 1}}, "value"),
        ({"id": "d1", "fields": {"sald": 1}}, "fields.sald"),
        ({"id": "d1", "fields": {}}, "fields.sold"),
        ({"id": "d1", "fields": {"sold": -5}}, "fields.sold"),
        ({"id": "d1", "fields": {"sold": 1.5}}, "fields.sold"),
        ({"id": "d1", "value": 1e300}, "value"),
        ({"id": "d1", "value": 1.0, "outcome_id": "activated"}, "outcome_id"),
        ({"value": 1.0}, "id"),
        ({"id": "d1", "key": "east", "value": 1.0}, "key"),
    ],
)
@pytest.mark.usefixtures("decision")
def test_an_outcome_that_does_not_fit_names_the_field(service, body, field):
    problem = service.refused(f"{PRICE}/outcomes", body)
    assert (problem["status"], problem["errors"][0]["field"]) == (422, field)
    assert length(service) == 1


def test_values_per_policy_are_shown(service):
    for i in range(4):
        service.post(PRICE, {"id": f"d{i}", "context": CONTEXT})
    for i in range(3):
        service.post(f"{PRICE}/outcomes", {"id": f"d{i}", "value": float(i)})
    service.settle()
    price = next(point for point in service.get("/v1/system")["points"] if point["name"] == "price")
    (value,) = price["values"]
    # The last one may yet earn the default: the mean waits for it, else it would say 1.
    assert (value["policy"], value["decisions"], value["rewarded"], value["mean"]) == ("best-fixed-price", 4, 3, None)
    assert (price["decisions"], price["pending"], price["lag"]) == (4, 1, 0)


def test_what_the_learner_has_not_seen_is_counted_as_lag(service):
    for i in range(3):
        service.post(PRICE, {"id": f"d{i}", "context": CONTEXT})
    service.refresh()
    price = next(point for point in service.get("/v1/system")["points"] if point["name"] == "price")
    assert price["lag"] == 3
    assert service.make_log().read(Partition("point:price"), START, 10)[-1].number == 3


def test_an_outcome_that_met_no_decision_is_listed_mended_and_brought_back(service, decision):
    service.post(f"{PRICE}/outcomes", {"id": "d", "fields": {"sold": 2}, "early": True})
    service.settle()
    assert service.get("/v1/points/price/rejects") == {"rejects": []}
    service.clock.now += 400
    service.post(PRICE, {"id": "d2", "context": CONTEXT})
    service.settle()
    (reject,) = service.get("/v1/points/price/rejects")["rejects"]
    assert (reject["field"], reject["event"]["decision"], reject["event"]["fields"]) == ("id", "d", {"sold": 2})
    path = f"/v1/points/price/rejects/{reject['entry']}/replay"
    problem = service.refused(path, {"reason": "cut off", "event": {"decison": "d1"}})
    assert problem["errors"][0]["field"] == "event.decison"
    service.post(path, {"reason": "cut off", "event": {"decision": "d1"}})
    service.settle()
    assert service.get("/v1/points/price/rejects") == {"rejects": []}
    assert service.get(f"{PRICE}/d1")["reward"] == 2 * decision["action"]
    assert service.refused("/v1/points/price/rejects/1-1/replay", {"reason": "x"})["status"] == 404
