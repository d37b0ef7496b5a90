"""The registry: bundles, releases and jobs, shared by all processes through the log and the blob store."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agents.bundle import Bundle, BundleError, Card, unpack
from online.events import Released, decode, digest, encode
from online.log import START, Appended, Blob, Conflict, Draft, Entry, EntryId, Log, Partition
from service.deciding import jobs as job_events
from service.deciding.jobs import FINAL, Claimed, Ended, Job, Jobs, State, Submitted
from service.deciding.releases import Hold, Mode, Release, fold

JOBS = Partition("jobs", 0)
STALE_S = 60.0
"""A running job whose worker has said nothing for so long may be taken by another."""

_PAGE = 1000


class Registered(Struct, frozen=True):
    """One bundle of a point: its digest, its card, who brought it and when."""

    digest: str
    card: Card
    at: float
    actor: str = ""
    note: str = ""


class Registry:
    """Bundles, releases and jobs over one log and one blob store; one thread each, like the log.

    Args:
        clock: Seconds since the epoch.
    """

    def __init__(self, log: Log, blob: Blob, clock: Callable[[], float]) -> None:
        self._log = log
        self._blob = blob
        self._clock = clock
        self._released: dict[str, tuple[EntryId, list[Released]]] = {}
        self._jobs = Jobs()
        self._jobs_cursor = START

    def register(
        self, point: str, data: bytes, check: Callable[[Card], None], *, actor: str = "", note: str = ""
    ) -> str:
        """Stores a bundle for a point and names it by its digest; the same bundle again changes nothing.

        Args:
            check: Raises where a card does not fit the point (`service.deciding.points.Point.check`).

        Raises:
            BundleError: The bytes are no intact bundle, or `check` refused its card.
        """
        bundle = unpack(data)
        check(bundle.card)
        self._blob.put(f"bundle/{bundle.digest}", data)
        name = f"registered/{point}/{bundle.digest}"
        if self._blob.get(name) is None:
            entry = Registered(bundle.digest, bundle.card, self._clock(), actor, note)
            self._blob.put(name, msgspec.json.encode(entry))
        return bundle.digest

    def bundle(self, digest_: str) -> Bundle:
        """A stored bundle, verified again.

        Raises:
            BundleError: It is not there, or not as it was.
        """
        data = self._blob.get(f"bundle/{digest_}")
        if data is None:
            raise BundleError(f"there is no bundle {digest_}: register it first")
        bundle = unpack(data)
        if bundle.digest != digest_:
            raise BundleError(f"the bundle stored as {digest_} is {bundle.digest}: register it again")
        return bundle

    def bundles(self, point: str) -> list[Registered]:
        """The bundles registered for a point, the newest first."""
        names = self._blob.names(f"registered/{point}/")
        stored = [data for name in names if (data := self._blob.get(name)) is not None]
        found = [msgspec.json.decode(data, type=Registered) for data in stored]
        return sorted(found, key=lambda entry: (-entry.at, entry.digest))

    def release(self, point: str, event: Released, asked: Any = None) -> Entry:
        """Appends a release and returns its entry; the same release again returns the first one's.

        Args:
            asked: What tells one order from another, where that is not the event itself: an order to go back means
                something else each time it is carried out.

        Raises:
            ValueError: The id belongs to another release.
        """
        draft = Draft(event.id, digest(msgspec.to_builtins(event if asked is None else asked)), encode(event))
        (outcome,) = self._log.append(_releases(point), [draft])
        if isinstance(outcome, Conflict):
            raise ValueError(f"release {event.id!r} of {point!r} exists and says something else: use a new id")
        return outcome.entry

    def releases(self, point: str) -> list[Released]:
        """Every release of a point, the oldest first."""
        cursor, events = self._released.get(point, (START, []))
        while entries := self._log.read(_releases(point), cursor, _PAGE):
            events = events + [event for entry in entries if isinstance(event := decode(entry.payload), Released)]
            cursor = entries[-1].id
        self._released[point] = (cursor, events)
        return events

    def history(self, point: str, mode: Mode) -> list[Release]:
        """What has served a point, the state before any release first; `mode` is the manifest's."""
        return fold(point, mode, self.releases(point))

    def current(self, point: str, mode: Mode) -> Release:
        """What serves a point now."""
        return self.history(point, mode)[-1]

    def hold(self, point: str, hold: Hold, hold_id: str) -> Entry:
        """Keeps the service from releasing anything by itself, or lets it go on; repeated under its id it is one order.

        Raises:
            ValueError: The id belongs to another order.
        """
        asked = [hold.on, hold.actor, hold.reason]
        draft = Draft(hold_id, digest(asked), msgspec.json.encode(hold))
        (outcome,) = self._log.append(_holds(point), [draft])
        if isinstance(outcome, Conflict):
            raise ValueError(f"hold {hold_id!r} of {point!r} exists and says something else: use a new id")
        return outcome.entry

    def held(self, point: str) -> Hold | None:
        """Who holds a point, and why; `None` where nobody does."""
        tail = self._log.tail(_holds(point))
        last = self._log.read(_holds(point), tail.before, 1) if tail > START else []
        hold = msgspec.json.decode(last[0].payload, type=Hold) if last else None
        return hold if hold is not None and hold.on else None

    def submit(self, job: Job) -> str:
        """Queues a job and returns its id; the same job again is the same job.

        Raises:
            ValueError: The id belongs to another job.
        """
        asked = msgspec.to_builtins(replace(job, created=0.0, updated=0.0))
        queued = replace(job, state="queued", created=job.created or self._clock())
        outcome = self._say(job.id, Submitted(queued), asked)
        if isinstance(outcome, Conflict):
            raise ValueError(f"job {job.id!r} exists and asks for something else: use a new id")
        return job.id

    def jobs(self) -> list[Job]:
        """Every job, the newest first."""
        self._follow()
        return [self._live(job) for job in reversed(self._jobs.all())]

    def job(self, job_id: str) -> Job | None:
        """One job."""
        self._follow()
        job = self._jobs.get(job_id)
        return None if job is None else self._live(job)

    def claim(self, worker: str) -> Job | None:
        """The oldest job that nobody does, now this worker's; `None` where there is none.

        A worker that was restarted gets back what it was doing; so does another worker when the first one has said
        nothing for `STALE_S`.
        """
        self._follow()
        now = self._clock()
        for job in map(self._live, self._jobs.all()):
            mine = job.state == "running" and job.worker == worker
            lost = job.state == "running" and now - job.updated > STALE_S
            if not (job.state == "queued" or mine or lost):
                continue
            attempt = self._jobs.attempts(job.id) + 1
            claimed = Claimed(job.id, worker, attempt, now)
            # The log's duplicate check decides a race: the second claim of the same attempt is a conflict.
            outcome = self._say(f"{job.id}/claim/{attempt}", claimed, [job.id, worker, attempt, now])
            if isinstance(outcome, Appended):
                self._follow()
                return self._jobs.get(job.id)
        return None

    def update(self, job: Job) -> Job:
        """Stores what the worker says about its job; a final state is final.

        Returns:
            The job as it stands: `cancelled` where somebody gave it up meanwhile.
        """
        now = self._clock()
        if job.state in FINAL:
            self._end(job.id, job.state, job.progress, job.detail, now)
            self._blob.delete(f"job/{job.id}")
        else:
            self._blob.put(f"job/{job.id}", msgspec.json.encode(replace(job, updated=now)))
        self._follow()
        found = self._jobs.get(job.id)
        return job if found is None else self._live(found)

    def cancel(self, job_id: str) -> Job | None:
        """Gives a job up; its worker stops at its next word. A job that is over stays as it ended."""
        job = self.job(job_id)
        if job is None or job.state in FINAL:
            return job
        self._end(job_id, "cancelled", job.progress, job.detail, self._clock())
        return self.job(job_id)

    def _end(self, job_id: str, state: State, progress: float, detail: dict[str, Any], at: float) -> None:
        # One id for every end: whoever ends a job first decides how, and a second end is a conflict without effect.
        self._say(f"{job_id}/end", Ended(job_id, state, progress, detail, at), [job_id, state])

    def _say(self, event_id: str, event: job_events.JobEvent, asked: Any) -> Appended | Conflict:
        draft = Draft(event_id, digest(asked), job_events.encode(event))
        (outcome,) = self._log.append(JOBS, [draft])
        return outcome

    def _follow(self) -> None:
        while entries := self._log.read(JOBS, self._jobs_cursor, _PAGE):
            for entry in entries:
                self._jobs.apply(job_events.decode(entry.payload))
            self._jobs_cursor = entries[-1].id

    def _live(self, job: Job) -> Job:
        """A running job with its worker's last word."""
        if job.state != "running" or (data := self._blob.get(f"job/{job.id}")) is None:
            return job
        said = msgspec.json.decode(data, type=Job)
        if said.worker != job.worker:
            return job
        return replace(job, progress=said.progress, detail=said.detail, updated=max(job.updated, said.updated))


def _holds(point: str) -> Partition:
    return Partition(f"holds:{point}", 0)


def _releases(point: str) -> Partition:
    return Partition(f"releases:{point}", 0)
