"""How far estimates from logged episodes can be believed, measured where the truth is known.

Seasons of pricing on 16 prices. `smoothed`: 10 periods, a logged policy smoothed over neighbouring prices around the
optimum for 85 % of the volume, a target smoothed likewise around the true optimum. `model` and `model50`: what a
Poisson demand that was fitted to the log (censored where everything was sold) says of a nearly greedy target, logged by
an ε-greedy policy around the optimum for 60 % of the volume. `refused`: the same in seasons of 50 periods, where
weights of whole seasons say nothing, and the report must say so.

    python benchmarks/ope_episodes.py [--logs N] [--decisions N] [--json]
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents import estimators
from agents.estimators import Estimate
from agents.ope import Episodes, report_episodes
from agents.policy import sample_rows
from envs import exact, worlds
from envs.calibrate import Calibrator
from envs.dynamics import World

Array = NDArray[np.float64]
VOLUME, SENSITIVITY, LADDER = float(np.e), 1.0, "0.5:4.25:0.25"
SHORT, LONG = (5, 10), (20, 50)


@dataclass(frozen=True)
class Season:
    """A pricing world whose policies are tables over (period, stock, price)."""

    stock: int
    periods: int

    @cached_property
    def world(self) -> World:
        """With the true parameters."""
        return self.with_demand(VOLUME, SENSITIVITY)

    def with_demand(self, volume: float, sensitivity: float) -> World:
        """The same season with another demand."""
        told = {"stock": self.stock, "periods": self.periods, "prices": LADDER}
        return worlds.make("pricing", {**told, "volume": volume, "sensitivity": sensitivity})

    @property
    def prices(self) -> Array:
        """(16,)."""
        return np.asarray(self.world.actions.values, np.float64)

    def best(self, factor: float) -> NDArray[np.int64]:
        """Indices (periods, stock + 1) of the optimal prices where the volume is believed to be `factor` times."""
        solution = exact.solve(self.with_demand(factor * VOLUME, SENSITIVITY))
        return np.asarray(solution.actions, np.int64).reshape(self.periods, self.stock + 1)

    def smoothed(self, factor: float, spread: float, floor: float = 0.05) -> Array:
        """Gaussian in the price around the optimum, with an even floor."""
        away = (self.prices - self.prices[self.best(factor)][..., None]) / spread
        weight = np.exp(-0.5 * away**2)
        return np.asarray((1 - floor) * weight / weight.sum(-1, keepdims=True) + floor / len(self.prices))

    def mostly(self, factor: float, epsilon: float) -> Array:
        """The optimum with probability 1 − ε, else any price."""
        n = len(self.prices)
        return np.asarray((1 - epsilon) * np.eye(n)[self.best(factor)] + epsilon / n)

    def values(self, target: Array, volume: float, sensitivity: float) -> tuple[Array, Array]:
        """Values (periods, stock + 1) and action values (periods, stock + 1, 16) of a policy, by backward induction."""
        rate = volume * np.exp(-sensitivity * self.prices)
        stock = np.arange(self.stock + 1)
        steps = np.arange(1, self.stock + 1)
        pmf = np.exp(-rate) * np.cumprod(np.concatenate([np.ones((1, len(rate))), rate / steps[:, None]]), axis=0)
        # P(sold = s | stock m) (m, s, price): the last one takes all that is beyond.
        sold = np.where(stock[None, :, None] < stock[:, None, None], pmf[None], 0.0)
        sold[stock, stock] = 1 - sold.sum(axis=1)
        revenue = np.einsum("msp,s,p->mp", sold, stock.astype(float), self.prices)
        left = np.maximum(stock[:, None] - stock, 0)
        v, q = np.zeros((self.periods, len(stock))), np.zeros((self.periods, len(stock), len(rate)))
        after = np.zeros(len(stock))
        for period in reversed(range(self.periods)):
            q[period] = revenue + np.einsum("msp,ms->mp", sold, after[left])
            v[period] = (target[period] * q[period]).sum(axis=1)
            v[period, 0] = q[period, 0] = 0.0
            after = v[period]
        return v, q

    def truth(self, target: Array) -> float:
        """The target's exact value."""
        return exact.policy_value(self.world, target.reshape(-1, target.shape[-1]))


@dataclass(frozen=True)
class Log:
    """Episodes played by one policy, each array (n, periods)."""

    stock: NDArray[np.int64]
    action: NDArray[np.int64]
    sold: Array
    reward: Array
    propensity: Array

    def episodes(self, target: Array) -> Episodes:
        """With the target's probabilities beside the logged ones."""
        period = np.arange(self.stock.shape[1])
        return Episodes(self.reward, self.propensity, target[period, self.stock, self.action], self.stock > 0)


def play(season: Season, behaviour: Array, decisions: int, rng: np.random.Generator) -> Log:
    """As many episodes as hold so many periods."""
    world, n = season.world, max(2, decisions // season.periods)
    state = world.initial(n, rng)
    columns: dict[str, list[Array]] = {name: [] for name in ("stock", "action", "sold", "reward", "propensity")}
    for period in range(season.periods):
        stock = state[:, 0].astype(np.int64)
        rows = behaviour[period, stock]
        action = sample_rows(rows, rng.random(n))
        following, reward, _ = world.step(state, action, world.draw(n, rng))
        sold = state[:, 0] - following[:, 0]
        for name, column in (("stock", stock), ("action", action), ("sold", sold), ("reward", reward)):
            columns[name].append(column)
        columns["propensity"].append(rows[np.arange(n), action])
        state = following
    return Log(**{name: np.stack(column, axis=1) for name, column in columns.items()})


def fitted(season: Season, log: Log) -> tuple[Array, Array]:
    """Logarithms of volume and sensitivity by maximum likelihood, and their covariance."""
    calibrator = Calibrator(season.world, ("volume", "sensitivity"))
    period = np.broadcast_to(np.arange(season.periods), log.stock.shape)
    active = log.stock > 0
    observation = np.column_stack([log.stock[active], period[active]]).astype(np.float32)
    sold = log.sold[active]
    names = season.world.outcome(np.array([[1.0, 0.0]]), np.array([0]), season.world.draw(1, np.random.default_rng(0)))
    (field,) = names
    calibrator.learn_many(observation, log.action[active], {field: sold})
    found = calibrator.estimate()
    order = [found.columns.index(name) for name in ("volume", "sensitivity")]
    return np.log(found.values[order]), found.covariance[np.ix_(order, order)]


def robust(season: Season, log: Log, target: Array, demand: Array) -> Estimate:
    """Doubly robust with the exact values of the fitted model."""
    v, q = season.values(target, *np.exp(demand))
    episodes, period = log.episodes(target), np.arange(season.periods)
    value = np.where(episodes.active, v[period, log.stock], 0.0)
    action_value = np.where(episodes.active, q[period, log.stock, log.action], 0.0)
    reward = np.where(episodes.active, log.reward, 0.0)
    return estimators.sequential_doubly_robust(reward, episodes.ratio, value, action_value)


def modelled(season: Season, target: Array, demand: Array, covariance: Array) -> Estimate:
    """The value under the fitted model, with its delta-method interval."""
    start = season.stock
    return estimators.model_based(
        lambda x: float(season.values(target, *np.exp(x))[0][0, start]), demand, covariance, step=1e-3
    )


def smoothed(logs: int, decisions: int) -> dict[str, Any]:
    """Both policies smoothed over neighbouring prices: what weights can do, with 10 periods."""
    season = Season(*SHORT)
    behaviour, target = season.smoothed(0.85, 0.25), season.smoothed(1.0, 0.25, floor=0.0)
    truth = season.truth(target)

    def estimates(log: Log) -> dict[str, Estimate]:
        found = dict(report_episodes(log.episodes(target)).estimates)
        demand, covariance = fitted(season, log)
        wrong = demand + np.array([np.log(0.7), 0.0])
        return {
            **found,
            "dr": robust(season, log, target, demand),
            "dr, wrong model": robust(season, log, target, wrong),
            "model": modelled(season, target, demand, covariance),
        }

    return {"truth": truth, **_figures(season, behaviour, truth, logs, decisions, estimates)}


def model(logs: int, decisions: int, shape: tuple[int, int] = SHORT) -> dict[str, Any]:
    """A nearly greedy target from an ε-greedy log: only the model can say anything."""
    season = Season(*shape)
    behaviour, target = season.mostly(0.6, 0.2), season.mostly(1.0, 0.05)
    truth = season.truth(target)

    def estimates(log: Log) -> dict[str, Estimate]:
        return {"model": modelled(season, target, *fitted(season, log))}

    return {"truth": truth, **_figures(season, behaviour, truth, logs, decisions, estimates)}


def _figures(
    season: Season,
    behaviour: Array,
    truth: float,
    logs: int,
    decisions: int,
    estimates: Callable[[Log], dict[str, Estimate]],
) -> dict[str, Any]:
    """By estimator: coverage, bias, standard deviation and median standard error."""
    found: dict[str, list[tuple[bool, float, float]]] = {}
    for seed in range(logs):
        log = play(season, behaviour, decisions, np.random.default_rng([11, seed]))
        for name, estimate in estimates(log).items():
            low, high = estimate.interval or (np.nan, np.nan)
            value = np.nan if estimate.value is None else estimate.value
            row = (low <= truth <= high, value - truth, np.nan if estimate.se is None else estimate.se)
            found.setdefault(name, []).append(row)
    table = {}
    for name, rows in found.items():
        hit, error, se = np.array(rows, float).T
        table[name] = {
            "coverage": float(hit.mean()),
            "bias": float(error.mean()),
            "sd": float(error.std(ddof=1)),
            "median_se": float(np.median(se)),
        }
    return {"estimators": table}


def refused(logs: int, decisions: int) -> float:
    """Share of ε-greedy logs of 50-period seasons in which the report gives no verdict."""
    season = Season(*LONG)
    behaviour, target = season.mostly(0.6, 0.2), season.mostly(1.0, 0.05)
    silent = 0
    for seed in range(logs):
        log = play(season, behaviour, decisions, np.random.default_rng([12, seed]))
        silent += report_episodes(log.episodes(target)).verdict == "not enough evidence"
    return silent / logs


def misses(found: dict[str, Any]) -> list[str]:
    """Targets that were not met."""
    table = found["smoothed"]["estimators"]
    bad = [f"{name}: coverage at least 0.91" for name in ("sn-pdis", "dr") if table[name]["coverage"] < 0.91]
    bad += [
        f"model, {name}: coverage at least 0.91"
        for name in ("model", "model50")
        if found[name]["estimators"]["model"]["coverage"] < 0.91
    ]
    if found["refused"] < 1:
        bad.append("every ε-greedy log of 50 periods refused")
    return bad


def main() -> None:
    """Measure, print, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = {
        "smoothed": smoothed(given.logs, given.decisions),
        "model": model(given.logs, given.decisions),
        "model50": model(given.logs, given.decisions, LONG),
        "refused": refused(given.logs, given.decisions),
    }
    if given.json:
        print(json.dumps(found))
    else:
        for case in ("smoothed", "model", "model50"):
            print(f"{case}, true value {found[case]['truth']:.4f}")
            for name, row in found[case]["estimators"].items():
                figures = "  ".join(f"{key} {figure:.3f}" for key, figure in row.items())
                print(f"  {name:18} {figures}")
        print(f"ε-greedy logs of 50 periods refused: {found['refused']:.0%}")
    if bad := misses(found):
        raise SystemExit("missed: " + "; ".join(bad))


if __name__ == "__main__":
    main()
