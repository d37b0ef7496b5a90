"""A decision's page: what was asked and believed, what could have been done, what was drawn, and what came of it."""

from collections.abc import Mapping
from typing import Any

from agents.drawing import draw
from agents.scales import number
from service.console.figures import distribution
from service.console.markup import (
    card,
    code,
    facts,
    figure,
    is_digest,
    link,
    listing,
    mode,
    nothing,
    pill,
    plain,
    short,
    text,
    when,
)

Answer = Mapping[str, Any]

_STATES = {"rewarded": "good", "defaulted": "bad", "pending": "warn", "deferred": "warn"}


def page(trace: Answer, point: Answer) -> str:
    """Everything about one decision."""
    unit = point["action_unit"]
    action = plain(trace["action"]) + (f" {text(unit)}" if unit else "")
    pills = pill(trace["state"], _STATES.get(trace["state"], "")) + mode(trace["mode"])
    where = f"{link(point['name'], 'points', point['name'])} · decision {code(trace['id'])} · {when(trace['at'])}"
    head = f"<div class=title><h1>{action}</h1>{pills}<p class=soft>{where}</p></div>"
    figures = facts(
        [
            figure("propensity", number(trace["propensity"], 5), "the probability of this action, every draw counted"),
            figure("draw", number(trace.get("draw"), 5), "the uniform number that chose"),
            figure("reward", number(trace.get("reward"), 5), "what its outcomes amount to so far"),
            figure("outcomes", plain(trace.get("outcomes", 0))),
            figure("wait", "over" if trace.get("closed") else "open", "whether outcomes still count"),
        ]
    )
    parts = _asked(trace, point) + _believed(trace) + _drawn(trace, point) + _logged(trace)
    return f"<div class=stack>{head}{figures}<div class=grid>{parts}</div></div>"


def _asked(trace: Answer, point: Answer) -> str:
    fields = {field["name"]: field for field in point["context"]}
    rows = [(_named(name, fields), plain(value)) for name, value in trace["context"].items()]
    rows += [("key", plain(trace["key"]))] if trace.get("key") else []
    rows += [("episode", plain(trace["episode"]))] if trace.get("episode") else []
    return card("What was asked", listing(rows))


def _named(name: str, fields: Mapping[str, Answer]) -> str:
    unit = fields.get(name, {}).get("unit", "")
    return f"{name} ({unit})" if unit else name


def _believed(trace: Answer) -> str:
    estimates = trace.get("estimates")
    if not estimates:
        return card("What the world was believed to be", nothing("The policy that chose takes no live estimates."))
    return card(
        "What the world was believed to be", listing((name, number(value, 5)) for name, value in estimates.items())
    )


def _drawn(trace: Answer, point: Answer) -> str:
    if not trace.get("probabilities"):
        return card("Distribution", nothing("No distribution was logged: a rule, or the caller, decided."), wide=True)
    return card("", draw(distribution(trace, point)), wide=True)


def _logged(trace: Answer) -> str:
    digest, kind = trace["policy"]["digest"] or "", trace["policy"]["kind"]
    bundle = f"{link(short(digest), 'policies', trace['point'], digest)} <small>{text(kind)}</small>"
    rows = [
        ("policy", bundle if is_digest(digest) else code(digest or kind)),
        ("arm", plain(trace.get("arm") or "–")),
        ("probability of the arm", number(trace.get("arm_probability", 1.0))),
        ("index of the action", plain(trace["index"])),
        ("index that the baseline would have taken", plain(trace.get("baseline"))),
        ("place in the log", code(trace["entry"])),
        ("late outcomes", plain(trace.get("late", 0))),
    ]
    return card("What was logged", listing(rows), wide=True)
