"""The report of a point: what each policy earned, and what others would have earned on the same decisions. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import Struct

from agents import ope
from agents.estimators import from_influence
from agents.policy import Array, Exploration, explore
from service.deciding.decide import Arm, ServedPoint
from service.deciding.joined import Joined

MODES_THAT_EXPLORE = ("shadow", "canary", "live")


class Interval(Struct, frozen=True):
    """A mean with its normal interval; `low` and `high` are left out below two values."""

    mean: float
    low: float | None = None
    high: float | None = None


class PolicyValue(Struct, frozen=True):
    """What one policy earned in one arm, per decision that has its reward; defaults are counted apart too."""

    policy: str
    kind: str
    arm: str
    decisions: int
    rewarded: int
    defaulted: int
    value: Interval | None
    actions: dict[str, float]


class Comparison(Struct, frozen=True):
    """What a policy would have earned on the logged decisions, by off-policy evaluation.

    Attributes:
        role: `baseline`, `incumbent` or `candidate`.
        unit: `decision`, or `episode` where the decisions come in episodes.
        agreement: The probability that the policy does what was done, on average.
        report: Every estimate, the diagnostics and the verdict.
    """

    policy: str
    role: str
    unit: str
    agreement: float
    report: dict[str, Any]


class PointReport(Struct, frozen=True):
    """What has become of a point's last decisions.

    Attributes:
        states: State → number of decisions.
        defaulted_share: Among the decisions whose wait is over.
        outcome_delay: Quantiles of the seconds from decision to outcome.
        action_shift: Total variation between the action mixes of the older and the newer half, 0 to 1.
    """

    point: str
    decisions: int
    since: float | None
    until: float | None
    states: dict[str, int]
    defaulted_share: float | None
    late: int
    outcome_delay: dict[str, float]
    action_shift: float | None
    policies: list[PolicyValue]
    comparisons: list[Comparison]


def report(served: ServedPoint, rows: Sequence[Joined]) -> PointReport:
    """The report on these decisions, the oldest first."""
    states = Counter(row.standing.state for row in rows)
    closed = [row for row in rows if row.standing.closed and row.standing.state in ("rewarded", "defaulted")]
    defaulted = sum(row.standing.state == "defaulted" for row in closed)
    return PointReport(
        point=served.point.name,
        decisions=len(rows),
        since=rows[0].at if rows else None,
        until=rows[-1].at if rows else None,
        states=dict(sorted(states.items())),
        defaulted_share=defaulted / len(closed) if closed else None,
        late=sum(row.standing.late for row in rows),
        outcome_delay=_quantiles([delay for row in rows for delay in row.delays]),
        action_shift=_shift(served, rows),
        policies=_values(served, rows),
        comparisons=_comparisons(served, [row for row in rows if row.reward is not None]),
    )


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    points = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: float(np.quantile(values, q)) for name, q in points.items()}


def _shift(served: ServedPoint, rows: Sequence[Joined]) -> float | None:
    if len(rows) < 2:
        return None
    actions = len(served.point.actions)
    index = np.array([row.decided.index for row in rows])
    older, newer = np.array_split(index, 2)
    mixes = [np.bincount(half, minlength=actions) / len(half) for half in (older, newer)]
    return float(np.abs(mixes[0] - mixes[1]).sum() / 2)


def _values(served: ServedPoint, rows: Sequence[Joined]) -> list[PolicyValue]:
    groups: dict[tuple[str, str, str], list[Joined]] = {}
    for row in rows:
        groups.setdefault((row.decided.policy, row.decided.kind, row.decided.arm), []).append(row)
    return [_value(served, policy, kind, arm, group) for (policy, kind, arm), group in groups.items()]


def _value(served: ServedPoint, policy: str, kind: str, arm: str, rows: Sequence[Joined]) -> PolicyValue:
    rewards = np.array([row.reward for row in rows if row.reward is not None], float)
    mix = Counter(row.decided.index for row in rows)
    named = {_named(served.point.actions[index]): count / len(rows) for index, count in sorted(mix.items())}
    return PolicyValue(
        policy=policy,
        kind=kind,
        arm=arm,
        decisions=len(rows),
        rewarded=sum(row.standing.state == "rewarded" for row in rows),
        defaulted=sum(row.standing.state == "defaulted" for row in rows),
        value=_interval(rewards, served.point.spec.gate.confidence) if len(rewards) else None,
        actions=named,
    )


def _named(action: Any) -> str:
    return f"{action:g}" if isinstance(action, float) else str(action)


def _interval(rewards: Array, confidence: float) -> Interval:
    estimate = from_influence("value", rewards, confidence)
    low, high = estimate.interval or (None, None)
    return Interval(float(rewards.mean()), low, high)


@dataclass(frozen=True)
class _Logged:
    """Logged decisions as arrays: contexts (n, k), masks (n, a), indices, propensities and rewards (n,)."""

    rows: Sequence[Joined]
    context: Array
    mask: np.ndarray[Any, np.dtype[np.bool_]]
    index: np.ndarray[Any, np.dtype[np.int64]]
    propensity: Array
    reward: Array

    @classmethod
    def of(cls, served: ServedPoint, rows: Sequence[Joined]) -> "_Logged":
        names, actions = [entry.name for entry in served.point.context], len(served.point.actions)
        decided = [row.decided for row in rows]
        return cls(
            rows,
            np.array([[event.context[name] for name in names] for event in decided], float),
            np.array([event.allowed or [True] * actions for event in decided], bool),
            np.array([event.index for event in decided], np.int64),
            np.array([event.propensity for event in decided], float),
            np.array([row.reward for row in rows], float),
        )


def _comparisons(served: ServedPoint, rows: Sequence[Joined]) -> list[Comparison]:
    """Baseline, incumbent and candidate, each as it would serve, on the decisions that have a reward."""
    if not rows:
        return []
    log = _Logged.of(served, rows)
    arms = {"baseline": served.baseline}
    if served.release.incumbent is not None:
        arms["incumbent"] = served.incumbent
    if served.candidate is not None:
        arms["candidate"] = served.candidate
    return [_compare(served, role, arm, log) for role, arm in arms.items()]


def _compare(served: ServedPoint, role: str, arm: Arm, log: _Logged) -> Comparison:
    explores = role != "baseline" or served.release.mode in MODES_THAT_EXPLORE
    target = _target(arm, log, served.point.spec.exploration if explores else Exploration(0.0))
    chosen = target[np.arange(len(log.index)), log.index]
    gate = served.point.spec.gate
    episodic = all(row.decided.episode is not None for row in log.rows)
    if episodic:
        found = ope.report_episodes(_episodes(log, chosen), tolerance=gate.tolerance, confidence=gate.confidence)
    else:
        decisions = ope.Decisions(log.context, log.index, log.propensity, log.reward)
        found = ope.report(decisions, target, tolerance=gate.tolerance, confidence=gate.confidence)
    unit = "episode" if episodic else "decision"
    return Comparison(arm.name, role, unit, float(chosen.mean()), _finite(found.summary()))


def _target(arm: Arm, log: _Logged, exploration: Exploration) -> Array:
    """The arm's distributions (n, a) in the logged contexts, with the estimates of then where they were logged."""
    believed = [row.decided.estimates or {} for row in log.rows]
    probabilities = arm.probabilities(log.context.astype(np.float32), log.mask, believed)
    return explore(probabilities, log.mask, exploration)


def _episodes(log: _Logged, target: Array) -> ope.Episodes:
    """The decisions grouped by key and episode, in their order, padded to the longest."""
    places: dict[tuple[str | None, str | None], list[int]] = {}
    for place, row in enumerate(log.rows):
        places.setdefault((row.decided.key, row.decided.episode), []).append(place)
    shape = (len(places), max(len(group) for group in places.values()))
    reward, propensity, chosen = np.zeros(shape), np.ones(shape), np.ones(shape)
    active = np.zeros(shape, bool)
    for number, group in enumerate(places.values()):
        span = slice(0, len(group))
        reward[number, span], propensity[number, span] = log.reward[group], log.propensity[group]
        chosen[number, span], active[number, span] = target[group], True
    return ope.Episodes(reward, propensity, chosen, active)


def _finite(value: Any) -> Any:
    """The same value with plain numbers, and `None` for those that are not finite: JSON has no other way."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
