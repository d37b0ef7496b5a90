"""A policy's page: its card, how it was trained, what it is worth, and what it does. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from agents.drawing import draw
from agents.scales import number
from service.console.figures import policy_map, regret, training_curve
from service.console.markup import card, code, link, listing, nothing, pill, plain, short, text, when, whole

Answer = Mapping[str, Any]


def title(point: str, bundle: Answer, role: str) -> str:
    """The head of the page."""
    shown = pill(role, "good" if role == "incumbent" else "warn") if role else pill("not serving")
    note = f" · {text(bundle['note'])}" if bundle["note"] else ""
    made = bundle["card"].get("algo") or bundle["card"]["kind"]
    return (
        f"<div class=title><h1>{code(short(bundle['digest']))}</h1>{shown}"
        f"<p class=soft>{link(point, 'points', point)} · {text(made)} · registered {when(bundle['at'])} by "
        f"{text(bundle['actor'])}{note}</p></div>"
    )


def described(bundle: Answer) -> str:
    """What the card says."""
    told = bundle["card"]
    rows = [
        ("world", text(told["world"])),
        ("kind", text(told["kind"])),
        ("preset", text(told.get("preset") or "–")),
        ("steps", whole(told.get("steps", 0))),
        ("seed", plain(told.get("seed", 0))),
        ("observes", ", ".join(text(entry["name"]) for entry in told["observation"])),
        ("actions", f"{told['actions']['n']} of {text(told['actions']['name'])}"),
        ("unit of the actions", text(told["actions"].get("unit") or "–")),
        *((f"{name} from", f"{number(low)} to {number(high)}") for name, (low, high) in told.get("ranges", {}).items()),
        ("digest", f"<span class=digest>{code(bundle['digest'])}</span>"),
    ]
    return card("Card", listing(rows))


def measured(bundle: Answer) -> str:
    """What it was measured to do, and what it was made with."""
    told = bundle["card"]
    metrics = listing((name, _measured(name, value)) for name, value in told.get("metrics", {}).items())
    versions = ", ".join(f"{text(name)} {text(version)}" for name, version in told.get("versions", {}).items())
    return card(
        "Measured when it was made", (metrics or nothing("Nothing was measured.")) + f"<p class=soft>{versions}</p>"
    )


def _measured(name: str, value: float) -> str:
    """A card's gaps are percents."""
    return number(value, 4) + (" %" if name.startswith("gap") else "")


def training(bundle: Answer) -> str:
    """How it was trained."""
    return card("", draw(training_curve(bundle["card"])))


def worth(answer: Answer, names: Mapping[str, str], beliefs: Answer) -> str:
    """What is lost against the optimum."""
    return card("", draw(regret(answer, names, beliefs)), wide=True)


def maps(first: tuple[str, Answer], second: tuple[str, Answer] | None) -> str:
    """One policy as a map, or two on one scale."""
    found = [first] if second is None else [first, second]
    told = [cell for _, answer in found for row in answer["cells"] for cell in row if cell is not None]
    scale = (min(told), max(told)) if told else None
    return "".join(
        card("", draw(policy_map(answer, f"Mean action, {name}", scale)), wide=second is None) for name, answer in found
    )


def choices(digest: str, other: str, known: Sequence[str], seen: Answer) -> str:
    """What to compare with, and which entries to put on the axes of the map."""
    rivals = ["baseline", *(one for one in known if one != digest)]
    fields = (
        _select("compare with", "other", [(one, short(one)) for one in rivals], other)
        + _select("across", "across", [(name, name) for name in seen["entries"]], seen["across"]["name"])
        + _select("up", "down", [(name, name) for name in seen["entries"]], seen["down"]["name"])
    )
    return f"<form class=pick method=get>{fields}<button>Show</button></form>"


def _select(label: str, name: str, options: Sequence[tuple[str, str]], chosen: str) -> str:
    listed = "".join(
        f"<option value='{text(value)}'{' selected' if value == chosen else ''}>{text(words)}</option>"
        for value, words in options
    )
    return f"<label>{text(label)}<select name='{name}'>{listed}</select></label>"
