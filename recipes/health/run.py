"""Health: a risk from measurements with few labels, a queue for review, and a model that says when it is unsure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer  # type: ignore[import-untyped]

from agents.figures import Chart, Line, Role
from online.specs import ModelSpec, model_spec
from recipes.measures import Array, Flags, calibration_error, half_width, recall, roc_auc
from recipes.playing import Run, Table
from recipes.rows import YES_NO, Case, Cells, Label, Sheet
from recipes.stream import Stream

ORDERS, MOST_ROWS = 60, 1_500
HELD_OUT = 1 / 3
BUDGETS = (0.09, 0.15, 0.25, 0.4)
ABSTAINED, REFERRED = 0.10, 0.40
"""Shares of the cases that the model may leave undecided, and that a person can review."""

MEASURES = ("error", "pairs in the wrong order")
"""The share of cases on the wrong side, and 1 less the area under the curve."""

SHARES = tuple(share / 100 for share in range(0, 31, 2))
CLEAR = 0.5
"""Chance from which a case is referred."""

CASES, GROWS, SERIES = 1_000, 1.1, 10
"""Cases before and after the instrument changes, by what it multiplies lengths, and how often that is played."""

Order = NDArray[np.int64]

OTHERS: Mapping[str, list[Mapping[str, Any]]] = {
    "logistic regression, plain gradients": [
        {"use": "preprocessing.StandardScaler"},
        {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.SGD", "lr": 0.1}},
    ],
    "naive Bayes": [{"use": "naive_bayes.GaussianNB"}],
    "5 neighbours": [
        {"use": "preprocessing.StandardScaler"},
        {
            "use": "neighbors.KNNClassifier",
            "n_neighbors": 5,
            "engine": {"use": "neighbors.LazySearch", "window_size": 500},
        },
    ],
}

SHEET = Sheet(Label("malignant", YES_NO), {})


@dataclass(frozen=True)
class Patients:
    """The cases, their truth, and random orders of them; the first of each order are learned, the last held out."""

    cases: Sequence[Case]
    truth: Flags
    orders: Sequence[Order]

    @property
    def learned(self) -> int:
        """How many of each order are learned at most."""
        return round(len(self.orders[0]) * (1 - HELD_OUT))

    def held_out(self, order: Order) -> Flags:
        """The truth of those held out."""
        return np.asarray(self.truth[order[self.learned :]])


@dataclass(frozen=True)
class Bought:
    """How many labels were bought, and for each order, asked for and at random, what `judged` says."""

    labels: float
    found: Array


def play(run: Run) -> None:
    """From measurements to a service that refers, clears, or says that it is unsure."""
    run.stage("collect and prepare")
    patients = collected(run)
    run.stage("features")
    spec = run.manifest.models["malignant"]
    run.say(f"{len(spec.features or {})} measurements, declared in trimtab.toml with their ranges; four may be blank")
    run.stage("choose")
    choose(run, spec, patients)
    run.stage("train and validate")
    few, every = learned(run, spec, patients)
    run.stage("evaluate and test")
    evaluate(run, patients, few, every)
    run.stage("deploy")
    run.serve("malignant", patients.cases)
    run.stage("monitor and maintain")
    watch(run, spec, patients)


def sample() -> Iterable[Cells]:
    """Rows as a file of yours may have them."""
    return measured()


def measured() -> Iterable[Cells]:
    """The ten measurements of each lump that scikit-learn's set calls worst."""
    found = load_breast_cancer()
    names = [str(name) for name in found.feature_names]
    columns = {name[6:].replace(" ", "_"): place for place, name in enumerate(names) if name.startswith("worst ")}
    for row, kind in zip(found.data, found.target, strict=True):
        yield {**{name: float(row[place]) for name, place in columns.items()}, "malignant": bool(kind == 0)}


def collect(run: Run, least: int = 200) -> Sequence[Case]:
    """The rows as cases."""
    return run.cases("malignant", measured, replace(SHEET, least=least))


def collected(run: Run) -> Patients:
    """The cases in many random orders: a few hundred rows in one order alone would show the luck of that order."""
    cases = collect(run)
    truth = np.array([case.label for case in cases], bool)
    rng = np.random.default_rng(run.seed)
    orders = [rng.permutation(len(cases))[:MOST_ROWS] for _ in range(ORDERS)]
    patients = Patients(cases, truth, orders)
    run.say(
        f"{truth.mean():.0%} are malignant; {ORDERS} random orders, in each of which {patients.learned:,} cases come "
        f"by and {len(orders[0]) - patients.learned:,} are held out"
    )
    return patients


def taught(
    spec: ModelSpec, patients: Patients, order: Order, wants: Callable[[Stream, int, Case], bool]
) -> tuple[Stream, int]:
    """A model that saw the cases of an order one by one and learned the labels wanted; how many they were."""
    stream = Stream(spec)
    for place, i in enumerate(order[: patients.learned]):
        case = patients.cases[i]
        if wants(stream, place, case):
            stream.show(case, label=case.label)
    return stream, stream.shown


def asked(stream: Stream, place: int, case: Case) -> bool:
    """Whether the service would ask for the label: its own rule, within the declared budget."""
    return bool(stream.learner.outlook.ask(str(place), stream.predict(case).probabilities))


def among(chosen: set[int]) -> Callable[[Stream, int, Case], bool]:
    """The labels at these places."""
    return lambda _, place, __: place in chosen


def always(*_: object) -> bool:
    """All labels."""
    return True


def chances(stream: Stream, patients: Patients, order: Order) -> Array:
    """What the model says of those held out."""
    return np.array([stream.chance(patients.cases[i]) for i in order[patients.learned :]])


def wrong(found: Array, truth: Flags) -> float:
    """The share of cases on the wrong side."""
    return float(((found >= CLEAR) != truth).mean())


def interval(values: Sequence[float] | Array, digits: int = 4) -> str:
    """A mean over the orders with its 95 % interval."""
    return f"{np.mean(values):.{digits}f} ± {half_width(values):.{digits}f}"


def choose(run: Run, spec: ModelSpec, patients: Patients) -> None:
    """Compare pipelines with all labels, on a third of the cases that are learned: none held out is looked at."""
    source = {name: value for name, value in spec.source.items() if name != "pipeline"}
    others = {name: model_spec("malignant", {**source, "pipeline": steps}) for name, steps in OTHERS.items()}
    inner = replace(patients, orders=[order[: patients.learned] for order in patients.orders[:15]])
    rows = []
    for name, one in {"logistic regression (declared)": spec, **others}.items():
        found = np.array([judged(taught(one, inner, order, always)[0], inner, order) for order in inner.orders])
        rows.append((name, interval(found[:, 0]), interval(found[:, 1])))
        run.tell(f"  {name}: error {rows[-1][1]}")
    run.show(Table(("pipeline", *MEASURES), rows))


def learned(run: Run, spec: ModelSpec, patients: Patients) -> tuple[list[Stream], list[Stream]]:
    """Labels asked for against as many at random; the models with the declared budget, and with all labels."""
    rng = np.random.default_rng([run.seed, 1])
    every = [taught(spec, patients, order, always)[0] for order in patients.orders]
    whole = [judged(one, patients, order) for one, order in zip(every, patients.orders, strict=True)]
    shares = [interval(np.array(measure)) for measure in zip(*whole, strict=True)]
    run.say(f"all {patients.learned:,} labels: " + ", ".join(map(" ".join, zip(MEASURES, shares, strict=True))))
    few: list[Stream] = []
    found = []
    for budget in BUDGETS:
        own = model_spec("malignant", {**spec.source, "label_budget": budget})
        streams, pairs, bought = [], [], []
        for order in patients.orders:
            stream, labels = taught(own, patients, order, asked)
            chosen = set(rng.choice(patients.learned, labels, replace=False).tolist())
            other, _ = taught(spec, patients, order, among(chosen))
            pairs.append([judged(stream, patients, order), judged(other, patients, order)])
            streams.append(stream)
            bought.append(labels)
        few = streams if budget == spec.label_budget else few
        found.append(Bought(float(np.mean(bought)), np.array(pairs)))
        compared(run, found[-1], shown=budget in (BUDGETS[0], spec.label_budget, BUDGETS[-1]))
    curves(run, found, Bought(float(patients.learned), np.array([[one, one] for one in whole])))
    return few, every


def judged(stream: Stream, patients: Patients, order: Order) -> tuple[float, float]:
    """The `MEASURES` on those held out."""
    found, truth = chances(stream, patients, order), patients.held_out(order)
    return wrong(found, truth), 1.0 - roc_auc(found, truth)


def compared(run: Run, bought: Bought, *, shown: bool) -> None:
    """Labels asked for against as many at random, order by order."""
    for measure, name in enumerate(MEASURES):
        own, random = bought.found[:, :, measure].T
        run.say(
            f"{bought.labels:.0f} labels, {name}: {interval(own)} asked for, {interval(random)} at random, "
            f"difference {interval(own - random)}"
        )
        if shown:
            beside = ("as many at random", float(random.mean()))
            run.figure(f"{name}, {bought.labels:.0f} labels asked for", float(own.mean()), beside)


def curves(run: Run, found: Sequence[Bought], whole: Bought) -> None:
    """What is measured, against the number of labels."""
    labels = [one.labels for one in (*found, whole)]
    ways: Sequence[tuple[str, Role]] = (("asked for", "candidate"), ("at random", "baseline"))
    for measure, title in enumerate(MEASURES):
        lines = [
            banded(name, [one.found[:, way, measure] for one in (*found, whole)], role)
            for way, (name, role) in enumerate(ways)
        ]
        run.show(Chart(title, labels, lines, timed=False, label="labels bought"))


def banded(name: str, values: Sequence[Array], role: Role) -> Line:
    """Means over the orders, with their intervals."""
    means, halves = np.array([one.mean() for one in values]), np.array([half_width(one) for one in values])
    low, high = (means - halves).tolist(), (means + halves).tolist()
    return Line(name, means.tolist(), role, low=low, high=high, dashed=role == "baseline")


def evaluate(run: Run, patients: Patients, few: Sequence[Stream], every: Sequence[Stream]) -> None:
    """Sensitivity within the budget of reviews, abstention against error, and calibration, on those held out."""
    truth = [patients.held_out(order) for order in patients.orders]
    found, full = (
        [chances(s, patients, o) for s, o in zip(some, patients.orders, strict=True)] for some in (few, every)
    )
    area = [
        np.array([patients.cases[i].features["area"] for i in o[patients.learned :]], float) for o in patients.orders
    ]
    ideal = [min(1.0, REFERRED / max(float(true.mean()), 1e-9)) for true in truth]
    own, alone = (
        [recall(queued(scores), true) for scores, true in zip(some, truth, strict=True)] for some in (found, area)
    )
    run.figure(
        f"share of the malignant among the {REFERRED:.0%} referred",
        float(np.mean(own)),
        ("the area alone", float(np.mean(alone))),
        ("perfect order", float(np.mean(ideal))),
    )
    unsure(run, patients, few, found, truth)
    abstention(run, found, full, truth)
    off = [calibration_error(np.concatenate(some), np.concatenate(truth)) for some in (found, full)]
    run.say(f"mean distance of chance and frequency: {off[0]:.3f} with few labels, {off[1]:.3f} with all")


def queued(scores: Array) -> Flags:
    """The share of the highest scores that is reviewed."""
    taken = np.zeros(len(scores), bool)
    taken[np.argsort(-scores, kind="stable")[: round(REFERRED * len(scores))]] = True
    return taken


def unsure(run: Run, patients: Patients, few: Sequence[Stream], found: Sequence[Array], truth: Sequence[Flags]) -> None:
    """What abstaining is worth: the level is set on the cases that came by, which takes no labels."""
    rows = []
    for stream, order, chance, true in zip(few, patients.orders, found, truth, strict=True):
        seen = np.array([stream.chance(patients.cases[i]) for i in order[: patients.learned]])
        level = np.quantile(np.abs(seen - CLEAR), ABSTAINED)
        answered = np.abs(chance - CLEAR) >= level
        missed = true & (chance < CLEAR)
        errors = (wrong(chance, true), wrong(chance[answered], true[answered]))
        rows.append(
            (float((~answered).mean()), *errors, 1e3 * float(missed.mean()), 1e3 * float((missed & answered).mean()))
        )
    share, all_wrong, wrong_answered, missed_all, missed_answered = np.array(rows).T
    run.figure("share of the cases left to a person as unsure", float(share.mean()))
    run.figure(
        "error of those answered",
        float(wrong_answered.mean()),
        ("answers all", float(all_wrong.mean())),
        ("knows its errors", float((np.maximum(all_wrong - share, 0.0) / (1.0 - share)).mean())),
    )
    run.figure(
        "malignant among those cleared, per 1,000 cases",
        float(missed_answered.mean()),
        ("answers all", float(missed_all.mean())),
    )
    saved = (all_wrong - wrong_answered, missed_all - missed_answered)
    run.say(
        f"abstaining takes {interval(saved[0])} off the error, and {interval(saved[1], 1)} off the malignant missed"
    )


def abstention(run: Run, found: Sequence[Array], full: Sequence[Array], truth: Sequence[Flags]) -> None:
    """Error of those answered against the share that is left undecided."""
    lines = []
    some: Sequence[tuple[str, Sequence[Array], Role]] = (
        ("few labels", found, "candidate"),
        ("all labels", full, "incumbent"),
    )
    for name, every, role in some:
        pairs = list(zip(every, truth, strict=True))
        lines.append(banded(name, [np.array([answered(*pair, share) for pair in pairs]) for share in SHARES], role))
    lines.append(Line("undecided by chance, few labels", [lines[0].y[0]] * len(SHARES), "baseline", dashed=True))
    run.show(Chart("error of those answered", SHARES, lines, timed=False, label="share of the cases left undecided"))


def answered(chance: Array, truth: Flags, share: float) -> float:
    """The error where this share, the least sure, is left undecided."""
    kept = np.argsort(-np.abs(chance - CLEAR), kind="stable")[: len(chance) - round(share * len(chance))]
    return wrong(chance[kept], truth[kept])


def watch(run: Run, spec: ModelSpec, patients: Patients) -> None:
    """Another instrument: lengths come out a tenth larger. Noticed without labels?"""
    delays, false, errors = [], [], []
    for series in range(SERIES):
        rng = np.random.default_rng([run.seed, 2, series])
        order = patients.orders[series]
        stream, labels = taught(spec, patients, order, asked)
        drawn = [patients.cases[i] for i in rng.choice(order[patients.learned :], 2 * CASES)]
        wrongs = []
        for place, case in enumerate(drawn):
            seen = case if place < CASES else larger(case)
            wrongs.append((stream.chance(seen) >= CLEAR) != case.label)
            stream.show(seen)
        at = [alarm.cases - labels for alarm in stream.alarms if alarm.name == "radius"]
        after = [place - CASES for place in at if place > CASES]
        delays.append(float(after[0]) if after else float("inf"))
        false.append(float(len(at) - len(after)))
        errors.append((np.mean(wrongs[:CASES]), np.mean(wrongs[CASES:])))
    before, then = np.mean(errors, axis=0)
    run.figure("cases until a new instrument is noticed, without labels (median)", float(np.median(delays)))
    run.figure(f"false alarms in {CASES:,} cases before", float(np.mean(false)))
    run.say(
        f"lengths a tenth larger: noticed in {np.isfinite(delays).sum()} of {SERIES}; the error goes from "
        f"{before:.3f} to {then:.3f} if nobody listens"
    )


def larger(case: Case) -> Case:
    """A case as the new instrument measures it."""
    sizes = {"radius": GROWS, "perimeter": GROWS, "area": GROWS**2}
    return replace(case, features={name: float(v or 0.0) * sizes.get(name, 1.0) for name, v in case.features.items()})
