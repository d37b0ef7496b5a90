"""The console beside the demo: started by `trimtab up`, it shows the customers change, and the service adapt."""

import re
from collections.abc import Iterator

import pytest
from browsing import Tab, browser, needs_browser
from running import Run

pytestmark = [needs_browser, pytest.mark.long]

CYCLE_S = 15 * 60.0


@pytest.fixture
def demo(tmp_path) -> Iterator[Run]:
    run = Run("--demo", "--console", "--port", "0", cwd=tmp_path, TRIMTAB_CONSOLE_PORT="0")
    yield run
    run.clean_up()


@pytest.mark.timeout(2 * CYCLE_S)
def test_the_shift_becomes_visible_as_an_alarm_and_a_moved_estimate_without_a_reload(demo) -> None:
    assert demo.eventually(lambda: "the console is at" in demo.text)
    found = re.search(r"the console is at (http://\S+)", demo.text)
    assert found is not None
    with browser() as chromium:
        tab = Tab(chromium.new_context(), found[1]).open("/points/price")
        tab.page.set_default_timeout(CYCLE_S * 1000)
        tab.sees("the world has changed")
        tab.page.wait_for_selector(".tt-flag.tt-alarm")
        tab.sees("watched → confirmed")
        believed = demo.get("/v1/points/price/beliefs")["parameters"][0]["mid"]
        assert believed > 1.4
        releases = demo.get("/v1/policies/price/releases")["releases"]
        assert any(release["mode"] == "canary" for release in releases)
        assert tab.errors == []
    assert demo.stop() == 0
    assert not demo.members()
