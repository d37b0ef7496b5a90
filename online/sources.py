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
from online.log import START, Draft, EntryId, Log, Partition
from online.redis_client import unavailable

GROUP = "trimtab"

COUNTED = 10_000
"""Unread entries that are counted one by one; where there are more, Redis's own counters have to do."""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A stream to follow: entries become observations of ``model``.

    ``redis`` is the URL of the server that has it; ``$NAME`` stands for an environment variable that holds the URL, so
    that no password need be written down. ``map`` renames their fields to our features; with ``only_mapped`` the others
    are left out. ``label``, ``key`` and ``at`` name the fields that hold those. ``texts`` names features that stay text
    even where they look like numbers.
    """

    name: str
    stream: str
    model: str
    redis: str = ""
    map: Mapping[str, str] = field(default_factory=dict)
    only_mapped: bool = False
    label: str | None = None
    key: str | None = None
    at: str | None = None
    texts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a source is behind: entries not read yet, entries read and not appended yet, entries trimmed unread.

    ``lost`` is exact where Redis counts (7 and later), else ``None`` once entries may have been lost unseen.
    """

    unread: int
    unfinished: int
    lost: int | None


class Source:
    """Follows one stream. `step` never waits; one object per thread, and a client of the stream's own Redis.

    ``skipped`` counts lost entries that Redis took for read when it went on after them: a reader that comes back must
    be given what the one before it had.
    """

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
        skipped: int = 0,
    ) -> None:
        self.spec = spec
        self._theirs: Any = theirs
        self._log, self._reader = log, reader
        self._partitions, self._abandoned = partitions, int(abandoned * 1_000)
        self._convert = convert or self._guess
        self._joined = self._resumed = False
        self._lost: int | None = 0
        self.skipped = skipped

    def step(self, count: int = 500) -> int:
        """Append up to ``count`` entries, then acknowledge them; how many there were.

        First what this reader had begun before it died, then what other readers left, then what is new.

        Raises:
            LogUnavailable: Their Redis or our log is away; nothing is lost, repeat.
        """
        with unavailable(f"follow {self.spec.stream!r}"):
            if not self._joined:
                self._join()
            try:
                entries = self._unfinished(count) or self._left_behind(count) or self._fresh(count)
            except redis.ResponseError:
                # Their stream, or our group, was deleted: join anew.
                self._joined = self._resumed = False
                raise
            if not entries:
                return 0
            self._append(entries)
            self._theirs.xack(self.spec.stream, GROUP, *(entry_id for entry_id, _ in entries))
            return len(entries)

    def _join(self) -> None:
        stream = self.spec.stream
        try:
            self._theirs.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        else:
            found = self._theirs.xinfo_stream(stream)
            if "entries-added" in found:
                # What was gone before we came is no loss of ours; from here on Redis counts what we read.
                gone = int(found["entries-added"]) - int(found["length"])
                self._theirs.execute_command("XGROUP SETID", stream, GROUP, "0", "ENTRIESREAD", gone)
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
        with self._theirs.pipeline(transaction=True) as pipeline:
            pipeline.xinfo_groups(self.spec.stream)
            pipeline.execute_command(*self._reading(">", count))
            pipeline.xinfo_groups(self.spec.stream)
            before, reply, after = pipeline.execute()
        found = [] if not reply else _pairs(_one_stream(reply))
        read = [self._group(groups).get("entries-read") for groups in (before, after)]
        if None not in read:
            self.skipped += max(0, int(read[1]) - int(read[0]) - len(found))
        return found

    def _group(self, groups: Any) -> Any:
        return next(group for group in groups if group["name"] in (GROUP, GROUP.encode()))

    def _read(self, after: str, count: int) -> list[Any]:
        reply = self._theirs.execute_command(*self._reading(after, count))
        return [] if not reply else _pairs(_one_stream(reply))

    def _reading(self, after: str, count: int) -> tuple[str | int, ...]:
        return ("XREADGROUP", "GROUP", GROUP, self._reader, "COUNT", count, "STREAMS", self.spec.stream, after)

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
            if not self._joined:
                self._join()
            stream = self._theirs.xinfo_stream(self.spec.stream)
            groups = self._theirs.xinfo_groups(self.spec.stream)
            group = self._group(groups)
            read, first = EntryId.parse(group["last-delivered-id"]), stream["first-entry"]
            # With the entry that was read last, others after it may have been trimmed.
            beyond = first is not None and read < EntryId.parse(first[0])
            unread = int(stream["length"])
            if not beyond and unread:
                unread = len(self._theirs.xrange(self.spec.stream, f"({read}", "+", COUNTED))
        if group.get("entries-read") is not None and "entries-added" in stream:
            behind = int(stream["entries-added"]) - int(group["entries-read"])
            if beyond or unread < COUNTED:
                self._lost = self.skipped + max(0, behind - unread)
            else:
                unread = behind
        elif beyond and read > START:
            self._lost = None
        return Lag(unread, int(group["pending"]), self._lost)


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
