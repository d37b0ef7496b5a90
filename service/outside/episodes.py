"""The world outside: episodes under hidden parameters, and what others would have earned with the same chance.

No service in here. Each episode of each entity has a stream of chance of its own, so that the served policy and every
rival meet the same customers (common random numbers) however differently they act.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs import exact, worlds
from envs.dynamics import ParamsError, State, World
from envs.parsing import read

Floats = NDArray[np.float64]
Actions = NDArray[np.int64]
Params = Mapping[str, Any]
Ranges = Mapping[str, tuple[float, float]]
Rule = Callable[[NDArray[np.float32]], Actions]

FIXED, FROZEN, ORACLE = "best-fixed", "frozen", "oracle"
RIVALS = (FIXED, FROZEN, ORACLE)


@dataclass(frozen=True)
class Regime:
    """Parameters that hold from a decision on, and who knows them.

    Attributes:
        since: Number of the first decision, over all entities.
        changes: What differs from the regime before.
        oracle: The exact optimum for these parameters.
        oracle_value, fixed_value: Exact values of an episode, of a period where the world never ends.
        fixed: Index of the best action for these parameters among those who always take the same.
    """

    since: int
    changes: Params
    world: World
    oracle: Rule = field(repr=False)
    oracle_value: float
    fixed: int
    fixed_value: float

    @property
    def fixed_action(self) -> Any:
        """The physical value of the best fixed action."""
        return _physical(self.world)[self.fixed].tolist()


def hidden_world(world_id: str, declared: Params, ranges: Ranges, hidden: Params) -> World:
    """The world of hidden parameters on the action set that a point has declared.

    Raises:
        ParamsError: Parameters that make no world, or another set of actions.
    """
    nominal = worlds.make(world_id, declared, ranges)
    fixed = {name: value for name, value in hidden.items() if name not in nominal.tunable}
    world = worlds.make(world_id, {**declared, **fixed}, ranges) if fixed else nominal
    if not np.array_equal(_physical(world), _physical(nominal)):
        raise ParamsError(f"{', '.join(fixed)} would change the {world.actions.name} ladder, which is the point's")
    return changed(world, {name: value for name, value in hidden.items() if name in nominal.tunable})


def _physical(world: World) -> NDArray[Any]:
    """The value of each action."""
    values = world.actions.values
    return np.arange(world.actions.n) if values is None else values


def changed(world: World, changes: Params) -> World:
    """The same world with other parameters.

    Raises:
        ParamsError: A parameter that cannot change while the world runs, or a value that it cannot have.
    """
    if unknown := [name for name in changes if name not in world.tunable]:
        raise ParamsError(f"{unknown[0]!r} cannot change in {world.id}: give some of {', '.join(world.tunable)}")
    fields = {field.name: field for field in worlds.WORLDS[world.id].parameters}
    for name, value in changes.items():
        read(fields[name], value)
    return world.with_params(changes) if changes else world


def regime(world: World, since: int = 0, changes: Params | None = None) -> Regime:
    """The regime of these parameters, solved exactly.

    Raises:
        StateSpaceTooLarge: There is no exact answer within reach.
    """
    solution = exact.solve(world)
    states = exact.states(world)
    table = dict(zip(map(bytes, world.observe(states)), solution.actions.tolist(), strict=True))
    fixed, fixed_value = _best_fixed(world, states)

    def oracle(seen: NDArray[np.float32]) -> Actions:
        return np.array([table[bytes(row)] for row in seen], np.int64)

    return Regime(since, dict(changes or {}), world, oracle, solution.value, fixed, fixed_value)


def _best_fixed(world: World, states: State) -> tuple[int, float]:
    """The best of those actions that are allowed everywhere."""
    n = world.actions.n
    values = np.full(n, -np.inf)
    for action in np.flatnonzero(world.allowed(states).all(axis=0)):
        only = np.broadcast_to(np.arange(n) == action, (len(states), n)).astype(float)
        values[action] = exact.policy_value(world, only)
    best = int(np.argmax(values))
    return best, float(values[best])


@dataclass
class Episode:
    """One episode of one entity as it was served: which regime each period had, and what it earned."""

    entity: int
    number: int
    regimes: list[int] = field(default_factory=list)
    earned: float = 0.0

    @property
    def regime(self) -> int | None:
        """The regime of all its periods, `None` where it saw a change."""
        return self.regimes[0] if self.regimes[0] == self.regimes[-1] else None


def chance_of(seed: int, entity: int, number: int) -> np.random.Generator:
    """The chance of one episode, the same for whoever acts in it."""
    return np.random.default_rng([seed, entity, number])


class Outside:
    """Entities that live through one episode after another.

    `regimes` may grow while it runs; `now` says which of them each entity's next period belongs to.
    """

    def __init__(self, regimes: Sequence[Regime], entities: int, seed: int, length: int = 200) -> None:
        """Begin with new episodes; where a world never ends, an episode is `length` periods of it."""
        self.regimes = list(regimes)
        self.length = length
        self.seed = seed
        self.episodes = [Episode(entity, 0) for entity in range(entities)]
        self._chances = [chance_of(seed, entity, 0) for entity in range(entities)]
        self._state = np.concatenate([self._world.initial(1, rng) for rng in self._chances])

    @property
    def _world(self) -> World:
        return self.regimes[0].world

    @property
    def action_name(self) -> str:
        """What an action is, for instance `price`."""
        return self._world.actions.name

    def observe(self) -> list[dict[str, float]]:
        """What each entity shows of itself, by name."""
        names = [entry.name for entry in self._world.context]
        return [dict(zip(names, row, strict=True)) for row in self._world.observe(self._state).astype(float).tolist()]

    def step(self, actions: Sequence[int], regimes: Sequence[int]) -> tuple[list[dict[str, float]], list[Episode]]:
        """Live through one period; the outcome of each entity, and the episodes that ended."""
        fields: list[dict[str, float]] = []
        ended: list[Episode] = []
        for entity, (action, number) in enumerate(zip(actions, regimes, strict=True)):
            world, rng, episode = self.regimes[number].world, self._chances[entity], self.episodes[entity]
            state, taken, chance = self._state[entity : entity + 1], np.array([action]), world.draw(1, rng)
            told = world.outcome(state, taken, chance)
            # What a point takes, and no more: a shop does not see the demand that it lost.
            fields.append({one.name: float(told[one.name][0]) for one in world.outcomes})
            after, reward, terminated = world.step(state, taken, chance)
            episode.regimes.append(number)
            episode.earned += float(reward[0])
            if terminated[0] or self._is_over(len(episode.regimes)):
                ended.append(episode)
                self.episodes[entity] = Episode(entity, episode.number + 1)
                self._chances[entity] = chance_of(self.seed, entity, episode.number + 1)
                after = world.initial(1, self._chances[entity])
            self._state[entity] = after[0]
        return fields, ended

    def _is_over(self, periods: int) -> bool:
        return self._world.horizon is None and periods >= self.length

    def rivals(self, episode: Episode) -> dict[str, float]:
        """What each rival would have earned in an episode, its parameters changing when they did."""
        known = [self.regimes[number] for number in episode.regimes]
        first = known[0]
        rules: dict[str, Callable[[Regime], Rule]] = {
            FIXED: lambda _: lambda seen: np.full(len(seen), first.fixed),
            FROZEN: lambda _: self.regimes[0].oracle,
            ORACLE: lambda current: current.oracle,
        }
        return {name: self._play(episode, known, rule) for name, rule in rules.items()}

    def _play(self, episode: Episode, known: Sequence[Regime], rule: Callable[[Regime], Rule]) -> float:
        rng = chance_of(self.seed, episode.entity, episode.number)
        state, earned, period, over = self._world.initial(1, rng), 0.0, 0, False
        while not over:
            current = known[min(period, len(known) - 1)]
            world = current.world
            action = rule(current)(world.observe(state))
            state, reward, terminated = world.step(state, action, world.draw(1, rng))
            earned, period = earned + float(reward[0]), period + 1
            over = bool(terminated[0]) or self._is_over(period)
        return earned


@dataclass
class Account:
    """Sums over finished episodes: what was earned, and what each rival would have earned in them."""

    episodes: int = 0
    earned: float = 0.0
    rivals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(RIVALS, 0.0))

    def add(self, episode: Episode, rivals: Mapping[str, float]) -> None:
        """Enter one episode."""
        self.episodes += 1
        self.earned += episode.earned
        for name, value in rivals.items():
            self.rivals[name] += value

    def share(self, rival: str) -> float | None:
        """What was earned as a share of what the rival would have earned."""
        return self.earned / self.rivals[rival] if self.episodes and self.rivals[rival] else None

    def join(self, other: "Account") -> None:
        """Enter all episodes of another account."""
        self.episodes += other.episodes
        self.earned += other.earned
        for name, value in other.rivals.items():
            self.rivals[name] += value

    def per_episode(self, rival: str | None = None) -> float | None:
        """The mean of an episode."""
        total = self.earned if rival is None else self.rivals[rival]
        return total / self.episodes if self.episodes else None


@dataclass
class Timeline:
    """Accounts of consecutive stretches of decisions, all as long; an episode counts where it ends.

    Where they would be more than `most`, neighbours become one and stretches twice as long.
    """

    width: int
    most: int = 200
    accounts: list[Account] = field(default_factory=list)

    def add(self, decisions: int, episode: Episode, rivals: Mapping[str, float]) -> None:
        """Enter an episode that ended with that decision."""
        while decisions // self.width >= self.most:
            self._halve()
        while len(self.accounts) <= decisions // self.width:
            self.accounts.append(Account())
        self.accounts[decisions // self.width].add(episode, rivals)

    def _halve(self) -> None:
        pairs = [self.accounts[i : i + 2] for i in range(0, len(self.accounts), 2)]
        for first, *rest in pairs:
            for other in rest:
                first.join(other)
        self.accounts = [pair[0] for pair in pairs]
        self.width *= 2

    def rows(self) -> list[tuple[int, Account]]:
        """The first decision of each stretch in which episodes ended, with its account."""
        return [(i * self.width, account) for i, account in enumerate(self.accounts) if account.episodes]
