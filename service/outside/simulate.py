"""The outside world as an ordinary HTTP client: it asks for decisions, lives with them, and reports what came of it.

The service never sees the hidden parameters, and the client knows no more of the service than its public API.
"""

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.outside.client import Client, ServiceError, Stop, Stopped
from service.outside.episodes import (
    FIXED,
    ORACLE,
    RIVALS,
    Account,
    Episode,
    Outside,
    Regime,
    Timeline,
    changed,
    hidden_world,
    regime,
)

_BATCH = 500


def fresh_run() -> str:
    """A name that no run had before."""
    return f"sim-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Plan:
    """What to play.

    Attributes:
        params: Hidden parameters where they differ from those that the point declares.
        shifts: Changes of them, each from a number of decisions on.
        decisions: How many to ask for; `None` goes on until asked to stop.
        delay: An outcome is told when its entity has decided this many times more.
        loss, dup: Probability that an outcome is never told, or told twice.
        rate: Decisions per second at most.
        model: A model that gets each context, action and outcome as one labelled event.
        run: Prefix of all ids. The same run with the same seed asks again what it asked before.
        patience_s: How long to try again while the service does not answer.
        every_s: Seconds between reports of progress.
    """

    point: str
    url: str = "http://127.0.0.1:8080"
    params: Mapping[str, Any] = field(default_factory=dict)
    shifts: Sequence[tuple[int, Mapping[str, Any]]] = ()
    entities: int = 1
    decisions: int | None = 2000
    delay: int = 0
    loss: float = 0.0
    dup: float = 0.0
    rate: float | None = None
    seed: int = 0
    model: str | None = None
    run: str = field(default_factory=fresh_run)
    patience_s: float = 120.0
    every_s: float = 5.0


@dataclass(frozen=True)
class Progress:
    """Where a simulation stands, in all and since the last report; `news` are parameters that hold from now on."""

    decisions: int
    rate: float
    total: Account
    recent: Account
    news: Regime | None = None


@dataclass(frozen=True)
class Ended:
    """An episode that is over: how many decisions its entity made before it, and what each rival would have earned."""

    episode: Episode
    began: int
    rivals: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        total: Every finished episode.
        timeline: The same by stretches of decisions: the first decision of each, and its account.
        regimes: The parameters that held, each with its episodes that saw no change.
        outcomes: How many were sent, lost, doubled and refused, on purpose or not.
        retries: Requests that had to be repeated.
        stopped: Whether somebody asked to stop before the end.
    """

    plan: Plan
    decisions: int
    seconds: float
    total: Account
    timeline: Sequence[tuple[int, Account]]
    regimes: Sequence[tuple[Regime, Account]]
    outcomes: Mapping[str, int]
    retries: int
    stopped: bool

    def summary(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "point": self.plan.point,
            "run": self.plan.run,
            "seed": self.plan.seed,
            "decisions": self.decisions,
            "seconds": round(self.seconds, 3),
            **_figures(self.total),
            "regimes": [
                {
                    "since": held.since,
                    "changes": dict(held.changes),
                    "exact": {FIXED: held.fixed_value, ORACLE: held.oracle_value},
                    "fixed_action": held.fixed_action,
                    **_figures(account),
                }
                for held, account in self.regimes
            ],
            "timeline": [
                {"since": since, "episodes": account.episodes, "shares": {name: account.share(name) for name in RIVALS}}
                for since, account in self.timeline
            ],
            "outcomes": dict(self.outcomes),
            "retries": self.retries,
            "stopped": self.stopped,
        }


def _figures(account: Account) -> dict[str, Any]:
    return {
        "episodes": account.episodes,
        "earned": account.earned,
        "per_episode": account.per_episode(),
        "rivals": {
            name: {
                "earned": account.rivals[name],
                "per_episode": account.per_episode(name),
                "share": account.share(name),
            }
            for name in RIVALS
        },
    }


async def simulate(
    plan: Plan, report: Callable[[Progress], None], stop: Stop, ended: Callable[[Ended], None] | None = None
) -> Result:
    """Play a plan against a running service; `ended` hears of each episode.

    Raises:
        ServiceError: The service has no such point, refuses, or does not answer for longer than the plan's patience.
        ParamsError: The hidden parameters make no world with the point's actions.
        StateSpaceTooLarge: The world has no oracle within reach.
    """
    client = Client(plan.url, plan.patience_s, stop)
    try:
        point = await client.get(f"/v1/points/{plan.point}")
        play = _Play(plan, client, stop, report, point.get("key") is not None, _outside(plan, point), ended)
        with suppress(Stopped):
            await play.run()
        return play.result()
    finally:
        await client.close()


def _outside(plan: Plan, point: Mapping[str, Any]) -> Outside:
    world = hidden_world(point["world"], point["params"], point["ranges"], plan.params)
    regimes = [regime(world)]
    for since, changes in sorted(plan.shifts, key=lambda shift: shift[0]):
        world = changed(world, changes)
        regimes.append(regime(world, since, changes))
    return Outside(regimes, plan.entities, plan.seed)


@dataclass(frozen=True)
class _Outcome:
    """What a decision led to, and in which round to tell it."""

    due: int
    decision: str
    key: str | None
    fields: Mapping[str, float]
    features: Mapping[str, float]


@dataclass
class _Play:
    """A simulation under way. One round is one decision of every entity."""

    plan: Plan
    client: Client
    stop: Stop
    report: Callable[[Progress], None]
    keyed: bool
    outside: Outside
    ended: Callable[[Ended], None] | None = None
    decisions: int = 0
    rounds: int = 0
    total: Account = field(default_factory=Account)
    recent: Account = field(default_factory=Account)
    steady: dict[int, Account] = field(default_factory=dict)
    waiting: deque[_Outcome] = field(default_factory=deque)
    counts: Counter[str] = field(default_factory=lambda: Counter(sent=0, lost=0, doubled=0, refused=0))

    def __post_init__(self) -> None:
        self._began = self._reported = time.monotonic()
        self._counted = 0
        self._mishaps = np.random.default_rng([self.plan.seed, 1 << 32])
        self.timeline = Timeline(self.plan.entities * (self.outside.regimes[0].world.horizon or self.outside.length))

    async def run(self) -> None:
        """Play until enough was decided or somebody asks to stop; tell what is still to be told."""
        while not self.stop.asked and (self.plan.decisions is None or self.decisions < self.plan.decisions):
            await self._round()
            self._announce()
            await self.stop.sleep(self._ahead())
        await self._tell(self.waiting)

    async def _round(self) -> None:
        entities = range(len(self.outside.episodes))
        contexts = self.outside.observe()
        ids = [f"{self._name(episode)}-{len(episode.regimes)}" for episode in self.outside.episodes]
        answers = await asyncio.gather(*(self._decide(ids[i], contexts[i], self.outside.episodes[i]) for i in entities))
        regimes = [self._regime(self.decisions + i) for i in entities]
        fields, ended = self.outside.step([answer["index"] for answer in answers], regimes)
        for i, answer in enumerate(answers):
            action = answer["action"] if isinstance(answer["action"], int | float) else answer["index"]
            features = {**contexts[i], self.outside.action_name: action}
            self._owe(_Outcome(self.rounds + self.plan.delay, ids[i], self._key(i), fields[i], features))
        self.decisions += len(answers)
        await self._tell([self.waiting.popleft() for _ in range(self._due())])
        self.rounds += 1
        for episode in ended:
            self._enter(episode)

    def _name(self, episode: Episode) -> str:
        return f"{self.plan.run}-{episode.entity}-{episode.number}"

    def _key(self, entity: int) -> str | None:
        return f"{self.plan.run}-{entity}" if self.keyed else None

    def _regime(self, decision: int) -> int:
        """Index of the regime in force at a decision."""
        return sum(held.since <= decision for held in self.outside.regimes[1:])

    async def _decide(self, decision: str, context: Mapping[str, float], episode: Episode) -> Mapping[str, Any]:
        body = {"id": decision, "episode": self._name(episode), "context": context}
        if (key := self._key(episode.entity)) is not None:
            body["key"] = key
        answer: Mapping[str, Any] = await self.client.post(f"/v1/decisions/{self.plan.point}", body)
        return answer

    def _owe(self, outcome: _Outcome) -> None:
        if self._mishaps.random() < self.plan.loss:
            self.counts["lost"] += 1
            return
        self.waiting.append(outcome)
        if self._mishaps.random() < self.plan.dup:
            self.counts["doubled"] += 1
            self.waiting.append(outcome)

    def _due(self) -> int:
        """How many of those waiting are due; they wait in the order in which they fall due."""
        return sum(outcome.due <= self.rounds for outcome in self.waiting)

    async def _tell(self, outcomes: Iterable[_Outcome]) -> None:
        told = list(outcomes)
        for start in range(0, len(told), _BATCH):
            batch = told[start : start + _BATCH]
            lines = [_line(one, {"outcome_id": "1", "fields": one.fields}) for one in batch]
            await self._send(f"/v1/decisions/{self.plan.point}/outcomes", lines)
            if self.plan.model is not None:
                events = [{"id": one.decision, "features": one.features, "label": _label(one)} for one in batch]
                await self._send(f"/v1/models/{self.plan.model}/events", events)
            self.counts["sent"] += len(batch)

    async def _send(self, path: str, lines: Sequence[Mapping[str, Any]]) -> None:
        answer = await self.client.post_lines(path, lines)
        if refused := answer.get("rejected"):
            self.counts["refused"] += len(refused)
            if len(refused) == len(lines):
                raise ServiceError(f"{path} refuses every line, the first because {refused[0]['reason']}")

    def _enter(self, episode: Episode) -> None:
        rivals = self.outside.rivals(episode)
        accounts = [self.total, self.recent]
        if episode.regime is not None:
            accounts.append(self.steady.setdefault(episode.regime, Account()))
        for account in accounts:
            account.add(episode, rivals)
        self.timeline.add(self.decisions - 1, episode, rivals)
        if self.ended is not None:
            self.ended(Ended(episode, self.rounds - len(episode.regimes), rivals))

    def _announce(self) -> None:
        """Report a change of the parameters at once, and progress now and then."""
        before, now = self._regime(max(self._counted - 1, 0)), self._regime(self.decisions - 1)
        news = self.outside.regimes[now] if now != before else None
        moment = time.monotonic()
        if news is None and moment - self._reported < self.plan.every_s:
            return
        rate = (self.decisions - self._counted) / max(moment - self._reported, 1e-9)
        self.report(Progress(self.decisions, rate, self.total, self.recent, news))
        self.recent, self._reported, self._counted = Account(), moment, self.decisions

    def _ahead(self) -> float:
        """Seconds to wait so that the rate is kept."""
        if self.plan.rate is None:
            return 0.0
        return self._began + self.decisions / self.plan.rate - time.monotonic()

    def result(self) -> Result:
        """What came of it so far."""
        regimes = [(held, self.steady.get(i, Account())) for i, held in enumerate(self.outside.regimes)]
        return Result(
            plan=self.plan,
            decisions=self.decisions,
            seconds=time.monotonic() - self._began,
            total=self.total,
            timeline=self.timeline.rows(),
            regimes=regimes[: self._regime(max(self.decisions - 1, 0)) + 1],
            outcomes=dict(self.counts),
            retries=self.client.retries,
            stopped=self.stop.asked,
        )


def _line(outcome: _Outcome, told: Mapping[str, Any]) -> dict[str, Any]:
    keyed = {} if outcome.key is None else {"key": outcome.key}
    return {"id": outcome.decision, **keyed, **told}


def _label(outcome: _Outcome) -> float:
    """The first thing that an outcome tells, which for every world is what was asked for by the customers."""
    return next(iter(outcome.fields.values()))
