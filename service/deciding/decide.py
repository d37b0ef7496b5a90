"""Deciding: requests and release in, `Decided` out. Pure; the one function behind every decision, whatever the mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents import policy
from agents.policy import Array, Exploration, Policy, draw, explore, sample_factors
from online.events import Decided, Forecast, scoped_id
from service.deciding.beliefs import NO_ESTIMATES, Estimates
from service.deciding.lessons import Lessons
from service.deciding.point_bandits import BanditPolicy
from service.deciding.points import Action, Index, Mask, Point, Rows
from service.deciding.releases import Release
from service.http.problems import ProblemError, invalid

BASELINE = "baseline"
CALLER = "caller"

_UNBOUNDED = (float("-inf"), float("inf"))

Answered: TypeAlias = Decided | Exception


class DecisionRequest(Protocol):
    """What a decoded request holds; `service.deciding.points.request_struct` makes the struct of each point."""

    context: Any
    id: str | None
    episode: str | None
    at: float | None
    allowed: list[Action] | None
    baseline: Action | None
    deferred: bool


_UNASKED: Mapping[str, Forecast] = {}


class Ask(NamedTuple):
    """One request for a decision, under the id and the key that it is known by.

    Attributes:
        filled: The context with what models foretell of it; the request's own, where left out.
        forecasts: What models were asked for, by entry of context and estimates.
    """

    request: DecisionRequest
    id: str
    key: str | None = None
    filled: Any = None
    forecasts: Mapping[str, Forecast] = _UNASKED

    @property
    def context(self) -> Any:
        """What the decision is made for."""
        return self.request.context if self.filled is None else self.filled


@dataclass(frozen=True)
class Arm:
    """One policy as it serves: under which name, and with which live estimates in its observation.

    Attributes:
        name: A bundle's digest, a bandit's name, or the baseline's.
        kind: The policy's kind; `baseline` for the point's rule.
        estimates: Parameter → nominal value, in the order in which the policy observes them after the context.
        bounds: Parameter → (low, high) that the policy was trained over: it sees nothing beyond.
    """

    policy: Policy
    name: str
    kind: str
    estimates: dict[str, float] | None = None
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def probabilities(self, rows: Rows, masks: Mask, believed: Sequence[Mapping[str, float]] = ()) -> Array:
        """The distributions (n, a) over actions that this arm serves, without exploration.

        `believed` are the parameters for each row; where one is not estimated its nominal value holds.
        """
        if not self.estimates:
            return self.policy.probabilities(rows, masks)
        live = np.array([self._inputs(one, self.estimates) for one in believed or [{}] * len(rows)], np.float32)
        return self.policy.probabilities(np.concatenate([rows, live], axis=1), masks)

    def _inputs(self, believed: Mapping[str, float], nominal: Mapping[str, float]) -> list[float]:
        values = []
        for name, value in nominal.items():
            low, high = self.bounds.get(name, _UNBOUNDED)
            values.append(min(max(believed.get(name, value), low), high))
        return values


@dataclass(frozen=True)
class ServedPoint:
    """A point with what serves it at one moment: an immutable value, swapped as a whole.

    Attributes:
        bandits: The point's bandits by name, as they have learned; whichever serves is an arm too.
        lessons: What is tried because it teaches most, where the point explores so.
    """

    point: Point
    release: Release
    incumbent: Arm
    baseline: Arm
    candidate: Arm | None = None
    beliefs: Estimates = NO_ESTIMATES
    bandits: Mapping[str, BanditPolicy] = field(default_factory=dict)
    lessons: Lessons | None = None

    @cached_property
    def exploration(self) -> Exploration:
        """What is given away now: the point's share, or what it may spend while its world is doubted."""
        usual = self.point.spec.exploration
        if not self.beliefs.doubt:
            return usual
        return replace(usual, share=max(usual.share, self.point.spec.adapt.explore))

    def believed(self, arm: Arm, key: str | None) -> dict[str, float] | None:
        """The parameters that an arm observes, as they are estimated for a key now; `None` where it observes none."""
        if not arm.estimates:
            return None
        belief = self.beliefs.of(key)
        return arm.estimates if belief is None else {n: belief.values.get(n, v) for n, v in arm.estimates.items()}

    def inputs(self, arm: Arm, ask: Ask) -> dict[str, float] | None:
        """The parameters that an arm observes for a request: what models foretell, else what is believed."""
        believed = self.believed(arm, ask.key)
        if believed is None or not ask.forecasts:
            return believed
        told = {name: one.value for name, one in ask.forecasts.items() if name in believed and one.value is not None}
        return believed | told

    def intervals(self, arm: Arm, ask: Ask) -> dict[str, tuple[float, float]] | None:
        """The ends of the 95 % intervals of what an arm observes as estimated; `None` where it observes no estimate."""
        belief = self.beliefs.of(ask.key)
        if belief is None or not arm.estimates:
            return None
        told = {name for name, one in ask.forecasts.items() if one.value is not None}
        names = [name for name in arm.estimates if name in belief.lower and name not in told]
        return {name: (belief.lower[name], belief.upper[name]) for name in names} or None


@dataclass(frozen=True)
class Choices:
    """What was chosen for n requests: the distributions, the uniform numbers that drew from them, and what was drawn.

    `propensity` (n,) counts the draw of the arm too; `probabilities` (n, j · a) are given the arm, one list after
    another where an action is a product of j choices, each with its `index` (n, j) and its draw. A row that the caller
    itself decided has no draws.
    """

    arms: list[Arm]
    arm_names: list[str]
    arm_probabilities: list[float]
    probabilities: Array
    index: NDArray[np.int64]
    propensity: Array
    draws: list[list[float] | None]


@dataclass(frozen=True)
class _Asked:
    """Requests that make sense, as arrays: observations (n, k), masks (n, a), what each caller would do itself."""

    asks: list[Ask]
    rows: Rows
    masks: Mask
    given: list[Index | None]


def decide(served: ServedPoint, ask: Ask, secret: bytes) -> Decided:
    """The decision of one request; as `decide_all`.

    Raises:
        ProblemError: The context allows none of the actions, or an action named by the caller does not exist.
    """
    (answer,) = decide_all(served, [ask], secret)
    if isinstance(answer, Exception):
        raise answer
    return answer


def decide_all(served: ServedPoint, asks: Sequence[Ask], secret: bytes) -> list[Answered]:
    """The decision that each request gets under its id, or why it gets none; each as if it had been asked alone.

    The draw belongs to the id and is keyed, so that the same id gives the same action as long as the same policy
    serves; what was appended to the log first is what every retry is answered with.
    """
    try:
        asked, faults = _read(served.point, asks)
        decided = iter(_decided(served, asked, _choose(served, asked, secret)) if asked.asks else ())
        return [faults[i] if i in faults else next(decided) for i in range(len(asks))]
    except Exception as error:  # noqa: BLE001 - whoever asked is told; what a policy raises is its own affair
        if len(asks) == 1:
            return [_unreadable(served, asks[0], error)]
    # One observation that a policy cannot read must not take the others with it.
    return [decide_all(served, [ask], secret)[0] for ask in asks]


def _unreadable(served: ServedPoint, ask: Ask, error: Exception) -> Exception:
    """What whoever asked is told: a context that is no state of the world is theirs to mend."""
    if isinstance(error, ProblemError) or not isinstance(error, ValueError):
        return error
    given = msgspec.to_builtins(ask.context)
    return invalid("context", f"one that the policy of {served.point.name!r} can answer ({error})", given)


def _read(point: Point, asks: Sequence[Ask]) -> tuple[_Asked, dict[int, ProblemError]]:
    """The requests that make sense, and why the others (by place) do not."""
    rows = point.rows([ask.context for ask in asks])
    masks = np.array(point.world.allowed_of(rows))
    given: list[Index | None] = [None] * len(asks)
    faults: dict[int, ProblemError] = {}
    always = bool(point.lists(masks).any(axis=1).all())
    for i, ask in enumerate(asks):
        allowed, baseline = ask.request.allowed, ask.request.baseline
        if always and allowed is None and baseline is None:
            continue
        try:
            masks[i] = point.narrowed(masks[i], allowed)
            given[i] = _given(point, masks[i], baseline)
        except ProblemError as error:
            faults[i] = error
    if not faults:
        return _Asked(list(asks), rows, masks, given), faults
    left = [i for i in range(len(asks)) if i not in faults]
    return _Asked([asks[i] for i in left], rows[left], masks[left], [given[i] for i in left]), faults


def _given(point: Point, mask: Mask, baseline: Action | None) -> Index | None:
    """The index of the action that the caller would take itself."""
    if baseline is None:
        return None
    index = point.index(baseline, "baseline")
    if not point.lists(mask[None])[np.arange(point.factors), index].all():
        raise invalid("baseline", "one of the allowed actions", baseline)
    return index


def _choose(served: ServedPoint, asked: _Asked, secret: bytes) -> Choices:
    """The mode's rule: who serves, with which distribution, and what is drawn from it."""
    draws = _draws(served.point, asked.asks, secret)
    mode = served.release.mode
    if mode in ("off", "apprentice"):
        return _baseline(served, asked, draws)
    if mode == "canary" and served.candidate is not None:
        return _canary(served, served.candidate, asked, draws, secret)
    return _drawn(served.incumbent, _explored(served, served.incumbent, asked), draws)


def _draws(point: Point, asks: Sequence[Ask], secret: bytes) -> list[list[float]]:
    """A uniform number for each request, or for each choice of its action."""
    domains = [f"action/{point.name}"]
    if point.factors > 1:
        domains = [f"{domains[0]}/{factor}" for factor in range(point.factors)]
    ids = [scoped_id(ask.id, ask.key) for ask in asks]
    return [[draw(secret, one, domain) for domain in domains] for one in ids]


def _drawn(arm: Arm, probabilities: Array, draws: list[list[float]]) -> Choices:
    """One arm serves, and what is drawn from its distribution is done."""
    n = len(draws)
    index = sample_factors(probabilities, np.array(draws))
    propensity = policy.propensity(probabilities, index)
    return Choices([arm] * n, [""] * n, [1.0] * n, probabilities, index, propensity, [*draws])


def _baseline(served: ServedPoint, asked: _Asked, draws: list[list[float]]) -> Choices:
    """The point's rule serves, without exploration, unless the caller said what it would do itself: then that."""
    drawn = _drawn(served.baseline, np.array(served.baseline.probabilities(asked.rows, asked.masks)), draws)
    for i, index in enumerate(asked.given):
        if index is not None:
            lists = np.zeros_like(served.point.lists(drawn.probabilities[i : i + 1]))
            lists[np.arange(len(lists)), index] = drawn.propensity[i] = 1.0
            drawn.probabilities[i], drawn.index[i], drawn.draws[i] = lists.ravel(), index, None
            drawn.arms[i] = Arm(served.baseline.policy, CALLER, CALLER)
    return drawn


def _canary(served: ServedPoint, trial: Arm, asked: _Asked, draws: list[list[float]], secret: bytes) -> Choices:
    """Each unit has its arm; what is logged is the propensity with the draw of the arm counted in."""
    share = served.release.share
    incumbent, candidate = (_explored(served, arm, asked) for arm in (served.incumbent, trial))
    # The candidate's digest keeps the units of one canary independent of those of the next.
    domain = f"arm/{served.point.name}/{trial.name}"
    on_trial = [draw(secret, _unit(ask), domain) < share for ask in asked.asks]
    probabilities = np.where(np.array(on_trial)[:, None], candidate, incumbent)
    index = sample_factors(probabilities, np.array(draws))
    return Choices(
        arms=[trial if tried else served.incumbent for tried in on_trial],
        arm_names=["candidate" if tried else "incumbent" for tried in on_trial],
        arm_probabilities=[share if tried else 1.0 - share for tried in on_trial],
        probabilities=probabilities,
        index=index,
        propensity=share * policy.propensity(candidate, index) + (1.0 - share) * policy.propensity(incumbent, index),
        draws=[*draws],
    )


def _explored(served: ServedPoint, arm: Arm, asked: _Asked) -> Array:
    """What an arm serves, with the point's exploration mixed in."""
    believed = [served.inputs(arm, ask) or {} for ask in asked.asks] if arm.estimates else []
    probabilities = arm.probabilities(asked.rows, asked.masks, believed)
    return explored(served, probabilities, asked.rows, asked.masks)


def explored(served: ServedPoint, probabilities: Array, rows: NDArray[Any], masks: Mask) -> Array:
    """The distributions with exploration mixed in: what teaches most, else into each factor by itself."""
    # What a world teaches that may be the wrong one is nobody's guide.
    if served.lessons is not None and not served.beliefs.doubt:
        return served.lessons.mixed(rows, probabilities, masks)
    point = served.point
    lists = explore(point.lists(probabilities), point.lists(masks), served.exploration)
    return lists.reshape(probabilities.shape)


def _unit(ask: Ask) -> str:
    """What a canary's arm is drawn for: the episode, else the key, else the decision."""
    if ask.request.episode is not None:
        return f"episode:{scoped_id(ask.request.episode, ask.key)}"
    return f"key:{ask.key}" if ask.key is not None else f"decision:{ask.id}"


def _decided(served: ServedPoint, asked: _Asked, choices: Choices) -> list[Decided]:
    """The choices as events."""
    whole: list[bool] = np.asarray(asked.masks.all(axis=1)).tolist()
    point, mode = served.point, served.release.mode
    # A list of one is written as what it holds.
    single = point.factors == 1
    indices = choices.index[:, 0].tolist() if single else choices.index.tolist()
    draws = [one[0] if single and one is not None else one for one in choices.draws]
    propensity = choices.propensity.tolist()
    probabilities = choices.probabilities.tolist()
    return [
        Decided(
            id=ask.id,
            context=msgspec.to_builtins(ask.context),
            index=indices[i],
            action=point.action(indices[i]),
            propensity=propensity[i],
            policy=choices.arms[i].name,
            key=ask.key,
            episode=ask.request.episode,
            at=ask.request.at,
            allowed=None if whole[i] else asked.masks[i].tolist(),
            probabilities=probabilities[i],
            kind=choices.arms[i].kind,
            mode=mode,
            arm=choices.arm_names[i],
            arm_probability=choices.arm_probabilities[i],
            estimates=served.inputs(choices.arms[i], ask),
            baseline=asked.given[i],
            draw=draws[i],
            deferred=ask.request.deferred,
            forecasts=dict(ask.forecasts) or None,
            intervals=served.intervals(choices.arms[i], ask),
        )
        for i, ask in enumerate(asked.asks)
    ]
