"""Rollback by outcomes: a bad candidate, forced past the offline gate, on a canary of `pricing`, in many seeded runs.

Each run is a shop of 40 articles, an oracle as incumbent, a candidate that earns 10 % less on a tenth of the episodes,
and a believed world whose parameters are off by a few per cent. After every round of decisions the test is asked, until
it says `worse`. Prints how many runs were rolled back before decision 10,000, and what share of the value was lost.

    python benchmarks/watch.py                     all cases
    python benchmarks/watch.py --case up --json    one case
    python benchmarks/watch.py --off               with the test switched off: must fail
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.watch import Expectations, Watched, WatchRule, watch_gate
from envs import exact, worlds
from envs.dynamics import World

ENTITIES, DECISIONS, SHARE, WORSE = 40, 10_000, 0.1, 0.1
LADDER = {"geometric": [0.1, 8.0, 41]}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Which candidate, in which world, under which belief.

    Args:
        candidate: (world) → (S, a) probabilities.
        off: standard deviation of the error of the believed parameters, in the log.
        bias: factor of the believed volume.
    """

    candidate: Callable[[World], Floats]
    off: float = 0.05
    bias: float = 1.0


def shifted(steps: int, loss: float) -> Callable[[World], Floats]:
    """The optimal prices, moved by so many steps of the ladder as often as it takes to lose that share of the value."""

    def make(world: World) -> Floats:
        solution = exact.solve(world)
        n = world.actions.n
        moved = np.eye(n)[np.clip(solution.actions + steps, 0, n - 1)]
        low, high = 0.0, 1.0
        if exact.policy_value(world, moved) > (1 - loss) * solution.value:
            raise ValueError(f"moving prices by {steps} steps does not lose {loss:.0%}: move them further")
        for _ in range(30):
            mid = (low + high) / 2
            table = mid * moved + (1 - mid) * solution.policy
            low, high = (low, mid) if exact.policy_value(world, table) < (1 - loss) * solution.value else (mid, high)
        return np.asarray(high * moved + (1 - high) * solution.policy)

    return make


def same(world: World) -> Floats:
    """The incumbent itself."""
    return exact.solve(world).policy


CASES = {
    "up": Case(shifted(8, WORSE)),
    "down": Case(shifted(-8, WORSE)),
    "same": Case(same),
    "same-wrong-world": Case(same, bias=1.4),
    "up-wrong-world": Case(shifted(8, WORSE), bias=1.4),
}


class Shop:
    """Forty articles under one incumbent and one candidate, and what the test gets to know of them."""

    def __init__(self, case: Case, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 7])
        self.world = worlds.make("pricing", {"prices": LADDER})
        error = np.exp(case.off * self.rng.standard_normal(2))
        believed = self.world.with_params(
            {"volume": np.e * error[0] * case.bias, "sensitivity": error[1]},
        )
        self.expected = Expectations.of(believed)
        self.policies = np.stack([same(self.world), case.candidate(self.world)])
        self.cumulative = np.cumsum(self.policies, axis=2)
        self.state = self.world.initial(ENTITIES, self.rng)
        self.unit = np.arange(ENTITIES)
        self.arm = list(self.rng.random(ENTITIES) < SHARE)
        self.sums = [[0.0, 0.0, 0.0] for _ in range(ENTITIES)]
        self.finished = [False] * ENTITIES

    def round(self, share: float) -> tuple[float, float]:
        """One decision of every article; what was earned, and what it cost that the candidate was there."""
        stock, period = self.state[:, 0].astype(int), self.state[:, 1].astype(int)
        places = period * (self.world.params.stock + 1) + stock
        arms = np.array(self.arm)[self.unit].astype(int)
        action = (self.cumulative[arms, places] < self.rng.random(ENTITIES)[:, None]).sum(axis=1)
        action = np.minimum(action, self.world.actions.n - 1)
        following, reward, over = self.world.step(self.state, action, self.world.draw(ENTITIES, self.rng))
        known = self.expected
        if known is None:
            raise RuntimeError("pricing can always be solved")
        before, after = known.places(self.state), known.places(following)
        ahead = np.where(over, 0.0, known.values[after])
        advantage = known.action_values[before, action] - known.values[before]
        luck = reward + ahead - known.action_values[before, action]
        for row in range(ENTITIES):
            entry = self.sums[self.unit[row]]
            entry[0] += reward[row]
            entry[1] += advantage[row]
            entry[2] += luck[row]
            if over[row]:
                self.finished[self.unit[row]] = True
                self.unit[row] = len(self.arm)
                self.arm.append(bool(self.rng.random() < share))
                self.sums.append([0.0, 0.0, 0.0])
                self.finished.append(False)
        following[over] = self.world.initial(int(over.sum()), self.rng)
        self.state = following
        return float(reward.sum()), float(arms.sum())

    def watched(self) -> Watched:
        """What the test gets to see."""
        sums = np.array(self.sums)
        return Watched(np.array(self.arm), sums[:, 0], sums[:, 1], sums[:, 2], np.array(self.finished), SHARE)


def run(case: Case, seed: int, off: bool, every: int = 5) -> tuple[int | None, float]:
    """The decision at which the candidate was taken back (`None`: never), and the share of value that it cost."""
    shop = Shop(case, seed)
    rule = WatchRule()
    served = 0.0
    for number in range(1, DECISIONS // ENTITIES + 1):
        served += shop.round(SHARE)[1]
        if not off and number % every == 0 and watch_gate(shop.watched(), rule).verdict == "worse":
            return number * ENTITIES, WORSE * served / DECISIONS
    return None, WORSE * served / DECISIONS


def measure(name: str, seeds: int, off: bool) -> dict[str, object]:
    """One case in many runs."""
    found = [run(CASES[name], seed, off) for seed in range(seeds)]
    times = [at for at, _ in found if at is not None]
    return {
        "case": name,
        "runs": seeds,
        "rolled_back": len(times),
        "median_decision": float(np.median(times)) if times else None,
        "p90_decision": float(np.quantile(times, 0.9)) if times else None,
        "loss": float(np.mean([loss for _, loss in found])) if not name.startswith("same") else 0.0,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[*CASES, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--off", action="store_true", help="with the test switched off")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    begun = time.process_time()
    rows = [measure(name, given.seeds, given.off) for name in (CASES if given.case == "all" else [given.case])]
    if given.json:
        print(json.dumps({"cases": rows, "cpu_seconds": time.process_time() - begun}))
        return
    for row in rows:
        print(
            f"{row['case']:>17}: {row['rolled_back']:>3} of {row['runs']} rolled back before decision {DECISIONS:,}, "
            f"median {row['median_decision']}, 90 % by {row['p90_decision']}, loss {row['loss']:.3%} of value"
        )
    print(f"{time.process_time() - begun:.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
