"""The loop of each point: senses, state and hands, turned once a second by the adapter."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.bundle import BundleError
from online.log import Blob, Log, LogUnavailable
from service.adapt import Entry, Rules, State, due
from service.deciding import feed
from service.deciding.feed import Note
from service.deciding.points import Point
from service.deciding.records import Records
from service.deciding.registry import Registry
from service.facts import Command, Fact, Failed, Fitted, Heard, Misfitted, Ordered, Silenced
from service.manifest import PointSpec
from service.processes.carrying import Carrying
from service.processes.sensing import Sensing

NAME = "loop"
"""Who releases, where nobody did: releases of any other name in a cycle are interventions."""

EVERY_S = 1.0

_log = logging.getLogger(__name__)


def rules_of(spec: PointSpec) -> Rules:
    """How a point's loop is paced."""
    adapt = spec.adapt
    return Rules(
        cooldown=adapt.cooldown,
        per_day=adapt.per_day,
        settle=adapt.settle,
        patience=max(600.0, 3 * adapt.settle),
        watch=adapt.watch,
        canary=spec.gate.canary,
    )


@dataclass(frozen=True)
class Shared:
    """What all loops of a process share: the store, the secret that opens snapshots, seconds since the epoch."""

    log: Log
    blob: Blob
    registry: Registry
    secret: bytes
    clock: Callable[[], float] = time.time


class Loop:
    """One point's loop. Everything that it knows is in the log: another one goes on where it was."""

    def __init__(self, shared: Shared, point: Point) -> None:
        self._log, self._clock = shared.log, shared.clock
        self.point = point
        self.rules = rules_of(point.spec)
        self.records = Records(shared.log, point.name)
        self.sensing = Sensing(shared.log, shared.registry, point, shared.secret, NAME)
        self.carrying = Carrying(shared.log, shared.blob, shared.registry, point, NAME)

    def turn(self) -> None:
        """Hear what there is to hear, then do what is to be done."""
        state = self.records.follow()
        for fact_id, fact in list(self.sensing.look(state, self.rules, self._clock())):
            self._hear(fact, fact_id)
        for command in due(self.records.state, self.rules):
            state = self.records.state
            answer = self._carry(command, state)
            if answer is not None:
                self._hear(answer, f"{state.number}/{type(answer).__name__.lower()}/{state.stage}")
                return

    def _carry(self, command: Command, state: State) -> Fact | None:
        try:
            return self.carrying.carry(command, state, self.sensing.estimates, self._clock())
        except (BundleError, ValueError) as error:
            reason = f"{type(command).__name__.lower()}: {error}"
            return Failed(at=self._clock(), cycle=state.cycle, stage=state.stage, reason=reason)

    def _hear(self, fact: Fact, fact_id: str) -> None:
        found = self.records.hear(fact, fact_id, self.rules)
        if found is not None and found.entry is not None:
            self._tell(found.entry)
        elif found is not None and (text := in_words(fact)):
            kind = "drift" if isinstance(fact, Misfitted | Silenced) else "adapt"
            self._note(kind, f"{self.point.name}: {text}", fact.at, fact_id, {"stage": found.state.stage})
        elif found is not None:
            _log.info("%s: %s", self.point.name, fact)

    def _tell(self, entry: Entry) -> None:
        text = f"{self.point.name}: {entry.before} → {entry.after}: {'; '.join(entry.reasons)}"
        self._note("adapt", text, entry.at, f"{entry.number}", {"cycle": entry.cycle, "stage": entry.after})

    def _note(self, kind: str, text: str, at: float, note_id: str, data: Mapping[str, Any]) -> None:
        """Tell people, once for each id."""
        _log.info("%s", text)
        note = Note(at=at, source=NAME, kind=kind, text=text, subject=f"point:{self.point.name}", data=data)
        feed.tell(self._log, note, f"adapt/{self.point.name}/{note_id}")


def in_words(fact: Fact) -> str:
    """A fact that people should hear of though the loop's stage stays; empty for any other.

    >>> in_words(Silenced(at=0.0, reason="no outcome for 900 decisions in 40 s"))
    'the loop holds: no outcome for 900 decisions in 40 s'
    """
    match fact:
        case Silenced():
            return f"the loop holds: {fact.reason}"
        case Heard():
            return "outcomes come again, and the loop goes on"
        case Misfitted():
            return f"a person is needed, the world may be the wrong one: {fact.reason}"
        case Fitted():
            return "the world explains the outcomes again"
        case Ordered(held=True):
            return f"{fact.actor} stops the loop: {fact.reason}"
        case Ordered():
            return "the loop may go on"
    return ""


class Loops:
    """The loops of all points, turned in turn, about once a second.

    A loop that fails says so and is turned again: no point's trouble stops another's.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._loops: dict[str, Loop] = {}
        self._look_at = 0.0

    def follow(self, points: Mapping[str, Point]) -> None:
        """One loop for each point there is."""
        known = self._loops
        self._loops = {
            name: known[name] if name in known and known[name].point is point else Loop(self._shared, point)
            for name, point in points.items()
        }

    def turn(self) -> None:
        """Turn every loop, if it is time."""
        now = time.monotonic()
        if now < self._look_at:
            return
        for name, loop in self._loops.items():
            try:
                loop.turn()
            except LogUnavailable:
                raise
            except Exception:  # noqa: BLE001 - training, and the other points, must go on
                _log.exception("the loop of %s could not be turned", name)
        self._look_at = time.monotonic() + EVERY_S
