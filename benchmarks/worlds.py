"""Steps per second of the worlds, as ratios to a bare NumPy loop of the same chance and to a plain Python environment.

    python benchmarks/worlds.py [--json] [--copies 1024]

For pricing, maintenance and inventory, at n copies, best of several runs of one process:
bare: uniforms, inverse CDF, state, reward, and nothing else, with one action; dynamics: `draw`, `step`, `observe`, and
starting ended rows again; vector: `WorldVectorEnv`; sb3: the adapter that training uses, where SB3 is installed;
plain: the same world as one ordinary Python environment. Exits with 1 where a floor is missed.
"""

import argparse
import bisect
import json
import random
import sys
import time
from collections.abc import Callable

import numpy as np

from envs import worlds
from envs.demand import poisson_cdf
from envs.dynamics import World
from envs.env import WorldVectorEnv

FLOORS = {"dynamics / bare": 0.25, "sb3 / bare": 0.15, "vector / plain": 30.0, "vector": 1e6, "sb3": 1e6}
RUNS = 7
SECONDS = 0.25


def per_second(step: Callable[[], object], copies: int) -> float:
    """Best rate of several short runs."""
    step()
    rates = []
    for _ in range(RUNS):
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            for _ in range(10):
                step()
            done += 10
        rates.append(done * copies / (time.perf_counter() - start))
    return max(rates)


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


class PlainPricing:
    """One copy in ordinary Python, as one would write a first environment."""

    def __init__(self) -> None:
        self.random = random.Random(0)
        self.prices = [0.5 * 8 ** (i / 40) for i in range(41)]
        self.reset()

    def reset(self) -> np.ndarray:
        self.stock, self.period = 20, 0
        return np.array([self.stock, self.period], np.float32)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, int]]:
        price = self.prices[action]
        limit, demand, product = np.exp(-np.e * np.exp(-price)), 0, self.random.random()
        while product > limit:
            demand, product = demand + 1, product * self.random.random()
        sold = min(demand, self.stock)
        self.stock, self.period = self.stock - sold, self.period + 1
        over = self.stock == 0 or self.period == 50
        return np.array([self.stock, self.period], np.float32), price * sold, over, False, {"sold": sold}


class PlainMaintenance:
    def __init__(self) -> None:
        self.random = random.Random(0)
        self.wear = [0.10, 0.15, 0.20, 0.25]
        self.sets = [(), (0,), (1,), (2,), (3,), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        self.reset()

    def reset(self) -> np.ndarray:
        self.levels = [0, 0, 0, 0]
        return np.array(self.levels, np.float32)

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
            u = self.random.random()
            moved = (u < self.wear[i]) + (u < 0.2 * self.wear[i])
            self.levels[i] = min(4, self.levels[i] + moved)
        return np.array(self.levels, np.float32), -cost, False, False, {}


class PlainInventory:
    def __init__(self) -> None:
        self.random = random.Random(0)
        self.cdf = poisson_cdf(np.arange(40), 5.0).tolist()
        self.reset()

    def reset(self) -> np.ndarray:
        self.on_hand, self.pipeline = 5, [5, 5, 5]
        return np.array([self.on_hand, *self.pipeline], np.float32)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, int]]:
        demand = bisect.bisect_right(self.cdf, self.random.random())
        left, lost = max(self.on_hand - demand, 0), max(demand - self.on_hand, 0)
        self.pipeline.append(action)
        self.on_hand = left + self.pipeline.pop(0)
        return np.array([self.on_hand, *self.pipeline], np.float32), -(left + 19.0 * lost), False, False, {}


def plain(env: "PlainPricing | PlainMaintenance | PlainInventory", actions: list[int]) -> Callable[[], object]:
    def step() -> None:
        for action in actions:
            if env.step(action)[2]:
                env.reset()

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
    rates = {
        "plain": per_second(plain(single(), actions[:100].tolist()), 100),
        "bare": per_second(bare(n), n),
        "dynamics": per_second(dynamics(world, n, actions), n),
        "vector": per_second(vector(world, n, actions), n),
    }
    adapter = sb3(world, n, actions)
    if adapter is not None:
        rates["sb3"] = per_second(adapter, n)
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
