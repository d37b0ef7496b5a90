"""Forecasts of prediction models as entries of a point's observation: asked for, logged, replaced, followed."""

from typing import Any

import numpy as np
import pytest

from agents.baselines import make
from envs import worlds
from online.events import Decided, decode
from online.log import START, Partition
from service.adapt import Rules, State, step
from service.deciding.points import Point
from service.deciding.registry import Registry
from service.manifest import ManifestError, parse
from service.processes.sensing import Sensing

REGRESSION = {
    "task": "regression",
    "pipeline": [{"use": "linear_model.LinearRegression", "intercept_lr": 0.3}],
    "features": {"x": {"type": "number", "required": False}},
}
DRIFTING = REGRESSION | {"on_drift": "replace", "detectors": {"error": {"use": "drift.ADWIN"}}}
RIVAL = {"world": "pricing-rival", "mode": "live"}
VOLUME = {
    "world": "pricing",
    "params": {"stock": 5, "periods": 10, "volume": 2.7, "prices": [1.0, 1.5, 2.0, 2.5]},
    "ranges": {"volume": [0.5, 8.0]},
    "mode": "live",
}
FARE = "/v1/decisions/fare"
PRICE = "/v1/decisions/price"
STATE = {"stock": 12, "period": 3}


def declared(points: dict[str, Any], **models: Any) -> dict[str, Any]:
    return {"models": {"rival": REGRESSION} | models, "points": points}


def fare(**forecast: Any) -> dict[str, Any]:
    return declared({"fare": RIVAL | {"forecasts": {"rival_price": {"model": "rival"} | forecast}}})


def teach(service: Any, model: str, label: float, *, times: int = 60, **more: Any) -> None:
    service.lines(f"/v1/models/{model}/events", [{"features": {}, "label": label, **more} for _ in range(times)])
    service.settle()


def logged(service: Any, point: str) -> list[Any]:
    return [decode(entry.payload) for entry in service.make_log().read(Partition(f"point:{point}"), START, 1000)]


def test_what_a_model_foretells_is_what_is_decided_on_answered_and_logged(start_service):
    service = start_service(fare())
    teach(service, "rival", 1.25)
    answer = service.post(FARE, {"id": "d1", "context": STATE})
    told = answer["forecasts"]["rival_price"]
    assert told["model"] == "rival"
    assert told["value"] == pytest.approx(1.25, abs=0.01)
    (event,) = logged(service, "fare")
    assert isinstance(event, Decided)
    assert event.context == {"stock": 12.0, "period": 3.0, "rival_price": told["value"]}
    # Another rule would have asked another price of another rival.
    world = worlds.make("pricing-rival")
    row = np.array([list(event.context.values())], np.float32)
    rule = make(service.get("/v1/points/fare")["baseline"], world)
    assert rule.probabilities(row, world.allowed_of(row))[0, event.index] == 1.0
    trace = service.get("/v1/decisions/fare/d1")
    assert trace["forecasts"] == answer["forecasts"]
    assert trace["context"]["rival_price"] == told["value"]


def test_a_caller_who_knows_better_is_believed_and_no_model_asked(start_service):
    service = start_service(fare())
    answer = service.post(FARE, {"id": "d1", "context": {**STATE, "rival_price": 1.5}})
    assert "forecasts" not in answer
    assert logged(service, "fare")[0].context["rival_price"] == 1.5


def test_a_model_that_has_learned_nothing_is_said_to_have_and_the_entry_asked_for(start_service):
    problem = start_service(fare()).refused(FARE, {"context": STATE})
    assert problem["status"] == 422
    assert problem["errors"][0]["field"] == "context.rival_price"
    assert "the model rival has learned nothing yet" in problem["detail"]


def test_the_declared_number_stands_in_for_a_model_that_has_learned_nothing_and_for_one_that_is_stale(
    start_service, clock
):
    service = start_service(fare(default=1.3, max_age="1h"))
    untaught = service.post(FARE, {"id": "d1", "context": STATE})["forecasts"]["rival_price"]
    assert (untaught["value"], untaught["instead"]) == (1.3, "the model rival has learned nothing yet")
    teach(service, "rival", 1.0)
    clock.now += 3599
    service.refresh()
    assert "instead" not in service.post(FARE, {"id": "d2", "context": STATE})["forecasts"]["rival_price"]
    clock.now += 2
    stale = service.post(FARE, {"id": "d3", "context": STATE})["forecasts"]["rival_price"]
    assert (stale["value"], stale["instead"]) == (1.3, "the model rival has learned nothing for 3,601 s")
    assert [event.context["rival_price"] for event in logged(service, "fare")][2] == 1.3


def test_a_retry_reads_the_forecast_that_was_logged_whatever_was_learned_since(start_service):
    service = start_service(fare())
    teach(service, "rival", 1.0)
    first = service.post(FARE, {"id": "d1", "context": STATE})
    teach(service, "rival", 1.7)
    assert service.post(FARE, {"id": "d1", "context": STATE}) == first
    later = service.post(FARE, {"id": "d2", "context": STATE})
    assert later["forecasts"]["rival_price"]["value"] > first["forecasts"]["rival_price"]["value"] + 0.5


def test_a_forecast_beyond_what_the_entry_can_be_counts_as_the_nearest(start_service):
    service = start_service(fare())
    teach(service, "rival", 50.0)
    high = next(entry for entry in service.get("/v1/points/fare")["context"] if entry["name"] == "rival_price")["high"]
    assert service.post(FARE, {"id": "d1", "context": STATE})["forecasts"]["rival_price"]["value"] == high


def test_the_policy_sees_a_parameter_as_foretold_and_as_estimated_where_nothing_is(start_service, make_bundle):
    service = start_service(declared({"price": VOLUME | {"forecasts": {"volume": {"model": "rival"}}}}))
    # Logits grow with the volume for the last price alone.
    weights = np.zeros((4, 4))
    weights[3, 2] = 1.0
    digest = service.register("price", make_bundle(weights, ranges=True))
    service.post("/v1/policies/price/promote", {"digest": digest, "reason": "it sees the volume"})
    context = {"stock": 3, "period": 2}
    before = service.post(PRICE, {"id": "d1", "context": context})
    assert before["estimates"] == {"volume": 2.7}
    assert before["forecasts"]["volume"]["instead"] == "the model rival has learned nothing yet"
    teach(service, "rival", 6.0)
    after = service.post(PRICE, {"id": "d2", "context": context})
    assert after["estimates"]["volume"] == after["forecasts"]["volume"]["value"] == pytest.approx(6.0, abs=0.05)
    odds = [made["probabilities"][3] / made["probabilities"][0] for made in (before, after)]
    assert np.log(odds) == pytest.approx([2.7, after["estimates"]["volume"]], rel=1e-4)


def test_each_key_is_asked_of_its_own_instance_and_features_go_to_the_model_they_name(start_service):
    models = {"demand": REGRESSION | {"key": "sku"}}
    table = VOLUME | {"key": "sku", "forecasts": {"volume": {"model": "demand", "default": 3.0}}}
    service = start_service(declared({"price": table}, **models))
    teach(service, "demand", 2.0, key="tea")
    teach(service, "demand", 5.0, key="rum")
    context = {"stock": 3, "period": 2}
    made = {
        key: service.post(PRICE, {"id": key, "key": key, "context": context})["forecasts"]["volume"]
        for key in ("tea", "rum", "gin")
    }
    assert made["tea"]["value"] == pytest.approx(2.0, abs=0.05)
    assert made["rum"]["value"] == pytest.approx(5.0, abs=0.05)
    assert (made["gin"]["value"], made["gin"]["instead"]) == (3.0, "the model demand has learned nothing yet of gin")
    wrong = {"id": "w", "key": "tea", "context": context, "features": {"demand": {"x": "warm"}}}
    assert service.refused(PRICE, wrong)["errors"][0]["field"] == "features.demand.x"
    stranger = wrong | {"features": {"rival": {}}}
    assert service.refused(PRICE, stranger)["errors"][0]["allowed"] == "the models of this point: demand"


def test_the_probability_of_a_class_is_foretold(start_service):
    risk = {"task": "binary", "pipeline": [{"use": "linear_model.LogisticRegression", "intercept_lr": 0.2}]}
    table = RIVAL | {"forecasts": {"rival_price": {"model": "risk", "default": 1.0}}}
    service = start_service(declared({"fare": table}, risk=risk))
    teach(service, "risk", True)
    share = service.post("/v1/models/risk/predict", {"features": {}, "learn": False})["probabilities"]["true"]
    assert share > 0.8
    assert service.post(FARE, {"context": STATE})["forecasts"]["rival_price"]["value"] == pytest.approx(share)


def test_a_point_is_declared_with_its_forecasts_over_http_and_shows_them(start_service):
    service = start_service(declared({}))
    table = RIVAL | {"forecasts": {"rival_price": {"model": "rival", "default": 1.2, "max_age": "2h"}}}
    shown = service.client.put("/v1/points/fare", json=table).json()
    assert shown["forecasts"] == {"rival_price": {"model": "rival", "max_age": 7200.0, "default": 1.2}}
    teach(service, "rival", 1.0)
    assert service.post(FARE, {"context": STATE})["forecasts"]["rival_price"]["value"] == pytest.approx(1.0, abs=0.01)
    table["forecasts"]["rival_price"]["model"] = "nobody"
    problem = service.refused("/v1/points/fare", table, method="PUT")
    assert problem["errors"][0]["field"] == "points.fare.forecasts.rival_price.model"


@pytest.mark.parametrize(
    ("forecast", "models", "field", "allowed"),
    [
        ({"weather": {"model": "rival"}}, {}, "", "entries of the context, or parameters in `ranges`"),
        ({"rival_price": {"model": "nobody"}}, {}, ".rival_price.model", "models that are declared: rival"),
        ({"rival_price": {"model": "rival", "of": "x"}}, {}, ".rival_price.of", "left out: the model has no classes"),
        ({"rival_price": {"model": "rival", "key": "x"}}, {}, ".rival_price.key", "left out: rival declares no key"),
        ({"rival_price": {"model": "rival", "default": 9}}, {}, ".rival_price.default", "a number from 0.8 to 1.8"),
        ({"rival_price": {"model": "rival", "max_age": "soon"}}, {}, ".rival_price.max_age", "a duration"),
        ({"rival_price": {"model": "rival"}}, {"rival": REGRESSION | {"key": "town"}}, ".rival_price.key", "the town"),
    ],
)
def test_a_forecast_that_no_model_can_give_is_refused_with_its_path(forecast, models, field, allowed):
    with pytest.raises(ManifestError) as raised:
        parse(declared({"fare": RIVAL | {"forecasts": forecast}}, **models))
    assert raised.value.fault.field == f"points.fare.forecasts{field}"
    assert raised.value.fault.allowed.startswith(allowed)


def test_a_drift_of_the_model_that_foretells_is_a_suspicion_with_what_the_model_does_about_it(start_service):
    service = start_service(
        declared({"fare": RIVAL | {"forecasts": {"rival_price": {"model": "rival"}}}}, rival=DRIFTING)
    )
    log, point = service.make_log(), Point.of(parse(fare()).points["fare"])
    sensing = Sensing(log, Registry(log, service.blob, service.clock), point, b"secret", "loop")
    rules, now = Rules(), service.clock.now
    teach(service, "rival", 1.0, times=300)
    assert list(sensing.look(State(), rules, now)) == []
    teach(service, "rival", 50.0, times=300)
    ((_, fact), *others) = sensing.look(State(), rules, now)
    assert (fact.source, fact.reason) == (
        "model",
        "drift of the model rival: the error has changed, and a successor learns",
    )
    assert {other.reason for _, other in others} <= {fact.reason}
    # It was heard: what the loop makes of it is suspicion, which nothing confirms yet.
    after = step(State(), fact, rules).state
    assert (after.stage, after.confirmed, after.reasons) == ("suspected", False, (fact.reason,))
    assert list(sensing.look(State(), rules, now)) == []
