"""What a point did over time, by HTTP: buckets, latest decisions, beliefs, the loop's history."""

import numpy as np
import pytest

from online.events import Decided
from service.adapt import Rules
from service.deciding.records import Records
from service.deciding.series import Buckets, Seen, mean_of, told, width_of
from service.facts import Misfitted

PRICE = "/v1/decisions/price"

on_our_clock = pytest.mark.parametrize("make_log", ["memory"], indirect=True)
"""Redis numbers its entries by its own clock, which no test can move."""


def seen(index: int, reward: float | None, episode: str | None = None, **estimates: float) -> Seen:
    decided = Decided("d", {}, index, 1.0, 0.5, "rule", episode=episode, kind="baseline", estimates=estimates or None)
    return Seen(decided, 0.0, reward)


@pytest.fixture
def played(service):
    """Forty decisions, one a second, each worth twice its price but for the last four, whose outcome has not come."""
    rng = np.random.default_rng(1)
    for i in range(40):
        context = {"stock": int(rng.integers(1, 6)), "period": int(rng.integers(0, 10))}
        answer = service.post(PRICE, {"id": f"d{i}", "context": context})
        if i < 36:
            service.post(f"{PRICE}/outcomes", {"id": f"d{i}", "value": 2.0 * answer["action"]})
        service.clock.now += 1
    service.settle()
    return service


def test_an_interval_counts_the_decisions_of_an_episode_as_one():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    whole = mean_of(values, ["a", "a", "b", "b", "c", "c"])
    # Episodes' sums less their share of the mean are -4, 0, 4; 3/2 of the sum of squares is 48.
    assert whole.mid == 3.5
    assert whole.high - whole.mid == pytest.approx(1.959963984540054 * 48**0.5 / 6)


def test_a_bucket_tells_values_by_arm_actions_by_group_and_estimates_by_quantile():
    bucket = told(10.0, [seen(0, 1.0, k=1.0), seen(1, 3.0, k=2.0), seen(1, None, k=3.0)], actions=2)
    (earned,) = bucket.earned
    assert (earned.decisions, earned.rewarded, bucket.waiting) == (3, 2, 1)
    assert earned.value is not None
    assert earned.value.mid == 2.0
    assert bucket.actions == pytest.approx([1 / 3, 2 / 3])
    assert bucket.estimates["k"].mid == 2.0


def test_where_there_is_a_default_outcomes_that_come_at_once_do_not_stand_for_those_that_may_yet_default():
    rows = [seen(0, 1.0), seen(0, None), seen(0, 9.0), seen(0, 5.0)._replace(closed=True)]
    (earned,) = told(0.0, rows, actions=2, defaults=True).earned
    assert earned.value is not None
    # The second may yet default: what the third earned so soon does not count, what is over does.
    assert (earned.decisions, earned.rewarded, earned.value.mid) == (4, 2, 3.0)
    (at_once,) = told(0.0, rows, actions=2).earned
    assert at_once.value is not None
    assert (at_once.rewarded, at_once.value.mid) == (3, 5.0)


def test_a_bucket_without_decisions_says_nothing():
    bucket = told(0.0, [], actions=12)
    assert (bucket.decisions, bucket.earned, bucket.actions) == (0, [], [0.0] * 6)


def test_only_buckets_that_may_have_changed_are_read_again():
    grid = Buckets(width=10.0)
    assert grid.missing(0.0, 30.0, now=30.0) == [0.0, 10.0, 20.0]
    done, waits = told(0.0, [seen(0, 1.0)], 1), told(10.0, [seen(0, None)], 1)
    grid.keep({0.0: done, 10.0: waits, 20.0: done}, now=30.0)
    # The first is complete; the second waits, and is asked again when it is a quarter older; the third was not over.
    assert grid.missing(0.0, 31.0, now=31.0) == [20.0, 30.0]
    assert 10.0 in grid.missing(0.0, 36.0, now=36.0)
    assert grid.missing(12.0, 14.0, now=31.0) == []


def test_widths_cover_the_span():
    for span in (1.0, 59.0, 3601.0, 1e6, 1e9):
        assert width_of(span, 96) * 96 >= span


@on_our_clock
def test_a_point_is_told_over_time(played):
    answer = played.get("/v1/points/price/series?buckets=10")
    assert answer["width"] == 5
    assert sum(bucket["decisions"] for bucket in answer["buckets"]) == 40
    assert sum(bucket["waiting"] for bucket in answer["buckets"]) == 4
    report = played.get(f"{PRICE}/report")["policies"][0]["value"]["mean"]
    earned = [cell for bucket in answer["buckets"] for cell in bucket["earned"] if cell["value"]]
    total = sum(cell["rewarded"] * cell["value"]["mid"] for cell in earned)
    assert total / 36 == pytest.approx(report)
    assert len(answer["actions"]) == 4
    assert all(sum(bucket["actions"]) == pytest.approx(1) for bucket in answer["buckets"] if bucket["decisions"])


@on_our_clock
def test_an_outcome_that_comes_late_is_seen(played):
    before = played.get("/v1/points/price/series?buckets=10")
    played.post(f"{PRICE}/outcomes", {"id": "d39", "value": 7.0})
    played.settle()
    played.clock.now += 60
    after = played.get("/v1/points/price/series?buckets=10&span=99")
    waiting = [sum(bucket["waiting"] for bucket in answer["buckets"]) for answer in (before, after)]
    assert waiting == [4, 3]


def test_the_latest_decisions_come_newest_first(played):
    lines = played.get("/v1/points/price/latest?last=5")["decisions"]
    assert [line["id"] for line in lines] == ["d39", "d38", "d37", "d36", "d35"]
    assert lines[-1]["reward"] == 2.0 * lines[-1]["action"]
    assert "reward" not in lines[0] or lines[0]["reward"] is None


def test_a_point_without_decisions_has_an_empty_past(service):
    assert service.get("/v1/points/price/series")["buckets"] == []
    assert service.get("/v1/points/price/latest")["decisions"] == []


@on_our_clock
def test_a_model_is_told_over_time(service):
    for i in range(20):
        features = {"x": float(i % 3)}
        service.post("/v1/models/churn/events", {"id": f"e{i}", "features": features, "label": i % 3 == 0})
        service.clock.now += 1
    service.settle()
    answer = service.get("/v1/models/churn/series")
    assert sum(bucket["labels"] for bucket in answer["buckets"]) == 20
    assert all(0 <= bucket["error"]["mid"] <= 1 for bucket in answer["buckets"] if bucket["labels"])


def test_beliefs_show_each_parameter_beside_its_trained_range(service):
    assert service.get("/v1/points/fare/beliefs")["point"] == "fare"
    for i in range(60):
        service.post(PRICE, {"id": f"d{i}", "context": {"stock": 5, "period": 1}})
        service.post(f"{PRICE}/outcomes", {"id": f"d{i}", "fields": {"sold": i % 2}})
    service.settle()
    answer = service.get("/v1/points/price/beliefs")
    (volume,) = [entry for entry in answer["parameters"] if entry["name"] == "volume"]
    assert volume["low"] < volume["mid"] < volume["high"]
    assert volume["trained"] == [0.5, 8.0]
    assert volume["nominal"] == 2.7
    assert answer["outcomes"] == 60
    assert answer["past"][-1]["values"]["volume"] == volume["mid"]


def test_the_loop_of_a_point_tells_where_it_stands(service):
    answer = service.get("/v1/points/price/adaptation")
    assert (answer["stage"], answer["cycle"], answer["entries"]) == ("steady", 0, [])
    assert service.refused("/v1/points/none/adaptation", None, method="GET")["status"] == 404


def test_the_factors_of_a_product_are_counted_together():
    event = Decided(id="d", context={}, index=[0, 2], action=[0.5, 1.5], propensity=0.25, policy="p")
    assert told(0.0, [Seen(event, 0.0, None)], 4).actions == [0.5, 0.0, 0.5, 0.0]


def test_what_exploring_costs_and_teaches_is_told_with_and_without(service):
    answer = service.get("/v1/points/price/exploration")
    assert answer["decisions"] == 1000
    assert set(answer["exploring"]["errors"]) == set(answer["exploring"]["without"])
    assert answer["exploring"]["cost"] >= 0
    assert service.refused("/v1/points/none/exploration", None, method="GET")["status"] == 404


def test_a_point_says_that_a_person_is_needed_where_no_parameters_explain_the_outcomes(start_service):
    service = start_service()
    assert service.get("/v1/points/price")["attention"] == ""
    reason = "rewards differ from what the world expects by 8% whatever its parameters"
    Records(service.make_log(), "price").hear(Misfitted(at=5.0, reason=reason), "f1", Rules())
    for path in ("/v1/points/price", "/v1/points/price/adaptation"):
        assert service.get(path)["attention"] == f"a person is needed: {reason}"


@on_our_clock
def test_what_a_model_answered_is_scored_beside_what_its_learner_knew(service):
    churn, case = "/v1/models/churn", {"features": {"x": 4.0}}
    taught = [{"id": f"t{i}", "label": True, **case} for i in range(3)]
    service.lines(f"{churn}/events", taught)
    # The learner takes these three first, what answers has not seen them: it says false.
    service.post(f"{churn}/predict", {"id": "p", **case})
    service.settle()
    service.post(f"{churn}/labels", {"id": "p", "label": True})
    service.settle()
    service.clock.now += 1
    (bucket,) = (one for one in service.get(f"{churn}/series")["buckets"] if one["labels"])
    # Of the learner's own four predictions the very first was wrong, as nothing was known.
    assert (bucket["labels"], bucket["error"]["mid"], bucket["served"]["mid"]) == (4, 0.25, 1.0)


@on_our_clock
def test_a_model_that_nobody_asks_has_no_error_of_answers(service):
    service.lines("/v1/models/churn/events", [{"id": "t", "features": {"x": 4.0}, "label": True}])
    service.settle()
    service.clock.now += 1
    assert [one["served"] for one in service.get("/v1/models/churn/series")["buckets"] if one["labels"]] == [None]
