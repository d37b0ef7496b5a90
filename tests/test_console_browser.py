"""The console in a real browser: pages, orders, roles, and a service that goes away and comes back."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from browsing import Tab, browser, console, needs_browser
from running import SOON_S, Run

pytestmark = needs_browser

MANIFEST = """
[models.demand]
task = "regression"
pipeline = [{use = "preprocessing.MinMaxScaler"}, {use = "linear_model.LinearRegression"}]
metrics = ["MAE"]
features = {price = {type = "number"}}

[models.churn]
task = "binary"
pipeline = [{use = "preprocessing.StandardScaler"}, {use = "linear_model.LogisticRegression"}]

[points.price]
world = "pricing"
params = {stock = 5, periods = 10, volume = 2.7, prices = [1.0, 1.5, 2.0, 2.5]}
ranges = {volume = [0.5, 8.0]}
mode = "apprentice"
baseline = 2.0
exploration = {share = 0.2, over = "allowed"}
"""
OPERATOR, READER = "operate-with-this-token", "only-look-with-this-token"
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}


@dataclass
class Stage:
    """A service, its console and a browser."""

    run: Run
    address: str
    chromium: Any

    def tab(self, token: str = OPERATOR, **options: Any) -> Tab:
        context = self.chromium.new_context(**options)
        tab = Tab(context, self.address)
        tab.page.goto(f"{self.address}/")
        tab.page.get_by_label("API key").fill(token)
        tab.page.get_by_role("button", name="Log in").click()
        tab.page.wait_for_selector("header.top")
        return tab

    def post(self, path: str, body: Any) -> Any:
        answer = httpx.post(f"{self.run.url()}{path}", json=body, trust_env=False)
        assert answer.is_success, answer.text
        return answer.json()

    def play(self, first: int, count: int) -> None:
        for i in range(first, first + count):
            body = {"id": f"d{i}", "context": {"stock": 1 + i % 5, "period": i % 10}}
            decided = self.post("/v1/decisions/price", body)
            self.post("/v1/decisions/price/outcomes", {"id": f"d{i}", "fields": {"sold": i % 2}})
            event = {"id": f"e{i}", "features": {"price": decided["action"]}, "label": i % 2}
            self.post("/v1/models/demand/events", event)

    def release(self) -> Any:
        return self.run.get("/v1/points/price")["release"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("console")
    (folder / "trimtab.toml").write_text(MANIFEST)
    run = Run("--port", "0", cwd=folder)
    tokens = {"TRIMTAB_CONSOLE_OPERATOR_TOKEN": OPERATOR, "TRIMTAB_CONSOLE_READ_TOKEN": READER}
    try:
        with console(run, **tokens) as address, browser() as chromium:
            found = Stage(run, address, chromium)
            found.play(0, 30)
            yield found
    finally:
        run.clean_up()


@pytest.fixture
def bundles(stage: Stage, make_bundle: Any) -> list[str]:
    """Two bundles: one that always asks 2.5, one that always asks 1.0."""
    made = []
    for favourite in (3, 0):
        weights = [[0.0, 0.0, 20.0 if action == favourite else 0.0] for action in range(4)]
        answer = httpx.post(f"{stage.run.url()}/v1/policies/price", content=make_bundle(weights), trust_env=False)
        assert answer.is_success, answer.text
        made.append(answer.json()["digest"])
    return made


@pytest.mark.parametrize("size", SIZES)
def test_every_page_renders_without_a_complaint_and_without_scrolling_sideways(stage, bundles, size) -> None:
    pages = {
        "/": "Decision points",
        "/points/price": "Value per decision",
        "/decisions/price/d3": "What was asked",
        "/models/demand": "Error, as it was when labels came",
        f"/policies/price/{bundles[0]}": "Below the optimum",
        "/audit": "Audit",
        "/system": "Processes",
        "/points/nowhere": "There is no such thing here",
    }
    scheme = "dark" if size == "narrow" else "light"
    tab = stage.tab(viewport=SIZES[size], color_scheme=scheme)
    for path, words in pages.items():
        tab.open(path).sees(words)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], path
    assert tab.errors == []


def test_what_happens_is_seen_without_a_reload(stage) -> None:
    tab = stage.tab().open("/points/price")
    tab.sees("Latest decisions")
    stage.play(1000, 3)
    tab.sees("d1002")
    assert tab.errors == []


def test_times_are_in_the_zone_of_the_reader_with_utc_on_hover(stage) -> None:
    shown = {}
    for zone in ("UTC", "Asia/Tokyo"):
        page = stage.tab(timezone_id=zone).open("/decisions/price/d3").page
        page.wait_for_selector("time[data-local]")
        time = page.locator("main time").first
        shown[zone] = (time.inner_text(), time.get_attribute("title"))
    assert shown["UTC"][0] != shown["Asia/Tokyo"][0]
    assert shown["UTC"][1] == shown["Asia/Tokyo"][1]
    assert shown["UTC"][1].endswith("UTC")


def test_orders_change_what_the_service_serves(stage, bundles) -> None:
    expensive, cheap = bundles
    tab = stage.tab().open("/points/price")
    tab.order("Promote", "a try", digest=f"{expensive[:10]} · network ")
    assert (stage.release()["incumbent"], stage.release()["mode"]) == (expensive, "live")
    tab.order("Promote", "cheaper", digest=f"{cheap[:10]} · network ")
    decided = [stage.post("/v1/decisions/price", {"context": {"stock": 5, "period": 0}}) for _ in range(20)]
    assert sum(one["action"] == 1.0 for one in decided) > 10
    tab.order("Roll back", "not that cheap")
    assert stage.release()["incumbent"] == expensive
    tab.order("Mode", "look first", mode="apprentice")
    assert stage.release()["mode"] == "apprentice"
    tab.order("Stop", "enough")
    release = stage.release()
    assert (release["mode"], release["reason"], release["actor"]) == ("off", "enough", "operate")
    assert stage.post("/v1/decisions/price", {"context": {"stock": 5, "period": 0}})["action"] == 2.0
    tab.open("/audit").sees("not that cheap")
    tab.sees("entries, all as they were written")
    tab.page.get_by_role("cell", name="promote").first.wait_for()
    assert tab.errors == []


def test_an_order_without_a_reason_is_not_given(stage) -> None:
    before = stage.release()["number"]
    page = stage.tab().open("/points/price").page
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator(".q-dialog button", has_text="Stop").last.click()
    page.get_by_text("Say why").wait_for()
    assert stage.release()["number"] == before


def test_what_was_set_aside_is_mended_and_brought_back(stage) -> None:
    # In one batch, so that the service cannot know yet that x is a number.
    lines = "\n".join(
        f'{{"id":"{name}","features":{{"x":{x}}},"label":true}}' for name, x in (("a", "1.5"), ("b", '"1"'))
    )
    where, kind = f"{stage.run.url()}/v1/models/churn/events", {"content-type": "application/x-ndjson"}
    assert httpx.post(where, content=lines, headers=kind, trust_env=False).is_success
    tab = stage.tab().open("/models/churn")
    tab.sees("as it was when first seen")
    tab.page.get_by_role("button", name="Replay").click()
    tab.page.locator(".q-dialog").get_by_label("event").fill('{"features": {"x": 1.0}}')
    tab.page.locator(".q-dialog").get_by_label("Why").fill("a number in quotes")
    tab.page.locator(".q-dialog button", has_text="Replay").last.click()
    tab.sees("Nothing was set aside")
    assert stage.run.get("/v1/models/churn")["learned"] == 2
    assert tab.errors == []


def test_a_reader_sees_everything_and_no_buttons(stage) -> None:
    tab = stage.tab(READER).open("/points/price")
    tab.sees("read only")
    tab.sees("Latest decisions")
    assert tab.page.get_by_role("button", name="Stop", exact=True).count() == 0
    assert tab.errors == []


def test_nobody_looks_without_a_key_and_no_page_of_others_acts(stage) -> None:
    with httpx.Client(base_url=stage.address, trust_env=False) as client:
        away = client.get("/points/price?span=900")
        assert (away.status_code, away.headers["location"]) == (303, "/login?next=%2Fpoints%2Fprice%3Fspan%3D900")
        assert client.post("/login", data={"token": "wrong"}).status_code == 401
        foreign = client.post("/login", data={"token": READER}, headers={"origin": "https://evil.example"})
        assert foreign.status_code == 403
        good = client.post("/login", data={"token": READER, "next": "//evil.example"})
        assert (good.status_code, good.headers["location"]) == (303, "/")
        cookie = good.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/").headers["x-frame-options"] == "DENY"
        assert client.post("/logout").status_code == 303
        assert client.get("/").status_code == 303


def test_every_button_and_figure_is_reached_by_keyboard(stage) -> None:
    page = stage.tab().open("/points/price").page
    page.get_by_text("Latest decisions").wait_for()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.className || document.activeElement.textContent"))
        if any("tt-area" in one for one in reached) and any("order" in one for one in reached):
            break
    assert any("order" in one for one in reached)
    assert any("tt-area" in one for one in reached)
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".tt-tip")


def test_a_service_that_goes_away_is_said_to_be_and_comes_back(stage) -> None:
    tab = stage.tab().open("/")
    tab.sees("live")
    os.kill(stage.run.member("service.cli api"), signal.SIGKILL)
    tab.sees("does not answer")
    # What was known stays, instead of zeros.
    tab.sees("price")
    tab.page.get_by_text("does not answer").wait_for(state="detached", timeout=2 * SOON_S * 1000)
    stage.play(2000, 1)
    tab.sees("live")
