"""The figures of points, models and policies, from answers of the service: in console, report and notebook. Pure.

>>> from agents.drawing import draw
>>> "nothing" in draw(value_chart({"buckets": [], "width": 5}, [])).lower()
True
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from agents.figures import Bars, Chart, Heat, Line, Mark, Numbers, Role, Shares, Zone

Answer = Mapping[str, Any]

ROLES: dict[str, Role] = {"incumbent": "incumbent", "candidate": "candidate", "baseline": "baseline"}
RULES = ("baseline", "caller")
_SEQUENCE: tuple[Role, ...] = ("incumbent", "candidate", "other", "fourth")


def marks_of(alarms: Sequence[Answer], releases: Sequence[Answer]) -> list[Mark]:
    """Alarms and releases as marks on a time axis."""
    found = [Mark(alarm["at"], f"alarm: {alarm['signal'] or alarm['detector']}", "alarm") for alarm in alarms]
    found += [
        Mark(release["since"], f"{release['mode']}: {release['reason'] or release['actor']}", "release")
        for release in releases
        if release.get("since")
    ]
    return sorted(found, key=lambda mark: mark.x)


def value_chart(series: Answer, marks: Sequence[Mark]) -> Chart:
    """Value per decision over time for what served, by role, with intervals."""
    buckets = [bucket for bucket in series["buckets"] if bucket["decisions"]]
    if not buckets:
        return Chart("Value per decision", [], [], note="Nothing was decided in this time.")
    xs = [bucket["at"] + series["width"] / 2 for bucket in buckets]
    cells = [{_role(cell): cell["value"] for cell in bucket["earned"] if _tells(cell, bucket)} for bucket in buckets]
    lines = [_interval_line(role, role, [found.get(role) for found in cells]) for role in ROLES]
    note = (
        f"Mean reward of the decisions in each {_spoken(series['width'])}, with its 95 % interval; decisions of one "
        f"episode count once. Each stretch is told by its first {series.get('sample', 0) // 2} decisions or so."
    )
    shown = [line for line in lines if any(y is not None for y in line.y)]
    return Chart("Value per decision", xs, shown, marks=marks, note=note, height=230)


def _tells(cell: Answer, bucket: Answer) -> bool:
    """Whether a value is worth a point: the few decisions of a control arm alone have no interval."""
    return cell["value"] is not None and (cell["value"]["low"] is not None or len(bucket["earned"]) == 1)


def _role(cell: Answer) -> str:
    if cell["kind"] in RULES:
        return "baseline"
    return "candidate" if cell["arm"] == "candidate" else "incumbent"


def _interval_line(name: str, role: str, found: Sequence[Answer | None], dashed: bool = False) -> Line:
    low = [None if one is None else one["low"] for one in found]
    high = [None if one is None else one["high"] for one in found]
    return Line(name, [None if one is None else one["mid"] for one in found], ROLES[role], low, high, dashed)


def _spoken(width: float) -> str:
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if width >= size:
            count = width / size
            return unit if count == 1 else f"{count:g} {unit}s"
    return "second" if width == 1 else f"{width:g} seconds"


def estimate_chart(name: str, series: Answer, beliefs: Answer, marks: Sequence[Mark]) -> Chart:
    """A parameter as it was believed when decisions were made, up to what is believed now, on the trained range."""
    now = next((one for one in beliefs["parameters"] if one["name"] == name), None)
    points = _believed(name, series, beliefs)
    xs = [at for at, *_ in points]
    mid, low, high = ([point[place] for point in points] for place in (1, 2, 3))
    trained = None if now is None else now["trained"]
    zones = [] if trained is None else [Zone(trained[0], trained[1], "trained range")]
    note = (
        "As the learner believed it, with its 95 % interval; before this service was started as decisions were made "
        "with it, with the middle 80 % over them."
    )
    line = Line("believed", mid, "incumbent", low, high)
    return Chart(name, xs, [line], zones=zones, marks=marks, note=note, height=170)


def share_chart(
    series: Answer, beliefs: Answer, worth: Answer, releases: Sequence[Answer], marks: Sequence[Mark]
) -> Chart:
    """What share of the optimum the policies reach in the world as it was believed at each moment."""
    title = "Share of the optimum, in the world as believed"
    if len(worth["axes"]) != 1:
        return Chart(title, [], [], note=worth["said"] or "Drawn for points with one varying parameter.")
    ((name, grid),) = _axes(worth)
    believed = _believed(name, series, beliefs)
    if not believed:
        return Chart(title, [], [], note="Nothing has been learned about the world yet: report outcomes with fields.")
    xs = [at for at, *_ in believed]
    best = [_at(grid, worth["values"]["optimum"], value) for _, value, *_ in believed]
    since = [release["since"] or 0.0 for release in releases]

    def incumbent(at: float) -> str:
        place = bisect_right(since, at) - 1
        return (releases[place]["incumbent"] if place >= 0 else None) or "baseline"

    served = [worth["values"].get(incumbent(at)) for at in xs]
    rule = [worth["values"].get("baseline")] * len(xs)
    lines = [
        Line("baseline", _shares(grid, rule, believed, best), "baseline", dashed=True),
        Line("served", _shares(grid, served, believed, best), "incumbent"),
    ]
    candidate = worth["values"].get((releases[-1].get("candidate") or "") if releases else "")
    if candidate:
        lines.append(Line("candidate", _shares(grid, [candidate] * len(xs), believed, best), "candidate", dashed=True))
    note = f"Exact values of an {worth['unit']}, at the {name} that was believed then; 100 % cannot be beaten."
    return Chart(title, xs, lines, "%", marks=marks, note=note, height=170)


def _axes(worth: Answer) -> list[tuple[str, Sequence[float]]]:
    return [(axis["name"], axis["values"]) for axis in worth["axes"]]


def _believed(name: str, series: Answer, beliefs: Answer) -> list[tuple[float, float, float, float]]:
    """When what was believed of a parameter, with its interval: from the learner, before that from the decisions."""
    since, half = series["since"], series["width"] / 2
    past = [
        (one["at"], one["values"][name], one["lower"][name], one["upper"][name])
        for one in beliefs["past"]
        if name in one["values"] and one["at"] >= since
    ]
    begin = past[0][0] if past else float("inf")
    seen = [(b["at"] + half, b["estimates"][name]) for b in series["buckets"] if name in b["estimates"]]
    return [(at, one["mid"], one["low"], one["high"]) for at, one in seen if at < begin] + past


def _shares(
    grid: Sequence[float], values: Sequence[Any], believed: Sequence[tuple[float, ...]], best: Sequence[float]
) -> Numbers:
    return [
        None if own is None or top <= 0 else 100 * _at(grid, own, value) / top
        for own, (_, value, *_), top in zip(values, believed, best, strict=True)
    ]


def _at(grid: Sequence[float], values: Sequence[float], wanted: float) -> float:
    """Linear between the values of a grid, level beyond its ends."""
    if wanted <= grid[0]:
        return values[0]
    for (a, va), (b, vb) in pairwise(zip(grid, values, strict=True)):
        if wanted <= b:
            return va + (vb - va) * (wanted - a) / (b - a)
    return values[-1]


def share_now(beliefs: Answer, worth: Answer, policy: str) -> float | None:
    """What share of the optimum a policy reaches in the world as it is believed now; `None` where that is not known."""
    own, best = worth["values"].get(policy), worth["values"].get("optimum")
    if own is None or not best:
        return None
    if not worth["axes"]:
        return float(own[0] / best[0]) if best[0] > 0 else None
    if len(worth["axes"]) != 1:
        return None
    ((name, grid),) = _axes(worth)
    value = next((one["mid"] for one in beliefs["parameters"] if one["name"] == name), None)
    top = None if value is None else _at(grid, best, value)
    return None if value is None or not top or top <= 0 else _at(grid, own, value) / top


def action_shares(series: Answer, unit: str) -> Shares:
    """Which actions were taken over time, in groups of neighbours."""
    buckets = [bucket for bucket in series["buckets"] if bucket["decisions"]]
    names = [_span(first, last) for first, last in series.get("actions", [])]
    note = f"Actions in {unit}." if unit else ""
    rows = [bucket["actions"] for bucket in buckets]
    return Shares("Action mix", [bucket["at"] for bucket in buckets], names, rows, series["width"], note)


def _span(first: Any, last: Any) -> str:
    if isinstance(first, list) or isinstance(last, list):
        return f"{first} … {last}" if first != last else f"{first}"
    return f"{first:.3g}" if first == last else f"{first:.3g}–{last:.3g}"


def error_chart(series: Answer, alarms: Sequence[Answer], unit: str = "") -> Chart:
    """A model's error over time, its own and that of its answers, with its drift alarms."""
    buckets = [bucket for bucket in series["buckets"] if bucket["labels"]]
    xs = [bucket["at"] + series["width"] / 2 for bucket in buckets]
    lines = [_error_line("learner's own", "incumbent", [bucket["error"] for bucket in buckets])]
    served = [bucket["served"] for bucket in buckets]
    if any(served):
        lines.append(_error_line("as answered", "candidate", served, dashed=True))
    note = (
        f"Error of each prediction when its label came (0 or 1 for classes, absolute for numbers), mean of the first "
        f"labels in each {_spoken(series['width'])} with its 95 % interval."
    )
    note += " What was answered came from the last snapshot, the learner's own from all that it knew." * any(served)
    return Chart("Error, as it was when labels came", xs, lines, unit, marks_of(alarms, []), note=note, height=230)


def _error_line(name: str, role: Role, found: Sequence[Answer | None], dashed: bool = False) -> Line:
    mid, low, high = ([None if one is None else one[part] for one in found] for part in ("mid", "low", "high"))
    return Line(name, mid, role, low, high, dashed)


def distribution(trace: Answer, point: Answer) -> Bars:
    """The whole distribution from which a decision was drawn; of a product of choices, the first one's."""
    several = isinstance(trace["index"], list)
    n = len(point["actions"])
    values, allowed = (list(trace.get(name) or ())[:n] for name in ("probabilities", "allowed"))
    chosen = trace["index"][0] if several else trace["index"]
    names = [_span(action, action) for action in point["actions"][: len(values)]]
    note = "The bar that stands out was drawn."
    note += " Faint ones were not allowed." if allowed else ""
    note += f" This is the first of {len(trace['index'])} choices." if several else ""
    return Bars("Distribution", names, values, point["action_unit"], chosen, allowed, note)


def training_curve(card: Answer) -> Chart:
    """How far the best policy was from the optimum while it was trained."""
    curve = [(point[0], point[1]) for point in card.get("curve") or ()]
    note = "" if curve else "This bundle came without a learning curve."
    line = Line("below the optimum", [max(gap, 0.01) for _, gap in curve], "incumbent", stepped=True)
    xs = [float(steps) for steps, _ in curve]
    return Chart("Training", xs, [line], "%", timed=False, logarithmic=True, label="steps", note=note)


def policy_map(answer: Answer, title: str, scale: tuple[float, float] | None = None) -> Heat:
    """A policy as a map of its mean action."""
    held = ", ".join(f"{name} {value:.4g}" for name, value in answer["held"].items())
    across, down = ((answer[side]["name"], answer[side]["values"]) for side in ("across", "down"))
    return Heat(title, across, down, answer["cells"], answer["unit"], scale, f"With {held}." if held else "")


def regret(worth: Answer, names: Mapping[str, str], beliefs: Answer) -> Chart | Heat:
    """How far policies are below the optimum over the parameters of the world; of two parameters, the first policy."""
    title, best = "Below the optimum", worth["values"].get("optimum")
    if not best or not worth["axes"]:
        return Chart(title, [], [], note=worth["said"] or "The point declares no ranges: there is one world only.")
    gaps = {digest: _gaps(best, worth["values"][digest]) for digest in names if digest in worth["values"]}
    if len(worth["axes"]) == 1:
        return _regret_line(title, _axes(worth)[0], gaps, names, beliefs)
    (down, rows), (across, columns) = _axes(worth)
    first, own = next(iter(gaps.items()))
    cells = [own[i * len(columns) : (i + 1) * len(columns)] for i in range(len(rows))]
    return Heat(title, (across, columns), (down, rows), cells, "%", note=f"Exact, for {names[first]}.")


def _gaps(best: Sequence[float], own: Sequence[float]) -> list[float | None]:
    return [100 * (top - value) / abs(top) if top else None for top, value in zip(best, own, strict=True)]


def _regret_line(
    title: str,
    axis: tuple[str, Sequence[float]],
    gaps: Mapping[str, Sequence[float | None]],
    names: Mapping[str, str],
    beliefs: Answer,
) -> Chart:
    name, grid = axis
    hues = iter(_SEQUENCE)
    # Below a hundredth of a percent nothing is to be seen, and a logarithm needs something.
    lines = [
        Line(names[digest], _floored(gap), "baseline", dashed=True)
        if digest == "baseline"
        else Line(names[digest], _floored(gap), next(hues))
        for digest, gap in gaps.items()
    ]
    own = [one for one in beliefs["parameters"] if one["name"] == name]
    marks = [Mark(end, "end of the declared range", "release") for one in own for end in one["trained"] or ()]
    marks += [Mark(one["mid"], "believed now", "alarm") for one in own]
    note = f"Exact, by {name}. Blue marks: the declared range. Beyond its own range a policy acts as at its end."
    return Chart(title, grid, lines, "%", marks, timed=False, logarithmic=True, label=name, note=note, height=230)


def _floored(gaps: Sequence[float | None]) -> list[float | None]:
    return [None if gap is None else max(gap, 0.01) for gap in gaps]
