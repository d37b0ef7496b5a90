"""The specs behind stored snapshots: a model that was declared anew serves as it was until it has learned anew.

Each learner stores its spec before its first snapshot, so that whoever finds a snapshot can tell what it is of.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from online.fold import Parts, Stale
from online.learner import ModelLearner
from online.log import Blob
from online.specs import ModelSpec
from service.manifest import ManifestError, parse_model

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rebuild is, for people.

    Attributes:
        state: `replaying`, `live` once the new model serves.
        entries: How many were replayed.
        of: How many there are.
        left_s: Seconds until all are, at the pace so far.
        trouble: What keeps it from going on; empty for nothing.
    """

    state: str
    entries: int
    of: int
    started: float
    at: float
    left_s: float | None = None
    trouble: str = ""


def tell_progress(blob: Blob, model: str, progress: Progress) -> None:
    """Say how far a rebuild is."""
    blob.put(f"rebuild/{model}", msgspec.json.encode(progress))


def progress_of(blob: Blob, model: str) -> Progress | None:
    """What the last rebuild of a model said."""
    data = blob.get(f"rebuild/{model}")
    return None if data is None else msgspec.json.decode(data, type=Progress)


def remember(blob: Blob, spec: ModelSpec) -> None:
    """Store a spec, before the first snapshot of it."""
    data = msgspec.json.encode(dict(spec.source), order="sorted")
    blob.put(f"{_folder(spec.name)}{blake2b(data, digest_size=16).hexdigest()}", data)


def forget_others(blob: Blob, *kept: ModelSpec) -> None:
    """Forget the specs of a model but for these: no snapshot is of another one any more."""
    tables = [dict(spec.source) for spec in kept]
    for name in blob.names(_folder(kept[0].name)):
        data = blob.get(name)
        if data is not None and _decode(data) not in tables:
            blob.delete(name)


def load_learner(blob: Blob, wanted: ModelSpec, snapshot: bytes, parts: Parts | None = None) -> ModelLearner:
    """The learner of a snapshot, whichever spec of this model it is of.

    Raises:
        Stale: Of none that is known, or of another version of River.
    """
    try:
        return ModelLearner.load(wanted, snapshot, parts)
    except Stale as stale:
        for spec in _others(blob, wanted):
            try:
                return ModelLearner.load(spec, snapshot, parts)
            except Stale:
                continue
        raise stale


def _others(blob: Blob, wanted: ModelSpec) -> list[ModelSpec]:
    found = []
    for name in blob.names(_folder(wanted.name)):
        data = blob.get(name)
        table: Mapping[str, Any] = {} if data is None else _decode(data)
        if table and table != wanted.source:
            try:
                found.append(parse_model(wanted.name, table))
            except ManifestError:
                # An older release could read it; there is no snapshot that this one could load.
                continue
    return found


def _folder(model: str) -> str:
    return f"spec/{model}/"
