"""The system's page. Pure."""

from collections.abc import Mapping
from typing import Any

from agents.scales import number
from service.console.markup import (
    card,
    code,
    facts,
    figure,
    link,
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
from service.console.overview import SILENT_S, feed

Answer = Mapping[str, Any]

_STATES = {"done": "good", "failed": "bad", "running": "warn", "queued": "", "cancelled": ""}
_PREFIX = "trimtab_"


def samples(metrics: str) -> dict[str, float]:
    """Prometheus text as sums by name, labels apart.

    >>> samples('# HELP x\\ntrimtab_decisions_total{point="a"} 2.0\\ntrimtab_decisions_total{point="b"} 3.0\\n')
    {'decisions_total': 5.0}
    """
    found: dict[str, float] = {}
    for line in metrics.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        name, value = line.split("{")[0].split(" ")[0], line.rsplit(" ", 1)[-1]
        key = name.removeprefix(_PREFIX)
        found[key] = found.get(key, 0.0) + float(value)
    return found


def strip(system: Answer, rate: float | None) -> str:
    """The figures of the whole."""
    decisions = sum(point["decisions"] for point in system["points"])
    learned = sum(model["learned"] for model in system["models"])
    return facts(
        [
            figure("decisions", whole(decisions)),
            figure("decisions a second", number(rate, 3), "while this page was open"),
            figure("learned", whole(learned), "entries, by all models"),
            figure(
                "store read",
                f"{seconds(system['age_s'])} ago",
                "how old what the API serves is",
                "bad" if system["age_s"] > 5 else "",
            ),
            figure("points", whole(len(system["points"]))),
            figure("models", whole(len(system["models"]))),
        ]
    )


def processes(system: Answer) -> str:
    """Which processes there are, and when each last said so."""
    rows = [
        [
            code(one["process"]),
            pill("silent", "bad") if one["age_s"] > SILENT_S else pill("alive", "good"),
            seconds(one["age_s"]),
            when(one["started"]),
            str(one["pid"]),
            _memory(one["detail"]),
            _doing(one["detail"]),
        ]
        for one in system["processes"]
    ]
    heads = ("process", "state", "last sign of life", "since", "pid", "memory", "doing")
    return card("Processes", table(heads, rows, left=2, stacked=True), wide=True)


def _memory(detail: Mapping[str, Any]) -> str:
    size = detail.get("memory")
    return f"{number(size / 2**20, 3)} MiB" if size else "–"


def _doing(detail: Mapping[str, Any]) -> str:
    return f"{code(str(detail.get('job', '')))} {percent(detail['progress'])}" if "progress" in detail else "–"


def store(answer: Answer) -> str:
    """How the store is: what keeps it from keeping what it acknowledges, with the cure."""
    rows = [
        [text(one["name"]), pill("well", "good") if one["ok"] else pill("mend", "bad"), text(one["text"])]
        for one in answer["checks"]
    ]
    if not rows:
        return card("Redis", nothing("The service keeps its log in its own memory: it ends with the process."))
    return card("Redis", table(("what", "state", "says"), rows, left=3))


def learners(system: Answer) -> str:
    """How far every learner is."""
    rows = [
        [
            link(one["name"], "models", one["name"]),
            "model",
            whole(one["learned"]),
            whole(one["lag"]),
            whole(one["rejected"]),
        ]
        for one in system["models"]
    ]
    rows += [
        [
            link(one["name"], "points", one["name"]),
            "point",
            whole(one["decisions"]),
            whole(one["lag"]),
            whole(one["rejected"]),
        ]
        for one in system["points"]
    ]
    if not rows:
        return card("Learners", nothing("Nothing is declared."))
    return card("Learners", table(("subject", "kind", "learned", "behind", "set aside"), rows, left=2))


def jobs(system: Answer) -> str:
    """Long work."""
    if not system["jobs"]:
        return card("Jobs", nothing("Nobody has asked for training. A point's page does, with Train now."))
    rows = [
        [
            link(one["point"], "points", one["point"]),
            text(one["kind"]),
            pill(one["state"], _STATES.get(one["state"], "")),
            f"<i class=bar><b style='width:{100 * one['progress']:.0f}%'></b></i>",
            when(one["updated"] or one["created"]),
            text(one["detail"].get("error", "")) or _said(one["detail"]),
        ]
        for one in system["jobs"]
    ]
    heads = ("point", "kind", "state", "progress", "last word", "says")
    return card("Jobs", table(heads, rows, left=3, stacked=True), wide=True)


def _said(detail: Mapping[str, Any]) -> str:
    known = [(name, value) for name, value in detail.items() if isinstance(value, int | float | str)][:4]
    return ", ".join(
        f"{text(name)} {number(value) if isinstance(value, float) else text(short(str(value)))}"
        for name, value in known
    )


def counted(metrics: str) -> str:
    """What this API process has counted and measured."""
    found = samples(metrics)
    rows = [
        [text(words), number(found.get(name), 5)]
        for name, words in (
            ("decisions_total", "decisions appended"),
            ("outcomes_total", "outcomes answered"),
            ("predictions_total", "predictions"),
            ("events_total", "events and labels"),
            ("http_requests_total", "answers"),
            ("http_refusals_total", "refusals"),
            ("writes_waiting", "writes that wait for the log"),
            ("requests_in_flight", "requests being answered"),
        )
        if name in found
    ]
    took, count = found.get("http_request_seconds_sum", 0.0), found.get("http_request_seconds_count", 0.0)
    rows.append(["mean time to answer", seconds(took / count if count else None)])
    memory = found.get("process_resident_memory_bytes")
    rows += [["memory of the API process", f"{number(memory / 2**20, 3)} MiB"]] if memory else []
    return card("API process", table(("figure", "value"), rows))


def history(system: Answer) -> str:
    """What happened, all that the feed remembers."""
    return card("What happened", feed(system["feed"], most=60))
