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
from agents.policy import Array, propensity
from online.events import Decided
from service.deciding.decide import Arm, ServedPoint, explored
from service.deciding.joined import Joined

MODES_THAT_EXPLORE = ("shadow", "canary", "live")


class Interval(Struct, frozen=True):
    """A mean with its normal interval; `low` and `high` are left out below two values."""

    mean: float
    low: float | None = None
    high: float | None = None


class PolicyValue(Struct, frozen=True):
    """What one policy earned in one arm, per settled decision; `open` ones, whose wait is not over, are counted apart.

    A decision with a reward is settled. Where a missing outcome has a default it must be closed too, or every decision
    before it have its reward: outcomes that come at once would else stand for all that may yet default.

    Decisions of one episode depend on one another, and so do those of one key in a canary: the interval counts each
    such unit once.
    """

    policy: str
    kind: str
    arm: str
    decisions: int
    rewarded: int
    defaulted: int
    open: int
    value: Interval | None
    actions: dict[str, float]


class Comparison(Struct, frozen=True):
    """What a policy would have earned on the logged decisions, by off-policy evaluation.

    Attributes:
        role: `baseline`, `incumbent` or `candidate`.
        unit: `decision`, or `episode` where the decisions come in episodes.
        agreement: The probability that the policy does what was done, on average.
        said: The verdict in one sentence, with what to do where there is none.
        report: Every estimate, the diagnostics and the verdict.
    """

    policy: str
    role: str
    unit: str
    agreement: float
    said: str
    report: dict[str, Any]


class PointReport(Struct, frozen=True):
    """What has become of a point's last decisions.

    Attributes:
        states: State → number of decisions.
        open: Decisions whose wait is not over; what they earn may still change.
        defaulted_share: Among the decisions whose wait is over.
        outcome_delay: Quantiles of the seconds from decision to outcome.
        action_shift: Total variation between the action mixes of the older and the newer half, 0 to 1.
    """

    point: str
    decisions: int
    since: float | None
    until: float | None
    states: dict[str, int]
    open: int
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
        open=_open(rows),
        defaulted_share=defaulted / len(closed) if closed else None,
        late=sum(row.standing.late for row in rows),
        outcome_delay=_quantiles([delay for row in rows for delay in row.delays]),
        action_shift=_shift(served, rows),
        policies=_values(served, rows),
        comparisons=_comparisons(served, _settled(served, rows)),
    )


def _settled(served: ServedPoint, rows: Sequence[Joined]) -> list[Joined]:
    """The decisions whose rewards may stand for those of all.

    Where a missing outcome has a default, outcomes that come at once say nothing of those that are still to default:
    what is still open counts only as far as every decision before it has its reward.
    """
    rewarded = [row for row in rows if row.reward is not None]
    if served.point.spec.outcome.default is None:
        return rewarded
    awaited = min((row.at for row in rows if _is_awaited(row)), default=math.inf)
    return [row for row in rewarded if row.standing.closed or row.at < awaited]


def _is_awaited(row: Joined) -> bool:
    """Whether a decision that counts has no reward yet."""
    return row.reward is None and not row.standing.closed and row.standing.state != "deferred"


def _open(rows: Sequence[Joined]) -> int:
    return sum(not row.standing.closed for row in rows)


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    points = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: float(np.quantile(values, q)) for name, q in points.items()}


def _shift(served: ServedPoint, rows: Sequence[Joined]) -> float | None:
    if len(rows) < 2:
        return None
    older, newer = (_mix(served, half) for half in (rows[: (len(rows) + 1) // 2], rows[(len(rows) + 1) // 2 :]))
    return float(np.abs(older - newer).sum(axis=1).mean() / 2)


def _mix(served: ServedPoint, rows: Sequence[Joined]) -> Array:
    """How often each action was taken: (j, a) shares, one row for each factor."""
    size = len(served.point.actions)
    return np.array([np.bincount(column, minlength=size) / len(rows) for column in _indices(served, rows).T])


def _indices(served: ServedPoint, rows: Sequence[Joined]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([row.decided.index for row in rows], np.int64).reshape(len(rows), served.point.factors)


def _values(served: ServedPoint, rows: Sequence[Joined]) -> list[PolicyValue]:
    groups: dict[tuple[str, str, str], list[Joined]] = {}
    for row in rows:
        groups.setdefault((row.decided.policy, row.decided.kind, row.decided.arm), []).append(row)
    return [_value(served, policy, kind, arm, group) for (policy, kind, arm), group in groups.items()]


def _value(served: ServedPoint, policy: str, kind: str, arm: str, rows: Sequence[Joined]) -> PolicyValue:
    known = _settled(served, rows)
    return PolicyValue(
        policy=policy,
        kind=kind,
        arm=arm,
        decisions=len(rows),
        rewarded=sum(row.standing.state == "rewarded" for row in rows),
        defaulted=sum(row.standing.state == "defaulted" for row in rows),
        open=_open(rows),
        value=_interval(known, served.point.spec.gate.confidence) if known else None,
        actions=_named(served, _mix(served, rows)),
    )


def _named(served: ServedPoint, mix: Array) -> dict[str, float]:
    """The shares of the actions that were taken, by what they are called."""
    what = served.point.world.actions.name
    prefixes = [""] if len(mix) == 1 else [f"{what}[{factor}]: " for factor in range(len(mix))]
    names = [f"{action:g}" if isinstance(action, float) else str(action) for action in served.point.actions]
    return {
        f"{prefix}{name}": float(share)
        for prefix, shares in zip(prefixes, mix, strict=True)
        for name, share in zip(names, shares, strict=True)
        if share > 0
    }


def _interval(rows: Sequence[Joined], confidence: float) -> Interval:
    """The mean reward of the decisions, with an interval over independent units (the ratio estimator's, linearised)."""
    rewards = np.array([row.reward for row in rows], float)
    mean = float(rewards.mean())
    places: dict[Any, int] = {}
    unit = np.array([places.setdefault(_unit(row, place), len(places)) for place, row in enumerate(rows)])
    excess = np.bincount(unit, rewards - mean) * len(places) / len(rewards)
    low, high = from_influence("value", mean + excess, confidence).interval or (None, None)
    return Interval(mean, low, high)


def _unit(row: Joined, place: int) -> Any:
    """What a decision's reward depends on no other's beyond: its episode, its key in a canary, or itself."""
    decided = row.decided
    if decided.episode is not None:
        return decided.key, decided.episode
    return decided.key if decided.arm and decided.key is not None else place


@dataclass(frozen=True)
class _Logged:
    """Logged decisions as arrays: contexts (n, k), masks (n, j · a), indices (n, j), propensities and rewards (n,)."""

    rows: Sequence[Joined]
    context: Array
    mask: np.ndarray[Any, np.dtype[np.bool_]]
    index: np.ndarray[Any, np.dtype[np.int64]]
    propensity: Array
    reward: Array
    behaviour: Array | None

    @classmethod
    def of(cls, served: ServedPoint, rows: Sequence[Joined]) -> "_Logged":
        names, width = [entry.name for entry in served.point.context], sum(served.point.world.actions.nvec)
        decided = [row.decided for row in rows]
        return cls(
            rows,
            np.array([[event.context[name] for name in names] for event in decided], float),
            np.array([event.allowed or [True] * width for event in decided], bool),
            _indices(served, rows),
            np.array([event.propensity for event in decided], float),
            np.array([row.reward for row in rows], float),
            _behaviour(decided),
        )


def _behaviour(decided: Sequence[Decided]) -> Array | None:
    """The whole distributions (n, a) that were drawn from, where all were logged; a canary's are given the arm only."""
    if any(event.arm or event.probabilities is None for event in decided):
        return None
    return np.array([event.probabilities for event in decided], float)


def _comparisons(served: ServedPoint, rows: Sequence[Joined]) -> list[Comparison]:
    """Baseline, incumbent and candidate, each as it would serve, on the decisions that are settled."""
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
    target = _target(served, arm, log, explores=explores)
    chosen = propensity(target, log.index)
    gate = served.point.spec.gate
    episodic = all(row.decided.episode is not None for row in log.rows)
    # A model of the rewards needs one list of actions; the weights alone do not.
    if episodic or served.point.factors > 1:
        found = ope.report_episodes(_episodes(log, chosen), tolerance=gate.tolerance, confidence=gate.confidence)
    else:
        decisions = ope.Decisions(log.context, log.index[:, 0], log.propensity, log.reward, log.behaviour)
        found = ope.report(decisions, target, tolerance=gate.tolerance, confidence=gate.confidence)
    unit = "episode" if episodic else "decision"
    agreement = float(chosen.mean())
    return Comparison(arm.name, role, unit, agreement, _said(role, unit, found, agreement), _finite(found.summary()))


def _said(role: str, unit: str, found: ope.Report, agreement: float) -> str:
    """The verdict as one would tell it to somebody who has never heard of importance weights."""
    gain, units = found.gain, found.diagnostics
    if found.verdict != "not enough evidence" and gain.interval is not None:
        low, high = gain.interval
        much = f"{abs(gain.value or 0.0):.3g} {'more' if low > 0 else 'less'}"
        return f"The {role} would have earned {much} per {unit} than what was done ({low:+.3g} to {high:+.3g})."
    seldom = f"it agrees with {agreement:.0%} of what was done"
    if units.unsupported > ope.MAX_UNSUPPORTED:
        return (
            f"Nobody can say yet: {units.unsupported:.0%} of what the {role} does was never tried here. Let the point "
            "explore those actions, or try it in a canary."
        )
    if units.effective < ope.MIN_EFFECTIVE or units.max_share > ope.MAX_SHARE:
        return (
            f"Nobody can say yet: of {units.n} {unit}s only about {units.effective:.0f} tell anything about the {role} "
            f"({seldom}). Log more, explore more, or try it in a canary."
        )
    if not found.check.passed:
        return (
            f"The log does not answer for the {role} ({seldom}): how often actions were taken and how probable they "
            "were said to be do not fit together for it. The reasons have the figures."
        )
    return f"No clear difference yet between the {role} and what was done, over {units.n} {unit}s ({seldom})."


def _target(served: ServedPoint, arm: Arm, log: _Logged, *, explores: bool) -> Array:
    """The arm's distributions (n, j · a) in the logged contexts, with the estimates of then where they were logged."""
    believed = [row.decided.estimates or {} for row in log.rows]
    probabilities = arm.probabilities(log.context.astype(np.float32), log.mask, believed)
    return explored(served, probabilities, log.context, log.mask) if explores else probabilities


def _episodes(log: _Logged, target: Array) -> ope.Episodes:
    """The decisions grouped by key and episode, in their order, padded to the longest; one without is its own."""
    places: dict[Any, list[int]] = {}
    for place, row in enumerate(log.rows):
        unit = place if row.decided.episode is None else (row.decided.key, row.decided.episode)
        places.setdefault(unit, []).append(place)
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
