"""HR: who may leave, which conversation to suggest within a budget, and what the ranking does to whom."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.figures import Bars, Chart, Line
from online.events import Scalar
from online.features import FeatureError
from online.specs import ModelSpec, model_spec
from recipes import datasets
from recipes.choices import Choices
from recipes.hr.conversations import ARMS, helps, situation
from recipes.measures import Array, Flags, auc_half_width, by_group, half_width, precision, recall, roc_auc
from recipes.playing import Run, Table
from recipes.reasons import contributions, typical
from recipes.rows import YES_NO, Case, Cells, Label, Sheet, amount, cases
from recipes.stream import Stream

BUDGET = 0.15
"""Share of the staff that a conversation can be offered to."""

FOLDS = 10
PROTECTED = ("Age", "Gender", "MaritalStatus")
PROXIES = ("StockOptionLevel", "TotalWorkingYears")
"""Features that give away marital status (options, in these data) and age."""

SURVEY = ("EnvironmentSatisfaction", "JobInvolvement", "JobSatisfaction", "RelationshipSatisfaction", "WorkLifeBalance")
BANDS = (30, 40, 50)
FEWEST = 20
"""Leavers in a group for a rate that is compared."""

ROUNDS, LATE = 4_000, 100
"""Conversations that are simulated, and how many begin before it is known whether one helped."""

OTHERS: Mapping[str, list[Mapping[str, Any]]] = {
    "naive Bayes": [{"use": "naive_bayes.GaussianNB"}],
    "adaptive forest": [{"use": "forest.ARFClassifier", "n_models": 5, "max_depth": 6, "seed": 1}],
}


def prepared(row: Cells) -> Cells:
    """Overtime as a boolean; the age must be a number, for the groups that are compared."""
    over = row.get("OverTime")
    return {
        **row,
        "Age": amount("Age", row.get("Age"), 0.0, 120.0),
        **{name: "not given" if row.get(name) is None else str(row[name]) for name in PROTECTED[1:]},
        "OverTime": YES_NO.get(str(over).lower(), over),
    }


SHEET = Sheet(Label("Attrition", YES_NO), dict.fromkeys(PROTECTED, True), prepared)


@dataclass(frozen=True)
class Staff:
    """People, and whether each of them left; `folds` says in which tenth each is judged by what the others teach."""

    cases: Sequence[Case]
    left: Flags
    folds: NDArray[np.int64]

    @property
    def groups(self) -> dict[str, list[str]]:
        """The group of each person, by protected column."""
        return {name: [band(case.beside[name]) for case in self.cases] for name in PROTECTED}

    def invited(self, scores: Array) -> Flags:
        """Those with the highest scores, as many as the budget allows."""
        chosen = np.zeros(len(scores), bool)
        chosen[np.argsort(-scores, kind="stable")[: int(BUDGET * len(scores))]] = True
        return chosen


def play(run: Run) -> None:
    """From a staff to a service that ranks and suggests."""
    run.stage("collect and prepare")
    staff = collected(run)
    run.stage("features")
    spec = run.manifest.models["attrition"]
    run.say(f"{len(spec.features or {})} features, declared in trimtab.toml; {', '.join(PROTECTED)} are kept beside")
    run.stage("choose")
    choose(run, spec, staff)
    run.stage("train and validate")
    scores = judged(run, spec, staff)
    rank(run, staff, scores)
    run.stage("evaluate and test")
    shown_to_be_out(run, spec, staff)
    fairness(run, spec, staff, scores)
    given_away(run, spec, staff, scores)
    talk(run, staff, scores)
    run.stage("deploy")
    run.serve("attrition", staff.cases)
    suggest(run, spec, staff, scores)
    run.stage("monitor and maintain")
    watch(run, spec, staff)


def sample() -> Iterable[Cells]:
    """Rows as a file of yours may have them."""
    return islice(datasets.rows("modeldata", "attrition"), 500)


def collect(run: Run, least: int = 400) -> Sequence[Case]:
    """The rows as cases."""
    return run.cases("attrition", lambda: datasets.rows("modeldata", "attrition"), replace(SHEET, least=least))


def collected(run: Run) -> Staff:
    """The staff, in tenths by chance."""
    people = collect(run)
    left = np.array([person.label for person in people], bool)
    rng = np.random.default_rng([run.seed, 1])
    run.say(f"{left.mean():.1%} left; each is judged by a model that the other nine tenths taught, one by one, once")
    return Staff(people, left, rng.permutation(np.arange(len(people)) % FOLDS))


def band(cell: object) -> str:
    """Ages in bands; other cells as they are."""
    if not isinstance(cell, int | float):
        return str(cell)
    low = max((age for age in BANDS if cell >= age), default=None)
    return f"under {BANDS[0]}" if low is None else f"from {low}"


def taught(run: Run, spec: ModelSpec, cases: Iterable[tuple[Case, Scalar]]) -> Stream:
    """A model after these people, in an order by chance."""
    shown = list(cases)
    stream = Stream(spec)
    for i in np.random.default_rng([run.seed, 2]).permutation(len(shown)):
        case, label = shown[i]
        stream.show(case, label=label)
    return stream


def judged(run: Run, spec: ModelSpec, staff: Staff, truth: Flags | None = None) -> Array:
    """A chance for everybody, by a model that the others taught; `truth` in place of who left."""
    labels = staff.left if truth is None else truth
    scores = np.zeros(len(staff.cases))
    for fold in range(FOLDS):
        others = np.flatnonzero(staff.folds != fold).tolist()
        stream = taught(run, spec, ((staff.cases[i], bool(labels[i])) for i in others))
        for i in np.flatnonzero(staff.folds == fold).tolist():
            scores[i] = stream.chance(staff.cases[i])
    return scores


def varied(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """The model declared otherwise."""
    return model_spec(spec.name, {**spec.source, **changes})


def choose(run: Run, spec: ModelSpec, staff: Staff) -> None:
    """Compare pipelines on the first half of the rows alone."""
    half = len(staff.cases) // 2
    part = Staff(staff.cases[:half], staff.left[:half], staff.folds[:half])
    rows = []
    for name, one in {
        "logistic regression (declared)": spec,
        **{name: varied(spec, pipeline=steps, detectors={}) for name, steps in OTHERS.items()},
    }.items():
        scores = judged(run, one, part)
        found = precision(part.invited(scores), part.left)
        rows.append((name, f"{roc_auc(scores, part.left):.3f}", f"{found:.3f}"))
        run.tell(f"  {name}: area {rows[-1][1]}, precision {rows[-1][2]} on half of the rows")
    run.show(Table(("pipeline", "area under the curve", f"precision at {BUDGET:.0%}"), rows))


def rule(staff: Staff) -> Array:
    """What people would write by hand: overtime, the lowest level, dissatisfied, new."""
    signs = [
        (2.0, [case.features["OverTime"] is True for case in staff.cases]),
        (1.0, [case.features["JobLevel"] == 1 for case in staff.cases]),
        (1.0, [case.features.get("JobSatisfaction") == "Low" for case in staff.cases]),
        (1.0, [float(case.features["YearsAtCompany"] or 0) < 2 for case in staff.cases]),
    ]
    return np.asarray(sum(points * np.array(sign, float) for points, sign in signs))


def rank(run: Run, staff: Staff, scores: Array) -> None:
    """How well the ranking finds those who left, within the budget."""
    left, by_hand = staff.left, rule(staff)
    area = roc_auc(scores, left)
    width = auc_half_width(area, int(left.sum()), int((~left).sum()))
    run.figure(f"area under the curve (± {width:.3f})", area, ("a rule by hand", roc_auc(by_hand, left)))
    invited, rival = staff.invited(scores), staff.invited(by_hand)
    places = int(invited.sum())
    best = ("knows who leaves", min(1.0, left.sum() / places))
    found = precision(invited, left)
    width = half_width(left[invited].astype(float))
    run.figure(
        f"precision at a budget of {BUDGET:.0%} (± {width:.3f})",
        found,
        ("a rule by hand", precision(rival, left)),
        best,
    )
    run.figure(
        "lift over inviting by lot",
        found / float(left.mean()),
        ("a rule by hand", precision(rival, left) / float(left.mean())),
    )
    most = ("knows who leaves", min(1.0, places / left.sum()))
    run.figure("share of leavers invited", recall(invited, left), ("a rule by hand", recall(rival, left)), most)


def swapped(run: Run, staff: Staff) -> list[Cells]:
    """The rows with the protected columns of somebody else."""
    order = np.random.default_rng([run.seed, 3]).permutation(len(staff.cases))
    return [
        {**case.features, "Attrition": case.label, **staff.cases[i].beside}
        for case, i in zip(staff.cases, order.tolist(), strict=True)
    ]


def let_in(cases: Sequence[Case]) -> list[Case]:
    """People with the protected columns among their features."""
    return [replace(case, features={**case.features, **case.beside}) for case in cases]


def spec_with_all(spec: ModelSpec) -> ModelSpec:
    """The model with the protected columns as features."""
    return varied(
        spec, features={**spec.source["features"], "Age": "number", "Gender": "category", "MaritalStatus": "category"}
    )


def shown_to_be_out(run: Run, spec: ModelSpec, staff: Staff) -> None:
    """Everybody gets the protected columns of somebody else: no score may change."""
    rows = swapped(run, staff)
    own = taught(run, spec, ((case, case.label) for case in staff.cases))
    others = cases(rows, run.source, spec, SHEET).taken
    changes = [abs(own.chance(case) - own.chance(other)) for case, other in zip(staff.cases, others, strict=True)]
    inside = let_in(staff.cases)
    other = taught(run, spec_with_all(spec), ((case, case.label) for case in inside))
    exchanged = [
        replace(case, features={**case.features, **row.beside}) for case, row in zip(inside, others, strict=True)
    ]
    moved = [abs(other.chance(case) - other.chance(one)) for case, one in zip(inside, exchanged, strict=True)]
    run.figure(
        "largest change of a score with the protected columns of somebody else",
        max(changes),
        ("columns let in", max(moved)),
    )
    try:
        own.predict(inside[0])
    except FeatureError as error:
        run.say(f"a request that names them is refused: {error}")


def fairness(run: Run, spec: ModelSpec, staff: Staff, scores: Array) -> None:
    """Who is invited, by group, and what changes where the protected columns are let in."""
    inside = judged(run, spec_with_all(spec), replace(staff, cases=let_in(staff.cases)))
    for name, names in staff.groups.items():
        invited = staff.invited(scores)
        found = by_group(names, invited, staff.left)
        run.show(
            Table(
                (name, "people", "invited", "of the leavers", "left"),
                [(g.name, str(g.n), f"{g.chosen:.1%}", f"{g.caught:.1%}", f"{g.truth:.1%}") for g in found],
            )
        )
        gaps = [gap(names, flags, staff.left) for flags in (invited, staff.invited(inside))]
        run.figure(
            f"gap between groups of {name} in the share of leavers invited", gaps[0], ("columns let in", gaps[1])
        )
    found_inside = precision(staff.invited(inside), staff.left)
    run.figure(
        "precision without the protected columns",
        precision(staff.invited(scores), staff.left),
        ("columns let in", found_inside),
    )


def gap(names: Sequence[str], invited: Flags, left: Flags) -> float:
    """The largest difference in the share of leavers invited, between groups large enough; NaN if there are none."""
    rates = [group.caught for group in by_group(names, invited, left) if group.n * group.truth >= FEWEST]
    return max(rates, default=float("nan")) - min(rates, default=float("nan"))


def given_away(run: Run, spec: ModelSpec, staff: Staff, scores: Array) -> None:
    """How well the protected columns can be guessed from the features that are left."""
    blind = varied(spec, features={name: one for name, one in spec.source["features"].items() if name not in PROXIES})
    fewer = replace(staff, cases=[without(case, PROXIES) for case in staff.cases])
    for told, truth in (
        ("being single", np.array([case.beside["MaritalStatus"] == "Single" for case in staff.cases])),
        ("being under 30", np.array([float(case.beside["Age"]) < BANDS[0] for case in staff.cases])),
        ("being a woman", np.array([case.beside["Gender"] == "Female" for case in staff.cases])),
    ):
        if truth.all() or not truth.any():
            continue
        areas = [roc_auc(judged(run, one, people, truth), truth) for one, people in ((spec, staff), (blind, fewer))]
        run.figure(
            f"{told}, guessed from the features (area)",
            areas[0],
            (f"without {' and '.join(PROXIES)}", areas[1]),
            ("by lot", 0.5),
        )
    other = judged(run, blind, fewer)
    own, rest = (precision(staff.invited(one), staff.left) for one in (scores, other))
    run.figure(f"precision without {' and '.join(PROXIES)} too", rest, ("with them", own))


def without(case: Case, names: Sequence[str]) -> Case:
    """A person of whom these features are not known."""
    return replace(case, features={name: cell for name, cell in case.features.items() if name not in names})


def talk(run: Run, staff: Staff, scores: Array) -> None:
    """Which conversation: a bandit against one for all and against the lot; whether one helps is made up."""
    people = [situation(staff.cases[i].features) for i in np.flatnonzero(staff.invited(scores)).tolist()]
    rng = np.random.default_rng([run.seed, 4])
    choices = Choices(run.manifest.bandits["conversation"], rng.random)
    late: deque[tuple[str, float]] = deque()
    chances = np.zeros((ROUNDS, len(ARMS)))
    taken = np.zeros(ROUNDS, int)
    for turn, i in enumerate(rng.integers(0, len(people), ROUNDS)):
        if len(late) >= LATE:
            choices.reward(*late.popleft())
        found = helps(people[i])
        chances[turn] = [found[arm] for arm in ARMS]
        event, choice = choices.choose(people[i])
        taken[turn] = ARMS.index(choice.arm)
        late.append((event, float(rng.random() < found[choice.arm])))
    own = chances[np.arange(ROUNDS), taken]
    fixed = int(chances.mean(axis=0).argmax())
    best = ("knows how it is made up", float(chances.max(axis=1).mean()))
    gain = half_width(own - chances[:, fixed])
    run.figure(
        f"conversations that help, made up (difference ± {gain:.3f})",
        float(own.mean()),
        (f"always {ARMS[fixed]}", float(chances[:, fixed].mean())),
        best,
    )
    run.figure(
        "the same in the last thousand",
        float(own[-1_000:].mean()),
        ("by lot", float(chances[-1_000:].mean())),
        ("knows how it is made up", float(chances[-1_000:].max(axis=1).mean())),
    )
    shares = [float((taken[-1_000:] == arm).mean()) for arm in range(len(ARMS))]
    run.show(Bars("conversations suggested, of the last thousand", ARMS, shares, chosen=fixed))


def suggest(run: Run, spec: ModelSpec, staff: Staff, scores: Array) -> None:
    """The list that a person gets: places in the file, never names, with what stands behind each."""
    stream = taught(run, spec, ((case, case.label) for case in staff.cases))
    usual = typical([case for case in staff.cases if not case.label])
    rows = []
    for i in np.argsort(-scores, kind="stable")[:8].tolist():
        added = [name for name, value in contributions(stream, staff.cases[i], usual).items() if value > 0.0][:3]
        told = "; ".join(f"{name} {staff.cases[i].features[name]}" for name in added)
        rows.append((str(i + 1), f"{scores[i]:.2f}", told))
    run.show(Table(("row", "chance", "what stands out"), rows))
    run.say("the service ranks and suggests; whether there is a conversation, and which, a person decides")


def watch(run: Run, spec: ModelSpec, staff: Staff) -> None:
    """What more people teach, and a drill: the survey is answered no more."""
    order = np.random.default_rng([run.seed, 5]).permutation(len(staff.cases))
    begin = len(order) * 2 // 3
    stream = Stream(spec)
    scores = np.zeros(len(order))
    for turn, i in enumerate(order.tolist()):
        case = staff.cases[i] if turn < begin else without(staff.cases[i], SURVEY)
        scores[turn] = stream.chance(case)
        stream.show(case, label=case.label)
    alarms = [alarm for alarm in stream.alarms if alarm.name == "missing"]
    after = [alarm.cases - begin for alarm in alarms if alarm.cases > begin]
    run.figure("drill, survey left blank: people until the alarm", float(after[0]) if after else float("nan"))
    run.figure("false alarms before", float(sum(alarm.cases <= begin for alarm in stream.alarms)))
    blank = [without(case, SURVEY) for case in staff.cases]
    areas = [roc_auc(judged(run, spec, replace(staff, cases=people)), staff.left) for people in (blank, staff.cases)]
    run.figure("area under the curve without a survey", areas[0], ("with its answers", areas[1]))
    parts = np.array_split(np.arange(begin), 5)
    curve = [roc_auc(scores[part], staff.left[order[part]]) for part in parts]
    run.show(
        Chart(
            "area under the curve as people are learned",
            [float(part[-1] + 1) for part in parts],
            [Line("as declared", curve, "candidate")],
            timed=False,
            label="people",
        )
    )
