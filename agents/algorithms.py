"""Stable-Baselines3 algorithms as a budget sees them: built from a preset, annealed by share, and what each serves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from agents.features import Layout
from agents.networks import Features, LadderPolicy, with_head
from agents.presets import Preset

Share = Callable[[], float]


class _Annealing:
    """Learning rate and entropy bonus follow the share of the budget that is used, instead of a number of steps."""

    share: Share
    preset: Preset
    _current_progress_remaining: float
    ent_coef: float

    def anneal(self, share: Share, preset: Preset) -> None:
        """Follow this share from now on."""
        self.share, self.preset = share, preset

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:  # noqa: ARG002
        done = self.share()
        self._current_progress_remaining = 1.0 - done
        self.ent_coef = self.preset.entropy * max(0.0, 1.0 - done / self.preset.entropy_until)


class AnnealedPPO(_Annealing, PPO):
    """PPO (Schulman et al. 2017)."""


class AnnealedA2C(_Annealing, A2C):
    """A2C (Mnih et al. 2016)."""


class AnnealedDQN(_Annealing, DQN):
    """DQN (Mnih et al. 2015)."""


class AnnealedMaskablePPO(_Annealing, MaskablePPO):
    """PPO that never sees an action which is not allowed (Huang and Ontañón 2022)."""


class MaskableLadderPolicy(MaskableActorCriticPolicy):
    """As `LadderPolicy`, with masks."""

    def __init__(self, *args: Any, basis: int = 0, **kwargs: Any) -> None:
        self.basis = basis
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        super()._build(lr_schedule)
        with_head(self, self.basis, lr_schedule)


class Values(nn.Module):
    """The part of a DQN that is served: observation (n, k) to action values (n, a)."""

    def __init__(self, q_net: Any) -> None:
        super().__init__()
        self.features, self.values = q_net.features_extractor, q_net.q_net

    def forward(self, observation: Tensor) -> Tensor:
        """Action values."""
        return torch.as_tensor(self.values(self.features(observation)))


class Actor(nn.Module):
    """The part of an actor-critic that is served: observation (n, k) to logits (n, a)."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        extractor = policy.features_extractor if policy.share_features_extractor else policy.pi_features_extractor
        self.features, self.latent, self.head = extractor, policy.mlp_extractor.policy_net, policy.action_net

    def forward(self, observation: Tensor) -> Tensor:
        """Logits."""
        return torch.as_tensor(self.head(self.latent(self.features(observation))))


@dataclass(frozen=True)
class Kind:
    """How an algorithm is built, how its network's output is read, and whether it heeds masks."""

    build: Callable[[VecEnv, Preset, dict[str, Any], int], BaseAlgorithm]
    output: Literal["logits", "values"]
    masks: bool


def _policy(layout: Layout, preset: Preset, critic: bool) -> dict[str, Any]:
    extractor = {"features_extractor_class": Features, "features_extractor_kwargs": {"layout": layout}}
    network = {"net_arch": list(preset.hidden), "activation_fn": nn.Tanh if critic else nn.ReLU}
    return {**extractor, **network, **({"basis": preset.basis} if critic else {})}


def _rate(preset: Preset) -> Callable[[float], float]:
    return lambda left: preset.learning_rate * left


def _ppo(env: VecEnv, preset: Preset, policy: dict[str, Any], seed: int) -> BaseAlgorithm:
    return AnnealedPPO(LadderPolicy, env, policy_kwargs=policy, seed=seed, **_proximal(preset))


def _maskable_ppo(env: VecEnv, preset: Preset, policy: dict[str, Any], seed: int) -> BaseAlgorithm:
    return AnnealedMaskablePPO(MaskableLadderPolicy, env, policy_kwargs=policy, seed=seed, **_proximal(preset))


def _proximal(preset: Preset) -> dict[str, Any]:
    return {
        "n_steps": preset.rollout,
        "batch_size": preset.batch,
        "n_epochs": preset.epochs,
        "gamma": preset.discount,
        "gae_lambda": preset.gae_lambda,
        "learning_rate": _rate(preset),
        "ent_coef": preset.entropy,
        "device": "cpu",
    }


def _a2c(env: VecEnv, preset: Preset, policy: dict[str, Any], seed: int) -> BaseAlgorithm:
    return AnnealedA2C(
        LadderPolicy,
        env,
        policy_kwargs=policy,
        seed=seed,
        n_steps=preset.rollout,
        gamma=preset.discount,
        gae_lambda=preset.gae_lambda,
        learning_rate=_rate(preset),
        ent_coef=preset.entropy,
        normalize_advantage=True,
        use_rms_prop=False,
        device="cpu",
    )


def _dqn(env: VecEnv, preset: Preset, policy: dict[str, Any], seed: int) -> BaseAlgorithm:
    return AnnealedDQN(
        "MlpPolicy",
        env,
        policy_kwargs=policy,
        seed=seed,
        gamma=preset.discount,
        learning_rate=_rate(preset),
        batch_size=preset.batch,
        buffer_size=preset.buffer,
        learning_starts=20 * preset.batch,
        train_freq=1,
        gradient_steps=preset.updates,
        target_update_interval=100 * env.num_envs,
        exploration_fraction=0.5,
        exploration_final_eps=0.05,
        device="cpu",
    )


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "ppo": Kind(_ppo, "logits", masks=False),
        "a2c": Kind(_a2c, "logits", masks=False),
        "maskable-ppo": Kind(_maskable_ppo, "logits", masks=True),
        "dqn": Kind(_dqn, "values", masks=False),
    }
)


def build(env: VecEnv, preset: Preset, layout: Layout, seed: int) -> BaseAlgorithm:
    """The preset's algorithm on these copies, on the CPU.

    Raises:
        ValueError: an algorithm that does not exist.
    """
    kind = kind_of(preset.algo)
    algorithm = kind.build(env, preset, _policy(layout, preset, critic=kind.output == "logits"), seed)
    # Given none, SB3 makes a logger with a folder of its own among the temporary files, and leaves it there.
    algorithm.set_logger(Logger(folder=None, output_formats=[]))
    return algorithm


def kind_of(algo: str) -> Kind:
    """The kind of this algorithm.

    Raises:
        ValueError: an algorithm that does not exist.
    """
    if algo not in KINDS:
        raise ValueError(f"algorithm {algo!r} is not trained: give one of {', '.join(KINDS)}")
    return KINDS[algo]


def served(algorithm: BaseAlgorithm) -> nn.Module:
    """The part of the algorithm's networks that goes into a bundle."""
    policy: Any = algorithm.policy
    return Values(policy.q_net) if isinstance(algorithm, DQN) else Actor(policy)


def outputs(module: nn.Module, observation: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A module's outputs as an array."""
    with torch.no_grad():
        return np.asarray(module(torch.from_numpy(np.ascontiguousarray(observation, np.float32))).numpy())
