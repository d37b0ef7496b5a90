"""Bandits: an arm for a case, the reward that it earned, and arms that come and go."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from agents.policy import draw
from online.bandit import BanditError
from online.bandit_learner import Earned
from online.events import Armed, Chosen, Rewarded, decode, digest, draft_id, encode
from online.log import Conflict, Draft, token
from service.deciding.bandits import ServedBandit, partition_of
from service.deciding.points import EventTime, Identifier
from service.http.api import Api
from service.http.decoding import Decoder
from service.http.operations import Answer, Call, Operation, Parameter, reply
from service.http.problems import invalid
from service.routes.decisions import WriteAnswer, conflict

Number = Annotated[float, Meta(ge=-1e100, le=1e100)]
_DOMAIN = "bandit:{}:{}"


class ChooseRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Asks for an arm.

    Attributes:
        features: What is known of the case; numbers.
        allowed: The arms that may be taken this time; all that are offered where it is left out.
    """

    features: dict[str, Number] = {}
    id: Identifier | None = None
    allowed: list[Identifier] | None = None
    at: EventTime | None = None


class ChooseAnswer(Struct, frozen=True):
    """An arm; a function of the stored entry alone, so that a retry reads the same.

    Attributes:
        propensity: The exact probability with which this arm was taken; `null` where there is none to be used.
        refusal: Why there is none.
        rewards: How many rewards had been learned by then.
    """

    id: str
    arm: str
    propensity: float | None
    probabilities: dict[str, float] | None
    refusal: str | None
    rewards: int
    entry: str


class RewardRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the choice of this id earned; one reward each."""

    id: Identifier
    reward: Number
    at: EventTime | None = None


class ArmState(Struct, frozen=True):
    """An arm and what it earned.

    Attributes:
        mean: Mean reward where it was taken.
        value: What always taking it would have earned, where it was allowed; `null` without propensities.
    """

    arm: str
    offered: bool
    rewards: int
    mean: float | None
    value: float | None


class BanditDescription(Struct, frozen=True):
    """Everything about a bandit.

    Attributes:
        explore: Its way of exploring.
        refusal: Why its choices are of no use off-policy; `null` where their propensities are exact.
        waiting: Choices that wait for their reward.
    """

    name: str
    explore: str
    refusal: str | None
    arms: list[ArmState]
    rewards: int
    waiting: int
    rejected: int
    entry: str


class BanditsAnswer(Struct, frozen=True):
    """All bandits."""

    bandits: list[BanditDescription]


class Bandits:
    """The handlers of `/v1/bandits`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._choose = Decoder(ChooseRequest)
        self._reward = Decoder(RewardRequest)

    async def listed(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """Every bandit, with its arms."""
        names = await self._api.store.ask(self._api.bandits.names)
        return reply(BanditsAnswer([_described(await self._now(name)) for name in names]))

    async def describe(self, call: Call) -> Answer:
        """The arms of a bandit, what each earned, and whether its choices are of use off-policy."""
        return reply(_described(await self._now(call.path["bandit"])))

    async def choose(self, call: Call) -> Answer:
        """Takes one of the allowed arms, and logs it with its exact propensity before it is answered."""
        name = call.path["bandit"]
        bandit = (await self._now(name)).learner.bandit
        request = self._choose.decode(call.body)
        self._api.check_time(request.at)
        event_id = request.id or self._api.new_id()
        try:
            choice = bandit.choose(
                request.features,
                lambda index: draw(self._api.secret, event_id, _DOMAIN.format(name, index)),
                request.allowed,
            )
        except BanditError as error:
            raise invalid("allowed", f"some of the arms offered: {', '.join(bandit.arms)}", request.allowed) from error
        event = Chosen(
            id=event_id,
            arm=choice.arm,
            features=request.features,
            allowed=request.allowed,
            probabilities=None if choice.probabilities is None else dict(choice.probabilities),
            propensity=None if choice.probabilities is None else choice.propensity,
            refusal=choice.refusal,
            rewards=bandit.rewards,
            at=request.at,
        )
        partition = partition_of(name)
        outcome = await self._api.writer.append(partition, Draft(draft_id(event), digest(request), encode(event)))
        if isinstance(outcome, Conflict):
            raise conflict("choice", event_id)
        stored = event if outcome.fresh else decode(outcome.entry.payload)
        if not isinstance(stored, Chosen):
            raise conflict("choice", event_id)
        entry = token(partition, outcome.entry.id)
        shown = (stored.propensity, stored.probabilities, stored.refusal, stored.rewards)
        return reply(ChooseAnswer(stored.id, stored.arm, *shown, entry))

    async def reward(self, call: Call) -> Answer:
        """Takes what a choice earned; its arm learns from it with the features of then."""
        name = call.path["bandit"]
        await self._now(name)
        request = self._reward.decode(call.body)
        self._api.check_time(request.at)
        event = Rewarded(id=f"{request.id}/reward", decision=request.id, value=request.reward, at=request.at)
        return await self._written(name, event, request, "reward")

    async def offer(self, call: Call) -> Answer:
        """Offers an arm from now on: a new one, or one that was retired, with what it had learned."""
        return await self._arm(call, offered=True)

    async def retire(self, call: Call) -> Answer:
        """Offers an arm no more; rewards of choices made before still teach it."""
        return await self._arm(call, offered=False)

    async def _arm(self, call: Call, *, offered: bool) -> Answer:
        name, arm = call.path["bandit"], call.path["arm"]
        arms = (await self._now(name)).learner.bandit.arms
        if offered == (arm in arms) or (not offered and len(arms) == 1):
            allowed = f"an arm that is not offered; those are {', '.join(arms)}"
            if not offered:
                allowed = f"one of the arms offered, of which one must stay: {', '.join(arms)}"
            raise invalid("arm", allowed, arm)
        event = Armed(
            id=self._api.new_id(),
            arm=arm,
            offered=offered,
            actor=call.query.get("actor", "operator"),
            reason=call.query.get("reason", ""),
            at=self._api.clock(),
        )
        return await self._written(name, event, [event.id], "change of arms")

    async def _written(self, name: str, event: Rewarded | Armed, asked: Any, what: str) -> Answer:
        partition = partition_of(name)
        outcome = await self._api.writer.append(partition, Draft(draft_id(event), digest(asked), encode(event)))
        if isinstance(outcome, Conflict):
            raise conflict(what, event.id)
        return reply(WriteAnswer(event.id, token(partition, outcome.entry.id)))

    async def _now(self, name: str) -> ServedBandit:
        return await self._api.store.ask(lambda store: self._api.bandits.now(store, name))

    def operations(self) -> list[Operation]:
        """What can be asked of a bandit, and told to it."""
        base = "/v1/bandits/{bandit}"
        why = (Parameter("actor", {"type": "string"}, "Who wants it"), Parameter("reason", {"type": "string"}, "Why"))
        read: dict[str, Any] = {"problems": ("unknown-bandit", "unavailable")}
        write: dict[str, Any] = {"problems": (*read["problems"], "conflict", "invalid-request")}
        choose: dict[str, Any] = {**write, "scope": "predict", "request": ChooseRequest}
        choose["example"] = {"id": "visit-1", "features": {"hour": 14}}
        reward: dict[str, Any] = {**write, "scope": "ingest", "request": RewardRequest}
        reward["example"] = {"id": "visit-1", "reward": 1}
        arm: dict[str, Any] = {**write, "scope": "operate", "query": why}
        operations = [
            Operation("POST", f"{base}/choose", "Choose an arm", self.choose, ChooseAnswer, **choose),
            Operation("POST", f"{base}/rewards", "Send a reward", self.reward, WriteAnswer, **reward),
            Operation(
                "GET",
                "/v1/bandits",
                "List bandits",
                self.listed,
                BanditsAnswer,
                problems=("unavailable",),
                scope="read",
            ),
            Operation("GET", base, "Describe a bandit", self.describe, BanditDescription, **read, scope="read"),
            Operation("PUT", f"{base}/arms/{{arm}}", "Offer an arm", self.offer, WriteAnswer, **arm),
            Operation("DELETE", f"{base}/arms/{{arm}}", "Retire an arm", self.retire, WriteAnswer, **arm),
        ]
        return [operation.tagged("bandits") for operation in operations]


def _described(served: ServedBandit) -> BanditDescription:
    learner = served.learner
    offered = learner.bandit.arms
    names = [*offered, *(arm for arm in learner.earned if arm not in offered)]
    earned = {name: learner.earned.get(name, Earned()) for name in names}
    return BanditDescription(
        name=learner.spec.name,
        explore=learner.spec.explore_by,
        refusal=learner.spec.explore.refusal(len(offered)),
        arms=[
            ArmState(name, name in offered, found.rewards, found.mean, found.value) for name, found in earned.items()
        ],
        rewards=learner.learned,
        waiting=learner.pending,
        rejected=learner.place.rejected,
        entry=str(served.cursor),
    )
