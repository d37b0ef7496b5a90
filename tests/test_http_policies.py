"""Policies over HTTP: every order of an operator, tested by what is served afterwards."""

import base64

import numpy as np
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from agents.bundle import Actions, CurvePoint, ObservationField
from online.events import Released
from service.deciding.registry import Registry

PRICE = "/v1/decisions/price"
POLICIES = "/v1/policies/price"
CONTEXT = {"stock": 3, "period": 2}
WHY = {"reason": "because", "actor": "ana"}


def sure(make_bundle, action, **more):
    return make_bundle([[0, 0, 50.0 * (action == other)] for other in range(4)], **more)


@pytest.fixture
def register(service, make_bundle):
    def put(action, **more):
        response = service.client.post(POLICIES, content=sure(make_bundle, action, **more))
        assert response.status_code == 201, response.text
        return response.json()["digest"]

    return put


def served(service, number=[0]):  # noqa: B006 - a counter, so that each decision has an id of its own
    number[0] += 1
    return service.post(PRICE, {"id": f"n{number[0]}", "context": CONTEXT})["policy"]


def test_a_registered_bundle_is_listed_and_serves_nothing_yet(service, register):
    digest = register(0)
    listed = service.get(POLICIES)
    assert [(policy["digest"], policy["role"]) for policy in listed["policies"]] == [(digest, "")]
    assert listed["release"]["incumbent"] is None
    assert served(service) == {"digest": None, "kind": "best-fixed-price"}


def test_the_curve_of_a_bundle_is_read_back_and_gaps_are_shares(service, register):
    points = (CurvePoint(1000, 5.0, 0.5, 34.0), CurvePoint(2000, None, 1.0, 35.0))
    digest = register(0, curve=points, metrics={"value": 36.0, "gap": 0.5, "gap_greedy": 0.25})
    assert service.get(f"{POLICIES}/{digest}/curve") == {
        "steps": [1000, 2000], "seconds": [0.5, 1.0], "gap_share": [0.05, None], "value": [34.0, 35.0],
    }  # fmt: skip
    (listed,) = service.get(POLICIES)["policies"]
    assert listed["metrics"] == {"value": 36.0, "gap_share": 0.005, "gap_greedy_share": 0.0025}
    response = service.client.get(f"{POLICIES}/{'0' * 64}/curve")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (404, "digest")


def test_a_promotion_serves_at_once_and_says_who_and_why(service, register):
    digest = register(0)
    release = service.post(f"{POLICIES}/promote", {"digest": digest, **WHY})
    assert (release["incumbent"], release["mode"], release["actor"], release["reason"]) == (
        digest, "live", "ana", "because",
    )  # fmt: skip
    assert served(service) == {"digest": digest, "kind": "network"}
    assert service.get(POLICIES)["policies"][0]["role"] == "incumbent"


def test_one_call_goes_back(service, register):
    first, second = register(0), register(1)
    for digest in (first, second):
        service.post(f"{POLICIES}/promote", {"digest": digest, **WHY})
    assert service.post(f"{POLICIES}/rollback", WHY)["incumbent"] == first
    assert served(service)["digest"] == first
    assert service.post(f"{POLICIES}/rollback", WHY)["incumbent"] is None
    assert served(service)["kind"] == "best-fixed-price"
    assert service.refused(f"{POLICIES}/rollback", WHY)["status"] == 409
    history = service.get(f"{POLICIES}/releases")["releases"]
    assert [release["incumbent"] for release in history] == [None, first, second, first, None]


def test_an_order_is_told_to_whoever_watches_once_however_often_it_is_repeated(service, register):
    digest = register(0)
    for _ in range(2):
        service.post(f"{POLICIES}/promote", {"id": "o1", "digest": digest, **WHY})
    service.post(f"{POLICIES}/mode", {"mode": "off", **WHY})
    service.refresh()
    told = [(note["kind"], note["subject"], note["text"]) for note in service.get("/v1/system")["feed"]]
    assert told == [
        ("released", "point:price", f"price: live with {digest[:16]}, by ana: because"),
        ("released", "point:price", "price: off, by ana: because"),
    ]


def test_off_and_apprentice_serve_the_baseline_whatever_was_promoted(service, register):
    service.post(f"{POLICIES}/promote", {"digest": register(0), **WHY})
    for mode in ("off", "apprentice"):
        assert service.post(f"{POLICIES}/mode", {"mode": mode, **WHY})["mode"] == mode
        assert served(service)["kind"] == "best-fixed-price"
    service.post(f"{POLICIES}/mode", {"mode": "live", **WHY})
    assert served(service)["kind"] == "network"


def test_a_shadow_never_serves(service, register):
    incumbent, candidate = register(0), register(1)
    service.post(f"{POLICIES}/promote", {"digest": incumbent, **WHY})
    release = service.post(f"{POLICIES}/mode", {"mode": "shadow", "digest": candidate, **WHY})
    assert (release["incumbent"], release["candidate"]) == (incumbent, candidate)
    assert {served(service)["digest"] for _ in range(20)} == {incumbent}


def test_a_canary_is_promoted_without_naming_it_or_dropped_by_a_rollback(service, register):
    incumbent, candidate = register(0), register(1)
    service.post(f"{POLICIES}/promote", {"digest": incumbent, **WHY})
    trial = {"mode": "canary", "digest": candidate, "share": 0.5, **WHY}
    assert service.post(f"{POLICIES}/mode", trial)["share"] == 0.5
    assert {served(service)["digest"] for _ in range(40)} == {incumbent, candidate}
    dropped = service.post(f"{POLICIES}/rollback", WHY)
    assert (dropped["incumbent"], dropped["candidate"], dropped["mode"]) == (incumbent, None, "live")
    service.post(f"{POLICIES}/mode", trial)
    assert service.post(f"{POLICIES}/promote", WHY)["incumbent"] == candidate
    assert {served(service)["digest"] for _ in range(20)} == {candidate}


def test_an_order_repeated_under_its_id_is_one_order(service, register):
    digest = register(0)
    order = {"id": "order-1", "digest": digest, **WHY}
    first = service.post(f"{POLICIES}/promote", order)
    assert service.post(f"{POLICIES}/promote", order) == first
    assert len(service.get(f"{POLICIES}/releases")["releases"]) == 2
    other = {**order, "reason": "something else"}
    assert service.refused(f"{POLICIES}/promote", other)["status"] == 409


def test_an_order_decided_on_another_release_does_nothing(service, register):
    first, second = register(0), register(1)
    assert service.post(f"{POLICIES}/promote", {"digest": first, "expected": 0, **WHY})["number"] == 1
    refused = service.refused(f"{POLICIES}/promote", {"digest": second, "expected": 0, **WHY})
    assert (refused["status"], refused["errors"][0]["field"]) == (409, "expected")
    assert service.get(POLICIES)["release"]["incumbent"] == first
    assert service.post(f"{POLICIES}/promote", {"digest": second, "expected": 1, **WHY})["number"] == 2


def test_an_order_that_lost_to_the_service_s_own_release_says_so_and_changes_nothing(service, register, monkeypatch):
    """The adapter releases between the operator's look at the history and the operator's own entry."""
    first, second = register(0), register(1)
    adapter = Registry(service.make_log(), service.blob, service.clock)
    really = Registry.release
    order = {"id": "mine", "digest": second, **WHY}

    def late(self, point, event, asked=None):
        if event.id == "mine" and not adapter.releases("price"):
            really(adapter, "price", Released(id="adapt/1", point="price", bundle=first, actor="adapter"))
        return really(self, point, event, asked)

    monkeypatch.setattr(Registry, "release", late)
    for _ in range(2):
        assert service.refused(f"{POLICIES}/promote", order)["errors"][0]["field"] == "expected"
    service.refresh()
    assert served(service)["digest"] == first
    history = service.get(f"{POLICIES}/releases")["releases"]
    assert [release["id"] for release in history] == ["adapt/1", ""]
    assert service.post(f"{POLICIES}/promote", {**order, "id": "again"})["id"] == "again"


def test_an_answer_is_about_the_callers_own_release_whatever_came_after(service, register, monkeypatch):
    first, second = register(0), register(1)
    adapter = Registry(service.make_log(), service.blob, service.clock)
    really = Registry.release

    def early(self, point, event, asked=None):
        entry = really(self, point, event, asked)
        if event.id == "mine":
            really(adapter, "price", Released(id="adapt/1", point="price", bundle=first, actor="adapter"))
        return entry

    monkeypatch.setattr(Registry, "release", early)
    answer = service.post(f"{POLICIES}/promote", {"id": "mine", "digest": second, **WHY})
    assert (answer["incumbent"], answer["actor"], answer["number"]) == (second, "ana", 1)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("promote", {}, 422, "reason"),
        ("promote", WHY, 409, "digest"),
        ("promote", {"digest": "0" * 64, **WHY}, 404, "digest"),
        ("promote", {"digest": "abc", **WHY}, 422, "digest"),
        ("mode", {"mode": "lively", **WHY}, 422, "mode"),
        ("mode", {"mode": "canary", **WHY}, 409, "digest"),
        ("mode", {"mode": "live", "share": 0.5, **WHY}, 422, "share"),
        ("rollback", {"reason": ""}, 422, "reason"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_and_changes_nothing(service, path, body, status, field):
    problem = service.refused(f"{POLICIES}/{path}", body)
    assert (problem["status"], problem["errors"][0]["field"]) == (status, field)
    assert len(service.get(f"{POLICIES}/releases")["releases"]) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"world": "maintenance"}, "for the world 'maintenance', the point 'price' for 'pricing'"),
        ({"actions": Actions("price", 4, "money", (1.0, 1.5, 2.0, 9.0))}, "actions are 1, 1.5, 2, 9, the point's are"),
        ({"actions": Actions("price", 4, "EUR", (1.0, 1.5, 2.0, 2.5))}, "actions are in 'EUR', the point's in 'money'"),
        ({"observation": (ObservationField("stock", "items"),)}, "observes ['stock'], the context of 'price' is"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused_and_says_how(service, make_bundle, changes, said):
    response = service.client.post(POLICIES, content=make_bundle(**changes))
    assert response.status_code == 422
    assert said in response.json()["detail"]
    assert service.get(POLICIES)["policies"] == []


def foreign_card(**changes):
    return {
        "world": "pricing",
        "params": {},
        "output": "probabilities",
        "actions": {"name": "price", "n": 4, "unit": "money", "values": [1.0, 1.5, 2.0, 2.5]},
        "observation": [
            {"name": "stock", "unit": "items", "low": 0, "high": 5},
            {"name": "period", "unit": "periods", "low": 0, "high": 10},
        ],
        **changes,
    }


def classifier():
    """A scikit-learn model that sells the cheaper the more there is left."""
    x = np.array([[stock, period] for stock in range(6) for period in range(11)], np.float32)
    fitted = LogisticRegression().fit(x, np.clip(4 - x[:, 0].astype(int), 0, 3))
    return fitted, to_onnx(fitted, x[:1], options={"zipmap": False}, target_opset=18).SerializeToString()


def test_a_model_made_elsewhere_is_imported_with_its_card_and_serves_its_own_probabilities(service):
    fitted, onnx = classifier()
    order = {"card": foreign_card(), "onnx": base64.b64encode(onnx).decode(), "note": "from the data scientists"}
    digest = service.post(f"{POLICIES}/import", order)["digest"]
    (listed,) = service.get(POLICIES)["policies"]
    assert (listed["digest"], listed["kind"], listed["note"]) == (digest, "foreign", "from the data scientists")
    service.post(f"{POLICIES}/promote", {"digest": digest, **WHY})
    answer = service.post(PRICE, {"context": CONTEXT})
    # The point explores: a fifth of the probability goes evenly to all four actions.
    wanted = 0.8 * fitted.predict_proba([[3, 2]])[0] + 0.2 / 4
    assert answer["probabilities"] == pytest.approx(list(wanted), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observation": [{"name": "stock", "unit": "items"}]}, "['stock', 'period']"),
        ({"actions": {"name": "price", "n": 3}}, "3 actions"),
        ({"kind": "network"}, "foreign"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_before_anything_is_run(service, changes, said):
    order = {"card": foreign_card(**changes), "onnx": base64.b64encode(classifier()[1]).decode()}
    problem = service.refused(f"{POLICIES}/import", order)
    assert problem["status"] == 422
    assert said in problem["detail"]
    assert service.get(POLICIES)["policies"] == []


def test_a_bundle_that_breaks_a_law_of_policies_is_never_stored(service):
    order = {"card": foreign_card(output="logits"), "onnx": base64.b64encode(shifted_by_its_neighbour()).decode()}
    problem = service.refused(f"{POLICIES}/import", order)
    assert problem["status"] == 422
    assert service.get(POLICIES)["policies"] == []


def shifted_by_its_neighbour():
    """A graph whose answer to one observation depends on the others of its batch."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=1),
        helper.make_node("Concat", ["x", "x"], ["wide"], axis=1),
        helper.make_node("Mul", ["wide", "largest"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph(nodes, "g", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def test_an_altered_bundle_is_refused(service, make_bundle):
    data = bytearray(make_bundle())
    data[len(data) // 2] ^= 1
    response = service.client.post(POLICIES, content=bytes(data))
    assert response.status_code == 422
    assert "altered" in response.json()["detail"]


def test_a_held_point_is_left_alone_until_it_is_let_go(service, register):
    held = service.post(f"{POLICIES}/hold", WHY)["held"]
    assert (held["actor"], held["reason"]) == ("ana", "because")
    registry = Registry(service.make_log(), service.blob, service.clock)
    assert registry.held("price").actor == "ana"
    assert registry.held("fare") is None
    # Operators are not bound by it.
    assert service.post(f"{POLICIES}/promote", {"digest": register(0), **WHY})["mode"] == "live"
    assert service.post(f"{POLICIES}/release", {"reason": "all is well"})["held"] is None
    assert registry.held("price") is None
    service.post(f"{POLICIES}/hold", {"id": "h1", **WHY})
    assert service.refused(f"{POLICIES}/hold", {"id": "h1", "reason": "other"})["status"] == 409


def test_a_training_run_is_queued_followed_and_given_up(service):
    order = {"id": "job-1", "params": {"steps": 1000}, **WHY}
    assert service.client.post(f"{POLICIES}/train", json=order).json() == {"job": "job-1"}
    assert service.client.post(f"{POLICIES}/train", json=order).status_code == 202
    job = service.get("/v1/jobs/job-1")
    assert (job["state"], job["point"], job["kind"], job["params"]["steps"]) == ("queued", "price", "train", 1000)
    assert [job["id"] for job in service.get("/v1/jobs")["jobs"]] == ["job-1"]
    assert service.client.delete("/v1/jobs/job-1").json()["state"] == "cancelled"
    assert service.get("/v1/jobs/job-1")["state"] == "cancelled"
    assert service.refused("/v1/jobs/job-2", None, method="GET")["status"] == 404
    assert service.refused("/v1/jobs/job-2", None, method="DELETE")["status"] == 404
