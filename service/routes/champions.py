"""Champion and challengers: how the candidates of a model stand, and the operator's calls to switch and to resume."""

from typing import Annotated

from msgspec import Meta, Struct

from online.comparison import Announcement
from online.events import Finding, Resumed, Switched, digest, draft_id, encode
from online.learner import ModelLearner
from online.log import Conflict, Draft, token
from service.http.api import Api
from service.http.decoding import Decoder
from service.http.operations import Answer, Call, Operation, reply
from service.http.problems import invalid
from service.routes.decisions import WriteAnswer, conflict
from service.routes.predictions import partition_of

FINDINGS = 20
"""What earlier comparisons found: so much of it is told."""


class ChallengerState(Struct, frozen=True):
    """A pipeline that learns beside the champion, scored on the same labels.

    Attributes:
        trouble: Why it is out of the comparison; `null` where it is not.
        halted: Why it learns no more, as for the model; `null` where it learns.
        finding: What the last finished comparison found of it.
    """

    name: str
    learned: int
    metrics: dict[str, float]
    trouble: str | None
    halted: str | None
    finding: Finding | None


class SwitchState(Struct, frozen=True):
    """One change of the champion."""

    champion: str
    before: str
    actor: str
    reason: str
    at: float | None


class ComparisonState(Struct, frozen=True):
    """How far the comparison is: it is judged once, after `announced` labels, at `level`; then the next one begins.

    Attributes:
        promise: For so many rivals, the level at which each of them is tested (the common one divided among them, after
            Bonferroni), and the difference of mean errors that is recognised in nine of ten comparisons, between
            classifiers that disagree on 9 cases in 100.
        switch: Who changes the champion: `operator` alone, or also the rule that takes one found `better`.
        switches: The last changes of the champion, the oldest first.
        findings: What the last comparisons found, the oldest first, also of those that are champion now.
    """

    labels: int
    announced: int
    level: float
    promise: Announcement
    switch: str
    switches: list[SwitchState]
    findings: list[Finding]


class ChampionOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Makes a challenger the champion; say why."""

    champion: str
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    actor: Annotated[str, Meta(min_length=1, max_length=200)] = "operator"


class ResumeOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Lets a model learn again that a drift stopped; say why."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    actor: Annotated[str, Meta(min_length=1, max_length=200)] = "operator"


class Champions:
    """The handlers of `/v1/models/{model}/champion` and `/v1/models/{model}/resume`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._champion = Decoder(ChampionOrder)
        self._resume = Decoder(ResumeOrder)

    async def switch(self, call: Call) -> Answer:
        """Makes a challenger the champion: an entry of the model's log, obeyed by its learner when it comes to it."""
        name = call.path["model"]
        learner = self._api.model(name).learner
        order = self._champion.decode(call.body)
        fit = [standing.name for standing in learner.candidates.standings() if standing.trouble is None]
        if order.champion not in fit:
            allowed = f"one of the challengers {', '.join(fit)}" if fit else "nothing: the model has no challenger"
            raise invalid("champion", allowed, order.champion)
        event = Switched(
            id=self._api.new_id(),
            champion=order.champion,
            actor=order.actor,
            reason=order.reason,
            at=self._api.clock(),
        )
        return await self._order(name, event)

    async def resume(self, call: Call) -> Answer:
        """Lets a model learn again: an entry of its log; one that learns anyway goes on as it is."""
        name = call.path["model"]
        learner = self._api.model(name).learner
        order = self._resume.decode(call.body)
        if learner.candidates.current.halted == "ceiling":
            raise invalid("model", "a model below its ceiling: declare a higher one", name)
        event = Resumed(id=self._api.new_id(), actor=order.actor, reason=order.reason, at=self._api.clock())
        return await self._order(name, event)

    async def _order(self, name: str, event: Switched | Resumed) -> Answer:
        """Append an order to a model's log."""
        partition, payload = partition_of(name), encode(event)
        result = await self._api.writer.append(partition, Draft(draft_id(event), digest(payload), payload))
        if isinstance(result, Conflict):
            raise conflict("order", event.id)
        return reply(WriteAnswer(event.id, token(partition, result.entry.id)))

    def operations(self) -> list[Operation]:
        """What can be done about the champion."""
        switch = Operation(
            "POST",
            "/v1/models/{model}/champion",
            "Switch the champion",
            self.switch,
            WriteAnswer,
            request=ChampionOrder,
            example={"champion": "forest", "reason": "better for a week"},
            problems=("unknown-model", "unavailable", "conflict", "invalid-request"),
            scope="operate",
        )
        resume = Operation(
            "POST",
            "/v1/models/{model}/resume",
            "Resume a model that a drift stopped",
            self.resume,
            WriteAnswer,
            request=ResumeOrder,
            example={"reason": "the sensor is mended"},
            problems=("unknown-model", "unavailable", "conflict", "invalid-request"),
            scope="operate",
        )
        return [operation.tagged("models") for operation in (switch, resume)]


def challengers(learner: ModelLearner) -> list[ChallengerState]:
    """How each challenger stands."""
    last = {finding.challenger: finding for finding in learner.candidates.comparison.findings}
    return [ChallengerState(*standing, last.get(standing.name)) for standing in learner.candidates.standings()]


def comparison(learner: ModelLearner) -> ComparisonState | None:
    """How far the comparison is; `None` where there are no challengers."""
    if not learner.spec.challengers:
        return None
    plan, switches = learner.spec.comparison, learner.candidates.switches
    return ComparisonState(
        labels=learner.candidates.comparison.labels,
        announced=plan.labels,
        level=plan.level,
        promise=plan.announcement(len(learner.spec.challengers)),
        switch=plan.switch,
        switches=[SwitchState(one.champion, one.before, one.actor, one.reason, one.at) for one in switches],
        findings=learner.candidates.comparison.findings[-FINDINGS:],
    )
