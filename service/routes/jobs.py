"""Jobs: long work, followed and given up."""

from msgspec import Struct

from service.deciding.jobs import Job
from service.http.api import Api
from service.http.operations import Answer, Call, Operation, reply
from service.http.problems import Fault, Kind, ProblemError, shown


class JobsAnswer(Struct, frozen=True):
    """Jobs, the newest first."""

    jobs: list[Job]


class Jobs:
    """The handlers of `/v1/jobs`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def listed(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """Every job, the newest first."""
        return reply(JobsAnswer(await self._api.store.ask(lambda store: store.registry.jobs())))

    async def describe(self, call: Call) -> Answer:
        """How far a job is, and what its worker last said."""
        name = call.path["job"]
        return reply(_known(await self._api.store.ask(lambda store: store.registry.job(name)), name))

    async def cancel(self, call: Call) -> Answer:
        """Gives a job up: its worker stops at its next step. One that is over stays as it ended."""
        name = call.path["job"]
        return reply(_known(await self._api.store.ask(lambda store: store.registry.cancel(name)), name))

    def operations(self) -> list[Operation]:
        """What can be done with jobs."""
        one = "/v1/jobs/{job}"
        problems: tuple[Kind, ...] = ("unknown-job", "unavailable")
        operations = [
            Operation("GET", "/v1/jobs", "List jobs", self.listed, JobsAnswer, problems=("unavailable",), scope="read"),
            Operation("GET", one, "Look at a job", self.describe, Job, problems=problems, scope="read"),
            Operation("DELETE", one, "Cancel a job", self.cancel, Job, problems=problems, scope="operate"),
        ]
        return [operation.tagged("jobs") for operation in operations]


def _known(job: Job | None, name: str) -> Job:
    if job is None:
        detail = f"There is no job {name!r}; `GET /v1/jobs` lists them."
        raise ProblemError("unknown-job", detail, Fault("job", "the id of a job", shown(name)))
    return job
