"""Training: a world, a preset and a budget in, a bundle out; Stable-Baselines3 on batched worlds."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import astuple
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from agents.algorithms import build, kind_of, outputs, served
from agents.baselines import BASELINES
from agents.bundle import Bundle, BundleError, Card, CurvePoint, pack, unpack
from agents.cards import actions_of, fields_of, in_words, params_of, versions
from agents.checkpoint import restore, save, signature
from agents.curves import ended
from agents.export import export
from agents.features import Layout
from agents.networks import anchored, dump_weights, load_weights, soften
from agents.policy import Array, Observation, softmax
from agents.presets import Preset
from agents.presets import preset as preset_for
from agents.ranges import Family
from agents.runtime import load
from agents.selection import Score, Selection, met, starts_of
from agents.shaping import shaping
from agents.tabular import write_out
from agents.vecenv import WorldVecEnv
from envs.dynamics import World

ENDLESS = 10**12
# Share of the time that may go into comparing checkpoints.
SELECTION_SHARE = 0.08
# An untrained policy is slow to evaluate exactly, and never the best.
FIRST_SELECTION = 0.05
# Where steps are the budget, a comparison at each such share of it: the clock must not decide what is kept.
SELECTION_EVERY = 0.04
SAVE_SECONDS = 5.0
# Comparisons without a better checkpoint before patience may end.
STALE = 5
PROGRESS_SECONDS = 1.0
AGREEMENT = 1e-5
AGREEMENT_ROWS = 10_000


class StartError(ValueError):
    """A bundle from which this training cannot go on."""


@dataclass(frozen=True)
class Progress:
    """How far training is.

    Args:
        steps: environment steps done.
        total: those expected in all.
        rate: steps per second, learning included.
        value: mean value of the best checkpoint so far (None before the first).
        gap: its gap to the optimum in percent, where that is known.
        seconds_left: expected.
    """

    steps: int
    total: int
    rate: float
    value: float | None
    gap: float | None
    seconds_left: float


@dataclass(frozen=True)
class Budget:
    """How long to train: environment steps, or seconds of the given clock."""

    steps: int | None
    seconds: float | None

    def share(self, steps: int, seconds: float) -> float:
        """How much of it is used, 0 to 1."""
        used = steps / self.steps if self.steps else seconds / (self.seconds or 1.0)
        return min(1.0, used)


def budget_of(steps: int | None, minutes: float | None) -> Budget | None:
    """The budget that was asked for, None where none was.

    Raises:
        ValueError: both, or one in which nothing could be learned.
    """
    if steps is not None and minutes is not None:
        raise ValueError(f"steps {steps} and minutes {minutes} were given: give one of them")
    if steps is not None and steps < 1:
        raise ValueError(f"steps {steps} was given: give at least 1, or leave it out")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"minutes {minutes} was given: give a finite number above 0, or leave it out")
    return None if steps is minutes is None else Budget(steps, None if minutes is None else 60 * minutes)


def train(
    world: World,
    preset: Preset | None = None,
    *,
    algo: str = "ppo",
    seed: int = 0,
    steps: int | None = None,
    minutes: float | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    start: Bundle | None = None,
    progress: Callable[[Progress], bool] | None = None,
    threads: int = 1,
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Bundle:
    """Train a policy and return it as a bundle that has been checked against the trainer's own outputs.

    Args:
        world: with its nominal parameters.
        preset: settings; by default those found for this world and algorithm.
        algo: `ppo` (`maskable-ppo` where the world forbids actions), `a2c` or `dqn`; `exact` or a baseline's name
            writes that policy out instead.
        seed: of everything random; with `steps`, the same seed gives the same policy.
        steps: budget in environment steps.
        minutes: budget in minutes of `clock`; by default the preset's.
        ranges: (low, high) of parameters that are redrawn for each episode and shown to the policy.
        start: a bundle of the same world whose network is trained on.
        progress: called about once a second; False ends the training, and what is best so far is returned.
        threads: CPU threads of torch; this is a setting of the whole process.
        checkpoint: a file that is written every few seconds and removed at the end. Where it exists already, training
            goes on from it; with `steps`, to the same policy as if it had never been interrupted.
        clock: seconds; `time.process_time` makes `minutes` CPU minutes.

    Raises:
        ValueError: both budgets or an empty one, an unknown algorithm.
        StartError: a start of another world, of another family of algorithms, or with other actions.
        BundleError: an exported graph that disagrees with the trainer.
    """
    asked = budget_of(steps, minutes)
    if preset is None and (algo == "exact" or algo in BASELINES.get(world.id, ())):
        return write_out(world, algo)
    family = Family(world, ranges or {})
    settings = settings_for(family, preset or preset_for(world.id, algo), warm=start is not None)
    if start is not None:
        _require_start(start.card, world, settings)
    torch.set_num_threads(threads)
    plan = _Plan(family, settings, seed, asked or Budget(None, 60 * settings.minutes), start, checkpoint)
    run = _Run(plan, progress, clock)
    actor, weights = run.learn()
    return _released(run, actor, weights)


def settings_for(family: Family, preset: Preset, *, warm: bool = False) -> Preset:
    """The preset as these worlds need it: masks where actions are forbidden, and the discount of shaped rewards.

    Args:
        family: the worlds to train on.
        preset: settings as they were given.
        warm: whether training goes on from another policy.

    Raises:
        ValueError: an algorithm that cannot act in these worlds.
    """
    world, settings = family.world, preset.warm if warm else preset
    if len(world.actions.nvec) > 1 and kind_of(settings.algo).output == "values":
        raise ValueError(f"an action of {world.id} is a product of {len(world.actions.nvec)} lists: use ppo or a2c")
    if not kind_of(settings.algo).masks and _forbids(world):
        if settings.algo != "ppo":
            raise ValueError(
                f"{world.id} forbids actions in some states, which {settings.algo} cannot heed: use maskable-ppo"
            )
        settings = replace(settings, algo="maskable-ppo")
    if settings.shaped and settings.shaped_discount and shaping(family) is not None:
        settings = replace(settings, discount=settings.shaped_discount)
    return settings


@dataclass(frozen=True)
class _Plan:
    """What is to be trained, on what, how long, and from where."""

    family: Family
    preset: Preset
    seed: int
    budget: Budget
    start: Bundle | None
    checkpoint: Path | None

    @property
    def signature(self) -> str:
        """The same for two calls that mean the same training."""
        world, start = self.family.world, self.start.digest if self.start else ""
        parts = [world.id, params_of(world), dict(self.family.ranges), asdict(self.preset)]
        return signature([*parts, self.seed, asdict(self.budget), start])


class _Run(BaseCallback):
    """One training: it watches the budget, compares checkpoints and tells how far it is."""

    def __init__(self, plan: _Plan, progress: Callable[[Progress], bool] | None, clock: Callable[[], float]) -> None:
        super().__init__()
        self.plan, self.tell, self.clock = plan, progress, clock
        self.family, self.preset, self.seed, self.budget = plan.family, plan.preset, plan.seed, plan.budget
        self.selection = Selection(self.family, self.seed)
        self.env = WorldVecEnv(self.family, self.preset, self.seed, self._starts())
        self.algorithm = self._algorithm()
        if plan.start is not None:
            _load_start(self.algorithm.policy, plan.start, self.family.world)
        self.began = clock()
        self.best: Score | None = None
        self.curve: list[CurvePoint] = []
        self.best_share, self.stale = 0.0, 0
        self.kept = self._state()
        self.selecting = 0.0
        self.next_share = FIRST_SELECTION
        self.saved = self.began
        # SB3 puts its callback's own fields in place when learning starts; until then a restored state must wait.
        self.resumes = plan.checkpoint is not None and plan.checkpoint.exists()
        if (plan.start is not None or anchored(self.algorithm.policy)) and not self.resumes:
            # What training starts from may already be the best.
            self._compare()
        if plan.start is not None and not self.resumes and kind_of(self.preset.algo).output == "logits":
            soften(self.algorithm.policy, self.preset.softened_by(self.best.gap if self.best else None))
        self.told = self.began

    def _starts(self) -> Array | None:
        states = starts_of(self.family.world)
        return states if states is not None else met(self.family.world, self.seed)

    def _algorithm(self) -> Any:
        algorithm: Any = build(self.env, self.preset, layout_of(self.family), self.seed)
        algorithm.anneal(self.share, self.preset)
        return algorithm

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.began

    @property
    def steps(self) -> int:
        """Environment steps done."""
        return int(self.algorithm.num_timesteps)

    def share(self) -> float:
        """How much of the budget is used."""
        return self.budget.share(self.steps, self.seconds)

    def outputs(self, observation: Observation) -> NDArray[np.float32]:
        """The current network's outputs."""
        return outputs(served(self.algorithm), observation)

    def learn(self) -> tuple[nn.Module, bytes]:
        """Train, and give back the best checkpoint."""
        if self.resumes:
            self._restore()
        self.algorithm.learn(ENDLESS, callback=self, log_interval=None, reset_num_timesteps=not self.resumes)
        self._compare()
        self.algorithm.policy.load_state_dict(self.kept)
        if self.plan.checkpoint is not None:
            self.plan.checkpoint.unlink(missing_ok=True)
        return served(self.algorithm), dump_weights(self.algorithm.policy)

    def scored(self, temperatures: tuple[float, ...]) -> Score:
        """The current network at the best of these temperatures."""
        return self.selection.best(self.outputs, temperatures)

    def _on_step(self) -> bool:
        now = self.clock()
        if self.tell is not None and now - self.told >= PROGRESS_SECONDS:
            self.told = now
            if not self.tell(self._progress()):
                return False
        done = self.share()
        stale = self.stale >= STALE and done - self.best_share > self.preset.patience
        return done < 1.0 and not stale

    def _on_rollout_start(self) -> None:
        if self._due():
            self._compare()
        if self.plan.checkpoint is not None and self.steps and self.clock() - self.saved >= SAVE_SECONDS:
            self._save()

    def _due(self) -> bool:
        """Whether to compare: at fixed steps where steps are the budget, else as often as time allows."""
        if self.budget.steps is None:
            return self.share() >= self.next_share and self.selecting <= SELECTION_SHARE * self.seconds
        due = self.share() >= self.next_share
        self.next_share += SELECTION_EVERY * due
        return due

    def _save(self) -> None:
        numbers = {"seconds": self.seconds, "selecting": self.selecting, "next_share": self.next_share}
        best = {"best_share": self.best_share, "stale": self.stale, "kept": self.kept}
        score = asdict(self.best) if self.best else None
        watch = {**numbers, **best, "score": score, "curve": [astuple(point) for point in self.curve]}
        save(self.plan.checkpoint or Path(), self.algorithm, self.env, watch, self.plan.signature)
        self.saved = self.clock()

    def _restore(self) -> None:
        watch = restore(self.plan.checkpoint or Path(), self.algorithm, self.env, self.plan.signature)
        self.began = self.clock() - watch["seconds"]
        self.selecting, self.next_share = watch["selecting"], watch["next_share"]
        self.best_share, self.stale, self.kept = watch["best_share"], watch["stale"], watch["kept"]
        self.best = Score(**watch["score"]) if watch["score"] else None
        self.curve = [CurvePoint(*point) for point in watch["curve"]]

    def _compare(self) -> None:
        began = self.clock()
        score = self.selection.score(self.outputs, min(self.temperatures))
        # DQN first fills its memory: nothing can be better before it learns.
        self.stale += self.algorithm._n_updates > 0
        if score.beats(self.best):
            self.best, self.kept, self.best_share, self.stale = score, self._state(), self.share(), 0
            self.curve.append(CurvePoint(self.steps, score.gap, self.seconds, score.value))
        self.selecting += self.clock() - began

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures of the softmax; 0, the arg-max, where action values are served."""
        return self.preset.temperatures if kind_of(self.preset.algo).output == "logits" else (0.0,)

    def _state(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.algorithm.policy.state_dict().items()}

    def _progress(self) -> Progress:
        seconds, share = max(self.seconds, 1e-9), max(self.share(), 1e-9)
        value, gap = (self.best.value, self.best.gap) if self.best else (None, None)
        total = self.budget.steps or int(self.steps / share)
        return Progress(self.steps, total, self.steps / seconds, value, gap, seconds * (1 - share) / share)


def layout_of(family: Family) -> Layout:
    """How the observation of these worlds is laid out."""
    world = family.world
    names = tuple(entry.name for entry in world.context)
    return Layout(world.id, names, family.columns, vars(world.params), family.bounds)


def _require_start(card: Card, world: World, preset: Preset) -> None:
    """Refuse a start that is for another world, that never learned, or whose outputs mean something else."""
    if card.world != world.id:
        raise StartError(f"the bundle to start from is for {card.world!r}: give one for {world.id!r}")
    if card.kind != "network":
        raise StartError(f"the bundle to start from is a {card.kind} ({card.algo or 'imported'}), which never learned")
    if card.output != kind_of(preset.algo).output:
        raise StartError(f"the bundle to start from was learned by {card.algo}, from which {preset.algo} cannot go on")


def _load_start(policy: nn.Module, start: Bundle, world: World) -> None:
    """Put the start's numbers into a policy that was just built."""
    theirs, needed = start.card.actions, actions_of(world)
    try:
        load_weights(policy, start.weights)
    except ValueError as error:
        if (theirs.n, theirs.factors) == (needed.n, needed.factors):
            raise StartError(str(error)) from None
        raise StartError(
            f"the bundle to start from has {in_words(theirs)}, {world.id} with these parameters has "
            f"{in_words(needed)}: start from one for as many, or train from scratch"
        ) from None


def _forbids(world: World) -> bool:
    """Whether some action is not allowed in some state (looked for among all states, or at the start)."""
    states = starts_of(world)
    shown = states if states is not None else world.initial(1, np.random.default_rng(0))
    return not bool(np.array(world.allowed(shown)).all())


def _released(run: _Run, actor: nn.Module, weights: bytes) -> Bundle:
    """The bundle at the best temperature at which the graph agrees with the trainer.

    The lower the temperature, the more the last digits of a logit weigh; on some observation they may weigh too much.
    """
    left = run.temperatures
    while True:
        score = run.scored(left)
        bundle = _bundle(run, score, actor, weights)
        left = tuple(temperature for temperature in left if temperature > score.temperature)
        try:
            require_agreement(bundle, actor, run.seed)
        except BundleError:
            if not left:
                raise
        else:
            return bundle


def _bundle(run: _Run, score: Score, actor: nn.Module, weights: bytes) -> Bundle:
    family, preset = run.family, run.preset
    seconds = run.seconds
    metrics = {"value": score.value, "seconds": seconds, "steps_per_second": run.steps / max(seconds, 1e-9)}
    gaps = {"gap": score.gap, "gap_greedy": score.gap_greedy}
    card = Card(
        world=family.world.id,
        params=params_of(family.world),
        ranges={name: (float(low), float(high)) for name, (low, high) in family.ranges.items()},
        actions=actions_of(family.world),
        observation=fields_of(family),
        output=kind_of(preset.algo).output,
        epsilon=preset.epsilon,
        algo=preset.algo,
        preset=preset.name,
        seed=run.seed,
        steps=run.steps,
        temperature=score.temperature or 1.0,
        metrics=metrics | {name: gap for name, gap in gaps.items() if gap is not None},
        versions=versions(),
        digests={"start": run.plan.start.digest} if run.plan.start else {},
        curve=ended(run.curve, CurvePoint(run.steps, score.gap, seconds, score.value)),
    )
    return unpack(pack(card, export(actor, len(card.observation)), weights))


def require_agreement(bundle: Bundle, actor: nn.Module, seed: int) -> None:
    """Refuse a bundle whose probabilities differ from the trainer's on 10,000 observations, extreme ones included.

    Raises:
        BundleError: a difference of more than 1e-5.
    """
    rng = np.random.default_rng([seed, 3])
    low = np.array([field.low if field.low is not None else -1e3 for field in bundle.card.observation])
    high = np.array([field.high if field.high is not None else 1e3 for field in bundle.card.observation])
    u = rng.random((AGREEMENT_ROWS, len(low)))
    # Every tenth row sits on the bounds themselves.
    u[::10] = np.round(u[::10])
    observation = (low + (high - low) * u).astype(np.float32)
    policy, expected = load(bundle), outputs(actor, observation)
    every = np.ones(expected.shape, bool)
    if bundle.card.output == "logits":
        wanted = softmax(expected, every, bundle.card.temperature, bundle.card.actions.factors)
        worst = float(np.abs(policy.probabilities(observation, every) - wanted).max())
    else:
        worst = float((np.abs(policy.outputs(observation) - expected) / (1 + np.abs(expected))).max())
    if not worst <= AGREEMENT:
        raise BundleError(f"the exported graph differs from the trainer by {worst:.2e} in probability: not released")
