"""The pages of the worlds: each world has one with its picture, and the example world works as printed."""

import re
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import poisson

from envs import checks, exact, worlds
from envs.env import WorldEnv

PAGES = Path(__file__).parent.parent / "docs" / "worlds"


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_every_world_has_a_page_with_a_picture_and_all_its_parameters(world_id):
    page = (PAGES / f"{world_id}.md").read_text()
    assert (PAGES / f"{world_id}.png").stat().st_size > 5_000
    for field in worlds.WORLDS[world_id].parameters:
        assert f"`{field.name}`" in page, field.name
    assert f"]({world_id}.md)" in (PAGES / "index.md").read_text()


def test_the_example_world_keeps_the_laws_and_orders_the_newsvendor_quantity():
    code = re.search(r"```python\n(.*?)```", (PAGES / "add-a-world.md").read_text(), re.S)
    assert code is not None
    names: dict[str, Any] = {"__name__": "kiosk"}
    exec(code[1], names)
    world = names["Kiosk"](names["KioskParams"]())
    checks.check(world)
    best = exact.solve(world)
    assert best.actions.tolist() == [int(poisson.ppf(0.4, 6))] * 6 + [int(poisson.ppf(0.4, 12))]
    env = WorldEnv(world, ranges={"mean": (3.0, 12.0)})
    env.reset(seed=0)
    assert [env.step(5)[2] for _ in range(7)] == [False] * 6 + [True]
