"""Bandits: an arm for a case, the reward that it earned, and arms that come and go."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

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
from service.routes import rejects
from service.routes.decisions import WriteAnswer, conflict
from service.routes.rejects import RejectsAnswer

Number = Annotated[float, Meta(ge=-1e100, le=1e100)]
_DOMAIN = "bandit:{}:{}"
_SHOWN = ("decision", "value", "arm", "features", "offered", "at")
"""What is shown of an event that was set aside."""


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
    """An arm and what it earned; one that is retired keeps it.

    Attributes:
        mean: Mean reward where it was taken: of the cases that it was chosen for, which are not all.
        value: What always taking it would have earned, where it was allowed: self-normalised inverse propensity,
            consistent, with a bias of the order of one over `effective`; `null` without propensities.
        effective: How many even-handed choices `value` is worth; below about 30 it says little.
    """

    arm: str
    offered: bool
    rewards: int
    mean: float | None
    value: float | None
    effective: float | None


class ArmChange(Struct, frozen=True):
    """An arm that was offered, or retired; by whom, and why."""

    arm: str
    offered: bool
    actor: str
    reason: str
    at: float | None


class MendedReward(Struct, frozen=True, forbid_unknown_fields=True):
    """What takes the place of what a rejected reward held; what is left out stays as it was.

    Attributes:
        decision: The id of the choice that it is of.
    """

    decision: Identifier | UnsetType = UNSET
    value: Number | UnsetType = UNSET
    at: EventTime | UnsetType | None = UNSET


class RewardReplay(Struct, frozen=True, forbid_unknown_fields=True):
    """Brings a rejected entry back, as it was or mended; say why, and what was mended.

    Attributes:
        event: What is mended: any of `decision`, `value` and `at`.
    """

    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    actor: Annotated[str, Meta(min_length=1, max_length=200)] = "operator"
    event: MendedReward | None = None


class BanditDescription(Struct, frozen=True):
    """Everything about a bandit.

    Attributes:
        explore: Its way of exploring.
        refusal: Why its choices are of no use off-policy; `null` where their propensities are exact.
        arms: Those offered first, then those that are retired.
        history: The last changes of the arms, the oldest first.
        waiting: Choices that wait for their reward.
    """

    name: str
    explore: str
    refusal: str | None
    arms: list[ArmState]
    history: list[ArmChange]
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
        self._replay = Decoder(RewardReplay)

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

    async def rejects(self, call: Call) -> Answer:
        """The entries that the learner set aside, each with its reason and what it held."""
        await self._now(call.path["bandit"])
        return await rejects.listed(self._api, call, partition_of(call.path["bandit"]), _SHOWN)

    async def replay(self, call: Call) -> Answer:
        """Brings an entry that was set aside back, as it was or mended: the learner takes it as if it came now."""
        await self._now(call.path["bandit"])
        order, partition = self._replay.decode(call.body), partition_of(call.path["bandit"])
        return await rejects.bring_back(self._api, partition, call.path["entry"], order.actor, order.event)

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
        listed: dict[str, Any] = {"problems": (*read["problems"], "invalid-request"), "query": (rejects.LIMIT,)}
        replay: dict[str, Any] = {"problems": (*write["problems"], "unknown-entry"), "request": RewardReplay}
        replay["example"] = {"reason": "the id was cut off", "event": {"decision": "visit-1"}}
        again = f"{base}/rejects/{{entry}}/replay"
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
            Operation(
                "GET", f"{base}/rejects", "List rejected entries", self.rejects, RejectsAnswer, **listed, scope="read"
            ),
            Operation("POST", again, "Bring an entry back", self.replay, WriteAnswer, **replay, scope="operate"),
        ]
        return [operation.tagged("bandits") for operation in operations]


def _described(served: ServedBandit) -> BanditDescription:
    learner = served.learner
    offered = learner.bandit.arms
    return BanditDescription(
        name=learner.spec.name,
        explore=learner.spec.explore_by,
        refusal=learner.spec.explore.refusal(len(offered)),
        arms=[_arm(name, name in offered, learner.earned) for name in (*offered, *learner.bandit.retired)],
        history=[ArmChange(one.arm, one.offered, one.actor, one.reason, one.at) for one in learner.history],
        rewards=learner.learned,
        waiting=learner.pending,
        rejected=learner.place.rejected,
        entry=str(served.cursor),
    )


def _arm(name: str, offered: bool, earned: Mapping[str, Earned]) -> ArmState:
    found = earned.get(name, Earned())
    return ArmState(name, offered, found.rewards, found.mean, found.value, found.effective)
