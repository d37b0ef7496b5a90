"""What a point believes of its world, and the history of its adaptation: every stage with its reasons."""

import asyncio

from msgspec import Struct

from online.events import Drifted
from service.adapt import Entry
from service.deciding.beliefs import Belief, Odds
from service.deciding.exploring import DECISIONS, Exploring, exploring
from service.deciding.records import Records, attention
from service.deciding.store import Store
from service.http.api import Api
from service.http.operations import Answer, Call, Operation, reply
from service.http.problems import Kind

_KEYS = 200
_ENTRIES = 500


class ParameterBelief(Struct, frozen=True):
    """One parameter: what is believed, and for which values policies were trained.

    Attributes:
        nominal: What the point declares; `None` for a list.
        trained: The declared range; `None` where the parameter was not to vary.
        outside: Chance that it lies outside that range.
    """

    name: str
    mid: float
    low: float
    high: float
    nominal: float | None
    trained: tuple[float, float] | None
    outside: float


class Believed(Struct, frozen=True):
    """What was believed of the parameters at one moment: medians and the ends of the 95 % intervals."""

    at: float
    values: dict[str, float]
    lower: dict[str, float]
    upper: dict[str, float]


class BeliefsAnswer(Struct, frozen=True):
    """What is believed of a point's world now.

    Attributes:
        parameters: Over all keys together; empty where nothing is estimated.
        keys: What is believed of single keys, the first 200 by name, of `known` in all.
        outcomes: From how many outcomes this was learned.
        absurd: Share of the recent outcomes that no parameters explain.
        shortfall: By how much rewards lie below what the world expects, as a share of it, and in standard errors.
        misfit: How far they lie from it by groups of actions, as a share of it, and in standard normal terms.
        past: What this process has seen of it, the oldest first, thinned as it grows.
        alarms: Changes that were noticed, the newest first, with what was believed before and after.
        odds: What groups of outcomes ask for by themselves, where all should ask for the same parameters.
    """

    point: str
    parameters: list[ParameterBelief]
    keys: dict[str, Belief]
    known: int
    outcomes: int
    absurd: float
    shortfall: tuple[float, float]
    misfit: tuple[float, float]
    past: list[Believed]
    alarms: list[Drifted]
    odds: list[Odds] = []


class ExplorationAnswer(Struct, frozen=True):
    """What a point's exploration costs and teaches under the policy that serves.

    Attributes:
        decisions: After so many decisions parameters are known as well as said.
        exploring: `None` where outcomes tell nothing of the world's parameters.
    """

    point: str
    decisions: int
    exploring: Exploring | None


class AdaptationAnswer(Struct, frozen=True):
    """Where the loop of a point stands, and how it got there, the newest first.

    Attributes:
        since: When the stage began.
        cycle: How many cycles have begun.
        paused: Who holds it, or that outcomes are missing; empty where it runs.
        attention: Why a person is needed; empty where nobody is.
    """

    point: str
    stage: str
    since: float
    cycle: int
    reasons: list[str]
    paused: str
    candidate: str | None
    entries: list[Entry]
    attention: str = ""


class Beliefs:
    """The handlers that show what a point thinks."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._records: dict[str, Records] = {}

    async def beliefs(self, call: Call) -> Answer:
        """What outcomes have taught about a point's world, with intervals, beside the range that policies know."""
        point = self._api.point(call.path["point"]).point
        state = self._api.serving.now.states.get(point.name)
        found = None if state is None else state.beliefs
        if state is None or found is None or found.pooled is None:
            return reply(BeliefsAnswer(point.name, [], {}, 0, 0, 0.0, (0.0, 0.0), (0.0, 0.0), [], []))
        pooled = found.pooled

        def parameter(name: str) -> ParameterBelief:
            nominal, mid = point.spec.params.get(name), pooled.values[name]
            value = float(nominal) if isinstance(nominal, int | float) else None
            interval = (pooled.lower[name], pooled.upper[name])
            return ParameterBelief(
                name, mid, *interval, value, point.spec.ranges.get(name), pooled.outside.get(name, 0.0)
            )

        return reply(
            BeliefsAnswer(
                point=point.name,
                parameters=[parameter(name) for name in pooled.values],
                keys={key: found.own[key] for key in sorted(found.own)[:_KEYS]},
                known=len(found.own),
                outcomes=found.heard,
                absurd=pooled.absurd,
                shortfall=found.fit.shortfall,
                misfit=found.fit.misfit,
                past=[Believed(at, one.values, one.lower, one.upper) for at, one in state.past],
                alarms=found.alarms[::-1],
                odds=found.odds,
            )
        )

    async def exploration(self, call: Call) -> Answer:
        """What exploration costs, how well parameters are known with it, without it, and where it would teach most."""
        served = self._api.point(call.path["point"])
        believed = served.believed(served.incumbent, None) or {}
        found = await asyncio.to_thread(exploring, served.point, served.incumbent, believed)
        return reply(ExplorationAnswer(served.point.name, DECISIONS, found))

    async def adaptation(self, call: Call) -> Answer:
        """Where the point's loop stands, and every stage that it went through, each with its reasons."""
        name = self._api.point(call.path["point"]).point.name

        def look(store: Store) -> AdaptationAnswer:
            records = self._records.setdefault(name, Records(store.log, name))
            state = records.follow()
            paused = state.held or ("no outcomes come" if state.silent else "")
            return AdaptationAnswer(
                point=name,
                stage=state.stage,
                since=state.since,
                cycle=state.cycle,
                reasons=list(state.reasons),
                paused=paused,
                candidate=state.candidate,
                entries=records.history[::-1][:_ENTRIES],
                attention=attention(state),
            )

        return reply(await self._api.store.ask(look))

    def operations(self) -> list[Operation]:
        """What can be asked about a point's mind."""
        known: tuple[Kind, ...] = ("unknown-point",)
        stored: tuple[Kind, ...] = ("unknown-point", "unavailable")
        base = "/v1/points/{point}"
        operations = [
            Operation(
                "GET", f"{base}/beliefs", "What is believed", self.beliefs, BeliefsAnswer, problems=known, scope="read"
            ),
            Operation(
                "GET",
                f"{base}/exploration",
                "What exploring costs",
                self.exploration,
                ExplorationAnswer,
                problems=known,
                scope="read",
            ),
            Operation(
                "GET",
                f"{base}/adaptation",
                "The loop",
                self.adaptation,
                AdaptationAnswer,
                problems=stored,
                scope="read",
            ),
        ]
        return [operation.tagged("points") for operation in operations]
