"""Deciding, without HTTP: actions come as often as the logged propensities say, whatever decides and however."""

import itertools
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy import stats

from agents.policy import FixedAction, Greedy, Mixture, Table, draw, restrict, sample, softmax
from online.events import Forecast
from service.deciding.beliefs import NO_ESTIMATES, Belief, Estimates, Fit
from service.deciding.decide import BASELINE, Arm, Ask, ServedPoint, decide, decide_all
from service.deciding.points import Point
from service.deciding.releases import Release
from service.http.problems import ProblemError
from service.manifest import parse_point

SECRET = b"a secret of the tests, long enough"
PRICES = [1.0, 1.5, 2.0, 2.5, 3.0]
CONTEXT = {"stock": 3, "period": 2}
ALPHA = 1e-6


class Softmax:
    """A stand-in for a network: logits that depend on the context."""

    kind = "network"

    def probabilities(self, observation, allowed):
        logits = np.outer(observation[:, 0], np.linspace(-0.4, 0.5, 5)) + 0.3 * observation[:, 1:2]
        weights = np.where(allowed, np.exp(logits), 0.0)
        return weights / weights.sum(axis=1, keepdims=True)


class Bandit:
    """Inverse-gap weighting (Foster and Rakhlin 2020, eq. 1): the rest of the probability goes to the best action."""

    kind = "bandit"
    gaps = np.array([0.3, 0.1, 0.0, 0.25, 0.5])

    def probabilities(self, observation, allowed):  # noqa: ARG002 - the gaps are the same everywhere
        n = allowed.sum(axis=1, keepdims=True)
        p = np.where(allowed & (self.gaps > 0), 1 / (n + 4.0 * self.gaps), 0.0)
        p[:, 2] = np.where(allowed[:, 2], 1 - p.sum(axis=1), 0.0)
        return restrict(p, allowed)


TABLE = Table(np.array([[3.0, 2.0], [1.0, 1.0]]), np.array([[0.5, 0.2, 0.1, 0.1, 0.1], [0.2] * 5]))
POLICIES = {
    "network": Softmax(),
    "table": TABLE,
    "rule": FixedAction(3, 5),
    "bandit": Bandit(),
    "greedy with ε": Greedy(Softmax(), 0.1),
    "mixture": Mixture((Softmax(), FixedAction(0, 5)), (0.7, 0.3)),
}
MODES = ("off", "apprentice", "shadow", "canary", "live")
EXPLORATIONS = (0.0, {"share": 0.1, "over": "allowed"}, {"share": 0.1, "over": "neighbours"})
ALLOWED = (None, [1.0, 2.0, 3.0], [1.5])


def served_point(policy, mode, exploration):
    table = {"world": "pricing", "params": {"stock": 5, "periods": 10, "prices": PRICES}, "baseline": 2.0}
    point = Point.of(parse_point("price", {**table, "mode": mode, "exploration": exploration}))
    baseline = Arm(point.baseline, point.baseline_name, BASELINE)
    incumbent = Arm(policy, "a" * 64, policy.kind)
    candidate = Arm(Softmax(), "b" * 64, "network") if mode in ("shadow", "canary") else None
    release = Release("price", mode, "a" * 64, candidate and candidate.name, 0.3 if mode == "canary" else 0.0)
    return ServedPoint(point, release, incumbent, baseline, candidate)


def request_for(served, allowed=None, **more):
    body = {"context": CONTEXT, **({} if allowed is None else {"allowed": allowed}), **more}
    return served.point.decoder.decode(msgspec.json.encode(body))


def p_value(counts, expected):
    """Chi-square over cells merged until each expects ten or more."""
    order = np.argsort(expected)
    groups, group = [], np.zeros(2)
    for seen, wanted in zip(counts[order], expected[order], strict=True):
        group += (seen, wanted)
        if group[1] >= 10:
            groups.append(group)
            group = np.zeros(2)
    if group[1] and groups:
        groups[-1] = groups[-1] + group
    if len(groups) < 2:
        return 1.0
    seen, wanted = np.array(groups).T
    return float(stats.chi2.sf(((seen - wanted) ** 2 / wanted).sum(), len(groups) - 1))


def decisions(served, asks):
    """As the route asks: some together, of any number."""
    sizes, at = itertools.cycle((1, 64, 7, 512)), 0
    while at < len(asks):
        size = next(sizes)
        yield from decide_all(served, asks[at : at + size], SECRET)
        at += size


def check(policy, mode, exploration, allowed, count):
    """Frequencies against the logged probabilities; distinct ids, each its own unit."""
    served = served_point(POLICIES[policy], mode, exploration)
    request = request_for(served, allowed)
    mask = np.array([allowed is None or price in allowed for price in PRICES])
    counts, marginal, arms = np.zeros(5), {}, {"": 0, "incumbent": 0, "candidate": 0}
    by_arm = {}
    for event in decisions(served, [Ask(request, f"{i}") for i in range(count)]):
        counts[event.index] += 1
        arms[event.arm] += 1
        marginal[event.index] = event.propensity
        by_arm[event.arm] = np.array(event.probabilities)
    for probabilities in by_arm.values():
        assert probabilities.sum() == pytest.approx(1.0, abs=1e-9)
        assert (probabilities[~mask] == 0).all()
    expected = np.array([marginal.get(index, 0.0) for index in range(5)]) * count
    assert p_value(counts, expected) > ALPHA
    assert counts[~mask].sum() == 0
    if mode == "canary":
        assert stats.binomtest(arms["candidate"], count, 0.3).pvalue > ALPHA


@pytest.mark.parametrize("allowed", ALLOWED, ids=["all", "three", "one"])
@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=["none", "allowed", "neighbours"])
@pytest.mark.parametrize("mode", MODES)
def test_actions_come_as_often_as_logged(mode, exploration, allowed):
    check("network", mode, exploration, allowed, 2000)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("policy", "mode"), [(policy, mode) for policy, mode in itertools.product(POLICIES, MODES)])
def test_actions_come_as_often_as_logged_over_200_000_ids(policy, mode):
    for exploration, allowed in itertools.product(EXPLORATIONS, ALLOWED[:2]):
        check(policy, mode, exploration, allowed, 200_000)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_kind_of_policy_decides(policy):
    check(policy, "live", EXPLORATIONS[2], None, 2000)
    check(policy, "canary", EXPLORATIONS[1], ALLOWED[1], 2000)


def test_a_wrong_propensity_would_be_found():
    rng = np.random.default_rng(0)
    probabilities = np.array([0.5, 0.3, 0.2])
    counts = np.bincount(rng.choice(3, 20_000, p=probabilities), minlength=3)
    assert p_value(counts, probabilities * 20_000) > 1e-3
    assert p_value(counts, np.array([0.53, 0.28, 0.19]) * 20_000) < ALPHA


def test_the_same_id_decides_alike_and_another_secret_otherwise():
    served = served_point(POLICIES["network"], "live", 0.1)
    request = request_for(served)
    first = [decide(served, Ask(request, f"{i}"), SECRET).index for i in range(50)]
    assert [decide(served, Ask(request, f"{i}"), SECRET).index for i in range(50)] == first
    assert [decide(served, Ask(request, f"{i}"), SECRET[::-1]).index for i in range(50)] != first


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", POLICIES)
def test_decisions_made_together_are_those_made_one_by_one(policy, mode):
    served = served_point(POLICIES[policy], mode, EXPLORATIONS[2])
    asks = [
        Ask(request_for(served, ALLOWED[i % 3], **({"baseline": 1.5} if i % 5 == 0 else {})), f"{i}") for i in range(60)
    ]
    together = decide_all(served, asks, SECRET)
    for ask, found in zip(asks, together, strict=True):
        if ask.request.baseline is not None and ask.request.allowed == [1.0, 2.0, 3.0]:
            assert isinstance(found, ProblemError)
        else:
            assert found == decide(served, ask, SECRET)


def test_a_context_that_a_policy_cannot_read_takes_no_others_with_it():
    served = served_point(TABLE, "live", 0.0)
    good = request_for(served)
    bad = served.point.decoder.decode(b'{"context":{"stock":3,"period":1}}')
    first, wrong, last = decide_all(served, [Ask(good, "1"), Ask(bad, "2"), Ask(good, "3")], SECRET)
    assert [first.id, last.id] == ["1", "3"]
    assert "is no state" in str(wrong)
    assert (wrong.status, wrong.faults[0].field) == (422, "context")


def test_an_episodes_arm_does_not_depend_on_its_decisions_and_a_new_candidate_draws_anew():
    served = served_point(POLICIES["rule"], "canary", 0.0)
    arms = {}
    for episode, number in itertools.product(range(200), range(3)):
        event = decide(served, Ask(request_for(served, episode=f"e{episode}"), f"{episode}-{number}"), SECRET)
        arms.setdefault(episode, set()).add(event.arm)
    assert all(len(seen) == 1 for seen in arms.values())
    other = msgspec.structs.replace(served.release, candidate="c" * 64)
    again = ServedPoint(served.point, other, served.incumbent, served.baseline, Arm(Softmax(), "c" * 64, "network"))
    drawn = [decide(again, Ask(request_for(again, episode=f"e{e}"), f"{e}-0"), SECRET).arm for e in range(200)]
    agree = sum(arm in arms[episode] for episode, arm in enumerate(drawn))
    # Independent draws agree with probability .3² + .7² = .58.
    assert stats.binomtest(agree, 200, 0.58).pvalue > 1e-4


class Prices:
    """A network's stand-in over three products with four prices each: one list of logits after another."""

    kind = "network"

    def __init__(self, slope):
        self.slope = slope

    def probabilities(self, observation, allowed):
        logits = self.slope * np.arange(12) * observation[:, :1] / 8
        return softmax(logits, allowed, factors=3)


FARES = {"capacity[0]": 5, "capacity[1]": 3, "period": 2}
LADDER = [0.5, 1.0, 1.5, 2.0]


def served_product(mode, exploration):
    table = {"world": "pricing-network", "params": {"prices": LADDER}, "mode": mode, "exploration": exploration}
    point = Point.of(parse_point("fares", table))
    baseline = Arm(point.baseline, point.baseline_name, BASELINE)
    candidate = Arm(Prices(-0.3), "b" * 64, "network") if mode in ("shadow", "canary") else None
    release = Release("fares", mode, "a" * 64, candidate and candidate.name, 0.3 if mode == "canary" else 0.0)
    return ServedPoint(point, release, Arm(Prices(0.2), "a" * 64, "network"), baseline, candidate)


def product_request(served, **more):
    return served.point.decoder.decode(msgspec.json.encode({"context": FARES, **more}))


@pytest.mark.parametrize("allowed", [None, [[0.5, 1.5], LADDER, [1.0, 1.5, 2.0]]], ids=["all", "some"])
@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=["none", "allowed", "neighbours"])
@pytest.mark.parametrize("mode", MODES)
def test_an_action_that_is_a_product_comes_as_often_as_logged(mode, exploration, allowed):
    served, count = served_product(mode, exploration), 4000
    request = product_request(served, **({} if allowed is None else {"allowed": allowed}))
    events = list(decisions(served, [Ask(request, f"{i}") for i in range(count)]))
    mask = np.array([[allowed is None or price in allowed[j] for price in LADDER] for j in range(3)])
    counts, wanted = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    for event in events:
        assert event.action == [LADDER[i] for i in event.index]
        counts[tuple(event.index)] += 1
    # The joint distribution is the product of the factors' lists; over both arms of a canary, their mixture.
    arms = {event.arm: event for event in events}
    for event in arms.values():
        lists = np.array(event.probabilities).reshape(3, 4)
        assert lists.sum(axis=1) == pytest.approx(1.0, abs=1e-9)
        assert (lists[~mask] == 0).all()
        wanted += event.arm_probability * np.einsum("i,j,k->ijk", *lists)
    assert all(event.propensity == pytest.approx(wanted[tuple(event.index)], rel=1e-12) for event in events)
    assert p_value(counts.ravel(), wanted.ravel() * count) > ALPHA
    assert counts[wanted == 0].sum() == 0


def test_each_product_is_drawn_by_a_number_of_its_own_that_an_auditor_can_recompute():
    served = served_product("live", 0.1)
    event = decide(served, Ask(product_request(served), "a"), SECRET)
    assert event.draw == [draw(SECRET, "a", f"action/fares/{j}") for j in range(3)]
    lists = np.array(event.probabilities).reshape(3, 4)
    assert event.index == [sample(row, u) for row, u in zip(lists, event.draw, strict=True)]


def test_a_caller_names_what_it_would_do_and_may_do_product_by_product():
    served = served_product("off", 0.0)
    event = decide(served, Ask(product_request(served, baseline=[0.5, 2.0, 1.0]), "a"), SECRET)
    assert (event.index, event.baseline, event.action) == ([0, 3, 1], [0, 3, 1], [0.5, 2.0, 1.0])
    assert (event.propensity, event.draw, event.kind) == (1.0, None, "caller")
    assert np.flatnonzero(event.probabilities).tolist() == [0, 7, 9]


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"allowed": [0.5]}, "allowed"),
        ({"allowed": [LADDER, LADDER]}, "allowed"),
        ({"allowed": [LADDER, [], LADDER]}, "allowed"),
        ({"allowed": [LADDER, [0.7], LADDER]}, "allowed[1][0]"),
        ({"baseline": 0.5}, "baseline"),
        ({"baseline": [0.5, 0.5, 9.0]}, "baseline[2]"),
        ({"baseline": [0.5] * 3, "allowed": [[1.0], LADDER, LADDER]}, "baseline"),
    ],
)
def test_what_fits_no_product_is_refused_and_says_where(more, where):
    served = served_product("live", 0.0)
    with pytest.raises(ProblemError) as caught:
        decide(served, Ask(product_request(served, **more), "a"), SECRET)
    assert caught.value.faults[0].field == where


def test_what_is_believed_is_logged_with_how_well_it_is_known() -> None:
    served = served_point(Softmax(), "live", 0.0)
    belief = Belief(
        {"volume": 3.1, "sensitivity": 1.2}, {"volume": 2.9, "sensitivity": 1.0}, {"volume": 3.4, "sensitivity": 1.5}
    )
    seeing = replace(served.incumbent, policy=FixedAction(2, 5), estimates={"volume": 2.7})
    believing = replace(served, incumbent=seeing, beliefs=Estimates(pooled=belief))
    made = decide(believing, Ask(request_for(served), "d1"), SECRET)
    assert (made.estimates, made.intervals) == ({"volume": 3.1}, {"volume": (2.9, 3.4)})
    foretold = Ask(request_for(served), "d2", forecasts={"volume": Forecast("demand", 5.0)})
    made = decide(believing, foretold, SECRET)
    assert (made.estimates, made.intervals) == ({"volume": 5.0}, None)
    unknown = decide(replace(believing, beliefs=NO_ESTIMATES), Ask(request_for(served), "d3"), SECRET)
    assert (unknown.estimates, unknown.intervals) == ({"volume": 2.7}, None)


def test_a_world_that_is_doubted_is_explored_as_far_as_the_point_allows():
    calm = served_point(Softmax(), "live", 0.02)
    apart = Fit(weight=(500.0,) * 6, residual=(60.0, -60.0) * 3, squares=(100.0,) * 6, expected=(100.0,) * 6)
    spec = replace(calm.point.spec, adapt=replace(calm.point.spec.adapt, explore=0.2))
    doubted = replace(calm, point=replace(calm.point, spec=spec), beliefs=Estimates(fit=apart))
    assert calm.exploration.share == 0.02
    assert doubted.exploration == replace(calm.exploration, share=0.2)
    assert replace(doubted, beliefs=NO_ESTIMATES).exploration.share == 0.02
