"""Asks every route of a service that was played, and keeps an answer of each: the examples of the OpenAPI document.

python tests/answers.py        writes service/http/answers.json
"""

import base64
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[1]))

from fastapi.testclient import TestClient

from agents.bundle import Actions, Card, CurvePoint, ObservationField, pack
from online.memory_log import MemoryBlob, MemoryLog
from online.worker import Pace, Worker
from service.app import create
from service.deciding.declarations import Declarations
from service.manifest import parse
from service.processes.learners import Roster
from service.settings import Settings

FILE = Path(__file__).parents[1] / "service" / "http" / "answers.json"
SECRET = "a secret of the tests, long enough"
PRICES = [1.0, 1.5, 2.0, 2.5]
LOGISTIC = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression"}]
MANIFEST: dict[str, Any] = {
    "models": {
        "churn": {
            "task": "binary",
            "pipeline": LOGISTIC,
            "challengers": {"prior": {"pipeline": [{"use": "dummy.PriorClassifier"}]}},
        }
    },
    "bandits": {"offers": {"arms": ["blue", "green"]}},
    "points": {
        "price": {
            "world": "pricing",
            "params": {"stock": 5, "periods": 10, "prices": PRICES},
            "ranges": {"volume": [0.5, 8.0]},
            "mode": "live",
            "exploration": {"share": 0.1, "over": "neighbours"},
            "outcome": {"wait": "1h"},
        }
    },
}


class Played:
    """A service over one memory, with its learners stepped by hand, and the answers that it gave."""

    def __init__(self, client: TestClient, roster: Roster, declarations: Declarations) -> None:
        self.client, self.roster, self.declarations = client, roster, declarations
        self.answers: dict[str, Any] = {}

    def ask(self, method: str, route: str, body: Any = None, /, **names: str) -> Any:
        """The answer of a route, kept as its example."""
        query = names.pop("query", "")
        content = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        response = self.client.request(method, route.format_map(names) + query, **content)
        if not response.is_success:
            raise RuntimeError(f"{method} {route}: {response.text}")
        self.answers[f"{method} {route}"] = shortened(response.json())
        return response.json()

    def learn(self) -> None:
        """Lets the learners learn what is there, and the API see it."""
        self.roster.follow(self.declarations.follow())
        for worker in self.roster.workers:
            while worker.step():
                pass
            worker.close()
        portal: Any = self.client.portal
        portal.call(self.client.app.state.api.serving.settle)  # type: ignore[attr-defined]


def shortened(value: Any) -> Any:
    """An answer as it is shown: of a list of objects the first one alone."""
    if isinstance(value, dict):
        return {name: shortened(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shortened(one) for one in (value[:1] if value and isinstance(value[0], dict) else value)]
    return value


def model() -> bytes:
    """A linear policy over stock and period."""
    slope = np.array([[0.2, 0.0, -0.1, 0.0], [0.0, 0.1, 0.0, -0.1]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["observation", "slope"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(slope, "slope")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(made.SerializeToString())


def bundle() -> bytes:
    """The same as a bundle of its own."""
    entries = (ObservationField("stock", "items", 0, 5), ObservationField("period", "periods", 0, 10))
    curve = (CurvePoint(8192, 16.1, 9.1, 0.4), CurvePoint(16384, 8.0, 10.0, 0.8))
    actions = Actions("price", 4, "money", tuple(PRICES))
    return pack(Card(world="pricing", params={}, actions=actions, observation=entries, curve=curve), model())


def play(played: Played, later: Callable[[float], None]) -> dict[str, Any]:
    """Asks everything once."""
    ask = played.ask
    for part in (_models, _decisions, _policies, _bandits):
        part(played, later)
    points = "/v1/points/{point}"
    for route in (
        points,
        *(f"{points}/{end}" for end in ("series", "latest", "beliefs", "adaptation", "exploration", "worth")),
    ):
        ask("GET", route, point="price")
    ask("GET", "/v1/points")
    for route in ("/v1/system", "/v1/system/store", "/health/live", "/health/ready"):
        ask("GET", route)
    ask("PUT", points, {"world": "pricing", "mode": "apprentice"}, point="fare")
    ask("DELETE", points, point="fare")
    ask("PUT", "/v1/models/{model}", {"task": "binary", "pipeline": LOGISTIC}, model="fraud")
    ask("DELETE", "/v1/models/{model}", model="fraud")
    _keys(played)
    return played.answers


def _models(played: Played, later: Callable[[float], None]) -> None:
    ask, model = played.ask, "/v1/models/{model}"
    case = {"features": {"age": 42, "visits": 3}}
    for i in range(30):
        event = {"features": {"age": 20 + i, "visits": i % 5}, "label": i % 3 == 0}
        ask("POST", f"{model}/events", event, model="churn")
    played.learn()
    ask("POST", f"{model}/predict", {"id": "case-1", **case}, model="churn")
    ask("POST", f"{model}/labels", {"id": "case-1", "label": False}, model="churn")
    ask("POST", f"{model}/labels", {"id": "nobody", "label": True}, model="churn")
    ask("POST", f"{model}/champion", {"champion": "prior", "reason": "to try"}, model="churn")
    ask("POST", f"{model}/resume", {"reason": "the sensor is mended"}, model="churn")
    played.learn()
    later(400.0)
    ask("POST", f"{model}/events", {"id": "case-2", **case, "label": True}, model="churn")
    played.learn()
    for end in ("", "/alarms", "/series", "/rebuild", "/sources", "/rejects"):
        found = ask("GET", f"{model}{end}", model="churn")
    order = {"reason": "the id was wrong"}
    ask("POST", f"{model}/rejects/{{entry}}/replay", order, model="churn", entry=found["rejects"][0]["entry"])
    ask("GET", "/v1/models")


def _decisions(played: Played, later: Callable[[float], None]) -> None:
    ask, point = played.ask, "/v1/decisions/{point}"
    rejected = {"id": "order-9", "value": 1.0, "early": True}
    ask("POST", f"{point}/outcomes", rejected, point="price")
    played.learn()
    later(400.0)
    for i in range(40, 0, -1):
        context = {"stock": 1 + i % 5, "period": i % 10}
        ask("POST", point, {"id": f"order-{i}x", "context": context}, point="price")
        ask("POST", f"{point}/outcomes", {"id": f"order-{i}x", "fields": {"sold": i % 2}}, point="price")
    ask("POST", point, {"id": "order-2", "context": {"stock": 3, "period": 2}, "deferred": True}, point="price")
    ask("POST", f"{point}/activate", {"id": "order-2"}, point="price")
    played.learn()
    ask("GET", f"{point}/{{id}}", point="price", id="order-1x")
    ask("GET", f"{point}/report", point="price")
    found = ask("GET", "/v1/points/{point}/rejects", point="price")
    order = {"reason": "the id was cut off", "event": {"decision": "order-2"}}
    entry = found["rejects"][0]["entry"]
    ask("POST", "/v1/points/{point}/rejects/{entry}/replay", order, point="price", entry=entry)


def _policies(played: Played, _: Callable[[float], None]) -> None:
    ask, policies = played.ask, "/v1/policies/{point}"
    digest = ask("POST", policies, bundle(), point="price")["digest"]
    card = {
        "world": "pricing",
        "params": {},
        "output": "logits",
        "actions": {"name": "price", "n": 4, "unit": "money", "values": PRICES},
        "observation": [{"name": "stock", "unit": "items"}, {"name": "period", "unit": "periods"}],
    }
    order = {"card": card, "onnx": base64.b64encode(model()).decode()}
    other = ask("POST", f"{policies}/import", order, point="price")["digest"]
    why = {"reason": "beats the baseline", "actor": "ana"}
    ask("POST", f"{policies}/promote", {"digest": digest, **why}, point="price")
    ask("POST", f"{policies}/mode", {"mode": "canary", "digest": other, **why}, point="price")
    ask("POST", f"{policies}/rollback", why, point="price")
    ask("POST", f"{policies}/hold", why, point="price")
    ask("POST", f"{policies}/release", why, point="price")
    ask("POST", f"{policies}/train", {**why, "id": "first-price"}, point="price")
    ask("GET", policies, point="price")
    ask("GET", f"{policies}/releases", point="price")
    for end in ("bundles/{digest}", "bundles/{digest}/map", "{digest}/curve"):
        ask("GET", f"{policies}/{end}", point="price", digest=digest)
    ask("GET", "/v1/jobs")
    ask("GET", "/v1/jobs/{job}", job="first-price")
    ask("DELETE", "/v1/jobs/{job}", job="first-price")


def _bandits(played: Played, _: Callable[[float], None]) -> None:
    ask, bandit = played.ask, "/v1/bandits/{bandit}"
    ask("POST", f"{bandit}/choose", {"id": "visit-1", "features": {"hour": 14}}, bandit="offers")
    ask("POST", f"{bandit}/rewards", {"id": "nobody", "reward": 1}, bandit="offers")
    played.learn()
    ask("POST", f"{bandit}/rewards", {"id": "visit-1", "reward": 1}, bandit="offers")
    ask("PUT", f"{bandit}/arms/{{arm}}", bandit="offers", arm="red")
    played.learn()
    ask("DELETE", f"{bandit}/arms/{{arm}}", bandit="offers", arm="red")
    played.learn()
    found = ask("GET", f"{bandit}/rejects", bandit="offers")
    order = {"reason": "the id was cut off", "event": {"decision": "visit-1"}}
    again = f"{bandit}/rejects/{{entry}}/replay"
    ask("POST", again, order, bandit="offers", entry=found["rejects"][0]["entry"])
    ask("GET", bandit, bandit="offers")
    ask("GET", "/v1/bandits")


def _keys(played: Played) -> None:
    """The door shuts with the first key: all else was asked before."""
    order = {"name": "ana", "scopes": ["admin"], "reason": "the first key"}
    made = played.ask("POST", "/v1/keys", order)
    played.client.headers["authorization"] = f"Bearer {made['token']}"
    played.ask("GET", "/v1/me")
    played.ask("GET", "/v1/keys")
    rotated = played.ask("POST", "/v1/keys/{key}/rotate", {"reason": "every quarter"}, key=made["key"]["key"])
    played.ask("GET", "/v1/audit")
    played.ask("GET", "/v1/audit/check")
    played.ask("DELETE", "/v1/keys/{key}", key=rotated["key"]["key"])
    shown = "tt_0f1e2d3c4b5a_shown-this-once"
    for route in ("POST /v1/keys", "POST /v1/keys/{key}/rotate"):
        played.answers[route]["token"] = shown


def played_service() -> Iterator[dict[str, Any]]:
    """The answers of a service that lives while they are given."""
    now = [1_796_000_000.0]

    def clock() -> float:
        return now[0]

    def later(seconds: float) -> None:
        now[0] += seconds

    log, blob, parsed = MemoryLog(clock=clock), MemoryBlob(), parse(MANIFEST)
    pace = Pace(commit=0.0, calm=0.0)
    secret = SECRET.encode()

    def hire(partition: Any, make: Any) -> Worker:
        return Worker(log, make, partition, "test", secret=secret, now=clock, pace=pace)

    declarations = Declarations(log, parsed)
    roster = Roster(declarations, hire, log, blob, secret, now=clock)
    with TestClient(create(Settings(secret=SECRET), parsed, lambda: log, blob, clock)) as client:
        yield play(Played(client, roster, declarations), later)


if __name__ == "__main__":
    (answers,) = played_service()
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(answers), indent=1) + b"\n")
    print(f"{len(answers)} answers in {FILE.name}")  # noqa: T201
