"""How texts and times become columns of numbers, and what stands in for a missing value."""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from river import stats

from online.events import Scalar
from online.history import part

_PERIODS = {"month": 12, "day": 31, "hour": 24, "minute": 60, "weekday": 7, "yearday": 366}


@dataclass(slots=True)
class Filling:
    """What stands in for a missing value: a figure of those that came."""

    how: str
    count: int = 0
    value: Scalar = None
    median: Any = None

    def note(self, value: Any) -> None:
        """One more value that came."""
        self.count += 1
        if self.how == "mean":
            mean = 0.0 if self.count == 1 else float(self.value or 0.0)
            self.value = mean + (value - mean) / self.count
        elif self.how == "median":
            # The P² algorithm (Jain and Chlamtac 1985): five numbers, whatever the length of the stream.
            self.median = self.median or stats.Quantile(0.5)
            self.median.update(value)
            self.value = float(self.median.get())
        else:
            self.value = value


@dataclass(slots=True)
class Rarity:
    """How many texts each bucket of words was in, for TF-IDF."""

    texts: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    def note(self, words: list[str], buckets: int) -> None:
        """One more text."""
        self.texts += 1
        for bucket in sorted({_bucket(word, buckets)[0] for word in words}):
            self.buckets[bucket] = self.buckets.get(bucket, 0) + 1


def hashed(name: str, words: list[str], buckets: int) -> dict[str, float]:
    """Signed feature hashing (Weinberger et al. 2009): collisions cancel on average."""
    columns = {f"{name}#{bucket}": 0.0 for bucket in range(buckets)}
    for word in words:
        bucket, sign = _bucket(word, buckets)
        columns[f"{name}#{bucket}"] += sign
    return columns


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return text.lower().split()


def _bucket(word: str, buckets: int) -> tuple[int, float]:
    number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    return (number >> 1) % buckets, 1.0 if number & 1 else -1.0


def weighted(name: str, words: list[str], buckets: int, rarity: Rarity) -> dict[str, float]:
    """Smooth TF-IDF of hashed words: each weighs log((1 + texts) / (1 + texts with it)) + 1, the length is one."""
    columns = {f"{name}#{bucket}": 0.0 for bucket in range(buckets)}
    for word in words:
        bucket, sign = _bucket(word, buckets)
        weight = math.log((1 + rarity.texts) / (1 + rarity.buckets.get(bucket, 0))) + 1.0
        columns[f"{name}#{bucket}"] += sign * weight
    length = math.hypot(*columns.values())
    return {column: value / length for column, value in columns.items()} if length else columns


def moments(name: str, value: float, parts: Sequence[str], *, cycle: bool) -> dict[str, float]:
    """Parts of a time, in UTC; those that come again as sine and cosine where ``cycle`` is set."""
    moment = datetime.datetime.fromtimestamp(value, datetime.UTC)
    columns: dict[str, float] = {}
    for which in parts:
        number = float(part(moment, which))
        if cycle and which in _PERIODS:
            angle = 2.0 * math.pi * number / _PERIODS[which]
            columns[f"{name}.{which}.sin"] = math.sin(angle)
            columns[f"{name}.{which}.cos"] = math.cos(angle)
        else:
            columns[f"{name}.{which}"] = number
    return columns
