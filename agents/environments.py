"""Training on any registered Gymnasium environment: Box observations in one line, Discrete actions, by its id.

It knows no optimum and no parameters: checkpoints are compared by played episodes, and what goes into the graph is the
observation moved and scaled by what random play showed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents.algorithms import build, kind_of, outputs, served
from agents.bundle import Actions, Bundle, Card, CurvePoint, ObservationField, pack, unpack
from agents.cards import versions
from agents.curves import ended
from agents.export import export
from agents.features import Layout
from agents.networks import dump_weights
from agents.policy import greedy, sample_rows, softmax
from agents.presets import Preset, preset
from agents.train import ENDLESS, PROGRESS_SECONDS, Budget, Progress, budget_of, require_agreement

COPIES, ROLLOUT, BATCH = 16, 128, 512
RANDOM_STEPS = 2000
EPISODES = 20
COMPARISONS = 10
MINUTES = 2.0


@dataclass(frozen=True)
class Environment:
    """A registered environment and what its observations look like under random play.

    Args:
        id: as registered with Gymnasium.
        fields: entries of the observation.
        centre: (k,) mean of each entry.
        spread: (k,) its standard deviation.
        actions: number of actions.
    """

    id: str
    fields: tuple[ObservationField, ...]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    actions: int

    @property
    def layout(self) -> Layout:
        """Scaling by mean and standard deviation."""
        bounds = np.stack([self.centre - self.spread, self.centre + self.spread], axis=1)
        return Layout(self.id, tuple(field.name for field in self.fields), (), {}, bounds)


def look_at(env_id: str, seed: int) -> Environment:
    """Play at random and see.

    Raises:
        ValueError: no such environment, or observations and actions of another kind.
    """
    try:
        env = gymnasium.make(env_id)
    except gymnasium.error.Error as error:
        raise ValueError(f"there is no environment {env_id!r}: give a world or a registered id ({error})") from error
    space, actions = env.observation_space, env.action_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not isinstance(actions, spaces.Discrete):
        raise ValueError(
            f"{env_id} has observations {space} and actions {actions}: a Box of one line and Discrete are needed"
        )
    env.action_space.seed(seed)
    row, _ = env.reset(seed=seed)
    seen = [row]
    for _ in range(RANDOM_STEPS):
        row, _, terminated, truncated, _ = env.step(env.action_space.sample())
        seen.append(row)
        if terminated or truncated:
            row, _ = env.reset()
    env.close()
    fields = tuple(_field(i, low, high) for i, (low, high) in enumerate(zip(space.low, space.high, strict=True)))
    observed = np.array(seen, np.float64)
    spread = observed.std(axis=0)
    return Environment(env_id, fields, observed.mean(axis=0), np.where(spread > 1e-6, spread, 1.0), int(actions.n))


def _field(place: int, low: float, high: float) -> ObservationField:
    # Bounds near float32's largest number mean none.
    low_, high_ = (float(bound) if abs(bound) < 1e30 else None for bound in (low, high))
    return ObservationField(f"observation[{place}]", "", low_, high_)


def train_environment(
    env_id: str,
    chosen: Preset | None = None,
    *,
    algo: str = "ppo",
    seed: int = 0,
    steps: int | None = None,
    minutes: float | None = None,
    progress: Callable[[Progress], bool] | None = None,
    threads: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> Bundle:
    """Train on a registered environment; arguments as in `agents.train.train`.

    Raises:
        ValueError: an environment that does not exist or does not fit, both budgets or an empty one, or an unknown
            algorithm.
    """
    budget = budget_of(steps, minutes) or Budget(None, 60 * MINUTES)
    torch.set_num_threads(threads)
    settings = chosen or replace(preset(env_id, algo), copies=COPIES, rollout=ROLLOUT, batch=BATCH, epochs=10)
    environment = look_at(env_id, seed)
    run = _Run(environment, settings, seed, budget, progress, clock)
    run.learn()
    return run.bundle()


class _Run(BaseCallback):
    """One training on a registered environment."""

    def __init__(
        self,
        environment: Environment,
        settings: Preset,
        seed: int,
        budget: Budget,
        progress: Callable[[Progress], bool] | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__()
        self.environment, self.preset, self.seed, self.budget = environment, settings, seed, budget
        self.tell, self.clock = progress, clock
        copies = DummyVecEnv([lambda: gymnasium.make(environment.id)] * settings.copies)
        # Only the learner sees scaled rewards; observations are scaled inside the graph.
        env = VecNormalize(copies, norm_obs=False, gamma=settings.discount)
        env.seed(seed)
        algorithm: Any = build(env, settings, environment.layout, seed)
        algorithm.anneal(self.share, settings)
        self.algorithm = algorithm
        self.began = self.told = clock()
        self.best, self.kept, self.compared = -np.inf, self._state(), 0
        self.curve: list[CurvePoint] = []

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.began

    def share(self) -> float:
        """How much of the budget is used."""
        return self.budget.share(int(self.algorithm.num_timesteps), self.seconds)

    def learn(self) -> None:
        """Train, and put the best checkpoint back."""
        self.algorithm.learn(ENDLESS, callback=self, log_interval=None)
        self._compare()
        self.algorithm.policy.load_state_dict(self.kept)
        self.algorithm.get_env().close()

    def _on_step(self) -> bool:
        now = self.clock()
        if self.tell is not None and now - self.told >= PROGRESS_SECONDS:
            self.told = now
            if not self.tell(self._progress()):
                return False
        return self.share() < 1.0

    def _on_rollout_start(self) -> None:
        if self.share() >= (self.compared + 1) / COMPARISONS:
            self._compare()

    def _compare(self) -> None:
        self.compared += 1
        value = self.play()
        if value >= self.best:
            self.best, self.kept = value, self._state()
            self.curve.append(CurvePoint(int(self.algorithm.num_timesteps), None, self.seconds, value))

    def _state(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.algorithm.policy.state_dict().items()}

    def play(self) -> float:
        """Mean return of some episodes as served, always from the same seeds."""
        module, returns = served(self.algorithm), []
        rng = np.random.default_rng([self.seed, 5])
        env = gymnasium.make(self.environment.id)
        for episode in range(EPISODES):
            row, _ = env.reset(seed=1000 * self.seed + episode)
            total, over = 0.0, False
            while not over:
                output = outputs(module, np.asarray(row, np.float32)[None])
                every = np.ones(output.shape, bool)
                logits = kind_of(self.preset.algo).output == "logits"
                p = softmax(output, every, min(self.preset.temperatures)) if logits else greedy(output, every)
                row, reward, terminated, truncated, _ = env.step(int(sample_rows(p, rng.random(1))[0]))
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
        env.close()
        return float(np.mean(returns))

    def _progress(self) -> Progress:
        steps, share, seconds = int(self.algorithm.num_timesteps), max(self.share(), 1e-9), max(self.seconds, 1e-9)
        value = float(self.best) if np.isfinite(self.best) else None
        total = self.budget.steps or int(steps / share)
        return Progress(steps, total, steps / seconds, value, None, seconds * (1 - share) / share)

    def bundle(self) -> Bundle:
        """What is served."""
        environment, module = self.environment, served(self.algorithm)
        steps, seconds = int(self.algorithm.num_timesteps), self.seconds
        card = Card(
            world=environment.id,
            params={},
            actions=Actions("action", environment.actions),
            observation=environment.fields,
            output=kind_of(self.preset.algo).output,
            epsilon=self.preset.epsilon,
            algo=self.preset.algo,
            preset=self.preset.name,
            seed=self.seed,
            steps=steps,
            temperature=min(self.preset.temperatures),
            metrics={"value": self.best, "seconds": seconds, "steps_per_second": steps / max(seconds, 1e-9)},
            versions=versions(),
            curve=ended(self.curve, CurvePoint(steps, None, seconds, self.best)),
        )
        graph = export(module, len(environment.fields))
        made = unpack(pack(card, graph, dump_weights(self.algorithm.policy)))
        require_agreement(made, module, self.seed)
        return made
