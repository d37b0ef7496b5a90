"""Telemetry: what one API process counts, for Prometheus."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST
_REASONS = {400: "malformed", 404: "unknown", 409: "conflict"}
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Telemetry:
    """The counters of one process, in a registry of its own, so that two applications in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = self._histogram("http_request_seconds", "Time to answer", "route", "method")
        self._requests = self._counter("http_requests", "Requests answered", "route", "method", "status")
        self._refused = self._counter("http_refusals", "Requests refused, by the kind of problem", "route", "kind")
        self._decisions = self._counter("decisions", "Decisions appended to the log", "point", "mode", "policy")
        self._outcomes = self._counter("outcomes", "Outcomes accepted or refused", "point", "result")
        self._rejected = self._counter("rejects", "Events, labels and outcomes that were refused", "subject", "reason")
        self._delay = self._histogram(
            "outcome_delay_seconds", "From decision to outcome", "point", buckets=(1, 10, 60, 600, 3600, 86400, 604800)
        )
        self._predictions = self._counter("predictions", "Predictions answered", "model", "logged")
        self._events = self._counter("events", "Events and labels accepted or refused", "model", "result")
        self._age = self._gauge("snapshot_age_seconds", "Since this process last saw the state it serves", "subject")
        self._lag = self._gauge("learner_lag_entries", "Entries appended that the learner has not seen", "subject")
        self._learned = self._gauge("learned", "What the learner has learned from so far", "subject")
        self._standing = self._gauge("decisions_standing", "Decisions by what came of them", "point", "state")
        self._rejects = self._gauge("rejected_entries", "Entries that the learner set aside", "subject")
        self._alarms = self._gauge("drift_alarms", "Drift alarms so far", "subject")
        self._audit = self._gauge("audit_entries", "How long the audit chain is, and its last seal", "head")
        # A child is looked up under a lock each time: hot routes keep timers, and tally the rest until it is told.
        self._timers: dict[tuple[str, str], Histogram] = {}
        self._tallied: Tally[tuple[Any, ...]] = Tally()
        self._sounded: dict[str, tuple[str, int]] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered."""
        timer = self._timers.get((route, method))
        if timer is None:
            timer = self._timers[route, method] = self._seconds.labels(route, method)
        timer.observe(seconds)
        self._tallied[self._requests, route, method, status] += 1

    def refusal(self, route: str, kind: str) -> None:
        """One request was refused, for this kind of reason."""
        self._refused.labels(route, kind).inc()

    def decision(self, point: str, mode: str, policy: str) -> None:
        """One decision was appended."""
        self._tallied[self._decisions, point, mode, policy] += 1

    def outcome(self, point: str, result: str, delay: float | None = None) -> None:
        """One outcome was accepted, known already, or refused; `delay` seconds after its decision."""
        self._outcomes.labels(point, result).inc()
        if delay is not None:
            self._delay.labels(point).observe(max(0.0, delay))

    def prediction(self, model: str, logged: bool) -> None:
        """One prediction was answered."""
        self._tallied[self._predictions, model, "yes" if logged else "no"] += 1

    def events(self, model: str, result: str, count: int) -> None:
        """Events or labels were accepted, or refused."""
        self._events.labels(model, result).inc(count)

    def rejects(self, subject: str, statuses: Iterable[int]) -> None:
        """Events, labels or outcomes of a model or point were refused, each for what its HTTP status says."""
        for reason, count in Tally(_REASONS.get(status, "invalid") for status in statuses).items():
            self._rejected.labels(subject, reason).inc(count)

    def standing(self, point: str, states: Mapping[str, int]) -> None:
        """How many decisions of a point are joined, defaulted, late, pending."""
        for state, count in states.items():
            self._standing.labels(point, state).set(count)

    def learner(self, subject: str, *, age: float, lag: int, learned: int, rejected: int) -> None:
        """How far the learner of a model or point is, as this process sees it."""
        self._rejects.labels(subject).set(rejected)
        self._age.labels(subject).set(age)
        self._lag.labels(subject).set(lag)
        self._learned.labels(subject).set(learned)

    def alarms(self, subject: str, names: Sequence[str]) -> None:
        """The last drift alarms of a model or point, the oldest first, each by its own name: the new ones count.

        Learners keep a few alone, which is no measure of how many there were.
        """
        last, count = self._sounded.get(subject, ("", 0))
        known = names.index(last) + 1 if last in names else 0
        count += len(names) - known
        self._sounded[subject] = names[-1] if names else last, count
        self._alarms.labels(subject).set(count)

    def audit(self, entries: int, head: str) -> None:
        """How long the audit chain is, and how it ends: kept elsewhere, it shows later that a tail was cut."""
        self._audit.clear()
        self._audit.labels(head).set(entries)

    def watch(self, name: str, doc: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(f"trimtab_{name}", doc, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format; asked for in the event loop that counts."""
        tallied, self._tallied = self._tallied, Tally()
        for (counter, *labels), count in tallied.items():
            counter.labels(*labels).inc(count)
        return generate_latest(self.registry)

    def _counter(self, name: str, doc: str, *labels: str) -> Counter:
        return Counter(f"trimtab_{name}", doc, labels, registry=self.registry)

    def _gauge(self, name: str, doc: str, *labels: str) -> Gauge:
        return Gauge(f"trimtab_{name}", doc, labels, registry=self.registry)

    def _histogram(self, name: str, doc: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(f"trimtab_{name}", doc, labels, registry=self.registry, buckets=buckets)
