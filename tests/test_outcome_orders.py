"""Every order in which a decision, its outcomes, its activation, the end of its wait and a restart can come.

Sequences are generated; an oracle in plain Python says where the decision must stand afterwards.
"""

import random
import statistics

import pytest

from online.events import Activated, Decided, digest, draft_id, encode
from online.join import point_fold
from online.log import Appended, Draft, Partition
from online.memory_log import MemoryLog
from online.outcomes import OutcomeSpec, Standing, parse_standing, standing_field
from online.worker import Pace, Worker
from service.routes.decisions import OutcomeRequest, rewarded_draft

POINT = Partition("point:price")
WAIT, EARLY = 1000.0, 300.0
VALUES = (-3.0, -0.5, 0.0, 0.25, 2.0, 7.5)
AGGREGATES = {
    "sum": sum,
    "mean": statistics.fmean,
    "last": lambda values: values[-1],
    "min": min,
    "max": max,
}


class Oracle:
    """Where one decision stands, as the documentation says it."""

    def __init__(self, aggregate, default):
        self.aggregate, self.default = AGGREGATES[aggregate], default
        self.deadline = None
        self.state = None
        self.deferred = self.activated = False
        self.values = []
        self.late = 0
        self.named = ()
        self.waiting = []

    def at(self, now):
        """Time goes on: the wait may end, and what came too early may have waited long enough."""
        if self.state == "open" and now >= self.deadline:
            self.state = "closed"
        self.waiting = [(kind, told, since) for kind, told, since in self.waiting if now < since + EARLY]

    def decide(self, now, deferred):
        self.state, self.deferred, self.deadline = "open", deferred, now + WAIT
        early, self.waiting = self.waiting, []
        for kind, told, since in early:
            # An activation counts from when it came, the decision's own wait from the decision.
            self.outcome(now, *told) if kind == "outcome" else self.activate(since)

    def outcome(self, now, name, value):
        if self.state is None:
            self.waiting.append(("outcome", (name, value), now))
        elif self.state == "closed":
            self.late += 1
            self.named += (name,)
        elif value is not None:
            self.values.append(value)
            self.named += (name,)

    def activate(self, now):
        if self.state is None:
            self.waiting.append(("activate", None, now))
        elif self.state == "closed":
            self.late += 1
        elif self.deferred:
            self.deferred, self.activated, self.deadline = False, True, now + WAIT

    def standing(self):
        """What the index must show; `None` where there is nothing to show yet."""
        closed = self.state == "closed"
        if self.state is None or not (closed or self.values or self.activated):
            return None
        if self.deferred and closed:
            return Standing("inactive", None, 0, True, self.late, self.named)
        if self.deferred:
            return Standing("deferred", None, len(self.values), named=self.named)
        if self.values:
            return Standing("rewarded", self.aggregate(self.values), len(self.values), closed, self.late, self.named)
        if not closed:
            return Standing("pending")
        return Standing("defaulted", self.default, 0, True, self.late, self.named)


class Run:
    """One decision's life in a log, with a learner that is stopped or killed now and then."""

    def __init__(self, aggregate, default):
        self.now = 1_700_000_000.0
        self.log = MemoryLog(clock=lambda: self.now)
        self.fold = point_fold(OutcomeSpec(WAIT, default, aggregate, early=EARLY), None)
        self.worker = self.start()

    def start(self):
        pace = Pace(commit=0.0, calm=0.0)
        return Worker(self.log, self.fold, POINT, "test", secret=b"s" * 32, now=lambda: self.now, pace=pace)

    def append(self, event, request):
        return self.log.append(POINT, [Draft(draft_id(event), digest(request), encode(event))])[0]

    def settle(self):
        while self.worker.step():
            pass

    def standing(self):
        data = self.log.lookup(POINT, standing_field("d", None))
        return None if data is None else parse_standing(data)


def decided(deferred):
    return Decided(id="d", context={}, index=0, action=1.0, propensity=1.0, policy="rule", deferred=deferred)


class Life:
    """One random sequence, told to the log and to the oracle alike."""

    def __init__(self, rng):
        self.rng = rng
        self.aggregate, self.default = rng.choice(list(AGGREGATES)), rng.choice([None, 0.0, -1.0])
        self.deferred = rng.random() < 0.5
        self.run, self.oracle, self.told = Run(self.aggregate, self.default), Oracle(self.aggregate, self.default), []

    def decide(self):
        if self.run.append(decided(self.deferred), "decide").fresh:
            self.oracle.at(self.run.now)
            self.oracle.decide(self.run.now, self.deferred)

    def outcome(self, *, broken=False):
        name, value = self.rng.choice("abc"), None if broken else self.rng.choice(VALUES)
        fields = {"sold": 1.0} if broken else None
        draft = rewarded_draft(OutcomeRequest(id="d", outcome_id=name, value=value, fields=fields))
        result = self.run.log.append(POINT, [draft])[0]
        if isinstance(result, Appended) and result.fresh:
            self.oracle.at(self.run.now)
            self.oracle.outcome(self.run.now, name, value)

    def broken(self):
        self.outcome(broken=True)

    def activate(self):
        if self.run.append(Activated(id="d/activated", decision="d"), "activate").fresh:
            self.oracle.at(self.run.now)
            self.oracle.activate(self.run.now)

    def wait(self):
        self.run.now += self.rng.choice([50.0, 299.0, 700.0, 1001.0])

    def stop(self):
        self.run.settle()
        self.run.worker.close()
        self.run.worker = self.run.start()

    def kill(self):
        self.run.worker = self.run.start()

    def read(self):
        self.run.settle()

    def end(self):
        self.run.now += 2000.0

    def live(self):
        """What the index shows in the end, and what it must show."""
        steps = [
            self.decide,
            *[self.outcome] * 3,
            self.broken,
            self.activate,
            self.wait,
            self.stop,
            self.kill,
            self.read,
        ]
        chosen = [self.rng.choice(steps) for _ in range(self.rng.randint(2, 12))]
        for step in [*chosen, self.rng.choice([self.end, self.read])]:
            self.run.now += self.rng.choice([0.0, 1.0, 10.0])
            self.told.append(step.__name__)
            step()
        self.run.settle()
        self.oracle.at(self.run.now)
        return self.run.standing(), self.oracle.standing()


def is_same(shown, expected):
    if shown is None or expected is None or shown.reward is None or expected.reward is None:
        return shown == expected
    return shown == Standing(
        expected.state,
        pytest.approx(expected.reward),
        expected.outcomes,
        expected.closed,
        expected.late,
        expected.named,
    )


def test_ten_thousand_decisions_stand_where_the_oracle_says_whatever_the_order():
    rng = random.Random(1)
    states = set()
    for number in range(10_000):
        life = Life(rng)
        shown, expected = life.live()
        about = (life.aggregate, life.default, life.deferred, life.told)
        assert is_same(shown, expected), f"sequence {number}: {about}: {shown} instead of {expected}"
        states.add(None if shown is None else (shown.state, shown.closed, shown.late > 0))
    assert {None, ("rewarded", False, False), ("rewarded", True, True), ("defaulted", True, True)} <= states
    assert {("deferred", False, False), ("inactive", True, False), ("inactive", True, True)} <= states
