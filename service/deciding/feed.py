"""What happens, for people: notes in a small log of their own, and the heartbeat of each process.

Nothing is ever decided from a note. The page, the terminal and the event stream show them.
"""

import os
import resource
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from online.log import Blob, Draft, EntryId, Log, Partition

FEED = Partition("feed", 0)
_HEARTBEATS = "heartbeat/"


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sentence about what has just happened.

    Attributes:
        at: Seconds since the epoch.
        source: The process that tells it: learner, adapter, shop, ...
        kind: What it is about: `training`, `released`, `drift`, `champion`, `shift`, `job`, `traffic`, `error`.
        text: The sentence.
        subject: The model or point concerned, as `model:<name>` or `point:<name>`.
        data: The figures in it.
    """

    at: float
    source: str
    kind: str
    text: str
    subject: str = ""
    data: Mapping[str, Any] = {}


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life: `at` is when, `started` since when, `detail` what the process is doing and its `memory`."""

    process: str
    pid: int
    at: float
    started: float
    detail: Mapping[str, Any] = {}


_encoder = msgspec.json.Encoder()
_note = msgspec.json.Decoder(Note)
_heartbeat = msgspec.json.Decoder(Heartbeat)


def tell(log: Log, note: Note, note_id: str | None = None) -> None:
    """Append a note; with an id of its own (say, the cause's) it is told once however often it is repeated."""
    payload = _encoder.encode(note)
    log.append(FEED, [Draft(note_id or uuid.uuid4().hex, b"", payload)])


def read(log: Log, after: EntryId, count: int = 100) -> list[tuple[EntryId, Note]]:
    """The notes after an entry, oldest first."""
    return [(entry.id, _note.decode(entry.payload)) for entry in log.read(FEED, after, count)]


def beat(blob: Blob, process: str, started: float, detail: Mapping[str, Any] | None = None) -> None:
    """Say that this process lives."""
    told = {**(detail or {}), "memory": _resident()}
    heartbeat = Heartbeat(process=process, pid=os.getpid(), at=time.time(), started=started, detail=told)
    blob.put(f"{_HEARTBEATS}{process}", _encoder.encode(heartbeat))


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def heartbeats(blob: Blob) -> list[Heartbeat]:
    """The last sign of life of each process, by name."""
    found = (blob.get(name) for name in blob.names(_HEARTBEATS))
    return [_heartbeat.decode(data) for data in found if data is not None]
