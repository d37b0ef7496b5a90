"""The loop of a point over a log in memory: from a shift to a new policy in service, whatever is killed on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from agents import train
from agents.bundle import Bundle, pack
from envs import worlds
from envs.dynamics import World
from online.events import Released, Rewarded, draft_id, encode
from online.log import Draft, Partition
from online.memory_log import MemoryBlob, MemoryLog
from online.snapshot import sealed_parts
from online.worker import Worker
from service.deciding import feed
from service.deciding.arms import arm_of
from service.deciding.beliefs import NO_ESTIMATES
from service.deciding.decide import BASELINE, Arm, Ask, ServedPoint, decide
from service.deciding.feed import FEED
from service.deciding.listening import bandits_in
from service.deciding.points import Point
from service.deciding.records import quarantine_name
from service.deciding.registry import Registry
from service.deciding.releases import Hold
from service.manifest import parse
from service.processes.carrying import RETRAIN
from service.processes.learners import joining
from service.processes.loop import NAME, Loop, Shared

SECRET = b"a secret of the tests, long enough"
PARAMS: dict[str, Any] = {"stock": 5, "periods": 10, "prices": "0.5:4.25:0.25"}
TABLE: dict[str, Any] = {
    "world": "pricing",
    "params": PARAMS,
    "ranges": {"sensitivity": [0.8, 1.25]},
    "key": "sku",
    "mode": "live",
    "exploration": 0.05,
    "outcome": {"wait": "10min"},
    "gate": {"canary": 0.3},
    "adapt": {"cooldown": "1min", "settle": "5s", "watch": "10min", "per_day": 100},
}
WAY = [
    "suspected",
    "recalibrating",
    "training",
    "gate",
    "shadow",
    "canary",
    "released",
    "watched",
    "confirmed",
    "steady",
]


def exact(sensitivity: float) -> Bundle:
    """The optimum for one sensitivity, as a bundle."""
    return train.train(worlds.make("pricing", PARAMS | {"sensitivity": sensitivity}, {}), algo="exact")


@dataclass
class Town:
    """Forty shops, the service that they ask, and its loop; a second passes with each round."""

    sensitivity: float = 1.0
    now: float = 1e6
    outcomes: bool = True
    lineup: dict[str, Bundle] = field(default_factory=dict)

    table: dict[str, Any] = field(default_factory=lambda: TABLE)
    truth: World | None = None

    def __post_init__(self) -> None:
        bandits = {"offers": {"explore": {"use": "inverse_gap", "scale": 2.0}}}
        self.point = Point.of(parse({"bandits": bandits, "points": {"price": self.table}}).points["price"])
        self.log, self.blob = MemoryLog(lambda: self.now), MemoryBlob()
        self.registry = Registry(self.log, self.blob, lambda: self.now)
        self.rng = np.random.default_rng(3)
        self.states = self.point.world.initial(40, self.rng)
        self.episodes = [0] * 40
        self.asked = 0
        self.loop = self.another()
        self.worker = self.learner()

    def another(self) -> Loop:
        """A loop that knows nothing but the log."""
        return Loop(
            Shared(self.log, self.blob, Registry(self.log, self.blob, self.time), SECRET, self.time), self.point
        )

    def learner(self) -> Worker:
        return Worker(self.log, joining(self.point), PARTITION, "one", clock=self.time, secret=SECRET, now=self.time)

    def time(self) -> float:
        return self.now

    def register(self, bundle: Bundle) -> str:
        data = pack(bundle.card, bundle.onnx, bundle.weights)
        return self.registry.register("price", data, self.point.check)

    def serve(self, bundle: Bundle) -> None:
        """Release it, as somebody would."""
        digest = self.register(bundle)
        event = Released(id=f"by-hand/{self.now}", point="price", bundle=digest, actor="ann", at=self.now)
        self.registry.release("price", event)

    def served(self) -> ServedPoint:
        release = self.registry.current("price", "live")
        bandits = bandits_in(self.point, sealed_parts(self.log, PARTITION, SECRET))
        arms = {name: arm_of(self.registry, self.point, name, bandits) for name in release.bundles}
        baseline = Arm(self.point.baseline, self.point.baseline_name, BASELINE)
        incumbent = baseline if release.incumbent is None else arms[release.incumbent]
        candidate = None if release.candidate is None else arms[release.candidate]
        return ServedPoint(self.point, release, incumbent, baseline, candidate, NO_ESTIMATES)

    def round(self) -> None:
        """One decision of each shop, what came of it, and a turn of learner, jobs and loop."""
        self.now += 1.0
        served = self.served()
        drafts, actions = [], []
        for shop, row in enumerate(self.states.tolist()):
            context = {"stock": row[0], "period": row[1]}
            body = {"context": context, "key": f"shop-{shop}", "episode": str(self.episodes[shop])}
            request = self.point.decoder.decode(msgspec.json.encode(body))
            decided = decide(served, Ask(request, f"d{self.asked}", f"shop-{shop}"), SECRET)
            self.asked += 1
            actions.append(decided.index)
            drafts.append(decided)
        told = self.told(np.array(actions))
        self.states = self.states + np.stack([-told, np.ones(40)], axis=1)
        over = (self.states[:, 0] <= 0) | (self.states[:, 1] >= PARAMS["periods"])
        self.states[over] = self.point.world.initial(int(over.sum()), self.rng)
        events: list[Any] = list(drafts)
        for shop, decided in enumerate(drafts):
            self.episodes[shop] += int(over[shop])
            if self.outcomes:
                fields = {"sold": float(told[shop])}
                events.append(Rewarded(id=f"{decided.id}/1", decision=decided.id, key=decided.key, fields=fields))
        self.log.append(PARTITION, [Draft(draft_id(event), b"", encode(event)) for event in events])
        while self.worker.step():
            pass
        self.work()
        self.loop.turn()

    def told(self, actions: Any) -> Any:
        """What the customers of each shop buy."""
        world = self.truth or self.point.world.with_params({"sensitivity": self.sensitivity})
        return world.outcome(self.states, actions, world.draw(40, self.rng))["sold"]

    def work(self) -> None:
        """What an adapter does with the jobs of the loop: here at once, by the table of who is made when."""
        job = self.registry.claim("adapter")
        if job is not None:
            assert job.kind == RETRAIN
            digest = self.register(self.lineup["next"])
            self.registry.update(replace(job, state="done", progress=1.0, detail={"digest": digest}))

    def until(self, stage: str, rounds: int) -> None:
        """Go on until the loop has come to a stage since now."""
        known = len(self.way())
        for _ in range(rounds):
            if stage in self.way()[known:]:
                return
            self.round()
        raise AssertionError(f"{self.loop.records.state} and not {stage} after {rounds} rounds: {self.way()}")

    def way(self) -> list[str]:
        self.loop.records.follow()
        return [entry.after for entry in self.loop.records.history]

    def notes(self) -> list[str]:
        return [note.text for _, note in feed.read(self.log, self.log.first(FEED).before, 1000)]


PARTITION = Partition("point:price")


@pytest.fixture(scope="module")
def bundles() -> dict[float, Bundle]:
    return {value: exact(value) for value in (1.0, 2.0, 0.3)}


def calm_town(bundles: Mapping[float, Bundle], **changes: Any) -> Town:
    town = Town(**changes)
    town.serve(bundles[1.0])
    return town


def test_a_town_that_does_not_change_has_no_cycle(bundles: dict[float, Bundle]) -> None:
    town = calm_town(bundles)
    for _ in range(120):
        town.round()
    assert town.loop.records.state.cycle == 0
    assert town.loop.sensing.estimates.pooled is not None
    assert town.loop.sensing.estimates.pooled.values["sensitivity"] == pytest.approx(1.0, rel=0.2)


def test_a_season_that_the_world_knows_is_no_reason_for_a_cycle_and_one_that_it_does_not_know_is_doubted() -> None:
    season = (2.7 * (1 + 0.6 * np.sin(2 * np.pi * np.arange(10) / 10))).tolist()
    known, flat = PARAMS | {"volume": season}, PARAMS | {"volume": 2.7}
    towns = []
    for believed in (known, flat):
        town = Town(table=TABLE | {"params": believed}, truth=worlds.make("pricing", known, {}))
        town.serve(train.train(worlds.make("pricing", believed, {}), algo="exact"))
        towns.append(town)
    towns[1].until("doubted", 160)
    assert "by period, outcomes ask for different parameters" in towns[1].notes()[-1]
    for _ in range(160):
        towns[0].round()
    assert (towns[0].way(), towns[0].loop.records.state.cycle) == ([], 0)


def test_a_shift_leads_to_a_better_policy_in_service_and_every_step_is_told(bundles: dict[float, Bundle]) -> None:
    town = calm_town(bundles, lineup={"next": bundles[2.0]})
    for _ in range(30):
        town.round()
    town.sensitivity = 2.0
    town.until("steady", 300)
    assert town.way() == WAY
    release = town.registry.current("price", "live")
    assert (release.incumbent, release.candidate, release.mode) == (bundles[2.0].digest, None, "live")
    assert release.actor == NAME
    told = [text for text in town.notes() if " → " in text and text.startswith("price: ")]
    assert len(told) == len(WAY)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_killed_on_the_way_the_cycle_ends_as_it_would_have(seed: int, bundles: dict[float, Bundle]) -> None:
    town = calm_town(bundles, lineup={"next": bundles[2.0]})
    rng = np.random.default_rng(seed)
    for _ in range(30):
        town.round()
    town.sensitivity = 2.0
    for _ in range(300):
        town.round()
        # Old ones still turn once more beside their successors, as after a stalled process wakes up.
        if rng.random() < 0.3:
            old, town.loop = town.loop, town.another()
            old.turn()
        if rng.random() < 0.1:
            town.worker = town.learner()
        if town.way()[-1:] == ["steady"] and len(town.way()) > 2:
            break
    assert town.way() == WAY
    assert town.registry.current("price", "live").incumbent == bundles[2.0].digest
    events = [event.id for event in town.registry.releases("price") if event.actor == NAME]
    assert events == [f"adapt/1/{stage}" for stage in ("shadow", "canary", "released", "confirmed")]


def test_a_candidate_that_is_no_better_is_rejected_at_the_gate_and_quarantined(bundles: dict[float, Bundle]) -> None:
    town = calm_town(bundles, lineup={"next": bundles[0.3]})
    for _ in range(30):
        town.round()
    town.sensitivity = 2.0
    town.until("steady", 100)
    assert town.way()[-3:] == ["gate", "rejected", "steady"]
    assert town.registry.current("price", "live").incumbent == bundles[1.0].digest
    assert town.blob.get(quarantine_name("price", bundles[0.3].digest)) is not None


def test_a_hold_stops_the_loop_before_it_begins(bundles: dict[float, Bundle]) -> None:
    town = calm_town(bundles, lineup={"next": bundles[2.0]})
    town.registry.hold("price", Hold(True, "ann", "stocktaking", town.now), "h1")
    town.sensitivity = 2.0
    for _ in range(60):
        town.round()
    assert town.loop.records.state.cycle == 0
    assert town.loop.records.state.held == "ann: stocktaking"
    town.registry.hold("price", Hold(False, "ann", "", town.now), "h2")
    town.until("recalibrating", 60)


def test_when_outcomes_stop_the_loop_holds_and_when_they_come_again_it_goes_on(bundles: dict[float, Bundle]) -> None:
    town = calm_town(bundles, lineup={"next": bundles[2.0]})
    for _ in range(30):
        town.round()
    town.outcomes = False
    for _ in range(60):
        town.round()
    assert town.loop.records.state.silent
    assert "the loop holds: no outcome for" in town.notes()[-1]
    town.outcomes = True
    town.round()
    town.round()
    assert not town.loop.records.state.silent
    assert town.notes()[-1] == "price: outcomes come again, and the loop goes on"


def test_a_release_by_hand_ends_the_cycle_and_stands(bundles: dict[float, Bundle]) -> None:
    town = calm_town(bundles, lineup={"next": bundles[2.0]})
    town.sensitivity = 2.0
    town.until("canary", 100)
    town.serve(bundles[0.3])
    town.until("steady", 20)
    assert town.way()[-2:] == ["rejected", "steady"]
    assert town.registry.current("price", "live").incumbent == bundles[0.3].digest


def test_an_order_of_the_loop_that_somebody_forestalls_does_nothing(
    bundles: dict[float, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    town = calm_town(bundles, lineup={"next": bundles[2.0]})
    registry = town.loop.carrying.registry
    release, forestalled = registry.release, []

    def late(point: str, event: Released, asked: Any = None) -> Any:
        if not forestalled:
            forestalled.append(event.id)
            town.serve(bundles[0.3])
        return release(point, event, asked)

    monkeypatch.setattr(registry, "release", late)
    town.sensitivity = 2.0
    town.until("rejected", 100)
    serving = town.registry.current("price", "live")
    assert len(forestalled) == 1
    assert (serving.mode, serving.incumbent, serving.candidate) == ("live", bundles[0.3].digest, None)
    assert forestalled[0] not in {done.id for done in town.registry.history("price", "live")}


class Stubborn(Town):
    """A town that buys at any price up to 1.5 and hardly anything above: under no parameters is that its world."""

    def told(self, actions: Any) -> Any:
        prices = self.point.world.actions.values
        assert prices is not None
        demand = self.rng.poisson(np.where(prices[actions] <= 1.5, 1.0, 0.1))
        return np.minimum(demand, self.states[:, 0])


def test_a_world_that_explains_no_outcome_is_doubted_and_baseline_and_policy_stand_side_by_side(
    bundles: dict[float, Bundle],
) -> None:
    town = Stubborn(lineup={"next": bundles[2.0]})
    town.serve(bundles[1.0])
    town.until("doubted", 400)
    why = town.loop.records.history[-1].reasons[0]
    assert "ask for different parameters" in why
    release = town.registry.current("price", "live")
    assert (release.incumbent, release.candidate) == (None, bundles[1.0].digest)
    assert release.share == pytest.approx(0.7), "who served keeps all but what a canary gets"
    assert town.way().count("recalibrating") <= 1


class Straight(Town):
    """A town whose demand falls linearly with the price, which no sensitivity explains; no price is worth 1.75."""

    def told(self, actions: Any) -> Any:
        prices = self.point.world.actions.values
        assert prices is not None
        demand = self.rng.poisson(2.7 * np.maximum(1.0 - prices[actions] / 1.75, 0.0))
        return np.minimum(demand, self.states[:, 0])


def test_where_prices_ask_for_different_parameters_the_best_of_policy_baseline_and_bandit_serves(
    bundles: dict[float, Bundle],
) -> None:
    town = Straight(table=TABLE | {"bandits": ["offers"], "outcome": {"wait": "5s"}}, lineup={"next": bundles[2.0]})
    town.serve(bundles[1.0])
    town.until("doubted", 400)
    assert "ask for different parameters" in town.loop.records.history[-1].reasons[0]
    assert any("a person is needed" in text or "→ doubted" in text for text in town.notes())
    town.until("steady", 1500)
    trials = [entry for entry in town.loop.records.history if entry.before == "doubted"]
    assert len(trials) == 2, "the policy against the baseline, then the bandit against the better one"
    state = town.loop.records.state
    assert town.registry.current("price", "live").mode == "live"
    serving = town.registry.current("price", "live").incumbent or "baseline"
    assert serving == state.proven
    assert state.misfit is not None
