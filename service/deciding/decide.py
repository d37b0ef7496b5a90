"""Deciding: request and release in, `Decided` out. Pure; the one function behind every decision, whatever the mode."""

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np

from agents.policy import Array, Policy, draw, sample
from online.events import Decided, scoped_id
from service.deciding.points import Action, Mask, Point, Row
from service.deciding.releases import Release
from service.http.problems import invalid

BASELINE = "baseline"
CALLER = "caller"


class DecisionRequest(Protocol):
    """What a decoded request holds; `service.deciding.points.request_struct` makes the struct of each point."""

    context: Any
    id: str | None
    episode: str | None
    at: float | None
    allowed: list[Action] | None
    baseline: Action | None
    deferred: bool


@dataclass(frozen=True)
class Arm:
    """One policy as it serves: under which name, and with which live estimates in its observation.

    Attributes:
        name: A bundle's digest, or the baseline's name.
        kind: The policy's kind; `baseline` for the point's rule.
        estimates: Parameter → value, in the order in which the policy observes them after the context.
    """

    policy: Policy
    name: str
    kind: str
    estimates: dict[str, float] | None = None

    def probabilities(self, row: Row, mask: Mask) -> Array:
        """The distribution (a,) over actions that this arm serves, without exploration."""
        observation = row
        if self.estimates:
            observation = np.concatenate([row, np.array([list(self.estimates.values())], np.float32)], axis=1)
        return np.asarray(self.policy.probabilities(observation, mask)[0])


@dataclass(frozen=True)
class ServedPoint:
    """A point with what serves it at one moment: an immutable value, swapped as a whole."""

    point: Point
    release: Release
    incumbent: Arm
    baseline: Arm
    candidate: Arm | None = None


@dataclass(frozen=True)
class Choice:
    """A distribution, the uniform number that drew from it, and what was drawn.

    `propensity` counts the draw of the arm too; `probabilities` are given the arm.
    """

    arm: Arm
    arm_name: str
    arm_probability: float
    probabilities: Array
    index: int
    propensity: float
    draw: float | None


def decide(served: ServedPoint, request: Any, decision_id: str, key: str | None, secret: bytes) -> Decided:
    """The decision that `request` gets under this id.

    The draw belongs to the id and is keyed, so that the same id gives the same action as long as the same policy
    serves; what was appended to the log first is what every retry is answered with.

    Raises:
        ProblemError: The context allows none of the actions, or an action named by the caller does not exist.
    """
    point = served.point
    row = point.row(request.context)
    mask = point.mask(row, request.allowed)
    given = None if request.baseline is None else point.index(request.baseline, "baseline")
    if given is not None and not mask[0, given]:
        raise invalid("baseline", "one of the allowed actions", request.baseline)
    unit = _unit(request.episode, key, decision_id)
    choice = _choose(served, row, mask, given, unit, scoped_id(decision_id, key), secret)
    return Decided(
        id=decision_id,
        context=msgspec.to_builtins(request.context),
        index=choice.index,
        action=point.actions[choice.index],
        propensity=choice.propensity,
        policy=choice.arm.name,
        key=key,
        episode=request.episode,
        at=request.at,
        allowed=None if mask.all() else mask[0].tolist(),
        probabilities=choice.probabilities.tolist(),
        kind=choice.arm.kind,
        mode=served.release.mode,
        arm=choice.arm_name,
        arm_probability=choice.arm_probability,
        estimates=choice.arm.estimates,
        baseline=given,
        draw=choice.draw,
        deferred=request.deferred,
    )


def _unit(episode: str | None, key: str | None, decision_id: str) -> str:
    """What a canary's arm is drawn for: the episode, else the key, else the decision."""
    if episode is not None:
        return f"episode:{scoped_id(episode, key)}"
    return f"key:{key}" if key is not None else f"decision:{decision_id}"


def _choose(
    served: ServedPoint, row: Row, mask: Mask, given: int | None, unit: str, drawn_for: str, secret: bytes
) -> Choice:
    """The mode's rule: who serves, with which distribution, and what is drawn from it."""
    release, name = served.release, served.point.name
    domain = f"action/{name}"
    if release.mode in ("off", "apprentice"):
        if given is not None:
            certain = np.zeros(mask.shape[1])
            certain[given] = 1.0
            return Choice(Arm(served.baseline.policy, CALLER, CALLER), "", 1.0, certain, given, 1.0, None)
        probabilities = served.baseline.probabilities(row, mask)
        u = draw(secret, drawn_for, domain)
        index = sample(probabilities, u)
        return Choice(served.baseline, "", 1.0, probabilities, index, float(probabilities[index]), u)
    explored = served.point.exploring
    incumbent = explored(served.incumbent.probabilities(row, mask), mask)
    u = draw(secret, drawn_for, domain)
    if release.mode != "canary" or served.candidate is None:
        index = sample(incumbent, u)
        return Choice(served.incumbent, "", 1.0, incumbent, index, float(incumbent[index]), u)
    candidate = explored(served.candidate.probabilities(row, mask), mask)
    # The candidate's digest keeps the units of one canary independent of those of the next.
    on_trial = draw(secret, unit, f"arm/{name}/{served.candidate.name}") < release.share
    arm, label = (served.candidate, "candidate") if on_trial else (served.incumbent, "incumbent")
    probabilities = candidate if on_trial else incumbent
    share = release.share if on_trial else 1.0 - release.share
    index = sample(probabilities, u)
    marginal = release.share * candidate[index] + (1.0 - release.share) * incumbent[index]
    return Choice(arm, label, share, probabilities, index, float(marginal), u)
