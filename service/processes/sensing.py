"""What the loop of a point hears: facts, read off snapshots, releases, holds and the clock."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agents.bundle import BundleError
from online.events import Drifted, decode_reports
from online.join import PointLearner
from online.log import EntryId, Log, Partition
from online.snapshot import open_sealed
from service.adapt import Rules, State, deadline
from service.deciding.beliefs import NO_ESTIMATES, UNLIKELY, Belief, Estimates
from service.deciding.listening import estimates_in
from service.deciding.point_bandits import PREFIX, is_bandit
from service.deciding.points import Point
from service.deciding.registry import Registry
from service.deciding.releases import Release
from service.facts import Fact, Fitted, Heard, Intervened, Misfitted, Ordered, Silenced, Suspected, Ticked

STRAYED = 1.05
"""Factor beyond the end of the trained range at which an estimate counts as outside."""

_REACTIONS = {
    "keep": "",
    "reset": ", and it learns anew",
    "replace": ", and a successor learns",
    "raise": ", and it stops",
}
"""What a model does about its drift, in words."""

_SHORT = 0.05
_BLIND = 1.2
_QUIET_DECISIONS = 500
_QUIET_S = 30.0
_TOLD = 30
_PAGE = 1000

Ids = Iterator[tuple[str, Fact]]


@dataclass
class Sensing:
    """The senses of one point's loop; one thread, like the log.

    Args:
        name: Under which the loop releases: what others release is an intervention.
    """

    log: Log
    registry: Registry
    point: Point
    secret: bytes
    name: str
    estimates: Estimates = NO_ESTIMATES
    decided: int = 0
    rewarded: int = 0
    _version: int = -1
    _lasting: dict[str, float] = field(default_factory=dict)
    _heard_at: tuple[int, int, float] | None = None
    _cursors: dict[str, EntryId] = field(default_factory=dict)

    def look(self, state: State, rules: Rules, now: float) -> Ids:
        """The facts of this moment, each with an id under which it is one fact however often it is seen."""
        self._load()
        release = self.registry.current(self.point.name, self.point.spec.mode)
        yield from self._orders(state, now)
        yield from self._silence(state, now)
        if state.in_cycle:
            yield from self._interventions(state, now)
        # Where no policy serves, or people try one out, there is nothing to keep right.
        if release.mode == "live" or state.in_cycle:
            yield from self._fitness(state, release, rules, now)
        if release.mode == "live" and not state.in_cycle and not state.stopped:
            yield from self._suspicions(state, release, rules, now)
        limit = deadline(state, rules)
        if limit is not None and now >= limit:
            yield f"{state.number}/{state.since:.3f}/tick", Ticked(at=now)

    def _load(self) -> None:
        """The estimates of the learner's last snapshot."""
        partition = Partition(f"point:{self.point.name}", 0)
        head = self.log.head(partition)
        if head.version == self._version or (saved := self.log.load(partition)) is None:
            return
        data = open_sealed(self.secret, partition, saved.cursor, saved.snapshot)
        learner = PointLearner.load(self.point.spec.outcome, self.point.reward_of, data)
        self._version = saved.version
        self.estimates = estimates_in(learner)
        self.decided = sum(value.decisions for value in learner.values.values())
        self.rewarded = sum(value.rewarded for value in learner.values.values())

    def _orders(self, state: State, now: float) -> Ids:
        hold = self.registry.held(self.point.name)
        if hold is not None and state.held is None:
            yield f"hold/{hold.at!r}", Ordered(at=now, held=True, actor=hold.actor, reason=hold.reason)
        elif hold is None and state.held is not None:
            yield f"release/{now!r}", Ordered(at=now, held=False, actor=state.held)

    def _silence(self, state: State, now: float) -> Ids:
        """Outcomes have stopped where decisions go on and none of them has come for long."""
        if self._heard_at is None or self._heard_at[0] != self.rewarded:
            came = self._heard_at is not None
            self._heard_at = (self.rewarded, self.decided, now)
            if came and state.silent:
                yield f"heard/{now!r}", Heard(at=now)
            return
        rewarded, decided, since = self._heard_at
        missing = self.decided - decided
        if rewarded and not state.silent and missing >= _QUIET_DECISIONS and now - since >= _QUIET_S:
            reason = f"no outcome for {missing:,} decisions in {now - since:.0f} s"
            yield f"silence/{rewarded}/{since!r}", Silenced(at=now, reason=reason)

    def _interventions(self, state: State, now: float) -> Ids:
        begun = state.begun[-1] if state.begun else 0.0
        for event in self.registry.releases(self.point.name):
            if event.actor != self.name and (event.at or 0.0) > begun:
                yield (
                    f"intervened/{event.id}",
                    Intervened(at=now, cycle=state.cycle, actor=event.actor, reason=event.reason),
                )

    def _fitness(self, state: State, release: Release, rules: Rules, now: float) -> Ids:
        doubt = self.estimates.doubt
        if self._lasts("misfit", now, found=bool(doubt)) >= rules.settle:
            # In a cycle of its own making the candidate is no incumbent; a bandit was not made for this world.
            alone = release.mode == "live" and not is_bandit(release.incumbent)
            incumbent = release.incumbent if alone else None
            bandits = tuple(PREFIX + name for name in self.point.spec.bandits)
            fact = Misfitted(at=now, reason=doubt, incumbent=incumbent, bandits=bandits)
            yield f"{state.number}/{now:.0f}/misfit", fact
        elif not doubt and state.misfit is not None:
            yield f"{state.number}/{now:.0f}/fit", Fitted(at=now)

    def _suspicions(self, state: State, release: Release, rules: Rules, now: float) -> Ids:
        place = f"{state.number}"
        for alarm in self.estimates.alarms:
            if alarm.at > state.since:
                yield f"alarm/{alarm.id}", Suspected(at=now, source="alarm", reason=in_words(alarm))
        for model in self.point.models:
            for alarm in self._drifts(model):
                reason = f"drift of the model {model}: the {alarm.signal} has changed{_REACTIONS[alarm.action]}"
                yield f"model/{model}/{alarm.id}", Suspected(at=now, source="model", reason=reason)
        strayed = self._strayed(release)
        if self._lasts("estimate", now, found=bool(strayed)) >= rules.settle / 4:
            yield f"{place}/estimate", Suspected(at=now, source="estimate", reason=strayed)
        share, errors = self.estimates.fit.shortfall
        found = share > _SHORT and errors > UNLIKELY
        if self._lasts("value", now, found=found) >= rules.settle:
            reason = f"rewards are {share:.0%} below what the world expects ({errors:.1f} standard errors)"
            yield f"{place}/value", Suspected(at=now, source="value", reason=reason)

    def _lasts(self, what: str, now: float, *, found: bool) -> float:
        """For how many seconds something has been found at every look; −1 where it is not found now."""
        if not found:
            self._lasting.pop(what, None)
            return -1.0
        return now - self._lasting.setdefault(what, now)

    def _strayed(self, release: Release) -> str:
        """Which estimate has left the range over which the serving policy was trained; empty for none."""
        belief = self.estimates.pooled
        if belief is None or belief.decisions < _TOLD:
            return ""
        return strayed(belief, self.trained(release))

    def trained(self, release: Release) -> Mapping[str, tuple[float, float]]:
        """The ranges that the serving policy was trained over; the point's own where no policy serves.

        A policy that does not see a parameter was made for one value, and follows none that is noticeably different.
        """
        if release.incumbent is None:
            return self.point.spec.ranges
        try:
            card = self.registry.bundle(release.incumbent).card
        except BundleError:
            return {}
        fixed = {name: value for name, value in card.params.items() if isinstance(value, int | float)}
        return {name: (value / _BLIND, value * _BLIND) for name, value in fixed.items()} | card.ranges

    def _drifts(self, model: str) -> list[Drifted]:
        """The alarms of a prediction model since the last look."""
        partition = Partition(f"model:{model}", 0)
        cursor = self._cursors.get(model)
        if cursor is None:
            # What happened before this process began is the estimate's to notice.
            self._cursors[model] = self.log.head(partition).cursor
            return []
        found: list[Drifted] = []
        while entries := self.log.reports(partition, cursor, _PAGE):
            for entry in entries:
                found += [report for report in decode_reports(entry.payload) if isinstance(report, Drifted)]
            cursor = entries[-1].id
        self._cursors[model] = cursor
        return found


def strayed(belief: Belief, ranges: Mapping[str, tuple[float, float]]) -> str:
    """Which estimate lies outside these ranges together with its interval, in words; empty for none.

    >>> belief = Belief({"sensitivity": 4.0}, {"sensitivity": 3.5}, {"sensitivity": 4.6})
    >>> strayed(belief, {"sensitivity": (0.5, 2.0)})
    'sensitivity is estimated at 4 (3.5 to 4.6), outside 0.5 to 2'
    >>> strayed(belief, {"sensitivity": (0.5, 4.0)})
    ''
    """
    for column, value in belief.values.items():
        low, high = ranges.get(column.split("[")[0], (float("-inf"), float("inf")))
        above = value > high * STRAYED and belief.lower[column] > high
        below = value < low / STRAYED and belief.upper[column] < low
        if above or below:
            interval = f"{belief.lower[column]:.3g} to {belief.upper[column]:.3g}"
            return f"{column} is estimated at {value:.3g} ({interval}), outside {low:.3g} to {high:.3g}"
    return ""


def in_words(alarm: Drifted) -> str:
    """An alarm of the estimator, as a sentence."""
    changes = [
        f"{name} {alarm.evidence[f'{name} before']:.3g} → {alarm.evidence[f'{name} now']:.3g}"
        for name in alarm.signal.split(", ")
        if f"{name} before" in alarm.evidence
    ]
    return f"the world has changed: {', '.join(changes)} (evidence {alarm.evidence['statistic']:,.0f})"
