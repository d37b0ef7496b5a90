"""Champion and challenger: how often one that is truly better is recognised, and one that is equal wrongly so.

The stream is three numbers from 0 to 10; whether the first two add up to 8 decides the label, of which one in ten is
turned round. The champion is a logistic regression, the better challenger Gaussian naive Bayes. The equal pair are two
Gaussian naive Bayes, one shown the first number and the other the second, which tell equally much. All are judged
once, at the labels announced for a difference of .02 in accuracy.

``wandering`` is a pair that is equal in the long run only: two logistic regressions, each learning from half of the
labels. Their weights never come to rest, so that for hundreds of labels one is in truth better than the other.

    python benchmarks/challengers.py [--seeds N]
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import linear_model, naive_bayes, optim, preprocessing

from online.comparison import Comparison, Plan, announced
from online.events import Finding

DIFFERENCE = 0.02
DEVIATION = 0.3
"""Two classifiers that disagree on 9 labels in 100."""


def stream(seed: int, count: int) -> Iterator[tuple[dict[str, float], bool]]:
    """Rows with their labels."""
    rng = np.random.default_rng(seed)
    for x, turned in zip(rng.random((count, 3)) * 10.0, rng.random(count) < 0.1, strict=True):
        yield {f"x{n}": float(value) for n, value in enumerate(x)}, bool(x[0] + x[1] <= 8.0) != bool(turned)


def logistic() -> Any:
    """A logistic regression on scaled features."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.1))


@dataclass(frozen=True, slots=True)
class Pair:
    """A champion and a challenger: how to make them, what each is shown, how often each learns."""

    make: Callable[[], tuple[Any, Any]]
    shown: tuple[tuple[str, ...], tuple[str, ...]] = (("x0", "x1", "x2"), ("x0", "x1", "x2"))
    halves: bool = False


PAIRS: Mapping[str, Pair] = {
    "truly better": Pair(lambda: (logistic(), naive_bayes.GaussianNB())),
    "truly equal": Pair(
        lambda: (naive_bayes.GaussianNB(), naive_bayes.GaussianNB()), shown=(("x0", "x2"), ("x1", "x2"))
    ),
    "wandering": Pair(lambda: (logistic(), logistic()), halves=True),
}


def compared(pair: Pair, seed: int) -> tuple[Finding, float]:
    """What one comparison finds, and the share of labels on which the two disagreed."""
    plan = Plan(announced(DIFFERENCE, DEVIATION))
    comparison, models = Comparison(plan), pair.make()
    rng = np.random.default_rng([seed, 1])
    apart, found = 0, []
    for x, y in stream(seed, plan.labels):
        views = [{name: x[name] for name in names} for names in pair.shown]
        first, second = (model.predict_one(view) for model, view in zip(models, views, strict=True))
        found = comparison.update(float(first != y), {"challenger": float(second != y)})
        apart += first != second
        turn = rng.random() < 0.5
        for number, (model, view) in enumerate(zip(models, views, strict=True)):
            if not pair.halves or turn == bool(number):
                model.learn_one(view, y)
    return found[0], apart / plan.labels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    given = parser.parse_args()
    print(f"announced: {announced(DIFFERENCE, DEVIATION):,} labels, level {Plan().level}")
    for name, pair in PAIRS.items():
        found = [compared(pair, seed) for seed in range(given.seeds)]
        verdicts = [finding.verdict for finding, _ in found]
        counts = ", ".join(f"{verdicts.count(v)} {v}" for v in ("better", "not told apart", "worse"))
        difference = float(np.mean([finding.difference for finding, _ in found]))
        apart = float(np.mean([share for _, share in found]))
        print(f"{name}: {counts}; mean difference {difference:.4f}, disagreeing on {apart:.3f}", flush=True)


if __name__ == "__main__":
    main()
