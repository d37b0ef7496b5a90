"""What is served: swapped as a whole, and left as it was where the new cannot be used."""

from online.events import Released
from online.log import Commit, LogUnavailable, Partition

PRICE = "/v1/decisions/price"
CONTEXT = {"stock": 3, "period": 2}
CHURN = Partition("model:churn")


def test_what_has_not_changed_stays_the_same_object(service):
    service.settle()
    before = service.api.serving.now
    service.refresh()
    after = service.api.serving.now
    assert after is not before
    assert after.models["churn"].learner is before.models["churn"].learner
    assert after.points["price"] is before.points["price"]


def test_a_new_snapshot_takes_the_place_of_the_old_one_alone(service):
    before = service.api.serving.now
    service.post("/v1/models/churn/events", {"features": {"x": 1.0}, "label": True})
    service.settle()
    after = service.api.serving.now
    assert after.models["churn"].learner.learned == 1
    assert before.models["churn"].learner.learned == 0
    assert after.points["price"] is before.points["price"]


def test_a_snapshot_that_was_not_sealed_under_the_secret_is_never_loaded(service):
    service.post("/v1/models/churn/events", {"features": {"x": 1.0}, "label": True})
    service.settle()
    log = service.make_log()
    epoch = log.acquire(CHURN, "intruder")
    head = log.head(CHURN)
    log.commit(CHURN, epoch, Commit(head.cursor, snapshot=b"TTS1" + b"x" * 100, learned=99))
    service.refresh()
    served = service.api.serving.now
    assert "altered" in served.errors["model:churn"]
    assert served.models["churn"].learner.learned == 1
    assert service.post("/v1/models/churn/predict", {"features": {"x": 1.0}, "learn": False})["model"]["learned"] == 1


def test_a_release_of_a_bundle_that_is_not_there_leaves_what_served_and_says_why(service, make_bundle):
    digest = service.register("price", make_bundle())
    service.post("/v1/policies/price/promote", {"digest": digest, "reason": "first"})
    store_release(service, "f" * 64)
    served = service.api.serving.now
    assert "register it first" in served.errors["point:price"]
    assert service.post(PRICE, {"context": CONTEXT})["policy"]["digest"] == digest
    (price,) = (point for point in service.get("/v1/system")["points"] if point["name"] == "price")
    assert "register it first" in price["error"]
    service.post("/v1/policies/price/rollback", {"reason": "it is not there"})
    assert service.api.serving.now.errors == {}


def test_a_bundle_altered_in_the_store_is_not_served(service, make_bundle):
    digest = service.register("price", make_bundle())
    data = bytearray(service.blob.get(f"bundle/{digest}"))
    data[-1] ^= 1
    service.blob.put(f"bundle/{digest}", bytes(data))
    store_release(service, digest)
    assert "altered" in service.api.serving.now.errors["point:price"]
    assert service.post(PRICE, {"context": CONTEXT})["policy"]["kind"] == "best-fixed-price"


def test_a_release_may_name_another_rule(service):
    event = Released(id="r1", point="price", bundle=None, baseline="myopic", mode="live")
    release(service, event)
    assert service.post(PRICE, {"context": CONTEXT})["policy"]["kind"] == "myopic"


def store_release(service, digest):
    release(service, Released(id=f"release of {digest}", point="price", bundle=digest, mode="live"))


def release(service, event):
    portal = service.client.portal
    portal.call(service.api.store.ask, lambda store: store.registry.release("price", event))
    service.refresh()


def test_a_turn_that_failed_is_none_that_was_waited_for(service, monkeypatch):
    serving = service.api.serving
    turn, failed = type(serving)._turn, []

    def fails_at_first(self, store, old):
        if len(failed) < 3:
            failed.append(1)
            raise LogUnavailable("away for a moment")
        return turn(self, store, old)

    before = serving.now
    monkeypatch.setattr(type(serving), "_turn", fails_at_first)
    service.client.portal.call(serving.settle)
    assert len(failed) == 3
    assert serving.now is not before
