"""Models over HTTP: predictions that a retry reads again, labels by id, events one by one or many at once."""

import pytest

from online.log import START, Partition

CHURN = "/v1/models/churn"
DEMAND = "/v1/models/demand"


def length(service, name="churn"):
    return service.make_log().length(Partition(f"model:{name}"))


def teach(service, count=40):
    lines = [{"id": f"t{i}", "features": {"x": float(i % 9 - 4)}, "label": i % 9 > 4} for i in range(count)]
    answer = service.lines(f"{CHURN}/events", lines)
    assert answer["accepted"] == count
    service.settle()
    return answer["entry"]


def test_the_model_learns_what_was_sent_and_predicts_better_than_before(service):
    before = service.post(f"{CHURN}/predict", {"features": {"x": 4.0}, "learn": False})
    assert before["probabilities"] == {"false": 0.5, "true": 0.5}
    entry = teach(service)
    after = service.post(f"{CHURN}/predict", {"features": {"x": 4.0}, "learn": False})
    assert after["prediction"] is True
    assert after["model"]["learned"] == 40
    assert after["model"]["entry"] == entry.removeprefix("0:")
    described = service.get(CHURN)
    assert (described["learned"], described["lag"], described["counts"]["labelled"]) == (40, 0, 40)
    assert 0.5 < described["metrics"]["Accuracy"] <= 1


def test_a_prediction_that_is_only_looked_at_leaves_no_trace(service):
    answer = service.post(f"{CHURN}/predict", {"features": {"x": 1.0}, "learn": False})
    assert "entry" not in answer
    assert length(service) == 0


def test_a_retry_reads_the_first_prediction_also_when_the_model_has_learned_since(service):
    request = {"id": "p1", "features": {"x": 4.0}}
    first = service.post(f"{CHURN}/predict", request)
    teach(service)
    assert service.post(f"{CHURN}/predict", request) == first
    assert service.post(f"{CHURN}/predict", {"id": "p2", "features": {"x": 4.0}})["model"]["learned"] == 40
    assert service.refused(f"{CHURN}/predict", {"id": "p1", "features": {"x": 5.0}})["status"] == 409


def test_a_label_that_comes_later_teaches_the_model(service):
    service.post(f"{CHURN}/predict", {"id": "p1", "features": {"x": 4.0}})
    service.settle()
    assert service.get(CHURN)["counts"]["pending"] == 1
    answer = service.post(f"{CHURN}/labels", {"id": "p1", "label": True})
    assert (answer["accepted"], answer["id"]) == (1, "p1")
    assert service.post(f"{CHURN}/labels", {"id": "p1", "label": True})["duplicates"] == 1
    assert service.refused(f"{CHURN}/labels", {"id": "p1", "label": False})["status"] == 409
    service.settle()
    assert service.get(CHURN)["counts"] == {
        "learned": 1, "pending": 0, "labelled": 1, "defaulted": 0, "late": 0, "rejected": 0, "missed": 0,
    }  # fmt: skip


def test_after_waits_for_the_entry_or_says_that_it_is_not_there_yet(service, monkeypatch):
    entry = teach(service)
    answer = service.post(f"{CHURN}/predict", {"features": {"x": 1.0}, "after": entry, "learn": False})
    assert answer["model"]["learned"] == 40
    monkeypatch.setattr("service.deciding.serving._SETTLE_S", 0.2)
    unseen = service.post(f"{CHURN}/events", {"features": {"x": 1.0}, "label": True})["entry"]
    problem = service.refused(f"{CHURN}/predict", {"features": {"x": 1.0}, "after": unseen})
    assert problem["status"] == 503
    assert service.refused(f"{CHURN}/predict", {"features": {"x": 1.0}, "after": "soon"})["status"] == 422


def test_a_model_of_intervals_says_what_the_number_lies_in_and_a_retry_says_the_same(service):
    mean = {"use": "dummy.StatisticRegressor", "statistic": {"use": "stats.Mean"}}
    pipeline = [{"use": "conf.RegressionJackknife", "confidence_level": 0.8, "regressor": mean}]
    declared = service.client.put("/v1/models/spread", json={"task": "regression", "pipeline": pipeline})
    assert declared.status_code in (200, 201), declared.text
    lines = [{"features": {"x": 0.0}, "label": float(i % 3)} for i in range(60)]
    service.lines("/v1/models/spread/events", lines)
    service.settle()
    first = service.post("/v1/models/spread/predict", {"id": "p", "features": {"x": 0.0}})
    low, high = first["interval"]
    assert low < 0.5 < first["prediction"] < 1.5 < high
    service.lines("/v1/models/spread/events", lines[:30])
    service.settle()
    assert service.post("/v1/models/spread/predict", {"id": "p", "features": {"x": 0.0}}) == first


def test_each_key_has_a_model_of_its_own(service):
    for i in range(30):
        for key, slope in (("a", 2.0), ("b", -2.0)):
            x = float(i % 5)
            service.post(f"{DEMAND}/events", {"key": key, "features": {"x": x}, "label": slope * x})
    service.settle()
    asked = {"features": {"x": 3.0}, "learn": False}
    up, down, new = (service.post(f"{DEMAND}/predict", {**asked, "key": key})["prediction"] for key in ("a", "b", "c"))
    assert up > 2
    assert down < -2
    assert new == 0.0


@pytest.mark.parametrize(
    ("features", "field", "allowed"),
    [
        ({"x": "warm"}, "features.x", "a finite number from -10 up to 10 (K)"),
        ({"x": 11}, "features.x", "a finite number from -10 up to 10 (K)"),
        ({}, "features.x", "always"),
        ({"x": 1, "y": 1}, "features.y", "left out: the model's features are x, note"),
        ({"x": 1, "note": 3}, "features.note", "a text"),
        ({"x": [1]}, "features.x", "a number"),
        (b'{"features": {"x": NaN}}', "features.x", "a finite number"),
        (b'{"features": {"x": 1e999}}', "features.x", "a finite number"),
        (b'{"features": {"x": 1, "note": "a"}, "at": 100000000000000000000}', "at", "<= 100000000000"),
        (b'{"features": 3}', "features", "an object"),
        (b"{}", "features", "required"),
    ],
)
@pytest.mark.parametrize("route", ["predict", "events"])
def test_features_that_do_not_fit_are_named_with_what_is_allowed(service, route, features, field, allowed):
    body = features if isinstance(features, bytes) else {"features": features}
    problem = service.refused(f"{CHURN}/{route}", body)
    assert problem["status"] == 422
    assert problem["errors"][0]["field"] == field
    assert allowed in problem["errors"][0]["allowed"]
    assert length(service) == 0


def test_a_label_says_whether_it_met_its_case(service):
    service.post("/v1/models/churn/events", {"id": "e1", "features": {"x": 1.0}})
    assert service.post("/v1/models/churn/labels", {"id": "e1", "label": True})["state"] == "joined"
    assert service.post("/v1/models/churn/labels", {"id": "nobody", "label": True})["state"] == "waiting"
    batch = service.lines("/v1/models/churn/labels", [{"id": "e1", "label": True}])
    assert "state" not in batch
    assert "id" not in batch


def test_a_prediction_says_whether_its_model_drifts_and_a_retry_says_the_same(service):
    asked = {"id": "p1", "features": {"x": 1.0}}
    first = service.post("/v1/models/churn/predict", asked)
    assert first["drift"] is False
    assert "label_wanted" not in first
    assert service.post("/v1/models/churn/predict", asked)["drift"] is False


def test_a_label_that_does_not_fit_the_task_is_refused(service):
    for label in (7, "yes", 0.5, None):
        problem = service.refused(f"{CHURN}/labels", {"id": "p1", "label": label})
        assert (problem["status"], problem["errors"][0]["field"]) == (422, "label")


def test_a_bad_line_rejects_that_line_alone(service):
    good = {"features": {"x": 1.0}, "label": True}
    answer = service.lines(f"{CHURN}/events", [good, {"features": {"x": "a"}}, b"{", {**good, "label": 3}, good])
    assert answer["accepted"] == 2
    assert [line["line"] for line in answer["rejected"]] == [2, 3, 4]
    assert length(service) == 2


def test_an_integer_beyond_64_bits_is_named_and_rejects_its_line_alone(service):
    wide = {"key": "a", "features": {"y": 1.0, "x": 10**25}, "label": 1.0}
    problem = service.refused(f"{DEMAND}/events", wide)
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "features.x")
    assert "at most 64 bits" in problem["errors"][0]["allowed"]
    good = {**wide, "features": {"x": 2**63}}
    answer = service.lines(f"{DEMAND}/events", [wide, good, {**good, "label": 10**20}])
    assert answer["accepted"] == 1
    assert [(line["line"], line["field"]) for line in answer["rejected"]] == [(1, "features.x"), (3, "label")]
    params = {"reason": "try", "params": {"steps": [10**30]}}
    problem = service.refused("/v1/policies/price/train", params)
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "params.steps[0]")


def test_an_unknown_model_lists_those_that_there_are(service):
    problem = service.refused("/v1/models/chrun/predict", {"features": {}})
    assert problem["errors"][0]["known"] == ["churn", "demand"]


def test_what_the_learner_sets_aside_can_be_looked_at(service):
    service.post(f"{CHURN}/labels", {"id": "nobody", "label": True})
    service.settle()
    service.clock.now += 400
    service.post(f"{CHURN}/events", {"features": {"x": 1.0}, "label": True})
    service.settle()
    (reject,) = service.get(f"{CHURN}/rejects")["rejects"]
    assert reject["event"]["label"] is True
    assert "no prediction waits under its id" in reject["reason"]
    assert service.get("/v1/system")["models"][0]["rejected"] == 1


def test_an_event_without_id_is_its_own_each_time(service):
    for _ in range(3):
        service.post(f"{CHURN}/events", {"features": {"x": 1.0}, "label": True})
    assert length(service) == 3
    ids = {entry.event_id for entry in service.make_log().read(Partition("model:churn"), START, 10)}
    assert len(ids) == 3


def test_quality_of_features_is_counted_as_it_comes_in(service):
    lines = [{"id": f"t{i}", "features": {"x": float(i)}, "label": True} for i in range(4)]
    service.lines(f"{CHURN}/events", lines)
    service.settle()
    quality = service.get(CHURN)["quality"]
    assert (quality["x"]["seen"], quality["x"]["missing"]) == (4, 0)
    assert (quality["note"]["seen"], quality["note"]["missing"]) == (4, 4)
    assert service.get(DEMAND)["quality"] == {}
