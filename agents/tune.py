"""Tuning: Optuna searches a preset's settings, prunes what lags behind, and gives the best back as a preset.

The study lies in an SQLite file, so that a search that was killed goes on, and several can share one file.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from agents.checkpoint import signature
from agents.presets import Preset
from agents.presets import preset as preset_for
from agents.train import Progress, train
from envs.dynamics import World

# Progress is reported to the pruner on this scale, so that trials of different speed can be compared.
STAGES = 20
LADDER_ACTIONS = 12


class StudyError(ValueError):
    """A file that is no study, or that holds the scores of another search."""


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Args:
        preset: the best settings.
        score: its gap to the optimum in percent, or minus its value where no optimum is known; lower is better.
        trials: all that were started, in this search and in earlier ones on the same file.
        pruned: those that were given up early.
        importance: share of the variation that each setting explains; empty below four finished trials.
    """

    preset: Preset
    score: float
    trials: int
    pruned: int
    importance: Mapping[str, float]


def tune(
    world: World,
    *,
    trials: int,
    steps: int,
    study: Path | None = None,
    algo: str = "ppo",
    seed: int = 0,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    told: Callable[[int, float | None], bool] | None = None,
) -> Tuned:
    """Search the settings of an algorithm for a world.

    Args:
        world: with its nominal parameters.
        trials: trainings to start now.
        steps: budget of each, in environment steps.
        study: SQLite file; where it exists, its trials are taken into account. In memory where None.
        algo: the algorithm, one that acts by logits.
        seed: of the search and of every training.
        ranges: as in `agents.train.train`.
        told: called after each trial with its number and the best score so far; False ends the search.

    Raises:
        StudyError: a file that is no study, or one of other parameters, ranges, steps or seed.
        ValueError: no trial has finished.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    start = preset_for(world.id, algo)
    search = _opened(study, f"{world.id} {algo}", seed, signature([world.params, ranges or {}, steps, seed]))
    if not search.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.WAITING]):
        # A search that was killed in its first trial still begins with the settings that are known to be good.
        search.enqueue_trial(_as_trial(start))

    def objective(trial: optuna.Trial) -> float:
        chosen = suggest(trial, start, world.actions.n)
        bundle = train(world, chosen, seed=seed, steps=steps, ranges=ranges, progress=_Pruning(trial))
        if trial.should_prune():
            raise optuna.TrialPruned
        metrics = bundle.card.metrics
        return metrics["gap"] if "gap" in metrics else -metrics["value"]

    def after(found: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if told is not None and not told(trial.number, _best(found)):
            found.stop()

    # Settings with which a training diverges are a finding, not the end of the search.
    search.optimize(objective, n_trials=trials, callbacks=[after], catch=(ValueError,))
    return _tuned(search, start)


def _opened(file: Path | None, name: str, seed: int, of: str) -> optuna.Study:
    """The study of this name in a file, where its scores can be compared with those to come."""
    try:
        search = optuna.create_study(
            study_name=name,
            storage=None if file is None else f"sqlite:///{file}",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=STAGES // 4),
        )
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise StudyError(f"{file} is no study ({type(error).__name__}): give an SQLite file, or a new name") from None
    if search.user_attrs.get("of", None if search.trials else of) != of:
        raise StudyError(
            f"{file} holds a search with other parameters, ranges, steps or seed, whose scores are not comparable: "
            "give the same, or another file"
        )
    search.set_user_attr("of", of)
    return search


def suggest(trial: optuna.Trial, start: Preset, actions: int) -> Preset:
    """A preset around the one to start from."""
    width = trial.suggest_categorical("width", [32, 64, 128])
    return replace(
        start,
        name=f"{start.name}-tuned",
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
        entropy=trial.suggest_float("entropy", 1e-4, 0.03, log=True),
        gae_lambda=trial.suggest_float("gae_lambda", 0.8, 0.99),
        epochs=trial.suggest_int("epochs", 3, 10),
        batch=trial.suggest_categorical("batch", [512, 1024, 2048, 4096]),
        hidden=(width, width),
        reward_scale=trial.suggest_float("reward_scale", 0.2, 50.0, log=True),
        basis=trial.suggest_categorical("basis", [0, 8, 16]) if actions >= LADDER_ACTIONS else 0,
    )


def _as_trial(start: Preset) -> dict[str, Any]:
    """The settings to start from, as the first trial."""
    names = ("learning_rate", "entropy", "gae_lambda", "epochs", "batch", "reward_scale", "basis")
    return {**{name: getattr(start, name) for name in names}, "width": start.hidden[0]}


class _Pruning:
    """Tells the pruner of each new stage of a training, and ends one that lags behind."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial, self.stage = trial, 0

    def __call__(self, progress: Progress) -> bool:
        stage = int(STAGES * progress.steps / max(progress.total, 1))
        if stage <= self.stage or progress.value is None:
            return True
        self.stage = stage
        self.trial.report(progress.gap if progress.gap is not None else -progress.value, stage)
        return not self.trial.should_prune()


def _finished(search: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return search.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def _best(search: optuna.Study) -> float | None:
    return search.best_value if _finished(search) else None


def _tuned(search: optuna.Study, start: Preset) -> Tuned:
    if not _finished(search):
        raise ValueError("no trial has finished: give more trials, more steps, or rewards that stay finite")
    best = suggest(optuna.trial.FixedTrial(search.best_params), start, _actions(search))  # type: ignore[arg-type]
    pruned = len(search.get_trials(deepcopy=False, states=[TrialState.PRUNED]))
    return Tuned(best, search.best_value, len(search.trials), pruned, _importance(search))


def _actions(search: optuna.Study) -> int:
    return LADDER_ACTIONS if "basis" in search.best_params else 0


def _importance(search: optuna.Study) -> dict[str, float]:
    """Settings by the share of variation that they explain (fANOVA; Hutter, Hoos and Leyton-Brown 2014)."""
    values = {trial.value for trial in _finished(search)}
    if len(values) < 4:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(search, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}


def as_toml(tuned: Tuned) -> str:
    """The preset as TOML, with what was found as a comment; `read_preset` takes it back."""
    lines = [f"# score {tuned.score:.4g} after {tuned.trials} trials, {tuned.pruned} of them pruned"]
    for name, value in asdict(tuned.preset).items():
        if value is None:
            continue
        lines.append(f"{name} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def read_preset(mapping: Mapping[str, Any]) -> Preset:
    """A preset from parsed TOML.

    Raises:
        ValueError: a setting that does not exist, or of another type.
    """
    known = {field.name for field in fields(Preset)}
    if unknown := sorted(set(mapping) - known):
        raise ValueError(f"settings {unknown} do not exist: give some of {', '.join(sorted(known))}")
    try:
        return msgspec.convert(dict(mapping), Preset)
    except msgspec.ValidationError as error:
        raise ValueError(f"the preset cannot be read: {error}") from None
