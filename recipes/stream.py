"""A declared model in this process, asked and taught as the service would: the same learner over a log in memory."""

from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from online.events import Drifted, Labelled, Observed, Scalar, digest, draft_id, encode
from online.learner import ModelLearner
from online.log import Draft, Partition
from online.memory_log import MemoryLog
from online.model import Prediction
from online.specs import ModelSpec
from recipes.rows import Case

_LATER = 1e10
"""The log's own clock, in seconds: after all events, whose time is the data's own."""


@dataclass(frozen=True)
class Alarm:
    """A detector's alarm, how many cases had been shown by then, and the mean of its signal before and lately."""

    cases: int
    name: str
    before: float
    recent: float


class Stream:
    """One model: `predict` changes nothing, `show` and `label` are events of its log."""

    def __init__(self, spec: ModelSpec) -> None:
        self.learner = ModelLearner(spec)
        self.alarms: list[Alarm] = []
        self.shown = 0
        self._log = MemoryLog(clock=lambda: _LATER)
        self._partition = Partition(f"model:{spec.name}", 0)

    def predict(self, case: Case, key: str | None = None) -> Prediction:
        """What the service would answer now."""
        return self.learner.predict(key, case.features)

    def chance(self, case: Case) -> float:
        """The probability that a binary label is true; one half before anything was learned."""
        found = self.predict(case).probabilities or {}
        return found.get("true", 1.0 - found["false"] if "false" in found else 0.5)

    def show(
        self,
        case: Case,
        *,
        label: Scalar | UnsetType = UNSET,
        key: str | None = None,
        at: float | None = None,
    ) -> str:
        """One case, with its label where that is known at once; the id under which the label may follow."""
        event = Observed(id=str(self.shown), features=dict(case.features), key=key, at=at, label=label)
        self.shown += 1
        self._append(event)
        return event.id

    def label(self, event_id: str, label: Scalar, *, key: str | None = None, at: float | None = None) -> None:
        """The label of an earlier case."""
        self._append(Labelled(id=event_id, label=label, key=key, at=at))

    def _append(self, event: Observed | Labelled) -> None:
        payload = encode(event)
        appended = self._log.append(self._partition, [Draft(draft_id(event), digest(payload), payload)])
        for report in self.learner.apply(appended[0].entry):
            if isinstance(report, Drifted):
                before, recent = (report.evidence.get(name, 0.0) for name in ("before", "recent"))
                self.alarms.append(Alarm(self.shown, report.name or report.signal, before, recent))
