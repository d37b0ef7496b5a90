"""A point's report as one page without outside parts, to be mailed: the figures of the console, standing still."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from agents.drawing import document
from service.console import point
from service.console.markup import text, when

Answer = Mapping[str, Any]

_STYLE = (resources.files("service.console") / "console.css").read_text()


def page(answers: Mapping[str, Answer]) -> str:
    """The page.

    Args:
        answers: What the service says of the point: `system`, `point`, `report`, `series`, `beliefs`, `worth`,
            `releases`, `policies`, `adaptation`.
    """
    told, beliefs = answers["point"], answers["beliefs"]
    name = told["name"]
    view = next(one for one in answers["system"]["points"] if one["name"] == name)
    releases = answers["releases"]["releases"]
    body = (
        f"{point.title(view, answers['adaptation'])}{point.strip(view, answers['report'], beliefs, answers['worth'])}"
        f"<div class=grid>{point.charts(answers['series'], beliefs, answers['worth'], releases, told['action_unit'])}"
        f"{point.outcomes(answers['report'])}{point.evidence(answers['report'])}{point.adaptation(answers['adaptation'])}"
        f"{point.policies(name, answers['policies'])}{point.releases(name, answers['releases'])}</div>"
        f"<p class=soft>Trimtab {text(name)}, as of {when(answers['system']['at'])}.</p>"
    )
    return document(f"{name} · Trimtab", f"<main class='page flat'>{body}</main>", _STYLE)
