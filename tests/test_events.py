import math

import msgspec
import pytest
from msgspec import UNSET

from online import events
from online.events import Decided, EventError, Labelled, Observed, Rewarded, Ticked


def test_every_event_comes_back_as_it_went() -> None:
    for event in (
        Observed(id="1", key="a", at=1.5, features={"x": 1.25, "name": "é", "flag": True, "gone": None}, label=3),
        Labelled(id="1", key=None, label="spam", at=2.0),
        Decided(
            id="d", context={"stock": 3.0}, index=2, action=1.5, propensity=0.25, policy="abc", allowed=[True, False]
        ),
        Rewarded(id="d/1", decision="d", value=-2.5),
        Rewarded(id="d/2", decision="d", fields={"sold": 1}),
        Ticked(at=0.1 + 0.2),
        events.Replayed(id="r", entry="1-0", event=b"\x00\xff", actor="me"),
        events.Released(id="x", point="price", bundle="sha", mode="canary", share=0.1),
    ):
        assert events.decode(events.encode(event)) == event


def test_a_missing_label_is_not_a_label_that_is_none() -> None:
    unlabelled = events.decode(events.encode(Observed(id="1", features={})))
    labelled = events.decode(events.encode(Observed(id="1", features={}, label=None)))
    assert isinstance(unlabelled, Observed)
    assert isinstance(labelled, Observed)
    assert unlabelled.label is UNSET
    assert labelled.label is None


def test_a_reader_ignores_fields_it_does_not_know() -> None:
    payload = msgspec.msgpack.encode({"type": "ticked/1", "at": 2.0, "invented_later": [1, 2]})
    assert events.decode(payload) == Ticked(at=2.0)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"type": "ticked/2", "at": 2.0}, "unknown type or version 'ticked/2'"),
        ({"type": "guessed/1"}, "unknown type or version 'guessed/1'"),
        ({"type": "ticked/1"}, "missing required field `at`"),
        ({"type": "observed/1", "id": "1", "features": {"x": {"deep": 1}}}, "broken 'observed' event"),
        ({"at": 2.0}, "unknown type or version ''"),
        ([1, 2], "no MessagePack map"),
    ],
)
def test_an_unknown_or_broken_event_is_refused_by_name(value: object, said: str) -> None:
    with pytest.raises(EventError) as caught:
        events.decode(msgspec.msgpack.encode(value))
    assert said in str(caught.value)


def test_arbitrary_bytes_never_raise_anything_else() -> None:
    for payload in (b"", b"\xc1", b"\x81\xa4type", b"\x91" * 5000, b"\xff\xfe", b"\x81\xa4type\xa9ticked/1\xff"):
        with pytest.raises(EventError):
            events.decode(payload)


def test_reports_of_one_cause_are_one_payload() -> None:
    evidence = {"before": 0.1, "after": 0.4}
    reports: list[events.Report] = [
        events.Scored(id="1", prediction=True, label=False, error=1.0),
        events.Drifted(id="1-0:error", detector="ADWIN", signal="error", at=1.0, evidence=evidence),
    ]
    assert events.decode_reports(events.encode_reports(reports)) == reports
    with pytest.raises(EventError):
        events.decode_reports(b"\xc1")


def test_a_digest_names_a_request_whatever_the_order_of_its_keys() -> None:
    request = {"features": {"b": 1.5, "a": "x"}, "id": "7"}
    same = {"id": "7", "features": {"a": "x", "b": 1.5}}
    assert events.digest(request) == events.digest(same)
    for other in ({"id": "7"}, {**request, "id": "8"}, {**request, "features": {"a": "x", "b": 1.5000001}}):
        assert events.digest(other) != events.digest(request)
    assert len(events.digest(request)) == 16


def test_ids_are_unique_within_a_key_and_kind() -> None:
    ids = [
        events.draft_id(Observed(id="7", features={})),
        events.draft_id(Observed(id="7", key="a", features={})),
        events.draft_id(Observed(id="7", key="b", features={})),
        events.draft_id(Labelled(id="7", label=1)),
        events.draft_id(Labelled(id="7", key="a", label=1)),
        events.draft_id(Rewarded(id="7/1", decision="7", value=math.pi)),
    ]
    assert len(set(ids)) == len(ids)
