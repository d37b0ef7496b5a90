"""The audit chain in its log: what is done behind the service's back is found and named; many writers, one chain."""

import json

import pytest
from fastapi.testclient import TestClient

from online.log import START, Draft
from online.memory_log import MemoryBlob, MemoryLog
from online.redis_log import RedisLog
from service.access.audit import Action
from service.access.keys import Issued, own_token
from service.access.ledger import AUDIT, KEYS, AuditLog, KeyLog
from service.app import create
from service.manifest import parse
from service.settings import Settings

SECRET = b"a secret of the tests, long enough"


def action(number: int) -> Action:
    return Action("Promote", "point:price", "ana", f"reason {number}", float(number), "k1", "0" * 64)


def filled(log, count: int = 6) -> AuditLog:
    chain = AuditLog(log, SECRET)
    for number in range(1, count + 1):
        chain.append(action(number))
    return chain


def test_several_processes_make_one_chain(make_log):
    chains = [AuditLog(make_log(), SECRET) for _ in range(3)]
    for number in range(1, 31):
        chains[number % 3].append(action(number))
    assert AuditLog(make_log(), SECRET).check() is None
    assert [chain.head() for chain in chains] == [chains[0].head()] * 3
    assert chains[0].head().entries == 30
    assert [sealed.action.reason for sealed in chains[1].page(None, 3)] == ["reason 30", "reason 29", "reason 28"]
    assert [sealed.number for sealed in chains[1].page(3, 10)] == [2, 1]
    assert chains[1].page(1, 10) == []


def test_a_writer_that_knew_less_comes_after_whoever_was_there_first(make_log):
    late = AuditLog(make_log(), SECRET)
    late.head()
    filled(make_log(), 4)
    assert late.append(action(9)).number == 5
    assert AuditLog(make_log(), SECRET).check() is None


@pytest.fixture
def tampered(redis_client):
    """The chain of six entries in Redis, and its stream as whoever can write there sees it."""
    chain = filled(RedisLog(redis_client))
    (name,) = [key for key in redis_client.keys("*audit*") if redis_client.type(key) == b"stream"]
    return redis_client, name, chain


def entries(client, name):
    return [(place, dict(zip(fields[::2], fields[1::2], strict=True))) for place, fields in client.xrange(name)]


def rewritten(client, name, kept):
    client.delete(name)
    for fields in kept:
        client.xadd(name, fields)


def found(client, head=None):
    return AuditLog(RedisLog(client), SECRET).check(head)


def test_an_edited_entry_is_named(tampered):
    client, name, _ = tampered
    kept = [fields for _, fields in entries(client, name)]
    kept[2][b"p"] = kept[2][b"p"].replace(b"reason 3", b"reason X")
    rewritten(client, name, kept)
    broken = found(client)
    assert (broken.number, "edited" in broken.what) == (3, True)


def test_an_entry_whose_text_is_none_of_ours_is_named(tampered):
    client, name, _ = tampered
    kept = [fields for _, fields in entries(client, name)]
    kept[2][b"p"] = b"\xff not even JSON"
    rewritten(client, name, kept)
    assert found(client).number == 3


def test_a_deleted_entry_is_named(tampered):
    client, name, _ = tampered
    client.xdel(name, entries(client, name)[3][0])
    broken = found(client)
    assert (broken.number, "deleted" in broken.what) == (4, True)


def test_an_inserted_entry_is_named(tampered):
    client, name, _ = tampered
    kept = [fields for _, fields in entries(client, name)]
    rewritten(client, name, [*kept[:4], kept[1], *kept[4:]])
    broken = found(client)
    assert (broken.number, "inserted" in broken.what) == (5, True)


def test_an_entry_that_an_outsider_appended_is_named(tampered):
    client, _, _ = tampered
    forged = AuditLog(RedisLog(client), b"not the service's secret at all")
    forged.append(action(7))
    broken = found(client)
    assert (broken.number, "edited" in broken.what) == (7, True)


def test_reordered_entries_are_named(tampered):
    client, name, _ = tampered
    kept = [fields for _, fields in entries(client, name)]
    rewritten(client, name, [*kept[:2], kept[3], kept[2], *kept[4:]])
    broken = found(client)
    assert (broken.number, "reordered" in broken.what) == (3, True)


def test_a_cut_tail_is_named_against_a_head_that_was_noted_and_by_whoever_saw_it(tampered):
    client, name, chain = tampered
    head = chain.head().seal
    for place, _ in entries(client, name)[4:]:
        client.xdel(name, place)
    assert "tail was cut" in found(client).what, "the log's own count shows it, as long as that was not touched too"
    for broken in (found(client, head), found(client, head[:16]), chain.check()):
        assert "tail was cut" in broken.what
        assert broken.number == 5


def test_after_a_cut_the_chain_goes_on_and_the_hole_stays_to_be_seen(tampered):
    client, name, _ = tampered
    for place, _ in entries(client, name)[4:]:
        client.xdel(name, place)
    after = [AuditLog(RedisLog(client), SECRET) for _ in range(2)]
    assert [after[number % 2].append(action(number)).number for number in range(7, 10)] == [6, 7, 8]
    broken = found(client)
    assert (broken.number, "deleted" in broken.what) == (5, True)


def test_a_key_event_of_an_outsider_is_left_out(log):
    KeyLog(log, SECRET).append("k1", Issued("k1", "0" * 64, ("read",), (), None, 0.0, "ana", ""))
    log.append(KEYS, [Draft("k2", b"", b"x" * 32 + b'{"type":"key-issued/1"}')])
    log.append(KEYS, [Draft("k3", b"", log.read(KEYS, START, 1)[0].payload)])
    assert list(KeyLog(log, SECRET).follow().keys) == ["k1"]


ORDERS = [
    ("Promote", "POST", "/v1/policies/price/promote", "point:price"),
    ("Go back", "POST", "/v1/policies/price/rollback", "point:price"),
    ("Change the mode", "POST", "/v1/policies/price/mode", "point:price"),
    ("Hold", "POST", "/v1/policies/price/hold", "point:price"),
    ("Let go on", "POST", "/v1/policies/price/release", "point:price"),
    ("Train", "POST", "/v1/policies/price/train", "point:price"),
]


def test_each_order_of_a_person_is_kept_before_it_is_answered(service, make_bundle):
    body = {"promote": {"digest": service.register("price", make_bundle())}, "mode": {"mode": "apprentice"}}
    for number, (verb, method, path, target) in enumerate(ORDERS):
        order = {**body.get(path.rpartition("/")[2], {}), "reason": f"because {number}", "actor": "ana"}
        assert service.client.request(method, path, json=order).is_success, path
        newest = service.get("/v1/audit?last=1")["audit"][0]
        told = (newest["verb"], newest["target"], newest["actor"], newest["reason"], newest["path"])
        assert told == (verb, target, "ana", f"because {number}", path)
    table = {"world": "pricing", "params": {"stock": 5, "periods": 10}, "mode": "off"}
    assert service.client.put("/v1/points/more?reason=new&actor=ben", json=table).is_success
    assert service.client.delete("/v1/points/more?reason=old&actor=ben").is_success
    page = service.get("/v1/audit?last=3")
    assert [entry["reason"] for entry in page["audit"]] == ["old", "new", "because 5"]
    assert page["entries"] == len(ORDERS) + 3
    assert service.get(f"/v1/audit?before={page['next']}&last=100")["next"] is None
    check = service.get("/v1/audit/check")
    assert (check["holds"], check["entries"], check["broken"]) == (True, page["entries"], None)


def test_what_was_refused_and_what_programs_do_is_not_in_the_audit(service):
    service.refused("/v1/policies/price/rollback", {"reason": "nothing came before"})
    service.refused("/v1/policies/price/mode", {"mode": "up"})
    service.post("/v1/decisions/price", {"context": {"stock": 3, "period": 2}})
    assert service.get("/v1/audit") == {"audit": [], "entries": 0, "next": None}


def test_an_order_that_cannot_be_written_down_is_not_answered_as_done(manifest):
    log = MemoryLog()

    class Forgetful(MemoryLog):
        def __init__(self):
            self.__dict__ = log.__dict__

        def append(self, partition, drafts):
            if partition == AUDIT:
                raise ConnectionError("full")
            return super().append(partition, drafts)

    app = create(Settings(secret=SECRET.decode()), parse(manifest), Forgetful, MemoryBlob())
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/v1/policies/price/hold", json={"reason": "wait"})
        assert answer.status_code == 500
        assert "full" not in answer.text


def test_the_audit_knows_the_key_and_nothing_of_what_was_sent(service):
    first = service.post("/v1/keys", {"name": "ana", "scopes": ["admin"], "reason": "first"})
    headers = {"authorization": f"Bearer {first['token']}"}
    card = {"world": "pricing", "note": "canary-in-the-body"}
    order = {"reason": "why not", "params": {"card": card}}
    assert service.client.post("/v1/policies/price/train", json=order, headers=headers).is_success
    told = service.client.get("/v1/audit", headers=headers)
    newest, oldest = told.json()["audit"]
    assert (newest["key"], newest["actor"], oldest["target"]) == (
        first["key"]["key"],
        "ana",
        f"key:{first['key']['key']}",
    )
    stored = b"".join(entry.payload for entry in service.make_log().read(AUDIT, START, 10))
    for canary in ("canary-in-the-body", first["token"], first["token"].rpartition("_")[2]):
        assert canary not in told.text
        assert canary.encode() not in stored


def test_a_page_number_or_head_that_is_none_is_refused(service):
    for query in ("before=0", "before=x", "last=0", "last=1001"):
        assert service.client.get(f"/v1/audit?{query}").status_code == 422
    for head in ("abc", "g" * 16, "0" * 65):
        assert service.client.get(f"/v1/audit/check?head={head}").status_code == 422
    assert not service.client.get(f"/v1/audit/check?head={'a' * 64}").json()["holds"]
    assert own_token(SECRET, "local") not in json.dumps(service.get("/openapi.json"))
