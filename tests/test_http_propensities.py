"""Through the whole application and its log: actions come as often as the logged entries say."""

import asyncio

import msgspec
import numpy as np
import pytest
from scipy import stats

from online.events import decode
from online.log import START, Partition

PATH = "/v1/decisions/price"
WEIGHTS = [[0.2, 0, 0.1], [0, 0.1, 0], [-0.1, 0, 0.6], [0, -0.1, -0.3]]
OTHER = [[0, 0, -0.4], [0, 0, 0.3], [0.1, 0, 0], [0, 0.1, 0.2]]
CASES = [
    ("live", None, 0.0, None),
    ("live", None, 0.1, None),
    ("live", "network", 0.0, None),
    ("live", "network", {"share": 0.2, "over": "allowed"}, None),
    ("live", "network", {"share": 0.2, "over": "neighbours"}, [1.0, 2.0, 2.5]),
    ("shadow", "network", 0.1, None),
    ("canary", "network", 0.0, None),
    ("canary", "network", {"share": 0.2, "over": "allowed"}, [1.0, 2.0]),
    ("canary", None, 0.1, [1.5, 2.0, 2.5]),
    ("apprentice", "network", 0.1, None),
]


async def ask(app, body):
    """One request to the application, without a socket."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": PATH, "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(b"content-type", b"application/json")], "http_version": "1.1",
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent[1]["body"]


async def ask_all(app, bodies):
    for begin in range(0, len(bodies), 256):
        await asyncio.gather(*(ask(app, body) for body in bodies[begin : begin + 256]))


def check(start_service, make_bundle, case, count):
    mode, incumbent, exploration, allowed = case
    table = {"world": "pricing", "params": {"stock": 5, "periods": 10, "prices": [1.0, 1.5, 2.0, 2.5]}}
    service = start_service({"points": {"price": {**table, "mode": "live", "exploration": exploration}}})
    if incumbent is not None:
        digest = service.register("price", make_bundle(WEIGHTS))
        service.post("/v1/policies/price/promote", {"digest": digest, "reason": "test"})
    if mode != "live":
        trial = {"digest": service.register("price", make_bundle(OTHER))} if mode in ("shadow", "canary") else {}
        share = {"share": 0.3} if mode == "canary" else {}
        service.post("/v1/policies/price/mode", {"mode": mode, "reason": "test", **trial, **share})
    request = {"context": {"stock": 3, "period": 2}} | ({} if allowed is None else {"allowed": allowed})
    bodies = [msgspec.json.encode({**request, "id": f"d{i}"}) for i in range(count)]
    service.client.portal.call(ask_all, service.client.app, bodies)
    events, after = [], START
    while entries := service.make_log().read(Partition("point:price"), after, 1000):
        events += [decode(entry.payload) for entry in entries]
        after = entries[-1].id
    assert len(events) == len({event.id for event in events}) == count
    seen = np.bincount([event.index for event in events], minlength=4)
    marginal = {event.index: event.propensity for event in events}
    wanted = np.array([marginal.get(index, 0.0) for index in range(4)])
    assert all(event.propensity == pytest.approx(wanted[event.index], abs=1e-12) for event in events)
    chosen, expected = seen[wanted > 0], wanted[wanted > 0] * count
    assert expected.min() >= 10
    statistic = ((chosen - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(statistic, max(1, len(chosen) - 1)) > 1e-6
    for event in events[:50]:
        assert sum(event.probabilities) == pytest.approx(1.0, abs=1e-9)
        assert all(p == 0.0 for p, may in zip(event.probabilities, event.allowed or [True] * 4, strict=True) if not may)


@pytest.mark.parametrize("case", [CASES[4], CASES[7]], ids=str)
def test_actions_come_as_often_as_the_log_says(start_service, make_bundle, case):
    check(start_service, make_bundle, case, 2000)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_actions_come_as_often_as_the_log_says_over_20_000_requests(start_service, make_bundle, case):
    check(start_service, make_bundle, case, 20_000)
