"""A world of the wrong shape through the service: demand falls linearly where the point's world says exponentially.

A real `trimtab up`, 40 shops by HTTP whose customers come as `1 − p / 2`. Told are when the misfit was
reported, who was tried against whom, who serves in the end, and what was earned beside the best fixed price of the true
demand, which meets the same customers: until the misfit was reported, until the trials were over, and thereafter. Fails
where no misfit is reported, or where less is earned than by that price thereafter.

    python -m benchmarks.wrong_world_http --bundle pricing.bundle [--decisions 90000] [--json]
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.calm import Linear
from benchmarks.loop_http import released, service
from envs.dynamics import World
from envs.worlds import make
from service.outside import simulate as outside
from service.outside.client import Stop
from service.outside.episodes import FIXED, ORACLE, Account

PARAMS = {"prices": {"geometric": [0.1, 8.0, 41]}}
MANIFEST = """
[bandits.prices]
explore = {use = "inverse_gap", scale = 4}

[points.price]
world = "pricing"
params = {prices = {geometric = [0.1, 8.0, 41]}}
ranges = {volume = [1.0, 6.0], sensitivity = [0.4, 2.5]}
key = "sku"
mode = "live"
bandits = ["prices"]
exploration = {share = 0.02, over = "neighbours"}
outcome = {wait = "10s"}
gate = {canary = 0.2}
adapt = {settle = "10s", cooldown = "1min", explore = 0.05}
"""


def straight(*_: Any) -> World:
    """The hidden world: the point's, but for the shape of its demand."""
    return Linear(make("pricing", PARAMS | {"volume": 1.0}, {}).params)


@dataclass
class Watching:
    """What the service says of itself meanwhile, by decisions."""

    url: str
    seen: list[dict[str, Any]] = field(default_factory=list)
    reported: int | None = None
    tried: int | None = None
    """When the trials were over."""

    def __call__(self, progress: outside.Progress) -> None:
        """Look once."""
        answer = httpx.get(f"{self.url}/v1/points/price/adaptation", trust_env=False, timeout=60).json()
        if answer["attention"] and self.reported is None:
            self.reported = progress.decisions
        stages = [entry["after"] for entry in answer["entries"]]
        if self.tried is None and "doubted" in stages and answer["stage"] != "doubted":
            self.tried = progress.decisions
        if not self.seen or self.seen[-1]["entries"] != len(answer["entries"]):
            why = "; ".join(answer["reasons"])
            new = {"decisions": progress.decisions, "stage": answer["stage"], "why": why}
            self.seen.append(new | {"entries": len(answer["entries"])})


def share(accounts: Sequence[Account]) -> tuple[float, float] | None:
    """What was earned as a share of the best fixed price's, and its standard error, over stretches of decisions."""
    if len(accounts) < 2:
        return None
    earned, fixed = (
        np.array(side) for side in zip(*((one.earned, one.rivals[FIXED]) for one in accounts), strict=True)
    )
    found = float(earned.sum() / fixed.sum())
    error = float((earned - found * fixed).std(ddof=1) * len(fixed) ** 0.5 / fixed.sum())
    return round(found, 4), round(error, 4)


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """One run of the service."""
    with tempfile.TemporaryDirectory(prefix="tt-wrong-") as folder, service(MANIFEST, Path(folder)) as url:
        released(url, Path(given.bundle))
        watching = Watching(url)
        plan = outside.Plan(
            "price", url, entities=40, decisions=given.decisions, rate=given.rate, seed=given.seed, every_s=1.0
        )
        result = asyncio.run(outside.simulate(plan, watching, Stop()))
        release = httpx.get(f"{url}/v1/policies/price", trust_env=False, timeout=60).json()["release"]
    total, line = result.total, result.timeline
    end = line[-1][0] + 1
    reported, tried = (end if moment is None else moment for moment in (watching.reported, watching.tried))
    return {
        "misfit_reported_at": watching.reported,
        "trials_over_at": watching.tried,
        "of_best_fixed": round(total.share(FIXED) or 0.0, 4),
        "of_oracle": round(total.share(ORACLE) or 0.0, 4),
        "of_best_fixed_until_reported": share([one for since, one in line if since < reported]),
        "of_best_fixed_in_trials": share([one for since, one in line if reported <= since < tried]),
        "of_best_fixed_thereafter": share([one for since, one in line if since >= tried]),
        "serves": {name: release[name] for name in ("incumbent", "candidate", "mode")},
        "loop": watching.seen,
    }


def main() -> None:
    """Measure, print, and fail where the limit was not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="bundles/pricing.bundle")
    parser.add_argument("--decisions", type=int, default=90_000)
    parser.add_argument("--rate", type=float, default=400.0, help="decisions per second at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    outside.hidden_world = straight
    found = measured(given)
    print(json.dumps(found, indent=None if given.json else 2))
    if found["of_best_fixed_thereafter"] is None or found["of_best_fixed_thereafter"][0] < 1.0:
        raise SystemExit("missed: a misfit that is reported, and at least what the best fixed price earns")


if __name__ == "__main__":
    main()
