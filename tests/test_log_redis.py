"""What is particular to Redis: its client never repeats, scripts come back, altered entries are noticed."""

import os
import signal
import threading
import time
from typing import Any

import pytest
import redis

from online.log import START, Appended, Commit, Draft, Fenced, LogUnavailable, Partition
from online.redis_client import RedisBlob, connect
from online.redis_log import INLINE_BYTES, RedisLog

HERE = Partition("model:m", 0)


def draft(number: int) -> Draft:
    return Draft(f"id-{number}", b"d", b"payload")


def commit_now(log: RedisLog, epoch: int, commit: Commit) -> None:
    log.commit(HERE, epoch, commit)
    log.confirm(HERE, epoch)


def test_a_frozen_redis_gets_a_command_once(start_redis: Any) -> None:
    server = start_redis()
    with connect(server.socket, timeout=0.3) as client:
        log = RedisLog(client)
        log.append(HERE, [draft(0)])
        os.kill(server.process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        try:
            with pytest.raises(LogUnavailable):
                log.append(HERE, [draft(1)])
            assert time.monotonic() - begun < 1.0
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        # The write was in doubt; the same id settles it.
        (answer,) = log.append(HERE, [draft(1)])
        assert isinstance(answer, Appended)
        assert [entry.event_id for entry in log.read(HERE, START, 10)] == ["id-0", "id-1"]


def test_scripts_and_data_are_there_after_a_kill(start_redis: Any) -> None:
    server = start_redis()
    with connect(server.socket) as client:
        log, blob = RedisLog(client), RedisBlob(client)
        log.append(HERE, [draft(number) for number in range(100)])
        epoch = log.acquire(HERE, "a")
        log.commit(HERE, epoch, Commit(log.tail(HERE), b"state"))
        blob.put("bundle/a", b"data")
        server.kill()
        with pytest.raises(LogUnavailable):
            log.append(HERE, [draft(100)])
        server.start()
        last = RedisLog(client).read(HERE, START, 100)[99]
        assert log.append(HERE, [draft(99)])[0] == Appended(last, fresh=False)
        log.append(HERE, [draft(100)])
        assert log.length(HERE) == 101
        saved = log.load(HERE)
        assert saved is not None
        assert saved.snapshot == b"state"
        assert blob.get("bundle/a") == b"data"


def test_an_altered_entry_is_noticed(redis_client: redis.Redis) -> None:
    log = RedisLog(redis_client)
    (good,) = log.append(HERE, [draft(0)])
    fields = redis_client.xrange(f"trimtab:{{{HERE}}}:entries")[0][1]
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    for name, forged in ((b"p", b"pAyload"), (b"i", b"id-7"), (b"h", values[b"h"].replace(b"1", b"2", 1)), (b"h", b"")):
        redis_client.xadd(f"trimtab:{{{HERE}}}:entries", {**values, name: forged})
    entries = log.read(HERE, START, 10)
    assert entries[0] == good.entry
    assert [entry.intact for entry in entries] == [True, False, False, False, False]


def test_many_threads_that_repeat_themselves_append_each_id_once(embedded_redis: Any, redis_client: Any) -> None:
    answers: list[Any] = []

    def produce() -> None:
        with connect(embedded_redis.socket) as client:
            log = RedisLog(client)
            for begin in range(0, 500, 50):
                answers.extend(log.append(HERE, [draft(number) for number in range(begin, begin + 50)]))

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = RedisLog(redis_client)
    entries = log.read(HERE, START, 10_000)
    assert [entry.number for entry in entries] == list(range(1, 501))
    assert sum(answer.fresh for answer in answers) == 500
    assert {answer.entry for answer in answers} == set(entries)


def test_no_redis_at_all_is_trouble_with_a_name(tmp_path: Any) -> None:
    log = RedisLog(connect(str(tmp_path / "none.sock")))
    for call in (lambda: log.tail(HERE), lambda: log.append(HERE, [draft(0)]), lambda: log.wait({HERE: START}, 0.1)):
        with pytest.raises(LogUnavailable, match=r"Redis failed to (find the end|append|wait)"):
            call()


def test_what_is_no_stream_of_ours_is_trouble_and_is_left_alone(redis_client: redis.Redis) -> None:
    redis_client.set(f"trimtab:{{{HERE}}}:ids", "not a hash")
    with pytest.raises(LogUnavailable, match="WRONGTYPE"):
        RedisLog(redis_client).append(HERE, [draft(0)])
    assert redis_client.keys("*:entries") == []
    assert redis_client.keys("*:meta") == []


def test_reports_are_kept_up_to_about_a_bound_and_none_comes_twice(redis_client: redis.Redis) -> None:
    log = RedisLog(redis_client, reports_kept=300)
    ids = [answer.entry.id for answer in log.append(HERE, [draft(number) for number in range(2_000)])]
    epoch = log.acquire(HERE, "a")
    for begin in range(0, 2_000, 250):
        some = [(entry_id, b"r") for entry_id in ids[max(0, begin - 50) : begin + 250]]
        log.commit(HERE, epoch, Commit(some[-1][0], None, some))
    kept = [entry.id for entry in log.reports(HERE, START, 10_000)]
    assert 300 <= len(kept) < 500
    assert kept == ids[-len(kept) :]


def test_large_parts_are_uploaded_in_pieces_and_appear_with_their_snapshot(start_redis: Any) -> None:
    server = start_redis()
    with connect(server.socket) as client:
        log = RedisLog(client)
        log.append(HERE, [draft(0)])
        epoch = log.acquire(HERE, "a")
        large = {f"key:{number}": bytes([number]) * 3_000 for number in range(200)}
        parts: dict[str, bytes | None] = {**large, "key:tree": os.urandom(INLINE_BYTES * 2 + 5), "key:gone": None}
        log.commit(HERE, epoch, Commit(log.tail(HERE), b"one", parts={"key:gone": b"x", "key:7": b"old"}))
        log.commit(HERE, epoch, Commit(log.tail(HERE), b"two", parts=parts))
        assert dict(log.parts(HERE, "key:")) == {name: data for name, data in parts.items() if data}
        assert not client.exists("trimtab:{model:m/0}:staged")
        # The snapshot before is still whole.
        log.commit(HERE, epoch, Commit(log.tail(HERE), b"bad", parts={"key:7": b"bad" * INLINE_BYTES}))
        assert log.fall_back(HERE, epoch)
        assert log.part(HERE, "key:7") == large["key:7"]
        # Pieces that another owner staged before it was fenced never become parts.
        with pytest.raises(Fenced):
            commit_now(log, epoch - 1, Commit(log.tail(HERE), b"old", parts=parts))
        assert log.part(HERE, "key:7") == large["key:7"]
