"""Which of the policies met during training is kept: the best by exact value, or by simulation on common chance."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents import baselines
from agents.evaluate import MAX_PAIRS, simulate
from agents.policy import Array, Mask, Observation, Policy, greedy, sample_factors, sample_rows, softmax
from agents.ranges import Conditioned, Family
from agents.shaping import Shaping, shaping
from envs import exact
from envs.dynamics import World
from envs.tabulate import StateSpaceTooLarge

Logits = Callable[[Observation], NDArray[np.float32]]
# Worlds drawn from the ranges on which checkpoints are compared; the held-out ones of an evaluation are others.
DRAWS = 12
EPISODES = 1000
PERIODS = 200
# Copies of each drawn world where checkpoints are compared by simulation.
COPIES = 128
WARM_UP = 100
# Simulated periods, over all copies, where shaped rewards tell policies apart.
SHAPED_STEPS = 100_000
MET_EPISODES = 64
# Of an unending world with more states, a poor policy takes seconds to evaluate exactly, in each world drawn.
SLOW_STATES = 1000


@dataclass(frozen=True)
class Score:
    """What a checkpoint is worth.

    Args:
        value: its mean value.
        gap: to the optimum in percent, where that is known.
        temperature: at which it was measured.
        gap_greedy: gap of the arg-max.
        error: standard error of the value where it was simulated by shaped rewards.
    """

    value: float
    gap: float | None
    temperature: float
    gap_greedy: float | None = None
    error: float = 0.0

    @property
    def known(self) -> bool:
        """Whether it is a number: what diverged is not."""
        return math.isfinite(self.value) and (self.gap is None or math.isfinite(self.gap))

    def beats(self, other: "Score | None") -> bool:
        """Whether it is to be kept instead of the other, which is older.

        Between values that cannot be told apart the newer one is kept: the best of many noisy ones is mostly luck.
        What is not known is never kept.
        """
        if not self.known:
            return False
        if other is None or not other.known:
            return True
        if self.gap is not None and other.gap is not None:
            return self.gap < other.gap
        return self.value > other.value - self.error


@dataclass(frozen=True)
class _Network:
    """Logits as a policy; a temperature of 0 is the arg-max."""

    logits: Logits
    temperature: float
    factors: int
    kind: str = "network"

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        output = self.logits(np.asarray(observation, np.float32))
        if self.temperature > 0:
            return softmax(output, allowed, self.temperature, self.factors)
        return greedy(output, allowed, self.factors)


class Selection:
    """Compares checkpoints in the worlds that they are trained for.

    Args:
        family: one world, or ranges from which a few are drawn.
        seed: of those draws, and of simulated episodes.
    """

    def __init__(self, family: Family, seed: int) -> None:
        rng = np.random.default_rng([seed, 2])
        rows = family.draw(DRAWS if family.ranges else 1, rng)
        self.seed, self.family, self.rows = seed, family, rows
        self.worlds = [(family.member(values), values) for values in rows]
        self.factors = len(family.world.actions.nvec)
        self.optima = _optima([world for world, _ in self.worlds])
        self.shaping = shaping(family) if self.optima is None else None
        self.quick = not (family.ranges and family.world.horizon is None) or _size(family.world) <= SLOW_STATES

    def score(self, logits: Logits, temperature: float) -> Score:
        """The mean value at this temperature, and the gap where the optimum is known: exact, or on common chance."""
        if self.shaping is not None:
            policy = Conditioned(_Network(logits, temperature, self.factors), self.rows[0])
            value, error = self._shaped(policy, self.shaping)
            return Score(value, None, temperature, error=error)
        values = self._values(logits, temperature) if self.quick else self._simulated(logits, temperature)
        return Score(float(np.mean(values)), self._gap(values), temperature)

    def best(self, logits: Logits, temperatures: tuple[float, ...]) -> Score:
        """The score at the best of these temperatures, exact where it can be, with the gap of the arg-max beside it."""
        best = self.score(logits, temperatures[0])
        for temperature in temperatures[1:]:
            score = self.score(logits, temperature)
            best = score if score.beats(best) else best
        if self.shaping is not None:
            return best
        values, arg_max = self._values(logits, best.temperature), self._values(logits, 0.0)
        return Score(float(np.mean(values)), self._gap(values), best.temperature, self._gap(arg_max))

    def _values(self, logits: Logits, temperature: float) -> list[float]:
        return [self._value(logits, temperature, *pair) for pair in self.worlds]

    def _simulated(self, logits: Logits, temperature: float) -> list[float]:
        """Average expected rewards in all drawn worlds at once, side by side, always on the same chance."""
        rows = np.repeat(self.rows, COPIES, axis=0)
        world, policy = self.family.members(rows), _Network(logits, temperature, self.factors)
        chance_rng, action_rng = (np.random.default_rng([self.seed, 4, stream]) for stream in (0, 1))
        state, total = world.initial(len(rows), chance_rng), np.zeros(len(rows))
        for period in range(WARM_UP + PERIODS):
            p = policy.probabilities(self.family.observe(world, state, rows), np.array(world.allowed(state)))
            action = sample_rows(p, action_rng.random(len(rows)))
            if period >= WARM_UP:
                total += world.expected_reward(state, action)
            state = world.step(state, action, world.draw(len(rows), chance_rng))[0]
        return [float(value) for value in total.reshape(len(self.rows), COPIES).mean(axis=1) / PERIODS]

    def _gap(self, values: list[float]) -> float | None:
        """Mean gap in percent of the optimum; there is none to an optimum of 0."""
        if self.optima is None or not all(self.optima):
            return None
        pairs = zip(values, self.optima, strict=True)
        return 100 * float(np.mean([(optimum - value) / abs(optimum) for value, optimum in pairs]))

    def _value(self, logits: Logits, temperature: float, world: World, values: Array) -> float:
        policy = Conditioned(_Network(logits, temperature, self.factors), values)
        if self.optima is not None:
            states = exact.states(world)
            return exact.policy_value(
                world, policy.probabilities(world.observe(states), np.array(world.allowed(states)))
            )
        return simulate(policy, world, EPISODES, self.seed, PERIODS).value

    def _shaped(self, policy: Policy, shaping: Shaping) -> tuple[float, float]:
        """Value and standard error by expected shaped rewards, less noisy than rewards, always on the same chance."""
        world, ends = self.family.world, self.family.world.horizon
        chance_rng, action_rng = (np.random.default_rng([self.seed, 4, stream]) for stream in (0, 1))
        periods = ends or WARM_UP + PERIODS
        n = max(2, SHAPED_STEPS // periods)
        state, running = world.initial(n, chance_rng), np.ones(n, bool)
        total = shaping.potential(state) if ends else np.zeros(n)
        for period in range(periods):
            p = policy.probabilities(world.observe(state), np.array(world.allowed(state)))
            u = action_rng.random((n, self.factors))
            action = sample_factors(p, u) if self.factors > 1 else sample_rows(p, u[:, 0])
            if ends or period >= WARM_UP:
                total += np.where(running, shaping.reward(state, action, 1.0), 0.0)
            following, _, over = world.step(state, action, world.draw(n, chance_rng))
            state = np.where(running[:, None], following, state)
            running &= ~over
        values = total if ends else shaping.level + total / PERIODS
        return float(values.mean()), float(values.std(ddof=1)) / n**0.5


def _size(world: World) -> int:
    """The number of states, 0 where they cannot be listed."""
    states = starts_of(world)
    return 0 if states is None else len(states)


def _optima(worlds: list[World]) -> list[float] | None:
    """Exact optima, or None where they are out of reach."""
    first = worlds[0]
    if len(first.actions.nvec) != 1 or not hasattr(first, "branches"):
        return None
    try:
        if len(exact.states(first)) * first.actions.n > MAX_PAIRS:
            return None
        return [exact.solve(world).value for world in worlds]
    except StateSpaceTooLarge:
        return None


def starts_of(world: World) -> Array | None:
    """All states, to start episodes from, or None where there are too many."""
    if not hasattr(world, "branches"):
        return None
    try:
        states = exact.states(world)
    except StateSpaceTooLarge:
        return None
    return states if len(states) * sum(world.actions.nvec) <= MAX_PAIRS else None


def met(world: World, seed: int) -> Array | None:
    """States (m, s) of a season that its usual baseline meets, where those of all periods are too many to list."""
    if world.horizon is None or not world.actions.nvec or world.id not in baselines.BASELINES:
        return None
    policy = baselines.make(baselines.BASELINES[world.id][0], world)
    rng = np.random.default_rng([seed, 6])
    state, factors = world.initial(MET_EPISODES, rng), len(world.actions.nvec)
    seen = []
    for _ in range(world.horizon):
        seen.append(state)
        p = policy.probabilities(world.observe(state), np.array(world.allowed(state)))
        action = p.reshape(len(p), factors, -1).argmax(axis=2)
        state, _, over = world.step(state, action if factors > 1 else action[:, 0], world.draw(len(state), rng))
        state = state[~over]
        if not len(state):
            break
    return np.concatenate(seen)
