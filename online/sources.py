"""Sources: other people's Redis Streams, followed into our log.

An entry there is acknowledged only after it was appended here, under an id made of its own: a reader that dies between
the two appends it again, and the log knows the id.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from msgspec import UNSET

from online.events import Observed, Scalar, digest, draft_id, encode
from online.log import Draft, EntryId, Log, Partition
from online.redis_client import unavailable

GROUP = "trimtab"


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A stream to follow: entries become observations of ``model``.

    ``map`` renames their fields to our features; with ``only_mapped`` the others are left out. ``label``, ``key`` and
    ``at`` name the fields that hold those. ``texts`` names features that stay text even where they look like numbers.
    """

    name: str
    stream: str
    model: str
    map: Mapping[str, str] = field(default_factory=dict)
    only_mapped: bool = False
    label: str | None = None
    key: str | None = None
    at: str | None = None
    texts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a source is behind: entries not read yet, entries read and not appended yet, entries trimmed unread.

    ``lost`` is exact where Redis counts (7 and later), else ``None`` where entries may have been lost unseen.
    """

    unread: int
    unfinished: int
    lost: int | None


class Source:
    """Follows one stream. `step` never waits; one object per thread, and a client of the stream's own Redis."""

    def __init__(
        self,
        spec: SourceSpec,
        theirs: redis.Redis,
        log: Log,
        reader: str,
        *,
        partitions: int = 1,
        abandoned: float = 60.0,
        convert: Callable[[str, str], Scalar] | None = None,
    ) -> None:
        self.spec = spec
        self._theirs: Any = theirs
        self._log, self._reader = log, reader
        self._partitions, self._abandoned = partitions, int(abandoned * 1_000)
        self._convert = convert or self._guess
        self._joined = self._resumed = False

    def step(self, count: int = 500) -> int:
        """Append up to ``count`` entries, then acknowledge them; how many there were.

        First what this reader had begun before it died, then what other readers left, then what is new.

        Raises:
            LogUnavailable: Their Redis or our log is away; nothing is lost, repeat.
        """
        with unavailable(f"follow {self.spec.stream!r}"):
            if not self._joined:
                self._join()
            entries = self._unfinished(count) or self._left_behind(count) or self._fresh(count)
            if not entries:
                return 0
            self._append(entries)
            self._theirs.xack(self.spec.stream, GROUP, *(entry_id for entry_id, _ in entries))
            return len(entries)

    def _join(self) -> None:
        try:
            self._theirs.xgroup_create(self.spec.stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._joined = True

    def _unfinished(self, count: int) -> list[Any]:
        if self._resumed:
            return []
        found = self._read("0", count)
        self._resumed = not found
        return found

    def _left_behind(self, count: int) -> list[Any]:
        reply = self._theirs.execute_command(
            "XAUTOCLAIM", self.spec.stream, GROUP, self._reader, self._abandoned, "0-0", "COUNT", count
        )
        return [(entry_id, fields) for entry_id, fields in _pairs(reply[1])]

    def _fresh(self, count: int) -> list[Any]:
        return self._read(">", count)

    def _read(self, after: str, count: int) -> list[Any]:
        reply = self._theirs.execute_command(
            "XREADGROUP", "GROUP", GROUP, self._reader, "COUNT", count, "STREAMS", self.spec.stream, after
        )
        return [] if not reply else _pairs(_one_stream(reply))

    def _append(self, entries: list[Any]) -> None:
        drafts: dict[Partition, list[Draft]] = {}
        for entry_id, fields in entries:
            event = self._event(entry_id.decode(), fields)
            if event is not None:
                place = Partition.of(f"model:{self.spec.model}", event.key, self._partitions)
                draft = Draft(draft_id(event), digest(event.id), encode(event))
                drafts.setdefault(place, []).append(draft)
        for place, some in drafts.items():
            self._log.append(place, some)

    def _event(self, entry_id: str, fields: Mapping[bytes, bytes] | None) -> Observed | None:
        if fields is None:
            # Trimmed there after it was read and before it was finished: there is nothing left to append.
            return None
        texts = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items()}
        spec = self.spec
        key = None if spec.key is None else texts.pop(spec.key, None)
        label = UNSET if spec.label is None or spec.label not in texts else self._convert("", texts.pop(spec.label))
        at = None if spec.at is None else self._convert("", texts.pop(spec.at, ""))
        names = {name: spec.map.get(name, name) for name in texts if name in spec.map or not spec.only_mapped}
        features = {ours: self._convert(ours, texts[theirs]) for theirs, ours in names.items()}
        moment = float(at) if isinstance(at, int | float) else None
        return Observed(id=f"{spec.name}/{entry_id}", key=key, at=moment, features=features, label=label)

    def _guess(self, name: str, text: str) -> Scalar:
        return text if name in self.spec.texts else scalar(text)

    def lag(self) -> Lag:
        """How far this source is behind. Raises `LogUnavailable`."""
        with unavailable(f"measure {self.spec.stream!r}"):
            stream = self._theirs.xinfo_stream(self.spec.stream)
            groups = self._theirs.xinfo_groups(self.spec.stream)
            group = next(found for found in groups if found["name"] in (GROUP, GROUP.encode()))
            read = EntryId.parse(group["last-delivered-id"])
            unread = len(self._theirs.xrange(self.spec.stream, f"({read}", "+", 100_000))
        lost: int | None = 0
        if group.get("entries-read") is not None and "entries-added" in stream:
            lost = max(0, int(stream["entries-added"]) - int(group["entries-read"]) - unread)
        elif stream["first-entry"] is not None and EntryId(0, 0) < read < EntryId.parse(stream["first-entry"][0]):
            lost = None
        return Lag(unread, int(group["pending"]), lost)


def scalar(text: str) -> Scalar:
    """What a text in somebody's stream means: a number, true or false, nothing, or itself.

    >>> scalar("1"), scalar("2.5"), scalar("true"), scalar(""), scalar("x1")
    (1, 2.5, True, None, 'x1')
    """
    if text == "":
        return None
    if text in ("true", "True", "false", "False"):
        return text in ("true", "True")
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _one_stream(reply: Any) -> Any:
    return next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]


def _pairs(entries: Any) -> list[Any]:
    """Entries as (id, fields); some versions give fields flat, some as a mapping, and ``None`` for what was trimmed."""
    found = []
    for entry_id, fields in entries:
        flat = isinstance(fields, list)
        found.append((entry_id, dict(zip(fields[::2], fields[1::2], strict=True)) if flat else fields))
    return found
