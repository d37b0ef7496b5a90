"""What is to be known of River's detectors one by one: their own figures behind an alarm, their laxer twins."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from online.components import Component, construct

LAXER: Mapping[str, tuple[str, float]] = {
    "ADWIN": ("delta", 10.0),
    "KSWIN": ("alpha", 4.0),
    "PageHinkley": ("threshold", 0.5),
}
"""The argument of a detector without warnings, and the factor that makes a warning of it.

ADWIN's is that of adaptive random forests: .001 alarms, .01 warns (Gomes et al. 2017, section 3).
"""


def warner(found: Component, detector: Any, *, twin: bool) -> Any:
    """What gives the warnings of a detector: itself, with ``twin`` a laxer one of its kind, or ``None``."""
    if hasattr(detector, "warning_detected"):
        return detector
    if not twin or type(detector).__name__ not in LAXER:
        return None
    name, factor = LAXER[type(detector).__name__]
    lax = getattr(detector, name) * factor
    return construct(
        Component(found.use, {**found.arguments, name: lax if name == "threshold" else min(lax, 0.99)}, found.path)
    )


def warns(detector: Any, warner: Any, value: float) -> bool:
    """Whether this value is a warning; ``warner`` sees it, where it is another one than the detector."""
    if warner is detector:
        return bool(detector.warning_detected)
    warner.update(value)
    return bool(warner.drift_detected)


def figures(detector: Any) -> dict[str, float]:
    """A detector's own figures after it fired: ``p``, or ``statistic`` and ``bound``; ``p_at_most`` bounds an error.

    ``p_at_most`` is the probability that a single test of values without a change fires, as the detector's paper bounds
    it. Empty for a detector that is not known here.
    """
    read = _FIGURES.get(type(detector).__name__)
    return {} if read is None else read(detector)


def _page_hinkley(found: Any) -> dict[str, float]:
    up, down = found._sum_increase - found._min_increase, found._max_decrease - found._sum_decrease
    return {"statistic": float(max(up, down)), "bound": float(found.threshold)}


def _ddm(found: Any) -> dict[str, float]:
    p, n = found._p.get(), found._p.n
    deviation = math.sqrt(p * (1.0 - p) / n)
    return {"statistic": p + deviation, "bound": found._p_min + found.drift_threshold * found._s_min}


def _eddm(found: Any) -> dict[str, float]:
    distances = found._error_distances
    level = (distances.mean.get() + 2.0 * math.sqrt(distances.get())) / found._p2s_prime_max
    return {"statistic": float(level), "bound": found.beta}


def _hddm_a(found: Any) -> dict[str, float]:
    n, low, high = found._z.n, found._x_min.n, found._x_max.n

    def bound(part: float) -> float:
        return math.sqrt((n - part) / part / n / 2.0 * math.log(2.0 / found.drift_confidence))

    up, down = found._z.get() - found._x_min.get(), found._x_max.get() - found._z.get()
    rises = n > low and up >= bound(low)
    statistic, limit = (up, bound(low)) if rises else (down, bound(high))
    return {"statistic": statistic, "bound": limit, "p_at_most": found.drift_confidence}


def _hddm_w(found: Any) -> dict[str, float]:
    def test(first: Any, second: Any) -> tuple[float, float]:
        return second.ewma - first.ewma, found._mcdiarmid_bound(first.ibc + second.ibc, found.drift_confidence)

    up, down = test(found._s1_incr, found._s2_incr), test(found._s2_decr, found._s1_decr)
    statistic, bound = up if up[0] > up[1] else down
    return {"statistic": statistic, "bound": bound, "p_at_most": found.drift_confidence}


_FIGURES: Mapping[str, Callable[[Any], dict[str, float]]] = {
    "ADWIN": lambda found: {"window": found.width, "window_mean": found.estimation, "p_at_most": found.delta},
    "KSWIN": lambda found: {"p": float(found.p_value), "p_at_most": found.alpha},
    "PageHinkley": _page_hinkley,
    "DDM": _ddm,
    "EDDM": _eddm,
    "HDDMA": _hddm_a,
    "HDDMW": _hddm_w,
}
