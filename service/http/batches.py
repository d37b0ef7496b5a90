"""Batches: one object or NDJSON; a line that is wrong is rejected alone, with its number and the reason."""

from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

from msgspec import UNSET, Struct, UnsetType

from service.http.decoding import too_wide
from service.http.operations import NDJSON, Answer, Call, reply
from service.http.problems import ProblemError

T = TypeVar("T")

_NDJSON_NAMES = (NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonlines")


class Rejected(Struct, frozen=True, omit_defaults=True):
    """One line that was not accepted, counted from 1, and why."""

    line: int
    reason: str
    field: str = ""
    status: int = 422


class BatchAnswer(Struct, frozen=True):
    """What became of a batch.

    Attributes:
        accepted: Lines that are in the log now, those that were there before included.
        duplicates: How many of these were there before: the same id, the same payload.
        entry: The last entry, as a token; empty where nothing was accepted.
        id: The id of a single object, given or made; left out for a batch.
        state: What a single label met: `joined` its case, or `waiting` for one that the log does not know (yet); it is
            set aside if none comes. Left out for anything else.
    """

    accepted: int
    rejected: list[Rejected]
    duplicates: int = 0
    entry: str = ""
    id: str | UnsetType = UNSET
    state: Literal["joined", "waiting"] | UnsetType = UNSET


def is_batch(call: Call) -> bool:
    """Whether the body is NDJSON."""
    return call.media_type in _NDJSON_NAMES


def lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines of NDJSON that are not blank, counted from 1."""
    for number, line in enumerate(body.split(b"\n"), 1):
        if stripped := line.strip():
            yield number, stripped


def sift(body: bytes, read: Callable[[bytes], T]) -> tuple[list[tuple[int, T]], list[Rejected]]:
    """The lines that `read` understands, each with its number, and those that it refuses."""
    good: list[tuple[int, T]] = []
    bad: list[Rejected] = []
    for number, line in lines(body):
        try:
            good.append((number, read(line)))
        except ProblemError as error:
            bad.append(rejection(number, error))
        except OverflowError:
            if (refused := too_wide(line)) is None:
                raise
            bad.append(rejection(number, refused))
    return good, bad


def rejection(line: int, error: ProblemError) -> Rejected:
    """A problem as one line's rejection."""
    return Rejected(line, error.detail, error.faults[0].field if error.faults else "", error.status)


def answered(answer: BatchAnswer) -> Answer:
    """A batch's answer: 200, whatever was rejected; the caller reads `rejected`."""
    return reply(answer)
