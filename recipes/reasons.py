"""Why a score is what it is: how far each feature moves it from where it would be with that feature as is typical.

Nothing of the model is needed but its answers, so that the same can be asked of a service; for a linear model these
are its contributions: weight times distance from the typical value.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median_low

from online.events import Scalar
from recipes.rows import Case
from recipes.stream import Stream

_SURE = 1e-6


def log_odds(chance: float) -> float:
    """Of a chance, which is kept off 0 and 1.

    >>> log_odds(0.5), round(log_odds(0.9), 3)
    (0.0, 2.197)
    """
    kept = min(max(chance, _SURE), 1.0 - _SURE)
    return math.log(kept / (1.0 - kept))


def typical(cases: Sequence[Case]) -> dict[str, Scalar]:
    """The median of each number, the most frequent value of each other feature.

    >>> typical([Case({"age": age, "home": home}, True, {}) for age, home in ((1, "a"), (2, "b"), (9, "b"))])
    {'age': 2, 'home': 'b'}
    """
    return {name: _middle([case.features.get(name) for case in cases]) for name in cases[0].features}


def _middle(cells: Sequence[Scalar]) -> Scalar:
    known = [cell for cell in cells if cell is not None]
    numbers = [cell for cell in known if isinstance(cell, int | float) and not isinstance(cell, bool)]
    if numbers:
        return median_low(numbers)
    return Counter(known).most_common(1)[0][0] if known else None


def contributions(stream: Stream, case: Case, usual: Mapping[str, Scalar]) -> dict[str, float]:
    """Log-odds that each feature adds to those of a case with its usual value, the largest first."""
    own = log_odds(stream.chance(case))
    found = {
        name: own - log_odds(stream.chance(replace(case, features={**case.features, name: usual[name]})))
        for name in case.features
        if name in usual
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]))
