"""Decisions and outcomes: aggregation by hand, and every order of events against an oracle in plain Python."""

import itertools
import math
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online.events import Activated, Decided, Labelled, Rejected, Rewarded, Settled, Ticked, encode
from online.join import PointLearner, Value, _whole
from online.log import Entry, EntryId
from online.outcomes import OutcomeSpec, Standing, aggregate, parse_standing, standing_field


def decided(name: str, at: float = 0.0, **more: Any) -> Decided:
    plain = {"context": {"stock": 3.0}, "index": 1, "action": 2.0, "propensity": 0.5, "policy": "p"}
    return Decided(id=name, at=at, **{**plain, **more})


def outcome(name: str, value: float | None, at: float = 0.0, number: int = 0, **more: Any) -> Rewarded:
    return Rewarded(id=f"{name}/{number}", decision=name, value=value, at=at, **more)


class Stream:
    """Entries for events, one after the other, and the reports that they cause."""

    def __init__(self, learner: PointLearner) -> None:
        self.learner = learner
        self.number = 0
        self.entries: list[Entry] = []

    def __call__(self, *events: Any) -> list[Any]:
        reports: list[Any] = []
        for event in events:
            self.number += 1
            entry = Entry(EntryId(1, self.number), self.number, event.at or 0.0, f"e{self.number}", encode(event))
            self.entries.append(entry)
            reports += self.learner.apply(entry)
        return reports


def standing(learner: PointLearner, name: str) -> Standing:
    data = learner.index()[standing_field(name, None)]
    assert data is not None
    return parse_standing(data)


VALUES = [[3.0], [-2.0, -5.0], [0.0, 0.0], [1.5, -1.5, 4.0], [-1e9, 1e-9, 2.0]]


@pytest.mark.parametrize("values", VALUES)
def test_outcomes_are_aggregated_as_declared(values: list[float]) -> None:
    expected = {
        "sum": math.fsum(values),
        "mean": statistics.fmean(values),
        "last": values[-1],
        "min": min(values),
        "max": max(values),
    }
    for how, wanted in expected.items():
        stream = Stream(PointLearner(OutcomeSpec(aggregate=how)))
        stream(decided("d"), *(outcome("d", value, number=number) for number, value in enumerate(values)))
        assert standing(stream.learner, "d").reward == pytest.approx(wanted, rel=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_aggregation_does_not_depend_on_a_starting_value(values: list[float]) -> None:
    for how, wanted in (("min", min(values)), ("max", max(values)), ("last", values[-1])):
        reward: float | None = None
        for count, value in enumerate(values):
            reward = aggregate(how, reward, count, value)
        assert reward == wanted


def test_an_outcome_within_the_wait_rewards_and_one_after_it_is_late() -> None:
    stream = Stream(PointLearner(OutcomeSpec(wait=60.0, default=0.0)))
    assert stream(decided("d", at=100.0)) == []
    assert stream(outcome("d", 2.5, at=130.0)) == [Settled(id="d", state="rewarded", reward=2.5, outcomes=1)]
    assert stream(Ticked(at=159.0)) == []
    closed = Settled(id="d", state="rewarded", reward=2.5, outcomes=1, closed=True)
    assert stream(Ticked(at=160.0)) == [closed]
    late = stream(outcome("d", 9.0, at=161.0, number=1))
    assert late == [Settled(id="d", state="late", reward=2.5, outcomes=1, closed=True)]
    value = stream.learner.values["p", ""]
    assert (value.decisions, value.rewarded, value.late, value.reward, value.squares) == (1, 1, 1, 2.5, 6.25)


def test_a_default_enters_value_reports_and_nothing_else() -> None:
    stream = Stream(PointLearner(OutcomeSpec(wait=60.0, default=-1.0)))
    stream(decided("a", at=0.0), decided("b", at=1.0), outcome("b", 4.0, at=2.0))
    assert stream(Ticked(at=100.0))[0] == Settled(id="a", state="defaulted", reward=-1.0, closed=True)
    value = stream.learner.values["p", ""]
    assert (value.reward, value.default, value.rewarded, value.defaulted, value.unheard) == (4.0, -1.0, 1, 1, 1)
    assert value.mean == 1.5
    assert stream.learner.learned == 1


def test_without_a_default_a_missing_outcome_has_no_value() -> None:
    stream = Stream(PointLearner(OutcomeSpec(wait=60.0)))
    stream(decided("a", at=0.0))
    assert stream(Ticked(at=100.0)) == [Settled(id="a", state="defaulted", reward=None, closed=True)]
    value = stream.learner.values["p", ""]
    assert (value.mean, value.defaulted, value.pending) == (None, 0, 0)


def test_where_there_is_a_default_a_mean_waits_for_those_that_are_still_open() -> None:
    stream = Stream(PointLearner(OutcomeSpec(wait=60.0, default=0.0)))
    stream(*(decided(f"d{number}", at=0.0) for number in range(4)), outcome("d0", 8.0, at=1.0))
    value = stream.learner.values["p", ""]
    assert (value.mean, value.pending) == (None, 3)
    stream(decided("e", at=30.0), outcome("e", 5.0, at=31.0), Ticked(at=60.0))
    value = stream.learner.values["p", ""]
    assert value.mean == 2.0
    assert (value.decisions, value.pending, value.rewarded) == (5, 0, 2)


def test_without_a_default_a_mean_is_over_what_was_rewarded() -> None:
    stream = Stream(PointLearner(OutcomeSpec(wait=60.0)))
    stream(decided("a"), decided("b"), outcome("a", 1.0), outcome("a", 3.0, number=1), outcome("b", 2.0))
    assert stream.learner.values["p", ""].mean == 3.0


def test_a_date_in_the_future_ends_nobody_elses_wait() -> None:
    stream = Stream(PointLearner(OutcomeSpec(wait=60.0, default=0.0)))
    stream(decided("honest", at=0.0))
    for number, ahead in enumerate((100.0, 1e9)):
        event = decided(f"hasty{number}", at=ahead)
        assert stream.learner.apply(Entry(EntryId(2, number), 2 + number, 1.0, event.id, encode(event))) == []
    assert stream.learner.place.now == 1.0
    assert stream.learner.deadline() == 60.0
    # Its own wait begins at most five minutes ahead of its append.
    stream.number += 2
    ended = stream(Ticked(at=361.0))
    assert [report.id for report in ended] == ["honest", "hasty0", "hasty1"]


def test_snapshots_of_before_there_were_settled_decisions_are_read() -> None:
    old = object.__new__(Value)
    for name, number in {"decisions": 3, "rewarded": 1, "defaulted": 1, "late": 0}.items():
        object.__setattr__(old, name, number)
    for name, number in {"reward": 4.0, "squares": 16.0, "default": 0.0}.items():
        object.__setattr__(old, name, number)
    assert _whole(old) == Value(3, 1, 1, 0, 4.0, 16.0, 0.0, unheard=1, settled=1, earned=4.0)


def test_outcomes_may_overtake_their_decision() -> None:
    stream = Stream(PointLearner(OutcomeSpec(wait=60.0)))
    assert stream(outcome("d", 1.0), outcome("d", 2.0, number=1)) == []
    assert stream.learner.pending == 2
    settled = stream(decided("d"))
    assert [(report.state, report.reward) for report in settled] == [("rewarded", 1.0), ("rewarded", 3.0)]
    assert stream.learner.pending == 1


def test_an_outcome_whose_decision_never_comes_is_set_aside_by_name() -> None:
    stream = Stream(PointLearner(OutcomeSpec(early=300.0)))
    stream(outcome("ghost", 1.0, at=0.0))
    assert stream(Ticked(at=299.0)) == []
    (rejected,) = stream(Ticked(at=300.0))
    assert isinstance(rejected, Rejected)
    assert rejected.entry == "1-1"
    assert "not known" in rejected.reason


def test_rewards_come_from_fields_where_there_is_no_value() -> None:
    learner = PointLearner(OutcomeSpec(), lambda decision, fields: decision.action * fields["sold"])
    stream = Stream(learner)
    assert stream(decided("d"), outcome("d", None, fields={"sold": 3}))[0].reward == 6.0
    (missing,) = stream(outcome("d", None, number=1, fields={"bought": 3}))
    assert isinstance(missing, Rejected)
    assert missing.field == "fields"
    (silent,) = Stream(PointLearner(OutcomeSpec()))(decided("d"), outcome("d", None, fields={"sold": 1}))
    assert isinstance(silent, Rejected)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_set_aside(value: float) -> None:
    stream = Stream(PointLearner(OutcomeSpec()))
    (rejected,) = stream(decided("d"), outcome("d", value))
    assert isinstance(rejected, Rejected)
    assert stream.learner.values["p", ""].rewarded == 0


def test_a_sum_that_overflows_is_set_aside_and_the_rest_stays() -> None:
    stream = Stream(PointLearner(OutcomeSpec()))
    reports = stream(decided("d"), outcome("d", 1.7e308), outcome("d", 1.7e308, number=1), outcome("d", 1.0, number=2))
    assert [type(report).__name__ for report in reports] == ["Settled", "Rejected", "Settled"]


def test_deferred_decisions_count_once_they_are_activated() -> None:
    stream = Stream(PointLearner(OutcomeSpec(wait=60.0, default=0.0)))
    stream(decided("used", at=0.0, deferred=True), decided("dropped", at=0.0, deferred=True))
    assert stream(outcome("used", 1.0, at=10.0)) == [Settled(id="used", state="deferred", outcomes=1)]
    assert stream.learner.values == {}
    activated = stream(Activated(id="a", decision="used", at=50.0))
    assert activated == [Settled(id="used", state="rewarded", reward=1.0, outcomes=1)]
    assert stream(Ticked(at=70.0)) == [Settled(id="dropped", state="inactive", closed=True)]
    assert stream(outcome("used", 2.0, at=100.0, number=1))[0].reward == 3.0
    assert stream(Ticked(at=110.0))[0].closed
    assert stream.learner.values["p", ""].decisions == 1


def test_values_are_kept_by_policy_and_arm() -> None:
    stream = Stream(PointLearner(OutcomeSpec()))
    stream(decided("a", policy="old", arm="incumbent"), decided("b", policy="new", arm="candidate"))
    stream(outcome("a", 1.0), outcome("b", 5.0))
    assert {key: value.reward for key, value in stream.learner.values.items()} == {
        ("old", "incumbent"): 1.0,
        ("new", "candidate"): 5.0,
    }


def test_the_same_id_under_two_keys_is_two_decisions() -> None:
    stream = Stream(PointLearner(OutcomeSpec()))
    stream(decided("d", key="a"), decided("d", key="b"), outcome("d", 1.0, key="b"))
    found = stream.learner.index()
    assert standing_field("d", "b") in found
    assert standing_field("d", "a") not in found


def test_beyond_the_ceiling_the_oldest_defaults() -> None:
    stream = Stream(PointLearner(OutcomeSpec(wait=1e6, pending=2)))
    stream(decided("a"), decided("b", at=1.0), decided("c", at=2.0))
    (settled,) = stream(Ticked(at=3.0))
    assert (settled.id, settled.state) == ("a", "defaulted")


def test_what_is_no_event_of_a_point_is_set_aside() -> None:
    stream = Stream(PointLearner(OutcomeSpec()))
    reports = stream(Labelled(id="x", label=1), decided("d"), decided("d"))
    assert [type(report) for report in reports] == [Rejected, Rejected]
    assert stream.learner.place.rejected == 2


@pytest.mark.parametrize(
    "wrong", [{"aggregate": "median"}, {"wait": 0.0}, {"wait": math.inf}, {"default": math.nan}, {"pending": 0}]
)
def test_an_impossible_spec_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        OutcomeSpec(**wrong)


def reloaded(learner: PointLearner, parts: dict[str, bytes], entries: list[Entry]) -> PointLearner:
    for name, data in learner.changes().items():
        if data is None:
            parts.pop(name, None)
        else:
            parts[name] = data
    again = PointLearner.load(learner.spec, None, learner.dump())
    again.restore(parts)
    again.remember(entries)
    return again


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["decide", "reward", "tick", "restart"]), st.integers(0, 5), st.integers(0, 40)),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS, st.sampled_from(["sum", "mean", "last", "min", "max"]))
def test_any_order_of_events_and_restarts_gives_what_an_oracle_gives(actions: list[Any], how: str) -> None:
    wait, early_wait = 50.0, 30.0
    stream = Stream(PointLearner(OutcomeSpec(wait=wait, default=-7.0, aggregate=how, early=early_wait)))
    parts: dict[str, bytes] = {}
    now, made, rewards, late = 0.0, {}, {}, {}
    waiting: list[tuple[float, str, float]] = []
    numbers = itertools.count()
    for action, which, gap in actions:
        name = f"d{which}"
        if action == "restart":
            stream.learner = reloaded(stream.learner, parts, stream.entries)
            continue
        now += gap
        waiting = [item for item in waiting if item[0] > now]
        if action == "tick":
            stream(Ticked(at=now))
        elif action == "decide":
            stream(decided(name, at=now))
            if name not in made:
                made[name] = now
                rewards[name] = [value for _, asked, value in waiting if asked == name]
                waiting = [item for item in waiting if item[1] != name]
        else:
            number = next(numbers)
            stream(outcome(name, float(number), at=now, number=number))
            if name not in made:
                waiting.append((now + early_wait, name, float(number)))
            elif made[name] + wait > now:
                rewards[name].append(float(number))
            else:
                late[name] = late.get(name, 0) + 1
    folds = {"sum": sum, "mean": statistics.fmean, "last": lambda v: v[-1], "min": min, "max": max}
    found = stream.learner.values.get(("p", ""))
    if not made:
        assert found is None
        return
    assert found is not None
    settled = [folds[how](values) for values in rewards.values() if values]
    assert found.decisions == len(made)
    assert found.rewarded == len(settled)
    assert found.reward == pytest.approx(sum(settled), abs=1e-9)
    assert found.late == sum(late.values())
    assert found.defaulted == sum(not rewards[name] and at + wait <= now for name, at in made.items())
    assert found.default == -7.0 * found.defaulted
