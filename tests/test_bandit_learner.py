"""A bandit's fold: when a choice's wait is over does not depend on what else came in between."""

from typing import Any

import pytest

from online.bandit_learner import BanditLearner
from online.bandit_specs import bandit_spec
from online.events import Chosen, Rewarded, Settled, Ticked, digest, draft_id, encode
from online.log import START, Draft, Partition
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
