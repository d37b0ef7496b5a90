"""Jobs: long work, asked for in one process and done in another; a fold over what was said about each."""

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL: tuple[State, ...] = ("done", "failed", "cancelled")


class Job(Struct, frozen=True):
    """One piece of long work.

    Attributes:
        kind: What to do, for instance `train`.
        params: How, as the asker gave it.
        progress: 0 to 1.
        detail: What the worker last said: steps, rate, value, gap, seconds left, the error, the digest made.
        worker: Who does it; empty while nobody does.
        created, updated: Seconds since the epoch.
    """

    id: str
    point: str
    kind: str
    params: dict[str, Any] = {}
    state: State = "queued"
    progress: float = 0.0
    detail: dict[str, Any] = {}
    worker: str = ""
    created: float = 0.0
    updated: float = 0.0


class Submitted(Struct, frozen=True, tag="submitted/1"):
    """Somebody wants a job done."""

    job: Job


class Claimed(Struct, frozen=True, tag="claimed/1"):
    """A worker takes the job: the `attempt`-th time that somebody does."""

    job: str
    worker: str
    attempt: int
    at: float


class Ended(Struct, frozen=True, tag="ended/1"):
    """The job is over."""

    job: str
    state: State
    progress: float
    detail: dict[str, Any]
    at: float


JobEvent: TypeAlias = Submitted | Claimed | Ended

encode = msgspec.json.encode
_decoder: msgspec.json.Decoder[JobEvent] = msgspec.json.Decoder(JobEvent)


def decode(payload: bytes) -> JobEvent:
    """The event in these bytes; `msgspec.DecodeError` for anything else."""
    return _decoder.decode(payload)


class Jobs:
    """All jobs, folded from what was said about them. The first end of a job is its end."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._attempts: dict[str, int] = {}

    def apply(self, event: JobEvent) -> None:
        """Takes one event into account; one about an unknown job changes nothing."""
        if isinstance(event, Submitted):
            self._jobs.setdefault(event.job.id, event.job)
            return
        job = self._jobs.get(event.job)
        if job is None or job.state in FINAL:
            return
        if isinstance(event, Claimed):
            self._attempts[job.id] = event.attempt
            self._jobs[job.id] = replace(job, state="running", worker=event.worker, updated=event.at)
        else:
            self._jobs[job.id] = replace(
                job, state=event.state, progress=event.progress, detail=event.detail, updated=event.at
            )

    def all(self) -> list[Job]:
        """Every job, the oldest first."""
        return list(self._jobs.values())

    def get(self, job_id: str) -> Job | None:
        """One job."""
        return self._jobs.get(job_id)

    def attempts(self, job_id: str) -> int:
        """How often the job was claimed."""
        return self._attempts.get(job_id, 0)
