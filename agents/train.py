"""Training: a world, a preset and a budget in, a bundle out; Stable-Baselines3 on batched worlds."""

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from agents.bundle import Actions, Bundle, BundleError, Card, ObservationField, pack, unpack
from agents.export import export
from agents.networks import Actor, Features, LadderPolicy, Layout, dump_weights, load_weights
from agents.policy import Observation
from agents.presets import Preset
from agents.presets import preset as preset_for
from agents.ranges import Family
from agents.runtime import load
from agents.selection import Score, Selection, starts_of
from agents.vecenv import WorldVecEnv
from envs.dynamics import Field, World

ENDLESS = 10**12
# Share of the time that may go into comparing checkpoints.
SELECTION_SHARE = 0.08
PROGRESS_SECONDS = 1.0
AGREEMENT = 1e-5
AGREEMENT_ROWS = 10_000
LIBRARIES = ("numpy", "torch", "stable-baselines3", "onnx", "onnxruntime")


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
    clock: Callable[[], float] = time.monotonic,
) -> Bundle:
    """Train a policy and return it as a bundle that has been checked against the trainer's own outputs.

    Args:
        world: with its nominal parameters.
        preset: settings; by default those found for this world and algorithm.
        algo: see `agents.presets`.
        seed: of everything random; with `steps`, the same seed gives the same policy.
        steps: budget in environment steps.
        minutes: budget in minutes of `clock`; by default the preset's.
        ranges: (low, high) of parameters that are redrawn for each episode and shown to the policy.
        start: a bundle of the same world whose network is trained on.
        progress: called about once a second; False ends the training, and what is best so far is returned.
        threads: CPU threads of torch; this is a setting of the whole process.
        clock: seconds; `time.process_time` makes `minutes` CPU minutes.

    Raises:
        ValueError: both budgets, an unknown algorithm, a start that does not fit.
        BundleError: an exported graph that disagrees with the trainer.
    """
    if steps is not None and minutes is not None:
        raise ValueError(f"steps {steps} and minutes {minutes} were given: give one of them")
    settings = preset or preset_for(world.id, algo)
    seconds = None if steps else 60 * (minutes or settings.minutes)
    torch.set_num_threads(threads)
    family = Family(world, ranges or {})
    run = _Run(family, settings, seed, Budget(steps, seconds), start, progress, clock)
    score, actor, weights = run.learn()
    return _bundle(run, score, actor, weights)


class _Annealed(PPO):
    """PPO whose learning rate and entropy bonus follow the budget instead of a number of steps."""

    share: Callable[[], float]
    entropy: float
    entropy_until: float

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:  # noqa: ARG002
        done = self.share()
        self._current_progress_remaining = 1.0 - done
        self.ent_coef = self.entropy * max(0.0, 1.0 - done / self.entropy_until)


class _Run(BaseCallback):
    """One training: it watches the budget, compares checkpoints and tells how far it is."""

    def __init__(
        self,
        family: Family,
        preset: Preset,
        seed: int,
        budget: Budget,
        start: Bundle | None,
        progress: Callable[[Progress], bool] | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__()
        self.family, self.preset, self.seed, self.budget = family, preset, seed, budget
        self.start, self.tell, self.clock = start, progress, clock
        self.selection = Selection(family, seed)
        self.algorithm = self._algorithm()
        if start is not None:
            _require_same(start.card, family.world)
            load_weights(self.algorithm.policy, start.weights)
        self.began = clock()
        self.best: Score | None = None
        self.best_share = 0.0
        self.kept = self._state()
        self.selecting = 0.0
        self.told = self.began

    def _algorithm(self) -> _Annealed:
        preset, family = self.preset, self.family
        env = WorldVecEnv(family, preset, self.seed, starts_of(family.world))
        algorithm = _Annealed(
            LadderPolicy,
            env,
            n_steps=preset.rollout,
            batch_size=preset.batch,
            n_epochs=preset.epochs,
            gamma=preset.discount,
            gae_lambda=preset.gae_lambda,
            learning_rate=lambda left: preset.learning_rate * left,
            ent_coef=preset.entropy,
            policy_kwargs={
                "features_extractor_class": Features,
                "features_extractor_kwargs": {"layout": layout_of(family)},
                "net_arch": list(preset.hidden),
                "activation_fn": nn.Tanh,
                "basis": preset.basis,
            },
            seed=self.seed,
            device="cpu",
        )
        algorithm.share, algorithm.entropy, algorithm.entropy_until = self.share, preset.entropy, preset.entropy_until
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

    def logits(self, observation: Observation) -> NDArray[np.float32]:
        """The current network's outputs."""
        with torch.no_grad():
            output: NDArray[np.float32] = Actor(self.algorithm.policy)(torch.from_numpy(observation)).numpy()
        return output

    def learn(self) -> tuple[Score, Actor, bytes]:
        """Train, and give back the best checkpoint with its score."""
        self.algorithm.learn(ENDLESS, callback=self, log_interval=None)  # type: ignore[arg-type]
        self._compare()
        self.algorithm.policy.load_state_dict(self.kept)
        score = self.selection.best(self.logits, self.preset.temperatures)
        return score, Actor(self.algorithm.policy), dump_weights(self.algorithm.policy)

    def _on_step(self) -> bool:
        now = self.clock()
        if self.tell is not None and now - self.told >= PROGRESS_SECONDS:
            self.told = now
            if not self.tell(self._progress()):
                return False
        stale = self.share() - self.best_share > self.preset.patience
        return self.share() < 1.0 and not stale

    def _on_rollout_start(self) -> None:
        if self.steps and self.selecting <= SELECTION_SHARE * self.seconds:
            self._compare()

    def _compare(self) -> None:
        began = self.clock()
        score = self.selection.score(self.logits, min(self.preset.temperatures))
        if score.beats(self.best):
            self.best, self.kept, self.best_share = score, self._state(), self.share()
        self.selecting += self.clock() - began

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


def _require_same(card: Card, world: World) -> None:
    if card.world != world.id:
        raise ValueError(f"the bundle to start from is for {card.world!r}: give one for {world.id!r}")


def _bundle(run: _Run, score: Score, actor: Actor, weights: bytes) -> Bundle:
    family, preset = run.family, run.preset
    metrics = {"value": score.value, "seconds": run.seconds, "steps_per_second": run.steps / max(run.seconds, 1e-9)}
    gaps = {"gap": score.gap, "gap_greedy": score.gap_greedy}
    card = Card(
        world=family.world.id,
        params=params_of(family.world),
        ranges={name: (float(low), float(high)) for name, (low, high) in family.ranges.items()},
        actions=actions_of(family.world),
        observation=fields_of(family),
        algo=preset.algo,
        preset=preset.name,
        seed=run.seed,
        steps=run.steps,
        temperature=score.temperature,
        metrics=metrics | {name: gap for name, gap in gaps.items() if gap is not None},
        versions=versions(),
        digests={"start": run.start.digest} if run.start else {},
    )
    bundle = unpack(pack(card, export(actor, len(card.observation)), weights))
    require_agreement(bundle, actor, run.seed)
    return bundle


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
    with torch.no_grad():
        logits = actor(torch.from_numpy(observation)).double() / bundle.card.temperature
        expected = torch.softmax(logits, dim=1).numpy()
    every = np.ones(expected.shape, bool)
    worst = float(np.abs(load(bundle).probabilities(observation, every) - expected).max())
    if not worst <= AGREEMENT:
        raise BundleError(f"the exported graph differs from the trainer by {worst:.2e} in probability: not released")


def params_of(world: World) -> dict[str, Any]:
    """A world's parameters as JSON has them; `envs.worlds.make` takes them back."""
    values = {field.name: getattr(world.params, field.name) for field in dataclasses.fields(world.params)}
    return {
        name: np.asarray(v).tolist() if not isinstance(v, str) else v for name, v in values.items() if v is not None
    }


def actions_of(world: World) -> Actions:
    """A world's actions as a card has them."""
    values = world.actions.values
    listed = None if values is None else tuple(tuple(v) if isinstance(v, list) else v for v in values.tolist())
    return Actions(world.actions.name, world.actions.n, world.actions.unit, listed)


def fields_of(family: Family) -> tuple[ObservationField, ...]:
    """The observation's entries as a card has them."""
    context = [_field(entry) for entry in family.world.context]
    bounds = family.bounds[len(context) :]
    shown = [
        ObservationField(name, "", float(low), float(high), "parameter of the world")
        for name, (low, high) in zip(family.columns, bounds, strict=True)
    ]
    return (*context, *shown)


def _field(entry: Field) -> ObservationField:
    low, high = (float(bound) if np.isfinite(bound) else None for bound in (entry.low, entry.high))
    return ObservationField(entry.name, entry.unit, low, high, entry.doc)


def versions() -> dict[str, str]:
    """Versions of what the bundle was made with."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
