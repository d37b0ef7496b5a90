"""The SB3 `VecEnv` over a world's batched functions: no Python loop over copies."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvObs, VecEnvStepReturn

from agents.presets import Preset
from agents.ranges import Family
from agents.shaping import shaping
from envs.dynamics import Action, Array, State


class WorldVecEnv(VecEnv):
    """Many copies of a world that step together, as training needs them.

    Rewards are expected ones (less noise, same optimum), shaped where the world has a potential, and divided by the
    preset's scale. A share of the episodes starts in states drawn from `starts`. Unending worlds are cut at the
    horizon, each copy at another time, and SB3 then adds the value of what was cut off; where a new start could only be
    the same one again, they just go on. Where there are ranges, each episode has parameters of its own, and they follow
    the context in the observation.

    Args:
        family: the world, and the ranges it is trained over.
        preset: copies, scale, horizon and share of scattered starts.
        seed: of everything random.
        starts: (S, s) states to start from, or None.
    """

    def __init__(self, family: Family, preset: Preset, seed: int, starts: State | None = None) -> None:
        self.preset, self.family = preset, family
        self.rng = np.random.default_rng([seed, 1])
        self.shaping = shaping(family) if preset.shaped else None
        self.starts = starts if preset.scattered > 0 else None
        endless = preset.scattered > 0 and starts is None and not family.ranges
        self.horizon = None if endless else preset.horizon
        self.rows = family.draw(preset.copies, self.rng)
        self.world = family.members(self.rows)
        self.state = self._fresh()
        self.age = np.zeros(preset.copies, np.int64)
        self.action: Action = np.zeros(preset.copies, np.int64)
        bounds = family.bounds.astype(np.float32)
        space = spaces.Box(bounds[:, 0], bounds[:, 1], dtype=np.float32)
        nvec = self.world.actions.nvec
        choices = spaces.MultiDiscrete(list(nvec)) if len(nvec) > 1 else spaces.Discrete(self.world.actions.n)
        super().__init__(preset.copies, space, choices)
        self._nothing: list[dict[str, Any]] = [{} for _ in range(preset.copies)]

    def _fresh(self) -> State:
        n = self.preset.copies
        state = self.world.initial(n, self.rng)
        if self.starts is None:
            return state
        chosen = self.starts[self.rng.integers(0, len(self.starts), n)]
        return np.where(self.rng.random((n, 1)) < self.preset.scattered, chosen, state)

    def _observe(self) -> NDArray[np.float32]:
        return self.family.observe(self.world, self.state, self.rows)

    def reset(self) -> VecEnvObs:
        """Start all copies, unending ones at different ages."""
        self.state = self._fresh()
        if self.horizon:
            self.age = self.rng.integers(0, self.horizon, self.num_envs)
        return self._observe()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Remember the actions."""
        self.action = np.asarray(actions, np.int64)

    def step_wait(self) -> VecEnvStepReturn:
        """One step of every copy; what has ended starts again, and its last observation goes into the infos."""
        chance = self.world.draw(self.num_envs, self.rng)
        after, _, terminated = self.world.step(self.state, self.action, chance)
        reward = self._reward()
        self.state = after
        self.age += 1
        horizon = self.horizon
        truncated = (self.age >= horizon) & ~terminated if horizon else np.zeros_like(terminated)
        over = terminated | truncated
        infos = self._cut(truncated) if truncated.any() else self._nothing
        if over.any():
            self._restart(over)
        return self._observe(), self._scaled(reward), over, infos

    def _reward(self) -> Array:
        if self.shaping is None:
            return self.world.expected_reward(self.state, self.action)
        return self.shaping.reward(self.state, self.action, self.preset.discount)

    def _cut(self, truncated: NDArray[np.bool_]) -> list[dict[str, Any]]:
        infos = list(self._nothing)
        last = self._observe()
        for i in np.flatnonzero(truncated).tolist():
            infos[i] = {"TimeLimit.truncated": True, "terminal_observation": last[i]}
        return infos

    def _restart(self, over: NDArray[np.bool_]) -> None:
        if self.family.ranges:
            fresh = self.family.draw(self.num_envs, self.rng)
            self.rows = np.where(over[:, None], fresh, self.rows)
            self.world = self.family.members(self.rows)
        self.state = np.where(over[:, None], self._fresh(), self.state)
        self.age = np.where(over, 0, self.age)

    def _scaled(self, reward: Array) -> NDArray[np.float32]:
        return (reward / self.preset.reward_scale).astype(np.float32)

    def snapshot(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and text."""
        arrays = {"state": self.state, "rows": self.rows, "age": self.age}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return {**tensors, "rng": json.dumps(self.rng.bit_generator.state)}

    def restore(self, snapshot: dict[str, Any]) -> NDArray[np.float32]:
        """Go on from a snapshot; the observation of where it stands."""
        self.state, self.rows, self.age = (snapshot[name].numpy().copy() for name in ("state", "rows", "age"))
        self.rng.bit_generator.state = json.loads(snapshot["rng"])
        self.world = self.family.members(self.rows)
        return self._observe()

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:  # noqa: ARG002 - SB3's signature
        """Only `render_mode` exists, and is None."""
        if attr_name != "render_mode":
            raise AttributeError(f"copies of a world are rows of arrays and have no attribute {attr_name!r}")
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:  # noqa: ARG002 - SB3's signature
        """Nothing can be set."""
        raise AttributeError(f"copies of a world are rows of arrays: {attr_name!r} cannot be set")

    def env_method(self, method_name: str, *_: Any, indices: Any = None, **__: Any) -> list[Any]:  # noqa: ARG002
        """Only `action_masks`, which MaskablePPO asks for."""
        if method_name != "action_masks":
            raise AttributeError(f"copies of a world are rows of arrays and have no method {method_name!r}")
        return list(self.world.allowed(self.state))

    def has_attr(self, attr_name: str) -> bool:
        """Whether SB3 may ask for it."""
        return attr_name in ("render_mode", "action_masks")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:  # noqa: ARG002 - SB3's signature
        """Never."""
        return [False] * self.num_envs

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Chance starts anew from this seed."""
        if seed is not None:
            self.rng = np.random.default_rng([seed, 1])
        return [None] * self.num_envs
