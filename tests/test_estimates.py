"""Level 0: the estimate folded from outcomes, pooled and by key, as readers of a snapshot and a replay have it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from online.events import Decided, Drifted, Forecast, Rewarded, decode_reports, draft_id, encode
from online.fold import Make
from online.log import START, Draft, Entry, EntryId, Partition
from online.memory_log import MemoryLog
from online.snapshot import open_sealed
from online.worker import Worker
from service.deciding.beliefs import GROUPS, Estimates, Fit
from service.deciding.estimates import DETECTOR, DOUBTED, Estimator, Source, read
from service.deciding.points import Point
from service.manifest import parse
from service.processes.learners import joining

PRICE: dict[str, Any] = {
    "world": "pricing",
    "params": {"stock": 20, "periods": 50, "prices": {"geometric": [0.1, 8.0, 41]}},
    "ranges": {"sensitivity": [0.5, 2.0]},
    "key": "sku",
    "mode": "live",
    "outcome": {"wait": "1h"},
}
PARTITION = Partition("point:price")
SECRET = b"secret"


def point(**changes: Any) -> Point:
    return Point.of(parse({"points": {"price": PRICE | changes}}).points["price"])


class Traffic:
    """Decisions at random prices and what customers of a given sensitivity buy, into a log."""

    def __init__(self, made: Point, seed: int = 0) -> None:
        self.log = MemoryLog()
        self.rng = np.random.default_rng(seed)
        self.point = made
        self.made = 0

    def play(self, decisions: int, sensitivity: Callable[[str], float], keys: int = 1) -> None:
        drafts = []
        prices = np.geomspace(0.1, 8.0, 41)
        for _ in range(decisions):
            number, key = self.made, f"sku-{self.made % keys}"
            self.made += 1
            index = int(self.rng.integers(20, 32))
            price, at = float(prices[index]), 1000.0 + number
            context = {"stock": 20.0, "period": float(number % 50)}
            decided = Decided(
                id=f"d{number}",
                context=context,
                index=index,
                action=price,
                propensity=1 / 12,
                policy="p",
                key=key,
                at=at,
            )
            sold = float(self.rng.poisson(np.e * np.exp(-sensitivity(key) * price)))
            rewarded = Rewarded(id=f"d{number}/1", decision=f"d{number}", key=key, fields={"sold": sold}, at=at)
            drafts += [Draft(draft_id(event), b"", encode(event)) for event in (decided, rewarded)]
        self.log.append(PARTITION, drafts)

    def worker(self, make: Make | None = None, owner: str = "one") -> Worker:
        make = make or joining(self.point)
        return Worker(self.log, make, PARTITION, owner, clock=lambda: 0.0, secret=SECRET, now=lambda: 0.0)

    def learn(self) -> Estimates:
        worker = self.worker()
        while worker.step():
            pass
        worker.close()
        return self.stored()

    def stored(self) -> Estimates:
        """As the API and the adapter read it."""
        saved = self.log.load(PARTITION)
        assert saved is not None
        made = joining(self.point)(open_sealed(SECRET, PARTITION, saved.cursor, saved.snapshot), lambda _: None)
        heard = getattr(made, "heard", None)
        assert heard is not None
        return read(heard)

    def drifts(self) -> list[Drifted]:
        entries = self.log.reports(PARTITION, START, 100_000)
        return [r for entry in entries for r in decode_reports(entry.payload) if isinstance(r, Drifted)]


def test_the_estimate_follows_a_change_and_the_change_is_an_alarm_with_its_evidence() -> None:
    traffic = Traffic(point())
    traffic.play(300, lambda _: 1.0)
    before = traffic.learn()
    traffic.play(200, lambda _: 2.0)
    after = traffic.learn()
    assert before.pooled is not None
    assert after.pooled is not None
    assert before.pooled.values["sensitivity"] == pytest.approx(1.0, rel=0.15)
    assert after.pooled.values["sensitivity"] == pytest.approx(2.0, rel=0.15)
    assert after.pooled.lower["sensitivity"] < 2.0 < after.pooled.upper["sensitivity"]
    assert before.alarms == []
    assert [alarm.detector for alarm in after.alarms] == [DETECTOR] * 2, "the second confirms the first"
    assert after.alarms == traffic.drifts()
    evidence = after.alarms[0].evidence
    assert evidence["sensitivity before"] < 1.3 < evidence["sensitivity now"]


def test_each_key_has_its_own_estimate_where_the_point_says_so() -> None:
    traffic = Traffic(point(adapt={"estimates": "key"}))
    traffic.play(600, lambda key: 0.6 if key == "sku-0" else 1.8, keys=2)
    found = traffic.learn()
    own = [found.of(f"sku-{n}") for n in range(2)]
    assert [b.values["sensitivity"] for b in own if b] == pytest.approx([0.6, 1.8], rel=0.2)
    assert found.of("never seen") == found.pooled
    assert found.pooled is not None
    assert 0.7 < found.pooled.values["sensitivity"] < 1.6


@pytest.mark.parametrize("over", ["pooled", "key"])
def test_a_restart_at_any_place_changes_no_estimate(over: str) -> None:
    whole, broken = Traffic(point(adapt={"estimates": over}), seed=5), Traffic(point(adapt={"estimates": over}), seed=5)
    for count in (70, 1, 40, 133):
        broken.play(count, lambda _: 1.3, keys=7)
        broken.learn()
    whole.play(244, lambda _: 1.3, keys=7)
    assert whole.learn() == broken.stored()


def test_the_comparison_of_groups_outlives_restarts_and_finds_nothing_where_the_world_is_right() -> None:
    whole, broken = Traffic(point(), seed=6), Traffic(point(), seed=6)
    for count in (600, 333, 400):
        broken.play(count, lambda _: 1.3)
        broken.learn()
    whole.play(1333, lambda _: 1.3)
    found = whole.learn()
    assert found == broken.stored()
    assert {one.covariate for one in found.odds} == {"action", "period"}
    assert found.doubt == ""


def test_an_outcome_told_twice_or_too_late_teaches_nothing_more() -> None:
    traffic = Traffic(point())
    traffic.play(100, lambda _: 1.0)
    once = traffic.learn()
    for name in ("again", "and-again"):
        event = Rewarded(id=f"d5/{name}", decision="d5", key="sku-0", fields={"sold": 9.0}, at=1100.0)
        traffic.log.append(PARTITION, [Draft(draft_id(event), b"", encode(event))])
    twice = traffic.learn()
    assert twice.heard == once.heard == 100
    assert twice.pooled == once.pooled


def test_a_world_that_explains_no_outcome_is_found_out_and_a_right_one_is_not() -> None:
    right, wrong = Traffic(point(), seed=1), Traffic(point(), seed=1)
    right.play(3000, lambda _: 1.0)
    assert right.learn().fit.misfit[1] < 5
    prices = np.geomspace(0.1, 8.0, 41)
    # Linear demand: nobody buys above a price of 1.6.
    draws = np.random.default_rng(2)
    wrong.rng = Linear(draws, prices)  # type: ignore[assignment]
    wrong.play(3000, lambda _: 1.0)
    share, normal = wrong.learn().fit.misfit
    assert normal > 5
    assert share > 0.05


class Linear:
    """A generator whose Poisson demand falls linearly with the price that was drawn last."""

    def __init__(self, rng: np.random.Generator, prices: Any) -> None:
        self.rng, self.prices, self.index = rng, prices, 0

    def integers(self, low: int, high: int) -> int:
        self.index = int(self.rng.integers(low, high))
        return self.index

    def poisson(self, _: float) -> int:
        return int(self.rng.poisson(max(0.0, 2.0 * (1 - self.prices[self.index] / 1.6))))


def test_the_comparison_is_that_of_hand() -> None:
    fit = Fit(
        (100.0, 100.0, 0, 0, 0, 0), (-20.0, 10.0, 0, 0, 0, 0), (100.0, 25.0, 0, 0, 0, 0), (90.0, 110.0, 0, 0, 0, 0)
    )
    assert fit.shortfall == pytest.approx((0.05, 10 / 125**0.5))
    share, normal = fit.misfit
    assert share == pytest.approx(30 / 200)
    # Chi-squared 4 + 4 over 2 groups: Wilson and Hilferty.
    assert normal == pytest.approx((4 ** (1 / 3) - (1 - 1 / 9)) / (1 / 9) ** 0.5)
    assert Fit().misfit == Fit().shortfall == (0.0, 0.0)
    assert GROUPS == 6


def test_nothing_is_estimated_where_that_is_off_or_outcomes_tell_nothing() -> None:
    assert Source.of(point().world, {"sensitivity": (0.5, 2.0)}, "off") is None
    assert Source.of(point().world, {}, "pooled") is not None


def test_rewards_are_held_against_the_world_as_a_model_foretold_it() -> None:
    made = point(ranges={"volume": [0.5, 8.0]})
    source = Source.of(made.world, made.spec.ranges, "pooled", foretold=True)
    assert source is not None
    assert source.goodness() is None
    estimators = {told: Estimator(source) for told in (True, False)}
    rng = np.random.default_rng(1)
    for number in range(3000):
        # The volume comes and goes from one decision to the next: no estimate could follow.
        volume, index = float(rng.choice([1.0, 6.0])), int(rng.integers(20, 26))
        price = float(made.actions[index])  # type: ignore[arg-type]
        sold = float(rng.poisson(volume * np.exp(-price)))
        for told, estimator in estimators.items():
            decided = Decided(
                id=f"d{number}",
                context={"stock": 20.0, "period": 3.0},
                index=index,
                action=price,
                propensity=1.0,
                policy="p",
                # A model that foretells twice of what comes misleads.
                forecasts={"volume": Forecast("demand", volume if told else 2.0 * volume)},
            )
            entry = Entry(EntryId(number + 1, 0), number + 1, float(number), decided.id, b"")
            estimator.hear(entry, decided, {"sold": sold}, sold * price)
    right, wrong = (estimators[told].estimates.fit.shortfall for told in (True, False))
    assert abs(right[0]) < 0.05
    assert wrong[0] == pytest.approx(0.5, abs=0.05)


def test_in_a_world_long_doubted_only_who_decides_by_the_estimates_moves_them() -> None:
    made = point()
    source = Source.of(made.world, made.spec.ranges, "pooled")
    assert source is not None
    estimator, rng, prices = Estimator(source), np.random.default_rng(2), np.geomspace(0.1, 8.0, 41)

    def told(outcomes: int, index: int | None, estimates: dict[str, float] | None) -> int:
        alarms = 0
        for _ in range(outcomes):
            number, chosen = estimator.estimates.heard + 1, int(rng.integers(12, 28)) if index is None else index
            # Demand falls linearly, which no sensitivity explains.
            sold = float(rng.poisson(np.e * max(1.0 - prices[chosen] / 2.0, 0.0)))
            decided = Decided(
                id=f"d{number}",
                context={"stock": 20.0, "period": 3.0},
                index=chosen,
                action=float(prices[chosen]),
                propensity=1.0,
                policy="p",
                estimates=estimates,
            )
            entry = Entry(EntryId(number, 0), number, float(number), decided.id, b"")
            alarms += len(estimator.hear(entry, decided, {"sold": sold}, sold * float(prices[chosen])))
        return alarms

    told(3 * DOUBTED, None, {"sensitivity": 1.0})
    assert estimator.estimates.doubt
    before = estimator.estimates.pooled
    assert told(200, 28, None) == 0
    assert estimator.estimates.pooled == before
    # Nor does the world come to be believed again by an alarm.
    assert told(400, 28, {"sensitivity": 1.0}) == 0
    assert estimator.estimates.pooled != before
    assert estimator.estimates.doubt
