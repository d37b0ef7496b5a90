"""The two shells that make a Gymnasium environment of a world: one copy, and a batch of copies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs import parsing, worlds
from envs.conditioning import Conditioning
from envs.dynamics import Array, Chance, Field, State, World, bounds
from envs.render import picture, text
from envs.schedules import Schedule

Observation = NDArray[np.float32]
Shown = Literal["hidden", "physical", "scaled"]

DEFAULT_STEPS = 200
"""Steps after which an episode of a world that never terminates is cut (truncated), unless told otherwise."""


@dataclass(frozen=True)
class _Variation:
    """How the parameters of a batch differ: from episode to episode, or from step to step."""

    ranges: parsing.Ranges | None
    shown: Shown
    schedule: Schedule | None


class _Batch:
    """n copies of a world with their states, episode lengths and, where they vary, their parameters."""

    def __init__(self, world: World, n: int, variation: _Variation, max_steps: int | None) -> None:
        self.base = self.world = world
        self.schedule, self.clock = variation.schedule, 0
        ranges, shown = variation.ranges, variation.shown
        if ranges and self.schedule:
            raise ValueError("ranges draw parameters for each episode, a schedule for each step: give one of them")
        self.conditioning = Conditioning(world, ranges) if ranges else None
        self.shown = shown
        self.max_steps = DEFAULT_STEPS if max_steps is None and world.horizon is None else max_steps
        self.state: State = np.zeros((n, 0))
        self.params: Array = np.zeros((n, len(self.conditioning.fields) if self.conditioning else 0))
        self.steps = np.zeros(n, np.int64)
        self.chance: Chance = np.zeros((n, 0))
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps is {max_steps}: give a whole number from 1, or leave it out")

    def start(self, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Begin a new episode in some rows."""
        fresh = self.base.initial(len(rows), rng)
        if self.state.shape[1] == 0:
            self.state = np.zeros((len(self.state), fresh.shape[1]))
        self.state[rows] = fresh
        self.steps[rows] = 0
        if self.conditioning is not None:
            # A world keeps views of the columns it was made from, so the old ones are left as they are.
            self.params = self.params.copy()
            self.params[rows] = self.conditioning.draw(len(rows), rng)
            self.world = self.conditioning.world_of(self.params)

    def step(self, action: NDArray[Any], rng: np.random.Generator) -> tuple[Array, NDArray[Any], NDArray[Any]]:
        """One period in all rows: reward, terminated, truncated."""
        if self.schedule is not None:
            self.world = self.base.with_params(self.schedule.at(self.clock))
        self.clock += 1
        self.chance = self.world.draw(len(self.state), rng)
        self.state, reward, terminated = self.world.step(self.state, action, self.chance)
        self.steps += 1
        if self.max_steps is None:
            return reward, terminated, np.zeros_like(terminated)
        return reward, terminated, (self.steps >= self.max_steps) & ~terminated

    def observe(self) -> Observation:
        """Context, then the parameters where they are shown."""
        seen = self.world.observe(self.state)
        if self.conditioning is None or self.shown == "hidden":
            return seen
        values = self.conditioning.scaled(self.params) if self.shown == "scaled" else self.params
        return np.concatenate([seen, values], axis=1, dtype=np.float32)

    def fields(self) -> tuple[Field, ...]:
        """Entries of an observation."""
        return self.base.context + (self.conditioning.fields if self.conditioning and self.shown != "hidden" else ())

    def space(self) -> spaces.Box:
        """Bounds of an observation."""
        low, high = bounds(self.base.context)
        if self.conditioning is not None and self.shown != "hidden":
            lower, upper = bounds(self.conditioning.fields)
            if self.shown == "scaled":
                lower, upper = -np.ones_like(lower), np.ones_like(upper)
            low, high = np.concatenate([low, lower]), np.concatenate([high, upper])
        return spaces.Box(low, high, dtype=np.float32)


def _action_space(world: World) -> spaces.Discrete | spaces.MultiDiscrete | spaces.Box:
    if not world.actions.nvec:
        return spaces.Box(0.0, np.inf, (), np.float64)
    if len(world.actions.nvec) == 1:
        return spaces.Discrete(world.actions.n)
    return spaces.MultiDiscrete(list(world.actions.nvec))


def _world(world: World | str, params: Mapping[str, Any] | None, ranges: parsing.Ranges | None) -> World:
    if isinstance(world, str):
        return worlds.make(world, params, ranges)
    if params is not None:
        raise ValueError("params go with the name of a world; this world already has its own: leave them out")
    return world


class WorldEnv(gymnasium.Env[Observation, Any]):
    """One copy of a world as a `gymnasium.Env`.

    The world's docstring says what is observed, done, rewarded and when an episode ends. `info["action_mask"]` says
    which actions are allowed, the entries of `world.outcomes` what the step showed to the outside.

    Args:
        world: a world, or the name of one.
        params: parameters, where the world is given by name.
        ranges: parameters that are drawn anew for each episode, with low and high; log-uniform above 0.
        shown: whether these parameters are part of the observation: in physical units, scaled to [-1, 1], or hidden.
        schedule: parameters by number of the step since the environment was made, over all episodes.
        max_steps: steps after which an episode is truncated; by default 200 where a world never terminates.
        render_mode: `rgb_array` (a labelled bar for each entry of the observation), `ansi` or `None`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        world: World | str,
        params: Mapping[str, Any] | None = None,
        *,
        ranges: parsing.Ranges | None = None,
        shown: Shown = "physical",
        schedule: Schedule | None = None,
        max_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self._batch = _Batch(_world(world, params, ranges), 1, _Variation(ranges, shown, schedule), max_steps)
        self.observation_space: spaces.Space[Any] = self._batch.space()
        self.action_space = _action_space(self.world)
        self.render_mode = render_mode

    @property
    def world(self) -> World:
        """The world of the current episode."""
        return self._batch.world

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed, options=options)
        self._batch.start(np.zeros(1, np.int64), self.np_random)
        return self._batch.observe()[0], {"action_mask": self._mask()}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Live through one period."""
        if not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}: give an index of the action set")
        before, taken = self._batch.state, np.asarray(action)[None]
        reward, terminated, truncated = self._batch.step(taken, self.np_random)
        shown = self.world.outcome(before, taken, self._batch.chance)
        info: dict[str, Any] = {name: value[0] for name, value in shown.items()}
        info["action_mask"] = self._mask()
        return self._batch.observe()[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        """The state as an image (height, width, 3), or as text; `None` without a render mode."""
        if self.render_mode is None:
            return None
        title = f"{self.world.id}  step {self._batch.steps[0]}"
        draw = picture if self.render_mode == "rgb_array" else text
        return draw(self._batch.fields(), self._batch.observe()[0], title)

    def _mask(self) -> NDArray[np.int8]:
        return np.asarray(self.world.allowed(self._batch.state)[0], np.int8)


class WorldVectorEnv(gymnasium.vector.VectorEnv[Observation, Any, NDArray[Any]]):
    """A batch of copies of a world as a `gymnasium.vector.VectorEnv`, without a loop over its rows.

    An episode that ends is followed by the next one in the same step (`AutoresetMode.SAME_STEP`): then, and only then,
    `infos["final_obs"]` (n, k) holds the last observations, valid in the rows of `infos["_final_obs"]`, and
    `infos["final_steps"]` how long these episodes were. Arguments as in `WorldEnv`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        world: World | str,
        params: Mapping[str, Any] | None = None,
        *,
        num_envs: int = 1,
        ranges: parsing.Ranges | None = None,
        shown: Shown = "physical",
        schedule: Schedule | None = None,
        max_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.num_envs = num_envs
        self._batch = _Batch(_world(world, params, ranges), num_envs, _Variation(ranges, shown, schedule), max_steps)
        self.single_observation_space = self._batch.space()
        self.single_action_space = _action_space(self.world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode

    @property
    def world(self) -> World:
        """The world of the current episodes, with parameters by row where they vary."""
        return self._batch.world

    @property
    def states(self) -> State:
        """States (n, s) of the current episodes: a copy."""
        return self._batch.state.copy()

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every row, or in those of `options["reset_mask"]`.

        One generator serves all rows, so a seed is one number.
        """
        if isinstance(seed, list):
            raise ValueError(f"{len(seed)} seeds were given: all rows share one generator, give one number")
        super().reset(seed=seed, options=options)
        mask = (
            np.ones(self.num_envs, bool) if options is None else options.get("reset_mask", np.ones(self.num_envs, bool))
        )
        self._batch.start(np.flatnonzero(mask), self.np_random)
        return self._batch.observe(), {"action_mask": self.world.allowed(self._batch.state)}

    def step(self, actions: Any) -> tuple[Observation, Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Live through one period in every row; rows whose episode ends show the start of their next one."""
        batch = self._batch
        reward, terminated, truncated = batch.step(np.asarray(actions), self.np_random)
        infos: dict[str, Any] = {}
        ended = terminated | truncated
        if ended.any():
            rows = np.flatnonzero(ended)
            infos = {"final_obs": batch.observe(), "_final_obs": ended, "final_steps": batch.steps * ended}
            batch.start(rows, self.np_random)
        infos["action_mask"] = self.world.allowed(batch.state)
        return batch.observe(), reward, terminated, truncated, infos
