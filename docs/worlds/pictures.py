"""Draws the pictures of these pages: python docs/worlds/pictures.py (needs matplotlib, in the extra `dev`)."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from agents import baselines
from envs import exact, renewal, worlds

FOLDER = Path(__file__).parent


def pricing(left: Axes, right: Axes) -> None:
    world = worlds.make("pricing")
    best = exact.solve(world)
    prices = world.params.prices[best.actions].reshape(50, 21)[:, 1:]
    shown = left.imshow(prices.T, origin="lower", aspect="auto", extent=(0, 50, 1, 20))
    left.set(title="optimal price", xlabel="period", ylabel="stock")
    plt.colorbar(shown, ax=left)
    rng = np.random.default_rng(3)
    for _ in range(25):
        state, path = world.initial(1, rng), [20.0]
        for period in range(50):
            index = best.actions.reshape(50, 21)[period, int(state[0, 0])]
            state, *_ = world.step(state, np.array([index]), world.draw(1, rng))
            path.append(state[0, 0])
        right.step(range(51), path, alpha=0.3, color="C0")
    right.set(title="25 seasons under it", xlabel="period", ylabel="stock")


def replenished(left: Axes, right: Axes) -> None:
    world = worlds.make("pricing-replenished")
    best = exact.solve(world)
    left.step(range(21), world.params.prices[best.actions], where="mid")
    left.set(title="optimal price", xlabel="stock", ylabel="price")
    values = [exact.policy_value(world, np.tile(row, (21, 1))) for row in np.eye(41)]
    right.plot(world.params.prices, values, label="always this price")
    right.axhline(best.value, color="C1", label="optimum")
    right.set(title="average reward", xlabel="price")
    right.legend()


def rival(left: Axes, right: Axes) -> None:
    world = worlds.make("pricing-rival")
    best = exact.solve(world)
    prices = world.params.prices[best.actions].reshape(60, 31, 6)
    shown = left.imshow(prices[:, 1:, 3].T, origin="lower", aspect="auto", extent=(0, 60, 1, 30))
    left.set(title="optimal price, rival at 1.4", xlabel="period", ylabel="stock")
    plt.colorbar(shown, ax=left)
    right.step(world.params.prices, world.params.rival_prices[world.target], where="mid")
    right.plot(world.params.prices, world.params.prices, ":", color="grey")
    right.set(title="where the rival jumps to", xlabel="our price", ylabel="the rival's price")


def network(left: Axes, right: Axes) -> None:
    world = worlds.make("pricing-network", {"prices": "any"})
    prices = exact.solve(world).actions.reshape(60, 9, 9, 3)
    for axes, product, title in ((left, 0, "first product"), (right, 2, "the one that uses both legs")):
        shown = axes.imshow(
            np.where(np.isfinite(prices[30, :, :, product]), prices[30, :, :, product], np.nan), origin="lower"
        )
        axes.set(title=f"optimal price of {title}", xlabel="left of leg 1", ylabel="left of leg 0")
        plt.colorbar(shown, ax=axes)


def replacement(left: Axes, right: Axes) -> None:
    world = worlds.make("replacement")
    left.plot(range(40), world.failure(np.arange(40.0)))
    left.set(title="chance of failing in a period", xlabel="age")
    right.plot(range(1, 41), renewal.age_costs(world), label="replace at age N")
    right.plot(range(1, 41), renewal.block_costs(world), label="replace every N periods")
    right.set(title="average cost", xlabel="N", ylim=(0.15, 0.6))
    right.legend()


def maintenance(left: Axes, right: Axes) -> None:
    world = worlds.make("maintenance")
    best = exact.solve(world)
    rng = np.random.default_rng(1)
    state, levels, served = world.initial(1, rng), [], []
    for _ in range(60):
        action = best.actions[world.place(state)]
        levels.append(state[0])
        served.append(world.members(state, action)[0])
        state, *_ = world.step(state, action, world.draw(1, rng))
    shown = left.imshow(np.array(levels).T, aspect="auto", cmap="YlOrRd", vmin=0, vmax=4)
    for period, members in enumerate(served):
        left.plot([period] * members.sum(), np.flatnonzero(members), "wo", mec="k", ms=5)
    left.set(title="levels, and services (circles)", xlabel="period", ylabel="component")
    plt.colorbar(shown, ax=left)
    names = list(baselines.BASELINES["maintenance"])
    listed = world.grid()
    mask = np.array(world.allowed(listed))
    costs = [-exact.policy_value(world, baselines.make(n, world).probabilities(listed, mask)) for n in names]
    right.barh([*names, "optimum"], [*costs, -best.value])
    right.set(title="average cost")


def inventory(left: Axes, right: Axes) -> None:
    world = worlds.make("inventory", {"lead_time": 2})
    best = exact.solve(world)
    orders = best.actions.reshape(world.params.max_order + 1, -1)[:, :25]
    shown = left.imshow(orders.T, origin="lower", aspect="auto")
    left.set(title="optimal order, lead time 2", xlabel="due next period", ylabel="on hand")
    plt.colorbar(shown, ax=left)
    leads = range(1, 5)
    for penalty in (4, 9, 19, 39):
        costs = [
            -exact.solve(worlds.make("inventory", {"lead_time": lead, "penalty_cost": penalty})).value for lead in leads
        ]
        right.plot(leads, costs, "o-", label=f"penalty {penalty}")
    right.set(title="optimal cost", xlabel="lead time", xticks=list(leads))
    right.legend()


PICTURES: dict[str, Callable[[Axes, Axes], None]] = {
    "pricing": pricing,
    "pricing-replenished": replenished,
    "pricing-rival": rival,
    "pricing-network": network,
    "replacement": replacement,
    "maintenance": maintenance,
    "inventory": inventory,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
        draw(left, right)
        figure.savefig(FOLDER / f"{name}.png", dpi=80)
        plt.close(figure)
