"""Decisions that are asked for in one turn of the event loop are made and appended together, each with its own fate."""

import asyncio
from dataclasses import replace

import msgspec
import pytest

from online.events import draft_id
from online.log import START, Conflict, Draft, Partition
from online.memory_log import MemoryLog
from service.deciding import gathering as gathering_module
from service.deciding.decide import Ask, decide
from service.deciding.gathering import Gathering
from service.deciding.points import Point
from service.deciding.serving import blank_point
from service.http.problems import ProblemError
from service.http.writer import Writer, WriterLimits
from service.manifest import parse_point

SECRET = b"a secret of the tests, long enough"
POINT = Partition("point:price")
TABLE = {
    "world": "pricing",
    "params": {"stock": 5, "periods": 10, "prices": [1.0, 2.0]},
    "mode": "live",
    "exploration": {"share": 1, "over": "allowed"},
}


class Counted(MemoryLog):
    """Counts the drafts of each call."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def append(self, partition, drafts):
        self.calls.append(len(drafts))
        return super().append(partition, drafts)


@pytest.fixture
def served():
    return blank_point(Point.of(parse_point("price", TABLE)))


def request(served, **more):
    return served.point.decoder.decode(msgspec.json.encode({"context": {"stock": 3, "period": 2}, **more}))


def gather(log, asks, limits=None):
    """What comes of asks that are made in one turn: `Made`, or the problem."""

    async def work():
        writer = Writer(lambda: log, limits)
        writer.start()
        gathering = Gathering(writer, SECRET)
        try:
            return await asyncio.gather(*(gathering.decide(*one) for one in asks), return_exceptions=True)
        finally:
            writer.close()

    return asyncio.run(work())


def test_one_call_of_the_log_serves_them_all_and_each_gets_its_own(served):
    log = Counted()
    asks = [Ask(request(served), f"d{i}") for i in range(50)]
    made = gather(log, [(served, ask) for ask in asks])
    assert log.calls == [50]
    assert [one.decided for one in made] == [decide(served, ask, SECRET) for ask in asks]
    assert [one.outcome.entry.event_id for one in made] == [ask.id for ask in asks]
    assert [entry.event_id for entry in log.read(POINT, START, 100)] == [ask.id for ask in asks]


def test_a_request_that_is_refused_takes_no_others_with_it(served):
    log = Counted()
    asks = [Ask(request(served, **({"allowed": [9.0]} if i == 1 else {})), f"d{i}") for i in range(3)]
    first, wrong, last = gather(log, [(served, ask) for ask in asks])
    assert isinstance(wrong, ProblemError)
    assert [first.decided.id, last.decided.id] == ["d0", "d2"]
    assert log.calls == [2]


def test_one_id_twice_in_a_turn_is_one_decision_and_with_another_request_a_conflict(served):
    asks = [Ask(request(served), "d"), Ask(request(served), "d"), Ask(request(served, allowed=[1.0]), "d")]
    first, again, other = gather(Counted(), [(served, ask) for ask in asks])
    assert first.outcome.fresh
    assert not again.outcome.fresh
    assert again.outcome.entry == first.outcome.entry
    assert isinstance(other.outcome, Conflict)


def test_a_turn_in_which_what_is_served_changes_serves_each_request_as_it_was_asked(served):
    sure = blank_point(Point.of(parse_point("price", {**TABLE, "exploration": 0, "baseline": 2.0})))
    made = gather(Counted(), [((served, sure)[i % 2], Ask(request(served), f"d{i}")) for i in range(20)])
    assert {one.decided.action for one in made[1::2]} == {2.0}
    assert {one.decided.action for one in made[0::2]} == {1.0, 2.0}


def test_what_is_asked_while_others_are_appended_is_decided_together_afterwards(served):
    async def work():
        log = Counted()
        writer = Writer(lambda: log)
        gathering = Gathering(writer, SECRET)
        asked = []
        for turn in range(4):
            asked += [gathering.decide(served, Ask(request(served), f"d{turn}-{i}")) for i in range(5)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        # The writer has not begun: the first five are on their way, whatever comes later waits for them.
        assert writer.depth == 5
        writer.start()
        made = await asyncio.gather(*asked)
        writer.close()
        return log.calls, made

    calls, made = asyncio.run(work())
    assert calls == [5, 15]
    assert all(one.outcome.fresh for one in made)


def test_those_whose_append_fails_keep_nobody_behind_them(served):
    class Failing(Counted):
        def append(self, partition, drafts):
            found = super().append(partition, drafts)
            if len(self.calls) == 1:
                raise ValueError("broken")
            return found

    async def work():
        writer = Writer(Failing)
        gathering = Gathering(writer, SECRET)
        first = gathering.decide(served, Ask(request(served), "a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = gathering.decide(served, Ask(request(served), "b"))
        writer.start()
        found = await asyncio.gather(first, second, return_exceptions=True)
        writer.close()
        return found

    failed, done = asyncio.run(work())
    assert failed.kind == "internal"
    assert done.outcome.fresh


def test_where_too_many_writes_wait_all_are_told_to_come_again(served):
    async def work():
        writer = Writer(Counted, WriterLimits(waiting=4))
        writer.submit(POINT, [Draft(f"a{i}", b"", b"") for i in range(4)], lambda _: None)
        gathering = Gathering(writer, SECRET)
        asks = (Ask(request(served), f"b{i}") for i in range(2))
        late = await asyncio.gather(*(gathering.decide(served, ask) for ask in asks), return_exceptions=True)
        writer.start()
        while writer.depth:
            await asyncio.sleep(0.01)
        done = await gathering.decide(served, Ask(request(served), "c"))
        writer.close()
        return late, done

    late, done = asyncio.run(work())
    assert [problem.status for problem in late] == [429, 429]
    assert done.outcome.fresh


def test_what_fails_beyond_a_decision_is_told_to_those_it_concerns_alone(served, monkeypatch, caplog):
    monkeypatch.setattr(gathering_module, "draft_id", _refuse_bad)
    asks = [(served, Ask(request(served), "bad")), (replace(served), Ask(request(served), "good"))]
    bad, good = gather(MemoryLog(), asks)
    assert isinstance(bad, ProblemError)
    assert bad.kind == "internal"
    assert good.decided.id == "good"
    assert len(caplog.records) == 1


def _refuse_bad(decided):
    if decided.id == "bad":
        raise RuntimeError("no draft can be made of it")
    return draft_id(decided)
