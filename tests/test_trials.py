"""The evidence of a trial: the learner's joined rewards, and none before what may yet default is known."""

import pytest

from service.deciding import trials
from service.deciding.trials import Trial

PRICE = "/v1/decisions/price"
CONTEXT = {"stock": 3, "period": 2}
WHY = {"reason": "trial"}


@pytest.fixture
def trial(service, make_bundle):
    """A canary of half of the units, and its evidence so far."""
    first, second = (service.register("price", make_bundle(note=note)) for note in ("a", "b"))
    service.post("/v1/policies/price/promote", {"digest": first, **WHY})
    service.post("/v1/policies/price/mode", {"mode": "canary", "digest": second, "share": 0.5, **WHY})
    point = service.api.serving.now.points["price"].point
    return Trial(service.make_log(), point, second, None, service.clock.now - 10, 0.5)


def earned(service, trial):
    service.settle()
    trial.read()
    return trial.watched().earned.tolist()


def decide(service, name, **more):
    service.post(PRICE, {"id": name, "context": CONTEXT, **more})


def pay(service, name, value, **more):
    service.post(f"{PRICE}/outcomes", {"id": name, "value": value, **more})


def test_all_outcomes_of_a_decision_count_as_the_point_aggregates_them(service, trial):
    decide(service, "a")
    pay(service, "a", 2.0, outcome_id="1")
    assert earned(service, trial) == [2.0]
    pay(service, "a", 3.0, outcome_id="2")
    assert earned(service, trial) == [5.0]


def test_an_outcome_that_overtook_its_decision_counts(service, trial):
    pay(service, "a", 2.0, early=True)
    decide(service, "a")
    assert earned(service, trial) == [2.0]


def test_a_deferred_decision_counts_once_it_is_activated(service, trial):
    decide(service, "a", deferred=True)
    decide(service, "b")
    pay(service, "b", 1.0)
    pay(service, "a", 4.0)
    assert earned(service, trial) == [1.0]
    service.post(f"{PRICE}/activate", {"id": "a"})
    assert sorted(earned(service, trial)) == [1.0, 4.0]


def test_outcomes_that_come_at_once_wait_for_those_that_may_yet_default(service, trial):
    for number in range(6):
        decide(service, f"d{number}")
        if number != 2:
            pay(service, f"d{number}", 1.0)
    assert earned(service, trial) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    service.clock.now += 3_601
    assert earned(service, trial) == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert trial.watched().luck.sum() == 5.0


def test_what_is_over_is_forgotten_and_units_are_bounded(service, trial, monkeypatch):
    monkeypatch.setattr(trials, "_UNITS", 5)
    for number in range(8):
        decide(service, f"d{number}")
        pay(service, f"d{number}", 1.0)
    assert len(earned(service, trial)) == 5
    assert trial.decisions == 8
    service.clock.now += 3_601
    assert earned(service, trial) == [1.0] * 5
    assert (len(trial._made), len(trial._awaited), len(trial._counted)) == (0, 0, 0)


def test_an_episode_is_finished_once_all_its_decisions_count(service, trial):
    decide(service, "before", episode="e0")
    pay(service, "before", 9.0)
    decide(service, "a", episode="e1")
    decide(service, "b", episode="e1")
    decide(service, "c", episode="e2")
    pay(service, "a", 1.0)
    assert earned(service, trial) == [], "where nothing is expected, half an episode says nothing"
    pay(service, "b", 1.0)
    assert earned(service, trial) == [2.0]
    assert trial.watched().finished.tolist() == [True]


def test_where_nothing_is_expected_episodes_count_in_the_order_in_which_they_began(service, trial):
    decide(service, "before", episode="under way when the trial began")
    pay(service, "before", 9.0)
    for number in range(12):
        decide(service, f"d{number}", episode=f"e{number}")
    for number in range(5, 12):
        pay(service, f"d{number}", 1.0)
    assert earned(service, trial) == [], "those that began before are not over"
    for number in range(5):
        pay(service, f"d{number}", 0.5)
    assert earned(service, trial) == [0.5] * 5 + [1.0] * 6, "the last episode goes on"
