"""The candidates of a model: the champion, which answers, and the challengers that learn beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from msgspec import structs

from online.comparison import Comparison
from online.events import Compared, Finding, Resumed, Switched
from online.fold import Parts, Poisoned
from online.model import Model, State
from online.specs import DECLARED, ModelSpec
from online.tasks import Guess

SWITCHES_KEPT = 100


class CandidateError(ValueError):
    """A switch to a candidate that is none, or is the champion already."""


class Standing(NamedTuple):
    """How far a challenger is: labels learned, progressive metrics; why it is not compared, or learns no more."""

    name: str
    learned: int
    metrics: dict[str, float]
    trouble: str | None
    halted: str | None


@dataclass(slots=True)
class Contest:
    """What a snapshot holds: who is champion, every candidate's state, the comparison, who broke, and who switched."""

    champion: str
    states: dict[str, State]
    comparison: Comparison
    broken: dict[str, str] = field(default_factory=dict)
    switches: list[Switched] = field(default_factory=list)


class Candidates:
    """The models of a spec's pipelines. A challenger that breaks is out: it never costs the champion an entry.

    ``parts`` fetches the instances of keys that are not in memory; where there are keys, there are no challengers.
    """

    def __init__(self, spec: ModelSpec, parts: Parts | None = None) -> None:
        self._models = {DECLARED: Model(spec, parts)}
        self._models |= {name: Model(_beside(spec, name)) for name in spec.challengers}
        self._rule = spec.comparison.switch
        states = {name: model.state for name, model in self._models.items()}
        self._contest = Contest(DECLARED, states, Comparison(spec.comparison))

    @property
    def champion(self) -> str:
        """The name of the candidate that answers."""
        return self._contest.champion

    @property
    def current(self) -> Model:
        """The champion's model."""
        return self._models[self._contest.champion]

    @property
    def challenged(self) -> bool:
        """Whether there are challengers."""
        return len(self._models) > 1

    @property
    def comparison(self) -> Comparison:
        """The comparison under way, with what earlier ones found."""
        return self._contest.comparison

    @property
    def switches(self) -> Sequence[Switched]:
        """The last changes of the champion, the oldest first."""
        return self._contest.switches

    def standings(self) -> list[Standing]:
        """How the challengers stand, by name."""
        broken = self._contest.broken
        return [
            Standing(name, model.state.learned, model.figures(), broken.get(name), model.halted)
            for name, model in sorted(self._models.items())
            if name != self.champion
        ]

    def guesses(self, x: dict[str, Any]) -> dict[str, Guess]:
        """What each challenger says to the features that the champion takes."""
        found = {}
        for name, model in self._challengers():
            try:
                found[name] = model.guess(None, x)
            except Poisoned as error:
                self._retire(name, error)
        return found

    def meet(
        self, x: dict[str, Any], y: Any, guesses: Mapping[str, Guess], error: float | None, *, learn: bool, at: float
    ) -> list[Compared | Switched]:
        """The challengers' predictions meet their label, beside the champion's error; what there is to say about it.

        ``guesses`` are those made when the champion predicted, ``at`` is the event time now.
        """
        errors: dict[str, float | None] = {}
        for name, model in self._challengers():
            try:
                errors[name], _ = model.meet(None, x, y, guesses.get(name, Guess()), learn=learn)
            except Poisoned as fault:
                self._retire(name, fault)
        errors = {name: found for name, found in errors.items() if name not in self._contest.broken}
        known = {name: found for name, found in errors.items() if found is not None}
        if error is None or not known or len(known) < len(errors):
            return []
        findings = self.comparison.update(error, known)
        return self._told(findings, at) if findings else []

    def _told(self, findings: Sequence[Finding], at: float) -> list[Compared | Switched]:
        """What a comparison found, and the switch that the declared rule makes of it."""
        number = self.current.state.scored
        told: list[Compared | Switched] = [
            Compared(id=f"{number}:{finding.challenger}", **structs.asdict(finding)) for finding in findings
        ]
        better = [finding for finding in findings if finding.verdict == "better"]
        if better and self._rule == "better":
            best = max(better, key=lambda finding: finding.difference)
            reason = f"erred less by {best.difference:.4g} over {best.labels:,} labels, p {best.p:.2g}"
            call = Switched(id=f"{number}:switched", champion=best.challenger, actor="rule", reason=reason, at=at)
            told.append(self.switch(call))
        return told

    def obey(self, event: Switched | Resumed) -> list[Switched]:
        """Do what a person orders; what there is to report of it. Raises `CandidateError`."""
        if isinstance(event, Switched):
            return [self.switch(event)]
        for model in self._models.values():
            model.resume()
        return []

    def switch(self, event: Switched) -> Switched:
        """Make a challenger the champion, which becomes a challenger; the change as it is kept.

        Raises:
            CandidateError: It is the champion, broken, or none of the candidates.
        """
        contest = self._contest
        fit = sorted(self._models.keys() - contest.broken.keys() - {contest.champion})
        if event.champion not in fit:
            raise CandidateError(
                f"the champion is {contest.champion!r}; {event.champion!r} cannot take its place: allowed is "
                + (f"one of {', '.join(fit)}" if fit else "nothing, there is no challenger")
            )
        before, after = self.current.state, self._models[event.champion].state
        after.schema = before.schema
        if before.shared is not None and after.shared is not None:
            after.shared.history = before.shared.history
        made = Switched(**{name: getattr(event, name) for name in event.__struct_fields__} | {"before": self.champion})
        contest.switches = [*contest.switches[1 - SWITCHES_KEPT :], made]
        contest.champion = event.champion
        contest.comparison.restart()
        return made

    def dump(self) -> Contest:
        """Everything, for `restore`."""
        return self._contest

    def restore(self, contest: Contest) -> None:
        """Take back what was dumped."""
        self._contest = contest
        for name, model in self._models.items():
            model.restore(contest.states[name])

    def _challengers(self) -> list[tuple[str, Model]]:
        out = self._contest.broken.keys() | {self.champion}
        return [(name, model) for name, model in self._models.items() if name not in out]

    def _retire(self, name: str, error: Poisoned) -> None:
        """Take a challenger that broke out of the comparison, which begins again without it."""
        self._contest.broken[name] = error.reason
        self.comparison.restart()


def _beside(spec: ModelSpec, name: str) -> ModelSpec:
    """A challenger's own spec: another pipeline, which reacts to its own errors alone."""
    of_error = {known: found for known, found in spec.detectors.items() if spec.signals.get(known, known) == "error"}
    return replace(spec, pipeline=spec.challengers[name], detectors=of_error, challengers={})
