"""The overview: what needs a person first, then every point and model as a card, and what happened. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from agents.drawing import spark
from agents.scales import number
from service.console.figures import share_now
from service.console.markup import (
    card,
    code,
    facts,
    figure,
    link,
    mode,
    nothing,
    path,
    percent,
    pill,
    seconds,
    short,
    text,
    when,
    whole,
)

Answer = Mapping[str, Any]
Peek = Callable[[str, float], Any]

SILENT_S = 10.0
BEHIND = 1000
RECENT_S = 600.0
_NOTES = 14
_SPARK_S, _LOOK_S = 60.0, 20.0
_KINDS = {"drift": "bad", "shift": "warn", "released": "good", "error": "bad", "adapt": "warn"}


class Need(NamedTuple):
    """Something that a person should look at; `tone` is bad or warn, `what` is HTML."""

    tone: str
    what: str


def needs(system: Answer, peek: Peek) -> list[Need]:
    """What needs a person, the most pressing first."""
    found = [_silent(process) for process in system["processes"] if process["age_s"] > SILENT_S]
    for point in system["points"]:
        found += _point_needs(point) + _loop_needs(point["name"], peek(_loop(point["name"]), _LOOK_S))
    for model in system["models"]:
        found += _model_needs(model)
    failed = {job["point"]: job for job in reversed(system["jobs"]) if job["state"] in ("failed", "done")}
    for job in failed.values():
        if job["state"] == "failed":
            why = text(job["detail"].get("error", ""))
            found.append(
                Need("bad", f"{text(job['kind'])} of {link(job['point'], 'points', job['point'])} failed: {why}")
            )
    return sorted(found, key=lambda need: need.tone != "bad")


def _silent(process: Answer) -> Need:
    return Need("bad", f"The process {code(process['process'])} has been silent for {seconds(process['age_s'])}.")


def _point_needs(point: Answer) -> list[Need]:
    name = link(point["name"], "points", point["name"])
    found = []
    if point["error"]:
        found.append(Need("bad", f"{name} cannot serve what is stored: {text(point['error'])}"))
    if point["lag"] > BEHIND:
        found.append(Need("warn", f"The learner of {name} is {whole(point['lag'])} entries behind."))
    if point["rejected"]:
        found.append(Need("warn", f"{name} set {whole(point['rejected'])} outcomes aside that met no decision."))
    return found


def _loop(point: str) -> str:
    return path("v1", "points", point, "adaptation")


def _loop_needs(point: str, loop: Answer | None) -> list[Need]:
    if loop is None:
        return []
    name = link(point, "points", point)
    found = [Need("bad", f"{name}: {text(loop['attention'])}.")] if loop["attention"] else []
    return found + ([Need("warn", f"{name} is held: {text(loop['paused'])}.")] if loop["paused"] else [])


def _model_needs(model: Answer) -> list[Need]:
    name = link(model["name"], "models", model["name"])
    found = []
    if model["drift"]:
        found.append(Need("warn", f"{name} has sounded a drift alarm within the last ten minutes."))
    if model["rejected"]:
        found.append(
            Need("warn", f"{name} set {whole(model['rejected'])} entries aside: mend and replay them, or let them be.")
        )
    if model["lag"] > BEHIND:
        found.append(Need("warn", f"The learner of {name} is {whole(model['lag'])} entries behind."))
    return found


def attention(system: Answer, peek: Peek) -> str:
    """What needs a person, as HTML; a calm line where nothing does."""
    found = needs(system, peek)
    if not found:
        return "<div class='calm'><i></i>Nothing needs you. Everything that can go on by itself does.</div>"
    rows = "".join(f"<li class={need.tone}><i></i><span>{need.what}</span></li>" for need in found)
    return f"<ul class=needs aria-label='What needs a person'>{rows}</ul>"


def points(system: Answer, peek: Peek) -> str:
    """Every point as a card."""
    if not system["points"]:
        words = f"No point is declared. Write one into the manifest, or {code('PUT /v1/points/NAME')}."
        return card("Decision points", nothing(words))
    return f"<div class=cards>{''.join(_point(point, peek) for point in system['points'])}</div>"


def _point(point: Answer, peek: Peek) -> str:
    name, release = point["name"], point["release"]
    series = peek(f"/v1/points/{name}/series?buckets=48&span=3600", _SPARK_S)
    beliefs = peek(f"/v1/points/{name}/beliefs", _LOOK_S)
    worth = peek(f"/v1/points/{name}/worth", 60.0)
    loop = peek(_loop(name), _LOOK_S)
    serving = release["incumbent"] if release["mode"] not in ("off", "apprentice") else None
    stage = loop["stage"] if loop else ""
    told = pill(stage, "" if stage == "steady" else "warn", "where the adaptation loop is") if stage else ""
    pills = mode(release["mode"]) + told
    drawn, latest = _sparkline(series)
    share = share_now(beliefs, worth, serving or "baseline") if beliefs and worth else None
    rule = share_now(beliefs, worth, "baseline") if beliefs and worth else None
    against = f"<small>baseline {percent(rule)}</small>" if rule is not None and serving else ""
    figures = [
        figure("value per decision", number(latest, 4), "mean reward in the latest stretch of time"),
        figure("of the optimum", f"{percent(share)} {against}", "exact, in the world as it is believed now"),
        figure("decisions", whole(point["decisions"])),
        figure("pending", whole(point["pending"]), "decisions whose outcome has not come"),
        *_standing(point),
    ]
    changed = (
        f"{when(release['since'], 'hms')} · {text(release['reason'])}" if release["since"] else "as the manifest has it"
    )
    return (
        f"<article class='card tile'><header><h3>{link(name, 'points', name)}</h3>{pills}</header>"
        f"<p class=soft>{text(point['world'])} · serves {code(short(serving or point['baseline']))}</p>"
        f"{drawn}{facts(figures)}<p class='soft last'>last change {changed}</p></article>"
    )


def _standing(subject: Answer) -> list[str]:
    """How far the learner of a point or model is."""
    return [
        figure("behind", whole(subject["lag"]), "entries that the learner has not seen"),
        figure("snapshot", seconds(subject["age_s"]), "since the state that is served was loaded"),
        figure("set aside", whole(subject["rejected"]), "entries", "bad" if subject["rejected"] else ""),
    ]


def _sparkline(series: Answer | None) -> tuple[str, float | None]:
    """Value over the last hour, and its latest figure."""
    if series is None:
        return "<div class='spark wait'></div>", None
    means = [_mean(bucket) for bucket in series["buckets"]]
    known = [mean for mean in means if mean is not None]
    if not known:
        return f"<p class=nothing>No decisions in the last hour. {code('POST /v1/decisions/…')} asks for one.</p>", None
    return f"<div class=spark title='value per decision, last hour'>{spark(means)}</div>", known[-1]


def _mean(bucket: Answer) -> float | None:
    cells = [cell for cell in bucket["earned"] if cell["value"]]
    total = sum(cell["rewarded"] for cell in cells)
    return sum(cell["rewarded"] * cell["value"]["mid"] for cell in cells) / total if total else None


def models(system: Answer, peek: Peek) -> str:
    """Every model as a card."""
    if not system["models"]:
        words = f"No model is declared. Write one into the manifest, or {code('PUT /v1/models/NAME')}."
        return card("Models", nothing(words))
    return f"<div class=cards>{''.join(_model(model, peek) for model in system['models'])}</div>"


def _model(model: Answer, peek: Peek) -> str:
    name = model["name"]
    series = peek(f"/v1/models/{name}/series?buckets=48&span=3600", _SPARK_S) if model["learned"] else None
    drawn = ""
    if not model["learned"]:
        drawn = (
            f"<p class=nothing>It has learned nothing yet. {code(f'POST /v1/models/{name}/events')} sends cases.</p>"
        )
    elif series is None:
        drawn = "<div class='spark wait'></div>"
    else:
        errors = [bucket["error"]["mid"] if bucket["error"] else None for bucket in series["buckets"]]
        drawn = f"<div class=spark title='mean error, last hour'>{spark(errors)}</div>"
    drift = pill("drift", "bad", "an alarm within the last ten minutes") if model["drift"] else pill("steady")
    figures = [figure(metric, number(value, 4)) for metric, value in model["metrics"].items()]
    figures += [
        figure(rule, number(value, 4), "what a simple rule reaches") for rule, value in model["baseline"].items()
    ]
    figures += [figure("learned", whole(model["learned"])), *_standing(model)]
    return (
        f"<article class='card tile'><header><h3>{link(name, 'models', name)}</h3>{pill(model['task'])}{drift}</header>"
        f"{drawn}{facts(figures)}</article>"
    )


def feed(notes: Sequence[Answer], most: int = _NOTES) -> str:
    """What happened, the newest first."""
    if not notes:
        return nothing(
            "Nothing has happened since the service was started. Alarms, trainings and releases appear here."
        )
    rows = "".join(
        f"<li class={_KINDS.get(note['kind'], 'soft')}><span class=at>{when(note['at'], 'hms')}</span>"
        f"<span>{text(note['text'])}</span></li>"
        for note in list(notes)[: -most - 1 : -1]
    )
    return f"<ol class=feed>{rows}</ol>"
