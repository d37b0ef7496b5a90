"""What is really served (bundles in ONNX Runtime, exact tables, rules, bandits) acts as often as its propensities say.

Every kind × mode × exploration × set of allowed actions, through `decide_all`, the function behind the route.
"""

import itertools
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from scipy import stats
from test_decide import ALPHA, decisions, p_value

from agents.bundle import unpack
from agents.policy import Table
from online.events import Decided
from service.deciding.arms import arm_of
from service.deciding.decide import BASELINE, Arm, Ask, ServedPoint
from service.deciding.exploring import lessons
from service.deciding.listening import tutor_of
from service.deciding.point_bandits import PREFIX
from service.deciding.points import Point
from service.deciding.releases import Release
from service.manifest import parse

PRICES = [1.0, 1.5, 2.0, 2.5]
CONTEXT = {"stock": 3, "period": 2}
WEIGHTS = [[0.2, 0, 0.1], [0, 0.1, 0], [-0.1, 0, 0.6], [0, -0.1, -0.3]]
SEEING = [[0.2, 0, -0.1, 0.1], [0, 0.1, 0.2, 0], [-0.1, 0, 0.1, 0.6], [0, -0.1, 0, -0.3]]
TRIAL = [[0, 0, -0.4], [0, 0, 0.3], [0.1, 0, 0], [0, 0.1, 0.2]]
MODES = ("off", "apprentice", "shadow", "canary", "live")
EXPLORATIONS = (0.0, *({"share": 0.1, "over": over} for over in ("allowed", "neighbours", "informative")))
ALLOWED = (None, [1.0, 2.0], [1.5])
KINDS = ("network", "network that sees estimates", "values with ε", "table", "rule", "inverse gap", "ε-greedy bandit")
BANDITS = {"inverse gap": {"use": "inverse_gap"}, "ε-greedy bandit": {"use": "epsilon_greedy", "epsilon": 0.2}}


@dataclass
class Remembered:
    """A policy that is asked once for each row and mask: bandits take a while, and answer the same."""

    policy: object
    answers: dict = field(default_factory=dict)

    @property
    def kind(self):
        return self.policy.kind

    def probabilities(self, observation, allowed):
        rows = [(row.tobytes(), mask.tobytes()) for row, mask in zip(observation, allowed, strict=True)]
        for place in {row: place for place, row in enumerate(rows) if row not in self.answers}.values():
            asked = slice(place, place + 1)
            self.answers[rows[place]] = self.policy.probabilities(observation[asked], allowed[asked])[0]
        return np.array([self.answers[row] for row in rows])


class Shelf:
    """Bundles by their digests."""

    def __init__(self):
        self.bundles = {}

    def put(self, data):
        bundle = unpack(data)
        self.bundles[bundle.digest] = bundle
        return bundle.digest

    def bundle(self, digest):
        return self.bundles[digest]


def declared(kind, mode, exploration):
    bandit = BANDITS.get(kind)
    table = {
        "world": "pricing",
        "params": {"stock": 5, "periods": 10, "volume": 2.7, "prices": PRICES},
        "ranges": {"volume": [0.5, 8.0]},
        "mode": mode,
        "baseline": f"{PREFIX}offers" if bandit else 2.0,
        "exploration": exploration,
    }
    offers = {} if bandit is None else {"bandits": {"offers": {"explore": bandit}}}
    return Point.of(
        parse({**offers, "points": {"price": table | ({"bandits": ["offers"]} if bandit else {})}}).points["price"]
    )


def taught(point):
    """The point's bandit, which has seen that the third price earns most."""
    tutor = tutor_of(point)
    for n in range(60):
        context = {"stock": float(n % 5 + 1), "period": float(n % 10)}
        made = Decided(id=str(n), context=context, index=n % 4, action=1.0, propensity=1.0, policy="x")
        tutor.close(made, [0.5, 0.8, 1.1, 0.7][n % 4])
    return Remembered(tutor.policies()[f"{PREFIX}offers"])


def incumbent_of(kind, point, shelf, make_bundle):
    if kind in BANDITS:
        return Arm(taught(point), f"{PREFIX}offers", "bandit")
    if kind == "rule":
        return Arm(point.baseline, point.baseline_name, BASELINE)
    if kind == "table":
        states = np.array(list(itertools.product(range(6), range(11))), float)
        values = np.random.default_rng(0).dirichlet(np.ones(4), len(states))
        return Arm(Table(states, values), "t" * 64, "table")
    made = {
        "network": lambda: make_bundle(WEIGHTS),
        "network that sees estimates": lambda: make_bundle(SEEING, ranges=True),
        "values with ε": lambda: make_bundle(WEIGHTS, output="values", epsilon=0.15),
    }
    return arm_of(shelf, point, shelf.put(made[kind]()))


def serving(kind, mode, exploration, make_bundle):
    point, shelf = declared(kind, mode, exploration), Shelf()
    incumbent = incumbent_of(kind, point, shelf, make_bundle)
    baseline = incumbent if kind in BANDITS else Arm(point.baseline, point.baseline_name, BASELINE)
    trial = arm_of(shelf, point, shelf.put(make_bundle(TRIAL))) if mode in ("shadow", "canary") else None
    release = Release("price", mode, incumbent.name, trial and trial.name, 0.3 if mode == "canary" else 0.0)
    taught = lessons(point, incumbent, incumbent.estimates or {}) if point.spec.informative else None
    return ServedPoint(point, release, incumbent, baseline, trial, lessons=taught)


def check(served, allowed, count):
    """Frequencies against the logged propensities; distinct ids, each its own unit."""
    body = {"context": CONTEXT, **({} if allowed is None else {"allowed": allowed})}
    request = served.point.decoder.decode(msgspec.json.encode(body))
    mask = np.array([allowed is None or price in allowed for price in PRICES])
    counts, marginal, by_arm, tried = np.zeros(4), np.zeros(4), {}, 0
    for event in decisions(served, [Ask(request, f"{i}") for i in range(count)]):
        counts[event.index] += 1
        tried += event.arm == "candidate"
        marginal[event.index] = event.propensity
        by_arm[event.arm] = (event.arm_probability, event.probabilities)
    lists = np.array([probabilities for _, probabilities in by_arm.values()])
    assert lists.sum(axis=1) == pytest.approx(np.ones(len(lists)), abs=1e-9)
    assert (lists[:, ~mask] == 0).all()
    assert counts[~mask].sum() == 0
    whole = sum(share * np.array(probabilities) for share, probabilities in by_arm.values())
    assert marginal[counts > 0] == pytest.approx(whole[counts > 0], rel=1e-12)
    assert p_value(counts, whole * count) > ALPHA
    if served.release.mode == "canary":
        assert stats.binomtest(tried, count, 0.3).pvalue > ALPHA


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_served_acts_as_often_as_logged(kind, make_bundle):
    for mode, exploration in itertools.product(("apprentice", "canary", "live"), EXPLORATIONS[2:]):
        check(serving(kind, mode, exploration, make_bundle), ALLOWED[1], 1500)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_served_acts_as_often_as_logged_over_200_000_ids(kind, mode, make_bundle):
    for exploration, allowed in itertools.product(EXPLORATIONS, ALLOWED):
        served = serving(kind, mode, exploration, make_bundle)
        # One action can only be taken, and the baseline serves without exploring: the same over and over.
        again = len(allowed or PRICES) == 1 or (mode in ("off", "apprentice") and exploration != EXPLORATIONS[0])
        check(served, allowed, 2000 if again else 200_000)
