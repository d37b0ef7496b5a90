"""The loop of a point: facts in, commands out. A pure fold; whoever restarts it from its facts is where it was.

A cycle goes steady → suspected → recalibrating → training → gate → shadow → canary → released → watched → confirmed →
steady, or leaves this path by `rejected` (before it served) or `rolled-back` (after). A world that explains the
outcomes under no parameters leads to `doubted` instead: baseline, policy and bandits, two at a time, by their outcomes
alone; the winner serves. Commands are what the state wants done (`due`): asking for them again, after a restart, asks
for nothing else.
"""

from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from service.facts import (
    BASELINE,
    Carried,
    Command,
    Fact,
    Failed,
    Fitted,
    Heard,
    Intervened,
    Judge,
    Judged,
    Misfitted,
    Ordered,
    Quarantine,
    Recalibrate,
    Recalibrated,
    Restore,
    Serve,
    Silenced,
    Source,
    Stage,
    Suspected,
    Ticked,
    Train,
    Trained,
)

_DAY = 86_400.0
CONFIRMING: tuple[Source, ...] = ("estimate", "value")
"""What level 0 cannot follow. An alarm, or a drift of a model, alone says that something changed; the estimate moves
within the trained range, and the policy with it."""

_JUDGED: tuple[Stage, ...] = ("gate", "shadow", "canary", "watched", "doubted")
_SERVING: tuple[Stage, ...] = ("shadow", "canary", "released", "watched", "doubted")
_NEW = 0.1
"""Share of whom is tried while the world is doubted, at a point without canaries."""

_OPEN_ENDED: tuple[Stage, ...] = ("confirmed", "rejected", "rolled-back")
"""Stages that end when their commands are carried out, however long that takes."""


@dataclass(frozen=True)
class Rules:
    """How the loop is paced, in seconds, but for `per_day`.

    Attributes:
        cooldown: From the end of a cycle to the beginning of the next.
        per_day: Cycles begun within 24 hours at most; 0 leaves level 1 to people.
        settle: From a confirmed suspicion to the recalibration, so that the estimate can settle.
        patience: After which a suspicion that nothing confirmed, or that may not begin a cycle, is dropped.
        work: For recalibrating, training and the gate, each, at most.
        trial: For shadow and canary, each, at most; without a verdict the candidate is rejected.
        watch: For which a release keeps its predecessor beside it; then it stands unless it was found worse.
        canary: The candidate's share on trial; 0 goes from shadow straight to the release.
        control: The predecessor's share while the release is watched.
    """

    cooldown: float = 3600.0
    per_day: int = 6
    settle: float = 20.0
    patience: float = 600.0
    work: float = 6 * 3600.0
    trial: float = _DAY
    watch: float = _DAY
    canary: float = 0.1
    control: float = 0.05


class State(Struct, frozen=True):
    """Where the loop of a point is.

    Attributes:
        since: When the stage began, put off by every pause.
        number: Transitions so far: the number of the last entry of the history.
        cycle: Cycles begun so far: the number of the last one.
        confirmed: Whether level 0 cannot follow what is suspected.
        held: Who stops the loop, and why; `None` for nobody.
        silent: Whether outcomes have stopped.
        paused: Since when it is held or silent.
        begun: When the cycles of the last day began.
        ended: When the last cycle ended.
        ranges, params: What the recalibration found: what to train over, and the estimate in its middle.
        candidate: Policy on trial.
        champion: Who has won so far while the world is doubted, against whom the candidate is tried.
        rivals: Who will be tried after the candidate.
        trial: Trials begun in this doubt.
        proven: Who has won them all, and is not tried again for the same misfit.
        misfit: Why the world explains the outcomes under no parameters.
    """

    stage: Stage = "steady"
    since: float = 0.0
    number: int = 0
    cycle: int = 0
    reasons: tuple[str, ...] = ()
    confirmed: bool = False
    held: str | None = None
    silent: bool = False
    paused: float | None = None
    begun: tuple[float, ...] = ()
    ended: float | None = None
    ranges: dict[str, tuple[float, float]] = {}
    params: dict[str, float] = {}
    candidate: str | None = None
    misfit: str | None = None
    champion: str = BASELINE
    rivals: tuple[str, ...] = ()
    trial: int = 0
    proven: str | None = None

    @property
    def in_cycle(self) -> bool:
        """Whether a cycle is under way."""
        return self.stage not in ("steady", "suspected")

    @property
    def stopped(self) -> bool:
        """Whether it may not go forward: somebody holds it, or it hears of no outcomes."""
        return self.held is not None or self.silent


class Entry(Struct, frozen=True):
    """One transition in the history of a point's loop."""

    number: int
    cycle: int
    at: float
    before: Stage
    after: Stage
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """What one fact makes of a state: the next one, what is to be done now, and the transition, if it was one."""

    state: State
    commands: tuple[Command, ...] = ()
    entry: Entry | None = None


def step(state: State, fact: Fact, rules: Rules) -> Step:
    """The one place where the loop changes."""
    after = _after(state, fact, rules)
    entry = None
    if (after.stage, after.trial) != (state.stage, state.trial):
        after = replace(after, number=state.number + 1)
        entry = Entry(after.number, after.cycle, fact.at, state.stage, after.stage, after.reasons)
    return Step(after, due(after, rules), entry)


def due(state: State, rules: Rules) -> tuple[Command, ...]:
    """What the state wants done; nothing that goes forward while it is held or silent."""
    cycle, candidate = state.cycle, state.candidate or ""
    if state.stage in ("rejected", "rolled-back"):
        return _cleaning(state, candidate)
    if state.stopped:
        # A release that does harm is found and taken back, whoever holds the loop.
        looking = state.stage in ("canary", "watched") and not state.silent
        return (Judge(cycle, state.stage, candidate),) if looking else ()
    match state.stage:
        case "recalibrating":
            return (Recalibrate(cycle),)
        case "training":
            return (Train(cycle, state.ranges, state.params),)
        case "gate":
            return (Judge(cycle, "gate", candidate),)
        case "confirmed":
            return (Serve(cycle, "confirmed", "live", candidate),)
    return _serving(state, candidate, rules)


def _serving(state: State, candidate: str, rules: Rules) -> tuple[Command, ...]:
    cycle, judge = state.cycle, Judge(state.cycle, state.stage, candidate)
    match state.stage:
        case "shadow":
            return Serve(cycle, "shadow", "shadow", candidate), judge
        case "canary":
            return Serve(cycle, "canary", "canary", candidate, rules.canary), judge
        case "released":
            return (Serve(cycle, "released", "canary", candidate, 1.0 - rules.control),)
        case "watched":
            return (judge,)
        case "doubted":
            share = trial_share(state.trial, rules.canary)
            return Serve(cycle, "doubted", "canary", candidate, share, state.champion, state.trial), judge
    return ()


def trial_share(trial: int, canary: float) -> float:
    """The candidate's share in a trial while the world is doubted: whoever served keeps most of the units.

    In the first the candidate is who served, later it is who comes new; what comes new gets what a canary gets.

    >>> trial_share(1, 0.1), trial_share(2, 0.1)
    (0.9, 0.1)
    """
    new = min(canary, 0.5) or _NEW
    return 1.0 - new if trial == 1 else new


def _cleaning(state: State, candidate: str) -> tuple[Command, ...]:
    if not candidate:
        return ()
    if state.trial:
        # A policy that was doubted along with its world was not found faulty itself.
        return (Serve(state.cycle, state.stage, "live", state.champion),)
    restore = Restore(state.cycle, candidate)
    return (restore,) if state.misfit else (restore, Quarantine(state.cycle, candidate, state.reasons))


def deadline(state: State, rules: Rules) -> float | None:
    """When a `Ticked` will change the state; `None` where time alone changes nothing."""
    if state.stage == "steady" or state.stopped:
        return None
    if state.stage == "suspected":
        ready = _may_begin_at(state, rules)
        return min(state.since + rules.patience, ready) if ready is not None else state.since + rules.patience
    if state.stage in _OPEN_ENDED:
        return state.since if not due(state, rules) else None
    return state.since + _limit(state.stage, rules)


def _limit(stage: Stage, rules: Rules) -> float:
    if stage in ("recalibrating", "training", "gate"):
        return rules.work
    return rules.watch if stage == "watched" else rules.trial


def _may_begin_at(state: State, rules: Rules) -> float | None:
    """When a cycle may begin, `None` for never."""
    if not state.confirmed or rules.per_day == 0:
        return None
    ready = state.since + rules.settle
    if state.ended is not None:
        ready = max(ready, state.ended + rules.cooldown)
    if len(state.begun) >= rules.per_day:
        ready = max(ready, sorted(state.begun)[-rules.per_day] + _DAY)
    return ready


def _after(state: State, fact: Fact, rules: Rules) -> State:
    match fact:
        case Ordered():
            return _paused(state, fact.at, held=f"{fact.actor}: {fact.reason}" if fact.held else None)
        case Silenced():
            return _paused(state, fact.at, silent=True)
        case Heard():
            return _paused(state, fact.at, silent=False)
        case Suspected():
            return _suspected(state, fact)
        case Misfitted():
            return _misfitted(state, fact, rules)
        case Fitted():
            return replace(state, misfit=None, proven=None) if not state.in_cycle else state
        case Ticked():
            return _ticked(state, fact.at, rules)
    return _of_cycle(state, fact, rules) if fact.cycle == state.cycle and state.in_cycle else state


_UNCHANGED = object()


def _paused(state: State, at: float, held: str | object | None = _UNCHANGED, silent: bool | None = None) -> State:
    """Held or silent from now on, or no more: time that passes meanwhile does not count."""
    after = replace(
        state,
        held=state.held if held is _UNCHANGED else held,
        silent=state.silent if silent is None else silent,
    )
    if after.stopped and not state.stopped:
        return replace(after, paused=at)
    if state.stopped and not after.stopped:
        away = max(0.0, at - (state.paused if state.paused is not None else at))
        return replace(after, paused=None, since=state.since + away)
    return after


def _go(state: State, stage: Stage, at: float, *reasons: str) -> State:
    paused = at if state.stopped else None
    return replace(state, stage=stage, since=at, paused=paused, reasons=reasons or (f"after {state.stage}",))


def _suspected(state: State, fact: Suspected) -> State:
    confirms = fact.source in CONFIRMING
    if state.stage == "steady":
        return replace(_go(state, "suspected", fact.at, fact.reason), confirmed=confirms)
    if state.stage != "suspected":
        return state
    if confirms and not state.confirmed:
        # What confirms it begins the time to settle anew.
        return replace(state, confirmed=True, since=fact.at, reasons=(*state.reasons, fact.reason))
    known = fact.reason in state.reasons or len(state.reasons) > 9
    return state if known else replace(state, reasons=(*state.reasons, fact.reason))


def _misfitted(state: State, fact: Misfitted, rules: Rules) -> State:
    # The figures move with every outcome; people are told once.
    noted = replace(state, misfit=state.misfit or fact.reason)
    if state.stage in ("recalibrating", "training", "gate"):
        return _go(noted, "rejected", fact.at, f"the world does not explain the outcomes: {fact.reason}")
    if state.in_cycle:
        return state
    if fact.incumbent is not None and fact.incumbent == state.proven:
        return noted
    asked = replace(noted, since=fact.at - rules.settle, confirmed=True)
    ready = _may_begin_at(asked, rules)
    if state.stopped or fact.incumbent is None or ready is None or ready > fact.at:
        return noted
    begun = _begun(noted, "doubted", fact.at, fact.reason)
    return replace(begun, candidate=fact.incumbent, rivals=fact.bandits, trial=1)


def _next_trial(state: State, champion: str, at: float, *reasons: str) -> State:
    """The winner of a trial against the next rival; the last winner serves."""
    won = replace(state, champion=champion)
    if state.rivals:
        candidate, *rivals = state.rivals
        return _go(
            replace(won, candidate=candidate, rivals=tuple(rivals), trial=state.trial + 1), "doubted", at, *reasons
        )
    # `confirmed`: the candidate serves. Else the champion does, and what was tried last is taken back.
    won = replace(won, proven=champion)
    return _go(won, "confirmed" if champion == state.candidate else "rolled-back", at, *reasons)


def _begun(state: State, stage: Stage, at: float, *reasons: str) -> State:
    recent = tuple(begun for begun in state.begun if begun > at - _DAY)
    return replace(
        _go(state, stage, at, *reasons),
        cycle=state.cycle + 1,
        begun=(*recent, at),
        confirmed=False,
        candidate=None,
        champion=BASELINE,
        rivals=(),
        trial=0,
        ranges={},
        params={},
    )


def _ended(state: State, at: float, *reasons: str) -> State:
    return replace(_go(state, "steady", at, *reasons), ended=at, candidate=None, confirmed=False, trial=0)


def _ticked(state: State, at: float, rules: Rules) -> State:
    limit = deadline(state, rules)
    if limit is None or at < limit:
        return state
    if state.stage == "suspected":
        ready = _may_begin_at(state, rules)
        if ready is not None and ready <= at:
            return _begun(replace(state, misfit=None, proven=None), "recalibrating", at, *state.reasons)
        why = "no cycle may begin yet" if state.confirmed else "level 0 follows it"
        return replace(_go(state, "steady", at, f"{why}; {'; '.join(state.reasons)}"), confirmed=False)
    if state.stage in _OPEN_ENDED:
        return _ended(state, at, *state.reasons)
    if state.stage == "watched":
        return _go(state, "confirmed", at, "not found worse than its predecessor while it was watched")
    late = f"{state.stage} took longer than {_limit(state.stage, rules):g} s"
    if state.stage == "doubted":
        # Nothing was found better than who served until then.
        return _next_trial(state, (state.candidate if state.trial == 1 else None) or state.champion, at, late)
    return _go(state, "rolled-back" if state.stage == "released" else "rejected", at, late)


def _of_cycle(state: State, fact: Fact, rules: Rules) -> State:
    match fact:
        case Intervened():
            by_them = f"{fact.actor} released something else: {fact.reason}"
            return replace(_go(state, "rejected", fact.at, by_them), candidate=None)
        case Failed(stage=stage) if stage == state.stage and stage not in _OPEN_ENDED:
            after: Stage = "rolled-back" if stage in ("released", "watched", "doubted") else "rejected"
            return _go(state, after, fact.at, fact.reason)
        case Judged(stage=stage) if stage == state.stage and stage in _JUDGED:
            return _judged(state, fact, rules)
    return state if state.stopped else _forward(state, fact)


def _forward(state: State, fact: Fact) -> State:
    match fact:
        case Recalibrated() if state.stage == "recalibrating":
            found = replace(state, params=fact.params, ranges=fact.ranges)
            return _go(found, "training", fact.at, fact.reason or _in_words(fact))
        case Trained() if state.stage == "training":
            trained = replace(state, candidate=fact.candidate)
            return _go(trained, "gate", fact.at, fact.reason or f"trained {fact.candidate[:12]}")
        case Carried(stage="released") if state.stage == "released":
            return _go(state, "watched", fact.at, "it serves, its predecessor beside it as control")
        case Carried(stage=stage) if stage == state.stage and stage in _OPEN_ENDED:
            return _ended(state, fact.at, *state.reasons)
    return state


def _in_words(found: Recalibrated) -> str:
    params = ", ".join(f"{name} {value:.4g}" for name, value in found.params.items())
    ranges = ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in found.ranges.items())
    return f"estimated {params}; training over {ranges}"


def _judged(state: State, fact: Judged, rules: Rules) -> State:
    if state.stage == "doubted":
        return _compared(state, fact)
    if fact.verdict == "worse":
        harmed = state.stage in ("canary", "watched")
        return _go(state, "rolled-back" if harmed else "rejected", fact.at, *fact.reasons)
    if state.stopped:
        return state
    if fact.verdict == "not enough evidence":
        # A look at live evidence is followed by others; the gate's simulations say all they will ever say.
        return _go(state, "rejected", fact.at, *fact.reasons) if state.stage == "gate" else state
    onward: dict[Stage, Stage] = {
        "gate": "shadow",
        "shadow": "canary" if rules.canary > 0 else "released",
        "canary": "released",
        "watched": "confirmed",
    }
    return _go(state, onward[state.stage], fact.at, *fact.reasons)


def _compared(state: State, fact: Judged) -> State:
    """A trial of two while the world is doubted: the better one meets the next."""
    if fact.verdict == "not enough evidence" or (state.stopped and fact.verdict == "better"):
        return state
    winner = state.champion if fact.verdict == "worse" else state.candidate or state.champion
    return _next_trial(state, winner, fact.at, *fact.reasons)
