"""Durations as people write them in a manifest."""

import re

_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?) ?(?P<unit>ms|s|min|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
ALLOWED = 'a duration such as "90s", "30min", "24h" or "1d", or a number of seconds, not negative'


def seconds(given: str | float) -> float:
    """The seconds in `given`.

    Raises:
        ValueError: It is no duration.

    >>> seconds("24h"), seconds("30min"), seconds(1.5)
    (86400.0, 1800.0, 1.5)
    """
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError(ALLOWED)
    if isinstance(given, str):
        found = _DURATION.fullmatch(given.strip())
        if found is None:
            raise ValueError(ALLOWED)
        return float(found["number"]) * _SECONDS[found["unit"]]
    if not 0 <= given < float("inf"):
        raise ValueError(ALLOWED)
    return float(given)
