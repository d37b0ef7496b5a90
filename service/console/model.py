"""A model's page: how well it does against simple rules, where it drifted, what it set aside. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from agents.drawing import draw
from agents.scales import number
from service.console.figures import error_chart
from service.console.markup import (
    card,
    code,
    facts,
    figure,
    listing,
    nothing,
    percent,
    pill,
    table,
    text,
    when,
    whole,
)

Answer = Mapping[str, Any]


_HALTS = {
    "drift": 'a drift stopped it, as on_drift = "raise" asks, until somebody lets it learn again',
    "ceiling": "it has outgrown its ceiling",
}


def title(model: Answer) -> str:
    """The head of the page."""
    drift = pill("drift", "bad", "an alarm within the last ten minutes") if model["drift"] else pill("steady", "good")
    if halted := model.get("halted"):
        drift += pill("learns no more", "bad", _HALTS[halted])
    elif coming := model.get("warnings"):
        drift += pill("warning", "warn", f"a change may be coming, by {', '.join(coming)}")
    champion = f" · champion {code(model['champion'])}" if model.get("champion") else ""
    key = f" · one instance per {text(model['key'])}" if model["key"] else ""
    return (
        f"<div class=title><h1>{text(model['name'])}</h1>{pill(model['task'])}{drift}"
        f"<p class=soft>{_pipeline(model['spec'].get('pipeline') or [])}{key}{champion}</p></div>"
    )


def _pipeline(steps: Sequence[Any]) -> str:
    names = [step.get("use", "?") if isinstance(step, Mapping) else str(step) for step in steps]
    return " → ".join(code(name) for name in names)


def strip(model: Answer) -> str:
    """The figures that matter most."""
    found = [
        figure(name, number(value, 4), "progressive: each prediction before its label")
        for name, value in model["metrics"].items()
    ]
    found += [
        figure(name, number(value, 4), "what a simple rule reaches on the same labels")
        for name, value in model["baseline"].items()
    ]
    found += [figure(name, whole(count)) for name, count in model["counts"].items()]
    return facts([*found, figure("behind", whole(model["lag"]), "entries that the learner has not seen")])


def errors(series: Answer, alarms: Answer) -> str:
    """The error over time with its alarms."""
    return card("", draw(error_chart(series, alarms["alarms"])), wide=True)


def drift(alarms: Answer) -> str:
    """Every alarm with what the detector saw, folded until it is asked for."""
    if not alarms["alarms"]:
        return card("Drift alarms", nothing("No detector has sounded an alarm."))
    rows = "".join(map(_alarm, alarms["alarms"][:30]))
    return card("Drift alarms", rows)


def _alarm(alarm: Answer) -> str:
    key = f" · key {text(alarm['key'])}" if alarm["key"] else ""
    seen = listing((name, number(value, 5)) for name, value in alarm["evidence"].items())
    head = f"{when(alarm['at'])} · {code(alarm['detector'])} on {text(alarm['signal'])}{key} {pill(alarm['action'])}"
    return f"<details><summary>{head}</summary>{seen}</details>"


def features(model: Answer) -> str:
    """What the model takes, and how good it was as it came in."""
    if not model["features"]:
        return card("Features", nothing("Types are taken from the first case that comes."))
    if not model["quality"]:
        words = "Counts of what is missing, refused or new are kept of features that the manifest declares."
        known = listing((name, text(kind)) for name, kind in model["features"].items())
        return card("Features", f"{known}<p class=soft>{words}</p>")
    rows = [_feature(name, kind, model["quality"].get(name)) for name, kind in model["features"].items()]
    heads = ("feature", "takes", "seen", "missing", "refused", "new values")
    return card("Features", table(heads, rows, left=2, stacked=True), wide=True)


def _feature(name: str, kind: str, quality: Answer | None) -> list[str]:
    if quality is None:
        return [code(name), text(kind), "–", "–", "–", "–"]
    lacking = quality["missing"] / quality["seen"] if quality["seen"] else None
    return [
        code(name),
        text(kind),
        whole(quality["seen"]),
        pill(percent(lacking), "warn") if quality["missing"] else percent(lacking),
        pill(whole(quality["refused"]), "bad", _refusals(quality)) if quality["refused"] else "0",
        whole(quality["new"]),
    ]


def _refusals(quality: Answer) -> str:
    """Why values of a feature were refused, in words."""
    reasons = ("out_of_range", "wrong_type", "not_allowed")
    told = [f"{whole(quality[why])} {why.replace('_', ' ')}" for why in reasons if quality[why]]
    return ", ".join(told) or "missing where it must be there"


def challengers(model: Answer) -> str:
    """Champion against challengers, where some are declared."""
    rows = model.get("challengers") or []
    if not rows:
        return card(
            "Challengers",
            nothing(f"None are declared: {code('[models.NAME.challengers.OTHER]')} learns one side by side."),
        )
    names = sorted({metric for one in rows for metric in one["metrics"]})
    cells = [[text(one["name"]), *(number(one["metrics"].get(m), 4) for m in names), _found(one)] for one in rows]
    how = model.get("comparison")
    said = f"{whole(how['labels'])} of {whole(how['announced'])} labels until it is judged." if how else ""
    return card("Challengers", table(("pipeline", *names, "last judged"), cells) + f"<p class=soft>{said}</p>")


def _found(challenger: Answer) -> str:
    """What the last comparison found of a challenger."""
    found = challenger["finding"]
    if challenger["trouble"]:
        return pill(challenger["trouble"], "bad")
    if halted := challenger.get("halted"):
        return pill("learns no more", "bad", _HALTS[halted])
    if not found:
        return "not yet"
    interval = f"{number(found['difference'], 3)} ({number(found['low'], 3)} … {number(found['high'], 3)})"
    tone = {"better": "good", "worse": "bad"}.get(found["verdict"], "")
    return pill(found["verdict"], tone, f"less error than the champion: {interval}, p {number(found['p'], 2)}")


def labels(model: Answer) -> str:
    """How many labels are waited for and wanted, and the performance estimated without them."""
    counts = model["counts"]
    waiting = counts.get("pending", 0)
    share = waiting / (waiting + counts.get("labelled", 0)) if waiting else 0.0
    rows = [("predictions that wait for their label", f"{whole(waiting)} ({percent(share)})")]
    wanted = model.get("labels_wanted")
    if wanted:
        asked = wanted["wanted"] / wanted["predictions"] if wanted["predictions"] else None
        rows.append(("labels asked for", f"{whole(wanted['wanted'])} of {whole(wanted['predictions'])} predictions"))
        rows.append(("spent of the budget", f"{percent(asked)} of {percent(wanted['budget'])}"))
    told = f"<p class=soft>No {code('label_budget')} is declared: no label is asked for.</p>" if not wanted else ""
    return card("Labels", listing(rows + _foreseen(model.get("estimated"))) + told)


def _foreseen(estimated: Answer | None) -> list[tuple[str, str]]:
    """The accuracy before labels are there, and how far such estimates were off."""
    if not estimated or estimated["accuracy"] is None:
        return []
    found = [
        (
            "accuracy foreseen before labels",
            f"{percent(estimated['accuracy'])}, {_believable(estimated['calibrated'])}",
        ),
        ("of the last predictions", whole(estimated["predictions"])),
    ]
    if estimated["gap"] is not None:
        off = f"{100 * estimated['gap']:+.1f} %".replace("-", "−")
        found.append(("how far off it was", f"{off} over {whole(estimated['labels'])} labels"))
    return found


def _believable(calibrated: bool | None) -> str:
    if calibrated is None:
        return pill("too few labels to tell", "warn")
    return pill("to be believed", "good") if calibrated else pill("not to be believed", "bad")


def reject_line(reject: Answer) -> str:
    """One entry that was set aside."""
    field = f" in {code(reject['field'])}" if reject["field"] else ""
    return (
        f"<b>{code(reject['id'])}</b>{field}: {text(reject['reason'])}<br><small>{code(str(reject['event']))}</small>"
    )
