"""The service about itself: health, metrics, the feed, the page, the document; and answers that are never bare."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from doors import OPEN
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Route

from online.log import START, EntryId, LogUnavailable
from service.deciding import feed
from service.deciding.feed import Note
from service.http.bodies import Bodies
from service.http.operations import SWITCH, Answer, Endpoint, Gate, Operation
from service.http.telemetry import Telemetry
from service.routes.system import System

PRICE = "/v1/decisions/price"
CONTEXT = {"stock": 3, "period": 2}
DOCUMENTED = Path(__file__).parents[1] / "docs" / "http.md"


def metric(service, name, **labels):
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    for line in service.client.get("/metrics").text.splitlines():
        head, _, value = line.rpartition(" ")
        if head.partition("{")[0] == name and wanted <= set(head.partition("{")[2].rstrip("}").split(",")):
            return float(value)
    return 0.0


def test_alive_and_ready(service):
    assert service.get("/health/live") == {"status": "alive"}
    assert service.get("/health/ready") == {"status": "ready"}


def test_not_ready_while_the_store_is_silent(service):
    service.api.serving.close()
    service.clock.now += 10
    problem = service.refused("/health/ready", None, method="GET")
    assert problem["status"] == 503
    assert "silent for 10" in problem["detail"]
    assert service.get("/health/live") == {"status": "alive"}


def test_a_store_that_is_away_is_a_503_and_what_was_served_is_served_on(service, monkeypatch):
    def away(*_args, **_options):
        raise LogUnavailable("connection refused")

    log = type(service.make_log())
    for name in ("append", "find", "head", "tail", "read"):
        monkeypatch.setattr(log, name, away)
    limits = service.api.writer._limits
    monkeypatch.setattr(service.api.writer, "_limits", replace_limits(limits))
    problem = service.refused(PRICE, {"id": "d1", "context": CONTEXT})
    assert problem["status"] == 503
    assert "same id" in problem["detail"]
    assert service.refused(f"{PRICE}/d1", None, method="GET")["status"] == 503
    assert service.refused("/health/ready", None, method="GET")["status"] == 503
    asked = {"features": {"x": 1.0}, "learn": False}
    assert service.post("/v1/models/churn/predict", asked)["prediction"] is False
    monkeypatch.undo()
    assert service.post(PRICE, {"id": "d1", "context": CONTEXT})["id"] == "d1"
    assert service.get("/health/ready") == {"status": "ready"}


def replace_limits(limits):
    return type(limits)(limits.waiting, limits.batch, patience=0.05, pause=0.01)


def test_decisions_and_requests_are_counted(service):
    for i in range(3):
        service.post(PRICE, {"id": f"d{i}", "context": CONTEXT})
    service.post(PRICE, {"id": "d0", "context": CONTEXT})
    service.refused(PRICE, {})
    service.post(f"{PRICE}/outcomes", {"id": "d0", "value": 1.0})
    service.refused(f"{PRICE}/outcomes", {"id": "nobody", "value": 1.0})
    route = "/v1/decisions/{point}"
    assert metric(service, "trimtab_http_requests_total", route=route, status="200") == 4
    assert metric(service, "trimtab_http_requests_total", route=route, status="422") == 1
    assert metric(service, "trimtab_http_request_seconds_count", route=route) == 5
    assert metric(service, "trimtab_decisions_total", point="price", mode="live", policy="baseline") == 3
    assert metric(service, "trimtab_outcomes_total", point="price", result="accepted") == 1
    assert metric(service, "trimtab_outcomes_total", point="price", result="unknown") == 1
    assert metric(service, "trimtab_http_refusals_total", route=route, kind="invalid-request") == 1
    assert metric(service, "trimtab_writes_waiting") == 0


def test_learners_are_gauged(service):
    service.post("/v1/models/churn/events", {"features": {"x": 1.0}, "label": True})
    service.refresh()
    assert metric(service, "trimtab_learner_lag_entries", subject="model:churn") == 1
    service.settle()
    assert metric(service, "trimtab_learner_lag_entries", subject="model:churn") == 0
    assert metric(service, "trimtab_learned", subject="model:churn") == 1
    churn = next(one for one in service.get("/v1/system")["models"] if one["name"] == "churn")
    assert (churn["learned"], churn["lag"], churn["rejected"]) == (1, 0, 0)
    assert churn["age_s"] >= 0


def test_what_came_of_decisions_is_gauged(service):
    for i in range(3):
        service.post(PRICE, {"id": f"d{i}", "context": CONTEXT})
    service.post(f"{PRICE}/outcomes", {"id": "d0", "value": 1.0})
    service.settle()
    gauged = {
        state: metric(service, "trimtab_decisions_standing", point="price", state=state)
        for state in ("rewarded", "defaulted", "late", "pending")
    }
    assert gauged == {"rewarded": 1, "defaulted": 0, "late": 0, "pending": 2}


def test_the_page_needs_nothing_from_outside(service):
    page = service.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    outside = [part for part in page.text.split('"') if part.startswith(("http://", "https://", "//"))]
    assert outside == []


def test_the_system_shows_processes_models_points_and_what_has_happened(service):
    note = Note(at=1.0, source="shop", kind="shift", text="volume is 5 from now on", subject="point:price")
    feed.tell(service.make_log(), note)
    service.refresh()
    system = service.get("/v1/system")
    assert [process["process"] for process in system["processes"]] == ["api"]
    assert [model["name"] for model in system["models"]] == ["churn", "demand"]
    assert [point["name"] for point in system["points"]] == ["price", "fare"]
    assert system["feed"][-1]["text"] == note.text


def test_the_feed_streams_notes_and_goes_on_after_the_last_one_seen(service):
    for number in range(3):
        note = Note(at=1.0, source="shop", kind="shift", text=f"note {number}")
        feed.tell(service.make_log(), note)
    service.refresh()

    async def collect(last):
        looks = iter((False, True))

        async def is_gone():
            return next(looks)

        return [part.decode() async for part in System(service.api).follow(last, is_gone)]

    retry, *told = service.client.portal.call(collect, START)
    assert retry.startswith("retry: ")
    fields = [dict(line.split(": ", 1) for line in part.strip().splitlines()) for part in told]
    assert [json.loads(note["data"])["text"] for note in fields] == ["note 0", "note 1", "note 2"]
    assert {note["event"] for note in fields} == {"shift"}
    _, *rest = service.client.portal.call(collect, EntryId.parse(fields[1]["id"]))
    assert rest == told[2:]


def test_what_is_not_there_is_a_problem_too(service):
    assert service.refused("/v1/nothing", None, method="GET")["errors"][0]["field"] == "path"
    problem = service.refused("/v1/system", None, method="PUT")
    assert (problem["status"], problem["errors"][0]["field"]) == (405, "method")


def test_the_document_has_a_typed_path_for_each_point(service):
    document = service.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    body = document["paths"][PRICE]["post"]["requestBody"]["content"]["application/json"]
    schema = document["components"]["schemas"]["price.Context"]
    assert body["schema"]["$ref"].endswith("/price.DecisionRequest")
    assert schema["properties"]["stock"] == {
        "type": "number", "minimum": 0, "maximum": 5, "multipleOf": 1, "x-unit": "items",
        "description": "items left to sell",
    }  # fmt: skip
    assert schema["required"] == ["stock", "period"]
    fare = document["components"]["schemas"]["fare.DecisionRequest"]
    assert "key" in fare["required"]
    assert set(body["example"]) == {"id", "context"}
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(operation["summary"] and operation["description"] for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)


def test_the_document_has_typed_paths_for_each_model_with_its_declared_features(service):
    paths = service.get("/openapi.json")["paths"]
    for verb in ("predict", "events"):
        body = paths[f"/v1/models/churn/{verb}"]["post"]["requestBody"]["content"]["application/json"]
        features = body["schema"]["properties"]["features"]
        assert features["properties"]["x"] == {
            "type": "number", "minimum": -10, "maximum": 10, "x-unit": "K",
            "description": "a finite number from -10 up to 10 (K)",
        }  # fmt: skip
        assert (features["required"], features["additionalProperties"]) == (["x"], False)
    keyed = paths["/v1/models/demand/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert keyed["required"] == ["features", "key"]
    service.client.request("DELETE", "/v1/models/churn")
    assert "/v1/models/churn/predict" not in service.get("/openapi.json")["paths"]


def test_what_stands_in_a_path_has_an_example_and_points_and_models_one_that_exists(service):
    document = service.get("/openapi.json")["paths"]
    found = {}
    for path in document.values():
        for operation in path.values():
            found |= {one["name"]: one["example"] for one in operation["parameters"] if one["in"] == "path"}
    assert (found["point"], found["model"]) == ("price", "churn")
    assert set(found) == {"point", "model", "bandit", "id", "entry", "job", "digest", "arm", "key"}


def test_every_route_stands_in_the_documentation(service):
    told = " ".join(DOCUMENTED.read_text().replace("`", " ").split())
    assert [path for path in service.get("/openapi.json")["paths"] if not _is_told(path, told)] == []


def _is_told(path, told):
    """Whether the page has the path, written out, or its end after `…`; typed paths are told by those of all."""
    if path.startswith(("/v1/decisions/price", "/v1/decisions/fare", "/v1/models/churn/", "/v1/models/demand/")):
        return True
    ends = [path[place:] for place, letter in enumerate(path) if letter == "/"]
    return any(f" {one} " in told for one in (path, *(f"…{end}" for end in ends)))


def test_a_switch_takes_what_the_document_says_and_nothing_else(service):
    (full,) = service.get("/openapi.json")["paths"][PRICE]["post"]["parameters"]
    assert (full["name"], full["schema"]) == ("full", SWITCH)
    boolean, words = full["schema"]["anyOf"]
    assert boolean == {"type": "boolean"}
    for word in ["true", "false", *words["enum"]]:
        assert service.post(f"{PRICE}?full={word}", {"context": CONTEXT})
    assert service.refused(f"{PRICE}?full=yes", {"context": CONTEXT})["errors"][0]["field"] == "full"


def test_the_examples_of_the_document_are_answered(service):
    answered = set()
    for path, operations in service.get("/openapi.json")["paths"].items():
        body = operations.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        # The first key shuts the door to those without one.
        if "example" in body and "{" not in path and path != "/v1/keys":
            service.post(path, body["example"])
            answered.add(path)
    models = {f"/v1/models/{model}/{verb}" for model in ("churn", "demand") for verb in ("predict", "events")}
    assert answered >= {f"/v1/decisions/{point}" for point in ("fare", "price")} | models


def test_every_json_body_of_the_document_has_an_example(service):
    without = [
        f"{method} {path}"
        for path, operations in service.get("/openapi.json")["paths"].items()
        for method, operation in operations.items()
        if "example" not in operation.get("requestBody", {}).get("content", {}).get("application/json", {"example": 1})
    ]
    assert without == []


async def _echo(call):
    await asyncio.sleep(0.3 if call.query.get("slow") else 0)
    return Answer(call.body)


def test_a_body_that_is_too_large_for_its_operation_is_refused_whether_it_says_so_or_not():
    operation = Operation("POST", "/echo", "Echo", _echo, None, request=bytes, most=1000, scope="none")
    endpoint = Endpoint([operation], Gate(8), Bodies(), Telemetry(), OPEN)
    client = TestClient(Starlette(routes=[Route("/echo", endpoint, methods=["POST"])]))
    assert client.post("/echo", content=b"x" * 1000).status_code == 200
    assert client.post("/echo", content=b"x" * 1001).status_code == 413
    assert client.post("/echo", content=(b"x" * 100 for _ in range(11))).status_code == 413
    assert client.post("/echo", content=(b"x" * 100 for _ in range(10))).content == b"x" * 1000


@pytest.mark.parametrize("sent", [[], [b"half"]])
def test_a_body_that_does_not_arrive_is_given_up(sent):
    operation = Operation("POST", "/echo", "Echo", _echo, None, request=bytes, scope="none")
    endpoint = Endpoint([operation], Gate(8), Bodies(seconds=0.05), Telemetry(), OPEN)
    answers = []
    parts = list(sent)

    async def receive():
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": True}
        await asyncio.sleep(10)
        raise AssertionError

    async def send(message):
        answers.append(message)

    scope = {"method": "POST", "path_params": {}, "headers": [], "query_string": b""}
    asyncio.run(asyncio.wait_for(endpoint(scope, receive, send), 5))
    assert answers[0]["status"] == 408


def test_beyond_the_requests_in_flight_the_next_is_refused_before_it_is_read():
    operation = Operation("POST", "/echo", "Echo", _echo, None, request=bytes, scope="none")
    gate = Gate(2)
    endpoint = Endpoint([operation], gate, Bodies(), Telemetry(), OPEN)
    statuses, reads = [], []

    async def ask(number):
        async def receive():
            reads.append(number)
            return {"type": "http.request", "body": b""}

        async def send(message):
            if message["type"] == "http.response.start":
                statuses.append((number, message["status"], dict(message["headers"]).get(b"retry-after")))

        await endpoint({"method": "POST", "path_params": {}, "headers": [], "query_string": b"slow=1"}, receive, send)

    async def all_at_once():
        await asyncio.gather(*(ask(number) for number in range(3)))

    asyncio.run(all_at_once())
    assert sorted(statuses) == [(0, 200, None), (1, 200, None), (2, 429, b"1")]
    assert reads == [0, 1]
    assert gate.waiting == 0


def test_a_handler_that_fails_answers_500_without_a_word_about_the_reason(caplog):
    async def broken(_):
        raise RuntimeError("secret detail")

    operation = Operation("GET", "/echo", "Echo", broken, None, scope="none")
    app = Starlette(
        routes=[Route("/echo", Endpoint([operation], Gate(8), Bodies(), Telemetry(), OPEN), methods=["GET"])]
    )
    response = TestClient(app).get("/echo")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "secret detail" in caplog.text


def test_a_route_that_fails_outside_of_every_endpoint_answers_the_same_500(service):
    async def broken(_):
        raise RuntimeError("secret detail")

    app = service.client.app
    app.router.routes.insert(0, Route("/broken", broken))
    response = TestClient(app, raise_server_exceptions=False).get("/broken")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:trimtab:problem:internal"
    assert "secret" not in response.text


def test_the_metrics_are_those_of_the_documentation(service):
    table = DOCUMENTED.read_text().partition("| metric ")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    shown = re.findall(r"# TYPE trimtab_(\w+) ", service.client.get("/metrics").text)
    assert named == {name for name in shown if not name.endswith("_created")}


def test_alarms_are_counted_beyond_those_that_a_learner_keeps():
    counted = Telemetry()
    for last in ([], ["a", "b"], ["a", "b"], ["b", "c"], ["d", "e"]):
        counted.alarms("point:price", last)
    assert b'trimtab_drift_alarms{subject="point:price"} 5.0' in counted.text()


def test_the_alarms_of_models_and_points_are_gauged(service):
    assert metric(service, "trimtab_drift_alarms", subject="model:churn") == 0
    assert 'trimtab_drift_alarms{subject="point:price"} 0.0' in service.client.get("/metrics").text
    told = [{"features": {"x": float(x)}, "label": (x > 0) == (i < 400)} for i in range(800) for x in (i % 7 - 3,)]
    service.lines("/v1/models/churn/events", told)
    service.settle()
    sounded = len(service.get("/v1/models/churn/alarms")["alarms"])
    assert metric(service, "trimtab_drift_alarms", subject="model:churn") == sounded > 0


def test_metrics_add_up_however_often_they_are_read(service):
    for count in (1, 2, 3):
        service.post(PRICE, {"context": CONTEXT})
        for _ in range(2):
            assert metric(service, "trimtab_decisions_total", point="price") == count
