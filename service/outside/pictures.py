"""Value over time as a picture: what was earned beside what each rival would have earned with the same customers."""

from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from service.outside.episodes import FIXED, FROZEN, ORACLE
from service.outside.simulate import Result

_STYLES = {
    ORACLE: ("oracle, which knows the change", "#205080", "-"),
    FROZEN: ("optimum before the change", "#c26a1b", "--"),
    FIXED: ("best fixed action", "#7a7a7a", ":"),
}


def drawn(result: Result) -> bytes:
    """The picture as PNG.

    Raises:
        ValueError: No episode has ended yet.
    """
    if not result.timeline:
        raise ValueError("no episode has ended: play more decisions")
    figure = Figure(figsize=(9.0, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    since = [start for start, _ in result.timeline]
    for rival, (label, colour, style) in _STYLES.items():
        values = [account.per_episode(rival) or 0.0 for _, account in result.timeline]
        axes.plot(since, values, style, color=colour, label=label, linewidth=1.4)
    served = [account.per_episode() or 0.0 for _, account in result.timeline]
    axes.plot(since, served, "k-", label="served", linewidth=2.0)
    for held, _ in result.regimes[1:]:
        axes.axvline(held.since, color="#b03030", linewidth=1.0, alpha=0.6)
        words = ", ".join(f"{name} = {value:g}" for name, value in held.changes.items())
        axes.annotate(words, (held.since, 1.0), xycoords=("data", "axes fraction"), fontsize=8, ha="left", va="bottom")
    axes.set_xlabel("decisions")
    axes.set_ylabel("value of an episode")
    axes.set_title(f"{result.plan.point}: {result.decisions:,} decisions", loc="left", pad=16)
    axes.legend(frameon=False)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
