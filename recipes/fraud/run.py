"""Fraud: a score for each payment, labels that are few and late, and a queue of reviews with a budget."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.figures import Chart, Line, Mark, Role
from online.specs import ModelSpec, model_spec
from recipes.fraud.payments import DAY, Plan, made
from recipes.measures import Array, Flags, flagged, precision, recall
from recipes.playing import Run, Table
from recipes.rows import YES_NO, Case, Cells, DirtyError, Label, Sheet, amount, moment
from recipes.stream import Alarm, Stream

PLAN = Plan()
BUDGET = 0.01
LATE = 5 * DAY
REPORTED, SAMPLED = 0.8, 0.1
"""Shares of the frauds, and of the good payments, whose label ever comes."""

FIRST_DAYS, FEWEST_DAYS, WEEK = 30, 45, 7
REVIEW, REFUSED, SLIPS = 4.0, 25.0, 0.1
"""EUR for a review, and for a good customer who is blocked; the share of frauds that pass a review."""

Alarms = Sequence[tuple[int, Alarm]]

OTHERS: Mapping[str, list[Mapping[str, Any]]] = {
    "naive Bayes": [{"use": "naive_bayes.GaussianNB"}],
    "adaptive forest": [{"use": "forest.ARFClassifier", "n_models": 5, "max_depth": 6, "seed": 1}],
}


def prepared(row: Cells) -> Cells:
    """The amount as its logarithm: a payment is ten times another, never ten more."""
    digits = math.log(amount("amount", row.get("amount"), 0.01))
    return {**row, "digits": digits, "at": moment("at", row.get("at"))}


SHEET = Sheet(Label("fraud", YES_NO), {"amount": True, "at": True, "chance": False}, prepared, ("digits",), time="at")


@dataclass(frozen=True)
class Payments:
    """The payments in the order of their time, and whether the label of each ever comes."""

    cases: Sequence[Case]
    fraud: Flags
    euros: Array
    day: NDArray[np.int64]
    labelled: Flags
    chance: Array | None

    @property
    def per_day(self) -> int:
        """Payments of an average day."""
        return max(1, len(self.cases) // int(self.day[-1] + 1))

    def queue(self, scores: Array) -> Flags:
        """Those that are reviewed under the budget; each day has the threshold of the week before."""
        return flagged(scores, BUDGET, WEEK * self.per_day, self.per_day)


def play(run: Run) -> None:
    """From payments to a service that scores them."""
    run.stage("collect and prepare")
    payments = collected(run)
    run.stage("features")
    spec = run.manifest.models["fraud"]
    run.say(
        f"{len(spec.features or {})} features, declared in trimtab.toml: the amount as its logarithm, the median "
        "where an account has no age"
    )
    run.stage("choose")
    choose(run, spec, payments)
    run.stage("train and validate")
    scores, still, alarms = learned(run, spec, payments)
    run.stage("evaluate and test")
    evaluate(run, payments, scores)
    run.stage("deploy")
    run.serve("fraud", payments.cases)
    run.serve("attack", [shown(run, case) for case in payments.cases if case.label])
    run.stage("monitor and maintain")
    watch(run, payments, scores, still, alarms)


def sample() -> Iterable[Cells]:
    """Rows as a file of yours may have them."""
    return made(Plan(days=50, per_day=50), 0)


def collect(run: Run, least: int = 2_000) -> Sequence[Case]:
    """The rows as cases."""
    return run.cases("fraud", lambda: made(PLAN, run.seed), replace(SHEET, least=least))


def collected(run: Run) -> Payments:
    """The payments in order, with the labels that come."""
    cases = sorted(collect(run), key=lambda case: case.beside["at"])
    fraud = np.array([case.label for case in cases], bool)
    at = np.array([case.beside["at"] for case in cases])
    if at[-1] - at[0] < FEWEST_DAYS * DAY:
        raise DirtyError(f"{run.source} covers {(at[-1] - at[0]) / DAY:.0f} days: give {FEWEST_DAYS} days at least")
    chance = None if run.data else np.array([case.beside["chance"] for case in cases], float)
    rng = np.random.default_rng([run.seed, 1])
    labelled = rng.random(len(cases)) < np.where(fraud, REPORTED, SAMPLED)
    run.say(f"{fraud.mean():.2%} are fraud; {labelled.mean():.1%} get a label, five days late")
    return Payments(
        cases,
        fraud,
        np.array([case.beside["amount"] for case in cases]),
        ((at - at[0]) // DAY).astype(int),
        labelled,
        chance,
    )


def streamed(
    spec: ModelSpec, payments: Payments, days: int | None = None, told: Callable[[int, Case], None] | None = None
) -> Array:
    """Scores of the payments, each given before anything about it was learned; those after `days` teach nothing.

    `told` hears of each label when it comes: on which day, and of which case.
    """
    stream, late = Stream(spec), deque[tuple[float, str, Case]]()
    scores = np.zeros(len(payments.cases))
    for i, case in enumerate(payments.cases):
        at = case.beside["at"]
        while late and late[0][0] <= at:
            _, event, former = late.popleft()
            stream.label(event, former.label, at=at)
            if told is not None:
                told(int(payments.day[i]), former)
        scores[i] = stream.chance(case)
        if days is not None and payments.day[i] >= days:
            continue
        event = stream.show(case, at=at)
        if payments.labelled[i]:
            late.append((at + LATE, event, case))
    return scores


def choose(run: Run, spec: ModelSpec, payments: Payments) -> None:
    """Compare pipelines on the first days alone, by what counts: fraud within the budget."""
    first = int(np.searchsorted(payments.day, FIRST_DAYS))
    early = Payments(
        payments.cases[:first],
        payments.fraud[:first],
        payments.euros[:first],
        payments.day[:first],
        payments.labelled[:first],
        None,
    )
    source = {name: value for name, value in spec.source.items() if name != "pipeline"}
    others = {name: model_spec("fraud", {**source, "pipeline": steps}) for name, steps in OTHERS.items()}
    rows = []
    for name, one in {"logistic regression (declared)": spec, **others}.items():
        taken = early.queue(streamed(one, early))
        rows.append((name, f"{precision(taken, early.fraud):.3f}", f"{recall(taken, early.fraud):.3f}"))
        run.tell(f"  {name}: precision {rows[-1][1]} on the first {FIRST_DAYS} days")
    run.show(Table(("pipeline", f"precision at {BUDGET:.0%}", "share of all fraud"), rows))


def learned(run: Run, spec: ModelSpec, payments: Payments) -> tuple[Array, Array, Alarms]:
    """Scores of the model that goes on learning, and of one that stopped after the first days; alarms by their day."""
    attack = Stream(run.manifest.models["attack"])
    alarms: list[tuple[int, Alarm]] = []

    def heard(day: int, case: Case) -> None:
        if case.label:
            attack.show(shown(run, case))
            alarms.extend((day, alarm) for alarm in attack.alarms[len(alarms) :])

    scores = streamed(spec, payments, told=heard)
    still = streamed(spec, payments, days=FIRST_DAYS)
    run.say(
        f"every score was given before its payment taught anything; {payments.labelled.sum():,} labels were learned"
    )
    return scores, still, alarms


def shown(run: Run, case: Case) -> Case:
    """What the model of attacks sees of a fraud."""
    seen = run.manifest.models["attack"].features or ()
    return replace(case, features={name: case.features[name] for name in seen})


def rule(payments: Payments) -> Array:
    """What people would write by hand: large amounts, and cards from abroad."""
    abroad = np.array([case.features["abroad"] for case in payments.cases], bool)
    return np.asarray(payments.euros * np.where(abroad, 6.0, 1.0))


def evaluate(run: Run, payments: Payments, scores: Array) -> None:
    """Precision and recall at the budget, in money, and why accuracy says nothing."""
    calm = payments.day >= FIRST_DAYS
    if not run.data:
        calm &= payments.day < PLAN.change
    when = f"after {FIRST_DAYS} days" if run.data else "before the attack changes"
    compare(run, payments, scores, when, calm, ("a rule by hand", rule(payments)))
    late = payments.day >= FIRST_DAYS
    taken = payments.queue(scores)
    spent = [
        cost(payments, payments.queue(one), chance, late)
        for one, chance in ((scores, odds(scores)), (rule(payments), None))
    ]
    best = None
    if (chance := payments.chance) is not None:
        best = ("knows how it is made", cost(payments, payments.queue(chance), chance, late))
    run.figure("cost of fraud and reviews, EUR per 1,000 payments", spent[0], ("a rule by hand", spent[1]), best)
    nothing = cost(payments, np.zeros(len(scores), bool), None, late)
    right = float((taken == payments.fraud)[late].mean())
    run.say(
        f"letting everything pass costs {nothing:,.0f} EUR per 1,000 payments, and is right in "
        f"{1 - payments.fraud[late].mean():.2%} of them; the queue is right in {right:.2%}: "
        "accuracy cannot tell a model from none"
    )


def compare(run: Run, payments: Payments, scores: Array, when: str, within: Flags, other: tuple[str, Array]) -> None:
    """Precision and recall at the budget within some days."""
    fraud = payments.fraud[within]
    for name, measure in (("precision at the budget", precision), ("share of fraud in the queue", recall)):
        own, rival = (measure(payments.queue(one)[within], fraud) for one in (scores, other[1]))
        best = None
        if payments.chance is not None:
            best = ("knows how it is made", measure(payments.queue(payments.chance)[within], fraud))
        run.figure(f"{name}, {when}", own, (other[0], rival), best)


def odds(scores: Array) -> Array:
    """Chances of fraud from scores: labels of fraud are more often told than those of good payments."""
    told = np.clip(scores, 1e-9, 1 - 1e-9)
    found = told / (1 - told) * SAMPLED / REPORTED
    return np.asarray(found / (1 + found))


def cost(payments: Payments, taken: Flags, chance: Array | None, within: Flags) -> float:
    """EUR per 1,000 payments: of the queue each is blocked or challenged, whichever is expected to cost less."""
    blocked = np.zeros(len(taken), bool)
    if chance is not None:
        blocked = taken & ((1 - chance) * REFUSED < REVIEW + chance * SLIPS * payments.euros)
    challenged = taken & ~blocked
    lost = np.where(payments.fraud, payments.euros, 0.0)
    spent = np.where(challenged, REVIEW + SLIPS * lost, np.where(blocked, np.where(payments.fraud, 0.0, REFUSED), lost))
    return 1_000.0 * float(spent[within].mean())


def watch(run: Run, payments: Payments, scores: Array, still: Array, alarms: Alarms) -> None:
    """When the attack changes: alarm, and recovery."""
    days = [day for day, _ in alarms]
    told = ", ".join(f"day {day} ({alarm.name} {alarm.before:.2f} → {alarm.recent:.2f})" for day, alarm in alarms)
    run.say(f"alarms on what confirmed fraud looks like: {told or 'none'}")
    if not run.data:
        after = [day - PLAN.change for day in days if day >= PLAN.change]
        run.figure("days from the change to the alarm; labels are 5 days late", float(after[0]) if after else math.nan)
        run.figure("false alarms in the days before", float(len(days) - len(after)))
        first = (payments.day >= PLAN.change) & (payments.day < PLAN.change + 10)
        stopped = ("stopped learning on day 30", still)
        compare(run, payments, scores, "in the ten days after", first, stopped)
        compare(run, payments, scores, "from the 20th day after", payments.day >= PLAN.change + 20, stopped)
    drawn(
        run,
        payments,
        {"as declared": scores, f"stopped on day {FIRST_DAYS}": still, "a rule by hand": rule(payments)},
        alarms,
    )


def drawn(run: Run, payments: Payments, scores: Mapping[str, Array], alarms: Alarms) -> None:
    """Precision at the budget, week by week."""
    roles: Sequence[Role] = ("candidate", "incumbent", "baseline", "optimum")
    best = {} if payments.chance is None else {"knows how it is made": payments.chance}
    week = payments.day // WEEK
    weeks = list(range(1, int(week[-1])))
    lines = []
    for role, (name, one) in zip(roles, {**scores, **best}.items(), strict=False):
        taken = payments.queue(one)
        y = [precision(taken[week == number], payments.fraud[week == number]) for number in weeks]
        lines.append(Line(name, y, role, dashed=role in ("baseline", "optimum")))
    marks = [Mark(day / WEEK, f"alarm: {alarm.name}", "alarm") for day, alarm in alarms]
    if not run.data:
        marks.append(Mark(PLAN.change / WEEK, "the attack changes"))
    run.show(
        Chart(
            "precision at the budget",
            [float(number) for number in weeks],
            lines,
            marks=marks,
            timed=False,
            label="week",
        )
    )
