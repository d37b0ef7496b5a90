"""Level 0: what is believed of a point's world now, folded from its decisions and what came of them.

A part of the point's own learner, so that a replay of the log gives the same estimates. One filter over all keys, with
the alarm, and one for each key where the point says so. The API and the adapter read what the last snapshot holds.
"""

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from envs.atoms import Atoms
from envs.change import Alarm
from envs.conditioning import with_columns
from envs.dynamics import Array, World
from envs.hazard import Estimate as Estimated
from envs.hazard import Hazard, HazardFilter
from envs.misfit import GoodnessOfFit
from online.events import Decided, Drifted, Report
from online.fold import Parts
from online.log import Entry
from service.deciding.beliefs import GROUPS, Belief, Estimates, Fit, Odds, is_doubted

Over: TypeAlias = Literal["pooled", "key", "off"]

DETECTOR = "ShiryaevRoberts"
MEMORY = 20_000.0
"""Outcomes that the comparison of world and outcomes remembers, at most back to the last alarm."""

SETTLED = 100
"""Outcomes of a key (of all, where they learn together) after an alarm until they are held against the world again."""

ASSESSED = 1_000
"""Outcomes from one comparison of the groups' parameters to the next."""

DOUBTED = 2_000
"""Outcomes for which a world must have been doubted at every comparison until its parameters are those of the policy's
own neighbourhood: a change that is noticed late looks like a wrong shape too, for a moment."""

_TOGETHER = 32
_ALARMS = 20
_KEPT = 5_000
_POOLED = "filter/all"
_OWN = "filter/key/"
_SHAPE = "misfit"


class _Waiting(Struct, frozen=True, array_like=True):
    """One outcome that is still to be held against the world."""

    row: list[float]
    index: int | list[int]
    reward: float
    key: str | None
    told: dict[str, float] = {}
    foretold: dict[str, float] = {}


class _State(Struct, frozen=True):
    made_of: str
    estimates: Estimates
    waiting: list[_Waiting]
    settled: dict[str, int] = {}
    unassessed: int = 0
    doubted: int = 0


_decoder = msgspec.msgpack.Decoder(_State)


@dataclass(frozen=True, eq=False)
class Source:
    """What an estimator is made of; shared by all that are made for a point.

    Attributes:
        context: Names of the context, in the order of the observation.
        over: Whether keys learn together or alone.
        foretold: Whether a parameter is foretold by a model, and another one for each decision.
    """

    world: World
    atoms: Atoms
    context: tuple[str, ...]
    over: Over
    hazard: Hazard
    foretold: bool = False

    @classmethod
    def of(
        cls,
        world: World,
        ranges: Mapping[str, tuple[float, float]],
        over: Over,
        hazard: Hazard | None = None,
        *,
        foretold: bool = False,
    ) -> "Source | None":
        """For the parameters in `ranges` (all that outcomes tell, where there are none); `None` where none is told."""
        names = tuple(name for name in ranges if name in world.tunable) or None
        if over == "off":
            return None
        try:
            atoms = Atoms(world, names, ranges=ranges)
        except ValueError:
            # A world without a likelihood, or ranges over what outcomes do not tell.
            return None
        return cls(world, atoms, tuple(entry.name for entry in world.context), over, hazard or Hazard(), foretold)

    def goodness(self) -> GoodnessOfFit | None:
        """Whether one set of parameters fits everywhere; `None` where each key, or each decision, has parameters of its
        own, or an action is a product, which has no neighbours in one list."""
        if self.over == "key" or self.foretold or len(self.world.actions.nvec) > 1:
            return None
        names = tuple(dict.fromkeys(column.split("[")[0] for column in self.atoms.columns))
        return GoodnessOfFit(self.world, names, memory=MEMORY)

    @property
    def made_of(self) -> str:
        """Tells estimators apart whose states do not fit each other."""
        known = hashlib.blake2b(digest_size=8)
        for factor in self.atoms.factors:
            known.update(factor.values.tobytes())
        return f"{self.over}/{known.hexdigest()}"


class Estimator:
    """Learns the parameters of a point's world from the outcomes of its decisions.

    Args:
        parts: Fetches filters that are not in memory.
    """

    def __init__(self, source: Source, parts: Parts | None = None) -> None:
        self._source, self._parts = source, parts
        self._pooled = HazardFilter(source.atoms, source.hazard)
        self._own: OrderedDict[str, HazardFilter] = OrderedDict()
        self._changed: set[str] = set()
        self._stale: set[str] = set()
        self._known: dict[str, Belief] = {}
        self._alarms: list[Drifted] = []
        self._fit = Fit()
        self._waiting: list[_Waiting] = []
        self._settled: dict[str, int] = {}
        self._heard = 0
        self._goodness = source.goodness()
        self._odds: list[Odds] = []
        self._unassessed = 0
        self._doubted = 0

    @property
    def estimates(self) -> Estimates:
        """What is believed now."""
        for key in self._stale:
            self._known[key] = _belief(self._filter(key).estimate())
        self._stale.clear()
        pooled = _belief(self._pooled.estimate())
        return Estimates(pooled, dict(self._known), list(self._alarms), self._fit, self._heard, list(self._odds))

    def hear(self, entry: Entry, decided: Decided, fields: Mapping[str, Any], reward: float) -> list[Report]:
        """Learn from an outcome; the alarm that it caused.

        Of a world that was doubted for long, no parameters explain all outcomes, but some those where a policy decides
        by them: what others try elsewhere would only lead it astray, and that they move is no news.
        """
        row = [float(decided.context[name]) for name in self._source.context]
        told = {name: float(fields[name]) for name in fields}
        self._heard += 1
        doubted = self._doubted >= DOUBTED
        if not doubted or decided.estimates is not None:
            alarm = self._learn(row, decided, told)
            if alarm is not None and not doubted:
                self._forget()
                return [self._alarmed(entry, alarm)]
        if self._is_settled(decided.key):
            self._waiting.append(_Waiting(row, decided.index, reward, decided.key, told, foretold(decided)))
            if len(self._waiting) >= _TOGETHER:
                self._compare()
        return []

    def _learn(self, row: list[float], decided: Decided, told: dict[str, float]) -> Alarm | None:
        """Teach the filters."""
        alarm = self._pooled.learn_one(row, decided.index, told)
        if self._source.over == "key" and decided.key is not None:
            self._filter(decided.key).learn_one(row, decided.index, told)
            self._changed.add(decided.key)
            self._stale.add(decided.key)
        return alarm

    def _forget(self) -> None:
        """What was expected until an alarm was expected of another world."""
        self._fit, self._waiting, self._settled = Fit(), [], {}
        self._odds, self._unassessed, self._doubted = [], 0, 0
        if self._goodness is not None:
            self._goodness.clear()

    def _is_settled(self, key: str | None) -> bool:
        """Whether the estimate for a key has had the time to follow the last change."""
        name = (key or "") if self._source.over == "key" else ""
        self._settled[name] = count = min(self._settled.get(name, 0) + 1, SETTLED)
        return count == SETTLED

    def _alarmed(self, entry: Entry, alarm: Alarm) -> Drifted:
        evidence = {"statistic": alarm.statistic, "since": float(alarm.decision - alarm.since)}
        for name in alarm.before:
            evidence |= {f"{name} before": alarm.before[name], f"{name} now": alarm.after[name]}
        signal = ", ".join(name for name in alarm.before if name in self._source.atoms.columns)
        drifted = Drifted(
            id=f"{entry.id}/estimate",
            detector=DETECTOR,
            signal=signal,
            at=entry.at,
            entry=str(entry.id),
            evidence=evidence,
        )
        self._alarms = [*self._alarms, drifted][-_ALARMS:]
        return drifted

    def _filter(self, key: str) -> HazardFilter:
        """The filter of a key; alarms are the pooled one's affair."""
        found = self._own.get(key)
        if found is None:
            found = self._own[key] = HazardFilter(self._source.atoms, Hazard(*_hazards(self._source.hazard), 0.0))
            data = None if self._parts is None or key not in self._known else self._parts(_OWN + key)
            if data is not None:
                _restore(found, data)
        return found

    def _compare(self) -> None:
        """Hold what has come since against the world as it is estimated now."""
        rows = np.array([one.row for one in self._waiting], np.float32)
        index = np.array([one.index for one in self._waiting])
        reward = np.array([one.reward for one in self._waiting])
        self._fit = _compared(self._fit, self._source.world, self._expected(rows, index), index, reward)
        if self._goodness is not None:
            told = {name: np.array([one.told[name] for one in self._waiting]) for name in self._waiting[0].told}
            self._assess(self._goodness, rows, index, told)
        self._doubted = self._doubted + len(self._waiting) if is_doubted(self._fit, self._odds) else 0
        self._waiting = []

    def _assess(
        self, goodness: GoodnessOfFit, rows: NDArray[np.float32], index: NDArray[np.int64], told: dict[str, Array]
    ) -> None:
        """Hold the shape of the world against the outcomes; now and then say what came of it."""
        goodness.learn_many(rows, index, told)
        self._unassessed += len(rows)
        if self._unassessed >= ASSESSED:
            self._unassessed = 0
            found = goodness.assess(self._pooled.estimate().dispersion)
            self._odds = [Odds(one.covariate, one.statistic, dict(one.values), one.decisions) for one in found]

    def _expected(self, rows: NDArray[np.float32], index: NDArray[np.int64]) -> Array:
        columns = self._source.atoms.columns
        beliefs = {one.key: self._values(one.key) for one in self._waiting}
        values = np.array([beliefs[one.key] for one in self._waiting])
        # Where a model foretells a parameter, its word is what was expected.
        for place, column in enumerate(columns):
            values[:, place] = [one.foretold.get(column, values[i, place]) for i, one in enumerate(self._waiting)]
        names = tuple(dict.fromkeys(column.split("[")[0] for column in columns))
        world = with_columns(self._source.world, names, values)
        return np.asarray(world.expected_reward(world.state_of(rows), index), np.float64)

    def _values(self, key: str | None) -> Array:
        own = self._source.over == "key" and key is not None
        live = self._filter(key) if own and key is not None else self._pooled
        return live.estimate().values

    def dump(self) -> bytes:
        """What readers need, and the outcomes that wait to be compared; the filters are parts."""
        progress = (self._settled, self._unassessed, self._doubted)
        state = _State(self._source.made_of, self.estimates, self._waiting, *progress)
        return msgspec.msgpack.encode(state)

    def changes(self) -> dict[str, bytes | None]:
        """The filters that changed since this was asked last, and the comparison of groups."""
        parts: dict[str, bytes | None] = {_POOLED: _saved(self._pooled)}
        if self._goodness is not None:
            parts[_SHAPE] = pickle.dumps(self._goodness.snapshot(), protocol=5)
        parts |= {_OWN + key: _saved(self._own[key], alarms=False) for key in sorted(self._changed)}
        self._changed.clear()
        while len(self._own) > _KEPT:
            self._own.popitem(last=False)
        return parts

    def load(self, data: bytes) -> None:
        """Go on from what `dump` gave; where the point's world has changed since, begin anew."""
        state = _decoder.decode(data)
        if state.made_of != self._source.made_of:
            return
        estimates = state.estimates
        self._known, self._alarms = dict(estimates.own), list(estimates.alarms)
        self._fit, self._heard = estimates.fit, estimates.heard
        self._waiting, self._settled = [one for one in state.waiting if one.told], state.settled
        self._odds, self._unassessed = list(estimates.odds), state.unassessed
        self._doubted = state.doubted
        if (filtered := self._part(_POOLED)) is not None:
            _restore(self._pooled, filtered)
        if self._goodness is not None and (compared := self._part(_SHAPE)) is not None:
            self._goodness.restore(pickle.loads(compared))

    def _part(self, name: str) -> bytes | None:
        return None if self._parts is None else self._parts(name)


def foretold(decided: Decided) -> dict[str, float]:
    """The parameters that models foretold for a decision, or what was declared to stand in for them."""
    forecasts = decided.forecasts or {}
    return {name: one.value for name, one in forecasts.items() if one.value is not None and name not in decided.context}


def read(data: bytes) -> Estimates:
    """The estimates in what an estimator dumped."""
    return _decoder.decode(data).estimates


def _hazards(hazard: Hazard) -> tuple[float, float]:
    return hazard.anew, hazard.moderate


def _saved(live: HazardFilter, *, alarms: bool = True) -> bytes:
    state = live.snapshot()
    return pickle.dumps(state if alarms else state | {"tests": None}, protocol=5)


def _restore(live: HazardFilter, data: bytes) -> None:
    state = pickle.loads(data)
    live.restore(state if state["tests"] is not None else state | {"tests": live.snapshot()["tests"]})


def _belief(found: Estimated) -> Belief:
    def named(values: Array) -> dict[str, float]:
        return dict(zip(found.columns, values.tolist(), strict=True))

    return Belief(
        values=named(found.values),
        lower=named(found.lower),
        upper=named(found.upper),
        outside=dict(found.outside),
        decisions=found.decisions,
        absurd=found.absurd,
        dispersion=found.dispersion,
    )


def _compared(fit: Fit, world: World, expected: Array, index: NDArray[np.int64], reward: Array) -> Fit:
    # A product counts by the middle of its choices.
    middle = index.reshape(len(index), -1).mean(axis=1)
    group = (middle * GROUPS // world.actions.nvec[0]).astype(np.int64)
    residual = reward - expected
    kept = (1.0 - 1.0 / MEMORY) ** len(index)

    def more(before: Sequence[float], values: Array) -> tuple[float, ...]:
        sums = kept * np.array(before) + np.bincount(group, weights=values, minlength=GROUPS)
        return tuple(sums.tolist())

    return Fit(
        more(fit.weight, np.ones(len(index))),
        more(fit.residual, residual),
        more(fit.squares, residual**2),
        more(fit.expected, np.abs(expected)),
    )
