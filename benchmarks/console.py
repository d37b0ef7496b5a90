"""The console at scale: how soon pages are painted, what a browser comes to hold, what three viewers cost the service.

    python benchmarks/console.py [--models 20] [--points 20] [--decisions 50000] [--minutes 10]

A service with so many models and points is filled with decisions over HTTP, most of them at one point, since a page
shows one; then a headless Chromium opens each page, and stays on the overview. Printed are seconds from the request to
the first contentful paint and to the page's own head, the JavaScript heap minute by minute, and the share of a core
that the API process spends on three open pages: pages ask by the clock, so that is what they take from decisions.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browsing import Tab, browser, console, missing
from running import Run

POINT = """
[points.point{i:02d}]
world = "pricing"
params = {{stock = 20, periods = 50, volume = 2.718281828, prices = "0.5:4.25:0.25"}}
ranges = {{sensitivity = [0.5, 2.0]}}
mode = "off"
baseline = "best-fixed-price"
adapt = {{per_day = 0}}
"""
MODEL = """
[models.model{i:02d}]
task = "regression"
pipeline = [{{use = "preprocessing.MinMaxScaler"}}, {{use = "linear_model.LinearRegression"}}]
features = {{x = {{type = "number"}}}}
metrics = ["MAE"]
"""
AT_ONCE = 64
ROUNDS = 2
SETTLE_S, WATCH_S = 10.0, 30.0
PAINT = """() => {
  const paint = performance.getEntriesByName('first-contentful-paint')[0];
  return paint ? paint.startTime / 1000 : null;
}"""


def cpu_of(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def decide(url: str, point: str, first: int, count: int) -> None:
    """So many decisions with an outcome each, many at once."""
    gate = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, trust_env=False, limits=limits, timeout=60.0) as client:

        async def one(i: int) -> None:
            async with gate:
                body = {"id": f"d{i}", "context": {"stock": 1 + i % 20, "period": i % 50}}
                (await client.post(f"/v1/decisions/{point}", json=body)).raise_for_status()

        await asyncio.gather(*(one(i) for i in range(first, first + count)))
        lines = "\n".join(f'{{"id":"d{i}","fields":{{"sold":{i % 3 == 0:d}}}}}' for i in range(first, first + count))
        headers = {"content-type": "application/x-ndjson"}
        (await client.post(f"/v1/decisions/{point}/outcomes", content=lines, headers=headers)).raise_for_status()


def fill(url: str, point: str, first: int, count: int) -> None:
    """As `decide`, in a thread of its own: playwright keeps this one's event loop."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: asyncio.run(decide(url, point, first, count))).result()


def paints(chromium: Any, address: str, pages: dict[str, str]) -> None:
    """Opens every page three times, each in a browser context of its own."""
    for name, path in pages.items():
        first, head = [], []
        for _ in range(3):
            context = chromium.new_context(viewport={"width": 1280, "height": 900})
            begun = time.monotonic()
            tab = Tab(context, address).open(path)
            head.append(time.monotonic() - begun)
            first.append(tab.page.evaluate(PAINT) or head[-1])
            assert not tab.errors, tab.errors
            context.close()
        print(
            f"{name:10} first paint {statistics.median(first):.2f} s, head {statistics.median(head):.2f} s", flush=True
        )


def heap(chromium: Any, address: str, path: str, minutes: float) -> None:
    """What a page holds while it is left open."""
    tab = Tab(chromium.new_context(), address).open(path)
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("Performance.enable")
    for minute in range(int(minutes) + 1):
        session.send("HeapProfiler.collectGarbage")
        found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        print(
            f"open for {minute} min: JavaScript heap {found['JSHeapUsedSize'] / 2**20:.1f} MiB, "
            f"{found['Nodes']:.0f} nodes, {found['JSEventListeners']:.0f} listeners",
            flush=True,
        )
        if minute < minutes:
            tab.page.wait_for_timeout(60_000)
    tab.page.context.close()


def cost(chromium: Any, address: str, run: Run) -> None:
    """Share of a core that the API process spends on three open pages: so much less is left for decisions."""
    api = run.member("service.cli api")
    shares: dict[int, list[float]] = {0: [], 3: []}
    for turn in range(2 * ROUNDS):
        open_ = 3 * (turn % 2)
        context = chromium.new_context()
        for path in ("/", "/points/point00", "/system")[:open_]:
            Tab(context, address).open(path)
        time.sleep(SETTLE_S)
        begun, since = cpu_of(api), time.monotonic()
        time.sleep(WATCH_S)
        shares[open_].append((cpu_of(api) - begun) / (time.monotonic() - since))
        context.close()
    alone, watched = (statistics.median(shares[open_]) for open_ in (0, 3))
    print(
        f"API process: {alone:.1%} of a core alone, {watched:.1%} with three pages: {watched - alone:+.1%}", flush=True
    )


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--decisions", type=int, default=50_000)
    parser.add_argument("--minutes", type=float, default=2.0)
    given = parser.parse_args()
    if why := missing():
        print(f"skipped: {why}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        declared = "".join(POINT.format(i=i) for i in range(given.points))
        declared += "".join(MODEL.format(i=i) for i in range(given.models))
        (Path(folder) / "trimtab.toml").write_text(declared)
        run = Run("--port", "0", cwd=Path(folder))
        try:
            with console(run) as address, browser() as chromium:
                for i in range(given.points):
                    fill(run.url(), f"point{i:02d}", 0, 100)
                for first in range(1000, given.decisions, 5000):
                    fill(run.url(), "point00", first, min(5000, given.decisions - first))
                print(f"{given.models} models, {given.points} points, {run.decided():,} decisions stored", flush=True)
                pages = {"overview": "/", "point": "/points/point00", "system": "/system", "audit": "/audit"}
                pages |= {"model": "/models/model00", "decision": "/decisions/point00/d1000"}
                paints(chromium, address, pages)
                cost(chromium, address, run)
                heap(chromium, address, "/", given.minutes)
        finally:
            run.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
