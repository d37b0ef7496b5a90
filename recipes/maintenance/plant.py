"""A plant that is made up: machines wear as the maintenance world says, and what their sensors read follows the wear.

How it is made is known, and so is the best that anybody can do with the readings: the chance of a failure given all
readings of a machine since its last service, by a filter on its level.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from envs.dynamics import Action, Array, State
from envs.maintenance import Maintenance
from recipes.maintenance.crews import Interval
from recipes.measures import Flags

AHEAD = 3
"""Days within which a failure is foretold."""

START = np.datetime64("2026-01-01")


@dataclass(frozen=True)
class Readings:
    """What sensors say of machines: arrays of one shape."""

    vibration: Array
    temperature: Array
    current: Array
    load: Array


def read(level: State, rng: np.random.Generator) -> Readings:
    """Readings of machines at these levels: each sensor's mean rises with the level, and two of them with the load."""
    load = rng.uniform(0.4, 1.0, level.shape)
    noise = rng.standard_normal((3, *level.shape))
    seen = [m + s * z for m, s, z in zip(_means(level, load), SPREADS, noise, strict=True)]
    return Readings(np.maximum(seen[0], 0.0), seen[1], seen[2], load)


SPREADS = (0.9, 2.5, 1.5)
"""Standard deviations of vibration (mm/s), temperature (C) and current (A)."""


def _means(level: Array, load: Array) -> tuple[Array, Array, Array]:
    return 2.0 + 0.6 * level, 50.0 + 10.0 * load + 1.2 * level, 20.0 + 8.0 * load + 0.5 * level


class Belief:
    """What all readings say of the level of each machine (n, N): probabilities (n, N, levels)."""

    def __init__(self, world: Maintenance, n: int) -> None:
        self._moves = world.moves()
        self._shape = (n, world.params.components, world.params.levels)
        self.at = np.zeros(self._shape)
        self.at[..., 0] = 1.0

    def see(self, readings: Readings) -> None:
        """Weigh the levels of working machines by their readings."""
        level = np.arange(self._shape[2] - 1.0)
        means = _means(level, readings.load[..., None])
        seen = (readings.vibration, readings.temperature, readings.current)
        logs = sum(-0.5 * ((x[..., None] - m) / s) ** 2 for x, m, s in zip(seen, means, SPREADS, strict=True))
        self.at[..., :-1] *= np.exp(logs)
        self.at[..., -1] = 0.0
        self.at /= self.at.sum(axis=-1, keepdims=True)

    def chance(self) -> Array:
        """Of having failed some days later, if nothing is done (n, N)."""
        return np.asarray(self._moved(AHEAD)[..., -1])

    def pass_day(self, serviced: Flags, failed: Flags) -> None:
        """A day later: those serviced began anew, and who has failed is known."""
        self.at[serviced] = np.eye(self._shape[2])[0]
        self.at = self._moved(1)
        # A failed machine shows nothing until it is serviced; whatever is believed of it is not used.
        self.at[failed] = 1.0 / self._shape[2]

    def _moved(self, days: int) -> Array:
        found = self.at
        for _ in range(days):
            found = np.einsum("nil,ilm->nim", found, self._moves)
        return found


def made(world: Maintenance, halls: int, days: int, interval: int, seed: int) -> Iterator[dict[str, object]]:
    """A log of readings, day by day, of all machines that work.

    They were serviced when they failed, or after `interval` days. Where that came within the days ahead nobody knows
    whether the machine would have failed, and there is no row.
    """
    rng = np.random.default_rng(seed)
    rows = list(_days(world, halls, days + AHEAD, interval, rng))
    for day in range(days):
        level, readings, chance, age, _ = rows[day]
        following = rows[day + 1 : day + 1 + AHEAD]
        failing = np.stack([row[0] for row in following]) >= world.params.levels - 1
        fails = np.asarray(failing.any(axis=0))
        known = ~_forestalled(failing, np.stack([row[4] for row in rows[day : day + AHEAD]]))
        shown = (level < world.params.levels - 1) & known
        for hall, machine in np.argwhere(shown).tolist():
            yield {
                "day": str(START + day),
                "machine": f"{hall}-{machine}",
                "vibration": round(float(readings.vibration[hall, machine]), 2),
                "temperature": round(float(readings.temperature[hall, machine]), 1),
                "current": round(float(readings.current[hall, machine]), 2),
                "load": round(float(readings.load[hall, machine]), 3),
                "age": int(age[hall, machine]),
                "fails": bool(fails[hall, machine]),
                "chance": float(chance[hall, machine]),
            }


def _forestalled(failing: Flags, serviced: Flags) -> Flags:
    """Whether a machine was serviced within the days before it could fail (days, n, N) → (n, N)."""
    found = np.zeros(failing.shape[1:], bool)
    failed = np.zeros(failing.shape[1:], bool)
    for failing_now, done in zip(failing, serviced, strict=True):
        found |= done & ~failed
        failed |= failing_now & ~found
    return found


def _days(
    world: Maintenance, halls: int, days: int, interval: int, rng: np.random.Generator
) -> Iterator[tuple[State, Readings, Array, Array, Flags]]:
    crews, belief = Interval(world, interval, halls), Belief(world, halls)
    state = world.initial(halls, rng)
    for day in range(days):
        readings = read(state, rng)
        belief.see(readings)
        age = crews.age.copy()
        action: Action = crews.act(day, state)
        serviced = world.members(state, action)
        yield state, readings, belief.chance(), age, serviced
        state, _, _ = world.step(state, action, world.draw(halls, rng))
        belief.pass_day(serviced, state >= world.params.levels - 1)
