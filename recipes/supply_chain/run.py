"""Supply chain: demand per SKU with intervals, and how much to order while earlier orders are on their way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from agents.figures import Chart, Line, Mark
from envs import worlds
from envs.inventory import Inventory
from online.specs import ModelSpec, model_spec
from recipes.measures import Array, half_width, interval_score
from recipes.playing import Run, Table
from recipes.rivals import Rival, Steady, Told, costs
from recipes.rows import Case, Cells, DirtyError, Label, Sheet, amount, moment, shown
from recipes.stream import Stream
from recipes.supply_chain.ordering import Foretold, Given, Live, Optimum, Stocks
from recipes.supply_chain.sales import DAY, SEEN, drawn, shipped

MODEL, POINT = "demand", "order"
NOMINAL = 0.9
FIRST, CHOICE, FEWEST, WINDOW = 90, 150, 160, 28
"""Days before anything is scored, days on which pipelines are compared, the fewest there must be; the baseline's."""

MOST = 40
"""SKUs that are played at most, those that sell most."""

DAYS, CHANGE, SOON, FACTOR, COPIES = 400, 200, 30, 1.6, 2
"""The played world: days, the day of the change, for how long it is new, what becomes of demand; how often all is."""

_LINEAR = {"use": "linear_model.LinearRegression", "optimizer": {"use": "optim.SGD", "lr": 0.005}}
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "linear in the weekday": _LINEAR,
    "its logarithm linear": {
        **_LINEAR,
        "loss": {"use": "optim.losses.Poisson"},
        "intercept_lr": 0.005,
        "intercept_init": 1.4,
    },
}


def prepared(row: Cells) -> Cells:
    """The weekday of the day; a name for the SKU."""
    day = moment("day", row.get("day"))
    if row.get("sku") in (None, ""):
        raise DirtyError(f"the column 'sku' is {shown(row.get('sku'))}; allowed is a name")
    amount("sold", row.get("sold"), 0)
    return {**row, "day": day, "sku": str(row["sku"]), "weekday": SEEN[int(day // DAY + 3) % 7]}


SHEET = Sheet(Label("sold"), {"day": True, "sku": True}, prepared, ("weekday",), time="day")


@dataclass(frozen=True)
class Sales:
    """What was sold of each SKU on each day on which anything was.

    Args:
        skus: names (n,).
        sold: items (days, n).
        weekday: of each day.
        at: seconds since 1970.
        spell: days that an order must last.
    """

    skus: Sequence[str]
    sold: Array
    weekday: Sequence[str]
    at: Sequence[float]
    spell: int

    @property
    def ahead(self) -> Array:
        """Items a day over the spell that begins with each day (days - spell + 1, n): the label of `demand`."""
        return np.asarray(np.lib.stride_tricks.sliding_window_view(self.sold, self.spell, axis=0).mean(axis=-1))

    def case(self, day: int, sku: int) -> Case:
        """What the model sees of a day, and what it should have said."""
        label = float(self.sold[day : day + self.spell, sku].mean())
        return Case({"weekday": self.weekday[day]}, label, {"sku": self.skus[sku], "at": self.at[day]})

    def until(self, day: int) -> "Sales":
        """The first days alone."""
        return replace(self, sold=self.sold[:day], weekday=self.weekday[:day], at=self.at[:day])


@dataclass(frozen=True)
class Forecast:
    """What was foretold of each day and SKU (days, n), and the ends of the interval."""

    mean: Array
    low: Array
    high: Array

    def figures(self, sales: Sales) -> tuple[float, float, float]:
        """Mean absolute error, share within the interval, and interval score, from the 90th day on."""
        truth = sales.ahead[FIRST:]
        mean, low, high = (part[FIRST : FIRST + len(truth)] for part in (self.mean, self.low, self.high))
        within = (low <= truth) & (truth <= high)
        score = interval_score(low.ravel(), high.ravel(), truth.ravel(), NOMINAL)
        return float(np.abs(mean - truth).mean()), float(within.mean()), score


def play(run: Run) -> None:
    """From sales to a service that says how much to order."""
    run.stage("collect and prepare")
    sales = collected(run)
    run.stage("features")
    spec = run.manifest.models[MODEL]
    run.say(
        f"the label is what is sold a day over {sales.spell} days, known when they are over; the feature is the weekday"
    )
    run.stage("choose")
    choose(run, spec, sales)
    run.stage("train and validate")
    foretold = forecast(spec, sales)
    compare(run, sales, foretold)
    run.stage("evaluate and test")
    evaluate(run, sales, foretold)
    run.stage("deploy")
    deploy(run, sales)
    run.stage("monitor and maintain")
    shift(run, sales)


def sample() -> Iterable[Cells]:
    """Rows as a file of yours may have them."""
    return drawn(6, 200, 0)


def collect(run: Run, least: int = 1_000) -> Sequence[Case]:
    """The rows as cases."""
    return run.cases(MODEL, shipped, replace(SHEET, least=least))


def collected(run: Run) -> Sales:
    """Sales by day and SKU; a SKU without a row on a day sold nothing."""
    cases = collect(run)
    days = sorted({case.beside["day"] // DAY for case in cases})
    if len(days) < FEWEST:
        raise DirtyError(f"{run.source} has sales on {len(days)} days: give {FEWEST} at least")
    known = sorted({case.beside["sku"] for case in cases})
    place = {day: i for i, day in enumerate(days)}, {sku: i for i, sku in enumerate(known)}
    sold = np.zeros((len(days), len(known)))
    for case in cases:
        sold[place[0][case.beside["day"] // DAY], place[1][case.beside["sku"]]] += float(case.label)  # type: ignore[arg-type]
    kept = playable(run, known, sold)
    weekday = [SEEN[int(day + 3) % 7] for day in days]
    at = [day * DAY for day in days]
    return Sales([known[i] for i in kept], sold[:, kept], weekday, at, world_of(run).params.lead_time + 1)


def playable(run: Run, skus: Sequence[str], sold: Array) -> NDArray[np.int64]:
    """Which SKUs sell as much as the policies are made for."""
    low, high = run.manifest.points[POINT].ranges["mean"]
    means = sold.mean(axis=0)
    fitting = np.flatnonzero((means >= low) & (means <= high))
    if not len(fitting):
        raise DirtyError(
            f"no SKU of {run.source} sells {low:g} to {high:g} items a day, for which policies are made: count in "
            "other units, or change `ranges`, `max_order` and `capacity` in trimtab.toml"
        )
    kept = np.sort(fitting[np.argsort(-means[fitting], kind="stable")][:MOST])
    scatter = sold[:, kept].var(axis=0) / means[kept]
    run.say(
        f"{len(sold)} days, {len(kept)} of {len(skus)} SKUs, which sell {means[kept].min():.1f} to "
        f"{means[kept].max():.1f} items a day; variance over mean {np.median(scatter):.2f}, 1 in the world"
    )
    return np.asarray(kept)


def world_of(run: Run) -> Inventory:
    """The world of the point."""
    point = run.manifest.points[POINT]
    return cast(Inventory, worlds.make(point.world, point.params))


def forecast(spec: ModelSpec, sales: Sales) -> Forecast:
    """Forecasts, each made before anything of its days was known; labels come when they are over."""
    stream = Stream(spec)
    found = np.zeros((3, *sales.sold.shape))
    for day in range(len(sales.sold)):
        for sku, name in enumerate(sales.skus):
            case = sales.case(day, sku)
            if (past := day - sales.spell) >= 0:
                stream.label(f"{past * len(sales.skus) + sku}", sales.case(past, sku).label, key=name)
            said = stream.predict(case, name)
            mean = float(said.value or 0.0)
            found[:, day, sku] = mean, *(said.interval or (mean, mean))
            stream.show(case, key=name)
    return Forecast(*found)


def recent(sales: Sales) -> Forecast:
    """The baseline: mean, and quantiles, of the last four weeks."""
    found = np.zeros((3, *sales.sold.shape))
    for day in range(sales.spell, len(sales.sold)):
        seen = sales.ahead[max(0, day - sales.spell + 1 - WINDOW) : day - sales.spell + 1]
        found[:, day] = seen.mean(axis=0), *np.quantile(seen, ((1 - NOMINAL) / 2, (1 + NOMINAL) / 2), axis=0)
    return Forecast(*found)


def choose(run: Run, spec: ModelSpec, sales: Sales) -> None:
    """Compare pipelines on the first days alone."""
    early = sales.until(CHOICE)
    source = {name: value for name, value in spec.source.items() if name != "pipeline"}
    bracket = {"use": "conf.RegressionJackknife", "confidence_level": NOMINAL}
    others = {
        name: model_spec(MODEL, {**source, "pipeline": [{**bracket, "regressor": one}]}) for name, one in OTHERS.items()
    }
    rows = []
    for name, one in {"tree (declared)": spec, **others}.items():
        error, within, score = forecast(one, early).figures(early)
        rows.append((name, f"{error:.3f}", f"{within:.1%}", f"{score:.2f}"))
        run.tell(f"  {name}: interval score {score:.2f}, days {FIRST} to {CHOICE}")
    run.show(Table(("pipeline", "mean absolute error", f"within the {NOMINAL:.0%} interval", "interval score"), rows))


def compare(run: Run, sales: Sales, foretold: Forecast) -> None:
    """The forecast beside that of the last four weeks."""
    own, naive = foretold.figures(sales), recent(sales).figures(sales)
    weeks = "the last four weeks"
    run.figure(f"forecast for {sales.spell} days: mean absolute error, items a day", own[0], (weeks, naive[0]))
    run.figure(f"demand within its {NOMINAL:.0%} interval", own[1], (weeks, naive[1]), ("nominal", NOMINAL))
    run.figure("interval score (width and misses; less is better)", own[2], (weeks, naive[2]))


def evaluate(run: Run, sales: Sales, foretold: Forecast) -> None:
    """What the sales would have cost, taken as the demand: who orders knows the first 90 days at most."""
    world, range_ = Given(world_of(run).params), run.manifest.points[POINT].ranges["mean"]
    best, stocks = Optimum(world_of(run), range_), Stocks(world_of(run))
    rivals: Mapping[str, Rival] = {
        "optimum for live estimates": Live(best, range_, len(sales.skus)),
        "optimum for the forecast": Foretold(best, foretold.mean),
        "base stock": Steady(stocks.rule(sales.sold[:FIRST].mean(axis=0))),
        "base stock, best for the whole year": Steady(stocks.rule(sales.sold.mean(axis=0))),
    }
    found = {name: costs(lambda _: world, rival, list(sales.sold[..., None]))[FIRST:] for name, rival in rivals.items()}
    run.show(
        Table(
            ("who orders", "cost per SKU and day"),
            [(name, f"{cost.mean():.2f} ± {half_width(weekly(cost)):.2f}") for name, cost in found.items()],
        )
    )
    live, told, kept, hindsight = (float(cost.mean()) for cost in found.values())
    run.say(f"base stock that knows the whole year costs {hindsight:.2f}; nobody knows what is possible on real days")
    run.figure("cost on the days of the file, USD per SKU and day", live, ("base stock", kept))
    run.figure("the same, ordered for the forecast", told, ("base stock", kept))


def weekly(cost: Array) -> Array:
    """Means over the SKUs, week by week: days in a row depend on each other."""
    whole = len(cost) // 7 * 7
    return np.asarray(cost[:whole].mean(axis=1).reshape(-1, 7).mean(axis=1))


def deploy(run: Run, sales: Sales) -> None:
    """Rows for the model, and shops that ask the point."""
    last = len(sales.sold) - sales.spell + 1
    cases = [sales.case(day, sku) for day in range(last) for sku in range(len(sales.skus))]
    run.serve(MODEL, cases, key="sku")
    run.play_along(
        *("buyer", "simulate", POINT, "--entities", "16", "--decisions", "0", "--rate", "8", "--every", "30"),
        *("--shift", "at=2000,mean=6.4"),
    )
    run.say("a buyer of 16 made-up SKUs asks the point; after 2,000 decisions their demand rises from 4 to 6.4 a day")


def shift(run: Run, sales: Sales) -> None:
    """A world fitted to the sales, in which all demand rises at once: who follows, who does not, what is possible."""
    before = world_of(run)
    range_ = run.manifest.points[POINT].ranges["mean"]
    means = np.tile(sales.sold.mean(axis=0), COPIES)
    phases = [before.with_params({"mean": factor * means[:, None]}) for factor in (1.0, FACTOR)]
    best = Optimum(before, range_)
    live = Live(best, range_, len(means))
    old, new = (best.rule(factor * means) for factor in (1.0, FACTOR))
    stocks = Stocks(before)
    levels, raised = (stocks.rule(factor * means) for factor in (1.0, FACTOR))
    rivals: Mapping[str, Rival] = {
        "live": live,
        "frozen": Steady(old),
        "base stock, kept": Steady(levels),
        "base stock, told at once": Told((levels, raised), CHANGE),
        "optimum, told at once": Told((old, new), CHANGE),
    }
    rng = np.random.default_rng([run.seed, 1])
    chances = [before.draw(len(means), rng) for _ in range(DAYS)]
    found = {name: costs(lambda day: phases[day >= CHANGE], rival, chances) for name, rival in rivals.items()}
    run.say(f"{len(means)} worlds, fitted to the SKUs; on day {CHANGE} of {DAYS} demand becomes {FACTOR} times as much")
    spells = {
        "before the change": slice(FIRST, CHANGE),
        f"in the {SOON} days after it": slice(CHANGE, CHANGE + SOON),
        "thereafter": slice(CHANGE + SOON, DAYS),
    }
    told(run, found, spells)
    alarms(run, live, len(means))
    drawn_costs(run, found)


def told(run: Run, found: Mapping[str, Array], spells: Mapping[str, slice]) -> None:
    """The figures, and a table of all rivals."""

    def mean(name: str, days: slice) -> float:
        return float(found[name][days].mean())

    rows = [(name, *(f"{mean(name, days):.2f}" for days in spells.values())) for name in found]
    run.show(Table(("cost per SKU and day", *spells), rows))
    for when, days in spells.items():
        run.figure(
            f"cost in the fitted world, {when}",
            mean("live", days),
            ("base stock, told at once", mean("base stock, told at once", days)),
            ("optimum, told at once", mean("optimum, told at once", days)),
        )
    for when, days in list(spells.items())[1:]:
        run.figure(
            f"the same, {when}, beside who does not follow",
            mean("live", days),
            ("frozen optimum", mean("frozen", days)),
            ("optimum, told at once", mean("optimum, told at once", days)),
        )


def alarms(run: Run, live: Live, n: int) -> None:
    """When the estimators raised an alarm."""
    # Before that the alarms are right: a SKU does not sell what the manifest takes for granted.
    false = sum(FIRST <= day < CHANGE for day, _ in live.alarms)
    first = {sku: day - CHANGE for day, sku in reversed(live.alarms) if day >= CHANGE}
    run.figure(
        f"days from the change to the alarm (median of {n})", float(np.median([first.get(i, DAYS) for i in range(n)]))
    )
    run.figure(f"false alarms in the {CHANGE - FIRST} days before ({n} SKUs)", float(false))


def drawn_costs(run: Run, found: Mapping[str, Array]) -> None:
    """Cost week by week."""
    shown = (
        ("live", "candidate", False),
        ("frozen", "incumbent", False),
        ("base stock, told at once", "baseline", True),
        ("optimum, told at once", "optimum", True),
    )
    lines = [Line(name, weekly(found[name]).tolist(), role, dashed=dashed) for name, role, dashed in shown]  # type: ignore[arg-type]
    run.show(
        Chart(
            "cost per SKU and day, by week",
            [float(week) for week in range(len(lines[0].y))],
            lines,
            unit="USD",
            marks=[Mark(CHANGE / 7, f"demand × {FACTOR}")],
            timed=False,
            label="week",
        )
    )
