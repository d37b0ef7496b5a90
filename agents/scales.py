"""How numbers, times and colours are shown: axes with round ticks, significant digits, shades by lightness. Pure."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeGuard

_LADDER = (1.0, 2.0, 2.5, 5.0, 10.0)
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
_SHADES = ((0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (200, 184, 102), (254, 232, 56))
_TICKS = 5


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: so many significant digits, thousands apart.

    >>> number(1234567.8), number(0.00012345), number(-2.5e-7), number(None)
    ('1,234,568', '0.0001234', '−2.50e−7', '–')
    """
    if not known(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 2}e}".replace("e-0", "e−").replace("e-", "e−").replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(places, 12)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def moment(at: float, form: str = "full") -> str:
    """A time, in UTC until the script has put it into the reader's zone.

    Args:
        form: `full`, `hms`, `hm` or `day`.
    """
    utc = datetime.fromtimestamp(at, UTC)
    shown = utc.strftime({"hms": "%H:%M:%S", "hm": "%H:%M", "day": "%d %b"}.get(form, "%Y-%m-%d %H:%M:%S"))
    stamp = utc.isoformat(timespec="milliseconds")
    return f"<time datetime='{stamp}' data-f={form} title='{utc:%Y-%m-%d %H:%M:%S} UTC'>{shown}</time>"


def ticks(low: float, high: float, count: int = _TICKS) -> list[float]:
    """About so many round numbers between two.

    >>> ticks(0.0, 1.0), ticks(3.0, 47.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [10.0, 20.0, 30.0, 40.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(rung * power for rung in _LADDER if rung * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


class Scale:
    """From values to shares of an axis."""

    def __init__(self, low: float, high: float, logarithmic: bool = False) -> None:
        self.logarithmic = logarithmic and low > 0
        self.low, self.high = low, high
        self._low, self._span = self._mapped(low), (self._mapped(high) - self._mapped(low)) or 1.0

    def _mapped(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.logarithmic else value

    def __call__(self, value: float) -> float:
        """0 to 1 within the axis."""
        return (self._mapped(value) - self._low) / self._span

    def ticks(self) -> list[float]:
        """Where to put labels."""
        if not self.logarithmic or self.high / self.low < 4:
            return ticks(self.low, self.high)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        full = [(rung, rung * 10.0**power) for power in powers for rung in (1, 2, 5)]
        within = [(rung, value) for rung, value in full if self.low * 0.999 <= value <= self.high * 1.001]
        crowded = len(within) > 2 * _TICKS
        return [value for rung, value in within if rung == 1 or not crowded]


def time_labels(across: Scale) -> list[tuple[float, str]]:
    """Labels at round moments of an axis in seconds since 1970."""
    span = across.high - across.low
    step = next((s for s in _STEPS_S if span / s <= 6), math.ceil(span / 6 / 604800) * 604800)
    form = "hms" if step < 60 else "hm" if step < 86400 else "day"
    first = math.ceil(across.low / step)
    moments = [place * step for place in range(first, math.floor(across.high / step) + 1)]
    return [(across(at), moment(at, form)) for at in moments if 0.02 <= across(at) <= 0.98]


def shade(share: float) -> str:
    """From dark blue to yellow by lightness, readable without colour too (after cividis, Nuñez et al. 2018)."""
    place = min(max(share, 0.0), 1.0) * (len(_SHADES) - 1)
    first = min(int(place), len(_SHADES) - 2)
    mixed = (a + (b - a) * (place - first) for a, b in zip(_SHADES[first], _SHADES[first + 1], strict=True))
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)


def labels(values: Sequence[float], scale: Callable[[float], float]) -> list[tuple[float, str]]:
    """Labels at these values, as (share of the axis, text)."""
    return [(scale(value), number(value, 3)) for value in values]
