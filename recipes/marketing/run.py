"""Marketing: who buys, which kinds of households there are, what to send them and when, and what to charge."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from agents.estimators import Index
from agents.figures import Chart, Line
from envs.calibrate import Calibrator, Estimate
from envs.exact import policy_value, solve
from envs.pricing import Pricing, PricingParams
from online.specs import ModelSpec, model_spec
from recipes.marketing.offers import Offers, send
from recipes.marketing.scanner import Past, earned, purchases, situation
from recipes.measures import Array, Flags, auc_half_width, calibration_error, half_width, roc_auc
from recipes.playing import Run, Table
from recipes.rows import YES_NO, Case, Cells, DirtyError, Label, Sheet
from recipes.stream import Stream

LADDER = np.round(np.arange(3.0, 6.01, 0.25), 2)
CROWD, STOCK, PERIODS = 10, 100, 50
"""Households in a period of the pricing world; bottles, and periods, of a season."""

OTHERS: Mapping[str, list[Mapping[str, Any]]] = {
    "naive Bayes": [{"use": "naive_bayes.GaussianNB"}],
    "adaptive forest": [{"use": "forest.ARFClassifier", "n_models": 5, "max_depth": 6, "seed": 1}],
}


def play(run: Run) -> None:
    """From purchases to a service that predicts, sends offers and asks prices."""
    run.stage("collect and prepare")
    cases = collect(run)
    bought = np.array([case.label for case in cases], bool)
    run.say(f"{bought.mean():.1%} of the purchases were ours; a household's past is what it did before each of them")
    run.stage("features")
    spec = run.manifest.models["conversion"]
    run.say(f"{len(spec.features or {})} features, declared in trimtab.toml; whose purchase it is stays beside")
    run.stage("choose")
    choose(run, spec, cases)
    run.stage("train and validate")
    chances = streamed(spec, cases)
    validate(run, cases, chances, bought)
    segment(run, cases, bought)
    run.stage("evaluate and test")
    offers = offered(cases, chances)
    send(run, offers)
    price(run, cases)
    run.stage("deploy")
    run.serve("conversion", cases)
    run.play_along("price", "simulate", "price", "--entities", "5", "--decisions", "500")
    run.stage("monitor and maintain")
    watch(run, spec, cases)


def sample() -> Iterable[Cells]:
    """Rows as a file of yours may have them."""
    return islice(purchases(), 500)


def collect(run: Run, least: int = 400) -> Sequence[Case]:
    """The rows as cases."""
    sheet = Sheet(Label("bought", YES_NO), {"household": True}, Past().prepared, ("loyal", "deals"), least)
    return run.cases("conversion", purchases, sheet)


def streamed(spec: ModelSpec, cases: Sequence[Case]) -> Array:
    """A chance for each purchase, given before it was learned."""
    stream = Stream(spec)
    chances = np.zeros(len(cases))
    for i, case in enumerate(cases):
        chances[i] = stream.chance(case)
        stream.show(case, label=case.label)
    return chances


def choose(run: Run, spec: ModelSpec, cases: Sequence[Case]) -> None:
    """Compare pipelines on the first half of the rows alone."""
    half = cases[: len(cases) // 2]
    truth = np.array([case.label for case in half], bool)
    source = {name: value for name, value in spec.source.items() if name not in ("pipeline", "detectors")}
    others = {name: model_spec("conversion", {**source, "pipeline": steps}) for name, steps in OTHERS.items()}
    rows = []
    for name, one in {"logistic regression (declared)": spec, **others}.items():
        rows.append((name, f"{roc_auc(streamed(one, half), truth):.3f}"))
        run.tell(f"  {name}: area {rows[-1][1]} on half of the rows")
    run.show(Table(("pipeline", "area under the curve"), rows))


def validate(run: Run, cases: Sequence[Case], chances: Array, bought: Flags) -> None:
    """How well the second half is foretold, each purchase before it is learned."""
    late = slice(len(cases) // 2, None)
    truth, own = bought[late], chances[late]
    by_hand = np.array([float(case.features["others"]) - float(case.features["price"]) for case in cases[late]])  # type: ignore[arg-type]
    area = roc_auc(own, truth)
    width = auc_half_width(area, int(truth.sum()), int((~truth).sum()))
    run.figure(f"area under the curve (± {width:.3f})", area, ("by how cheap we are", roc_auc(by_hand, truth)))
    rate = np.full(len(truth), bought[: late.start].mean())
    run.figure(
        "distance of chances from what came true",
        calibration_error(own, truth),
        ("the share so far", calibration_error(rate, truth)),
    )


def segment(run: Run, cases: Sequence[Case], bought: Flags) -> None:
    """Kinds of households: found without labels on the first half, told apart by what they bought in the second."""
    half = len(cases) // 2
    spec = run.manifest.models["segments"]
    stream = Stream(spec)
    seen = [replace(case, features={name: case.features[name] for name in spec.features or {}}) for case in cases]
    for case in seen[:half]:
        stream.show(case)
    kinds = np.array([stream.predict(case).value for case in seen[half:]])
    rows, rates = [], []
    for kind in sorted(set(kinds.tolist())):
        member = kinds == kind
        part = [case.features for case, here in zip(seen[half:], member, strict=True) if here]
        means = [float(np.mean([float(one[name]) for one in part])) for name in ("loyal", "deals")]  # type: ignore[arg-type]
        rate = float(bought[half:][member].mean())
        rows.append((str(kind), f"{member.sum():,}", *(f"{mean:.2f}" for mean in means), f"{rate:.2f}"))
        if member.sum() >= 50:
            rates.append(rate)
    run.show(Table(("segment", "purchases", "loyal", "deals", "share ours, later"), rows))
    run.figure("segments found, of 50 purchases or more", float(len(rates)))
    run.figure("share ours in the best segment", max(rates), ("in the worst", min(rates)))


def offered(cases: Sequence[Case], chances: Array) -> Offers:
    """The second half of the purchases, as households to whom an offer may go."""
    half = len(cases) // 2
    clipped = np.clip(chances[half:], 0.01, 0.99).tolist()
    known = [situation(case.features, chance) for case, chance in zip(cases[half:], clipped, strict=True)]
    return Offers(known, np.array([list(earned(one["chance"], one).values()) for one in known]))


def price(run: Run, cases: Sequence[Case]) -> None:
    """What to charge: the pricing world fitted to the purchases, and what a season is worth in it."""
    prices = np.array([case.features["price"] for case in cases], float)
    estimate = fitted(prices, np.array([case.label for case in cases], float))
    found = estimate.params()
    usual = int(np.abs(LADDER - prices.mean()).argmin())
    for name, value, error in zip(estimate.columns, estimate.values, estimate.standard_errors, strict=True):
        run.say(f"{name} of the pricing world: {value:.2f} ± {1.96 * error:.2f}")
    world = season(**found)
    best = solve(world)
    fixed = [policy_value(world, np.tile(np.arange(len(LADDER)) == rung, (len(best.actions), 1))) for rung in ladder()]
    run.figure(
        f"income of a season at the usual price of {LADDER[usual]:.2f}, share of the optimum",
        fixed[usual] / best.value,
        (f"best fixed price, {LADDER[int(np.argmax(fixed))]:.2f}", max(fixed) / best.value),
        ("exact, price by stock and time", 1.0),
    )
    other = season(found["volume"], float(estimate.upper[estimate.columns.index("sensitivity")]))
    held, right = policy_value(other, best.policy), solve(other).value
    run.figure(
        "the same policy, were customers as sensitive as the interval allows", held / right, None, ("exact", 1.0)
    )
    drawn(run, prices, cases, found)


def ladder() -> range:
    """Places on the ladder of prices."""
    return range(len(LADDER))


def season(volume: float, sensitivity: float) -> Pricing:
    """The pricing world with these customers."""
    return Pricing(PricingParams(STOCK, PERIODS, volume, sensitivity, LADDER))


def crowds(prices: Array, bought: Array) -> tuple[Index, Array]:
    """Ten households each who saw about the same price: its place on the ladder, and how many of them bought.

    Prices beyond the ladder are left out: they are mistakes, or say nothing about it.
    """
    distance = np.abs(prices[:, None] - LADDER)
    rungs = np.where(distance.min(axis=1) <= 0.125, distance.argmin(axis=1), -1)
    parts = [bought[rungs == rung] for rung in ladder()]
    tens = [part[: len(part) // CROWD * CROWD].reshape(-1, CROWD).sum(axis=1) for part in parts]
    return np.repeat(np.arange(len(tens)), [len(ten) for ten in tens]), np.concatenate(tens)


def fitted(prices: Array, bought: Array) -> Estimate:
    """The parameters that the purchases speak for. Raises `DirtyError` where one price tells nothing."""
    rungs, sold = crowds(prices, bought)
    if len(set(rungs.tolist())) < 2:
        raise DirtyError("the prices do not differ enough: give at least ten purchases each at two prices from 3 to 6")
    calibrator = Calibrator(season(30.0, 0.6))
    calibrator.learn_many(np.tile([float(STOCK), 0.0], (len(sold), 1)), rungs, {"sold": sold})
    return calibrator.estimate()


def drawn(run: Run, prices: Array, cases: Sequence[Case], found: Mapping[str, float]) -> None:
    """What sold at each price, beside the fitted world."""
    rungs, sold = crowds(prices, np.array([case.label for case in cases], float))
    known = [rung for rung in ladder() if (rungs == rung).sum() >= 3]
    means = [float(sold[rungs == rung].mean()) for rung in known]
    widths = [half_width(sold[rungs == rung]) for rung in known]
    fit = [found["volume"] * float(np.exp(-found["sensitivity"] * LADDER[rung])) for rung in known]
    lines = [
        Line(
            "sold",
            means,
            low=[mean - width for mean, width in zip(means, widths, strict=True)],
            high=[mean + width for mean, width in zip(means, widths, strict=True)],
        ),
        Line("the world, fitted", fit, "candidate", dashed=True),
    ]
    x = [float(LADDER[rung]) for rung in known]
    run.show(Chart("sold to ten households", x, lines, timed=False, label="price, cents an ounce"))


def watch(run: Run, spec: ModelSpec, cases: Sequence[Case]) -> None:
    """A drill: in the last third, everything costs 30 % more."""
    begin = len(cases) * 2 // 3
    stream = Stream(spec)
    for i, case in enumerate(cases):
        dearer = {name: float(case.features[name]) * (1.3 if i >= begin else 1.0) for name in ("price", "others")}  # type: ignore[arg-type]
        stream.show(replace(case, features={**case.features, **dearer}), label=case.label)
    after = [alarm.cases - begin for alarm in stream.alarms if alarm.cases > begin]
    run.figure("drill, all prices 30 % higher: purchases until the alarm", float(after[0]) if after else float("nan"))
    run.figure("false alarms before", float(sum(alarm.cases <= begin for alarm in stream.alarms)))
    late = [f"{alarm.name} after {alarm.cases:,}" for alarm in stream.alarms]
    run.say(f"alarms: {', '.join(late) or 'none'}")
