"""Bundles, releases and jobs, over both logs."""

import numpy as np
import pytest

from agents.bundle import Actions, BundleError, Card, ObservationField, pack
from online.events import Released
from online.memory_log import MemoryBlob
from service.deciding.jobs import Job
from service.deciding.registry import STALE_S, Registry
from service.deciding.releases import Release, ReleaseError, fold, promotion, rollback

T0 = 1_700_000_000.0


@pytest.fixture
def registry(log, clock):
    return Registry(log, MemoryBlob(), clock)


def bundle(note=""):
    card = Card(
        world="pricing",
        params={},
        actions=Actions("price", 2, "EUR", (1.0, 2.0)),
        observation=(ObservationField("stock", "items", 0.0, 20.0),),
        note=note,
    )
    return pack(card, b"graph")


def accept(card):
    assert card.world == "pricing"


def refuse(card):
    raise BundleError(f"not for {card.world}")


def released(number, bundle, mode="live", **more):
    return Released(id=str(number), point="price", bundle=bundle, mode=mode, actor="ana", reason="why", **more)


def test_a_registered_bundle_comes_back_whole_under_its_digest(registry):
    digest = registry.register("price", bundle(), accept, actor="ana", note="first")
    assert registry.bundle(digest).digest == digest
    assert registry.bundle(digest).onnx == b"graph"
    (listed,) = registry.bundles("price")
    assert (listed.digest, listed.actor, listed.note, listed.at) == (digest, "ana", "first", T0)
    assert registry.bundles("other") == []


def test_registering_the_same_bundle_again_changes_nothing(registry, clock):
    first = registry.register("price", bundle(), accept, actor="ana")
    clock.now += 10
    assert registry.register("price", bundle(), accept, actor="bob") == first
    assert [(entry.actor, entry.at) for entry in registry.bundles("price")] == [("ana", T0)]


def test_a_bundle_that_does_not_fit_is_not_stored(registry):
    with pytest.raises(BundleError, match="not for pricing"):
        registry.register("price", bundle(), refuse)
    assert registry.bundles("price") == []


def test_an_altered_bundle_is_refused_at_any_byte(registry):
    data = bundle()
    rng = np.random.default_rng(3)
    for place in rng.integers(0, len(data), 50):
        altered = bytearray(data)
        altered[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(BundleError):
            registry.register("price", bytes(altered), accept)


def test_an_unknown_digest_says_that_it_was_never_registered(registry):
    with pytest.raises(BundleError, match="register it first"):
        registry.bundle("0" * 64)


def test_before_any_release_the_baseline_serves_in_the_mode_of_the_manifest(registry):
    assert registry.current("price", "apprentice") == Release("price", "apprentice")


def test_every_process_reads_the_same_releases(log, clock):
    blob = MemoryBlob()
    one, other = Registry(log, blob, clock), Registry(log, blob, clock)
    one.release("price", released(1, "a"))
    assert other.current("price", "off").incumbent == "a"
    other.release("price", released(2, "b", "canary", share=0.2))
    now = one.current("price", "off")
    assert (now.incumbent, now.candidate, now.mode, now.share, now.number) == ("a", "b", "canary", 0.2, 2)
    assert one.current("price", "off") == other.current("price", "off")


def test_the_same_release_again_is_the_same_and_another_under_its_id_is_refused(registry):
    first = registry.release("price", released(1, "a"))
    assert registry.release("price", released(1, "a")) == first
    with pytest.raises(ValueError, match="use a new id"):
        registry.release("price", released(1, "b"))
    assert len(registry.releases("price")) == 1


def history(*events):
    return fold("price", "live", [released(i, *event) for i, event in enumerate(events)])


def test_promotion_takes_the_candidate_and_leaves_none():
    after = promotion(history(("a",), ("b", "canary")), None)
    assert (after.incumbent, after.candidate, after.mode, after.share) == ("b", None, "live", 0.0)


def test_promotion_without_a_candidate_or_of_what_serves_is_refused():
    with pytest.raises(ReleaseError, match="no candidate"):
        promotion(history(("a",)), None)
    with pytest.raises(ReleaseError, match="serves already"):
        promotion(history(("a",)), "a")


def test_rollback_first_drops_the_candidate_then_walks_back_to_the_baseline():
    events = [("a",), ("b",), ("c", "canary")]
    steps = []
    for _ in range(3):
        back = rollback(history(*events))
        steps.append((back.incumbent, back.candidate))
        events.append((back.incumbent, back.mode))
    assert steps == [("b", None), ("a", None), (None, None)]
    with pytest.raises(ReleaseError, match="nothing served before"):
        rollback(history(*events))


def test_a_bundle_that_was_rolled_back_does_not_come_again_with_the_next_rollback():
    events = [("a",), ("bad",), ("a",), ("c",)]
    assert rollback(history(*events)).incumbent == "a"
    assert rollback(history(*events, ("a",))).incumbent is None


def test_rollback_restores_the_mode_with_what_served_in_it():
    events = [("a", "apprentice"), ("a", "live"), ("a", "off"), ("b", "shadow")]
    steps = []
    for _ in range(4):
        back = rollback(history(*events))
        steps.append((back.mode, back.incumbent, back.candidate))
        events.append((back.incumbent, back.mode))
    assert steps == [("off", "a", None), ("live", "a", None), ("apprentice", "a", None), ("live", None, None)]
    with pytest.raises(ReleaseError, match="nothing served before"):
        rollback(history(*events))


def test_a_rollback_to_a_trial_that_the_manifest_declared_serves_what_served():
    promoted = fold("price", "canary", [released(1, "a")])
    assert (rollback(promoted).mode, rollback(promoted).incumbent) == ("live", None)


def test_of_two_releases_that_were_decided_on_the_same_one_the_first_counts():
    events = [released(1, "a"), released(2, "b", expected=1), released(3, "c", expected=1), released(4, "d")]
    found = fold("price", "live", events)
    assert [(release.id, release.number, release.incumbent) for release in found[1:]] == [
        (events[0].id, 1, "a"),
        (events[1].id, 2, "b"),
        (events[3].id, 3, "d"),
    ]


def test_a_job_goes_from_queued_over_running_to_done(registry, clock):
    registry.submit(Job("j1", "price", "train", {"steps": 10}))
    assert registry.job("j1").state == "queued"
    job = registry.claim("adapter")
    assert (job.id, job.state, job.worker) == ("j1", "running", "adapter")
    clock.now += 5
    said = registry.update(
        Job("j1", "price", "train", state="running", worker="adapter", progress=0.5, detail={"n": 5})
    )
    assert (said.progress, said.detail, said.updated) == (0.5, {"n": 5}, T0 + 5)
    registry.update(Job("j1", "price", "train", state="done", progress=1.0, detail={"digest": "d"}))
    job = registry.job("j1")
    assert (job.state, job.progress, job.detail, job.params) == ("done", 1.0, {"digest": "d"}, {"steps": 10})
    assert registry.claim("adapter") is None


def test_two_workers_never_get_one_job(log, clock):
    blob = MemoryBlob()
    one, other = Registry(log, blob, clock), Registry(log, blob, clock)
    for i in range(10):
        one.submit(Job(f"j{i}", "price", "train"))
    taken = [view.claim(f"{name}-{i}").id for i in range(5) for view, name in ((one, "one"), (other, "other"))]
    assert sorted(taken) == [f"j{i}" for i in range(10)]


def test_a_restarted_worker_gets_its_job_back_and_a_silent_one_loses_it(registry, clock):
    registry.submit(Job("j1", "price", "train"))
    registry.claim("one")
    assert registry.claim("other") is None
    assert registry.claim("one").id == "j1"
    clock.now += STALE_S + 1
    assert registry.claim("other").worker == "other"


def test_a_cancelled_job_stays_cancelled_whatever_its_worker_says(registry):
    registry.submit(Job("j1", "price", "train"))
    registry.claim("one")
    assert registry.cancel("j1").state == "cancelled"
    running = Job("j1", "price", "train", state="running", worker="one", progress=0.9)
    assert registry.update(running).state == "cancelled"
    assert registry.update(Job("j1", "price", "train", state="done", worker="one")).state == "cancelled"
    assert registry.cancel("unknown") is None


def test_the_same_job_again_is_the_same_and_another_under_its_id_is_refused(registry, clock):
    registry.submit(Job("j1", "price", "train"))
    clock.now += 1
    assert registry.submit(Job("j1", "price", "train")) == "j1"
    assert len(registry.jobs()) == 1
    with pytest.raises(ValueError, match="use a new id"):
        registry.submit(Job("j1", "price", "train", {"steps": 1}))
