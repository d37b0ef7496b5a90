"""Attacks: what is written straight into the store, sent as a model, or put into a name, runs and tells nothing."""

import base64
import logging
import pickle

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from online.log import Commit, Partition
from online.snapshot import seal

MODEL = Partition("model:churn")
POLICIES = "/v1/policies/price"
PRICE = "/v1/decisions/price"
CARD = {
    "world": "pricing",
    "params": {},
    "output": "logits",
    "actions": {"name": "price", "n": 4, "unit": "money", "values": [1.0, 1.5, 2.0, 2.5]},
    "observation": [
        {"name": "stock", "unit": "items", "low": 0, "high": 5},
        {"name": "period", "unit": "periods", "low": 0, "high": 10},
    ],
}
CANARY = "canary-4f1d9c"


class Trap:
    """What runs when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def events(service, model, count):
    lines = [{"id": f"{model}-{n}", "features": {"x": n % 7}, "label": n % 2 == 0} for n in range(count)]
    service.lines(f"/v1/models/{model}/events", lines)
    service.settle()


def planted(service, partition, cursor, snapshot):
    """Puts a snapshot where the learner's own would be, as whoever can write to the store can."""
    log = service.make_log()
    epoch = log.acquire(partition, "eve")
    log.commit(partition, epoch, Commit(cursor, snapshot=snapshot, learned=99, verified=False))
    log.confirm(partition, epoch)


@pytest.mark.parametrize("dressed", ["bare", "under another secret"])
def test_a_poisoned_snapshot_written_straight_into_the_store_is_not_unpickled(service, tmp_path, dressed):
    events(service, "churn", 20)
    before = service.get("/v1/models/churn")["learned"]
    marker = tmp_path / "unpickled"
    poison = pickle.dumps(Trap(marker))
    cursor = service.make_log().load(MODEL).cursor
    if dressed != "bare":
        poison = seal(b"a secret that is not the service's", MODEL, cursor, poison)
    planted(service, MODEL, cursor, poison)
    service.refresh()
    assert not marker.exists()
    assert service.get("/v1/models/churn")["learned"] == before, "what was served before is served on"
    assert "was altered" in service.api.serving.now.errors["model:churn"]
    service.settle()
    assert not marker.exists()
    assert service.get("/v1/models/churn")["learned"] == before, "its learner learned again from the log"


def test_a_valid_snapshot_of_another_model_is_refused(service):
    events(service, "churn", 20)
    service.lines("/v1/models/demand/events", [{"key": "a", "features": {"x": 1}, "label": 2.0}])
    service.settle()
    log = service.make_log()
    moved = log.load(Partition("model:demand"))
    planted(service, MODEL, log.load(MODEL).cursor, moved.snapshot)
    service.refresh()
    assert "was altered" in service.api.serving.now.errors["model:churn"]


def test_an_older_snapshot_under_a_newer_entry_is_refused(service):
    events(service, "churn", 20)
    older = service.make_log().load(MODEL)
    service.lines("/v1/models/churn/events", [{"id": "later", "features": {"x": 1}, "label": True}])
    service.settle()
    newer = service.make_log().load(MODEL)
    assert newer.cursor > older.cursor
    planted(service, MODEL, newer.cursor, older.snapshot)
    service.refresh()
    assert "was altered" in service.api.serving.now.errors["model:churn"]


@pytest.mark.parametrize("how", ["poisoned", "moved from another key"])
def test_a_part_of_a_keyed_model_is_believed_in_its_own_place_alone(service, tmp_path, how):
    demand, marker = Partition("model:demand"), tmp_path / "unpickled"
    lines = [{"key": key, "features": {"x": 1}, "label": value} for key, value in (("a", 2.0), ("b", 900.0))]
    service.lines("/v1/models/demand/events", lines)
    service.settle()
    log = service.make_log()
    saved, (name,) = log.load(demand), [name for name, _ in log.parts(demand, "key:") if name.endswith("a")]
    other = next(data for found, data in log.parts(demand, "key:") if found != name)
    part = pickle.dumps(Trap(marker)) if how == "poisoned" else other
    epoch = log.acquire(demand, "eve")
    log.commit(demand, epoch, Commit(saved.cursor, snapshot=saved.snapshot, learned=2, parts={name: part}))
    service.lines("/v1/models/demand/events", [{"key": "a", "features": {"x": 1}, "label": 2.0}])
    service.settle()
    assert not marker.exists()
    refused = service.refused("/v1/models/demand/predict", {"key": "a", "features": {"x": 1}, "learn": False})
    assert (refused["status"], "was altered" in refused["detail"]) == (503, True)
    assert service.post("/v1/models/demand/predict", {"key": "b", "features": {"x": 1}, "learn": False})["prediction"]


NAMES = [
    "..",
    "../../etc/passwd",
    "..\x2f..\x2fsecret",
    "\x00",
    "a\x00b",
    "/etc/passwd",
    "//etc/passwd",
    "....//....//x",
]
NAMES += ["..\\..\\secret", "%2e%2e%2f", "%00", "os.system", "~root", "file:///etc/passwd", "http://127.0.0.1/"]


async def asked(app, path):
    """The status and body of a GET of a path as it is, which a client would tidy up before it sends it."""
    told = []

    async def send(message):
        told.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    await app({**scope, "headers": [(b"host", b"localhost")], "root_path": "", "scheme": "http"}, receive, send)
    return told[0]["status"], b"".join(message.get("body", b"") for message in told[1:])


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_never_a_path_nor_an_address(service, name):
    paths = [f"{POLICIES}/bundles/{name}", f"{POLICIES}/bundles/{name}/map", f"{POLICIES}/{name}/curve"]
    paths += [f"{PRICE}/{name}", f"/v1/jobs/{name}", f"/v1/models/{name}", f"/v1/points/{name}/worth"]
    for path in paths:
        status, body = service.client.portal.call(asked, service.client.app, path)
        assert 400 <= status < 500, path
        assert b"root:" not in body
        assert b"Traceback" not in body


def test_a_digest_that_is_none_is_refused_before_anything_is_looked_up(service):
    for digest in ("../" * 5 + "x", "\x00" * 64, "/etc/passwd", "F" * 64):
        problem = service.refused(f"{POLICIES}/promote", {"digest": digest, "reason": "mine"})
        assert problem["status"] == 422
        assert "digest" in problem["detail"]


@pytest.mark.parametrize(
    "use", ["os.system", "builtins.eval", "../../evil", "service.settings.Settings", "pickle.loads"]
)
def test_a_class_of_the_caller_s_choice_is_never_loaded(service, use):
    table = {"task": "binary", "pipeline": [{"use": use}]}
    problem = service.refused("/v1/models/mine", table, method="PUT")
    assert problem["status"] == 422
    assert "use" in problem["detail"]


def graph_of(nodes, domain="", values=()):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], list(values)), opset_imports=opsets, ir_version=9)


def custom_operator(_):
    return graph_of([helper.make_node("Run", ["x"], ["y"], domain="com.example")], "com.example").SerializeToString()


def external_data(folder):
    weight = onnx.numpy_helper.from_array(np.eye(2, 4, dtype=np.float32), "w")
    made = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], values=[weight])
    onnx.save_model(made, folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return (folder / "m.onnx").read_bytes()


def memory_bomb(_):
    shape = onnx.numpy_helper.from_array(np.array([200_000, 200_000]), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["top"], keepdims=0),
        helper.make_node("Concat", ["x", "x"], ["wide"], axis=1),
        helper.make_node("Add", ["wide", "top"], ["y"]),
    ]
    return graph_of(nodes, values=[shape]).SerializeToString()


@pytest.mark.parametrize(
    ("made", "said"),
    [(custom_operator, "com.example.Run"), (external_data, "another file"), (memory_bomb, "")],
    ids=["custom operator", "external data", "memory bomb"],
)
def test_a_model_that_needs_code_files_or_all_memory_is_refused_and_the_service_goes_on(service, tmp_path, made, said):
    order = {"card": CARD, "onnx": base64.b64encode(made(tmp_path)).decode()}
    problem = service.refused(f"{POLICIES}/import", order)
    assert problem["status"] == 422
    assert said in problem["detail"]
    assert service.get(POLICIES)["policies"] == []
    assert service.post(PRICE, {"context": {"stock": 3, "period": 2}})["action"] is not None


def test_canaries_in_every_input_never_reach_logs_metrics_audit_or_the_answers_to_others(service, caplog):
    caplog.set_level(logging.DEBUG)
    secret = service.post("/v1/keys", {"name": "ana", "scopes": ["admin"], "reason": "first"})["token"]
    headers = {"authorization": f"Bearer {secret}"}
    wrong = {"authorization": f"Bearer tt_x_{CANARY}"}
    bad = [b'{"id": "' + CANARY.encode() + b'"', b"\xff" + CANARY.encode(), CANARY.encode()]
    for operation in service.client.get("/openapi.json", headers=headers).json()["paths"].items():
        path, methods = operation
        if path == "/v1/feed":
            continue
        for method in methods:
            filled = path.replace("{point}", "price").replace("{model}", "churn").replace("{id}", CANARY)
            filled = filled.replace("{", "").replace("}", "")
            assert CANARY not in service.client.request(method, filled, headers=wrong).text, "a key is never told back"
            if method in ("post", "put"):
                for body in [*bad, b'{"reason": "why", "params": {"password": "' + CANARY.encode() + b'"}}']:
                    service.client.request(method, filled, content=body, headers={**headers, "cookie": CANARY})
    told = service.client.get("/metrics", headers=headers).text + service.client.get("/v1/audit", headers=headers).text
    ours = ("service", "online", "agents", "envs", "uvicorn", "asyncio")
    told += "".join(f"{one.getMessage()} {one.exc_text}" for one in caplog.records if one.name.startswith(ours))
    for canary in (CANARY, secret, secret.rpartition("_")[2], "a secret of the tests"):
        assert canary not in told
