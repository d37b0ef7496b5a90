"""One suite for every log: in memory and in Redis."""

from collections.abc import Callable
from typing import Any

import pytest

from online.log import (
    START,
    Appended,
    Blob,
    Commit,
    Conflict,
    Draft,
    EntryId,
    Fenced,
    Log,
    Partition,
    ReportEntry,
    Restarted,
    Saved,
    parse_token,
    token,
)

HERE = Partition("model:m", 0)


def draft(number: int, digest: bytes = b"same", payload: bytes = b"payload \x00\xff") -> Draft:
    return Draft(f"id-{number}", digest, payload)


def fill(log: Log, count: int, partition: Partition = HERE) -> list[EntryId]:
    return [answer.entry.id for answer in log.append(partition, [draft(number) for number in range(count)])]


def test_entries_come_back_in_order_with_running_numbers_and_their_bytes(log: Log, clock: Any) -> None:
    ids = fill(log, 5)
    assert ids == sorted(set(ids))
    entries = log.read(HERE, START, 100)
    assert [entry.id for entry in entries] == ids
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.event_id for entry in entries] == [f"id-{number}" for number in range(5)]
    assert {(entry.at, entry.payload, entry.intact) for entry in entries} == {(clock.now, b"payload \x00\xff", True)}
    assert [entry.id for entry in log.read(HERE, ids[1], 2)] == ids[2:4]
    assert log.read(HERE, ids[-1], 10) == []
    assert (log.first(HERE), log.tail(HERE), log.length(HERE)) == (ids[0], ids[-1], 5)


def test_the_end_of_a_log_is_read_backwards_the_oldest_of_it_first(log: Log) -> None:
    assert log.read_back(HERE, None, 3) == []
    ids = fill(log, 5)
    assert log.read_back(HERE, None, 2) == log.read(HERE, ids[2], 2)
    assert [entry.id for entry in log.read_back(HERE, ids[3], 2)] == ids[1:3]
    assert [entry.id for entry in log.read_back(HERE, ids[3], 99)] == ids[:3]
    assert log.read_back(HERE, ids[0], 2) == []


def commit_now(log: Log, epoch: int, commit: Commit) -> None:
    log.commit(HERE, epoch, commit)
    log.confirm(HERE, epoch)


def test_an_empty_log_says_so(log: Log) -> None:
    assert log.read(HERE, START, 10) == []
    assert (log.first(HERE), log.tail(HERE), log.length(HERE)) == (START, START, 0)
    assert log.find(HERE, []) == []
    assert log.find(HERE, ["never"]) == [None]
    assert log.load(HERE) is None
    assert log.head(HERE) == (START, 0, 0, 0, "", 0)
    assert log.append(HERE, []) == []


def test_a_retry_gets_the_stored_entry_and_appends_nothing(log: Log, clock: Any) -> None:
    (first,) = log.append(HERE, [draft(1, payload=b"first answer")])
    clock.now += 60
    (again,) = log.append(HERE, [draft(1, payload=b"another replica would have answered this")])
    assert isinstance(first, Appended)
    assert isinstance(again, Appended)
    assert first.fresh
    assert again == Appended(first.entry, fresh=False)
    assert again.entry.payload == b"first answer"
    assert log.length(HERE) == 1


def test_an_id_taken_by_another_request_is_a_conflict(log: Log) -> None:
    (first,) = log.append(HERE, [draft(1, digest=b"one")])
    assert log.append(HERE, [draft(1, digest=b"two")]) == [Conflict(first.entry)]
    assert log.length(HERE) == 1


def test_digests_are_bytes_of_any_kind(log: Log) -> None:
    for number, digest in enumerate((b"", b" ", b"\n1-1 x", bytes(range(16)), b"%d (.*)$")):
        (fresh,) = log.append(HERE, [draft(number, digest)])
        (again,) = log.append(HERE, [draft(number, digest)])
        (other,) = log.append(HERE, [draft(number, digest + b"!")])
        assert isinstance(fresh, Appended)
        assert again == Appended(fresh.entry, fresh=False)
        assert isinstance(other, Conflict)


def test_a_batch_mixes_new_known_taken_and_repeated_ids(log: Log) -> None:
    fill(log, 2)
    batch = [draft(0), draft(2), draft(1, b"other"), draft(2), draft(2, b"other"), draft(3)]
    answers = log.append(HERE, batch)
    kinds = [(type(answer).__name__, answer.entry.number, getattr(answer, "fresh", None)) for answer in answers]
    assert kinds == [
        ("Appended", 1, False),
        ("Appended", 3, True),
        ("Conflict", 2, None),
        ("Appended", 3, False),
        ("Conflict", 3, None),
        ("Appended", 4, True),
    ]
    assert [entry.number for entry in log.read(HERE, START, 10)] == [1, 2, 3, 4]


def test_a_large_batch_is_appended_whole(log: Log) -> None:
    assert len(set(fill(log, 2_500))) == 2_500
    assert log.read(HERE, START, 5_000)[-1].number == 2_500


def test_ids_are_remembered_for_a_window_counted_in_entries(make_log: Callable[..., Log], clock: Any) -> None:
    log = make_log(window=10)
    fill(log, 25)
    clock.now += 10 * 365 * 86_400
    fresh = [
        answer.fresh for answer in log.append(HERE, [draft(n) for n in range(15, 25)]) if isinstance(answer, Appended)
    ]
    assert fresh == [False] * 10
    assert log.find(HERE, ["id-14", "id-15"])[0] is None
    (forgotten,) = log.append(HERE, [draft(14)])
    assert isinstance(forgotten, Appended)
    assert forgotten.fresh
    assert log.find(HERE, ["id-15"]) == [None]


def test_a_batch_larger_than_the_window_keeps_the_newest_ids(make_log: Callable[..., Log]) -> None:
    log = make_log(window=3)
    fill(log, 10)
    found = log.find(HERE, [f"id-{number}" for number in range(10)])
    assert [entry is not None for entry in found] == [False] * 7 + [True] * 3


def test_a_clock_that_jumps_back_changes_no_order(log: Log, clock: Any) -> None:
    ids = [answer.entry.id for answer in log.append(HERE, [draft(1)])]
    clock.now -= 86_400
    ids += [answer.entry.id for answer in log.append(HERE, [draft(2)])]
    assert ids == sorted(set(ids))
    assert [entry.at for entry in log.read(HERE, START, 5)] == [clock.now + 86_400, clock.now]


def test_found_entries_answer_in_the_order_asked(log: Log) -> None:
    fill(log, 5)
    found = log.find(HERE, ["id-3", "unknown", "id-0"])
    assert [None if entry is None else entry.number for entry in found] == [4, None, 1]


def test_partitions_do_not_see_each_other(log: Log) -> None:
    elsewhere = Partition("model:m", 1)
    fill(log, 3)
    fill(log, 1, elsewhere)
    assert (log.length(HERE), log.length(elsewhere)) == (3, 1)
    assert log.read(elsewhere, START, 10)[0].number == 1


def test_a_commit_is_visible_as_a_whole(log: Log) -> None:
    ids = fill(log, 3)
    epoch = log.acquire(HERE, "a")
    reports = [(ids[0], b"r0"), (ids[2], b"r2")]
    log.commit(HERE, epoch, Commit(ids[2], b"state", reports, {"decision:1": b"pending"}, {"key:a": b"A"}, learned=3))
    assert log.load(HERE) == Saved(b"state", ids[2], 1)
    assert log.reports(HERE, START, 10) == [ReportEntry(*report) for report in reports]
    assert log.reports(HERE, ids[0], 10) == [ReportEntry(ids[2], b"r2")]
    assert log.lookup(HERE, "decision:1") == b"pending"
    assert log.lookup_all(HERE, ["decision:0", "decision:1"]) == [None, b"pending"]
    assert log.lookup_all(HERE, []) == []
    assert log.part(HERE, "key:a") == b"A"
    head = log.head(HERE)
    assert (head.cursor, head.epoch, head.learned, head.version, head.owner) == (ids[2], epoch, 3, 1, "a")


def test_reports_alone_leave_the_snapshot_where_it_was(log: Log) -> None:
    ids = fill(log, 2)
    epoch = log.acquire(HERE, "a")
    log.commit(HERE, epoch, Commit(ids[0], b"state"))
    log.commit(HERE, epoch, Commit(ids[1], None, [(ids[1], b"r")]))
    assert log.load(HERE) == Saved(b"state", ids[0], 1)
    assert log.head(HERE).cursor == ids[1]


def test_a_new_owner_fences_the_old_one(log: Log) -> None:
    ids = fill(log, 2)
    old = log.acquire(HERE, "a")
    new = log.acquire(HERE, "b")
    assert new > old
    for write in (
        lambda: commit_now(log, old, Commit(ids[0], b"stale", [(ids[0], b"stale")], {"x:1": b"stale"})),
        lambda: log.beat(HERE, old),
        lambda: log.fall_back(HERE, old),
        lambda: log.trim(HERE, old, ids[1]),
    ):
        with pytest.raises(Fenced):
            write()
    assert log.load(HERE) is None
    assert log.reports(HERE, START, 10) == []
    assert log.lookup(HERE, "x:1") is None
    log.commit(HERE, new, Commit(ids[0], b"good"))
    assert log.load(HERE) == Saved(b"good", ids[0], 1)


@pytest.mark.parametrize("name", ["commit", "beat", "fall_back", "reset", "trim"])
def test_what_went_wrong_with_a_commit_is_raised_before_anything_else_is_written(log: Log, name: str) -> None:
    ids = fill(log, 2)
    epoch = log.acquire(HERE, "a")
    log.commit(HERE, epoch, Commit(ids[0], b"good"))
    writes: dict[str, Callable[[], object]] = {
        "commit": lambda: log.commit(HERE, epoch, Commit(ids[1], b"after")),
        "beat": lambda: log.beat(HERE, epoch),
        "fall_back": lambda: log.fall_back(HERE, epoch),
        "reset": lambda: log.reset(HERE, epoch),
        "trim": lambda: log.trim(HERE, epoch, ids[1]),
    }

    def write_twice() -> None:
        # The answer to the first may still be due: then the second call brings it.
        log.commit(HERE, epoch, Commit(EntryId(ids[1].ms, ids[1].seq + 1), b"of a future that was lost"))
        writes[name]()

    with pytest.raises(Restarted):
        write_twice()
    assert log.load(HERE) == Saved(b"good", ids[0], 1)
    log.commit(HERE, epoch, Commit(ids[1], b"next"))
    log.confirm(HERE, epoch)
    assert log.load(HERE) == Saved(b"next", ids[1], 2)


def test_what_is_read_ahead_is_what_follows_and_nothing_else(log: Log) -> None:
    ids = fill(log, 10)
    log.acquire(HERE, "a")
    assert [entry.id for entry in log.read(HERE, START, 4)] == ids[:4]
    assert [entry.id for entry in log.read(HERE, ids[3], 4)] == ids[4:8]
    assert [entry.id for entry in log.read(HERE, START, 2)] == ids[:2]
    assert [entry.id for entry in log.read(HERE, ids[1], 8)] == ids[2:]
    late = log.append(HERE, [draft(number) for number in range(10, 12)])
    # Asked for when there was nothing behind the last one.
    assert [entry.id for entry in log.read(HERE, ids[9], 8)] in ([], [answer.entry.id for answer in late])
    assert [entry.id for entry in log.read(HERE, ids[9], 9)] == [answer.entry.id for answer in late]


def test_a_beat_shows_that_the_owner_lives(log: Log) -> None:
    epoch = log.acquire(HERE, "a")
    before = log.head(HERE).beat
    log.beat(HERE, epoch)
    assert log.head(HERE).beat > before


def test_a_replay_appends_no_report_twice_and_turns_no_index_back(log: Log) -> None:
    ids = fill(log, 4)
    epoch = log.acquire(HERE, "a")
    log.commit(HERE, epoch, Commit(ids[2], None, [(ids[0], b"0"), (ids[2], b"2")], {"decision:1": b"rewarded"}))
    epoch = log.acquire(HERE, "a")
    log.commit(HERE, epoch, Commit(ids[1], b"s", [(ids[0], b"0")], {"decision:1": b"pending"}))
    assert log.lookup(HERE, "decision:1") == b"rewarded"
    log.commit(HERE, epoch, Commit(ids[3], b"s", [(ids[2], b"2"), (ids[3], b"3")], {"decision:1": b"closed"}))
    assert [report.id for report in log.reports(HERE, START, 10)] == [ids[0], ids[2], ids[3]]
    assert log.lookup(HERE, "decision:1") == b"closed"


def test_a_cursor_beyond_the_log_is_refused(log: Log) -> None:
    ids = fill(log, 1)
    epoch = log.acquire(HERE, "a")
    beyond = EntryId(ids[0].ms, ids[0].seq + 1)
    with pytest.raises(Restarted):
        commit_now(log, epoch, Commit(beyond, b"from a future that was lost", [(beyond, b"r")]))
    assert log.load(HERE) is None
    assert log.reports(HERE, START, 10) == []


def test_parts_change_with_their_snapshot_and_fall_back_with_it(log: Log) -> None:
    ids = fill(log, 4)
    epoch = log.acquire(HERE, "a")
    log.commit(HERE, epoch, Commit(ids[0], b"first", parts={"key:a": b"1", "key:b": b"1", "other:c": b"1"}))
    log.commit(HERE, epoch, Commit(ids[1], b"second", parts={"key:a": b"2", "key:b": None, "key:d": b"2"}))
    assert dict(log.parts(HERE, "key:")) == {"key:a": b"2", "key:d": b"2"}
    assert log.previous(HERE) == ids[0]
    log.commit(HERE, epoch, Commit(ids[2], b"unverified before", parts={"key:a": b"3"}, verified=False))
    assert log.previous(HERE) == ids[0]
    assert log.fall_back(HERE, epoch)
    saved = log.load(HERE)
    assert saved is not None
    assert (saved.snapshot, saved.cursor) == (b"first", ids[0])
    assert dict(log.parts(HERE, "")) == {"key:a": b"1", "key:b": b"1", "other:c": b"1"}
    assert not log.fall_back(HERE, epoch)


def test_parts_without_a_snapshot_are_refused() -> None:
    with pytest.raises(ValueError, match="without a snapshot"):
        Commit(START, None, parts={"key:a": b""})


def test_prefixes_of_parts_are_taken_literally(log: Log) -> None:
    ids = fill(log, 1)
    epoch = log.acquire(HERE, "a")
    log.commit(HERE, epoch, Commit(ids[0], b"s", parts={"k[1]*?\\:a": b"1", "k1:a": b"2"}))
    assert dict(log.parts(HERE, "k[1]*?\\:")) == {"k[1]*?\\:a": b"1"}


def test_the_oldest_index_fields_of_a_family_are_forgotten(make_log: Callable[..., Log]) -> None:
    log = make_log(window=2)
    ids = fill(log, 5)
    epoch = log.acquire(HERE, "a")
    for number, entry_id in enumerate(ids):
        log.commit(HERE, epoch, Commit(entry_id, None, index={f"decision:{number}": b"x", "decision:0": b"again"}))
        if number == 1:
            log.commit(HERE, epoch, Commit(ids[2], None, index={"decision:1": None, "reject:1": b"why"}))
    names = dict(log.fields(HERE, "decision"))
    assert len(names) == 2
    assert "decision:4" in names
    assert dict(log.fields(HERE, "reject")) == {"reject:1": b"why"}
    assert dict(log.fields(HERE, "unheard-of")) == {}


def test_snapshots_of_any_size_come_back(log: Log) -> None:
    ids = fill(log, 8)
    epoch = log.acquire(HERE, "a")
    for number, size in enumerate((0, 1, (4 << 20) + 1, (9 << 20), 100, 4 << 20, (8 << 20) + 3, 7)):
        data = bytes([number]) * size
        log.commit(HERE, epoch, Commit(ids[number], data))
        saved = log.load(HERE)
        assert saved is not None
        assert saved.cursor == ids[number]
        assert saved.snapshot == data


def test_trimming_spares_the_ids_still_remembered(make_log: Callable[..., Log]) -> None:
    log = make_log(window=4)
    ids = fill(log, 10)
    epoch = log.acquire(HERE, "a")
    assert log.trim(HERE, epoch, ids[2]) == 2
    assert log.first(HERE) == ids[2]
    assert log.trim(HERE, epoch, ids[9]) == 4
    assert log.first(HERE) == ids[6]
    assert log.tail(HERE) == ids[9]
    assert [entry.number for entry in log.read(HERE, START, 10)] == [7, 8, 9, 10]
    assert isinstance(log.append(HERE, [draft(6)])[0], Appended)
    assert log.length(HERE) == 4


def test_nothing_is_trimmed_while_every_id_is_remembered(log: Log) -> None:
    ids = fill(log, 5)
    assert log.trim(HERE, log.acquire(HERE, "a"), ids[4]) == 0
    assert log.length(HERE) == 5


def test_waiting_ends_with_the_first_entry(log: Log) -> None:
    elsewhere = Partition("model:n", 0)
    assert not log.wait({HERE: START, elsewhere: START}, 0.01)
    (entry_id,) = fill(log, 1, elsewhere)
    assert log.wait({HERE: START, elsewhere: START}, 5.0)
    assert not log.wait({HERE: START, elsewhere: entry_id}, 0.01)
    assert log.read(HERE, START, 10, block=0.01) == []


def test_blobs_are_kept_listed_and_forgotten(blob: Blob) -> None:
    for name, data in (("bundle/b", b"2"), ("bundle/a", b"1"), ("job/1", b"\x00\xff"), ("bundlé/x", b"")):
        blob.put(name, data)
    blob.put("bundle/a", b"new")
    assert blob.get("bundle/a") == b"new"
    assert blob.get("job/1") == b"\x00\xff"
    assert blob.get("none") is None
    assert blob.names("bundle/") == ["bundle/a", "bundle/b"]
    assert len(blob.names("")) == 4
    blob.delete("bundle/a")
    blob.delete("never there")
    assert blob.get("bundle/a") is None
    assert blob.names("bundle/") == ["bundle/b"]


def test_entry_ids_compare_as_integers() -> None:
    assert EntryId.parse(b"1-10") > EntryId.parse("1-9") > EntryId.parse("0-99999")
    assert str(EntryId.parse("1700000000000-3")) == "1700000000000-3"
    for wrong in ("", "1", "1-", "-1", "1-2-3", "a-b", "1.0-2", "٣-1", b"\xff-1"):
        with pytest.raises(ValueError, match="no entry id"):
            EntryId.parse(wrong)


def test_tokens_name_partition_and_place() -> None:
    assert parse_token(token(Partition("model:m", 3), EntryId(5, 6))) == (3, EntryId(5, 6))
    for wrong in ("", "5-6", "x:5-6", ":5-6", "0:", "0:5"):
        with pytest.raises(ValueError, match="no ent"):
            parse_token(wrong)


def test_keys_are_spread_over_partitions_and_stay_there() -> None:
    placed = [Partition.of("model:m", f"sku-{number}", 4).index for number in range(4_000)]
    counts = [placed.count(index) for index in range(4)]
    # 4,000 fair draws over 4: a standard deviation of 27.4; five of them bound each count.
    assert all(abs(count - 1_000) < 137 for count in counts)
    assert Partition.of("model:m", "sku-1", 4) == Partition("model:m", placed[1])
    assert Partition.of("model:m", None, 4) == Partition.of("model:m", "anything", 1) == Partition("model:m", 0)
