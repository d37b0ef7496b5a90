"""Live configuration: models and points that come, change and go while the service runs."""

import copy
import time

import pytest

from online.log import LogUnavailable
from service.deciding.declarations import Declared
from service.deciding.registry import Registry

CONTEXT = {"stock": 3, "period": 2}
MODEL = {
    "task": "binary",
    "pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression"}],
}
POINT = {"world": "pricing", "params": {"prices": [1.0, 2.0]}, "mode": "live", "outcome": {"wait": "1h"}}


def put(service, path, table):
    response = service.client.put(path, json=table)
    assert response.is_success, response.text
    return response.json()


def test_a_declared_model_learns_and_predicts_on_every_replica(start_service):
    one, other = start_service(), start_service()
    assert put(one, "/v1/models/fresh", MODEL)["name"] == "fresh"
    for i in range(20):
        one.post("/v1/models/fresh/events", {"features": {"x": float(i % 5)}, "label": i % 5 > 2})
    one.settle()
    other.refresh()
    answer = other.post("/v1/models/fresh/predict", {"features": {"x": 4.0}, "learn": False})
    assert answer["model"]["learned"] == 20
    assert [model["name"] for model in other.get("/v1/models")["models"]] == ["churn", "demand", "fresh"]


def test_a_declared_point_decides_is_described_and_stands_in_the_document(service):
    described = put(service, "/v1/points/fresh", POINT)
    assert described["actions"] == [1.0, 2.0]
    answer = service.post("/v1/decisions/fresh", {"id": "d1", "context": CONTEXT})
    assert answer["action"] in (1.0, 2.0)
    service.post("/v1/decisions/fresh/outcomes", {"id": "d1", "value": 1.5})
    service.settle()
    assert service.get("/v1/decisions/fresh/d1")["reward"] == 1.5
    assert "/v1/decisions/fresh" in service.get("/openapi.json")["paths"]


def test_a_change_takes_effect_and_leaves_everything_else_as_it_was(service):
    before = service.post("/v1/decisions/price", {"id": "d1", "context": CONTEXT})
    table = copy.deepcopy(service.get("/v1/points/price"))
    changed = {
        "world": "pricing",
        "params": table["params"],
        "ranges": table["ranges"],
        "mode": "live",
        "outcome": {"wait": "1h", "default": 0.0},
        "exploration": {"share": 0.6, "over": "allowed"},
    }
    put(service, "/v1/points/price", changed)
    after = service.post("/v1/decisions/price", {"id": "d2", "context": CONTEXT})
    assert sorted(after["probabilities"]) == pytest.approx([0.15, 0.15, 0.15, 0.55])
    assert service.post("/v1/decisions/price", {"id": "d1", "context": CONTEXT}) == before


def test_what_was_declared_while_the_store_was_away_is_served_once_it_is_back(service, monkeypatch):
    turns = []

    def away(_):
        turns.append(time.monotonic())
        raise LogUnavailable("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "jobs", away)
        service.declarations.declare("1", Declared("point", "fresh", POINT, "ana", "", 0.0))
        seen, deadline = len(turns), time.monotonic() + 10
        while len(turns) < seen + 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    service.refresh()
    assert service.post("/v1/decisions/fresh", {"context": CONTEXT})["action"] in (1.0, 2.0)


def test_a_change_outlives_a_restart(start_service):
    put(start_service(), "/v1/points/fresh", POINT)
    later = start_service()
    assert later.post("/v1/decisions/fresh", {"id": "d1", "context": CONTEXT})["id"] == "d1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"params": {"prices": [1.0, 3.0]}}, "points.fresh.actions"),
        ({"key": "sku"}, "points.fresh.key"),
        ({"outcome": {"wait": "1h", "aggregate": "max"}}, "points.fresh.outcome.aggregate"),
    ],
)
def test_a_change_of_a_point_that_its_log_could_not_follow_is_refused_with_the_way_out(service, change, said):
    put(service, "/v1/points/fresh", POINT)
    problem = service.refused("/v1/points/fresh", {**POINT, **change}, method="PUT")
    assert problem["status"] == 409
    assert said in problem["detail"]
    assert "new name" in problem["detail"]
    service.client.delete("/v1/points/fresh")
    assert service.refused("/v1/points/fresh", {**POINT, **change}, method="PUT")["status"] == 409
    assert service.get("/v1/points/price")["name"] == "price"


def test_a_change_that_what_serves_would_not_fit_is_refused_with_the_way_out(start_service):
    learning = {**POINT, "bandits": ["offers"]}
    service = start_service({"bandits": {"offers": {}}, "points": {"fresh": learning}})
    service.post("/v1/policies/fresh/promote", {"digest": "bandit:offers", "reason": "it learns"})
    problem = service.refused("/v1/points/fresh", POINT, method="PUT")
    assert problem["status"] == 409
    assert "bandit:offers serves points.fresh, and would no longer" in problem["detail"]
    assert "Go back to another policy first, or declare a point of a new name" in problem["detail"]
    assert service.post("/v1/decisions/fresh", {"context": CONTEXT})["policy"]["kind"] == "bandit"
    service.post("/v1/policies/fresh/rollback", {"reason": "to change the point"})
    put(service, "/v1/points/fresh", POINT)
    assert service.post("/v1/decisions/fresh", {"context": CONTEXT})["policy"]["kind"] != "bandit"


def test_a_model_that_has_learned_changes_only_by_learning_anew(service):
    put(service, "/v1/models/fresh", MODEL)
    for i in range(10):
        service.post("/v1/models/fresh/events", {"features": {"x": float(i % 5)}, "label": i % 5 > 2})
    service.settle()
    other = {**MODEL, "metrics": ["Accuracy"]}
    problem = service.refused("/v1/models/fresh", other, method="PUT")
    assert (problem["status"], "replay=true" in problem["detail"]) == (409, True)
    assert service.get("/v1/models/fresh/rebuild")["state"] == "none"
    described = put(service, "/v1/models/fresh?replay=true", other)
    assert (described["learned"], len(described["metrics"])) == (10, 4)
    assert service.get("/v1/models/fresh/rebuild")["state"] == "waiting"
    service.settle()
    described = service.get("/v1/models/fresh")
    assert (described["learned"], list(described["metrics"])) == (10, ["Accuracy"])
    assert service.get("/v1/models/fresh/rebuild")["state"] == "none"


def test_what_is_ended_answers_no_more_and_may_come_back(service):
    put(service, "/v1/models/fresh", MODEL)
    service.post("/v1/models/fresh/events", {"features": {"x": 1.0}, "label": True})
    service.settle()
    assert service.client.delete("/v1/models/fresh?actor=ana&reason=done").is_success
    assert service.refused("/v1/models/fresh", None, method="GET")["status"] == 404
    assert service.refused("/v1/models/fresh", None, method="DELETE")["status"] == 404
    put(service, "/v1/models/fresh", MODEL)
    service.settle()
    assert service.get("/v1/models/fresh")["learned"] == 1
    assert service.client.delete("/v1/points/price").is_success
    assert service.refused("/v1/decisions/price", {"context": CONTEXT})["status"] == 404


@pytest.mark.parametrize(
    ("path", "table", "field"),
    [
        ("/v1/points/fresh", {"world": "pricng"}, "points.fresh.world"),
        ("/v1/points/fresh", {}, "points.fresh.world"),
        ("/v1/points/Fresh", {"world": "pricing"}, "points.Fresh"),
        ("/v1/models/fresh", {"task": "binary", "pipeline": [{"use": "nothing.Here"}]}, "models.fresh.pipeline[0].use"),
        ("/v1/models/fresh", [], ""),
    ],
)
def test_a_table_that_cannot_be_served_is_named_by_its_place_as_in_a_manifest(service, path, table, field):
    problem = service.refused(path, table, method="PUT")
    assert (problem["status"], problem["errors"][0]["field"]) == (422, field)


def test_a_rejected_entry_can_be_brought_back(service):
    service.post("/v1/models/churn/labels", {"id": "p1", "label": True})
    service.settle()
    service.clock.now += 400
    service.post("/v1/models/churn/events", {"id": "p1", "features": {"x": 1.0}})
    service.settle()
    (reject,) = service.get("/v1/models/churn/rejects")["rejects"]
    path = f"/v1/models/churn/rejects/{reject['entry']}/replay"
    service.post(path, {"reason": "its features have come", "actor": "ana"})
    service.settle()
    assert service.get("/v1/models/churn")["learned"] == 1
    assert service.get("/v1/models/churn/rejects")["rejects"] == []
    assert service.refused("/v1/models/churn/rejects/1-1/replay", {"reason": "x"})["status"] == 404


def test_a_rejected_event_is_mended_and_brought_back_and_what_is_still_wrong_is_listed_again(service):
    service.post("/v1/models/churn/labels", {"id": "p1", "label": True})
    service.settle()
    service.clock.now += 400
    service.post("/v1/models/churn/events", {"id": "p2", "features": {"x": 1.0}})
    service.settle()
    (reject,) = service.get("/v1/models/churn/rejects")["rejects"]
    path = f"/v1/models/churn/rejects/{reject['entry']}/replay"
    problem = service.refused(path, {"reason": "x", "event": {"features": {"x": 1.0}}})
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "event.features")
    service.post(path, {"reason": "not the label, but its type", "event": {"label": "often"}})
    service.settle()
    (again,) = service.get("/v1/models/churn/rejects")["rejects"]
    assert (again["field"], again["event"]["label"]) == ("label", "often")
    assert again["entry"] != reject["entry"]
    service.post("/v1/models/churn/events", {"id": "p1", "features": {"x": 1.0}})
    service.post(f"/v1/models/churn/rejects/{again['entry']}/replay", {"reason": "now", "event": {"label": False}})
    service.settle()
    assert service.get("/v1/models/churn/rejects")["rejects"] == []
    assert service.get("/v1/models/churn")["counts"]["labelled"] == 1
