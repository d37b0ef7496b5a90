"""Steps per second of the worlds, as ratios to a bare NumPy loop of the same chance and to a plain Python environment.

    python benchmarks/worlds.py [--json] [--copies 1024]

For pricing, maintenance and inventory, at n copies, best of several runs of one process:
bare: uniforms, inverse CDF, state, reward, and nothing else, with one action; dynamics: `draw`, `step`, `observe`, and
starting ended rows again; vector: `WorldVectorEnv`; sb3: the adapter that training uses, where SB3 is installed;
plain: the same world and chance as one ordinary
`gymnasium.Env` in Python, in the wrappers of `gymnasium.make` (its checker off). Exits with 1 where a floor is missed.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from envs import worlds
from envs.demand import poisson_cdf
from envs.dynamics import World
from envs.env import WorldVectorEnv

FLOORS = {"dynamics / bare": 0.25, "sb3 / bare": 0.15, "vector / plain": 30.0, "vector": 1e6, "sb3": 1e6}
RUNS = 15
SECONDS = 0.1


def per_second(rungs: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """Best rate of several short runs of each rung, in turn, so that a busy spell hits all of them."""
    rates = dict.fromkeys(rungs, 0.0)
    for _ in range(RUNS):
        for name, (step, copies) in rungs.items():
            step()
            done, start = 0, time.perf_counter()
            while time.perf_counter() - start < SECONDS:
                for _ in range(5):
                    step()
                done += 5
            rates[name] = max(rates[name], done * copies / (time.perf_counter() - start))
    return rates


def bare_pricing(n: int) -> Callable[[], object]:
    rng, cdf = np.random.default_rng(0), poisson_cdf(np.arange(20), np.e * np.exp(-2.0))
    state = {"stock": np.full(n, 20.0), "period": np.zeros(n)}

    def step() -> object:
        demand = np.searchsorted(cdf, rng.random(n), side="right")
        sold = np.minimum(demand, state["stock"])
        reward = 2.0 * sold
        stock, period = state["stock"] - sold, state["period"] + 1.0
        over = (stock <= 0) | (period >= 50)
        state["stock"], state["period"] = np.where(over, 20.0, stock), np.where(over, 0.0, period)
        return reward

    return step


def bare_maintenance(n: int) -> Callable[[], object]:
    rng, wear = np.random.default_rng(0), np.array([0.10, 0.15, 0.20, 0.25])
    state = {"levels": np.zeros((n, 4))}

    def step() -> object:
        levels, u = state["levels"], rng.random((n, 4))
        failed = levels >= 4
        reward = -5.0 * failed.sum(axis=1)
        moved = (u < wear).astype(float) + (u < 0.2 * wear)
        # One fixed rule: what has failed is made new.
        state["levels"] = np.minimum(np.where(failed, 0.0, levels) + moved, 4.0)
        return reward

    return step


def bare_inventory(n: int) -> Callable[[], object]:
    rng, cdf = np.random.default_rng(0), poisson_cdf(np.arange(40), 5.0)
    state = {"x": np.full((n, 4), 5.0)}

    def step() -> object:
        x = state["x"]
        demand = np.searchsorted(cdf, rng.random(n), side="right")
        left, lost = np.maximum(x[:, 0] - demand, 0.0), np.maximum(demand - x[:, 0], 0.0)
        following = np.empty_like(x)
        following[:, 0], following[:, 1:3], following[:, 3] = left + x[:, 1], x[:, 2:], 4.0
        state["x"] = following
        return -(left + 19.0 * lost)

    return step


def poisson(u: float, rate: float) -> int:
    """Inverse CDF, one copy at a time: the same chance as the batch has."""
    demand, term = 0, math.exp(-rate)
    cumulative = term
    while u >= cumulative:
        demand += 1
        term *= rate / demand
        cumulative += term
    return demand


class PlainPricing(gymnasium.Env[np.ndarray, int]):
    """One copy in ordinary Python, as one would write a first environment."""

    def __init__(self) -> None:
        self.prices = np.geomspace(0.5, 2.0, 41)
        self.observation_space = gymnasium.spaces.Box(0.0, 50.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(41)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed, options=options)
        self.stock, self.period = 20, 0
        return np.array([self.stock, self.period], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, int]]:
        price = self.prices[action]
        demand = poisson(self.np_random.random(), math.e * math.exp(-price))
        sold = min(demand, self.stock)
        self.stock, self.period = self.stock - sold, self.period + 1
        over = self.stock == 0 or self.period == 50
        return np.array([self.stock, self.period], np.float32), price * sold, over, False, {"sold": sold}


class PlainMaintenance(gymnasium.Env[np.ndarray, int]):
    def __init__(self) -> None:
        self.wear = [0.10, 0.15, 0.20, 0.25]
        self.sets = [(), (0,), (1,), (2,), (3,), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        self.observation_space = gymnasium.spaces.Box(0.0, 4.0, (4,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(11)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed, options=options)
        self.levels = [0, 0, 0, 0]
        return np.array(self.levels, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, int]]:
        members = self.sets[action]
        cost = 2.0 if members else 0.0
        for i in range(4):
            failed = self.levels[i] == 4
            if i in members:
                cost += 4.0 if failed else 1.0
                self.levels[i] = 0
            elif failed:
                cost += 5.0
            u = self.np_random.random()
            moved = (u < self.wear[i]) + (u < 0.2 * self.wear[i])
            self.levels[i] = min(4, self.levels[i] + moved)
        return np.array(self.levels, np.float32), -cost, False, False, {}


class PlainInventory(gymnasium.Env[np.ndarray, int]):
    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, np.inf, (4,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(10)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed, options=options)
        self.on_hand, self.pipeline = 5, [5, 5, 5]
        return np.array([self.on_hand, *self.pipeline], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, int]]:
        demand = poisson(self.np_random.random(), 5.0)
        left, lost = max(self.on_hand - demand, 0), max(demand - self.on_hand, 0)
        self.pipeline.append(action)
        self.on_hand = left + self.pipeline.pop(0)
        return np.array([self.on_hand, *self.pipeline], np.float32), -(left + 19.0 * lost), False, False, {}


def plain(env: "gymnasium.Env[np.ndarray, int]", actions: list[int]) -> Callable[[], object]:
    made = gymnasium.wrappers.TimeLimit(gymnasium.wrappers.OrderEnforcing(env), 200)
    made.reset(seed=0)

    def step() -> None:
        for action in actions:
            _, _, terminated, truncated, _ = made.step(action)
            if terminated or truncated:
                made.reset()

    return step


def dynamics(world: World, n: int, actions: np.ndarray) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    held = {"state": world.initial(n, rng)}

    def step() -> object:
        state, reward, over = world.step(held["state"], actions, world.draw(n, rng))
        if over.any():
            rows = np.flatnonzero(over)
            state[rows] = world.initial(len(rows), rng)
        held["state"] = state
        return world.observe(state), reward

    return step


def vector(world: World, n: int, actions: np.ndarray) -> Callable[[], object]:
    env = WorldVectorEnv(world, num_envs=n)
    env.reset(seed=0)
    return lambda: env.step(actions)


def sb3(world: World, n: int, actions: np.ndarray) -> Callable[[], object] | None:
    try:
        from dataclasses import replace

        from agents.presets import preset
        from agents.ranges import Family
        from agents.vecenv import WorldVecEnv
    except ImportError:
        return None
    env = WorldVecEnv(Family(world, {}), replace(preset(world.id), copies=n), seed=0)
    env.reset()
    return lambda: env.step(actions)


CASES = {
    "pricing": (bare_pricing, PlainPricing),
    "maintenance": (bare_maintenance, PlainMaintenance),
    "inventory": (bare_inventory, PlainInventory),
}


def measure(name: str, n: int) -> dict[str, float]:
    """Rates of one world and their ratios."""
    world = worlds.make(name)
    bare, single = CASES[name]
    actions = np.random.default_rng(1).integers(0, world.actions.n, n)
    rungs = {
        "plain": (plain(single(), actions[:100].tolist()), 100),
        "bare": (bare(n), n),
        "dynamics": (dynamics(world, n, actions), n),
        "vector": (vector(world, n, actions), n),
    }
    adapter = sb3(world, n, actions)
    rates = per_second(rungs if adapter is None else {**rungs, "sb3": (adapter, n)})
    if adapter is not None:
        rates["sb3 / bare"] = rates["sb3"] / rates["bare"]
    return rates | {
        "dynamics / bare": rates["dynamics"] / rates["bare"],
        "vector / bare": rates["vector"] / rates["bare"],
        "vector / plain": rates["vector"] / rates["plain"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Steps per second of the worlds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--copies", type=int, default=1024)
    options = parser.parse_args()
    results = {name: measure(name, options.copies) for name in CASES}
    missed = [
        f"{name}: {what} is {rates[what]:.3g}, floor {floor:g}"
        for name, rates in results.items()
        for what, floor in FLOORS.items()
        if what in rates and rates[what] < floor
    ]
    if options.json:
        print(json.dumps({"copies": options.copies, "worlds": results, "missed": missed}))
    else:
        for name, rates in results.items():
            print(f"{name:12} " + "  ".join(f"{what} {rate:,.3g}" for what, rate in rates.items()))
        print("\n".join(missed) or "all floors kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
