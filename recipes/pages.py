"""The report of a recipe as one HTML page without outside parts."""

from html import escape

from agents.drawing import document, draw
from recipes.playing import HEAD, STAGES, Part, Run, Table

STYLE = (
    "body{max-width:60rem;margin:2rem auto;padding:0 1rem;font:15px/1.5 system-ui,sans-serif}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;text-align:left;"
    "border-bottom:1px solid #8884}h2{margin-top:2rem;font-size:1.1rem}"
)


def render(run: Run, title: str) -> str:
    """The page: the figures first, then what was done, stage by stage."""
    seconds = sum(run.seconds.values())
    source = escape(run.source)
    body = [
        f"<h1>{escape(title)}</h1><p>Rows: {source}. Seed {run.seed}. {seconds:.0f} seconds of one core.</p>",
        _table(Table(HEAD, [one.cells for one in run.figures])),
    ]
    for place, stage in enumerate(STAGES, 1):
        body.append(f"<h2>{place}. {escape(stage)}</h2>")
        body += [_part(part) for part in run.parts[stage]]
    return document(title, "".join(body), STYLE)


def _part(part: Part) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>"
    return _table(part) if isinstance(part, Table) else draw(part)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in table.rows)
    return f"<table><tr>{head}{rows}</table>"
