"""Support: what a ticket is about and whether it can wait, learned as it comes, and a bandit that decides by cost."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.figures import Chart, Line, Mark, Role, Shares
from online.learner import ModelLearner
from online.specs import ModelSpec, model_spec
from recipes.choices import Choices
from recipes.measures import Array, Flags, half_width
from recipes.playing import Beside, Run, Table
from recipes.rows import YES_NO, Case, Cells, DirtyError, Label, Sheet, moment, shown
from recipes.stream import Alarm, Stream
from recipes.support.tickets import DAY, NEW, TOPICS, Plan, made

PLAN = Plan()
WARM_UP, CHOOSING, STOPPED, FEWEST_DAYS, WEEK = 20, 15, 30, 30, 7
MOST_TOPICS = 60
GRID = ((0.4, 0.5, 0.6, 0.7, 0.8, 0.9), (0.05, 0.1, 0.2, 0.3), (0.1, 0.2, 0.3, 0.5))
"""Thresholds that are tried: answered from which certainty and below which urgency, escalated from which urgency."""

KNOWING = "knows how it is made"

ARMS = ("answer", "suggest", "escalate")
COSTS = np.array(
    [
        [[0.1, 8.0], [10.0, 20.0]],
        [[1.5, 3.5], [9.0, 11.0]],
        [[4.0, 4.0], [4.0, 4.0]],
    ]
)
"""EUR of each arm for tickets that can wait and urgent ones, where the topic was found and where it was not."""

AUDITED = 0.1
"""The share of the automatic answers that a person reads afterwards."""

OTHERS: Mapping[str, list[Mapping[str, Any]]] = {
    "naive Bayes": [{"use": "naive_bayes.GaussianNB"}],
    "one logistic regression per topic": [
        {
            "use": "multiclass.OneVsRestClassifier",
            "classifier": {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.AdaGrad", "lr": 0.3}},
        }
    ],
}


def prepared(row: Cells) -> Cells:
    """The topic as people file it, in small letters."""
    topic = "" if row.get("topic") is None else str(row["topic"]).strip().lower()
    if not topic:
        raise DirtyError(f"the column 'topic' is {shown(row.get('topic'))}; allowed is the name of a topic")
    return {**row, "topic": topic, "at": moment("at", row.get("at"))}


SHEET = Sheet(Label("urgent", YES_NO), {"at": True, "topic": True, "posterior": False}, prepared, time="at")


@dataclass(frozen=True)
class Tickets:
    """The tickets in the order of their time; `posterior` has the chance of each topic, calm and urgent."""

    cases: Sequence[Case]
    topic: NDArray[np.str_]
    urgent: Flags
    day: NDArray[np.int64]
    posterior: Array | None


@dataclass
class Log:
    """What was said and done, ticket by ticket: the topic found, how sure, the chance that it is urgent, the arm."""

    found: list[str | None] = field(default_factory=list)
    sure: list[float] = field(default_factory=list)
    pressing: list[float] = field(default_factory=list)
    arm: list[int] = field(default_factory=list)
    earns: list[list[float]] = field(default_factory=list)
    stopped: list[str | None] = field(default_factory=list)
    heard: dict[str, int] = field(default_factory=dict)


def play(run: Run) -> None:
    """From tickets to a service that reads and hands on the next one."""
    run.stage("collect and prepare")
    tickets = collected(run)
    run.stage("features")
    run.say("the words of a ticket, weighted by how rare they are, in 128 columns; declared in trimtab.toml")
    run.stage("choose")
    choose(run, run.manifest.models["topic"], tickets)
    run.stage("train and validate")
    desk = Desk(run)
    done = desk.work(tickets)
    labels = desk.topic.learner.counts["labelled"]
    run.say(
        f"every ticket was read before anything of it was learned; {labels:,} of {len(tickets.cases):,} were labelled: "
        "those that a person handled, those that came back, and one automatic answer in ten"
    )
    run.stage("evaluate and test")
    evaluate(run, tickets, done, desk)
    run.stage("deploy")
    run.serve("topic", [replace(case, label=case.beside["topic"]) for case in tickets.cases])
    run.serve("urgent", tickets.cases)
    run.stage("monitor and maintain")
    watch(run, tickets, done, desk)


def sample() -> Iterable[Cells]:
    """Rows as a file of yours may have them."""
    for row in made(Plan(days=40, per_day=30, change=20), 0):
        yield {name: cell for name, cell in row.items() if name != "posterior"}


def collect(run: Run, least: int = 1_000) -> Sequence[Case]:
    """The rows as cases."""
    return run.cases("urgent", lambda: made(PLAN, run.seed), replace(SHEET, least=least))


def collected(run: Run) -> Tickets:
    """The tickets in order."""
    cases = sorted(collect(run), key=lambda case: case.beside["at"])
    at = np.array([case.beside["at"] for case in cases])
    if at[-1] - at[0] < (FEWEST_DAYS - 1) * DAY:
        raise DirtyError(f"{run.source} covers {(at[-1] - at[0]) / DAY:.0f} days: give {FEWEST_DAYS} days at least")
    topic = np.array([case.beside["topic"] for case in cases])
    topics = len(np.unique(topic))
    if not 1 < topics <= MOST_TOPICS:
        raise DirtyError(f"{run.source} has {topics} topics; allowed are from 2 to {MOST_TOPICS}")
    urgent = np.array([case.label for case in cases], bool)
    run.say(f"{topics} topics, {urgent.mean():.0%} of the tickets are urgent")
    posterior = None if run.data else np.array([case.beside["posterior"] for case in cases])
    return Tickets(cases, topic, urgent, ((at - at[0]) // DAY).astype(int), posterior)


def choose(run: Run, spec: ModelSpec, tickets: Tickets) -> None:
    """Compare pipelines on the first days alone, each ticket read before its topic is learned."""
    source = {name: value for name, value in spec.source.items() if name != "pipeline"}
    others = {name: model_spec("topic", {**source, "pipeline": steps}) for name, steps in OTHERS.items()}
    early = [case for case, day in zip(tickets.cases, tickets.day, strict=True) if day < CHOOSING]
    rows = []
    for name, one in {"softmax regression (declared)": spec, **others}.items():
        stream, right = Stream(one), []
        for case in early:
            right.append(stream.predict(case).value == case.beside["topic"])
            stream.show(case, label=case.beside["topic"])
        rows.append((name, f"{np.mean(right[len(right) // 3 :]):.3f}"))
        run.tell(f"  {name}: {rows[-1][1]} of the topics found in the first {CHOOSING} days")
    run.show(Table(("pipeline", "topics found, after the first third"), rows))


class Desk:
    """The models and the bandit at work: labels and costs come a day after the ticket."""

    def __init__(self, run: Run) -> None:
        models = run.manifest.models
        self.topic, self.urgent = Stream(models["topic"]), Stream(models["urgent"])
        self.unusual = Stream(models["unusual"])
        self.rng = np.random.default_rng([run.seed, 1])
        self.handling = Choices(run.manifest.bandits["handling"], lambda: float(self.rng.random()))
        self._late: deque[tuple[float, Callable[[float], None]]] = deque()

    def work(self, tickets: Tickets) -> Log:
        """Read and hand on each ticket, then learn what came of it."""
        done = Log()
        stopped: ModelLearner | None = None
        for i, case in enumerate(tickets.cases):
            if stopped is None and tickets.day[i] >= STOPPED:
                stopped = ModelLearner.load(self.topic.learner.spec, self.topic.learner.dump())
            self._hear(case.beside["at"])
            self._handle(case, int(tickets.day[i]), done)
            found = done.found[-1] if stopped is None else stopped.predict(None, case.features).value
            done.stopped.append(None if found is None else str(found))
        return done

    def _hear(self, now: float) -> None:
        while self._late and self._late[0][0] <= now:
            at, heard = self._late.popleft()
            heard(at)

    def _handle(self, case: Case, day: int, done: Log) -> None:
        at, topic = case.beside["at"], case.beside["topic"]
        said = self.topic.predict(case)
        sure = max((said.probabilities or {}).values(), default=0.0)
        pressing = self.urgent.chance(case)
        features = {"sure": sure, "urgent": pressing, "both": sure * pressing}
        earns = self.handling.estimates(features)
        choice_id, choice = self.handling.choose(features, at=at)
        arm, wrong = ARMS.index(choice.arm), said.value != topic
        seen = [self.topic.show(case, at=at), self.urgent.show(case, at=at)]
        self.unusual.show(replace(case, features={"sure": sure}), at=at)
        told = arm > 0 or wrong or bool(case.label) or self.rng.random() < AUDITED

        def heard(then: float) -> None:
            self.handling.reward(choice_id, -float(COSTS[arm, int(bool(case.label)), int(wrong)]), at=then)
            if told:
                self.topic.label(seen[0], topic, at=then)
                self.urgent.label(seen[1], case.label, at=then)
                done.heard.setdefault(topic, day + 1)

        self._late.append((at + DAY, heard))
        done.found.append(None if said.value is None else str(said.value))
        done.sure.append(sure)
        done.pressing.append(pressing)
        done.arm.append(arm)
        done.earns.append([earns[name] for name in ARMS])


def costs(tickets: Tickets, found: Sequence[str | None]) -> Array:
    """EUR of each ticket under each arm, given the topics that were found."""
    wrong = np.array([str(one) for one in found]) != tickets.topic
    return np.asarray(COSTS[:, tickets.urgent.astype(int), wrong.astype(int)].T)


def ruled(tickets: Tickets, done: Log) -> NDArray[np.int64]:
    """The arms of three thresholds, those that would have cost least in the first days, all costs known."""
    sure, pressing = np.array(done.sure), np.array(done.pressing)
    spent, early = costs(tickets, done.found), tickets.day < WARM_UP
    tried = [
        np.where((sure >= least) & (pressing < calm), 0, np.where(pressing < most, 1, 2))
        for least, calm, most in product(*GRID)
    ]
    return min(tried, key=lambda arms: float(taken(spent, arms)[early].mean()))


def foreseen(posterior: Array) -> tuple[list[str], Array]:
    """The best topic of each ticket by Bayes' rule, and what each arm is then expected to cost."""
    topics = posterior.sum(axis=2).argmax(axis=1)
    right = posterior[np.arange(len(topics)), topics]
    wrong = posterior.sum(axis=1) - right
    expected = right @ COSTS[:, :, 0].T + wrong @ COSTS[:, :, 1].T
    return [TOPICS[i] for i in topics], np.asarray(expected)


def taken(spent: Array, arms: NDArray[np.int64]) -> Array:
    """EUR of each ticket under the arm taken."""
    return np.asarray(spent[np.arange(len(arms)), arms])


def evaluate(run: Run, tickets: Tickets, done: Log, desk: Desk) -> None:
    """Cost against those who escalate everything, thresholds by hand and who knows all; cost against escalation."""
    spent = costs(tickets, done.found)
    ways = handled(tickets, done, spent)
    late = tickets.day >= WARM_UP
    own, rule, best = ways["bandit"], ways["thresholds"], ways.get(KNOWING)
    name = f"EUR per ticket, after {WARM_UP} days"
    run.figure(name, *against(own, ("escalating all", ways["escalating all"]), best, late))
    for when, within in periods(run, tickets).items():
        run.figure(f"EUR per ticket, {when}", *against(own, ("thresholds", rule), best, within))
    run.show(Table(("way", name), [(way, f"{found[late].mean():.2f}") for way, found in ways.items()]))
    run.say(
        f"each ticket costs {half(tickets, rule - own)} EUR less than by the thresholds, and "
        f"{half(tickets, ways['known costs'] - own)} EUR less than by what the models say and costs that are known "
        "(95 % intervals over days)"
    )
    escalated = [float((arms == 2)[late].mean()) for arms in (np.array(done.arm), ruled(tickets, done))]
    run.figure(f"share escalated, after {WARM_UP} days", escalated[0], ("thresholds", escalated[1]))
    told(run, desk, spent)
    escalation(run, tickets, done, spent)


def handled(tickets: Tickets, done: Log, spent: Array) -> Mapping[str, Array]:
    """EUR of each ticket by the way it is handled."""
    sure, pressing = np.array(done.sure), np.array(done.pressing)
    calm, urgent = COSTS[:, 0, :], COSTS[:, 1, :]
    chances = np.stack([sure, 1.0 - sure], axis=1)
    expected = (1.0 - pressing)[:, None] * (chances @ calm.T) + pressing[:, None] * (chances @ urgent.T)
    ways = {
        "bandit": taken(spent, np.array(done.arm)),
        "thresholds": taken(spent, ruled(tickets, done)),
        "known costs": taken(spent, expected.argmin(axis=1)),
        "suggesting all": spent[:, 1],
        "escalating all": spent[:, 2],
    }
    if tickets.posterior is not None:
        topics, best = foreseen(tickets.posterior)
        ways[KNOWING] = taken(costs(tickets, topics), best.argmin(axis=1))
    return ways


def against(
    own: Array, other: tuple[str, Array], best: Array | None, within: Flags
) -> tuple[float, Beside, Beside | None]:
    """A mean, that of somebody else, and the best there can be, where it is known."""
    ideal = None if best is None else (KNOWING, float(best[within].mean()))
    return float(own[within].mean()), (other[0], float(other[1][within].mean())), ideal


def half(tickets: Tickets, saved: Array) -> str:
    """A mean over the days after the first ones, with its interval."""
    whole = [day for day in np.unique(tickets.day).tolist() if WARM_UP <= day < tickets.day[-1]]
    days = np.array([saved[tickets.day == day].mean() for day in whole])
    return f"{days.mean():.2f} ± {half_width(days):.2f}"


def periods(run: Run, tickets: Tickets) -> Mapping[str, Flags]:
    """Days that are measured by themselves."""
    day = tickets.day
    if run.data:
        return {f"from day {WARM_UP} on": day >= WARM_UP}
    return {
        f"days {WARM_UP} to {PLAN.change - 1}, before the new topic": (day >= WARM_UP) & (day < PLAN.change),
        "the ten days after it came": (day >= PLAN.change) & (day < PLAN.change + 10),
        "from the 10th day after": day >= PLAN.change + 10,
    }


def told(run: Run, desk: Desk, spent: Array) -> None:
    """What always doing the same would have cost, by the exact propensities of the bandit's own log."""
    heard = desk.handling.learner.learned
    rows = []
    for arm, name in enumerate(ARMS):
        earned = desk.handling.learner.earned.get(name)
        if earned is not None and earned.value is not None:
            truth = f"{spent[:heard, arm].mean():.2f}"
            rows.append((name, f"{-earned.value:.2f}", truth, f"{earned.effective:.0f}"))
    run.show(Table(("always", "EUR per ticket, from the log", "in truth", "even-handed choices it is worth"), rows))


def escalation(run: Run, tickets: Tickets, done: Log, spent: Array) -> None:
    """Cost where a given share is escalated: those for which it is thought to save most."""
    within = tickets.day >= (WARM_UP if run.data else PLAN.change + 10)
    shares = [share / 100 for share in range(0, 101, 5)]
    estimates = -np.array(done.earns)
    sure = np.array(done.sure)
    answered = ruled(tickets, done) == 0
    hand = np.stack([1.0 - answered, answered, sure], axis=1)
    lines = [
        Line("by what the bandit learned", along(spent[within], estimates[within], shares), "candidate"),
        Line("the least sure first", along(spent[within], hand[within], shares), "baseline", dashed=True),
    ]
    if tickets.posterior is not None:
        topics, expected = foreseen(tickets.posterior)
        ideal_costs = along(costs(tickets, topics)[within], expected[within], shares)
        lines.append(Line(KNOWING, ideal_costs, "optimum", dashed=True))
    run.show(Chart("cost of a ticket", shares, lines, unit="EUR", timed=False, label="share of the tickets escalated"))
    for share in (0.1, 0.3):
        own, hand_made, *ideal = (float(line.y[shares.index(share)] or 0.0) for line in lines)
        best = (KNOWING, ideal[0]) if ideal else None
        run.figure(f"EUR per ticket, {share:.0%} escalated", own, ("the least sure first", hand_made), best)


def along(spent: Array, expected: Array, shares: Sequence[float]) -> list[float]:
    """What a ticket costs where each share is escalated, the others handled as is expected to cost less."""
    others = expected[:, :2].argmin(axis=1)
    order = np.argsort(expected[:, 2] - expected[:, :2].min(axis=1), kind="stable")
    found = []
    for share in shares:
        arms = others.copy()
        arms[order[: round(share * len(order))]] = 2
        found.append(float(taken(spent, arms).mean()))
    return found


def watch(run: Run, tickets: Tickets, done: Log, desk: Desk) -> None:
    """Whether a new topic was noticed, and learned."""
    alarms = [
        (int(tickets.day[min(alarm.cases, len(tickets.day)) - 1]), f"{name}: {alarm.name}", alarm)
        for name, stream in (("topic", desk.topic), ("unusual", desk.unusual))
        for alarm in stream.alarms
    ]
    alarms.sort(key=lambda one: one[0])
    listed = ", ".join(f"day {day} ({name} {a.before:.2f} → {a.recent:.2f})" for day, name, a in alarms)
    run.say(f"alarms: {listed or 'none'}")
    fresh = ", ".join(f"{topic} (day {day})" for topic, day in done.heard.items() if day > STOPPED)
    run.say(f"topics that no label had before day {STOPPED}: {fresh or 'none'}")
    right = np.array([found == topic for found, topic in zip(done.found, tickets.topic, strict=True)])
    still = np.array([found == topic for found, topic in zip(done.stopped, tickets.topic, strict=True)])
    if not run.data:
        noticed(run, tickets, done, alarms, (right, still))
    drawn(run, tickets, (right, still), [(day, name) for day, name, _ in alarms])
    weekly = by_week(tickets, np.eye(len(ARMS))[done.arm])
    first, week = tickets.cases[0].beside["at"], WEEK * DAY
    begins = [first + number * week for number in range(len(weekly))]
    run.show(Shares("what is done", begins, ARMS, weekly.tolist(), week))


def by_week(tickets: Tickets, values: Array) -> Array:
    """Means of each whole or begun week."""
    weeks = tickets.day // WEEK
    return np.array([values[weeks == week].mean(axis=0) for week in np.unique(weeks)])


def drawn(run: Run, tickets: Tickets, found: tuple[Flags, Flags], alarms: Sequence[tuple[int, str]]) -> None:
    """The share of the topics that were found, week by week."""
    marks = [Mark(day / WEEK, f"alarm: {name}", "alarm") for day, name in alarms]
    rights = {"goes on learning": found[0], f"stopped on day {STOPPED}": found[1]}
    if tickets.posterior is not None:
        rights[KNOWING] = np.array(foreseen(tickets.posterior)[0]) == tickets.topic
        marks.append(Mark(PLAN.change / WEEK, f"the topic {NEW!r} appears"))
    roles: Sequence[Role] = ("candidate", "incumbent", "optimum")
    lines = [
        Line(name, by_week(tickets, np.asarray(right, float)).tolist(), role, dashed=role == "optimum")
        for role, (name, right) in zip(roles, rights.items(), strict=False)
    ]
    xs = [float(week) for week in range(len(lines[0].y))]
    run.show(Chart("topics found", xs, lines, marks=marks, timed=False, label="week"))


def noticed(
    run: Run, tickets: Tickets, done: Log, alarms: Sequence[tuple[int, str, Alarm]], found: tuple[Flags, Flags]
) -> None:
    """When the new topic was noticed, and how well it was found afterwards."""
    run.figure(
        "days from the new topic to its first label; labels are a day late", float(done.heard[NEW] - PLAN.change)
    )
    days = [
        day - PLAN.change for day, name, alarm in alarms if name.startswith("unusual") and alarm.recent < alarm.before
    ]
    after = [day for day in days if day >= 0]
    run.figure("days from the new topic to the alarm that needs no labels", float(after[0]) if after else math.nan)
    run.figure("false alarms before, that the model became less sure", float(len(days) - len(after)))
    best = np.array(foreseen(tickets.posterior)[0]) == tickets.topic if tickets.posterior is not None else found[0]
    for when, begin, end in (("in its first three days", 0, 3), ("from its 10th day", 10, PLAN.days)):
        since = tickets.day - PLAN.change
        within = (tickets.topic == NEW) & (since >= begin) & (since < end)
        run.figure(
            f"share of the new topic found, {when}",
            float(found[0][within].mean()),
            (f"stopped learning on day {STOPPED}", float(found[1][within].mean())),
            (KNOWING, float(best[within].mean())),
        )
