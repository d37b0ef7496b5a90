"""Level 0 through the service: shops by HTTP, customers who change at once, and what was earned beside the oracle.

A real `trimtab up` in a folder of its own serves a trained policy; `trimtab simulate`'s client plays the shops with
outcomes that come a period late, 2 % of them never and 2 % twice. Every shop's sensitivity doubles at the same
decision. Earnings are those of whole episodes by when they began, against the exact optimum that is told of the change
at once and meets the same customers.

    python benchmarks/loop_http.py [--estimates key|pooled|both] --bundle pricing.bundle [--shops 200] [--json]

`python benchmarks/adaptation.py --commands` prints how the bundle is trained.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from service.outside.client import Stop
from service.outside.episodes import FIXED, FROZEN, ORACLE
from service.outside.simulate import Ended, Plan, Progress, simulate

MANIFEST = """
[points.price]
world = "pricing"
params = {{prices = {{geometric = [0.1, 8.0, 41]}}}}
ranges = {{volume = [1.0, 6.0], sensitivity = [0.4, 2.5]}}
key = "sku"
mode = "live"
exploration = {{share = 0.02, over = "neighbours"}}
outcome = {{wait = "1h"}}
adapt = {{estimates = "{estimates}", per_day = 0}}
"""
BEFORE, AFTER = 400, 310
SHIFT = 2.0
LIMIT = 0.95
WINDOW = 50
FROM = {"key": 100, "pooled": 10}
"""Decisions after the change from which on the limit holds, where shops learn alone and together."""

_START_S = 120.0


@contextmanager
def service(manifest: str, folder: Path) -> Iterator[str]:
    """The address of a `trimtab up` in this folder, until the end of the block."""
    (folder / "trimtab.toml").write_text(manifest)
    output = folder / "output"
    with output.open("wb") as out:
        command = [sys.executable, "-P", "-m", "service.cli", "up", "--port", "0"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield _address(process, output)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_START_S)


def _address(process: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"status page (http://\S+)", output.read_text(errors="replace")):
            return found[1]
        time.sleep(0.1)
    raise SystemExit(f"the service did not start:\n{output.read_text(errors='replace')}")


def released(url: str, bundle: Path) -> str:
    """The digest of a bundle that serves from now on."""
    headers = {"content-type": "application/octet-stream"}
    with httpx.Client(base_url=url, trust_env=False, timeout=_START_S) as client:
        registered = client.post("/v1/policies/price", content=bundle.read_bytes(), headers=headers).raise_for_status()
        digest = str(registered.json()["digest"])
        order = {"digest": digest, "reason": "it is to be measured"}
        client.post("/v1/policies/price/promote", json=order).raise_for_status()
    return digest


@dataclass
class Earned:
    """Sums over episodes by the window in which they began, counted in decisions of a shop since the change."""

    sums: dict[int, dict[str, float]] = field(default_factory=dict)
    late: dict[str, float] = field(default_factory=dict)
    start: int = 0

    def __call__(self, ended: Ended) -> None:
        """Enter an episode."""
        since = ended.began - BEFORE
        values = {"served": ended.episode.earned, **ended.rivals}
        parts = [self.sums.setdefault(since // WINDOW * WINDOW, {})]
        if since >= self.start:
            parts.append(self.late)
        for part in parts:
            for name, value in values.items():
                part[name] = part.get(name, 0.0) + value

    def shares(self, rival: str) -> dict[int, float]:
        """What was earned as a share of what the rival would have, by window."""
        return {since: round(part["served"] / part[rival], 4) for since, part in sorted(self.sums.items())}

    def summary(self) -> dict[str, Any]:
        """Shares of the oracle's earnings, from the decision on from which the limit holds and by window."""
        return {
            "from": self.start,
            "of_oracle": round(self.late["served"] / self.late[ORACLE], 4),
            "frozen_of_oracle": round(self.late[FROZEN] / self.late[ORACLE], 4),
            "fixed_of_oracle": round(self.late[FIXED] / self.late[ORACLE], 4),
            "by_window": self.shares(ORACLE),
        }


def measured(estimates: str, given: argparse.Namespace) -> dict[str, Any]:
    """One run of the service."""
    earned = Earned(start=FROM[estimates])

    def tell(progress: Progress) -> None:
        if not given.json:
            print(f"{estimates}: {progress.decisions:,} decisions, {progress.rate:,.0f}/s", flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="tt-loop-") as folder,
        service(MANIFEST.format(estimates=estimates), Path(folder)) as url,
    ):
        released(url, Path(given.bundle))
        plan = Plan(
            point="price",
            url=url,
            shifts=[(given.shops * BEFORE, {"sensitivity": SHIFT})],
            entities=given.shops,
            decisions=given.shops * (BEFORE + AFTER),
            delay=1,
            loss=0.02,
            dup=0.02,
            rate=given.rate,
            seed=given.seed,
        )
        result = asyncio.run(simulate(plan, tell, Stop(), earned))
    return {"estimates": estimates, "seconds": round(result.seconds), **result.outcomes, **earned.summary()}


def main() -> None:
    """Measure, print, and fail where the limit was not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--estimates", choices=["key", "pooled", "both"], default="both")
    parser.add_argument("--bundle", default="bundles/pricing.bundle")
    parser.add_argument("--shops", type=int, default=200)
    parser.add_argument("--rate", type=float, default=None, help="decisions per second at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    chosen = ["key", "pooled"] if given.estimates == "both" else [given.estimates]
    found = [measured(estimates, given) for estimates in chosen]
    print(json.dumps(found, indent=None if given.json else 2))
    if bad := [f"{one['estimates']}: {one['of_oracle']:.4f}" for one in found if one["of_oracle"] < LIMIT]:
        raise SystemExit(f"missed: {'; '.join(bad)} of the oracle where {LIMIT} was asked for")


if __name__ == "__main__":
    main()
