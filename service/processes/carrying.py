"""What the loop of a point does: commands carried out through jobs, gates and releases, each of them repeatable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from agents import runtime
from agents.bundle import Bundle
from agents.evaluate import evaluate
from agents.gate import CanaryRule, Units, Verdict, canary_gate, conclude, posterior_gate
from agents.policy import Policy
from agents.ranges import Conditioned, in_world, values_of
from agents.watch import Expectations, Watched, WatchRule, watch_gate
from envs import worlds
from envs.conditioning import Conditioning
from envs.dynamics import Array, World
from online.events import Released
from online.log import Blob, Log
from service.adapt import State, trial_share
from service.deciding.arms import arm_of
from service.deciding.beliefs import Estimates
from service.deciding.jobs import Job
from service.deciding.point_bandits import is_bandit
from service.deciding.points import Point
from service.deciding.records import Quarantined, encode, quarantine_name
from service.deciding.registry import Registry
from service.deciding.releases import Mode, Release
from service.deciding.trials import Trial
from service.facts import (
    BASELINE,
    Carried,
    Command,
    Fact,
    Failed,
    Judge,
    Judged,
    Quarantine,
    Recalibrate,
    Recalibrated,
    Restore,
    Serve,
    Train,
    Trained,
)

RETRAIN = "retrain"
"""The kind of a job whose policy the loop, and not the job itself, may release."""

DRAWS = 7
"""Worlds drawn from what is believed, in which a candidate is tried."""

SHADOWED = 200
"""Live contexts on which a candidate must have been compared before it may serve."""

_SOON = 300
"""Units after which a trial in a doubted world sees most: who is far worse there must be found soon."""

_ROUND = 2.0
_WIDER = 1.2


@dataclass
class Carrying:
    """The hands of one point's loop; one thread, like the log."""

    log: Log
    blob: Blob
    registry: Registry
    point: Point
    name: str
    _trial: tuple[tuple[int, str], Trial] | None = None
    _told: dict[str, str] = field(default_factory=dict)

    def carry(self, command: Command, state: State, estimates: Estimates, now: float) -> Fact | None:
        """Do what is asked, again where it was done before; the fact that comes of it, once there is one."""
        match command:
            case Recalibrate():
                return self._recalibrate(command, estimates, now)
            case Train():
                return self._train(command, now)
            case Judge(stage="gate"):
                return self._gate(command, state, now)
            case Judge():
                return self._look(command, state, estimates, now)
            case Serve():
                return self._serve(command, state, now)
            case Restore():
                self._restore(command, state, now)
                return Carried(at=now, cycle=command.cycle, stage=state.stage) if state.misfit else None
            case Quarantine():
                self._quarantine(command, now)
                return Carried(at=now, cycle=command.cycle, stage=state.stage)

    def _recalibrate(self, command: Recalibrate, estimates: Estimates, now: float) -> Fact:
        belief = estimates.pooled
        if belief is None or not belief.values:
            return Failed(
                at=now,
                cycle=command.cycle,
                stage="recalibrating",
                reason="the outcomes tell no parameter of this world",
            )
        ranges: dict[str, tuple[float, float]] = {}
        for column in belief.values:
            name = column.split("[")[0]
            low = min(belief.values[column] / _ROUND, belief.lower[column] / _WIDER)
            high = max(belief.values[column] * _ROUND, belief.upper[column] * _WIDER)
            before = ranges.get(name, (low, high))
            ranges[name] = self._legal(name, min(low, before[0]), max(high, before[1]))
        return Recalibrated(at=now, cycle=command.cycle, params=dict(belief.values), ranges=ranges)

    def _legal(self, name: str, low: float, high: float) -> tuple[float, float]:
        fields = {entry.name: entry for entry in worlds.WORLDS[self.point.spec.world].parameters}
        known = fields[name]
        return float(f"{max(low, known.low):.4g}"), float(f"{min(high, known.high):.4g}")

    def _train(self, command: Train, now: float) -> Fact | None:
        job_id = f"adapt-{self.point.name}-{command.cycle}"
        job = self.registry.job(job_id)
        if job is None:
            release = self._current()
            order = {
                "minutes": self.point.spec.adapt.minutes,
                "seed": command.cycle,
                "ranges": command.ranges,
                "params": {name: value for name, value in command.params.items() if "[" not in name},
                "start": self._start(release, command.ranges),
            }
            self.registry.submit(Job(job_id, self.point.name, RETRAIN, order))
            return None
        if job.state == "done":
            candidate = str(job.detail["digest"])
            return Trained(at=now, cycle=command.cycle, candidate=candidate)
        if job.state in ("failed", "cancelled"):
            reason = f"the training was {job.state}: {job.detail.get('error', 'by somebody')}"
            return Failed(at=now, cycle=command.cycle, stage="training", reason=reason)
        return None

    def _start(self, release: Release, ranges: Mapping[str, tuple[float, float]]) -> str | None:
        """The incumbent, where its network takes the same observation."""
        if release.incumbent is None or is_bandit(release.incumbent):
            return None
        card = self.registry.bundle(release.incumbent).card
        same = card.kind == "network" and tuple(card.ranges) == tuple(ranges) and bool(card.algo)
        return release.incumbent if same else None

    def _current(self) -> Release:
        return self._history()[-1]

    def _gate(self, command: Judge, state: State, now: float) -> Fact:
        """The candidate against everybody who could serve, in worlds drawn from what is believed."""
        bundle, release = self.registry.bundle(command.candidate), self._current()
        draws = drawn(self.point.world, state, command.cycle)
        candidate = values_in(draws, bundle)
        rivals = {self.point.baseline_name: np.array([evaluate(self.point.baseline, world).value for world in draws])}
        incumbent = release.incumbent
        # A bandit learns on the job: in a simulation it would be untaught.
        if incumbent is not None and incumbent != command.candidate and not is_bandit(incumbent):
            rivals[f"incumbent {incumbent[:12]}"] = values_in(draws, self.registry.bundle(incumbent))
        gate = self.point.spec.gate
        stages = {
            f"against {name}": posterior_gate(candidate, values, tolerance=gate.tolerance, confidence=gate.confidence)
            for name, values in rivals.items()
        }
        return judged(command, now, conclude(stages, tuple(stages)))

    def _look(self, command: Judge, state: State, estimates: Estimates, now: float) -> Fact | None:
        """The evidence of live traffic; a fact only once it says something."""
        trial = self._trial_of(command, state, estimates)
        trial.read()
        if command.stage == "shadow":
            verdict = self._shadow(trial, command, estimates)
        else:
            planned = _SOON if command.stage == "doubted" else CanaryRule.planned
            verdict = self._verdict(trial.watched(), self._rule(state, trial), planned)
        self._told[command.stage] = "; ".join(verdict.reasons)
        return None if verdict.verdict == "not enough evidence" else judged(command, now, verdict)

    def _verdict(self, units: Watched, rule: WatchRule, planned: int) -> Verdict:
        if rule.trust < float("inf"):
            return watch_gate(units, rule)
        # Outcomes alone, which are looked at once a second: only a sequence that allows for that will do.
        share = np.full(len(units.earned), units.share)
        whole = Units(units.candidate, units.earned, share)
        return canary_gate(whole, CanaryRule(rule.tolerance, rule.confidence, planned=planned))

    def _rule(self, state: State, trial: Trial) -> WatchRule:
        gate = self.point.spec.gate
        blind = trial.expected is None or state.misfit is not None
        # Half of the error goes to the weighed gain, half to outcomes alone.
        confidence = 1 - (1 - gate.confidence) / 2
        return WatchRule(gate.tolerance, confidence, float("inf") if blind else WatchRule.trust)

    def _trial_of(self, command: Judge, state: State, estimates: Estimates) -> Trial:
        name = (command.cycle, f"{command.stage}/{command.candidate}")
        if self._trial is None or self._trial[0] != name:
            canary = self.point.spec.gate.canary
            shares = {"canary": canary, "watched": 0.95, "doubted": trial_share(state.trial, canary)}
            share = shares.get(command.stage, 0.5)
            known = state.params if estimates.pooled is None else estimates.pooled.values
            expected = None if state.misfit else Expectations.of(told(self.point.world, known))
            trial = Trial(self.log, self.point, command.candidate, expected, state.since, share)
            self._trial = (name, trial)
        return self._trial[1]

    def _shadow(self, trial: Trial, command: Judge, estimates: Estimates) -> Verdict:
        """What the candidate would have done on live contexts, by what the world expects of it."""
        if len(trial.contexts) < SHADOWED:
            return Verdict("not enough evidence", (f"{len(trial.contexts)} of {SHADOWED} contexts",))
        release = self._current()
        rows = np.array(trial.contexts, np.float32)
        masks = self.point.world.allowed_of(rows)
        believed = [{} if estimates.pooled is None else estimates.pooled.values] * len(rows)
        candidate = arm_of(self.registry, self.point, command.candidate).probabilities(rows, masks, believed)
        if trial.expected is None or release.incumbent is None or is_bandit(release.incumbent):
            return Verdict("better", (f"it answered {len(rows)} live contexts; nothing is expected of them",))
        incumbent = arm_of(self.registry, self.point, release.incumbent).probabilities(rows, masks, believed)
        place = trial.expected.places(self.point.world.state_of(rows))
        seen = place >= 0
        worth = np.where(masks[seen], trial.expected.action_values[place[seen]], 0.0)
        gain = ((candidate - incumbent)[seen] * worth).sum(axis=1)
        level = float(np.abs(trial.expected.values[place[seen]]).mean()) or 1.0
        mean, error = float(gain.mean()) / level, float(gain.std()) / level / max(len(gain), 1) ** 0.5
        figures = f"{mean:+.2%} ± {error:.2%} a decision on {len(gain)} live contexts, by what the world expects"
        bound = NormalDist().inv_cdf(self.point.spec.gate.confidence) * error
        harmful = mean + bound < -self.point.spec.gate.tolerance
        return Verdict("worse" if harmful else "better", (figures,))

    def _serve(self, command: Serve, state: State, now: float) -> Fact | None:
        release_id = f"adapt/{command.cycle}/{command.stage}" + (f"/{command.trial}" if command.trial else "")
        orders: list[tuple[str, str, Mode, float | None]] = []
        if command.against is not None:
            orders.append((f"{release_id}/against", command.against, "live", None))
        orders.append(
            (release_id, command.candidate, command.mode, command.share if command.mode == "canary" else None)
        )
        for order_id, policy, mode, share in orders:
            if not self._release(order_id, _bundle(policy), mode, share, state, now):
                # Somebody else came first: that intervention ends the cycle.
                return None
        done = command.stage in ("released", "confirmed", "rolled-back")
        return Carried(at=now, cycle=command.cycle, stage=command.stage) if done else None

    def _release(
        self, release_id: str, bundle: str | None, mode: Mode, share: float | None, state: State, now: float
    ) -> bool:
        """Release on top of what serves; whether it has taken effect, now or before.

        Where somebody else's order comes in between, it never will.
        """
        history = self._history()
        if any(release.id == release_id for release in history):
            return True
        event = Released(
            id=release_id,
            point=self.point.name,
            bundle=bundle,
            mode=mode,
            share=share,
            actor=self.name,
            reason="; ".join(state.reasons)[:500],
            at=now,
            expected=history[-1].number,
        )
        self.registry.release(self.point.name, event, asked=[release_id])
        return any(release.id == release_id for release in self._history())

    def _history(self) -> list[Release]:
        return self.registry.history(self.point.name, self.point.spec.mode)

    def _restore(self, command: Restore, state: State, now: float) -> None:
        """Whoever served beside the candidate serves alone; nothing where the candidate does not serve."""
        release = self._current()
        if release.candidate == command.candidate:
            self._release(f"adapt/{command.cycle}/restored", release.incumbent, "live", None, state, now)

    def _quarantine(self, command: Quarantine, now: float) -> None:
        name = quarantine_name(self.point.name, command.candidate)
        if self.blob.get(name) is None:
            self.blob.put(name, encode(Quarantined(command.candidate, command.cycle, command.reasons, now)))


def _bundle(policy: str) -> str | None:
    """A policy as a release names it."""
    return None if policy == BASELINE else policy


def judged(command: Judge, now: float, verdict: Verdict) -> Judged:
    """A verdict as a fact."""
    return Judged(at=now, cycle=command.cycle, stage=command.stage, verdict=verdict.verdict, reasons=verdict.reasons)


def told(world: World, values: Mapping[str, float]) -> World:
    """The world with these parameters, columns of lists left as they are."""
    return world.with_params({name: value for name, value in values.items() if name in world.tunable})


def drawn(world: World, state: State, seed: int) -> list[World]:
    """Worlds round the estimate: the estimate itself, and others spread over the middle of the ranges."""
    conditioning = Conditioning(world, state.ranges)
    centre = told(world, state.params)
    rows = conditioning.draw(DRAWS - 1, np.random.default_rng(seed))
    # The ranges reach far beyond what is believed: half of the way towards the estimate is as far as belief goes.
    middle = values_of(centre, tuple(entry.name for entry in conditioning.fields))
    near = [middle * (row / middle) ** 0.3 for row in rows]
    names = tuple(state.ranges)
    return [centre, *(_member(world, names, row) for row in near)]


def _member(world: World, names: tuple[str, ...], row: Array) -> World:
    given, start = {}, 0
    for name in names:
        width = world.tunable[name]
        part = row[start : start + width]
        given[name] = float(part[0]) if width == 1 else part
        start += width
    return world.with_params(given)


def values_in(draws: list[World], bundle: Bundle) -> Array:
    """What a bundle is worth in each world, told its parameters as far as it was trained to hear them."""
    policy = runtime.load(bundle)
    return np.array([evaluate(_informed(policy, bundle, world), world).value for world in draws])


def _informed(policy: Policy, bundle: Bundle, world: World) -> Policy:
    filled = in_world(policy, world)
    if not isinstance(filled, Conditioned):
        return policy
    entries = bundle.card.observation[-len(filled.values) :]
    low = [-np.inf if entry.low is None else entry.low for entry in entries]
    high = [np.inf if entry.high is None else entry.high for entry in entries]
    return Conditioned(policy, np.clip(filled.values, low, high))
