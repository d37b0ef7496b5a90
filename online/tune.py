"""Tuning a model: Optuna searches the declared space through the back-test; the last rows are never touched.

What is found is judged once, on the rows that the search did not see, beside the model as declared.
"""

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from online.backtest import Row, backtest
from online.comparison import BLOCKS, block_means, judged
from online.components import construct
from online.memory_log import MemoryLog
from online.reading import SpecError
from online.specs import ModelSpec, model_spec

HELD_OUT = 0.2
REDUNDANT = 0.98
"""The correlation from which on two features say the same."""

_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")


class TuneError(ValueError):
    """A search that cannot be: what was given, what is allowed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What one setting may be: a number from ``low`` to ``high`` (a whole one where both are), or one of ``options``.

    ``log`` searches orders of magnitude.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    options: tuple[Any, ...] = ()

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """A value for a trial."""
        if self.options:
            return trial.suggest_categorical(name, list(self.options))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean difference of two errors over the same ``rows``, between ``low`` and ``high`` with 95 % confidence.

    From a t-test on the means of `BLOCKS` blocks: errors that follow one another are not independent.
    """

    mean: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a search found.

    ``before`` and ``after`` are mean errors on the rows held out, of the model as declared and with ``settings``: 0 or
    1 for classes, absolute for numbers. ``saved`` is the one less the other, row by row, with its interval. ``score``
    is the best value of ``metric`` in the search, in that metric's own unit. ``useless`` features were not found to
    help, in the rows searched and with ``settings``; ``redundant`` ones say the same as another. ``left`` are the
    challengers, which a search neither plays nor changes.
    """

    settings: Mapping[str, Any]
    metric: str
    score: float
    before: float
    after: float
    trials: int
    searched: int
    held_out: int
    saved: Difference | None = None
    useless: tuple[tuple[str, Difference], ...] = ()
    redundant: tuple[tuple[str, str, float], ...] = ()
    left: tuple[str, ...] = ()


def choices(table: Mapping[str, Any]) -> dict[str, Choice]:
    """A declared space: paths into the model's table, each with ``{low, high, log}`` or a list of options.

    Raises:
        TuneError: A choice is none.

    >>> choices({"pipeline[1].optimizer.lr": {"low": 0.001, "high": 0.1, "log": True}})["pipeline[1].optimizer.lr"].high
    0.1
    """
    found = {}
    for path, given in table.items():
        allowed = f"{path}: given {given!r}; allowed is {{low = .., high = .., log = ..}} with low < high, or a list"
        if isinstance(given, list | tuple) and given:
            found[path] = Choice(options=tuple(given))
            continue
        if not isinstance(given, Mapping) or not given.keys() <= {"low", "high", "log"}:
            raise TuneError(allowed)
        low, high, log = _number(given.get("low")), _number(given.get("high")), given.get("log", False)
        if low is None or high is None or low >= high or not isinstance(log, bool) or (log and low <= 0):
            raise TuneError(allowed)
        found[path] = Choice(low, high, log)
    if not found:
        raise TuneError("there is nothing to search: declare at least one setting with its range")
    return found


def _number(given: object) -> float | None:
    return given if isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given) else None


def placed(table: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a model's table with one setting changed.

    Raises:
        TuneError: The path leads nowhere.

    >>> placed({"pipeline": [{"use": "a", "lr": 1}]}, "pipeline[0].lr", 2)
    {'pipeline': [{'use': 'a', 'lr': 2}]}
    """
    made: dict[str, Any] = copy.deepcopy(dict(table))
    *steps, last = [int(part[1:-1]) if part.startswith("[") else part for part in _STEP.findall(path)]
    place: Any = made
    try:
        for step in steps:
            place = place[step]
        if not isinstance(place, dict if isinstance(last, str) else list):
            raise TypeError
        place[last] = value
    except (LookupError, TypeError):
        raise TuneError(f"the path {path!r} leads nowhere in the model; its fields are {', '.join(table)}") from None
    return made


def tune(
    spec: ModelSpec,
    space: Mapping[str, Choice],
    rows: Sequence[Row],
    *,
    trials: int = 30,
    held_out: float = HELD_OUT,
    seed: int = 0,
    features: bool = True,
    told: Callable[[int, float | None], None] | None = None,
) -> Tuned:
    """Search the settings of a declared model over the first rows, and judge the best on those held out.

    Args:
        spec: The model as declared; its first metric is what the search improves.
        space: By path into the model's table.
        rows: In order. The last share ``held_out`` is played only once the search is over.
        trials: Back-tests to run; the first is of the model as declared.
        held_out: Share of the rows.
        seed: Of the search.
        features: Whether to look for features that are useless or redundant, with one more back-test for each.
        told: Called after each trial with its number and the best score so far.

    Raises:
        TuneError: A path leads nowhere, there are too few rows, or none of them is scored.
        SpecError: A setting makes a model that cannot be.
    """
    cut = len(rows) - round(held_out * len(rows))
    if not 0.0 < held_out < 1.0 or cut < BLOCKS or len(rows) - cut < BLOCKS:
        raise TuneError(
            f"{len(rows)} rows with a share of {held_out} held out; allowed are {BLOCKS} or more on each side"
        )
    searched, alone = rows[:cut], _alone(spec)
    for path in space:
        placed(alone.source, path, None)
    settings, score, done = _search(alone, space, searched, trials, seed, told)
    best = _with(alone, settings)
    useless, redundant = judge_features(best, searched) if features else ((), ())
    before, after = (backtest(model, rows, MemoryLog()).errors[cut:] for model in (alone, best))
    return Tuned(
        settings,
        spec.metrics[0].use.rpartition(".")[2],
        score,
        _mean(before),
        _mean(after),
        done,
        cut,
        len(rows) - cut,
        _difference(before, after),
        useless,
        redundant,
        tuple(sorted(spec.challengers)),
    )


def _alone(spec: ModelSpec) -> ModelSpec:
    """The model without its challengers: a switch among them would hide what a setting is worth."""
    table = {name: given for name, given in spec.source.items() if name not in ("challengers", "comparison")}
    return model_spec(spec.name, table) if spec.challengers else spec


def _search(
    spec: ModelSpec,
    space: Mapping[str, Choice],
    rows: Sequence[Row],
    trials: int,
    seed: int,
    told: Callable[[int, float | None], None] | None,
) -> tuple[dict[str, Any], float, int]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bigger = bool(construct(spec.metrics[0]).bigger_is_better)
    study = optuna.create_study(
        direction="maximize" if bigger else "minimize", sampler=optuna.samplers.TPESampler(seed=seed)
    )
    declared = backtest(spec, rows, MemoryLog()).metrics
    if not declared:
        raise TuneError(
            f"none of {len(rows)} rows was scored, as the model is declared: see what `trimtab backtest` says of them"
        )
    name = next(iter(declared))
    best: tuple[float, dict[str, Any]] = (_finite(declared[name], bigger), {})
    for number in range(1, trials):
        trial = study.ask()
        settings = {path: choice.suggest(trial, path) for path, choice in space.items()}
        scores = backtest(_with(spec, settings), rows, MemoryLog()).metrics
        value = _finite(scores.get(name, math.nan), bigger)
        study.tell(trial, value)
        if (value > best[0]) if bigger else (value < best[0]):
            best = value, settings
        if told is not None:
            told(number + 1, best[0])
    return best[1], best[0], trials


def _finite(value: float, bigger: bool) -> float:
    """A model whose predictions are not finite has the worst score there is."""
    return value if math.isfinite(value) else (-1e300 if bigger else 1e300)


def _with(spec: ModelSpec, settings: Mapping[str, Any]) -> ModelSpec:
    table: Mapping[str, Any] = spec.source
    for path, value in settings.items():
        table = placed(table, path, value)
    try:
        return model_spec(spec.name, table)
    except SpecError as error:
        raise TuneError(f"the settings {dict(settings)} make a model that cannot be: {error}") from error


def _mean(errors: Sequence[float]) -> float:
    known = [error for error in errors if error == error]
    return math.fsum(known) / len(known) if known else math.nan


def _difference(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """How much larger the first errors are, where both are known; ``None`` where too few are."""
    differences = [a - b for a, b in zip(first, second, strict=True) if a == a and b == b]
    if len(differences) < BLOCKS:
        return None
    found = judged("", block_means(differences), len(differences) // BLOCKS * BLOCKS, 0.025)
    return Difference(found.difference, found.low, found.high, found.labels)


def judge_features(
    spec: ModelSpec, rows: Sequence[Row]
) -> tuple[tuple[tuple[str, Difference], ...], tuple[tuple[str, str, float], ...]]:
    """Features that the model could do without: useless ones with what was measured of them, and pairs that say the
    same with their correlation.

    A feature is useless where the model was not found to err more without it: where the interval of the error without
    it, less that with it, reaches down to 0.
    """
    names = sorted({name for row in rows for name in row.features})
    redundant = tuple(
        (first, second, correlation)
        for place, first in enumerate(names)
        for second in names[place + 1 :]
        if abs(correlation := _correlation(rows, first, second)) >= REDUNDANT
    )
    doubled = {name for first, second, _ in redundant for name in (first, second)}
    if len(names) < 2:
        return (), redundant
    errors = backtest(spec, rows, MemoryLog()).errors
    measured = [(name, _worse_without(spec, rows, name, errors)) for name in names if name not in doubled]
    return tuple((name, found) for name, found in measured if found is not None and found.low <= 0.0), redundant


def _worse_without(spec: ModelSpec, rows: Sequence[Row], name: str, errors: Sequence[float]) -> Difference | None:
    """The error without a feature, less that with it; ``None`` where the model cannot be without it."""
    declared = spec.source.get("features")
    table = dict(spec.source)
    if declared is not None:
        table["features"] = {feature: given for feature, given in declared.items() if feature != name}
    fewer = [Row({n: v for n, v in row.features.items() if n != name}, row.label, row.key, row.at) for row in rows]
    try:
        needless = model_spec(spec.name, table)
    except SpecError:
        # Another feature is made of it, or a detector watches it.
        return None
    return _difference(backtest(needless, fewer, MemoryLog()).errors, errors)


def _correlation(rows: Sequence[Row], first: str, second: str) -> float:
    """Pearson's correlation of two features where both are numbers; 0 where one never varies."""
    pairs = [(row.features.get(first), row.features.get(second)) for row in rows]
    numbers = [(float(a), float(b)) for a, b in pairs if isinstance(a, int | float) and isinstance(b, int | float)]
    if len(numbers) < 2:
        return 0.0
    means = [math.fsum(column) / len(numbers) for column in zip(*numbers, strict=True)]
    centred = [(a - means[0], b - means[1]) for a, b in numbers]
    squares = math.fsum(a * a for a, _ in centred) * math.fsum(b * b for _, b in centred)
    return math.fsum(a * b for a, b in centred) / math.sqrt(squares) if squares > 0.0 else 0.0
