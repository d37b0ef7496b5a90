"""The pipelines of keys: made on first sight, kept in memory while they are used, written when they changed."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from online import pickling
from online.fold import Parts
from online.history import History


@dataclass(slots=True)
class Instance:
    """The pipeline of one key, or of all; around a drift, a successor beside it where the spec says ``replace``.

    ``errors`` and ``succeeding`` are exponential means of both errors over the ``duels`` labels that the successor has
    learned. ``drifted`` tells one that an alarm asks for from one that a warning keeps ready. ``history`` is what later
    cases will look back on, where features ask for it.
    """

    model: Any
    history: History | None = None
    successor: Any = None
    drifted: bool = False
    duels: int = 0
    errors: float = 0.0
    succeeding: float = 0.0


class Instances:
    """One instance per key, each a part of the fold's state under ``key:<key>``.

    Args:
        new: Makes the pipeline of a key that was never seen.
        limit: Instances held in memory after a snapshot; the least recently used ones leave, and come back as parts.
        parts: Fetches those that are not in memory.
    """

    def __init__(self, new: Callable[[], Any], limit: int, parts: Parts | None) -> None:
        self._new = new
        self._limit = limit
        self._parts = parts
        self._held: OrderedDict[str, Instance] = OrderedDict()
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._held)

    def find(self, key: str) -> Instance | None:
        """The instance of a key, ``None`` where there is none yet."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
            return found
        data = None if self._parts is None else self._parts(f"key:{key}")
        if data is None:
            return None
        instance: Instance = pickling.loads(data)
        self._held[key] = instance
        return instance

    def take(self, key: str) -> Instance:
        """The instance of a key, new where there was none."""
        found = self.find(key)
        if found is None:
            found = self._held[key] = Instance(self._new())
        return found

    def note(self, key: str) -> None:
        """Say that an instance changed."""
        self._changed.add(key)

    def changes(self) -> dict[str, bytes | None]:
        """The instances that changed since this was asked last; the least recently used ones leave memory."""
        changed: dict[str, bytes | None] = {
            f"key:{key}": pickling.dumps(self._held[key]) for key in sorted(self._changed)
        }
        self._changed.clear()
        while len(self._held) > self._limit:
            self._held.popitem(last=False)
        return changed
