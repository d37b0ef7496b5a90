"""Checkpoints: all of a training that a later process needs to go on as if it had never been killed."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.vecenv import WorldVecEnv

FORMAT = 3
# What a replay memory is made of, by Stable-Baselines3's names.
REMEMBERED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class CheckpointError(ValueError):
    """A file that is no checkpoint, or one of another training."""


def signature(parts: Any) -> str:
    """Digest of what makes two trainings the same one (world, preset, seed, budget)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def save(path: Path, algorithm: Any, env: WorldVecEnv, watch: dict[str, Any], of: str) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, never half of one.

    Args:
        path: of the file.
        algorithm: between two rollouts.
        env: its copies.
        watch: what the caller wants back (tensors, numbers, text, and dictionaries of them).
        of: signature of the training.
    """
    content = {
        "format": FORMAT,
        "of": of,
        "policy": algorithm.policy.state_dict(),
        "optimizer": algorithm.policy.optimizer.state_dict(),
        "steps": int(algorithm.num_timesteps),
        "torch": torch.get_rng_state(),
        "numpy": _numpy_state(),
        "env": env.snapshot(),
        "choices": json.dumps(env.action_space.np_random.bit_generator.state),
        "memory": _memory(algorithm),
        "watch": watch,
    }
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    torch.save(content, partial)
    partial.replace(path)


def restore(path: Path, algorithm: Any, env: WorldVecEnv, of: str) -> dict[str, Any]:
    """Put a checkpoint back, and return what the caller had given.

    Only numbers, text and arrays are read; a file cannot make code run.

    Raises:
        CheckpointError: a file that cannot be read, or that belongs to another training.
    """
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises pickle, zip and runtime errors alike
        raise CheckpointError(f"{path} is no checkpoint ({type(error).__name__}): remove it to start anew") from error
    if content.get("format") != FORMAT or content.get("of") != of:
        raise CheckpointError(f"{path} belongs to another training: give the same settings, or remove it")
    algorithm.policy.load_state_dict(content["policy"])
    algorithm.policy.optimizer.load_state_dict(content["optimizer"])
    algorithm.num_timesteps = content["steps"]
    torch.set_rng_state(content["torch"])
    _set_numpy_state(content["numpy"])
    algorithm.action_space.np_random.bit_generator.state = json.loads(content["choices"])
    _remember(algorithm, content["memory"])
    algorithm._last_obs = env.restore(content["env"])
    algorithm._last_episode_starts = np.zeros(env.num_envs, bool)
    watch: dict[str, Any] = content["watch"]
    return watch


def _memory(algorithm: Any) -> dict[str, Any] | None:
    """The filled part of a replay memory, with the counts that decide what DQN does next; None without one."""
    memory = getattr(algorithm, "replay_buffer", None)
    if memory is None:
        return None
    filled = memory.buffer_size if memory.full else memory.pos
    arrays = {name: torch.from_numpy(getattr(memory, name)[:filled]) for name in REMEMBERED}
    counts = {"updates": algorithm._n_updates, "calls": algorithm._n_calls, "explored": algorithm.exploration_rate}
    return {**arrays, **counts, "pos": memory.pos, "full": memory.full}


def _remember(algorithm: Any, content: dict[str, Any] | None) -> None:
    """Put a replay memory back."""
    if content is None:
        return
    memory = algorithm.replay_buffer
    for name in REMEMBERED:
        getattr(memory, name)[: len(content[name])] = content[name].numpy()
    memory.pos, memory.full = content["pos"], content["full"]
    algorithm._n_updates, algorithm._n_calls = content["updates"], content["calls"]
    algorithm.exploration_rate = content["explored"]


# SB3 draws its minibatches from NumPy's global generator.
def _numpy_state() -> str:
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return json.dumps([name, np.asarray(keys).tolist(), position, has_gauss, cached])


def _set_numpy_state(text: str) -> None:
    name, keys, position, has_gauss, cached = json.loads(text)
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, cached))  # noqa: NPY002
