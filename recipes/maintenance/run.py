"""Maintenance: which machine is about to fail, and whether to send a crew now or to wait."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from agents.figures import Chart, Line, Mark
from agents.heuristics_maintenance import MAINTENANCE_RULES
from envs import worlds
from envs.dynamics import Action, State
from envs.maintenance import Maintenance
from online.specs import ModelSpec, model_spec
from recipes.maintenance.crews import ByRisk, Interval, Live, best_interval, optimum
from recipes.maintenance.plant import AHEAD, Readings, made, read
from recipes.measures import Array, Flags, flagged, precision, roc_auc
from recipes.playing import Run, Table
from recipes.rivals import Rival, Steady, Told, costs
from recipes.rows import YES_NO, Case, Cells, DirtyError, Label, Sheet, moment
from recipes.stream import Stream

RISK, READINGS, POINT = "risk", "readings", "service"
HALLS, DAYS, OLD_INTERVAL = 8, 300, 40
BUDGET, FIRST, CHOICE, FEWEST, WINDOW = 0.05, 60, 120, 90, 30
"""Share of machines that may be looked at; days before anything is scored, on which pipelines are compared, that there
must be, and whose scores set the threshold."""

PLAYED, CHANGE, SOON, WARM, REPEATS = 600, 300, 40, 40, 4
"""The played world: days, the day of the change, for how long it is new, the days before anything counts; how often all
is."""

FASTER, LEAPS = 2.0, 0.6
"""What becomes of the wear, and of the share of moves by two levels."""

LIKELY = {"wear": (0.05, 0.6), "jump": (0.05, 0.9)}
"""What is estimated, and what the estimators must be able to reach."""

THRESHOLDS = (0.05, 0.08, 0.12, 0.18, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)

OTHERS: Mapping[str, list[Mapping[str, Any]]] = {
    "logistic regression": [
        {"use": "preprocessing.StandardScaler"},
        {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.SGD", "lr": 0.01}},
    ],
    "adaptive forest": [{"use": "forest.ARFClassifier", "n_models": 5, "max_depth": 6, "seed": 1}],
}

SHEET = Sheet(
    Label("fails", YES_NO),
    {"day": True, "machine": True, "chance": False},
    lambda row: {**row, "day": moment("day", row.get("day"))},
    time="day",
)


@dataclass(frozen=True)
class Log:
    """Readings of working machines in the order of their days, and whether each failed within the days ahead."""

    cases: Sequence[Case]
    day: Array
    fails: Flags
    chance: Array | None

    def since(self, first: int) -> Flags:
        """The cases from a day on."""
        return self.day >= first


def play(run: Run) -> None:
    """From readings to a service that sends crews."""
    run.stage("collect and prepare")
    log = collected(run)
    run.stage("features")
    spec = run.manifest.models[RISK]
    run.say(f"{len(spec.features or {})} features, as the sensors give them; labels come {AHEAD} days late")
    run.stage("choose")
    choose(run, spec, log)
    run.stage("train and validate")
    stream, risk, odd = learned(run, spec, log)
    run.stage("evaluate and test")
    ranked(run, log, risk, odd)
    run.stage("deploy")
    deploy(run, log)
    run.stage("monitor and maintain")
    shift(run, stream)


def sample() -> Iterable[Cells]:
    """Rows as a file of yours may have them."""
    params = {"wear": [0.1, 0.2], "crews": 1}
    return made(cast(Maintenance, worlds.make("maintenance", params)), 3, 110, OLD_INTERVAL, 0)


def collect(run: Run, least: int = 500) -> Sequence[Case]:
    """The rows as cases."""
    return run.cases(
        RISK, lambda: made(world_of(run), HALLS, DAYS, OLD_INTERVAL, run.seed), replace(SHEET, least=least)
    )


def world_of(run: Run) -> Maintenance:
    """The world of the point."""
    point = run.manifest.points[POINT]
    return cast(Maintenance, worlds.make(point.world, point.params))


def collected(run: Run) -> Log:
    """The log in order."""
    cases = sorted(collect(run), key=lambda case: case.beside["day"])
    day = np.array([case.beside["day"] for case in cases]) // 86_400.0
    day -= day[0]
    if day[-1] < FEWEST:
        raise DirtyError(f"{run.source} covers {day[-1]:.0f} days: give {FEWEST} at least")
    fails = np.array([case.label for case in cases], bool)
    chance = None if run.data else np.array([case.beside["chance"] for case in cases], float)
    run.say(f"{len({case.beside['machine'] for case in cases})} machines; {fails.mean():.1%} fail within {AHEAD} days")
    return Log(cases, day, fails, chance)


def streamed(spec: ModelSpec, log: Log) -> tuple[Stream, Array]:
    """The model, and risks that were each given before anything about the case, or the days ahead, was known."""
    stream, late = Stream(spec), deque[tuple[float, str, Case]]()
    risks = np.zeros(len(log.cases))
    for i, (case, day) in enumerate(zip(log.cases, log.day, strict=True)):
        while late and late[0][0] <= day:
            _, event, former = late.popleft()
            stream.label(event, former.label)
        risks[i] = stream.chance(case)
        late.append((day + AHEAD, stream.show(case), case))
    return stream, risks


def choose(run: Run, spec: ModelSpec, log: Log) -> None:
    """Compare pipelines on the first days alone."""
    first = int(np.searchsorted(log.day, CHOICE))
    early = Log(log.cases[:first], log.day[:first], log.fails[:first], None)
    source = {name: value for name, value in spec.source.items() if name != "pipeline"}
    others = {name: model_spec(RISK, {**source, "pipeline": steps}) for name, steps in OTHERS.items()}
    scored = early.since(FIRST)
    rows = []
    for name, one in {"naive Bayes (declared)": spec, **others}.items():
        _, risks = streamed(one, early)
        rows.append((name, f"{roc_auc(risks[scored], early.fails[scored]):.3f}"))
        run.tell(f"  {name}: area under the curve {rows[-1][1]}, days {FIRST} to {CHOICE}")
    run.show(Table(("pipeline", "area under the curve"), rows))


def learned(run: Run, spec: ModelSpec, log: Log) -> tuple[Stream, Array, Array]:
    """The model that has learned the log, its risks, and how unusual the readings were."""
    stream, risks = streamed(spec, log)
    readings = run.manifest.models[READINGS]
    watch = Stream(readings)
    odd = np.zeros(len(log.cases))
    for i, case in enumerate(log.cases):
        seen = replace(case, features={name: case.features[name] for name in readings.features or ()})
        odd[i] = watch.predict(seen).score or 0.0
        watch.show(seen)
    run.say("every risk was given before the outcome of any day that it speaks of was known")
    return stream, risks, odd


def ranked(run: Run, log: Log, risks: Array, odd: Array) -> None:
    """How well failures are foretold."""
    scored = log.since(FIRST)
    per_day = max(1, len(log.cases) // int(log.day[-1] + 1))
    age, vibration = (np.array([case.features[name] for case in log.cases], float) for name in ("age", "vibration"))

    def area(scores: Array) -> float:
        return roc_auc(scores[scored], log.fails[scored])

    def hit(scores: Array) -> float:
        taken = flagged(scores, BUDGET, WINDOW * per_day, per_day) & scored
        return precision(taken, log.fails)

    knows = "filters the level, knows how it is made"
    for name, measure in (("area under the curve", area), (f"precision at a budget of {BUDGET:.0%}", hit)):
        best = None if log.chance is None else (knows, measure(log.chance))
        run.figure(
            f"risk of a failure within {AHEAD} days: {name}", measure(risks), ("days since service", measure(age)), best
        )
    run.figure("anomaly score, without labels: area under the curve", area(odd), ("vibration alone", area(vibration)))


def deploy(run: Run, log: Log) -> None:
    """Rows for the models, and halls that ask the point."""
    run.serve(RISK, log.cases)
    names = run.manifest.models[READINGS].features or ()
    run.serve(READINGS, [replace(case, features={name: case.features[name] for name in names}) for case in log.cases])
    wear = ",".join(f"{FASTER * one:g}" for one in world_of(run).params.wear)
    run.play_along(
        *("halls", "simulate", POINT, "--entities", f"{HALLS}", "--decisions", "0", "--rate", "8", "--every", "30"),
        *("--shift", f"at=2000,wear=[{wear}],jump={LEAPS}"),
    )
    run.say(f"{HALLS} made-up halls ask the point; after 2,000 decisions their machines wear {FASTER:g} times as fast")


def shift(run: Run, stream: Stream) -> None:
    """The declared world, in which all machines begin to wear faster, and in leaps."""
    world = world_of(run)
    phases = [world, world.with_params({"wear": FASTER * np.asarray(world.params.wear), "jump": LEAPS})]
    days, together = best_interval(world, HALLS, run.seed)
    limit = threshold(run, world, stream)
    lives = [Live(world, LIKELY, HALLS) for _ in range(REPEATS)]
    best, opportunistic = [optimum(phase) for phase in phases], rules(phases)
    parts: list[Mapping[str, Array]] = []
    for repeat, live in enumerate(lives):
        sensors = sensed(stream, np.random.default_rng([run.seed, 2, repeat]))
        rivals: Mapping[str, Rival] = {
            "live": live,
            "frozen": Steady(best[0]),
            "run to failure": Steady(MAINTENANCE_RULES["run-to-failure"](world)),
            "fixed interval": Interval(world, days, HALLS, together=together),
            "by risk": ByRisk(world, limit, HALLS, sensors),
            "opportunistic, told at once": Told(opportunistic, CHANGE),
            "optimum, told at once": Told(best, CHANGE),
        }
        rng = np.random.default_rng([run.seed, 1, repeat])
        chances = [world.draw(HALLS, rng) for _ in range(PLAYED)]
        parts.append({name: costs(lambda day: phases[day >= CHANGE], rival, chances) for name, rival in rivals.items()})
    found = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    run.say(
        f"{REPEATS} plants of {HALLS} halls, {PLAYED} days; on day {CHANGE} wear becomes {FASTER:g} times as fast, "
        f"{LEAPS:.0%} leaps; the best fixed interval before: {days} days{', both crews at once' * together}; "
        f"the best threshold of the risk: {limit:g}"
    )
    told(run, found)
    followed(run, lives)
    drawn(run, found)


def rules(phases: Sequence[Maintenance]) -> Sequence[Callable[[State], Action]]:
    """The best opportunistic rule of each world."""
    return [MAINTENANCE_RULES["opportunistic"](phase) for phase in phases]


def sensed(stream: Stream, rng: np.random.Generator) -> Callable[[State, Array], Array]:
    """What the model says of machines at these levels, after a look at sensors that follow them."""

    def risk(level: State, age: Array) -> Array:
        readings = read(level, rng)
        chances = [stream.chance(_case(readings, age, place)) for place in np.ndindex(level.shape)]
        return np.array(chances).reshape(level.shape)

    return risk


def _case(readings: Readings, age: Array, place: tuple[int, ...]) -> Case:
    seen = {name: float(getattr(readings, name)[place]) for name in ("vibration", "temperature", "current", "load")}
    return Case({**seen, "age": float(age[place])}, None, {})


def threshold(run: Run, world: Maintenance, stream: Stream) -> float:
    """The cheapest threshold of the risk, in a run on chance of its own."""
    rng = np.random.default_rng([run.seed, 3])
    chances = [world.draw(HALLS, rng) for _ in range(300)]

    def cost(limit: float) -> float:
        rival = ByRisk(world, limit, HALLS, sensed(stream, np.random.default_rng([run.seed, 4])))
        return float(costs(lambda _: world, rival, chances)[WARM:].mean())

    return min(THRESHOLDS, key=cost)


SPELLS = {
    "before the change": slice(WARM, CHANGE),
    f"in the {SOON} days after it": slice(CHANGE, CHANGE + SOON),
    "thereafter": slice(CHANGE + SOON, PLAYED),
}


def told(run: Run, found: Mapping[str, Array]) -> None:
    """The figures, and a table of all rivals."""

    def mean(name: str, days: slice) -> float:
        return float(found[name][days].mean())

    rows = [(name, *(f"{mean(name, days):,.0f}" for days in SPELLS.values())) for name in found]
    run.show(Table(("USD per hall and day", *SPELLS), rows))
    before, soon, later = SPELLS.items()
    compared = (
        ("live", before, "run to failure"),
        ("live", before, "fixed interval"),
        ("by risk", before, "fixed interval"),
        ("live", soon, "frozen"),
        ("live", later, "frozen"),
        ("live", later, "fixed interval"),
    )
    names = {"live": "cost, levels inspected", "by risk": "cost, by the sensors' risk alone"}
    best = "optimum, told at once"
    for who, (when, days), rival in compared:
        run.figure(
            f"{names[who]}, USD per hall and day, {when}",
            mean(who, days),
            (rival, mean(rival, days)),
            (best, mean(best, days)),
        )


def followed(run: Run, lives: Sequence[Live]) -> None:
    """When the estimators noticed, and what they believe."""
    false = sum(day < CHANGE for live in lives for day in live.alarms)
    waits = [min((day - CHANGE for day in live.alarms if day >= CHANGE), default=PLAYED) for live in lives]
    leaps = [live.estimates[-1]["jump"] for live in lives]
    run.figure(f"days from the change to the alarm, mean of {REPEATS} plants", float(np.mean(waits)))
    run.figure(f"false alarms in {REPEATS} × {CHANGE} days before", float(false))
    run.figure("share of leaps, as estimated at the end", float(np.mean(leaps)), None, ("true", LEAPS))


def drawn(run: Run, found: Mapping[str, Array]) -> None:
    """Cost by four weeks."""
    shown = (
        ("live", "candidate", False),
        ("frozen", "incumbent", False),
        ("fixed interval", "baseline", True),
        ("optimum, told at once", "optimum", True),
    )
    whole = PLAYED // 30 * 30
    lines = [
        Line(name, found[name][:whole].mean(axis=1).reshape(-1, 30).mean(axis=1).tolist(), role, dashed=dashed)  # type: ignore[arg-type]
        for name, role, dashed in shown
    ]
    run.show(
        Chart(
            "cost per hall and day, by 30 days",
            [float(month) for month in range(len(lines[0].y))],
            lines,
            unit="USD",
            marks=[Mark(CHANGE / 30, "faster wear, in leaps")],
            timed=False,
            label="30 days",
        )
    )
