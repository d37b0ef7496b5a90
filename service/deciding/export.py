"""Decisions as a table: one row each, with its state, as Parquet or CSV, readable by anything."""

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import csv, parquet

from online.log import token
from service.deciding.joined import Joined
from service.deciding.points import Point, partition_of

PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv; charset=utf-8"

_COLUMNS: dict[str, tuple[pa.DataType, Callable[[Joined], Any]]] = {
    "id": (pa.string(), lambda row: row.decided.id),
    "key": (pa.string(), lambda row: row.decided.key),
    "episode": (pa.string(), lambda row: row.decided.episode),
    "at": (pa.float64(), lambda row: row.at),
    "state": (pa.string(), lambda row: row.standing.state),
    "reward": (pa.float64(), lambda row: row.standing.reward),
    "outcomes": (pa.int64(), lambda row: row.standing.outcomes),
    "late": (pa.int64(), lambda row: row.standing.late),
    "closed": (pa.bool_(), lambda row: row.standing.closed),
    "propensity": (pa.float64(), lambda row: row.decided.propensity),
    "policy": (pa.string(), lambda row: row.decided.policy),
    "kind": (pa.string(), lambda row: row.decided.kind),
    "mode": (pa.string(), lambda row: row.decided.mode),
    "arm": (pa.string(), lambda row: row.decided.arm),
    "arm_probability": (pa.float64(), lambda row: row.decided.arm_probability),
    "deferred": (pa.bool_(), lambda row: row.decided.deferred),
    "probabilities": (pa.list_(pa.float64()), lambda row: row.decided.probabilities),
    "allowed": (pa.list_(pa.bool_()), lambda row: row.decided.allowed),
}


def table(point: Point, rows: Sequence[Joined]) -> pa.Table:
    """The decisions as a table; contexts and estimates are columns of their own, `context.<name>`."""
    columns = {name: pa.array([get(row) for row in rows], kind) for name, (kind, get) in _COLUMNS.items()}
    columns |= _choices(point, rows)
    scalar = point.factors == 1 and all(isinstance(action, int | float) for action in point.actions)
    actions = [row.decided.action if scalar else json.dumps(row.decided.action) for row in rows]
    columns["action"] = pa.array(actions, pa.float64() if scalar else pa.string())
    for entry in point.context:
        values = [row.decided.context.get(entry.name) for row in rows]
        columns[f"context.{entry.name}"] = pa.array(values, pa.float64())
    for name in sorted({name for row in rows for name in row.decided.estimates or ()}):
        values = [(row.decided.estimates or {}).get(name) for row in rows]
        columns[f"estimate.{name}"] = pa.array(values, pa.float64())
    columns["entry"] = pa.array([token(partition_of(point.name), row.entry.id) for row in rows], pa.string())
    return pa.table(columns)


def _choices(point: Point, rows: Sequence[Joined]) -> dict[str, pa.Array]:
    """What was chosen, and the numbers that chose it: lists with one of each for every factor of a product."""
    whole: pa.DataType = pa.int64() if point.factors == 1 else pa.list_(pa.int64())
    number: pa.DataType = pa.float64() if point.factors == 1 else pa.list_(pa.float64())
    return {
        "index": pa.array([row.decided.index for row in rows], whole),
        "baseline": pa.array([row.decided.baseline for row in rows], whole),
        "draw": pa.array([row.decided.draw for row in rows], number),
    }


def to_parquet(data: pa.Table) -> bytes:
    """The table as a Parquet file."""
    sink = io.BytesIO()
    parquet.write_table(data, sink)
    return sink.getvalue()


def to_csv(data: pa.Table) -> bytes:
    """The table as CSV; lists are JSON."""
    for place, column in enumerate(data.schema):
        if pa.types.is_list(column.type):
            texts = [None if value is None else json.dumps(value) for value in data.column(place).to_pylist()]
            data = data.set_column(place, column.name, pa.array(texts, pa.string()))
    sink = io.BytesIO()
    csv.write_csv(data, sink)
    return sink.getvalue()
