"""How the log lies in Redis: the names of keys, the fields of an entry, and what the commit script is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from online.log import Appended, Commit, Conflict, Draft, Entry, EntryId, LogUnavailable, Partition


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one partition; the tag in braces keeps them on one node of a Redis Cluster."""

    root: str
    entries: str
    ids: str
    meta: str
    reports: str
    parts: str
    undo: str
    staged: str
    slots: tuple[str, str, str]

    @classmethod
    def of(cls, partition: Partition) -> "Keys":
        """The keys of this partition."""
        root = f"trimtab:{{{partition}}}"
        entries, ids, meta, reports = (f"{root}:{name}" for name in ("entries", "ids", "meta", "reports"))
        slots = (f"{root}:snapshot:0", f"{root}:snapshot:1", f"{root}:snapshot:2")
        return cls(root, entries, ids, meta, reports, f"{root}:parts", f"{root}:undo", f"{root}:staged", slots)

    def index(self, family: str) -> tuple[str, str]:
        """The keys of a family of index fields: the fields, and their order."""
        return f"{self.root}:index:{family}", f"{self.root}:order:{family}"


# A named tuple's own constructor is a Python function: too slow for what is done for each entry.
_make = tuple.__new__


def run_of(info: bytes) -> bytes:
    """The run that ``INFO server`` names."""
    return info.partition(b"run_id:")[2].partition(b"\r\n")[0]


def checksum(*pieces: bytes) -> bytes:
    """The CRC of an entry's id, append time and payload, as its header has it."""
    return b"%08x" % crc32(b"".join(pieces))


def entries_of(found: Any) -> list[Entry]:
    """The entries of a stream, from ``[id, ["i", event id, "n", number, "h", header, "p", payload]]`` each.

    One loop over bytes that are mostly equal from one entry to the next: a learner spends a tenth of its time here.
    """
    entries: list[Entry] = []
    last_ms, ms, last_stamp, at = b"", 0, b"", 0.0
    for entry_id, (_, event_id, _, number, _, header, _, payload) in found:
        new_ms, _, seq = entry_id.partition(b"-")
        if new_ms != last_ms:
            last_ms, ms = new_ms, int(new_ms)
        place = _make(EntryId, (ms, int(seq)))
        stamp, _, crc = header.partition(b" ")
        if crc != b"%08x" % crc32(event_id + stamp + payload):
            name = event_id.decode("utf-8", "replace")
            entries.append(_make(Entry, (place, int(number), 0.0, name, payload, False)))
            continue
        if stamp != last_stamp:
            last_stamp, at = stamp, float(stamp)
        entries.append(_make(Entry, (place, int(number), at, event_id.decode(), payload, True)))
    return entries


def answers_of(drafts: Sequence[Draft], reply: list[Any], at: float) -> list[Appended | Conflict]:
    """What became of drafts, from what the append script answers."""
    number, answers = reply[0], list[Appended | Conflict]()
    for draft, found in zip(drafts, reply[1:], strict=True):
        if found.__class__ is bytes:
            ms, _, seq = found.partition(b"-")
            entry = _make(Entry, (_make(EntryId, (int(ms), int(seq))), number, at, draft.id, draft.payload, True))
            answers.append(_make(Appended, (entry, True)))
            number += 1
        else:
            answers.append(_known(draft, *found))
    return answers


def _known(draft: Draft, status: int, place: bytes, number: int, header: bytes, payload: bytes) -> Appended | Conflict:
    if not header:
        raise LogUnavailable(f"the entry {place.decode()} of the remembered id {draft.id!r} is gone from the log")
    (entry,) = entries_of([(place, (b"i", draft.id.encode(), b"n", number, b"h", header, b"p", payload))])
    return Appended(entry, fresh=False) if status == 1 else Conflict(entry)


def by_family(index: Mapping[str, bytes | None]) -> dict[str, dict[str, bytes | None]]:
    """Index fields, gathered by their family."""
    families: dict[str, dict[str, bytes | None]] = {}
    for name, value in index.items():
        families.setdefault(name.partition(":")[0], {})[name] = value
    return families


def changes_of(
    commit: Commit, families: Mapping[str, Mapping[str, bytes | None]], staged: Mapping[str, int]
) -> list[str | bytes | int]:
    """Reports, parts and index as the commit script takes them: each group behind its count."""
    flat: list[str | bytes | int] = [len(commit.reports)]
    for entry_id, payload in commit.reports:
        flat += (f"{entry_id[0]}-{entry_id[1]}", payload)
    flat.append(len(staged))
    for name, pieces in staged.items():
        flat += (name, pieces)
    flat += _set_and_removed({name: data for name, data in commit.parts.items() if name not in staged})
    flat.append(len(families))
    for fields in families.values():
        flat += _set_and_removed(fields)
    return flat


def _set_and_removed(values: Mapping[str, bytes | None]) -> list[str | bytes | int]:
    kept = [(name, value) for name, value in values.items() if value is not None]
    removed = [name for name, value in values.items() if value is None]
    flat: list[str | bytes | int] = [len(kept)]
    for pair in kept:
        flat += pair
    return [*flat, len(removed), *removed]
