"""A log in Redis Streams. Every write that must be all or nothing is one Lua script (``online/scripts``)."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import redis

from online.log import (
    START,
    Appended,
    Commit,
    Conflict,
    Draft,
    Entry,
    EntryId,
    Fenced,
    Head,
    Partition,
    ReportEntry,
    Restarted,
    Saved,
)
from online.redis_client import Script, Sent, unavailable
from online.redis_layout import Keys, answers_of, by_family, changes_of, checksum, entries_of, run_of

WINDOW = 1_000_000
"""Ids remembered per partition, about half a kilobyte each; index fields remembered per family."""

REPORTS_KEPT = 1_000_000
"""Report entries kept per partition, about."""

_APPEND_AT_ONCE = 1_000
"""Drafts in one script call: Lua's stack holds about 8,000 values."""

_PIECES_AT_ONCE = 4_000

INLINE_BYTES = 4 << 20
"""A larger snapshot, or more in parts, is uploaded in pieces first, so that no single command blocks Redis for long."""


class RedisLog:
    """A `Log` in Redis. One object and its client per thread.

    ``clock`` gives append times in seconds since the epoch; ids are Redis's own, and say order, never time.
    """

    def __init__(
        self,
        client: redis.Redis,
        clock: Callable[[], float] = time.time,
        window: int = WINDOW,
        reports_kept: int = REPORTS_KEPT,
    ) -> None:
        self._client = client
        for command in ("XRANGE", "XREVRANGE", "XREAD"):
            client.set_response_callback(command, _as_it_is)
        self._clock = clock
        self._window = window
        self._reports_kept = reports_kept
        self._runs: dict[Partition, bytes] = {}
        self._committing: dict[tuple[Partition, int], Sent] = {}
        self._ahead: dict[Partition, tuple[EntryId, int, Sent]] = {}
        self._append = Script(client, "append_drafts")
        self._acquire = Script(client, "acquire")
        self._beat = Script(client, "beat")
        self._stage = Script(client, "stage")
        self._stage_parts = Script(client, "stage_parts")
        self._commit = Script(client, "commit")
        self._fall_back = Script(client, "fall_back")
        self._reset = Script(client, "reset")
        self._trim = Script(client, "trim")
        self._load = Script(client, "load")

    def append(self, partition: Partition, drafts: Sequence[Draft]) -> list[Appended | Conflict]:
        """Append each draft whose id is new, durably, and answer for each in order."""
        answers: list[Appended | Conflict] = []
        for begin in range(0, len(drafts), _APPEND_AT_ONCE):
            answers += self._append_some(partition, drafts[begin : begin + _APPEND_AT_ONCE])
        return answers

    def _append_some(self, partition: Partition, drafts: Sequence[Draft]) -> list[Appended | Conflict]:
        keys = Keys.of(partition)
        at = self._clock()
        stamp = repr(at).encode()
        arguments: list[str | bytes | int] = [self._window]
        for draft in drafts:
            header = b"%b %b" % (stamp, checksum(draft.id.encode(), stamp, draft.payload))
            arguments += (draft.id, draft.digest, header, draft.payload)
        with unavailable(f"append {len(drafts)} entries to {partition}"):
            reply = self._append((keys.entries, keys.ids, keys.meta), *arguments)
        return answers_of(drafts, reply, at)

    def read(self, partition: Partition, after: EntryId, count: int, block: float = 0.0) -> list[Entry]:
        """Up to ``count`` entries after an id, waiting up to ``block`` seconds for the first.

        Raises:
            Restarted: This log object acquired the partition, and Redis is not as it was then.
        """
        if block > 0:
            self.wait({partition: after}, block)
        run = self._runs.get(partition)
        with unavailable(f"read {partition}"):
            if run is None:
                return entries_of(self._client.xrange(Keys.of(partition).entries, f"({after}", "+", count))
            info, last, found = self._asked(partition, after, count).answers()
            if run_of(info) != run or EntryId.parse(last or b"0-0") < after:
                raise Restarted(f"Redis was restarted, or {partition} ends before {after}: load the snapshot again")
            entries = entries_of(found)
            if len(entries) == count:
                follows = entries[-1].id
                self._ahead[partition] = follows, count, self._ask(partition, follows, count)
        return entries

    def read_back(self, partition: Partition, before: EntryId | None, count: int) -> list[Entry]:
        """The last entries before an id, or of all."""
        end = "+" if before is None else f"({before}"
        with unavailable(f"read {partition}"):
            return entries_of(self._client.xrevrange(Keys.of(partition).entries, end, "-", count))[::-1]

    def _asked(self, partition: Partition, after: EntryId, count: int) -> Sent:
        """What was asked for ahead, where it is this; else asked now."""
        if partition in self._ahead:
            begin, size, sent = self._ahead.pop(partition)
            if (begin, size) == (after, count):
                return sent
            sent.drop()
        return self._ask(partition, after, count)

    def _ask(self, partition: Partition, after: EntryId, count: int) -> Sent:
        keys = Keys.of(partition)
        # One connection, so one run of the server answers all three: XRANGE alone would say "nothing new".
        range_ = ("XRANGE", keys.entries, f"({after}", "+", "COUNT", count)
        return Sent(self._client, [("INFO", "server"), ("HGET", keys.meta, "last"), range_])

    def wait(self, after: Mapping[Partition, EntryId], seconds: float) -> bool:
        """Whether any of the partitions has an entry after the id given for it, within ``seconds``."""
        places: dict[Any, Any] = {Keys.of(partition).entries: str(entry_id) for partition, entry_id in after.items()}
        with unavailable(f"wait for {len(after)} partitions"):
            return bool(self._client.xread(places, count=1, block=max(1, int(seconds * 1000))))

    def find(self, partition: Partition, event_ids: Sequence[str]) -> list[Entry | None]:
        """The entries under these event ids, ``None`` where unknown or forgotten beyond the window."""
        if not event_ids:
            return []
        keys = Keys.of(partition)
        with unavailable(f"find {len(event_ids)} entries of {partition}"):
            places = cast(list[bytes | None], self._client.hmget(keys.ids, list(event_ids)))
            with self._client.pipeline(transaction=False) as pipeline:
                for place in places:
                    entry_id = "0-0" if place is None else place.split(b" ", 1)[0].decode()
                    pipeline.xrange(keys.entries, entry_id, entry_id)
                found = [entries_of(reply) for reply in pipeline.execute()]
        return [entries[0] if entries else None for entries in found]

    def tail(self, partition: Partition) -> EntryId:
        """The last entry ever appended, `START` if none."""
        with unavailable(f"find the end of {partition}"):
            return EntryId.parse(cast(bytes, self._client.hget(Keys.of(partition).meta, "last")) or b"0-0")

    def first(self, partition: Partition) -> EntryId:
        """The oldest entry still there, `START` if none."""
        with unavailable(f"find the beginning of {partition}"):
            found = entries_of(self._client.xrange(Keys.of(partition).entries, "-", "+", 1))
        return found[0].id if found else START

    def length(self, partition: Partition) -> int:
        """The number of entries still there."""
        with unavailable(f"measure {partition}"):
            return int(self._client.xlen(Keys.of(partition).entries))

    def acquire(self, partition: Partition, owner: str) -> int:
        """Become the partition's one writer; the new epoch fences all others."""
        keys = self._keys(partition)
        # What is still to be answered was asked by an owner whose time is over.
        self._committing = {at: sent for at, sent in self._committing.items() if at[0] != partition}
        if partition in self._ahead:
            self._ahead.pop(partition)[2].drop()
        with unavailable(f"acquire {partition}"):
            epoch, run = self._acquire((keys.meta,), owner)
        self._runs[partition] = run
        return int(epoch)

    def beat(self, partition: Partition, epoch: int) -> None:
        """Say that the owner is alive. Raises `Fenced`."""
        self.confirm(partition, epoch)
        with unavailable(f"keep {partition}"):
            self._check(partition, epoch, self._beat((Keys.of(partition).meta,), epoch))

    def commit(self, partition: Partition, epoch: int, commit: Commit) -> None:
        """Make a learner's progress visible, all or nothing. Raises `Fenced` or `Restarted`."""
        self.confirm(partition, epoch)
        keys = Keys.of(partition)
        with unavailable(f"commit {partition}"):
            slot, inline = self._place(partition, keys, epoch, commit.snapshot)
            head: list[str | bytes | int] = [epoch, self._runs.get(partition, b""), str(commit.cursor), commit.learned]
            head += [slot, int(commit.verified), inline, self._reports_kept, self._window]
            staged = self._stage_large(partition, keys, epoch, commit.parts)
            head.append(sum(staged.values()))
            families = by_family(commit.index)
            names = [keys.meta, keys.reports, keys.parts, keys.undo, keys.slots[int(slot or 0)], keys.staged]
            names += [name for family in families for name in keys.index(family)]
            changes = changes_of(commit, families, staged)
            self._committing[partition, epoch] = self._commit.send(names, *head, *changes)

    def confirm(self, partition: Partition, epoch: int) -> None:
        """Wait until the last commit under this epoch has happened. Raises `Fenced` or `Restarted`."""
        sent = self._committing.pop((partition, epoch), None)
        if sent is None:
            return
        with unavailable(f"commit {partition}"):
            try:
                (answer,) = sent.answers()
            except redis.exceptions.NoScriptError:
                self._commit.forget()
                raise
        self._check(partition, epoch, answer)

    def _place(self, partition: Partition, keys: Keys, epoch: int, data: bytes | None) -> tuple[str, bytes]:
        """The slot for a snapshot, uploaded already if it is large, and its bytes if they go with the commit."""
        if data is None:
            return "", b""
        pointers = cast(list[bytes | None], self._client.hmget(keys.meta, ["snapshot", "previous"]))
        slot = next(name for name in ("0", "1", "2") if name.encode() not in pointers)
        if len(data) <= INLINE_BYTES:
            return slot, data
        for chunk, begin in enumerate(range(0, len(data), INLINE_BYTES)):
            part = data[begin : begin + INLINE_BYTES]
            self._check(partition, epoch, self._stage((keys.meta, keys.slots[int(slot)]), epoch, slot, chunk, part))
        return slot, b""

    def _stage_large(
        self, partition: Partition, keys: Keys, epoch: int, parts: Mapping[str, bytes | None]
    ) -> dict[str, int]:
        """Uploads parts ahead of their commit where they are too much for one command; the pieces of each."""
        large = {name: data for name, data in parts.items() if data}
        if sum(map(len, large.values())) <= INLINE_BYTES:
            return {}
        first, size, pieces = "1", 0, {}
        call: list[str | bytes | int] = []
        for number, (name, data) in enumerate(large.items(), 1):
            pieces[name] = -(-len(data) // INLINE_BYTES)
            for piece in range(pieces[name]):
                chunk = data[piece * INLINE_BYTES : (piece + 1) * INLINE_BYTES]
                call += (f"{number}:{piece + 1}", chunk)
                size += len(chunk)
                if size >= INLINE_BYTES or len(call) >= _PIECES_AT_ONCE:
                    self._check(partition, epoch, self._stage_parts((keys.meta, keys.staged), epoch, first, *call))
                    first, size, call = "0", 0, []
        if call:
            self._check(partition, epoch, self._stage_parts((keys.meta, keys.staged), epoch, first, *call))
        return pieces

    def fall_back(self, partition: Partition, epoch: int) -> bool:
        """Return to the snapshot before the last, parts included; false where there is none. Raises `Fenced`."""
        self.confirm(partition, epoch)
        keys = Keys.of(partition)
        with unavailable(f"fall back in {partition}"):
            answer = self._fall_back((keys.meta, keys.parts, keys.undo), epoch)
        self._check(partition, epoch, answer)
        return cast(bytes, answer) != b"NONE"

    def reset(self, partition: Partition, epoch: int) -> None:
        """Forget snapshots, parts, reports and index; the entries stay. Raises `Fenced`."""
        self.confirm(partition, epoch)
        keys = Keys.of(partition)
        with unavailable(f"reset {partition}"):
            pattern = _escape(keys.root)
            families = {name.decode().rpartition(":")[2] for name in self._client.scan_iter(f"{pattern}:index:*")}
            names = [keys.meta, keys.reports, keys.parts, keys.undo, keys.staged, *keys.slots]
            answer = self._reset([*names, *(name for family in families for name in keys.index(family))], epoch)
        self._check(partition, epoch, answer)

    def trim(self, partition: Partition, epoch: int, before: EntryId) -> int:
        """Remove entries before an id, never one within the window of remembered ids. Raises `Fenced`."""
        self.confirm(partition, epoch)
        keys = Keys.of(partition)
        with unavailable(f"trim {partition}"):
            answer = self._trim((keys.entries, keys.meta), epoch, str(before))
        self._check(partition, epoch, answer)
        return cast(int, answer)

    def head(self, partition: Partition) -> Head:
        """How far the learner is."""
        names = ("cursor", "epoch", "learned", "version", "owner", "beat")
        with unavailable(f"look at {partition}"):
            found = cast(list[bytes | None], self._client.hmget(self._keys(partition).meta, names))
        cursor, epoch, learned, version, owner, beat = found
        place = EntryId.parse(cursor or b"0-0")
        return Head(
            place, int(epoch or 0), int(learned or 0), int(version or 0), (owner or b"").decode(), int(beat or 0)
        )

    def load(self, partition: Partition) -> Saved | None:
        """The last snapshot."""
        keys = self._keys(partition)
        with unavailable(f"load the snapshot of {partition}"):
            reply = self._load((keys.meta, *keys.slots))
        if not reply:
            return None
        cursor, version, *chunks = reply
        return Saved(b"".join(chunks), EntryId.parse(cursor), version)

    def previous(self, partition: Partition) -> EntryId:
        """The cursor of the snapshot before the last, `START` where there is none."""
        with unavailable(f"look at {partition}"):
            found = cast(bytes | None, self._client.hget(self._keys(partition).meta, "previous_cursor"))
        return EntryId.parse(found or b"0-0")

    def part(self, partition: Partition, name: str) -> bytes | None:
        """One part of the last snapshot."""
        with unavailable(f"load a part of {partition}"):
            return cast(bytes | None, self._client.hget(self._keys(partition).parts, name))

    def parts(self, partition: Partition, prefix: str) -> Iterator[tuple[str, bytes]]:
        """All parts of the last snapshot whose name begins so, in no order."""
        with unavailable(f"load the parts of {partition}"):
            yield from self._scan(self._keys(partition).parts, _escape(prefix) + "*")

    def reports(self, partition: Partition, after: EntryId, count: int) -> list[ReportEntry]:
        """Up to ``count`` report entries after an id."""
        with unavailable(f"read the reports of {partition}"):
            found = cast(list[Any], self._client.xrange(self._keys(partition).reports, f"({after}", "+", count))
        return [ReportEntry(EntryId.parse(entry_id), fields[1]) for entry_id, fields in found]

    def lookup(self, partition: Partition, field: str) -> bytes | None:
        """An index field as the last commit that named it left it."""
        index, _ = self._keys(partition).index(field.partition(":")[0])
        with unavailable(f"look up {field!r} in {partition}"):
            return cast(bytes | None, self._client.hget(index, field))

    def lookup_all(self, partition: Partition, fields: Sequence[str]) -> list[bytes | None]:
        """Many index fields of one family, in the order asked."""
        if not fields:
            return []
        index, _ = self._keys(partition).index(fields[0].partition(":")[0])
        with unavailable(f"look up {len(fields)} fields in {partition}"):
            return cast(list[bytes | None], self._client.hmget(index, list(fields)))

    def fields(self, partition: Partition, family: str) -> Iterator[tuple[str, bytes]]:
        """All index fields ``<family>:...``, in no order."""
        index, _ = self._keys(partition).index(family)
        with unavailable(f"list the {family!r} fields of {partition}"):
            yield from self._scan(index, "*")

    def _scan(self, name: str, pattern: str) -> Iterator[tuple[str, bytes]]:
        seen: set[bytes] = set()
        for field, value in self._client.hscan_iter(name, pattern, count=1_000):
            if field not in seen:
                seen.add(field)
                yield field.decode(), value

    def _keys(self, partition: Partition) -> Keys:
        """The keys to read from, once the commit that is on its way has changed them."""
        for (at, _), sent in self._committing.items():
            if at == partition:
                sent.wait()
        return Keys.of(partition)

    def _check(self, partition: Partition, epoch: int, answer: object) -> None:
        if answer == b"FENCED":
            raise Fenced(f"{partition} has another owner; epoch {epoch} is over")
        if answer == b"RESTARTED":
            raise Restarted(f"Redis was restarted, or {partition} ends before the cursor: load the snapshot again")


def _as_it_is(reply: Any, **_: Any) -> Any:
    return reply


def _escape(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]^-\\" else letter for letter in text)
