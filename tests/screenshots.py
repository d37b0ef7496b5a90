"""Every page of the console as a picture, wide and narrow, light and dark, while the demo plays.

`make screenshots` writes them into a folder outside the repository; look at each.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from browsing import Tab, browser, missing
from running import Run

SIZES = {1280: 900, 390: 844}
SCHEMES = ("light", "dark")
_SETTLE_S = 3.0
_MODEL, _POINT = "demand", "price"


def main() -> int:
    """Plays the demo for a while, then takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=12.0, help="how long to play: a cycle takes about nine")
    given = parser.parse_args()
    if why := missing():
        sys.stderr.write(f"{why}\n")
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Run("--demo", "--console", "--port", "0", cwd=Path(folder), TRIMTAB_CONSOLE_PORT="0")
        try:
            if not run.eventually(lambda: "the console is at" in run.text):
                sys.stderr.write(run.text)
                return 1
            run.eventually(lambda: "watched → confirmed" in run.text, within=60 * given.minutes)
            found = re.search(r"the console is at (http://\S+)", run.text)
            take(run, found[1] if found else "", given.out)
        finally:
            run.clean_up()
    return 0


def take(run: Run, address: str, out: Path) -> None:
    """Every page in every variant."""
    with browser() as chromium:
        for width, height in SIZES.items():
            for scheme in SCHEMES:
                context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                for name, path in pages(run).items():
                    tab = Tab(context, address).open(path)
                    time.sleep(_SETTLE_S)
                    picture = out / f"{name}-{width}-{scheme}.png"
                    tab.page.screenshot(path=picture, full_page=True)
                    tab.page.close()
                    complaints = f": {tab.errors}" if tab.errors else ""
                    sys.stdout.write(f"{picture}{complaints}\n")
                context.close()


def pages(run: Run) -> dict[str, str]:
    """The addresses of all pages."""
    digest = run.get(f"/v1/policies/{_POINT}")["policies"][0]["digest"]
    decision: dict[str, Any] = run.get(f"/v1/points/{_POINT}/latest?last=100")["decisions"][-1]
    return {
        "overview": "/",
        "point": f"/points/{_POINT}",
        "decision": f"/decisions/{_POINT}/{quote(decision['id'], safe='')}?key={quote(decision['key'], safe='')}",
        "model": f"/models/{_MODEL}",
        "policy": f"/policies/{_POINT}/{digest}",
        "audit": "/audit",
        "system": "/system",
    }


if __name__ == "__main__":
    sys.exit(main())
