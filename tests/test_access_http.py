"""API keys on the routes: who is let in, to what, until when, how often; and what is written down of it."""

import asyncio
import time

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

from online.log import START, Partition
from online.memory_log import MemoryBlob, MemoryLog
from service.access.keys import SCOPES, Ended, Issued, digest, own_token, token
from service.access.ledger import AUDIT, KEYS, KeyLog
from service.app import FEED, create, operations_of
from service.http.door import NEEDS
from service.manifest import parse
from service.routes.system import System
from service.settings import Settings

SECRET = "a secret of the tests, long enough"
WORD = "w" * 43
NOW = 1_700_000_000.0
PATHS = {"point": "price", "model": "churn", "bandit": "banner", "job": "j1", "id": "d1", "key": "k9", "arm": "a"}
FILLED = {**PATHS, "digest": "0" * 64, "entry": "0:1-1"}
LOGS = [AUDIT, KEYS, *(Partition(f"{what}:{name}") for what, name in (("point", "price"), ("model", "churn")))]
LOGS += [Partition("declared"), Partition("releases:price"), Partition("holds:price"), Partition("jobs")]


class Keyed:
    """A service with keys: one for each scope, and some that are of no use."""

    def __init__(self, manifest, host="127.0.0.1", now=lambda: NOW):
        self.log = MemoryLog(clock=now)
        self.settings = Settings(secret=SECRET, host=host)
        self.app = create(self.settings, parse(manifest), lambda: self.log, MemoryBlob(), now)
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def issue(self, name, scopes, subjects=(), expires=None, rate=None):
        issued = Issued(name, digest(WORD), scopes, subjects, expires, NOW, "ana", "", name, rate)
        KeyLog(self.log, SECRET.encode()).append(name, issued)
        return token(name, WORD)

    def settle(self):
        self.client.portal.call(self.app.state.api.watch.settle)

    def ask(self, method, path, key=None, **what):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return self.client.request(method, path, headers=headers, **what)

    def marks(self):
        return [self.log.tail(partition) for partition in LOGS]


@pytest.fixture
def keyed(manifest):
    made = Keyed(manifest)
    with made.client:
        yield made


def filled(path):
    return path.format_map(FILLED)


def content(operation):
    return {} if operation.request is None else {"json": operation.example or {}}


def ended(keyed, name, scope):
    """A key that was good for `scope` until it was revoked."""
    made = keyed.issue(name, (scope,))
    KeyLog(keyed.log, SECRET.encode()).append(f"{name} ends", Ended(name, NOW, NOW, "ana", "lost"))
    return made


def keys_of_all_kinds(keyed):
    """For each scope a key that is good for it; what is refused with 401; a good one of another point; none at all."""
    good = {scope: keyed.issue(scope, (scope,)) for scope in SCOPES}
    useless = {"none": None, "unknown": token("nobody", WORD)}
    elsewhere = {}
    for scope in SCOPES:
        useless |= {
            f"wrong {scope}": token(scope, "x" * 43),
            f"expired {scope}": keyed.issue(f"late-{scope}", (scope,), expires=NOW - 1),
            f"revoked {scope}": ended(keyed, f"gone-{scope}", scope),
        }
        elsewhere[f"another point's {scope}"] = keyed.issue(f"else-{scope}", (scope,), ("point:fare",))
    keyed.settle()
    return useless, good, elsewhere


def refusals(needs, useless, good, elsewhere):
    """Each key that must be refused by what needs a scope, with the status."""
    yield from ((kind, key, 401) for kind, key in useless.items())
    if needs != "any":
        yield from ((scope, key, 403) for scope, key in good.items() if scope not in (needs, "admin"))
        yield from ((kind, key, 403) for kind, key in elsewhere.items())


def test_the_scope_matrix_no_route_does_anything_for_a_key_that_may_not_use_it(keyed):
    kinds, tried = keys_of_all_kinds(keyed), 0
    before = keyed.marks()
    operations = [one for one in operations_of(keyed.app.state.api) if one.scope != "none"]
    for operation in operations:
        for kind, key, status in refusals(operation.scope, *kinds):
            answer = keyed.ask(operation.method, filled(operation.path), key, **content(operation))
            assert answer.status_code == status, (operation.method, operation.path, kind)
            assert answer.headers["content-type"] == "application/problem+json"
            assert ("www-authenticate" in answer.headers) == (status == 401)
            tried += 1
        assert keyed.marks() == before, f"{operation.method} {operation.path} did something"
    # 20 of no use, 6 of another point, and 4 of other scopes (5 where `admin` is needed), but for `any`.
    assert tried >= 30 * (len(operations) - 1)


def test_the_scope_matrix_every_route_lets_its_scope_and_admin_in(keyed):
    useless, by_scope, _ = keys_of_all_kinds(keyed)
    before = keyed.marks()
    # What ends or declares comes last: until then everything is there to be used.
    for operation in sorted(operations_of(keyed.app.state.api), key=lambda one: (one.scope == "admin", one.method)):
        fit = {"none": useless, "any": by_scope}.get(operation.scope)
        fit = {scope: by_scope[scope] for scope in (operation.scope, "admin")} if fit is None else fit
        for kind, key in fit.items():
            answer = keyed.ask(operation.method, filled(operation.path), key, **content(operation))
            assert answer.status_code not in (401, 403, 500), (operation.method, operation.path, kind)
    assert keyed.marks() != before


def test_a_route_that_no_operation_stands_for_is_the_stream_alone(keyed):
    operations = {operation.path for operation in operations_of(keyed.app.state.api)}
    served = {route.path for route in keyed.app.router.routes}
    assert served - operations == {FEED, "/openapi.json"}
    assert all(operation.scope in NEEDS for operation in operations_of(keyed.app.state.api))
    key = keyed.issue("ingests", ("ingest",))
    keyed.settle()
    for path in (FEED, "/openapi.json"):
        assert keyed.ask("GET", path).status_code == 401
        assert keyed.ask("GET", path, key).status_code == 403


def test_what_needs_no_key_says_nothing_of_anybody(keyed):
    free = {one.path for one in operations_of(keyed.app.state.api) if one.scope == "none"}
    assert free == {"/", "/health/live", "/health/ready"}


def test_an_operation_without_a_scope_cannot_be_made(keyed):
    operation = operations_of(keyed.app.state.api)[0]
    with pytest.raises(ValueError, match="has the scope ''"):
        type(operation)("GET", "/v1/new", "New", operation.handler, None)


def test_the_first_key_is_for_admin_is_shown_once_and_shuts_the_door(keyed):
    assert keyed.ask("GET", "/v1/me").status_code == 404
    assert keyed.ask("GET", "/v1/points").status_code == 200
    order = {"name": "shop", "scopes": ["decide"], "reason": "the shop"}
    assert keyed.ask("POST", "/v1/keys", json=order).status_code == 422
    made = keyed.ask("POST", "/v1/keys", json={"name": "ana", "scopes": ["admin"], "reason": "first"})
    assert made.status_code == 201
    first = made.json()["token"]
    assert keyed.ask("GET", "/v1/points").status_code == 401
    assert keyed.ask("GET", "/v1/me", first).json()["scopes"] == ["admin"]
    assert keyed.ask("POST", "/v1/keys", json=order).status_code == 401
    second = keyed.ask("POST", "/v1/keys", first, json={**order, "subjects": ["point:price"]}).json()["token"]
    assert keyed.ask("POST", "/v1/decisions/price", second, json={"context": {"stock": 3, "period": 2}}).is_success
    told = keyed.ask("GET", "/v1/keys", first)
    secret = first.partition("_")[2].partition("_")[2]
    assert secret not in told.text
    assert digest(secret) not in told.text
    stored = [entry.payload for entry in keyed.log.read(KEYS, START, 10)]
    assert not any(secret.encode() in payload for payload in stored)
    assert [key["name"] for key in told.json()["keys"]] == ["shop", "ana"]


def test_a_key_is_replaced_without_anybody_being_refused(manifest):
    now = [NOW]
    keyed = Keyed(manifest, now=lambda: now[0])
    with keyed.client:
        admin = keyed.issue("admin", ("admin",))
        old = keyed.issue("old", ("read",), ("point:price",), rate=500.0)
        keyed.settle()
        order = {"reason": "every quarter", "overlap_s": 60}
        made = keyed.ask("POST", "/v1/keys/old/rotate", admin, json=order).json()
        new = made["token"]
        assert (made["key"]["scopes"], made["key"]["subjects"], made["key"]["rate"]) == (["read"], ["point:price"], 500)
        for key in (old, new):
            assert keyed.ask("GET", "/v1/points/price", key).status_code == 200
        now[0] += 61
        assert keyed.ask("GET", "/v1/points/price", old).status_code == 401
        assert keyed.ask("GET", "/v1/points/price", new).status_code == 200
        assert keyed.ask("POST", "/v1/keys/old/rotate", admin, json=order).status_code == 404
        assert keyed.ask("DELETE", f"/v1/keys/{made['key']['key']}?reason=lost", admin).json()["ended"]
        assert keyed.ask("GET", "/v1/points/price", new).status_code == 401


def test_a_rate_answers_429_and_says_how_long_to_wait(manifest):
    now = [NOW]
    keyed = Keyed(manifest, now=lambda: now[0])
    with keyed.client:
        slow, other = keyed.issue("slow", ("read",), rate=2.0), keyed.issue("other", ("read",))
        keyed.settle()
        codes = [keyed.ask("GET", "/v1/points", slow).status_code for _ in range(4)]
        assert codes == [200, 200, 429, 429]
        refused = keyed.ask("GET", "/v1/points", slow)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["type"] == "urn:trimtab:problem:rate-limited"
        assert keyed.ask("GET", "/v1/points", other).status_code == 200
        now[0] += 1
        assert keyed.ask("GET", "/v1/points", slow).status_code == 200


def test_a_key_written_straight_into_the_store_opens_nothing(keyed):
    admin = keyed.issue("admin", ("admin",))
    forged = Issued("eve", digest(WORD), ("admin",), (), None, NOW, "eve", "")
    KeyLog(keyed.log, b"another secret than the service's").append("eve", forged)
    keyed.settle()
    assert keyed.ask("GET", "/v1/points", token("eve", WORD)).status_code == 401
    assert keyed.ask("GET", "/v1/points", admin).status_code == 200


def test_whoever_has_the_service_s_secret_can_always_make_a_key(keyed):
    keyed.issue("admin", ("admin",))
    KeyLog(keyed.log, SECRET.encode()).append("admin ends", Ended("admin", NOW, NOW, "ana", "lost"))
    keyed.settle()
    local = own_token(SECRET.encode(), "local")
    order = {"name": "ana", "scopes": ["admin"], "reason": "all were lost"}
    made = keyed.ask("POST", "/v1/keys", local, json=order)
    assert keyed.ask("GET", "/v1/points", made.json()["token"]).status_code == 200
    assert keyed.ask("GET", "/v1/points", own_token(b"x" * 32, "local")).status_code == 401
    assert keyed.ask("PUT", "/v1/points/new", own_token(SECRET.encode(), "shop"), json={}).status_code == 403


def test_where_others_can_reach_the_service_it_is_shut_until_there_is_a_key(manifest):
    made = Keyed(manifest, host="0.0.0.0")
    with made.client:
        refused = made.ask("GET", "/v1/points")
        assert refused.status_code == 401
        assert "trimtab keys create" in refused.json()["detail"]
        assert made.ask("GET", "/health/live").status_code == 200
        assert made.ask("GET", "/v1/points", own_token(SECRET.encode(), "local")).status_code == 200


def test_until_the_keys_were_read_nobody_is_let_in(manifest):
    made = Keyed(manifest)
    made.issue("admin", ("admin",))
    answer = made.client.get("/v1/points")  # not started: nothing was read yet
    assert answer.status_code == 503
    assert made.client.get("/health/live").status_code == 200


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "bearer  ", "tt_a_b", "Bearer tt_s\xe9_x"])
def test_a_header_that_is_no_bearer_token_is_no_key(keyed, header):
    keyed.issue("admin", ("admin",))
    keyed.settle()
    assert keyed.client.get("/v1/points", headers={"authorization": header.encode("latin-1")}).status_code == 401


def test_two_authorization_headers_are_no_key(keyed):
    admin = keyed.issue("admin", ("admin",))
    keyed.settle()
    headers = [("authorization", f"Bearer {admin}"), ("authorization", f"Bearer {admin}")]
    assert keyed.client.get("/v1/points", headers=headers).status_code == 401


def test_the_wrong_secret_of_a_key_costs_what_the_name_of_none_costs(keyed):
    """Both end in one comparison of two digests in constant time: no name can be told by the clock."""
    keyed.issue("admin", ("admin",))
    keyed.settle()
    door = keyed.app.state.api.door
    given = {"known": token("admin", "x" * 43), "unknown": token("nobody", "x" * 43)}
    least = {}
    for _ in range(5):
        for kind, key in given.items():
            started = time.process_time()
            for _ in range(2000):
                with pytest.raises(Exception, match="valid API key"):
                    door.admit("read", {}, [(b"authorization", f"Bearer {key}".encode())])
            least[kind] = min(least.get(kind, 1e9), time.process_time() - started)
    assert 0.7 < least["known"] / least["unknown"] < 1.4


def test_the_stream_of_what_happens_ends_with_its_key(keyed):
    key = keyed.issue("reader", ("read",))
    keyed.settle()
    assert keyed.ask("GET", FEED).status_code == 401
    secret = SECRET.encode()
    system = System(keyed.app.state.api)
    request = Request({"type": "http", "headers": [(b"authorization", f"Bearer {key}".encode())]}, never)
    stream = keyed.client.portal.call(system.feed, request).body_iterator
    assert keyed.client.portal.call(anext, stream) == b"retry: 1000\n\n"
    KeyLog(keyed.log, secret).append("reader ends", Ended("reader", NOW, NOW, "ana", "lost"))
    keyed.settle()
    with pytest.raises(StopAsyncIteration):
        keyed.client.portal.call(anext, stream)


async def never():
    await asyncio.sleep(1e6)
