"""Few labels: accuracy with 10 % of them bought by active learning, 20 % at random, and accuracy foreseen.

Every row is predicted; the model learns those whose label was bought; the accuracy is over all rows. Phishing and
Bananas come in another order for each seed, the stream with drift is another one: 10,000 rows of three numbers whose
sum of two is compared with a limit that changes three times, one label in ten turned round.

``--foreseen`` estimates, before labels come, the accuracy of each stretch of 2,000 predictions from their confidence,
with labels 1,000 rows late, and compares with what the labels said later; on streams without a change, with models that
are calibrated and models that are not.

    python benchmarks/few_labels.py [--seeds N] [--foreseen]
"""

import argparse
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from river import datasets, linear_model, naive_bayes, neighbors, optim, preprocessing

from online.active import Buyer, uniforms
from online.foreseen import Foreseen

Rows = list[tuple[dict[str, Any], bool]]

LIMITS = (8.0, 9.0, 7.0, 9.5)


def shuffled(data: Callable[[], Any]) -> Callable[[int], Rows]:
    """A data set of River in an order of its own for each seed."""

    def rows(seed: int) -> Rows:
        found = [({name: x[name] for name in sorted(x)}, bool(y)) for x, y in data()]
        random.Random(seed).shuffle(found)
        return found

    return rows


def drifting(seed: int, count: int = 10_000, limits: tuple[float, ...] = LIMITS) -> Rows:
    """Three numbers from 0 to 10 with a label that depends on a limit which changes."""
    rng = np.random.default_rng(seed)
    rows = zip(rng.random((count, 3)) * 10.0, rng.random(count) < 0.1, strict=True)
    return [
        (
            {f"x{n}": float(value) for n, value in enumerate(x)},
            bool(x[0] + x[1] <= limits[row * len(limits) // count]) != bool(turned),
        )
        for row, (x, turned) in enumerate(rows)
    ]


STREAMS: dict[str, tuple[Callable[[int], Rows], Callable[[], Any]]] = {
    "Phishing, logistic": (
        shuffled(datasets.Phishing),
        lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.02)),
    ),
    "Bananas, 5 neighbours": (
        shuffled(datasets.Bananas),
        lambda: neighbors.KNNClassifier(n_neighbors=5, engine=neighbors.LazySearch(window_size=500)),
    ),
    "drift, naive Bayes": (drifting, naive_bayes.GaussianNB),
    "drift, logistic": (
        drifting,
        lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.05)),
    ),
}

WAYS: dict[str, Callable[[], Buyer]] = {
    # A little less than a tenth, so that the advance is paid back at the end of a thousand rows.
    "10 % bought actively": lambda: Buyer(0.097),
    "10 % at random": lambda: Buyer(0.1, at_random=1.0, advance=1),
    "20 % at random": lambda: Buyer(0.2, at_random=1.0, advance=1),
}


def bought(rows: Rows, model: Any, buyer: Buyer, seed: int) -> tuple[float, float]:
    """The accuracy over all rows, and the share of labels bought."""
    right = 0
    for number, (x, y) in enumerate(rows):
        probabilities = model.predict_proba_one(x)
        right += bool(probabilities) and max(probabilities, key=probabilities.get) == y
        chance = uniforms(f"{seed}/{number}")
        wanted = buyer.wants(probabilities, chance)
        buyer.note(probabilities, chance, wanted=wanted)
        if wanted:
            model.learn_one(x, y)
    return right / len(rows), buyer.bought / buyer.seen


def foretold(
    rows: Rows, model: Any, buyer: Buyer | None = None, late: int = 1_000, window: int = 2_000
) -> Iterator[tuple[float, float, bool | None]]:
    """For each stretch of ``window`` rows: the accuracy estimated at its end, the true one, whether it is believed.

    Labels come ``late`` rows after the prediction: all, or those that the buyer wants, of which the fair ones count.
    """
    foreseen, waiting = Foreseen(window), deque[tuple[dict[str, Any], bool, float, float, bool, bool, bool]]()
    rights: list[bool] = []
    for number, (x, y) in enumerate(rows, 1):
        probabilities: dict[bool, float] = model.predict_proba_one(x) or {False: 0.5, True: 0.5}
        confidence, value = max((p, label) for label, p in probabilities.items())
        rights.append(value == y)
        wanted = fair = True
        if buyer is not None:
            chance = uniforms(str(number))
            wanted, fair = buyer.wants(probabilities, chance), buyer.is_fair(chance)
            buyer.note(probabilities, chance, wanted=wanted)
        waiting.append((x, y, confidence, foreseen.note(confidence), value == y, wanted, fair))
        if len(waiting) > late:
            learned, label, confidence, foretold_then, right, wanted, fair = waiting.popleft()
            if wanted:
                foreseen.settle(confidence, foretold_then, right=right, fair=fair)
                model.learn_one(learned, label)
        if number % window == 0:
            now = foreseen.estimated()
            yield now.accuracy or 0.0, sum(rights[-window:]) / window, now.calibrated


FORESEEN: dict[str, tuple[Callable[[int], Rows], Callable[[], Any]]] = {
    "logistic, no change": (lambda seed: drifting(seed, 20_000, (8.0,)), STREAMS["drift, logistic"][1]),
    "naive Bayes, no change": (lambda seed: drifting(seed, 20_000, (8.0,)), naive_bayes.GaussianNB),
    "logistic, three changes": (lambda seed: drifting(seed, 20_000), STREAMS["drift, logistic"][1]),
    "5 neighbours, no change": (
        lambda seed: drifting(seed, 10_000, (8.0,)),
        STREAMS["Bananas, 5 neighbours"][1],
    ),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--foreseen", action="store_true")
    parser.add_argument("--budget", type=float)
    given = parser.parse_args()
    if given.foreseen:
        for name, (rows, make) in FORESEEN.items():
            told_of = [
                row
                for seed in range(given.seeds)
                for row in foretold(rows(seed), make(), None if given.budget is None else Buyer(given.budget))
            ]
            for believed in (True, False, None):
                errors = [abs(estimate - truth) for estimate, truth, calibrated in told_of if calibrated == believed]
                within = sum(error <= 0.03 for error in errors)
                worst = max(errors, default=0.0)
                told = {True: "believed", False: "flagged", None: "unknown"}[believed]
                print(
                    f"{name:24} {told:8} {len(errors):4}, within .03: {within:4}, largest error {worst:.3f}", flush=True
                )
        return
    for name, (rows, make) in STREAMS.items():
        cells = []
        for way, buyer in WAYS.items():
            found = [bought(rows(seed), make(), buyer(), seed) for seed in range(given.seeds)]
            accuracy, share = np.mean(found, axis=0)
            error = np.std([row[0] for row in found], ddof=1) / np.sqrt(given.seeds) if given.seeds > 1 else 0.0
            cells.append(f"{way} {accuracy:.4f} ± {error:.4f} ({share:.3f})")
        print(f"{name:22} " + "   ".join(cells), flush=True)


if __name__ == "__main__":
    main()
