"""Pieces of pages as HTML: everything that comes from outside is escaped here. Pure."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from agents.scales import moment, number

ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' width='18' height='18' aria-hidden='true'>"
    "<path d='M2 2h6v12H2z' fill='#0b64a0'/><path d='M9.5 4.5 14 8l-4.5 3.5z' fill='#e69f00'/></svg>"
)
"""A rudder and its trim tab."""

MODES = {
    "off": "baseline serves; nothing is tried",
    "apprentice": "baseline serves; the policy is scored",
    "shadow": "incumbent serves; the candidate is scored",
    "canary": "the candidate serves a share",
    "live": "the policy serves",
}


def text(value: object) -> str:
    """Anything as text."""
    return html.escape("" if value is None else str(value), quote=True)


def path(*parts: str) -> str:
    """A path of the console or the API from its parts."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def link(words: str, *parts: str, query: str = "") -> str:
    """A link to a page of the console."""
    return f"<a href='{path(*parts)}{query}'>{text(words)}</a>"


def short(name: str | None) -> str:
    """A digest by its beginning, any other name as it is."""
    known = name or ""
    return known[:10] if is_digest(known) else known


def is_digest(name: str) -> bool:
    """Whether it names a bundle: a rule, or a bandit, has no page of its own."""
    return len(name) == 64 and all(letter in "0123456789abcdef" for letter in name)


def pill(words: str, tone: str = "", hint: str = "") -> str:
    """A word in a frame; `tone` is good, warn, bad or nothing."""
    title = f" title='{text(hint)}'" if hint else ""
    return f"<span class='pill {tone}'{title}>{text(words)}</span>"


def mode(name: str) -> str:
    """A point's mode."""
    return pill(name, "good" if name == "live" else "warn" if name in ("shadow", "canary") else "", MODES.get(name, ""))


def whole(value: float | None) -> str:
    """A count."""
    return "–" if value is None else f"{value:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def seconds(value: float | None) -> str:
    """A duration.

    >>> [seconds(value) for value in (0.012, 3.4, 90, 7200, 200000)]
    ['12 ms', '3.4 s', '90 s', '2 h', '2.3 d']
    """
    if value is None:
        return "–"
    if value < 1:
        return f"{1000 * value:.0f} ms"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if value < limit:
            return f"{number(round(value / size, 1), 3)} {unit}"
    return f"{number(round(value / 86_400, 1), 3)} d"


def when(at: float | None, form: str = "full") -> str:
    """A time, in the reader's zone."""
    return "–" if at is None else moment(at, form)


def figure(name: str, value: str, hint: str = "", tone: str = "") -> str:
    """A number with its name; `value` is HTML."""
    title = f" title='{text(hint)}'" if hint else ""
    return f"<div class='fact {tone}'{title}><span>{text(name)}</span><b>{value}</b></div>"


def facts(parts: Iterable[str]) -> str:
    """Numbers side by side."""
    return f"<div class=facts>{''.join(parts)}</div>"


def card(title: str, body: str, extra: str = "", wide: bool = False, name: str = "") -> str:
    """A framed part of a page."""
    head = f"<header><h2>{text(title)}</h2>{extra}</header>" if title else ""
    anchor = f" id='{name}'" if name else ""
    return f"<section class='card{' wide' if wide else ''}'{anchor}>{head}{body}</section>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, stacked: bool = False) -> str:
    """A table of HTML cells below plain heads; the first `left` columns are text.

    Args:
        stacked: Whether narrow screens show each row's cells one below the other, with their heads.
    """

    def cell(i: int, value: str) -> str:
        head = f" data-head='{text(heads[i])}'" if stacked else ""
        return f"<td{' class=l' if i < left else ''}{head}>{value}</td>"

    above = "".join(f"<th{' class=l' if i < left else ''}>{text(head)}</th>" for i, head in enumerate(heads))
    body = "".join(f"<tr>{''.join(cell(i, value) for i, value in enumerate(row))}</tr>" for row in rows)
    return (
        f"<div class='scroll{' stacked' if stacked else ''}'><table><thead><tr>{above}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def listing(pairs: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    """Names with their values, one below the other; values are HTML."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return f"<dl>{''.join(f'<dt>{text(name)}</dt><dd>{value}</dd>' for name, value in items)}</dl>"


def nothing(words: str) -> str:
    """What stands where there is nothing yet: it says what to do; `words` is HTML."""
    return f"<p class=nothing>{words}</p>"


def code(words: str) -> str:
    """Something to type, or a name."""
    return f"<code>{text(words)}</code>"


def plain(value: Any) -> str:
    """Any value of an answer as HTML."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return whole(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        shown = ", ".join(plain(item) for item in value[:8])
        return f"{shown}, … ({len(value)})" if len(value) > 8 else shown
    return text(short(value) if isinstance(value, str) else value)
