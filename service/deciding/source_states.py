"""How far the sources are that the learners follow, as told by them and read by everybody."""

import msgspec

from online.log import Blob


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a source is behind, for people.

    Attributes:
        unread: Entries there that were not read yet.
        unfinished: Entries that were read and are not in our log yet.
        lost: Entries that were trimmed there before they were read; null where that is possible and cannot be counted.
        skipped: Those of the lost that Redis has taken for read.
        followed: Entries followed since the process started.
        trouble: What keeps it from going on; empty for nothing.
    """

    name: str
    stream: str
    model: str
    at: float
    unread: int = 0
    unfinished: int = 0
    lost: int | None = 0
    skipped: int = 0
    followed: int = 0
    trouble: str = ""


def put_state(blob: Blob, state: SourceState) -> None:
    """Say how far a source is."""
    blob.put(f"source/{state.name}", msgspec.json.encode(state))


def state_of(blob: Blob, name: str) -> SourceState | None:
    """What the follower of a source said last."""
    data = blob.get(f"source/{name}")
    return None if data is None else msgspec.json.decode(data, type=SourceState)


def states_of(blob: Blob) -> list[SourceState]:
    """What the followers of all sources said last."""
    found = (blob.get(name) for name in blob.names("source/"))
    return [msgspec.json.decode(data, type=SourceState) for data in found if data is not None]
