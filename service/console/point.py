"""A point's page: how it does, what it believes, what it did about it, and who decided what. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from agents.drawing import draw
from agents.scales import number
from service.console.figures import (
    action_shares,
    estimate_chart,
    marks_of,
    share_chart,
    share_now,
    value_chart,
)
from service.console.markup import (
    MODES,
    card,
    code,
    facts,
    figure,
    is_digest,
    link,
    listing,
    mode,
    nothing,
    percent,
    pill,
    seconds,
    short,
    table,
    text,
    when,
    whole,
)

Answer = Mapping[str, Any]

SPANS = ((900, "15 min"), (3600, "1 h"), (21_600, "6 h"), (86_400, "24 h"), (604_800, "7 d"), (0, "all"))
_STAGES = (
    "steady",
    "suspected",
    "recalibrating",
    "training",
    "gate",
    "shadow",
    "canary",
    "released",
    "watched",
    "confirmed",
)
_ENDS = {"rejected": "bad", "rolled-back": "bad", "doubted": "warn", "confirmed": "good", "released": "good"}
_VERDICTS = {"better": "good", "worse": "bad"}


def title(view: Answer, loop: Answer | None) -> str:
    """The head of the page: what serves, in words."""
    release = view["release"]
    if release["mode"] in ("off", "apprentice") or not release["incumbent"]:
        serving = f"the rule {code(view['baseline'])} serves"
    else:
        kind = "bundle " if is_digest(release["incumbent"]) else ""
        serving = f"{kind}{_policy(view['name'], release['incumbent'])} serves"
    if release["candidate"]:
        share = f" to {percent(release['share'], 0)} of the units" if release["mode"] == "canary" else ""
        serving += f", candidate {_policy(view['name'], release['candidate'])} is on trial{share}"
    stage = loop["stage"] if loop else ""
    shown = pill(stage, "" if stage == "steady" else "warn", "where the adaptation loop is") if stage else ""
    paused = pill(f"held: {loop['paused']}", "bad") if loop and loop["paused"] else ""
    needed = f"<p class=needed>{text(loop['attention'])}</p>" if loop and loop["attention"] else ""
    return (
        f"<div class=title><h1>{text(view['name'])}</h1>{mode(release['mode'])}{shown}{paused}"
        f"<p class=soft>{serving} · {text(MODES[release['mode']])} · world {text(view['world'])}</p>{needed}</div>"
    )


def _policy(point: str, name: str) -> str:
    """A bundle with a link to its page, a bandit by its name."""
    return link(short(name), "policies", point, name) if is_digest(name) else code(name)


def strip(view: Answer, report: Answer | None, beliefs: Answer, worth: Answer | None) -> str:
    """The figures that matter most."""
    release = view["release"]
    serving = release["incumbent"] if release["mode"] not in ("off", "apprentice") else None
    share = share_now(beliefs, worth, serving or "baseline") if worth else None
    rule = share_now(beliefs, worth, "baseline") if worth else None
    waits = report["outcome_delay"].get("p50") if report else None
    defaulted = report["defaulted_share"] if report else None
    return facts(
        [
            figure("of the optimum", percent(share), "exact, in the world as it is believed now"),
            figure("baseline", percent(rule), "the same for the rule"),
            figure("decisions", whole(view["decisions"])),
            figure("pending", whole(view["pending"]), "decisions whose outcome has not come"),
            figure(
                "defaulted", percent(defaulted), "decisions that got no outcome in time, of those whose wait is over"
            ),
            figure("median delay", seconds(waits), "from decision to outcome"),
            figure("behind", whole(view["lag"]), "entries that the learner has not seen"),
            figure(
                "set aside", whole(view["rejected"]), "outcomes that met no decision", "bad" if view["rejected"] else ""
            ),
        ]
    )


def spans(now: int) -> str:
    """Links to other stretches of time."""
    links = "".join(
        f"<a href='?span={span}'{' aria-current=true' if span == now else ''}>{words}</a>" for span, words in SPANS
    )
    return f"<nav class=spans aria-label='Stretch of time'>{links}</nav>"


def charts(series: Answer, beliefs: Answer, worth: Answer | None, releases: Sequence[Answer], unit: str) -> str:
    """Value, share of the optimum, parameters and actions over time, as cards."""
    past = list(releases)[::-1]
    marks = marks_of(beliefs["alarms"], past)
    parts = [card("", draw(value_chart(series, marks)), wide=True)]
    if worth is not None:
        parts.append(card("", draw(share_chart(series, beliefs, worth, past, marks))))
    parts += [card("", draw(estimate_chart(one["name"], series, beliefs, marks))) for one in beliefs["parameters"]]
    if not beliefs["parameters"]:
        words = "Nothing is estimated: the world has no likelihood, or no outcome with fields has come."
        parts.append(card("Believed parameters", nothing(words)))
    return "".join([*parts, card("", draw(action_shares(series, unit)))])


def adaptation(loop: Answer) -> str:
    """The loop's stages as a line, and every transition with its reasons."""
    stage = loop["stage"]
    place = _STAGES.index(stage) if stage in _STAGES else -1
    steps = "".join(
        f"<li class='{'now' if i == place else 'past' if i < place else ''}'>{text(name)}</li>"
        for i, name in enumerate(_STAGES)
    )
    left = f"<p>{pill(stage, _ENDS.get(stage, 'warn'))}</p>" if place < 0 else ""
    entries = "".join(
        f"<li class={_ENDS.get(entry['after'], 'soft')}><span class=at>{when(entry['at'], 'hms')}</span>"
        f"<span><b>{text(entry['before'])} → {text(entry['after'])}</b> <small>cycle {entry['cycle']}</small>"
        f"{''.join(f'<br>{text(reason)}' for reason in entry['reasons'])}</span></li>"
        for entry in loop["entries"][:40]
    )
    history = (
        f"<ol class=feed>{entries}</ol>" if entries else nothing("No cycle has begun: nothing has given reason to.")
    )
    return card("Adaptation", f"<ol class=stages>{steps}</ol>{left}{history}", name="adaptation")


def releases(point: str, answer: Answer) -> str:
    """What has served, since when, by whom and why."""
    rows = [
        [
            when(one["since"]) if one["since"] else "from the beginning",
            mode(one["mode"]),
            _policy(point, one["incumbent"]) if one["incumbent"] else "rule",
            _policy(point, one["candidate"]) if one["candidate"] else "–",
            text(one["actor"]),
            text(one["reason"]),
        ]
        for one in answer["releases"][:30]
    ]
    heads = ("since", "mode", "incumbent", "candidate", "by", "why")
    return card("Releases", table(heads, rows, left=6, stacked=True), wide=True)


def policies(point: str, answer: Answer) -> str:
    """The bundles of the point, and its bandits."""
    learned = "".join(
        f"<p class=soft>{code(name)} has learned from {whole(rewards)} rewards.</p>"
        for name, rewards in answer["bandits"].items()
    )
    if not answer["policies"]:
        words = f"No bundle is registered: press Train now, or {code(f'trimtab train … --register {point}')}."
        return card("Bundles", nothing(words) + learned)
    rows = [
        [
            _policy(point, one["digest"])
            + (pill(one["role"], "good" if one["role"] == "incumbent" else "warn") if one["role"] else ""),
            text(one["algo"] or one["kind"]),
            whole(one["steps"]),
            _gap(one["metrics"]),
            when(one["at"]),
        ]
        for one in answer["policies"][:30]
    ]
    bundles = table(("bundle", "made by", "steps", "below the optimum", "registered"), rows, left=2, stacked=True)
    return card("Bundles", bundles + learned)


def _gap(metrics: Mapping[str, float]) -> str:
    share = metrics.get("gap_share", metrics.get("gap_mean_share"))
    return percent(share, 2)


def evidence(report: Answer) -> str:
    """What baseline, incumbent and candidate would have earned on the same decisions."""
    if not report["comparisons"]:
        return card("Evidence", nothing("No decision has its reward yet: verdicts come with outcomes."))
    rows = []
    for one in report["comparisons"]:
        verdict, gain = one["report"].get("verdict", ""), one["report"].get("gain") or {}
        rows.append(
            [
                f"{text(one['role'])} {code(short(one['policy']))}",
                pill(verdict, _VERDICTS.get(verdict, "")),
                f"<span class=said>{text(one['said'])}</span>",
                _gain(gain),
                percent(one["agreement"]),
            ]
        )
    note = f"<p class=soft>Off-policy evaluation of the last {whole(report['decisions'])} decisions.</p>"
    heads = ("policy", "verdict", "in words", f"gain per {report['comparisons'][0]['unit']}", "agreement")
    return card("Evidence", table(heads, rows, left=3, stacked=True) + note, wide=True)


def _gain(gain: Mapping[str, Any]) -> str:
    """A gain with its interval; what is less than a billionth comes of rounding."""
    if gain.get("value") is None:
        return "–"
    told = (gain["value"], *(gain.get("interval") or (None, None)))
    value, low, high = (None if one is None else round(one, 9) for one in told)
    return f"{number(value, 3)} <small>({number(low, 3)} … {number(high, 3)})</small>"


def outcomes(report: Answer) -> str:
    """States of decisions, and how long outcomes took."""
    total = max(report["decisions"], 1)
    states = "".join(
        f"<div class=share><span>{text(state)}</span><i><b class={text(state)} "
        f"style='width:{100 * count / total:.1f}%'></b></i><span>{whole(count)}</span></div>"
        for state, count in report["states"].items()
    )
    delays = listing((f"{name} of the delays", seconds(value)) for name, value in report["outcome_delay"].items())
    late = (
        f"<p class=soft>{whole(report['late'])} outcomes came after the wait and changed nothing.</p>"
        if report["late"]
        else ""
    )
    if not report["decisions"]:
        return card("Outcomes", nothing("Nothing was decided yet."))
    return card("Outcomes", f"{states}{delays}{late}")


def latest(point: str, answer: Answer) -> str:
    """The last decisions, with links to all about each."""
    rows = [
        [
            link(one["id"], "decisions", point, one["id"], query=f"?key={text(one['key'])}" if one.get("key") else ""),
            when(one["at"], "hms"),
            number(one["action"]) if not isinstance(one["action"], list) else text(one["action"]),
            number(one["propensity"], 3),
            number(one.get("reward"), 4),
            code(short(one["policy"])),
        ]
        for one in answer["decisions"][:12]
    ]
    if not rows:
        words = f"No decision was asked for. {code(f'POST /v1/decisions/{point}')} with a context asks for one."
        return card("Latest decisions", nothing(words))
    return card("Latest decisions", table(("id", "at", "action", "propensity", "reward", "policy"), rows), wide=True)
