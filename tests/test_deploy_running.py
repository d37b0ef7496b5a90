"""Each container's own command, with its own variables, run by hand: together they are a working system."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import _redis_binary
from containers import SECRETS, Machine, eventually, of_compose, of_kubernetes

GRACE_S = 15.0
CANARY = "canary-in-a-request-5d2e"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[[Any], Machine]]:
    made: list[Machine] = []

    def make(containers: Any) -> Machine:
        made.append(Machine(tmp_path, containers, _redis_binary()))
        return made[-1]

    yield make
    for one in made:
        one.clean_up()


def status(url: str, key: str = "") -> int:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        return httpx.get(url, headers=headers, trust_env=False, follow_redirects=True).status_code
    except httpx.TransportError:
        return 0


class Caller:
    """Asks one of the APIs, with a key."""

    def __init__(self, machine: Machine, key: str) -> None:
        self._machine, self._headers = machine, {"authorization": f"Bearer {key}"}

    def __call__(self, replica: str, method: str, path: str, body: Any = None) -> Any:
        url = f"{self._machine.url(replica)}{path}"
        answer = httpx.request(method, url, json=body, headers=self._headers, trust_env=False)
        assert answer.is_success, answer.text
        return answer.json()


def brought_up(machine: Machine, replicas: dict[str, str]) -> None:
    """All containers, Redis first, as the files say that the others wait for it or are started again."""
    machine.start("redis")
    assert eventually(lambda: "Ready to accept connections" in machine.logs())
    for replica, name in replicas.items():
        machine.start(name, replica)
    for replica in ("api-1", "api-2"):
        assert eventually(lambda replica=replica: status(f"{machine.url(replica)}/health/ready") == 200), machine.logs()


def first_key(machine: Machine) -> str:
    """What the head of the file says: the first key, made within a container of the API."""
    for replica in ("api-1", "api-2"):
        assert status(f"{machine.url(replica)}/v1/points") == 401, "nobody is answered before there is a key"
    words = ("trimtab", "keys", "create", "ana", "--scope", "admin", "--reason", "the first key")
    told = machine.run("api", "api-1", *words, "--url", machine.url("api-1"))
    return told.split()[-1]


def works(machine: Machine, key: str) -> None:
    """A decision has one answer from both APIs; what one is told the learner learns and the other serves."""
    ask = Caller(machine, key)
    assert eventually(lambda: status(f"{machine.url('api-2')}/v1/points", key) == 200, 5)
    body = {"id": "d1", "key": "sku-1", "context": {"stock": 12, "period": 30}}
    first, second = (ask(replica, "POST", "/v1/decisions/price", body) for replica in ("api-1", "api-2"))
    assert first == second
    ask("api-2", "POST", "/v1/decisions/price/outcomes", {"id": "d1", "key": "sku-1", "fields": {"sold": 1}})
    features = {"price": 1.0, "stock": 3, "period": 4}
    for number in range(20):
        told = {"id": f"e{number}", "features": features, "label": 2.0}
        written = ask(f"api-{1 + number % 2}", "POST", "/v1/models/demand/events", told)
    seen = {"features": features, "learn": False, "after": written["entry"]}
    assert ask("api-1", "POST", "/v1/models/demand/predict", seen)["prediction"] > 0.1
    assert eventually(lambda: ask("api-2", "GET", "/v1/decisions/price/d1?key=sku-1")["state"] == "rewarded"), (
        "the learner of the point has the outcome"
    )
    checks = ask("api-1", "GET", "/v1/system/store")["checks"]
    assert [check for check in checks if not check["ok"]] == [], "this Redis keeps what it acknowledges"
    assert status(f"{machine.url('api-1')}/metrics") == 401
    assert status(f"{machine.url('api-1')}/metrics", key) == 200
    learners = [replica for replica in machine.running if replica.startswith("learner")]
    for alive in (*(f"{replica}/learner-0.alive" for replica in learners), "adapter/adapter.alive"):
        begun = (machine.folder / alive).stat().st_mtime
        assert eventually(lambda alive=alive, begun=begun: (machine.folder / alive).stat().st_mtime > begun, 30), alive
    kinds = {"api", "learner", "adapter"}
    assert eventually(
        lambda: kinds <= {one["process"].split("-")[0] for one in ask("api-1", "GET", "/v1/system")["processes"]}
    ), ask("api-1", "GET", "/v1/system")["processes"]


def asked_with_canaries(machine: Machine, key: str) -> None:
    """Secrets of a caller in every place of a request come back to nobody else: not in metrics, audit or the logs."""
    url, good = machine.url("api-1"), {"authorization": f"Bearer {key}"}
    price = f"{url}/v1/decisions/price"
    odd = [
        httpx.post(price, json={"id": "x", "password": CANARY}, headers=good, trust_env=False),
        httpx.post(price, content=f"{{{CANARY}", headers=good, trust_env=False),
        httpx.post(f"{price}?token={CANARY}", json={}, headers={**good, "cookie": CANARY}, trust_env=False),
        httpx.get(f"{price}/{CANARY}?key={CANARY}", headers={**good, "x-api-key": CANARY}, trust_env=False),
        httpx.get(f"{url}/v1/points", headers={"authorization": f"Bearer tt_{CANARY}_{CANARY}"}, trust_env=False),
        httpx.get(f"{url}/{CANARY}", headers={"host": f"{CANARY}.example"}, trust_env=False),
        httpx.put(f"{url}/v1/models/new", json={"task": "binary", "secret": CANARY}, headers=good, trust_env=False),
        httpx.post(f"{url}/v1/policies/price", content=CANARY.encode(), headers=good, trust_env=False),
    ]
    assert all(400 <= answer.status_code < 500 for answer in odd), [answer.status_code for answer in odd]
    for path in ("/metrics", "/v1/audit", "/v1/system", "/v1/keys"):
        told = httpx.get(f"{url}{path}", headers=good, trust_env=False)
        assert told.is_success
        assert CANARY not in told.text
        assert not any(secret in told.text for secret in SECRETS.values() if secret)


def ends_cleanly(machine: Machine, key: str) -> None:
    """Everything ends with 0 in the time that the files give, and has said no secret."""
    assert {name: status for name, status in machine.stop(GRACE_S).items() if status} == {}, machine.logs()
    told = machine.logs()
    for secret in (*filter(None, SECRETS.values()), CANARY, key, key.rpartition("_")[2]):
        assert secret not in told


def test_the_containers_of_compose_are_a_working_system(machine: Callable[[Any], Machine]) -> None:
    made = machine(of_compose())
    replicas = {"api-1": "api", "api-2": "api", "learner": "learner", "adapter": "adapter", "console": "console"}
    brought_up(made, replicas)
    key = first_key(made)
    works(made, key)
    asked_with_canaries(made, key)
    assert eventually(lambda: status(f"{made.url('console')}/") == 200), made.logs()
    ends_cleanly(made, key)


@pytest.mark.long
def test_the_pods_of_kubernetes_are_a_working_system(machine: Callable[[Any], Machine]) -> None:
    made = machine(of_kubernetes())
    replicas = {"api-1": "api", "api-2": "api", "learner-1": "learner", "learner-2": "learner", "adapter": "adapter"}
    brought_up(made, replicas)
    key = first_key(made)
    works(made, key)
    ends_cleanly(made, key)
