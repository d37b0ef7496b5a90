"""A whole cycle of a service that really runs, while its processes are killed at random: it always ends in order."""

import asyncio
import os
import random
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import Run

from agents import train
from agents.bundle import pack
from envs import worlds
from service.outside.client import Stop
from service.outside.simulate import Plan, simulate

PARAMS: dict[str, Any] = {"stock": 5, "periods": 10, "prices": {"geometric": [0.15, 4.0, 20]}}
MANIFEST = """
[points.price]
world = "pricing"
params = {stock = 5, periods = 10, prices = {geometric = [0.15, 4.0, 20]}}
ranges = {sensitivity = [0.8, 1.25]}
key = "sku"
mode = "live"
exploration = 0.05
outcome = {wait = "10min"}
gate = {canary = 0.3}
adapt = {cooldown = "1min", settle = "3s", watch = "8s", per_day = 100, minutes = 0.1}
"""
VICTIMS = ("cli api", "cli learner", "cli adapter", "redis-server")
KILLS = 20


def entries(run: Run) -> list[dict[str, Any]]:
    """The history of the loop, the oldest first; what is served while something is down does not count."""
    try:
        return run.get("/v1/points/price/adaptation")["entries"][::-1]  # type: ignore[no-any-return]
    except (AssertionError, httpx.HTTPError):
        return []


def played(url: str, stop: Stop, failed: list[BaseException]) -> threading.Thread:
    """Forty shops whose customers become four times as sensitive after a while, in a thread of their own."""
    plan = Plan(
        "price", url, shifts=[(3_000, {"sensitivity": 4.0})], entities=40, decisions=None, rate=300, patience_s=300
    )

    def play() -> None:
        try:
            asyncio.run(simulate(plan, lambda _: None, stop))
        except Exception as error:  # noqa: BLE001 - of a thread: told to the test
            failed.append(error)

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    return thread


def kill(run: Run, chance: random.Random) -> str:
    """Kill one of the processes, if it lives at this moment."""
    victim = chance.choice(VICTIMS)
    for pid in run.members():
        try:
            if victim in run.command(pid):
                os.kill(pid, signal.SIGKILL)
                return victim
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ""


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_twenty_kills_during_a_cycle_leave_a_linear_history_and_one_policy_that_serves(tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_text(MANIFEST)
    run, stop, failed = Run("--port", "0", cwd=tmp_path), Stop(), []
    chance, killed = random.Random(7), 0
    try:
        bundle = train.train(worlds.make("pricing", PARAMS, {}), algo="exact")
        data = pack(bundle.card, bundle.onnx, bundle.weights)
        headers = {"content-type": "application/octet-stream"}
        with httpx.Client(base_url=run.url(), trust_env=False, timeout=60) as client:
            digest = (
                client.post("/v1/policies/price", content=data, headers=headers).raise_for_status().json()["digest"]
            )
            order = {"digest": digest, "reason": "it is the optimum of now"}
            client.post("/v1/policies/price/promote", json=order).raise_for_status()
        thread = played(run.url(), stop, failed)
        assert run.eventually(lambda: entries(run), within=300), run.text
        while killed < KILLS:
            time.sleep(chance.uniform(0.5, 4.0))
            killed += bool(kill(run, chance))
        assert run.eventually(lambda: ended(entries(run)), within=600), (entries(run), run.text)
        history = entries(run)
        release = run.get("/v1/policies/price")["release"]
        stop()
        thread.join(60)
    finally:
        run.clean_up()
    assert not failed, failed
    assert_in_order(history)
    if release["mode"] == "live":
        assert release["candidate"] is None
        kept = any(entry["after"] == "confirmed" for entry in history)
        assert (release["incumbent"] != digest) == kept


def ended(history: list[dict[str, Any]]) -> bool:
    """Whether a cycle is over."""
    return any(entry["after"] == "steady" and entry["cycle"] > 0 for entry in history)


def assert_in_order(history: list[dict[str, Any]]) -> None:
    """Each transition goes on from the one before, cycles are counted up, and no release lacks its verdicts."""
    assert [entry["number"] for entry in history] == list(range(1, len(history) + 1))
    assert all(later["before"] == entry["after"] for entry, later in pairwise(history))
    assert all(later["cycle"] - entry["cycle"] in (0, 1) for entry, later in pairwise(history))
    for cycle in {entry["cycle"] for entry in history}:
        stages = [entry["after"] for entry in history if entry["cycle"] == cycle]
        if "released" in stages:
            assert stages[: stages.index("released")][-3:] == ["gate", "shadow", "canary"]
