"""The loop's state machine: the path of a cycle, what stops it, and laws that hold for all facts in any order."""

from dataclasses import replace as with_rules
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.adapt import Entry, Rules, State, Step, deadline, due, step
from service.facts import (
    BASELINE,
    Carried,
    Fact,
    Failed,
    Fitted,
    Heard,
    Intervened,
    Judge,
    Judged,
    Misfitted,
    Ordered,
    Quarantine,
    Recalibrate,
    Recalibrated,
    Restore,
    Serve,
    Silenced,
    Stage,
    Suspected,
    Ticked,
    Train,
    Trained,
    decode,
    encode,
)

RULES = Rules(cooldown=100.0, per_day=3, settle=10.0, patience=50.0, work=1000.0, trial=2000.0, watch=500.0)
RANGES = {"sensitivity": (2.0, 8.0)}
PATH: tuple[Stage, ...] = (
    *("suspected", "recalibrating", "training", "gate", "shadow", "canary", "released", "watched", "confirmed"),
    "steady",
)


def facts_of_a_good_cycle(cycle: int = 1, at: float = 0.0) -> list[Fact]:
    return [
        Suspected(at=at, source="estimate", reason="sensitivity 4 is outside 0.5 to 2"),
        Ticked(at=at + 10.0),
        Recalibrated(at=at + 11.0, cycle=cycle, params={"sensitivity": 4.0}, ranges=RANGES),
        Trained(at=at + 12.0, cycle=cycle, candidate="new"),
        Judged(at=at + 13.0, cycle=cycle, stage="gate", verdict="better", reasons=("+30 %",)),
        Judged(at=at + 14.0, cycle=cycle, stage="shadow", verdict="better"),
        Judged(at=at + 15.0, cycle=cycle, stage="canary", verdict="better"),
        Carried(at=at + 16.0, cycle=cycle, stage="released"),
        Judged(at=at + 17.0, cycle=cycle, stage="watched", verdict="better"),
        Carried(at=at + 18.0, cycle=cycle, stage="confirmed"),
    ]


def fold(facts: list[Fact], rules: Rules = RULES, state: State | None = None) -> tuple[State, list[Entry]]:
    state, history = state or State(), []
    for fact in facts:
        found = step(state, fact, rules)
        state = found.state
        history += [found.entry] if found.entry else []
    return state, history


def after(count: int, rules: Rules = RULES) -> State:
    """The state after the first facts of a good cycle."""
    return fold(facts_of_a_good_cycle()[:count], rules)[0]


def test_a_good_candidate_goes_the_whole_path_and_every_step_is_an_entry() -> None:
    state, history = fold(facts_of_a_good_cycle())
    assert [entry.after for entry in history] == list(PATH)
    assert [entry.number for entry in history] == list(range(1, 11))
    assert state.stage == "steady"
    assert state.ended == 18.0
    assert history[2].reasons == ("estimated sensitivity 4; training over sensitivity 2 to 8",)
    assert history[4].reasons == ("+30 %",)


def test_each_stage_asks_for_what_it_needs() -> None:
    commands = [due(after(count), RULES) for count in range(11)]
    assert commands[0] == commands[1] == commands[10] == ()
    assert commands[2] == (Recalibrate(1),)
    assert commands[3] == (Train(1, RANGES, {"sensitivity": 4.0}),)
    assert commands[4] == (Judge(1, "gate", "new"),)
    assert commands[5] == (Serve(1, "shadow", "shadow", "new"), Judge(1, "shadow", "new"))
    assert commands[6] == (Serve(1, "canary", "canary", "new", 0.1), Judge(1, "canary", "new"))
    assert commands[7] == (Serve(1, "released", "canary", "new", 0.95),)
    assert commands[8] == (Judge(1, "watched", "new"),)
    assert commands[9] == (Serve(1, "confirmed", "live", "new"),)


def test_an_alarm_alone_is_left_to_the_estimate() -> None:
    state, history = fold([Suspected(at=0.0, source="alarm", reason="R = 12,000"), Ticked(at=49.0), Ticked(at=50.0)])
    assert [entry.after for entry in history] == ["suspected", "steady"]
    assert "level 0 follows" in history[-1].reasons[0]
    assert state.cycle == 0


def test_a_value_below_the_prediction_confirms_an_alarm() -> None:
    state, _ = fold(
        [
            Suspected(at=0.0, source="alarm", reason="alarm"),
            Suspected(at=40.0, source="value", reason="8 % below"),
            Ticked(at=49.0),
        ]
    )
    assert state.stage == "suspected"
    state, _ = fold([Ticked(at=50.0)], state=state)
    assert state.stage == "recalibrating"
    assert state.reasons == ("alarm", "8 % below")


def test_the_next_cycle_waits_for_the_cool_down() -> None:
    state, _ = fold([*facts_of_a_good_cycle(), Suspected(at=60.0, source="estimate", reason="x"), Ticked(at=70.0)])
    assert state.stage == "suspected"
    state, _ = fold([Ticked(at=110.0)], state=state)
    assert state.stage == "steady", "patience ends before the cool-down of 100 s after 18.0"
    state, _ = fold([Suspected(at=111.0, source="estimate", reason="x"), Ticked(at=121.0)], state=state)
    assert state.stage == "recalibrating"
    assert state.cycle == 2


def test_no_more_cycles_begin_than_the_day_allows() -> None:
    state, facts = State(), [Suspected, Ticked]
    begun = 0
    for turn in range(400):
        at = 200.0 * turn
        state, history = fold(
            [facts[0](at=at, source="value", reason="low"), Ticked(at=at + 20)],
            state=state,
        )
        begun += sum(entry.after == "recalibrating" for entry in history)
        if state.stage == "recalibrating":
            failed = Failed(at=at + 21, cycle=state.cycle, stage="recalibrating", reason="no")
            state, _ = fold([failed, Ticked(at=at + 22)], state=state)
    assert begun == 3, "400 tries over 22 hours"
    assert (
        fold([Suspected(at=0, source="value", reason="x"), Ticked(at=1e6)], with_rules(RULES, per_day=0))[0].cycle == 0
    )


@pytest.mark.parametrize(
    ("count", "stage", "result"),
    [
        (4, "gate", "rejected"),
        (5, "shadow", "rejected"),
        (6, "canary", "rolled-back"),
        (8, "watched", "rolled-back"),
    ],
)
def test_a_worse_candidate_is_taken_back_and_quarantined_with_its_evidence(
    count: int, stage: Stage, result: Stage
) -> None:
    worse = Judged(at=30.0, cycle=1, stage=stage, verdict="worse", reasons=("−10 %",))
    found = step(after(count), worse, RULES)
    assert found.state.stage == result
    assert found.commands == (Restore(1, "new"), Quarantine(1, "new", ("−10 %",)))
    done = step(found.state, Carried(at=31.0, cycle=1, stage=result), RULES)
    assert done.state.stage == "steady"
    assert done.state.candidate is None


def test_a_hold_stops_what_goes_forward_and_not_what_goes_back() -> None:
    held, _ = fold([Ordered(at=15.0, held=True, actor="ann", reason="stocktaking")], state=after(6))
    assert due(held, RULES) == (Judge(1, "canary", "new"),)
    better = step(held, Judged(at=20.0, cycle=1, stage="canary", verdict="better"), RULES)
    assert better.state.stage == "canary"
    worse = step(held, Judged(at=20.0, cycle=1, stage="canary", verdict="worse"), RULES)
    assert worse.state.stage == "rolled-back"
    free = step(held, Ordered(at=115.0, held=False, actor="ann"), RULES).state
    assert free.since == 114.0, "100 s of hold do not count"
    assert step(free, Judged(at=120.0, cycle=1, stage="canary", verdict="better"), RULES).state.stage == "released"


def test_when_outcomes_stop_the_loop_holds_whatever_time_passes() -> None:
    silent, _ = fold([Silenced(at=15.0, reason="no outcome for 500 decisions")], state=after(6))
    assert due(silent, RULES) == ()
    assert deadline(silent, RULES) is None
    assert fold([Ticked(at=1e9)], state=silent)[0] == silent
    assert fold([Heard(at=20.0)], state=silent)[0].stopped is False


def test_a_misfit_puts_policy_and_baseline_side_by_side() -> None:
    found = step(State(), Misfitted(at=5.0, reason="linear demand", incumbent="old"), RULES)
    assert found.state.stage == "doubted"
    assert found.commands == (Serve(1, "doubted", "canary", "old", 0.9, "baseline", 1), Judge(1, "doubted", "old"))
    lost = step(found.state, Judged(at=9.0, cycle=1, stage="doubted", verdict="worse", reasons=("−5 %",)), RULES)
    assert lost.state.stage == "rolled-back"
    assert lost.commands == (Serve(1, "rolled-back", "live", BASELINE),), "the policy is put aside, not quarantined"
    kept = step(found.state, Judged(at=9.0, cycle=1, stage="doubted", verdict="better"), RULES)
    assert kept.commands == (Serve(1, "confirmed", "live", "old"),)


@pytest.mark.parametrize(
    ("first", "second", "serves"),
    [
        ("better", "better", "bandit:b"),
        ("better", "worse", "old"),
        ("worse", "better", "bandit:b"),
        ("worse", "worse", BASELINE),
    ],
)
def test_while_the_world_is_doubted_the_better_of_two_meets_the_next(first: Any, second: Any, serves: str) -> None:
    doubted = step(State(), Misfitted(at=5.0, reason="linear", incumbent="old", bandits=("bandit:b",)), RULES).state
    met = step(doubted, Judged(at=9.0, cycle=1, stage="doubted", verdict=first, reasons=("first",)), RULES)
    champion = "old" if first == "better" else BASELINE
    assert met.entry is not None
    assert (met.entry.before, met.entry.after) == ("doubted", "doubted")
    assert met.commands[0] == Serve(1, "doubted", "canary", "bandit:b", 0.1, champion, 2)
    done = step(met.state, Judged(at=12.0, cycle=1, stage="doubted", verdict=second, reasons=("second",)), RULES)
    assert [(one.mode, one.candidate) for one in done.commands if isinstance(one, Serve)] == [("live", serves)]
    steady = step(done.state, Carried(at=13.0, cycle=1, stage=done.state.stage), RULES).state
    assert (steady.stage, steady.misfit) == ("steady", "linear")
    again = Misfitted(at=500.0, reason="linear still", incumbent=serves, bandits=("bandit:b",))
    assert step(steady, again, RULES).state == steady, "who has won is not tried again for the same misfit"
    fitted = step(steady, Fitted(at=600.0), RULES).state
    assert step(fitted, again, RULES).state.stage == "doubted"


def test_without_a_verdict_in_time_who_served_stays() -> None:
    doubted = step(State(), Misfitted(at=5.0, reason="linear", incumbent="old", bandits=("bandit:b",)), RULES).state
    late = step(doubted, Ticked(at=2005.0), RULES).state
    assert (late.stage, late.champion, late.candidate) == ("doubted", "old", "bandit:b")
    assert step(late, Ticked(at=4005.0), RULES).commands == (Serve(1, "rolled-back", "live", "old"),)


def test_a_misfit_ends_a_training_in_the_wrong_world() -> None:
    found = step(after(3), Misfitted(at=20.0, reason="linear demand", incumbent="old"), RULES)
    assert found.state.stage == "rejected"


def test_a_release_by_somebody_else_ends_the_cycle_and_touches_nothing() -> None:
    found = step(after(6), Intervened(at=20.0, cycle=1, actor="ann", reason="promotion"), RULES)
    assert found.state.stage == "rejected"
    assert found.commands == ()
    assert step(found.state, Ticked(at=20.5), RULES).state.stage == "steady"


def test_facts_of_another_cycle_or_stage_change_nothing() -> None:
    state = after(5)
    for fact in (
        Judged(at=20.0, cycle=7, stage="shadow", verdict="better"),
        Judged(at=20.0, cycle=1, stage="canary", verdict="better"),
        Trained(at=20.0, cycle=1, candidate="other"),
        Carried(at=20.0, cycle=1, stage="confirmed"),
        Failed(at=20.0, cycle=1, stage="training", reason="late"),
    ):
        assert step(state, fact, RULES) == Step(state, due(state, RULES))


words = st.sampled_from(["better", "worse", "not enough evidence"])
stages = st.sampled_from([*PATH, "doubted", "rejected", "rolled-back"])


class Loop(RuleBasedStateMachine):
    """All facts in any order, with restarts; every law is checked after each."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.log: list[bytes] = []
        self.history: list[Entry] = []
        self.now = 0.0
        self.verdicts: dict[int, set[str]] = {}

    def hear(self, fact: Fact) -> None:
        self.log.append(encode(fact))
        before = self.state
        found = step(before, fact, RULES)
        self.state = found.state
        assert found.commands == due(found.state, RULES)
        if isinstance(fact, Judged) and (fact.verdict, fact.cycle, fact.stage) == (
            "better",
            before.cycle,
            before.stage,
        ):
            self.verdicts.setdefault(before.cycle, set()).add(fact.stage)
        if found.entry is not None:
            assert all(found.entry.reasons), "a transition without a reason"
            assert found.entry.reasons
            self.history.append(found.entry)
        if found.state.cycle != before.cycle:
            assert found.state.cycle == before.cycle + 1
            assert not before.in_cycle, "a second cycle while one is under way"
            assert not before.stopped, "a cycle that begins while the loop is stopped"

    @rule(seconds=st.sampled_from([0.0, 1.0, 11.0, 60.0, 600.0, 3000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.hear(Ticked(at=self.now))

    @rule(source=st.sampled_from(["alarm", "estimate", "value", "model"]))
    def suspect(self, source: Any) -> None:
        self.hear(Suspected(at=self.now, source=source, reason=source))

    @rule(on=st.booleans())
    def order(self, on: bool) -> None:
        self.hear(Ordered(at=self.now, held=on, actor="ann"))

    @rule(on=st.booleans())
    def outcomes(self, on: bool) -> None:
        self.hear(Silenced(at=self.now, reason="none") if on else Heard(at=self.now))

    @rule(on=st.booleans(), known=st.booleans())
    def fit(self, on: bool, known: bool) -> None:
        if on:
            incumbent = "old" if known else None
            self.hear(Misfitted(at=self.now, reason="misfit", incumbent=incumbent, bandits=("bandit:b",)))
        else:
            self.hear(Fitted(at=self.now))

    @rule(stage=stages, verdict=words, stale=st.booleans())
    def judge(self, stage: Any, verdict: Any, stale: bool) -> None:
        self.hear(Judged(at=self.now, cycle=self.state.cycle - stale, stage=stage, verdict=verdict))

    @rule(stage=stages)
    def fail(self, stage: Any) -> None:
        self.hear(Failed(at=self.now, cycle=self.state.cycle, stage=stage, reason="broken"))

    @rule(stage=stages)
    def carry(self, stage: Any) -> None:
        self.hear(Carried(at=self.now, cycle=self.state.cycle, stage=stage))

    @rule()
    def recalibrate(self) -> None:
        self.hear(Recalibrated(at=self.now, cycle=self.state.cycle, params={"sensitivity": 4.0}, ranges=RANGES))

    @rule()
    def trained(self) -> None:
        self.hear(Trained(at=self.now, cycle=self.state.cycle, candidate=f"new-{self.state.cycle}"))

    @rule()
    def intervene(self) -> None:
        self.hear(Intervened(at=self.now, cycle=self.state.cycle, actor="ann"))

    @rule()
    @precondition(lambda self: self.state.in_cycle and not self.state.stopped)
    def go_on(self) -> None:
        """What a healthy shell answers, so that long cycles are common."""
        cycle, stage = self.state.cycle, self.state.stage
        answer: dict[str, Fact] = {
            "recalibrating": Recalibrated(at=self.now, cycle=cycle, params={}, ranges=RANGES),
            "training": Trained(at=self.now, cycle=cycle, candidate=f"new-{cycle}"),
            **{name: Carried(at=self.now, cycle=cycle, stage=name) for name in ("released", "confirmed", "rejected")},
        }
        self.hear(answer.get(stage, Judged(at=self.now, cycle=cycle, stage=stage, verdict="better")))

    @rule()
    def restart(self) -> None:
        again = State()
        for payload in self.log:
            again = step(again, decode(payload), RULES).state
        assert again == self.state
        assert due(again, RULES) == due(self.state, RULES)
        assert msgspec.json.decode(msgspec.json.encode(self.state), type=State) == self.state

    @invariant()
    def nothing_is_released_without_a_verdict(self) -> None:
        given = self.verdicts.get(self.state.cycle, set())
        if self.state.stage in ("shadow", "canary", "released", "watched"):
            assert "gate" in given
        if self.state.stage in ("released", "watched"):
            assert {"shadow", "canary"} <= given
        for command in due(self.state, RULES):
            if isinstance(command, Serve) and command.mode == "live":
                # Who served before a doubt, or won it, is no release of something new.
                assert "canary" in given or "doubted" in given or command.candidate in (BASELINE, "old")

    @invariant()
    def the_history_is_linear(self) -> None:
        assert [entry.number for entry in self.history] == list(range(1, len(self.history) + 1))
        stages_seen = ["steady", *(entry.after for entry in self.history)]
        assert [entry.before for entry in self.history] == stages_seen[:-1]
        assert stages_seen[-1] == self.state.stage

    def teardown(self) -> None:
        """From wherever it is, a shell that answers nothing but `Carried` finds the loop steady in the end."""
        self.hear(Ordered(at=self.now, held=False, actor="ann"))
        self.hear(Heard(at=self.now))
        for _ in range(20):
            if self.state.stage == "steady":
                return
            self.now = max(self.now, self.state.since) + 5000.0
            self.hear(Ticked(at=self.now))
            self.hear(Carried(at=self.now, cycle=self.state.cycle, stage=self.state.stage))
        raise AssertionError(f"stuck in {self.state.stage}")


TestLoop = Loop.TestCase
TestLoop.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
