"""The console at scale: how soon pages are painted, what a browser comes to hold, what three viewers cost the service.

    python benchmarks/console.py [--models 20] [--points 20] [--decisions 1000000] [--minutes 10] [--parts paints ...]

A month of decisions, one in four with an outcome, is written as the service writes them, half of them at one point,
since a page shows one; so are events of models. Then the service learns it all, or for as long as it may, and a
headless Chromium opens each page. Three pages stay open while decisions go on. Printed are

- seconds from the request to the first contentful paint, and to the page's own head;
- decisions per second of the API's processor time, flat out, with three pages open and without, in turns: processor
  time, since a browser on the same machine takes more from an API than its questions do;
- what share of a core the API takes while ten decisions a second come in, with three pages open and without;
- what the three pages hold, minute by minute, while ten decisions a second keep them moving.
"""

import argparse
import itertools
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from http_api import Server, bundle, load_with, redis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browsing import Tab, browser, console, missing
from running import Run

from online.events import Observed, Rewarded, digest, draft_id, encode
from online.log import Draft
from online.redis_client import connect
from online.redis_log import RedisLog
from service.deciding.decide import BASELINE, Arm, Ask, ServedPoint, decide_all
from service.deciding.points import Point, partition_of
from service.deciding.releases import Release
from service.manifest import parse_point
from service.processes.learners import partition_of as partition_of_model

POINT: dict[str, Any] = {
    "world": "pricing",
    "params": {"stock": 20, "periods": 50, "prices": {"geometric": [0.5, 4.0, 21]}},
    "mode": "live",
    "baseline": "best-fixed-price",
    "exploration": {"share": 0.02, "over": "neighbours"},
}
MANIFEST = """
[points.point{i:02d}]
world = "pricing"
params = {{stock = 20, periods = 50, prices = {{geometric = [0.5, 4.0, 21]}}}}
mode = "live"
baseline = "best-fixed-price"
exploration = {{share = 0.02, over = "neighbours"}}
adapt = {{per_day = 0}}
"""
MODEL = """
[models.model{i:02d}]
task = "regression"
pipeline = [{{use = "preprocessing.MinMaxScaler"}}, {{use = "linear_model.LinearRegression"}}]
features = {{x = {{type = "number"}}}}
metrics = ["MAE"]
"""
SECRET = b"a secret for benchmarks alone"
EPISODE, AT_ONCE, EVENTS, WRITERS = 50, 500, 2_000, 4
MONTH_S = 30 * 86_400.0
OPENED, ROUNDS, FLAT_OUT_S, SETTLE_S, WATCH_S, CONNECTIONS = 3, 4, 8.0, 4.0, 15.0, 32
A_SECOND = 10.0
PARTS = ("paints", "cost", "heap")
PAINT = """() => {
  const paint = performance.getEntriesByName('first-contentful-paint')[0];
  return paint ? paint.startTime / 1000 : null;
}"""
OPEN = ("/", "/points/point00", "/system")


class Past(RedisLog):
    """A log whose entries lie in the past, at the time that its clock shows."""

    def __init__(self, socket: str, clock: Callable[[], float]) -> None:
        super().__init__(connect(socket, timeout=60.0), clock)
        stamped = "string.format('%d-%d', 1000 * tonumber(string.match(ARGV[4 * i], '^%S+')), number)"
        text = self._append._text
        self._append._text = text.replace("'*'", stamped)
        assert self._append._text != text


def fill(socket: str, points: int, models: int, decisions: int) -> None:
    """A month of decisions, one in four with an outcome, and events of models; then the log is put on disk."""
    client, now = connect(socket, timeout=60.0), time.time() - 60.0
    client.config_set("appendonly", "no")
    work = [(f"point{i:02d}", count, now, socket) for i, count in enumerate(shares(points, decisions))]
    work += [(f"model{i:02d}", EVENTS, now, socket) for i in range(models)]
    with ProcessPoolExecutor(WRITERS) as writers:
        list(writers.map(written, *zip(*work, strict=True)))
    client.config_set("appendonly", "yes")
    while client.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.5)


def written(name: str, count: int, now: float, socket: str) -> None:
    """One point's or model's month, a stretch of it at a time."""
    moment, rng = [now], random.Random(name)
    log = Past(socket, lambda: moment[0])
    point = Point.of(parse_point(name, POINT)) if name.startswith("point") else None
    for begin in range(0, count, AT_ONCE):
        moment[0] = now - MONTH_S * (1 - begin / count)
        some = range(begin, min(begin + AT_ONCE, count))
        if point is None:
            log.append(partition_of_model(name), [*map(observed, some)])
        else:
            log.append(partition_of(name, None), [*drafts(point, some, rng)])


def shares(points: int, decisions: int) -> list[int]:
    """How many decisions each point gets: the first half of all."""
    others = decisions // 2 // (points - 1) if points > 1 else 0
    return [decisions - others * (points - 1), *[others] * (points - 1)]


def drafts(point: Point, numbers: range, rng: random.Random) -> Iterator[Draft]:
    """Decisions of the point's rule, and an outcome of one in four."""
    rule = Arm(point.baseline, point.baseline_name, BASELINE)
    served = ServedPoint(point, Release(point.name, "live"), rule, rule)
    asks = [Ask(point.decoder.decode(request(n)), f"d{n}") for n in numbers]
    for ask, decided in zip(asks, decide_all(served, asks, SECRET), strict=True):
        if isinstance(decided, Exception):
            raise decided
        yield Draft(draft_id(decided), digest(ask.request), encode(decided))
        if int(ask.id[1:]) % 4:
            continue
        sold = rng.random() < 0.2 * 2.718 ** (1 - decided.action)
        # What an outcome tells of the world is told by live traffic: to learn that of a million takes minutes.
        outcome = Rewarded(id=f"{ask.id}/outcome", decision=ask.id, value=decided.action * sold)
        yield Draft(draft_id(outcome), digest(outcome), encode(outcome))


def request(number: int) -> bytes:
    """A request of an episode of fifty periods."""
    period = number % EPISODE
    episode = f"e{number // EPISODE}"
    return b'{"context":{"stock":%d,"period":%d},"episode":"%b"}' % (20 - period // 3, period, episode.encode())


def observed(number: int) -> Draft:
    """One labelled event."""
    event = Observed(id=f"e{number}", features={"x": number % 10}, label=0.3 * (number % 10))
    return Draft(draft_id(event), digest(event), encode(event))


def wait(run: Run, given: argparse.Namespace) -> int:
    """Until learners have learned everything, or for so long; how many entries they are behind then."""
    behind = [-1]

    def is_done() -> bool:
        seen = run.get("/v1/system")
        subjects = seen["points"] + seen["models"]
        known = sum(one["decisions"] for one in seen["points"])
        behind[0] = sum(one["lag"] for one in subjects)
        whole = known >= given.decisions and len(subjects) == given.points + given.models
        return whole and not behind[0]

    run.eventually(is_done, within=given.learned_within)
    return behind[0]


def serve_network(run: Run) -> str:
    """Puts a network in charge of the first point; its digest."""
    data, _ = bundle()
    with httpx.Client(base_url=run.url(), trust_env=False, timeout=60.0) as client:
        digest_ = client.post("/v1/policies/point00", content=data).raise_for_status().json()["digest"]
        order = {"digest": digest_, "reason": "to be looked at", "actor": "benchmark"}
        client.post("/v1/policies/point00/promote", json=order).raise_for_status()
    return str(digest_)


def apart(work: Callable[[], Any]) -> Any:
    """Runs it in a thread of its own: playwright keeps this one's event loop."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()


def paints(chromium: Any, address: str, pages: dict[str, str]) -> None:
    """Opens every page several times, each in a browser context of its own."""
    for name, path in pages.items():
        first, head = [], []
        for _ in range(OPENED):
            context = chromium.new_context(viewport={"width": 1280, "height": 900})
            begun = time.monotonic()
            tab = Tab(context, address).open(path)
            head.append(time.monotonic() - begun)
            first.append(tab.page.evaluate(PAINT) or head[-1])
            assert not tab.errors, tab.errors
            context.close()
        print(
            f"{name:16} first paint {statistics.median(first):.2f} s (worst {max(first):.2f} s), "
            f"head {statistics.median(head):.2f} s",
            flush=True,
        )


def cost(chromium: Any, address: str, run: Run) -> None:
    """Decisions per second of the API's processor time, with three pages open and without."""
    api = Server(urlsplit(run.url()).port or 0, run.member("service.cli api"))
    found: dict[int, list[float]] = {0: [], len(OPEN): []}
    body = request(7)

    def flat_out() -> float:
        measured = load_with(api, "/v1/decisions/point00", body, CONNECTIONS, FLAT_OUT_S)
        assert measured.errors == 0
        return 1e6 / measured.cpu_us

    # What is asked once for all, such as exact values of policies, is no part of what open pages cost.
    with looking(chromium, address, OPEN):
        apart(flat_out)
    for turn in range(2 * ROUNDS):
        opened = (0, len(OPEN))[turn % 2]
        with looking(chromium, address, OPEN[:opened]):
            time.sleep(SETTLE_S)
            found[opened].append(apart(flat_out))
    alone, watched = (statistics.median(rates) for rates in found.values())
    pairs = ", ".join(f"{1 - after / before:.1%}" for before, after in zip(*found.values(), strict=True))
    print(
        f"flat out, a second of the API's processor time makes {alone:,.0f} decisions, {watched:,.0f} with three pages"
    )
    print(f"three pages cost {1 - watched / alone:.1%} of the throughput (in pairs of rounds: {pairs})", flush=True)


def share(chromium: Any, address: str, run: Run) -> None:
    """What of a core the API takes for a few decisions a second, with three pages open and without."""
    api = Server(urlsplit(run.url()).port or 0, run.member("service.cli api"))
    found: dict[int, list[float]] = {0: [], len(OPEN): []}
    for turn in range(2 * ROUNDS):
        opened = (0, len(OPEN))[turn % 2]
        with looking(chromium, address, OPEN[:opened]):
            time.sleep(SETTLE_S)
            spent, since = api.spent(), time.monotonic()
            time.sleep(WATCH_S)
            found[opened].append((api.spent() - spent) / (time.monotonic() - since))
    alone, watched = (statistics.median(shares) for shares in found.values())
    print(f"{A_SECOND:.0f} decisions a second take {alone:.1%} of a core, with three pages {watched:.1%}", flush=True)


@contextmanager
def looking(chromium: Any, address: str, paths: tuple[str, ...]) -> Iterator[list[Tab]]:
    """So many pages, open."""
    context = chromium.new_context()
    try:
        yield [Tab(context, address).open(path) for path in paths]
    finally:
        context.close()


@contextmanager
def traffic(url: str, points: int) -> Iterator[None]:
    """Ten decisions a second at the points in turn, each with its outcome, half of them at the first."""
    done = threading.Event()

    def play() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=60.0) as client:
            for number in itertools.count():
                if done.wait(1 / A_SECOND):
                    return
                where = f"/v1/decisions/point{number % points if number % 2 else 0:02d}"
                made = client.post(where, content=request(number)).raise_for_status().json()
                sold = {"id": made["id"], "fields": {"sold": int(number % 3 == 0)}}
                client.post(f"{where}/outcomes", json=sold).raise_for_status()

    with ThreadPoolExecutor(1) as threads:
        playing = threads.submit(play)
        try:
            yield
        finally:
            done.set()
            playing.result()


def heap(chromium: Any, address: str, minutes: int) -> None:
    """What three pages hold while they are left open: after a collection, in JavaScript and as processes."""
    with looking(chromium, address, OPEN) as tabs:
        sessions = [tab.page.context.new_cdp_session(tab.page) for tab in tabs]
        for session in sessions:
            session.send("Performance.enable")
        for minute in range(minutes + 1):
            told = [f"{path}: {held(session)}" for path, session in zip(OPEN, sessions, strict=True)]
            print(f"open for {minute:2} min: {'; '.join(told)}; renderers {renderers():.0f} MiB", flush=True)
            if minute < minutes:
                tabs[0].page.wait_for_timeout(60_000)
        assert not any(tab.errors for tab in tabs)


def held(session: Any) -> str:
    """The JavaScript heap of a page and how much is in it."""
    session.send("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return (
        f"{found['JSHeapUsedSize'] / 2**20:.1f} MiB, {found['Nodes']:.0f} nodes, "
        f"{found['JSEventListeners']:.0f} listeners"
    )


def renderers() -> float:
    """Resident MiB of the browser's processes that draw pages: those that this process started."""
    parents, drawing = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"--type=renderer" in (folder / "cmdline").read_bytes():
                drawing.append(int(folder.name))
        except OSError:
            continue

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in drawing if is_ours(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(run: Run, given: argparse.Namespace) -> None:
    """Prints the figures of a service that holds so much."""
    run.url()
    begun = time.monotonic()
    behind = wait(run, given)
    print(f"after {time.monotonic() - begun:.0f} s the learners are {behind:,} entries behind", flush=True)
    policy = serve_network(run)
    pages = {
        "overview": "/",
        "point": "/points/point00",
        "point, all of it": "/points/point00?span=0",
        "decision": f"/decisions/point00/d{given.decisions // 4}",
        "model": "/models/model00",
        "policy": f"/policies/point00/{policy}",
        "audit": "/audit",
        "system": "/system",
    }
    with console(run) as address, browser() as chromium:
        if "paints" in given.parts:
            paints(chromium, address, pages)
        if "cost" in given.parts:
            cost(chromium, address, run)
            with traffic(run.url(), given.points):
                share(chromium, address, run)
        if "heap" in given.parts:
            with traffic(run.url(), given.points):
                heap(chromium, address, given.minutes)


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--learned-within", type=float, default=3600.0, help="seconds to wait for the learners")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    if why := missing():
        print(f"skipped: {why}")
        return 0
    with tempfile.TemporaryDirectory() as folder, redis() as socket:
        declared = "".join(MANIFEST.format(i=i) for i in range(given.points))
        declared += "".join(MODEL.format(i=i) for i in range(given.models))
        (Path(folder) / "trimtab.toml").write_text(declared)
        begun = time.monotonic()
        fill(socket, given.points, given.models, given.decisions)
        stored = f"{given.models} models, {given.points} points, {given.decisions:,} decisions"
        print(f"{stored}, stored in {time.monotonic() - begun:.0f} s", flush=True)
        run = Run("--port", "0", cwd=Path(folder), TRIMTAB_REDIS=f"unix://{socket}")
        try:
            measure(run, given)
        finally:
            run.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
