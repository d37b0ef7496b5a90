"""A bandit's fold: when a choice's wait is over does not depend on what else came in between."""

import random
from typing import Any

import pytest

from online.bandit_learner import HISTORY, BanditLearner, Earned
from online.bandit_specs import bandit_spec
from online.events import Armed, Chosen, Rejected, Replayed, Rewarded, Settled, Ticked, digest, draft_id, encode
from online.fold import replay_of
from online.log import START, Draft, Entry, EntryId, Partition
from online.memory_log import MemoryLog

HERE = Partition("bandit:offers", 0)


def settled(events: list[Any]) -> list[tuple[str, float | None]]:
    """The states and rewards that a fold of these events reports."""
    log = MemoryLog()
    log.append(HERE, [Draft(draft_id(event), digest(encode(event)), encode(event)) for event in events])
    learner = BanditLearner(bandit_spec("offers", {"arms": ["a", "b"], "wait": 10, "default": 0}))
    reports = [report for entry in log.read(HERE, START, 10) for report in learner.apply(entry)]
    return [(report.state, report.reward) for report in reports if isinstance(report, Settled)]


def chosen() -> Chosen:
    even = {"a": 0.5, "b": 0.5}
    return Chosen(
        id="c", arm="a", features={}, allowed=None, probabilities=even, propensity=0.5, refusal=None, rewards=0, at=0.0
    )


def rewarded(at: float) -> Rewarded:
    return Rewarded(id="c/reward", decision="c", value=1.0, at=at)


def test_a_reward_within_the_wait_counts() -> None:
    assert settled([chosen(), rewarded(9.0)]) == [("rewarded", 1.0)]


@pytest.mark.parametrize("between", [[], [Ticked(at=500.0)]])
def test_a_reward_after_the_wait_is_late_whatever_came_in_between(between: list[Any]) -> None:
    found = settled([chosen(), *between, rewarded(1000.0)])
    assert found[0] == ("defaulted", 0.0)
    assert ("rewarded", 1.0) not in found


def played(*events: Any) -> tuple[BanditLearner, list[Any]]:
    """A learner of ε-greedy choices after these events, and what it reported."""
    log = MemoryLog()
    log.append(HERE, [Draft(draft_id(event), digest(encode(event)), encode(event)) for event in events])
    learner = BanditLearner(bandit_spec("offers", {"arms": ["a", "b"], "wait": 10}))
    return learner, [report for entry in log.read(HERE, START, 1_000) for report in learner.apply(entry)]


def arm(number: int, name: str, offered: bool) -> Armed:
    return Armed(id=f"arm-{number}", arm=name, offered=offered, actor="ann", reason="spring", at=float(number))


def test_an_arm_that_is_retired_stays_with_its_state_and_the_history_says_who_and_why() -> None:
    learner, _ = played(arm(1, "c", True), arm(2, "c", False), arm(3, "a", False))
    assert (learner.bandit.arms, learner.bandit.retired) == (("b",), ("a", "c"))
    assert [(one.arm, one.offered, one.actor, one.reason, one.at) for one in learner.history] == [
        ("c", True, "ann", "spring", 1.0),
        ("c", False, "ann", "spring", 2.0),
        ("a", False, "ann", "spring", 3.0),
    ]
    again = BanditLearner.load(learner.spec, learner.dump())
    assert (again.history, again.bandit.retired) == (learner.history, ("a", "c"))


def test_a_change_of_arms_that_cannot_be_leaves_no_trace_in_the_history() -> None:
    learner, reports = played(arm(1, "c", False), arm(2, "a", True))
    assert learner.history == []
    assert [type(report).__name__ for report in reports] == ["Rejected", "Rejected"]


def test_the_history_of_arms_is_bounded() -> None:
    learner, _ = played(*(arm(number, "c", number % 2 == 0) for number in range(HISTORY + 50)))
    assert [one.at for one in learner.history] == [float(number) for number in range(50, HISTORY + 50)]


def test_a_rejected_reward_is_brought_back_once_its_choice_is_named() -> None:
    learner, reports = played(chosen(), Rewarded(id="d/reward", decision="d", value=1.0, at=1.0))
    (rejected,) = (report for report in reports if isinstance(report, Rejected))
    assert list(learner.index()) == [f"reject:{rejected.entry}"]
    mended = encode(Rewarded(id="d/reward", decision="c", value=1.0, at=1.0))
    replays = [
        replay_of(rejected, "ann", mended),
        Replayed(id="x", entry="1-1", event=encode(replay_of(rejected, "b"))),
    ]
    entries = [Entry(EntryId(9, n), 3 + n, 2.0, replay.id, encode(replay)) for n, replay in enumerate(replays)]
    assert learner.apply(entries[0]) == [Settled(id="c", state="rewarded", reward=1.0, outcomes=1, closed=True)]
    assert learner.index() == {f"reject:{rejected.entry}": None}
    assert learner.learned == 1
    assert "a replay of a replay" in learner.apply(entries[1])[0].reason


def test_the_mean_is_of_the_cases_chosen_and_the_value_of_all() -> None:
    # The arm pays 1 in a tenth of the cases, where it is taken with probability .9, and nothing elsewhere, at .1.
    earned, chance = Earned(), random.Random(1)
    for _ in range(20_000):
        good = chance.random() < 0.1
        propensity = 0.9 if good else 0.1
        if chance.random() < propensity:
            earned.add(float(good), propensity)
    # Taken 1,800 times where it pays and 1,800 times where not.
    assert earned.mean == pytest.approx(0.5, abs=0.03)
    assert earned.value == pytest.approx(0.1, abs=0.01)
    # 1,800 weights of 10/9 and 1,800 of 10, by Kish's formula: 20,000² / (1,800 · (1.235 + 100)).
    assert earned.effective == pytest.approx(20_000**2 / (1_800 * (100 / 81 + 100)), rel=0.05)
    assert Earned().effective is None
