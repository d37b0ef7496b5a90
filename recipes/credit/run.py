"""Credit: chances of default that mean what they say, terms by expected profit, and what the applicant is told."""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np

from agents.figures import Chart, Line
from agents.scales import number
from online.specs import ModelSpec, model_spec
from recipes import datasets
from recipes.choices import Choices
from recipes.credit.lending import TERMS, letter, reasons
from recipes.credit.loans import (
    ECONOMICS,
    INFLATED,
    PROTECTED,
    SKIPPED,
    Actions,
    Loans,
    gap,
    groups,
    let_in,
    overstated,
    rule,
)
from recipes.measures import (
    Array,
    Flags,
    auc_half_width,
    by_group,
    calibration,
    calibration_error,
    half_width,
    precision,
    psi,
    roc_auc,
)
from recipes.playing import Run, Table
from recipes.reasons import contributions, log_odds, typical
from recipes.rows import YES_NO, Case, Cells, Label, Sheet, amount
from recipes.stream import Stream

LATE = 400
"""Applications that come before it is known whether a loan is repaid."""

OTHERS: Mapping[str, list[Mapping[str, Any]]] = {
    "naive Bayes": [{"use": "naive_bayes.GaussianNB"}],
    "Hoeffding tree": [{"use": "tree.HoeffdingTreeClassifier", "max_depth": 6}],
}
COLUMNS = ("Seniority", "Time", "Amount", "Price", "Expenses", "Records", "Income", "Assets", "Debt", "Home", "Job")
FEATURES = ("seniority", "months", "amount", "share", "expenses", "records", "income", "burden", "assets", "debt")


def prepared(row: Cells) -> Cells:
    """Amounts as logarithms, the instalment as a share of the income, the loan as a share of the price."""
    months, lent = amount("Time", row.get("Time"), 1.0), amount("Amount", row.get("Amount"), 1.0)
    income = row.get("Income")
    return {
        **row,
        **protected(row),
        "seniority": math.log1p(amount("Seniority", row.get("Seniority"), 0.0)),
        "months": months,
        "amount": math.log(lent),
        "share": min(lent / amount("Price", row.get("Price"), 1.0), 10.0),
        "expenses": row.get("Expenses"),
        "records": YES_NO.get(str(row.get("Records")).lower(), row.get("Records")),
        "income": digits("Income", income),
        "burden": None if income is None else min(lent / months / max(amount("Income", income), 1.0), 2.0),
        "assets": digits("Assets", row.get("Assets")),
        "debt": digits("Debt", row.get("Debt")),
        "home": row.get("Home"),
        "job": row.get("Job"),
    }


def protected(row: Cells) -> Cells:
    """The columns that groups are made of, where the row has them. Raises `DirtyError`."""
    age, kept = row.get("Age"), {name: row[name] for name in PROTECTED if name in row}
    if age is not None:
        kept["Age"] = amount("Age", age, 0.0, 120.0)
    if "Marital" in kept:
        kept["Marital"] = "not given" if kept["Marital"] is None else str(kept["Marital"])
    return kept


def digits(column: str, cell: object) -> float | None:
    """The logarithm of 1 more; a blank stays one. Raises `DirtyError`."""
    return None if cell is None else math.log1p(amount(column, cell, 0.0))


SHEET = Sheet(
    Label("Status", {"bad": True, "good": False, **YES_NO}),
    {**dict.fromkeys(COLUMNS, True), **dict.fromkeys(PROTECTED, False)},
    prepared,
    (*FEATURES, "home", "job"),
)


@dataclass(frozen=True)
class Scored:
    """Chances of default of all applications, each given before its end was learned: raw, and calibrated."""

    raw: Array
    calibrated: Array
    stream: Stream


def play(run: Run) -> None:
    """From applications to a service that scores them."""
    run.stage("collect and prepare")
    loans = collected(run)
    run.stage("features")
    run.say(
        f"{len(run.manifest.models['default'].features or {})} features, declared in trimtab.toml; "
        f"{' and '.join(PROTECTED)} are no features: a request that names them is refused"
    )
    run.stage("choose")
    choose(run, loans)
    run.stage("train and validate")
    scored = score(run, run.manifest.models["default"], loans)
    validate(run, loans, scored)
    run.stage("evaluate and test")
    actions = decide(run, loans, scored)
    explain(run, loans, scored, actions)
    fairness(run, loans, scored)
    run.stage("deploy")
    run.serve("default", loans.cases)
    run.serve("calibrated", [seen(case, chance) for case, chance in zip(loans.cases, scored.raw, strict=True)])
    run.stage("monitor and maintain")
    watch(run, loans, scored)


def sample() -> Iterable[Cells]:
    """Rows as a file of yours may have them."""
    return islice(datasets.rows("modeldata", "credit_data"), 800)


def collect(run: Run, least: int = 2_500) -> Sequence[Case]:
    """The rows as cases."""
    return run.cases("default", lambda: datasets.rows("modeldata", "credit_data"), replace(SHEET, least=least))


def collected(run: Run) -> Loans:
    """The applications, in the order of the rows."""
    cases = collect(run)
    bad = np.array([case.label for case in cases], bool)
    run.say(
        f"{bad.mean():.1%} were not repaid; the order of the rows is taken for that of time, and how a loan ends "
        f"is known {LATE} applications later"
    )
    lent, months = (np.array([case.beside[name] for case in cases], float) for name in ("Amount", "Time"))
    return Loans(cases, bad, lent, months)


def seen(case: Case, chance: float) -> Case:
    """What the calibrator sees of an application."""
    return replace(case, features={"log_odds": log_odds(chance)})


def score(run: Run, spec: ModelSpec, loans: Loans) -> Scored:
    """Chances in order; each loan's end is learned, by model and calibrator, when it is known."""
    stream, calibrator = Stream(spec), Stream(run.manifest.models["calibrated"])
    late: deque[tuple[str, str, Case]] = deque()
    raw, calibrated = np.zeros(len(loans.cases)), np.zeros(len(loans.cases))
    for i, case in enumerate(loans.cases):
        if len(late) >= LATE:
            event, other, former = late.popleft()
            stream.label(event, former.label)
            calibrator.label(other, former.label)
        raw[i] = stream.chance(case)
        given = seen(case, raw[i])
        calibrated[i] = calibrator.chance(given)
        late.append((stream.show(case), calibrator.show(given), case))
    return Scored(raw, calibrated, stream)


def varied(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """The model declared otherwise."""
    return model_spec(spec.name, {**spec.source, **changes})


def choose(run: Run, loans: Loans) -> None:
    """Compare pipelines on the first half alone."""
    half = len(loans.cases) // 2
    early = Loans(loans.cases[:half], loans.bad[:half], loans.amounts[:half], loans.months[:half])
    spec, kept = run.manifest.models["default"], early.tested
    rows = []
    for name, one in {
        "logistic regression (declared)": spec,
        **{name: varied(spec, pipeline=steps, detectors={}) for name, steps in OTHERS.items()},
    }.items():
        found = score(run, one, early)
        errors = [calibration_error(chances[kept], early.bad[kept]) for chances in (found.raw, found.calibrated)]
        rows.append((name, f"{roc_auc(found.raw[kept], early.bad[kept]):.3f}", *(f"{error:.3f}" for error in errors)))
        run.tell(f"  {name}: area {rows[-1][1]}, calibration error {rows[-1][2]}, calibrated {rows[-1][3]}")
    run.show(Table(("pipeline", "area under the curve", "calibration error", "the same, calibrated"), rows))


def validate(run: Run, loans: Loans, scored: Scored) -> None:
    """How well chances rank, and whether they mean what they say."""
    kept = loans.tested
    bad, chances = loans.bad[kept], scored.calibrated[kept]
    area = roc_auc(chances, bad)
    width = auc_half_width(area, int(bad.sum()), int((~bad).sum()))
    run.figure(f"area under the curve (± {width:.3f})", area, ("a rule by hand", roc_auc(rule(loans)[kept], bad)))
    rng = np.random.default_rng([run.seed, 1])
    lucky = [calibration_error(chances, rng.random(len(chances)) < chances) for _ in range(200)]
    before = calibration_error(scored.raw[kept], bad)
    best = ("chances that are true, by luck alone", float(np.mean(lucky)))
    run.figure("calibration error, calibrated", calibration_error(chances, bad), ("before", before), best)
    plain = score(run, varied(run.manifest.models["default"], pipeline=OTHERS["naive Bayes"], detectors={}), loans)
    errors = [calibration_error(one[kept], bad) for one in (plain.calibrated, plain.raw)]
    run.figure("the same of naive Bayes, calibrated", errors[0], ("before", errors[1]))
    bins = calibration(chances, bad)
    run.show(
        Table(("said", "happened", "loans"), [(f"{b.predicted:.3f}", f"{b.observed:.3f}", str(b.n)) for b in bins])
    )


def decide(run: Run, loans: Loans, scored: Scored) -> Actions:
    """Terms by expected profit, and by a bandit that is told profits alone."""
    values = {
        name: ECONOMICS.expected(chances, loans.amounts, loans.months)
        for name, chances in (("calibrated", scored.calibrated), ("raw", scored.raw))
    }
    actions = values["calibrated"].argmax(axis=1)
    own = loans.profit(actions)
    fixed = {terms: loans.profit(np.full(len(actions), i)) for i, terms in enumerate(TERMS)}
    name, rival = max(fixed.items(), key=lambda item: float(item[1].mean()))
    ends = ECONOMICS.expected(loans.bad.astype(float), loans.amounts, loans.months).argmax(axis=1)
    best = ("knows who repays", float(loans.profit(ends).mean()))
    width = half_width(own - rival)
    run.figure(
        f"profit of an application (difference ± {width:.1f})",
        float(own.mean()),
        (f"always {name}", float(rival.mean())),
        best,
    )
    run.figure("the same with chances before calibration", float(loans.profit(values["raw"].argmax(axis=1)).mean()))
    learned = taught(run, loans, scored)
    chance = np.random.default_rng([run.seed, 3]).integers(0, len(TERMS), len(actions))
    run.figure(
        "the same of a bandit that is told profits alone",
        float(loans.profit(learned).mean()),
        ("terms by chance", float(loans.profit(chance).mean())),
        ("knows the economics", float(own.mean())),
    )
    kept = actions[loans.tested]
    run.figure("share that a person decides", float((kept == TERMS.index("refer")).mean()))
    rows = []
    for i, terms in enumerate(TERMS):
        those = kept == i
        failed = precision(those, loans.bad[loans.tested])
        rows.append((terms, f"{those.mean():.1%}", f"{failed:.1%}"))
    run.show(Table(("terms", "share of applications", "of these not repaid"), rows))
    return np.asarray(actions)


def taught(run: Run, loans: Loans, scored: Scored) -> Actions:
    """The terms that the declared bandit takes; it hears what each loan earned when its end is known."""
    rng = np.random.default_rng([run.seed, 2])
    choices = Choices(run.manifest.bandits["terms"], rng.random)
    late: deque[tuple[str, float]] = deque()
    known = [ECONOMICS.profits(loans.amounts, loans.months, bad=end) for end in (False, True)]
    taken = np.zeros(len(loans.cases), np.int64)
    for i, chance in enumerate(scored.calibrated):
        if len(late) >= LATE:
            choices.reward(*late.popleft())
        years = float(loans.months[i]) / 12.0
        event, choice = choices.choose({"chance": float(chance), "repaid_years": years * float(1.0 - chance)})
        taken[i] = TERMS.index(choice.arm)
        late.append((event, float(known[int(loans.bad[i])][i, taken[i]] / loans.amounts[i])))
    return taken


def explain(run: Run, loans: Loans, scored: Scored, actions: Actions) -> None:
    """Reasons of the last decisions: what they say, and whether they are the reasons."""
    repaid = [case for case in loans.cases[:-LATE] if not case.label]
    usual = typical(repaid)
    last = [i for i in range(len(loans.cases) - LATE, len(loans.cases)) if actions[i]]
    rng = np.random.default_rng([run.seed, 4])
    falls: list[float] = []
    others: list[float] = []
    shown = []
    for i in last:
        case = loans.cases[i]
        added = contributions(scored.stream, case, usual)
        names = list(added)
        chance = scored.stream.chance(case)
        for name, into in ((names[0], falls), (str(rng.choice(names)), others)):
            changed = replace(case, features={**case.features, name: usual[name]})
            into.append(chance - scored.stream.chance(changed))
        shown.append((TERMS[actions[i]], f"{scored.calibrated[i]:.2f}", reasons(added, case.features, usual)))
    run.figure(
        f"fall of the chance without the first reason (± {half_width(falls):.3f})",
        float(np.mean(falls)),
        ("without any one feature", float(np.mean(others))),
    )
    run.show(
        Table(("terms", "chance", "reasons"), [(terms, chance, "; ".join(why)) for terms, chance, why in shown[:8]])
    )
    for wanted in ("price", "refer"):
        found = next((why for terms, _, why in shown if terms == wanted), None)
        if found is not None:
            run.say(f"draft of a letter ({wanted}): {letter(wanted, found)}")


def fairness(run: Run, loans: Loans, scored: Scored) -> None:
    """Who is approved at the standard rate, and what changes where the protected columns are let in."""
    kept, found = loans.tested, groups(loans)
    approved = standard(scored, loans)
    for name, names in found.items():
        rows = []
        for group in by_group(names[kept], approved[kept], ~loans.bad[kept]):
            own = np.array([one == group.name for one in names[kept]])
            said = scored.calibrated[kept][own].mean()
            rows.append(
                (
                    group.name,
                    str(group.n),
                    f"{group.chosen:.1%}",
                    f"{group.caught:.1%}",
                    f"{said:.1%}",
                    f"{1 - group.truth:.1%}",
                )
            )
        run.show(Table((name, "people", "approved", "of those who repay", "mean chance", "not repaid"), rows))
    if len(found) < len(PROTECTED):
        run.say(f"fairness needs the columns {' and '.join(PROTECTED)}: {run.source} does not have both")
        return
    other = score(run, spec_with_all(run.manifest.models["default"]), let_in(loans))
    for name, names in found.items():
        spread = [gap(names[kept], flags[kept], ~loans.bad[kept]) for flags in (approved, standard(other, loans))]
        run.figure(
            f"gap of approval between groups of {name}, among those who repay",
            spread[0],
            ("both columns let in", spread[1]),
        )
    areas = [roc_auc(one.calibrated[kept], loans.bad[kept]) for one in (scored, other)]
    run.figure("area under the curve without the protected columns", areas[0], ("both columns let in", areas[1]))


def standard(scored: Scored, loans: Loans) -> Flags:
    """Who is approved at the standard rate."""
    return np.asarray(ECONOMICS.expected(scored.calibrated, loans.amounts, loans.months).argmax(axis=1) == 0)


def spec_with_all(spec: ModelSpec) -> ModelSpec:
    """The model with the protected columns as features."""
    added = {
        "Age": {"type": "number", "impute": "median", "default": 40},
        "Marital": {"type": "category", "default": "none"},
    }
    return varied(spec, features={**spec.source["features"], **added})


def watch(run: Run, loans: Loans, scored: Scored) -> None:
    """Stability from part to part, and a drill: incomes are overstated from the last part but two on."""
    chances = scored.calibrated
    first = loans.parts[0]
    rng = np.random.default_rng([run.seed, 5])
    pool = chances[loans.tested]
    by_luck = [psi(rng.choice(pool, len(first)), rng.choice(pool, len(first))) for _ in range(400)]
    moved = [psi(chances[former], chances[part]) for former, part in pairwise(loans.parts)]
    run.figure(
        "largest shift of scores (PSI) from a tenth to the next",
        max(moved),
        ("by luck, 95 of 100 are below", float(np.quantile(by_luck, 0.95))),
    )
    areas = [roc_auc(chances[part], loans.bad[part]) for part in loans.parts]
    errors = [calibration_error(chances[part], loans.bad[part], 5) for part in loans.parts]
    run.figure("least area under the curve of a part", min(areas), ("mean of the parts", float(np.mean(areas))))
    rows = [
        (
            str(SKIPPED + i + 1),
            *(
                number(float(one), 3)
                for one in (loans.bad[part].mean(), chances[part].mean(), areas[i], errors[i], ([0.0, *moved])[i])
            ),
        )
        for i, part in enumerate(loans.parts)
    ]
    run.show(Table(("part", "not repaid", "mean chance", "area under the curve", "calibration error", "PSI"), rows))
    lines = [Line("area under the curve", areas, "candidate"), Line("calibration error", errors, "incumbent")]
    run.show(
        Chart(
            "from part to part of the stream",
            [float(SKIPPED + i + 1) for i in range(len(rows))],
            lines,
            timed=False,
            label="tenth",
        )
    )
    drill(run, loans, scored)


def drill(run: Run, loans: Loans, scored: Scored) -> None:
    """Incomes overstated from one application on: when the detector says so."""
    begin = int(loans.parts[-3][0])
    cases = [overstated(case) if i >= begin else case for i, case in enumerate(loans.cases)]
    drilled = score(run, run.manifest.models["default"], replace(loans, cases=cases))
    alarms = [alarm for alarm in drilled.stream.alarms if alarm.name != "error"]
    after = [alarm.cases - begin for alarm in alarms if alarm.cases > begin]
    run.figure(
        f"drill, incomes {INFLATED:g}-fold: applications until the alarm", float(after[0]) if after else math.nan
    )
    run.figure("alarms without a drill", float(len(scored.stream.alarms)))
    told = ", ".join(f"{alarm.name} at {alarm.cases}" for alarm in drilled.stream.alarms)
    run.say(f"alarms in the drill: {told or 'none'}; it began at {begin}")
