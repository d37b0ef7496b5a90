"""Purchases of ketchup as a shop's scanner has them, what a household did before, and what offers do: made up.

The purchases are real (Jain, Vilcassim and Chintagunta 1994; *Catsup* in the R package Ecdat). That a household got an
offer is in no such data: how offers work is stated here, on top of what the purchases say.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from recipes import datasets
from recipes.rows import Cells, DirtyError

BRAND = "heinz28"
OTHERS = ("heinz41", "heinz32", "hunts32")

LOYAL, DEALS, DRAWN = 0.3, 0.1, 2.0
"""What a household without a past is taken for, and how many purchases that is worth."""

ARMS = ("nothing", "coupon-morning", "coupon-evening", "leaflet-morning", "leaflet-evening")
MARGIN = 40.0
"""Cents that a bottle earns."""

_COSTS = {"nothing": 0.0, "coupon": 10.0, "leaflet": 4.0}
_COUPON, _COUPON_DEALS, _LEAFLET, _LEAFLET_LOYAL, _EVENING = 0.3, 6.0, 0.3, 1.2, 0.5
"""Log-odds that an offer adds: a coupon most with those who wait for deals, a leaflet with those who know us."""


def purchases() -> Iterator[Cells]:
    """One row for each purchase, household by household, in the order of time within each."""
    for row in datasets.rows("Ecdat", "Catsup"):
        yield {
            "household": str(row["id"]),
            "price": row[f"price.{BRAND}"],
            "others": round(sum(row[f"price.{name}"] for name in OTHERS) / len(OTHERS), 2),
            "featured": row[f"feat.{BRAND}"] == 1,
            "displayed": row[f"disp.{BRAND}"] == 1,
            "bought": row["choice"] == BRAND,
        }


@dataclass
class Past:
    """What each household did before: `prepared` reads it into a row, and then adds the row."""

    counts: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def prepared(self, row: Cells) -> Cells:
        """The row with `loyal` and `deals` of the purchases before it. Raises `DirtyError`."""
        household = row.get("household")
        if household is None:
            raise DirtyError("the column 'household' is blank; allowed is a name or a number")
        n, ours, deals = self.counts.get(str(household), (0.0, 0.0, 0.0))
        bought = str(row.get("bought")).lower() in ("true", "1", "yes")
        deal = bool(row.get("featured")) or bool(row.get("displayed"))
        self.counts[str(household)] = (n + 1, ours + bought, deals + (bought and deal))
        return {
            **row,
            "loyal": (ours + DRAWN * LOYAL) / (n + DRAWN),
            "deals": (deals + DRAWN * DEALS) / (n + DRAWN),
        }


def situation(features: Mapping[str, object], chance: float) -> dict[str, float]:
    """What a choice among offers is told: numbers from 0 to 1.

    >>> situation({"price": 4.0, "loyal": 0.5, "deals": 0.1}, 0.3)
    {'chance': 0.3, 'loyal': 0.5, 'deals': 0.1}
    """
    return {"chance": chance, "loyal": float(features["loyal"]), "deals": float(features["deals"])}  # type: ignore[arg-type]


def earned(chance: float, household: Mapping[str, float]) -> dict[str, float]:
    """Expected cents by offer, for a household that would buy with this chance if nothing were sent: made up.

    >>> {arm: round(cents, 1) for arm, cents in earned(0.3, {"loyal": 0.3, "deals": 0.3}).items()}
    {'nothing': 12.0, 'coupon-morning': 21.1, 'coupon-evening': 24.1, 'leaflet-morning': 14.1, 'leaflet-evening': 9.4}
    """
    odds = math.log(chance / (1.0 - chance))
    return {arm: MARGIN / (1.0 + math.exp(-odds - _lift(arm, household))) - cost(arm) for arm in ARMS}


def cost(arm: str) -> float:
    """Cents that an offer costs, whether it works or not."""
    return _COSTS[arm.partition("-")[0]]


def _lift(arm: str, household: Mapping[str, float]) -> float:
    kind, _, when = arm.partition("-")
    if kind == "nothing":
        return 0.0
    evening = when == "evening"
    if kind == "coupon":
        return _COUPON + _COUPON_DEALS * household["deals"] + _EVENING * evening
    return _LEAFLET + _LEAFLET_LOYAL * household["loyal"] - _EVENING * evening
