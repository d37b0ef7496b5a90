"""Reports and exports: the log of a point, read back."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from service.deciding import export, joined
from service.deciding.decide import ServedPoint
from service.deciding.joined import Joined
from service.deciding.points import partition_of
from service.deciding.report import PointReport, report
from service.deciding.store import Store
from service.http.api import Api
from service.http.operations import Answer, Call, Operation, Parameter, integer, reply
from service.http.problems import Kind, invalid

T = TypeVar("T")

_LAST = 10_000
_MOST = 1_000_000
_FORMATS = ("parquet", "csv")


class Reports:
    """The handlers that read a point's log back."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def report(self, call: Call) -> Answer:
        """What each policy of the point earned, and what baseline, incumbent and candidate would have earned.

        Values have intervals, evaluations their effective sample size, overlap and a verdict, which says *not enough
        evidence* where that is the truth.
        """
        return reply(await self._read(call, report))

    async def export(self, call: Call) -> Answer:
        """Every decision with its state, one row each, as Parquet or CSV."""
        kind = call.query.get("format", "parquet")
        if kind not in _FORMATS:
            raise invalid("format", f"one of: {', '.join(_FORMATS)}", kind)

        def write(served: ServedPoint, rows: list[Joined]) -> bytes:
            data = export.table(served.point, rows)
            return export.to_parquet(data) if kind == "parquet" else export.to_csv(data)

        body = await self._read(call, write)
        name = f'attachment; filename="{call.path["point"]}.{kind}"'
        media_type = export.PARQUET if kind == "parquet" else export.CSV
        return Answer(body, media_type=media_type, headers={"Content-Disposition": name})

    async def _read(self, call: Call, make: Callable[[ServedPoint, list[Joined]], T]) -> T:
        """What `make` makes of the point's last decisions, in the thread for long reads."""
        served = self._api.point(call.path["point"])
        last = integer(call, "last", _LAST, 1, _MOST)

        def ask(store: Store) -> T:
            return make(served, joined.read(store.log, partition_of(served.point.name), last))

        return await self._api.archive.ask(ask)

    def operations(self) -> list[Operation]:
        """What can be read back."""
        many = {"type": "integer", "minimum": 1, "maximum": _MOST, "default": _LAST}
        last = Parameter("last", many, "How many of the last decisions")
        kind = Parameter("format", {"type": "string", "enum": list(_FORMATS), "default": "parquet"}, "The format")
        base, report, export_ = "/v1/decisions/{point}", self.report, self.export
        problems: tuple[Kind, ...] = ("unknown-point", "invalid-request", "unavailable")
        asked = Operation(
            "GET", f"{base}/report", "Report", report, PointReport, query=(last,), problems=problems, scope="read"
        )
        taken = Operation(
            "GET", f"{base}/export", "Export", export_, None, query=(last, kind), problems=problems, scope="read"
        )
        return [
            asked.tagged("decisions"),
            replace(taken, tag="decisions", media_type=export.PARQUET, others=(export.CSV,)),
        ]
