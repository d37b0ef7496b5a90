"""The write path: what is answered is in the log, once, in order, whatever fails on the way."""

import asyncio
import threading
import time

import pytest

from online.log import START, Appended, Conflict, Draft, LogUnavailable, Partition
from online.memory_log import MemoryLog
from service.http.problems import ProblemError
from service.http.writer import Writer, WriterLimits

POINT = Partition("point:price", 0)
MODEL = Partition("model:churn", 0)


def draft(name, payload=b"x"):
    return Draft(name, payload, payload)


class Faulty:
    """A log that fails as Redis does: before the write, or after it, when only the reply is lost."""

    def __init__(self, log, failures):
        self.log = log
        self.failures = list(failures)
        self.calls = []

    def append(self, partition, drafts):
        self.calls.append((partition, [draft.id for draft in drafts]))
        failure = self.failures.pop(0) if self.failures else None
        if failure == "before":
            raise LogUnavailable("connection refused")
        answers = self.log.append(partition, drafts)
        if failure == "after":
            raise LogUnavailable("connection lost while reading")
        return answers


class Held(Faulty):
    """A log whose first append waits until it is let go."""

    def __init__(self, log):
        super().__init__(log, [])
        self.go = threading.Event()
        self.entered = threading.Event()

    def append(self, partition, drafts):
        self.entered.set()
        self.go.wait(10)
        return super().append(partition, drafts)


def with_writer(log, work, limits=None):
    writer = Writer(lambda: log, limits)
    writer.start()
    try:
        return asyncio.run(work(writer))
    finally:
        writer.close()


def test_what_is_answered_is_in_the_log():
    log = MemoryLog()
    outcome = with_writer(log, lambda writer: writer.append(POINT, draft("a")))
    assert isinstance(outcome, Appended)
    assert outcome.fresh
    assert log.read(POINT, START, 10) == [outcome.entry]


def test_the_same_id_again_gives_the_stored_entry_and_another_payload_a_conflict():
    async def work(writer):
        return [await writer.append(POINT, draft("a", payload)) for payload in (b"one", b"one", b"two")]

    first, again, other = with_writer(MemoryLog(), work)
    assert again == Appended(first.entry, fresh=False)
    assert other == Conflict(first.entry)


def test_requests_that_gather_behind_a_call_share_the_next_one_per_partition_in_order():
    held = Held(MemoryLog())

    async def work(writer):
        first = asyncio.create_task(writer.append(POINT, draft("first")))
        await asyncio.to_thread(held.entered.wait, 10)
        rest = [
            asyncio.create_task(writer.append(partition, draft(f"{partition.subject}/{i}")))
            for i in range(20)
            for partition in (POINT, MODEL)
        ]
        await asyncio.sleep(0.05)
        held.go.set()
        return await asyncio.gather(first, *rest)

    outcomes = with_writer(held, work)
    assert all(outcome.fresh for outcome in outcomes)
    assert held.calls == [
        (POINT, ["first"]),
        (POINT, [f"point:price/{i}" for i in range(20)]),
        (MODEL, [f"model:churn/{i}" for i in range(20)]),
    ]
    assert [outcome.entry.event_id for outcome in outcomes[1::2]] == [f"point:price/{i}" for i in range(20)]


@pytest.mark.parametrize("failure", ["before", "after"])
def test_a_write_in_doubt_is_repeated_with_the_same_ids_and_happens_once(failure):
    log = MemoryLog()
    faulty = Faulty(log, [failure, failure])
    outcome = with_writer(faulty, lambda writer: writer.append(POINT, draft("a")), WriterLimits(pause=0.001))
    assert outcome.entry.event_id == "a"
    assert len(faulty.calls) == 3
    assert log.length(POINT) == 1


def test_a_log_that_stays_away_is_a_503_that_says_to_repeat_with_the_same_id():
    faulty = Faulty(MemoryLog(), ["before"] * 1000)
    started = time.monotonic()
    limits = WriterLimits(patience=0.2, pause=0.01)
    with pytest.raises(ProblemError, match="same id") as caught:
        with_writer(faulty, lambda writer: writer.append(POINT, draft("a")), limits)
    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"] == "1"
    assert time.monotonic() - started < 5


def test_a_failure_of_some_time_ago_keeps_nobody_from_trying_again():
    async def work(writer):
        with pytest.raises(ProblemError):
            await writer.append(POINT, draft("a"))
        failed = writer.healthy
        faulty.failures.clear()
        await asyncio.sleep(1.1)
        later = writer.healthy
        await writer.append(POINT, draft("b"))
        return failed, later, writer.healthy

    faulty = Faulty(MemoryLog(), ["before"] * 1000)
    limits = WriterLimits(patience=0.1, doubt=1.0, pause=0.05)
    assert with_writer(faulty, work, limits) == (False, True, True)


def test_a_full_queue_refuses_what_comes_next_and_takes_again_once_it_is_empty():
    held = Held(MemoryLog())

    async def work(writer):
        waiting = [asyncio.create_task(writer.append(POINT, draft(str(i)))) for i in range(4)]
        await asyncio.to_thread(held.entered.wait, 10)
        with pytest.raises(ProblemError) as refused:
            await writer.append(POINT, draft("too many"))
        held.go.set()
        await asyncio.gather(*waiting)
        later = await writer.append(POINT, draft("later"))
        return refused.value, later, writer.depth

    refused, later, depth = with_writer(held, work, WriterLimits(waiting=4))
    assert refused.status == 429
    assert later.fresh
    assert depth == 0


def test_an_error_reaches_whoever_waits_and_the_next_write_goes_through():
    class Broken(Faulty):
        def append(self, partition, drafts):
            if drafts[0].id == "bad":
                raise ValueError("no such type")
            return super().append(partition, drafts)

    async def work(writer):
        with pytest.raises(ProblemError) as refused:
            await writer.append(POINT, draft("bad"))
        assert refused.value.kind == "internal"
        assert "no such type" not in refused.value.detail
        return await writer.append(POINT, draft("good"))

    assert with_writer(Broken(MemoryLog(), []), work).fresh


def test_a_caller_that_gives_up_leaves_the_others_served():
    held = Held(MemoryLog())

    async def work(writer):
        gone = asyncio.create_task(writer.append(POINT, draft("gone")))
        await asyncio.to_thread(held.entered.wait, 10)
        stays = asyncio.create_task(writer.append(POINT, draft("stays")))
        await asyncio.sleep(0)
        gone.cancel()
        held.go.set()
        return await stays, writer.depth

    stays, depth = with_writer(held, work)
    assert stays.fresh
    assert depth == 0


def test_closing_appends_what_waits():
    log = MemoryLog()
    writer = Writer(lambda: log)

    async def work():
        waiting = [asyncio.create_task(writer.append(POINT, draft(str(i)))) for i in range(3)]
        await asyncio.sleep(0)
        writer.start()
        closing = asyncio.create_task(asyncio.to_thread(writer.close))
        await asyncio.gather(*waiting)
        await closing

    asyncio.run(work())
    assert log.length(POINT) == 3


def test_a_batch_larger_than_the_queue_gets_in_among_small_writes():
    async def work(writer):
        done = False

        async def small(name):
            number = 0
            while not done:
                await writer.append(POINT, draft(f"{name}/{number}"))
                number += 1

        others = [asyncio.create_task(small(name)) for name in "ab"]
        await asyncio.sleep(0.02)
        outcomes = await writer.append_all(POINT, [draft(f"batch/{i}") for i in range(20)])
        done = True
        await asyncio.gather(*others)
        return outcomes, writer.depth

    outcomes, depth = with_writer(MemoryLog(), work, WriterLimits(waiting=8))
    assert all(outcome.fresh for outcome in outcomes)
    assert depth == 0


def test_a_caller_that_fails_to_take_its_answer_keeps_nobody_from_theirs(caplog):
    held = Held(MemoryLog())

    async def work(writer):
        first = asyncio.create_task(writer.append(POINT, draft("first")))
        await asyncio.to_thread(held.entered.wait, 10)

        def broken(_):
            raise RuntimeError("cannot take it")

        writer.submit(POINT, [draft("broken")], broken)
        second = asyncio.create_task(writer.append(POINT, draft("second")))
        await asyncio.sleep(0)
        held.go.set()
        await first
        return await asyncio.wait_for(second, 5), writer.depth

    second, depth = with_writer(held, work)
    assert second.fresh
    assert depth == 0
    assert len(caplog.records) == 1


def test_a_log_that_cannot_be_made_at_first_is_made_later():
    made = []

    def make():
        made.append(1)
        if len(made) < 3:
            raise LogUnavailable("not yet")
        return MemoryLog()

    async def work():
        writer = Writer(make, WriterLimits(pause=0.01))
        writer.start()
        try:
            return await asyncio.wait_for(writer.append(POINT, draft("a")), 5)
        finally:
            await asyncio.to_thread(writer.close)

    assert asyncio.run(work()).fresh
    assert len(made) == 3


def test_whoever_is_gone_with_their_event_loop_does_not_stop_the_writer():
    held = Held(MemoryLog())
    writer = Writer(lambda: held)
    writer.start()

    async def leave():
        task = asyncio.create_task(writer.append(POINT, draft("left")))
        await asyncio.to_thread(held.entered.wait, 10)
        task.cancel()

    asyncio.run(leave())
    held.go.set()
    outcome = asyncio.run(writer.append(POINT, draft("later")))
    writer.close()
    assert outcome.fresh
    assert writer.depth == 0
