"""What can go wrong between a program and the service."""

from dataclasses import dataclass, field
from typing import Any


class TrimtabError(Exception):
    """Anything that this client raises by itself."""


@dataclass
class RefusedError(TrimtabError):
    """The service understood and said no: trying the same again is of no use.

    Attributes:
        status: HTTP status, 400 to 499.
        title: What kind of problem it is.
        detail: What was wrong, and what to do.
        errors: Field by field: what was given and what is allowed.
    """

    status: int
    title: str
    detail: str
    errors: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        fields = "; ".join(", ".join(f"{name} {value!r}" for name, value in error.items()) for error in self.errors)
        return " ".join(part for part in (f"{self.status} {self.title}:", self.detail, fields) if part)


class UnreachableError(TrimtabError):
    """No answer within the client's patience. Whether the request was carried out is unknown: repeat it as it was."""
