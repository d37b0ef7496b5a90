"""Live configuration: models and points declared over HTTP, on top of the manifest's, as a fold over a log.

Every process follows the same log, so that replicas, learners and adapters agree on what there is.
"""

import logging
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from online.events import digest
from online.log import START, Conflict, Draft, Entry, Log, Partition
from online.specs import ModelSpec
from service.deciding.points import Point
from service.manifest import Manifest, ManifestError, PointSpec, parse_model, parse_point

DECLARED = Partition("declared", 0)
Kind: TypeAlias = Literal["model", "point"]

_PAGE = 1000
_log = logging.getLogger(__name__)


class Declared(Struct, frozen=True, tag="declared/1"):
    """From now on this model or point is what `table` says; `None` ends it."""

    kind: Kind
    name: str
    table: dict[str, Any] | None
    actor: str
    reason: str
    at: float


class BreakingError(ValueError):
    """A change that what is stored could not follow; the message names the way out."""


_decoder: msgspec.json.Decoder[Declared] = msgspec.json.Decoder(Declared)


class Declarations:
    """What there is: the manifest, changed by everything that was declared since; one thread each, like the log."""

    def __init__(self, log: Log, manifest: Manifest) -> None:
        self._log = log
        self._cursor = START
        self._manifest = manifest
        # What was ever declared under a name: its log is still there, and must be understood if the name comes back.
        self._points: dict[str, PointSpec] = dict(manifest.points)
        self._models: dict[str, ModelSpec] = dict(manifest.models)

    def follow(self) -> Manifest:
        """The manifest as it is now; the same object as long as nothing was declared."""
        while entries := self._log.read(DECLARED, self._cursor, _PAGE):
            for entry in entries:
                self._apply(entry)
            self._cursor = entries[-1].id
        return self._manifest

    def point_before(self, name: str) -> PointSpec | None:
        """The last point of this name, also one that was ended."""
        self.follow()
        return self._points.get(name)

    def model_before(self, name: str) -> ModelSpec | None:
        """The last model of this name, also one that was ended."""
        self.follow()
        return self._models.get(name)

    def declare(self, event_id: str, event: Declared) -> Entry:
        """Appends a declaration; the same one again under its id returns the first one's entry.

        Raises:
            ValueError: The id belongs to another declaration.
        """
        asked = [event.kind, event.name, event.table, event.actor, event.reason]
        (outcome,) = self._log.append(DECLARED, [Draft(event_id, digest(asked), msgspec.json.encode(event))])
        if isinstance(outcome, Conflict):
            raise ValueError(f"the declaration {event_id!r} exists and says something else: use a new id")
        return outcome.entry

    def _point(self, event: Declared) -> PointSpec:
        return parse_point(event.name, event.table or {}, self._manifest.bandits)

    def _apply(self, entry: Entry) -> None:
        try:
            event = _decoder.decode(entry.payload)
            models, points = dict(self._manifest.models), dict(self._manifest.points)
            if event.kind == "model":
                _replace(models, event.name, None if event.table is None else parse_model(event.name, event.table))
            else:
                _replace(points, event.name, None if event.table is None else self._point(event))
        except (msgspec.MsgspecError, ManifestError) as error:
            # It was valid when it was declared: an older or newer release reads it otherwise.
            _log.error("the declaration %s is left out: %s", entry.id, error)
            return
        self._models |= models
        self._points |= points
        self._manifest = replace(self._manifest, models=MappingProxyType(models), points=MappingProxyType(points))


def _replace(specs: dict[str, Any], name: str, spec: Any) -> None:
    specs.pop(name, None)
    if spec is not None:
        specs[name] = spec


def check_point(old: PointSpec | None, new: PointSpec) -> None:
    """Refuses a point whose log, bundles and callers could not follow the change.

    Raises:
        BreakingError: World, key, context or actions would change.
    """
    if old is None or old == new:
        return
    before, after = Point.of(old), Point.of(new)
    changed = {
        "world": (old.world, new.world),
        "key": (old.key, new.key),
        "context": (_shape(before), _shape(after)),
        "actions": (list(before.actions), list(after.actions)),
        "factors": (before.factors, after.factors),
        "outcome.aggregate": (old.outcome.aggregate, new.outcome.aggregate),
    }
    for name, (was, would_be) in changed.items():
        if was != would_be:
            raise BreakingError(
                f"points.{new.name}.{name} was {was!r} and would be {would_be!r}: its log and its bundles are of the "
                "former. Declare a point of a new name"
            )


def _shape(point: Point) -> list[tuple[str, str]]:
    return [(entry.name, entry.unit) for entry in point.context]


def check_model(old: ModelSpec | None, new: ModelSpec, log: Log, *, replay: bool) -> None:
    """Refuses a model that would have to learn anew, unless the caller wants that.

    Raises:
        BreakingError: What was learned would have to be learned again.
    """
    if old is None or old.source == new.source or log.length(_log_of(new)) == 0 or replay:
        return
    raise BreakingError(
        f"models.{new.name} would be another model than the one that learned: add ?replay=true to learn anew from its "
        "log while the present one serves, or declare a model of a new name"
    )


def _log_of(spec: ModelSpec) -> Partition:
    return Partition(f"model:{spec.name}", 0)
