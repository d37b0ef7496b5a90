"""The audit's page: what people ordered, whether the record holds, and what came of it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.console.markup import card, code, link, mode, nothing, pill, short, table, text, when, whole

Answer = Mapping[str, Any]

_PAGES = {"model": "models", "point": "points"}
_CHANGES = "Releases and trainings"


def intact(check: Answer) -> str:
    """Whether the chain of orders holds."""
    if not check["entries"]:
        return ""
    broken = check["broken"]
    if broken is None:
        seal = f"sealed; last seal {check['head']}: note it elsewhere, and a tail that was cut is noticed too"
        kept = f"{whole(check['entries'])} entries, all as they were" if check["entries"] != 1 else "1 entry, as it was"
        return pill(f"{kept} written", "good", seal)
    return pill(f"entry {broken['number']}: {broken['what']}", "bad", "trimtab audit verify says more")


def orders(found: Answer, check: Answer | None) -> str:
    """What people ordered, the newest first, with a way to what is older."""
    sealed = intact(check) if check is not None else ""
    if not found["audit"]:
        words = "Nobody has ordered anything yet. Promotions, modes, declarations and keys appear here."
        return card("Orders", nothing(words), sealed)
    rows = [
        [
            whole(one["number"]),
            when(one["at"]),
            text(one["actor"] or "–"),
            code(one["key"]) if one["key"] else "–",
            pill(one["verb"]),
            _target(one),
            text(one["reason"]),
        ]
        for one in found["audit"]
    ]
    older = f"<a href='/audit?before={found['next']}'>older</a>" if found["next"] else ""
    heads = ("number", "when", "who", "key", "did", "to", "why")
    return card("Orders", table(heads, rows, left=7, stacked=True) + older, sealed, wide=True)


def _target(one: Answer) -> str:
    kind, _, name = one["target"].partition(":")
    shown = link(name, _PAGES[kind], name) if kind in _PAGES and name else text(one["target"])
    return f"<span title='{text(one['path'])}'>{shown}</span>"


def changes(releases: Sequence[tuple[str, Answer]], jobs: Sequence[Answer]) -> str:
    """What serves and what was trained, by people and by the loop, the newest first."""
    found = [
        (
            one["since"],
            [
                when(one["since"]),
                text(one["actor"]),
                mode(one["mode"]),
                f"{link(point, 'points', point)} {code(short(one['candidate'] or one['incumbent']) or 'rule')}",
                text(one["reason"]),
            ],
        )
        for point, one in releases
        if one["since"]
    ]
    found += [
        (
            job["created"],
            [
                when(job["created"]),
                text(job["params"].get("actor", "the service")),
                pill(job["kind"]),
                link(job["point"], "points", job["point"]),
                text(job["params"].get("reason", "")),
            ],
        )
        for job in jobs
    ]
    if not found:
        return card(_CHANGES, nothing("Nothing has changed yet. Releases, changes of mode and trainings appear here."))
    rows = [row for _, row in sorted(found, key=lambda pair: -pair[0])][:200]
    return card(_CHANGES, table(("when", "who", "did", "to", "why"), rows, left=5, stacked=True), wide=True)
