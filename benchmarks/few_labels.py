"""Few labels: accuracy with 10 % of them bought by active learning, 20 % at random, and accuracy foreseen.

Every row is predicted; the model learns those whose label was bought; the accuracy is over all rows. Phishing and
Bananas come in another order for each seed, the stream with drift is another one: 10,000 rows of three numbers whose
sum of two is compared with a limit that changes three times, one label in ten turned round.

``--foreseen`` estimates, before labels come, the accuracy of the last 2,000 predictions from their confidence, with
labels 1,000 rows late, every 500 rows, and compares with what the labels said later; on streams without a change, with
models that are calibrated and models that are not, and on one with three. For 1,000 rows after a change nothing that
came can tell of it: these looks are counted apart. With ``--budget`` only that share of the labels is bought.

    python benchmarks/few_labels.py [--seeds N] [--foreseen [--budget B]]
"""

import argparse
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the estimate: how far it was from the later truth, whether it was to be believed.

    ``changed`` where the concept did since the last row whose label is in: nothing that came can tell of it.
    """

    error: float
    calibrated: bool | None
    changed: bool


def foretold(
    rows: Rows, model: Any, changes: Sequence[int] = (), buyer: Buyer | None = None, late: int = 1_000
) -> Iterator[Look]:
    """A look every 500 rows, from row 2,000 on: the accuracy of the last 2,000 as estimated, and as it was.

    Labels come ``late`` rows after the prediction: all, or those that the buyer wants, of which the fair ones count.
    """
    foreseen, waiting = Foreseen(), deque[tuple[dict[str, Any], bool, float, float, bool, bool, bool]]()
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
        if number >= foreseen.window and number % 500 == 0:
            now = foreseen.estimated()
            truth = sum(rights[-foreseen.window :]) / foreseen.window
            changed = any(change < number <= change + late for change in changes)
            yield Look(abs((now.accuracy or 0.0) - truth), now.calibrated, changed)


@dataclass(frozen=True, slots=True)
class Trial:
    """A stream whose accuracy is foreseen: its rows, the model, the rows before which the concept changes."""

    rows: Callable[[int], Rows]
    make: Callable[[], Any]
    changes: tuple[int, ...] = ()


FORESEEN: dict[str, Trial] = {
    "logistic, no change": Trial(lambda seed: drifting(seed, 20_000, (8.0,)), STREAMS["drift, logistic"][1]),
    "naive Bayes, no change": Trial(lambda seed: drifting(seed, 20_000, (8.0,)), naive_bayes.GaussianNB),
    "5 neighbours, no change": Trial(lambda seed: drifting(seed, 10_000, (8.0,)), STREAMS["Bananas, 5 neighbours"][1]),
    "logistic, three changes": Trial(
        lambda seed: drifting(seed, 20_000), STREAMS["drift, logistic"][1], (5_000, 10_000, 15_000)
    ),
}


def told(looks: Sequence[Look]) -> Iterator[str]:
    """What became of estimates that were believed, flagged, and neither; those just after a change apart."""
    for changed in (False, True):
        for believed in (True, False, None):
            errors = [look.error for look in looks if look.calibrated == believed and look.changed == changed]
            within = sum(error <= 0.03 for error in errors)
            title = {True: "believed", False: "flagged", None: "unknown"}[believed] + ", just changed" * changed
            if errors or not changed:
                worst = max(errors, default=0.0)
                yield f"{title:22} {len(errors):4}, within .03: {within:4}, largest error {worst:.3f}"


def foresee(seeds: int, budget: float | None) -> None:
    """Print what was foreseen."""
    for name, trial in FORESEEN.items():
        looks = [
            look
            for seed in range(seeds)
            for look in foretold(
                trial.rows(seed), trial.make(), trial.changes, None if budget is None else Buyer(budget)
            )
        ]
        for line in told(looks):
            print(f"{name:24} {line}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--foreseen", action="store_true")
    parser.add_argument("--budget", type=float)
    given = parser.parse_args()
    if given.foreseen:
        foresee(given.seeds, given.budget)
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
