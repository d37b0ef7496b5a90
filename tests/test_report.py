"""Reports on simulated logs whose truth is known: intervals cover it, and what is said is what the figures mean."""

import msgspec
import numpy as np
import pytest
from scipy import stats

from agents.policy import FixedAction, explore
from online.log import Entry, EntryId
from online.outcomes import Standing
from service.deciding.decide import BASELINE, Arm, Ask, ServedPoint, decide_all
from service.deciding.joined import Joined
from service.deciding.points import Point
from service.deciding.releases import Release
from service.deciding.report import report
from service.manifest import parse_point

SECRET = b"a secret of the tests, long enough"
PRICES = [1.0, 1.5, 2.0, 2.5]
LOGGED = np.array([0.1, 0.4, 0.3, 0.2])
TRIED = np.array([0.05, 0.15, 0.3, 0.5])
WORTH = np.array([0.2, -0.4, 1.0, 0.7])
REPEATS, SIZE = 100, 300


class Always:
    """The same distribution whatever is observed."""

    kind = "network"

    def __init__(self, probabilities):
        self.p = np.asarray(probabilities, float)

    def probabilities(self, observation, allowed):
        return np.where(allowed, np.tile(self.p, (len(observation), 1)), 0.0)


def served_point(mode="shadow", exploration=0.1, candidate=TRIED, default=0.0):
    table = {"world": "pricing", "params": {"stock": 5, "periods": 10, "prices": PRICES}, "mode": mode}
    table["outcome"] = {} if default is None else {"default": default}
    point = Point.of(parse_point("price", {**table, "exploration": exploration, "baseline": 1.0}))
    release = Release("price", mode, "a" * 64, "b" * 64 if mode in ("shadow", "canary") else None)
    arms = Arm(Always(LOGGED), "a" * 64, "network"), Arm(point.baseline, point.baseline_name, BASELINE)
    return ServedPoint(point, release, *arms, Arm(Always(candidate), "b" * 64, "network"))


def played(served, run, size, reward, episode=None):
    """Decisions by the function that the service uses, with their rewards."""
    decode = served.point.decoder.decode
    asks = []
    for i in range(size):
        body = {"context": {"stock": 3, "period": i % 10}} | ({"episode": episode(i)} if episode else {})
        asks.append(Ask(decode(msgspec.json.encode(body)), f"{run}-{i}"))
    rows = []
    for i, decided in enumerate(decide_all(served, asks, SECRET)):
        entry = Entry(EntryId(i + 1, 0), i + 1, float(i), decided.id, b"")
        rows.append(Joined(decided, entry, float(i), Standing("rewarded", float(reward(i, decided.index)), 1, True)))
    return rows


def covers(interval, truth):
    return (
        interval["low"] <= truth <= interval["high"]
        if isinstance(interval, dict)
        else interval[0] <= truth <= interval[1]
    )


def serving(probabilities, served):
    """What a policy is worth with the point's exploration mixed in."""
    p = explore(probabilities[None], np.ones((1, 4), bool), served.point.spec.exploration)[0]
    return float(p @ WORTH)


@pytest.mark.parametrize("repeats", [REPEATS, pytest.param(2000, marks=pytest.mark.long)])
def test_intervals_cover_what_the_policies_are_really_worth(repeats, record_property):
    served, rng = served_point(), np.random.default_rng(1)
    truth = {"incumbent": serving(LOGGED, served), "candidate": serving(TRIED, served)}
    hits = {"value": 0, "incumbent": 0, "candidate": 0}
    for run in range(repeats):
        noise = rng.normal(0, 0.5, SIZE)
        made = report(served, played(served, run, SIZE, lambda i, a, noise=noise: WORTH[a] + noise[i]))
        hits["value"] += covers(msgspec.to_builtins(made.policies[0].value), truth["incumbent"])
        for comparison in made.comparisons:
            if comparison.role in truth:
                interval = comparison.report["estimates"]["snips"]["interval"]
                hits[comparison.role] += covers(interval, truth[comparison.role])
    for name, hit in hits.items():
        # The incumbent's own weights are all one: its interval is the value's.
        assert stats.binomtest(hit, repeats, 0.95).pvalue > 1e-3, (name, hit / repeats)
        record_property(f"coverage of {name}", hit / repeats)


def test_decisions_of_one_episode_count_as_one_unit():
    """Rewards share a shock per episode: intervals that took ten decisions for ten units would cover half as often."""
    served, rng = served_point("live"), np.random.default_rng(2)
    hit, naive = 0, 0
    for run in range(REPEATS):
        shock, noise = rng.normal(0, 1.0, SIZE // 10), rng.normal(0, 0.5, SIZE)
        rows = played(
            served, run, SIZE, lambda i, a, s=shock, e=noise: WORTH[a] + s[i // 10] + e[i], lambda i: f"e{i // 10}"
        )
        hit += covers(msgspec.to_builtins(report(served, rows).policies[0].value), serving(LOGGED, served))
        alone = [Joined(msgspec.structs.replace(r.decided, episode=None), r.entry, r.at, r.standing) for r in rows]
        naive += covers(msgspec.to_builtins(report(served, alone).policies[0].value), serving(LOGGED, served))
    # Forty units: the normal interval is a little short (0.943 for the mean of forty).
    assert hit / REPEATS > 0.9
    assert naive / REPEATS < 0.75


def test_what_nobody_can_know_is_said_in_plain_words():
    served = served_point("live", exploration=0.0, candidate=[0, 0, 0, 1])
    served = ServedPoint(
        served.point, served.release, Arm(Always([0, 0.5, 0.5, 0]), "a" * 64, "network"), served.baseline
    )
    made = report(served, played(served, 0, 200, lambda i, a: WORTH[a]))  # noqa: ARG005
    (baseline,) = (one for one in made.comparisons if one.role == "baseline")
    assert baseline.said.startswith("Nobody can say yet: 100% of what the baseline does was never tried here.")
    assert baseline.agreement == 0.0
    (incumbent,) = (one for one in made.comparisons if one.role == "incumbent")
    assert incumbent.said.startswith(
        "No clear difference yet between the incumbent and what was done, over 200 decisions"
    )


def test_a_clear_difference_is_said_in_the_points_own_unit():
    served = served_point(candidate=[0, 0, 1, 0])
    made = report(served, played(served, 0, 600, lambda i, a: WORTH[a]))  # noqa: ARG005
    (candidate,) = (one for one in made.comparisons if one.role == "candidate")
    assert candidate.report["verdict"] == "better"
    assert candidate.said.startswith("The candidate would have earned ")
    assert " more per decision than what was done (+" in candidate.said


def test_an_apprentice_is_scored_by_how_often_it_agrees_with_the_baseline():
    served = served_point("apprentice", exploration=0.0)
    served = ServedPoint(served.point, served.release, served.incumbent, Arm(FixedAction(2, 4), "fixed:2", BASELINE))
    made = report(served, played(served, 0, 50, lambda i, a: WORTH[a]))  # noqa: ARG005
    agreement = {one.role: one.agreement for one in made.comparisons}
    assert agreement == {"baseline": pytest.approx(1.0), "incumbent": pytest.approx(LOGGED[2])}


def test_outcomes_that_come_at_once_do_not_stand_for_those_that_will_default():
    """Every other decision earns 2 at once; the others earn nothing, which is known only when their wait is over."""
    served = served_point("live", exploration=0.0)
    rows = played(served, 0, 100, lambda i, a: 2.0)  # noqa: ARG005
    for place, row in enumerate(rows):
        closed = place < 40
        reward = Standing("defaulted", 0.0, 0, closed) if closed else Standing("pending")
        row.standing = Standing("rewarded", 2.0, 1, closed) if place % 2 else reward
    made = report(served, rows)
    (value,) = made.policies
    assert value.value.mean == 1.0
    assert (value.open, made.open, value.decisions) == (60, 60, 100)
    incumbent = next(one for one in made.comparisons if one.role == "incumbent")
    assert incumbent.report["logged"]["value"] == 1.0
    assert incumbent.report["diagnostics"]["n"] == 40


def test_open_decisions_count_as_far_as_none_before_them_is_awaited():
    served = served_point("live", exploration=0.0)
    rows = played(served, 0, 100, lambda i, a: float(i))  # noqa: ARG005
    for place, row in enumerate(rows):
        row.standing = Standing("pending") if place == 60 else Standing("rewarded", float(place), 1)
    assert report(served, rows).policies[0].value.mean == pytest.approx(29.5)


def test_without_a_default_every_reward_counts():
    served = served_point("live", exploration=0.0, default=None)
    rows = played(served, 0, 10, lambda i, a: float(i))  # noqa: ARG005
    for place, row in enumerate(rows):
        row.standing = Standing("rewarded", float(place), 1) if place else Standing("pending")
    assert report(served, rows).policies[0].value.mean == pytest.approx(5.0)
