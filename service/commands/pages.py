"""Pages of an evaluation as files: HTML by itself, and PNG where Matplotlib is installed."""

import os
from pathlib import Path

from agents.pages import Page, render
from service.commands.output import CommandError, UsageError


def require_writable(**files: Path | None) -> None:
    """Say before long work, not after it, that its result could not be written."""
    for name, file in files.items():
        if file is None:
            continue
        if file.is_dir() or not file.parent.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
            raise UsageError(f"--{name} {file}: give a file in a folder that exists and can be written to")
        if name == "plot" and file.suffix.lower() != ".png":
            raise UsageError(f"--plot {file}: it is a PNG, give a name that ends in .png")


def write_pages(page: Page, html: Path | None, plot: Path | None) -> dict[str, str]:
    """Write what was asked for; the names of the files."""
    written = {}
    if html is not None:
        html.write_text(render(page), encoding="utf-8")
        written["html"] = str(html)
    if plot is not None:
        plot.write_bytes(_drawn(page))
        written["plot"] = str(plot)
    return written


def _drawn(page: Page) -> bytes:
    try:
        from agents.pictures import draw
    except ImportError as error:
        raise CommandError(f"--plot needs Matplotlib ({error}): pip install matplotlib") from None
    try:
        return draw(page)
    except ValueError as error:
        raise CommandError(str(error)) from None
