"""Releases: which bundle serves a point, in which mode, since when, by whom and why; a fold over `Released` events."""

from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from online.events import Released

Mode: TypeAlias = Literal["off", "apprentice", "shadow", "canary", "live"]
MODES: tuple[str, ...] = get_args(Mode)
TRIALS: tuple[Mode, ...] = ("shadow", "canary")


class ReleaseError(ValueError):
    """A release that makes no sense for the point as it stands; the message says what would."""


class Hold(Struct, frozen=True):
    """Somebody wants the service to release nothing by itself (`on`), or lets it go on; and why."""

    on: bool
    actor: str
    reason: str
    at: float


class Release(Struct, frozen=True):
    """What serves a point now.

    Attributes:
        incumbent: Digest of the bundle that serves, or that is only scored in `off` and `apprentice`; `None` is the
            baseline.
        candidate: Digest of the bundle on trial in `shadow` and `canary`.
        share: The candidate's probability of serving a unit in `canary`, else 0.
        baseline: Name of the rule that serves where no bundle does; `None` is the manifest's.
        number: How many releases there have been.
        id: The order that led to it; empty before the first.
    """

    point: str
    mode: Mode
    incumbent: str | None = None
    candidate: str | None = None
    share: float = 0.0
    baseline: str | None = None
    since: float | None = None
    actor: str = ""
    reason: str = ""
    number: int = 0
    id: str = ""

    @property
    def bundles(self) -> tuple[str, ...]:
        """Digests of the bundles that must be at hand to serve."""
        return tuple(digest for digest in (self.incumbent, self.candidate) if digest is not None)


def after(release: Release, event: Released) -> Release:
    """The release after one more event.

    In `shadow` and `canary` the event names the candidate and the incumbent stays; in the other modes it names the
    incumbent, and no candidate is left.

    >>> first = after(Release("price", "off"), Released(id="1", point="price", bundle="a"))
    >>> trial = after(first, Released(id="2", point="price", bundle="b", mode="canary", share=0.1))
    >>> trial.incumbent, trial.candidate, trial.share
    ('a', 'b', 0.1)
    """
    on_trial = event.mode in TRIALS
    return Release(
        point=release.point,
        mode=event.mode if event.mode in MODES else release.mode,  # type: ignore[arg-type]  # checked against MODES
        incumbent=release.incumbent if on_trial else event.bundle,
        candidate=event.bundle if on_trial else None,
        share=(event.share or 0.0) if event.mode == "canary" else 0.0,
        baseline=event.baseline if event.baseline is not None else release.baseline,
        since=event.at,
        actor=event.actor,
        reason=event.reason,
        number=release.number + 1,
        id=event.id,
    )


def fold(point: str, mode: Mode, events: Iterable[Released]) -> list[Release]:
    """The history of a point, first the state before any release: the manifest's mode, served by the baseline.

    Of two releases that were decided on the same one, the first counts.
    """
    history = [Release(point, mode)]
    for event in events:
        if event.expected is None or event.expected == history[-1].number:
            history.append(after(history[-1], event))
    return history


def promotion(history: list[Release], bundle: str | None) -> Release:
    """What makes the named bundle (the candidate where none is named) the incumbent, live.

    Raises:
        ReleaseError: There is no candidate, or the bundle serves already.
    """
    now = history[-1]
    chosen = bundle or now.candidate
    if chosen is None:
        raise ReleaseError("there is no candidate: name a registered bundle")
    if chosen == now.incumbent and now.mode == "live":
        raise ReleaseError(f"{chosen} serves already")
    return replace(now, incumbent=chosen, candidate=None, share=0.0, mode="live")


def rollback(history: list[Release]) -> Release:
    """One step back: the candidate is dropped, else what served before serves again, in the mode that it served in.

    Raises:
        ReleaseError: Nothing came before.
    """
    now = history[-1]
    # What was gone back from must not come again with the next step back: walk the stack of what served.
    stack: list[tuple[Mode, str | None]] = []
    for release in history:
        if release.candidate is not None:
            continue
        served = (release.mode, release.incumbent)
        if served in stack:
            del stack[stack.index(served) :]
        stack.append(served)
    if now.candidate is None:
        stack.pop()
    if not stack:
        raise ReleaseError("nothing served before this: there is no release to go back to")
    mode, incumbent = stack[-1]
    # A trial without a candidate is served like any other.
    mode = "live" if mode in TRIALS else mode
    return replace(now, mode=mode, incumbent=incumbent, candidate=None, share=0.0)
