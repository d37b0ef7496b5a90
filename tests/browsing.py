"""A browser for tests: Debian's chromium, headless, driven by playwright; the console of a running service in it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from running import SOON_S, Run

from service.processes.supervisor import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WHERE = "apt-get install chromium"


def missing() -> str:
    """Why there is no browser here; empty where there is one."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "no playwright: pip install playwright"
    return "" if CHROMIUM else f"no chromium: {WHERE}"


needs_browser = pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")


@contextmanager
def browser() -> Iterator[Any]:
    """A headless chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Tab:
    """One page in a browser, with everything that its console complained about."""

    def __init__(self, context: Any, base: str) -> None:
        self.page = context.new_page()
        self.base = base
        self.errors: list[str] = []
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.set_default_timeout(SOON_S * 1000)

    def open(self, path: str) -> "Tab":
        self.page.goto(f"{self.base}{path}")
        self.page.wait_for_selector("header.top")
        return self

    def sees(self, words: str) -> None:
        self.page.get_by_text(words).first.wait_for()

    def order(self, name: str, reason: str, **chosen: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).first.click()
        for label, option in chosen.items():
            self.page.locator(".q-dialog").get_by_label(label).click()
            self.page.locator(".q-menu").get_by_text(option, exact=True).click()
        self.page.locator(".q-dialog").get_by_label("Why").fill(reason)
        self.page.locator(".q-dialog button", has_text=name).last.click()
        self.page.locator(".q-dialog").wait_for(state="detached")


@contextmanager
def console(run: Run, **variables: str) -> Iterator[str]:
    """`trimtab console` of a running service; its address."""
    port = free_port("127.0.0.1", 0)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
    command = [sys.executable, "-P", "-m", "service.cli", "console", "--url", run.url(), "--port", str(port)]
    process = subprocess.Popen(command, env=environment | variables, cwd=run.folder, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{address}/login", trust_env=False).is_success
        except httpx.TransportError:
            return False

    try:
        assert run.eventually(answers, within=3 * SOON_S)
        yield address
    finally:
        process.terminate()
        process.wait(SOON_S)
