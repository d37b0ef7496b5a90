"""Challengers, label budgets and foreseen accuracy over HTTP: shown, obeyed, and as before after a restart."""

import random
from typing import Any

import pytest

from tests.conftest import Service

LEARNS = "/v1/models/signs"
LOGISTIC = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression"}]
MANIFEST: dict[str, Any] = {
    "models": {
        "signs": {
            "task": "binary",
            "pipeline": [{"use": "dummy.PriorClassifier"}],
            "metrics": ["Accuracy"],
            "challengers": {
                "logistic": {"pipeline": LOGISTIC},
                "prior": {"pipeline": [{"use": "dummy.PriorClassifier"}]},
            },
            "comparison": {"labels": 200},
        }
    }
}


def table(**changes: Any) -> dict[str, Any]:
    return {"models": {"signs": MANIFEST["models"]["signs"] | changes}}


def rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    xs = [chance.gauss(0.2, 1.0) for _ in range(count)]
    return [{"id": f"{seed}-{n}", "features": {"x": x}, "label": x > 0.0} for n, x in enumerate(xs)]


def teach(service: Service, count: int, seed: int = 1) -> None:
    assert service.lines(f"{LEARNS}/events", rows(count, seed))["accepted"] == count
    service.settle()


def again(start_service: Any, manifest: dict[str, Any]) -> Service:
    """Another replica with learners of its own, from what the store holds."""
    restarted: Service = start_service(manifest)
    restarted.settle()
    return restarted


def test_challengers_learn_from_the_same_labels_and_the_better_one_is_found(start_service: Any) -> None:
    service = start_service(MANIFEST)
    teach(service, 250)
    described = service.get(LEARNS)
    assert described["champion"] == "declared"
    logistic, prior = described["challengers"]
    assert (logistic["name"], logistic["learned"], prior["learned"], described["learned"]) == (
        "logistic",
        250,
        250,
        250,
    )
    assert logistic["metrics"]["Accuracy"] > described["metrics"]["Accuracy"] + 0.2
    assert prior["metrics"] == described["metrics"]
    assert (logistic["finding"]["verdict"], logistic["finding"]["labels"]) == ("better", 200)
    assert logistic["finding"]["low"] > 0.0
    assert prior["finding"]["verdict"] == "not told apart"
    comparison = described["comparison"]
    # The first label of all met no prediction, since nothing had been learned: it is not compared.
    assert (comparison["labels"], comparison["announced"], comparison["switches"]) == (49, 200, [])
    assert comparison["findings"] == [logistic["finding"], prior["finding"]]
    promise = comparison["promise"]
    assert (promise["rivals"], promise["level"]) == (2, 0.0125)
    assert promise["difference"] == pytest.approx(0.0798, abs=1e-4)
    assert again(start_service, MANIFEST).get(LEARNS) == described


def test_the_operator_switches_the_champion_and_the_log_remembers_who_and_why(start_service: Any) -> None:
    service = start_service(MANIFEST)
    teach(service, 250)
    asked = {"features": {"x": -3.0}, "learn": False}
    assert service.post(f"{LEARNS}/predict", asked)["prediction"] is True
    order = {"champion": "logistic", "actor": "ann", "reason": "it errs less"}
    service.post(f"{LEARNS}/champion", order)
    service.settle()
    described = service.get(LEARNS)
    assert described["champion"] == "logistic"
    assert [one["name"] for one in described["challengers"]] == ["declared", "prior"]
    (switch,) = described["comparison"]["switches"]
    assert {**order, "before": "declared"}.items() <= switch.items()
    # What was found of the new champion is remembered.
    assert [one["challenger"] for one in described["comparison"]["findings"]] == ["logistic", "prior"]
    assert service.post(f"{LEARNS}/predict", asked)["prediction"] is False
    restarted = again(start_service, MANIFEST)
    assert restarted.get(LEARNS) == described
    teach(restarted, 60, seed=2)
    assert restarted.get(LEARNS)["learned"] == 310
    # Back again: the former champion went on learning.
    restarted.post(f"{LEARNS}/champion", {"champion": "declared", "reason": "to compare"})
    restarted.settle()
    described = restarted.get(LEARNS)
    assert (described["champion"], described["learned"]) == ("declared", 310)
    assert [one["champion"] for one in described["comparison"]["switches"]] == ["logistic", "declared"]


@pytest.mark.parametrize("name", ["declared", "tree", ""])
def test_only_a_challenger_can_become_champion(start_service: Any, name: str) -> None:
    service = start_service(MANIFEST)
    problem = service.refused(f"{LEARNS}/champion", {"champion": name, "reason": "why not"})
    assert problem["status"] == 422
    assert problem["errors"][0]["field"] == "champion"
    assert "logistic, prior" in problem["errors"][0]["allowed"]
    assert service.refused(f"{LEARNS}/champion", {"champion": "prior"})["errors"][0]["field"] == "reason"


def test_a_second_call_for_the_same_champion_is_set_aside(start_service: Any) -> None:
    service = start_service(MANIFEST)
    for actor in ("ann", "bob"):
        service.post(f"{LEARNS}/champion", {"champion": "prior", "actor": actor, "reason": "both at once"})
    service.settle()
    (switch,) = service.get(LEARNS)["comparison"]["switches"]
    assert switch["actor"] == "ann"
    (rejected,) = service.get(f"{LEARNS}/rejects")["rejects"]
    assert rejected["field"] == "champion"


def test_the_declared_rule_takes_the_one_found_better(start_service: Any) -> None:
    manifest = table(comparison={"labels": 200, "switch": "better"})
    service = start_service(manifest)
    teach(service, 199)
    assert service.get(LEARNS)["champion"] == "declared"
    teach(service, 10, seed=2)
    described = service.get(LEARNS)
    assert described["champion"] == "logistic"
    (switch,) = described["comparison"]["switches"]
    assert (switch["actor"], switch["before"]) == ("rule", "declared")
    assert "200 labels" in switch["reason"]
    assert again(start_service, manifest).get(LEARNS) == described


def test_a_challenger_that_breaks_is_out_and_costs_the_champion_nothing(start_service: Any) -> None:
    needs_y = [{"use": "feature_extraction.Agg", "on": "y", "by": "z", "how": {"use": "stats.Mean"}}, *LOGISTIC]
    service = start_service(table(challengers={"broken": {"pipeline": needs_y}, "logistic": {"pipeline": LOGISTIC}}))
    teach(service, 250)
    described = service.get(LEARNS)
    assert (described["learned"], described["counts"]["rejected"]) == (250, 0)
    broken, logistic = described["challengers"]
    assert "KeyError" in broken["trouble"]
    assert logistic["finding"]["verdict"] == "better"
    problem = service.refused(f"{LEARNS}/champion", {"champion": "broken", "reason": "why not"})
    assert "logistic" in problem["errors"][0]["allowed"]


def test_labels_that_come_late_are_compared_by_what_was_predicted_then(start_service: Any) -> None:
    service = start_service(MANIFEST)
    teach(service, 250)
    for case in rows(30, seed=3):
        service.post(f"{LEARNS}/predict", {"id": case["id"], "features": case["features"]})
    service.settle()
    restarted = again(start_service, MANIFEST)
    before = restarted.get(LEARNS)
    for case in rows(30, seed=3):
        restarted.post(f"{LEARNS}/labels", {"id": case["id"], "label": case["label"]})
    restarted.settle()
    after = restarted.get(LEARNS)
    assert after["comparison"]["labels"] - before["comparison"]["labels"] == 30
    assert [one["learned"] for one in after["challengers"]] == [280, 280]


def test_labels_are_asked_for_within_the_budget_and_a_retry_reads_the_same(start_service: Any) -> None:
    manifest = table(pipeline=LOGISTIC, challengers={}, label_budget=0.2)
    service = start_service(manifest)
    wanted = []
    for number, case in enumerate(rows(300, seed=4)):
        request = {"id": case["id"], "features": case["features"]}
        answer = service.post(f"{LEARNS}/predict", request)
        wanted.append(answer["label_wanted"])
        if number % 50 == 0:
            assert service.post(f"{LEARNS}/predict", request) == answer
        if wanted[-1]:
            service.post(f"{LEARNS}/labels", {"id": case["id"], "label": case["label"]})
        if number % 20 == 0:
            service.settle()
    assert "label_wanted" not in service.post(f"{LEARNS}/predict", {"features": {"x": 1.0}, "learn": False})
    service.settle()
    described = service.get(LEARNS)
    spent = described["labels_wanted"]
    assert spent == {"budget": 0.2, "predictions": 300, "wanted": sum(wanted)}
    assert described["learned"] == sum(wanted)
    assert all(wanted[:20])
    # The advance at the beginning is paid back over the first events; what is over then is less than the advance.
    assert 0.2 * 300 <= sum(wanted) <= 0.2 * 300 + 30
    assert again(start_service, manifest).get(LEARNS) == described


def test_accuracy_is_foreseen_before_labels_come_with_its_later_error(start_service: Any) -> None:
    manifest = table(pipeline=LOGISTIC, challengers={})
    service = start_service(manifest)
    assert service.get(LEARNS)["estimated"] is None
    teach(service, 300)
    assert service.get(LEARNS)["estimated"] is None
    cases = rows(260, seed=5)
    lines = [{"id": case["id"], "features": case["features"]} for case in cases]
    service.lines(f"{LEARNS}/events", lines)
    service.settle()
    before = service.get(LEARNS)["estimated"]
    assert 0.5 < before["accuracy"] <= 1.0
    assert (before["predictions"], before["labels"], before["gap"], before["calibrated"]) == (260, 0, None, None)
    asked = [{"features": case["features"], "learn": False} for case in cases]
    right = [
        service.post(f"{LEARNS}/predict", a)["prediction"] == c["label"] for a, c in zip(asked, cases, strict=True)
    ]
    service.lines(f"{LEARNS}/labels", [{"id": case["id"], "label": case["label"]} for case in cases])
    service.settle()
    after = service.get(LEARNS)["estimated"]
    assert after["labels"] == 260
    assert after["gap"] == pytest.approx(sum(right) / 260 - before["accuracy"])
    # A model that learns slowly is right far more often than it dares to say: not to be believed yet.
    assert after["gap"] > 0.1
    assert after["calibrated"] is False
    assert again(start_service, manifest).get(LEARNS)["estimated"] == after


def test_an_alarm_shows_its_evidence(start_service: Any) -> None:
    manifest = table(pipeline=LOGISTIC, challengers={}, on_drift="replace")
    service = start_service(manifest)
    teach(service, 800)
    flipped = [{**case, "label": not case["label"]} for case in rows(400, seed=6)]
    service.lines(f"{LEARNS}/events", flipped)
    service.settle()
    alarms = service.get(f"{LEARNS}/alarms")["alarms"]
    (alarm, *_) = reversed(alarms)
    assert (alarm["signal"], alarm["detector"], alarm["action"]) == ("error", "ADWIN", "replace")
    evidence = alarm["evidence"]
    assert evidence["recent"] > evidence["before"]
    assert evidence["before_size"] + evidence["recent_size"] == evidence["seen"]
    assert {"p_at_most", "window", "window_mean", "warned"} <= evidence.keys()
    assert again(start_service, manifest).get(f"{LEARNS}/alarms")["alarms"] == alarms


@pytest.mark.parametrize(
    ("on_drift", "use", "warned"),
    [("keep", "drift.binary.DDM", ["error"]), ("keep", "drift.ADWIN", []), ("replace", "drift.PageHinkley", ["error"])],
)
def test_a_change_that_may_be_coming_is_shown_before_it_is_certain(
    start_service: Any, on_drift: str, use: str, warned: list[str]
) -> None:
    prior = [{"use": "dummy.PriorClassifier"}]
    manifest = table(pipeline=prior, challengers={}, on_drift=on_drift, detectors={"error": {"use": use}})
    service = start_service(manifest)
    # Nine of ten labels are true; then one in three is not: errors come more often, not yet often enough for an alarm.
    calm = [{"id": f"a{n}", "features": {"x": 1.0}, "label": n % 10 != 0} for n in range(1_000)]
    service.lines(f"{LEARNS}/events", calm)
    service.settle()
    assert service.get(LEARNS)["warnings"] == []
    worse = [{"id": f"b{n}", "features": {"x": 1.0}, "label": n % 3 != 0} for n in range(140)]
    for begin in range(0, len(worse), 10):
        service.lines(f"{LEARNS}/events", worse[begin : begin + 10])
        service.settle()
        described = service.get(LEARNS)
        if described["warnings"] or described["alarms"]:
            break
    assert described["warnings"] == warned
    assert described["alarms"] == 0 or not warned


def test_a_model_that_a_drift_stopped_learns_again_once_a_person_has_looked(start_service: Any) -> None:
    manifest = table(pipeline=LOGISTIC, challengers={}, on_drift="raise")
    service = start_service(manifest)
    teach(service, 800)
    assert service.get(LEARNS)["halted"] is None
    flipped = [{**case, "label": not case["label"]} for case in rows(400, seed=6)]
    service.lines(f"{LEARNS}/events", flipped)
    service.settle()
    described = service.get(LEARNS)
    assert (described["halted"], described["alarms"]) == ("drift", 1)
    assert 800 < described["learned"] < 1_200
    stopped_at = described["learned"]
    teach(service, 50, seed=7)
    assert service.get(LEARNS)["learned"] == stopped_at
    assert service.refused(f"{LEARNS}/resume", {"actor": "ann"})["errors"][0]["field"] == "reason"
    service.post(f"{LEARNS}/resume", {"actor": "ann", "reason": "the sensor is mended"})
    service.settle()
    assert service.get(LEARNS)["halted"] is None
    teach(service, 50, seed=8)
    described = service.get(LEARNS)
    assert described["learned"] == stopped_at + 50
    assert again(start_service, manifest).get(LEARNS) == described


def test_a_challenger_that_a_drift_stopped_says_so_and_is_resumed_with_the_model(start_service: Any) -> None:
    manifest = table(on_drift="raise", cooldown=500, challengers={"logistic": {"pipeline": LOGISTIC}})
    service = start_service(manifest)
    teach(service, 800)
    # The champion, which names the more frequent class, is wrong as often as before; the challenger always.
    flipped = [{**case, "features": {"x": -case["features"]["x"]}} for case in rows(300, seed=6)]
    service.lines(f"{LEARNS}/events", flipped)
    service.settle()
    described = service.get(LEARNS)
    (challenger,) = described["challengers"]
    assert (described["halted"], challenger["halted"]) == (None, "drift")
    assert challenger["learned"] < described["learned"] == 1_100
    service.post(f"{LEARNS}/resume", {"actor": "ann", "reason": "the sensor was turned round"})
    teach(service, 50, seed=7)
    (resumed,) = service.get(LEARNS)["challengers"]
    assert (resumed["halted"], resumed["learned"]) == (None, challenger["learned"] + 50)
