"""Problem details: what the service answers when it cannot do what was asked (RFC 9457)."""

from typing import Any, Literal, TypeAlias

import msgspec

MEDIA_TYPE = "application/problem+json"
_GIVEN_LENGTH = 120

Kind: TypeAlias = Literal[
    "malformed-request",
    "malformed-json",
    "invalid-request",
    "foreign-page",
    "unauthorized",
    "forbidden",
    "rate-limited",
    "no-keys",
    "unknown-key",
    "unknown-route",
    "unknown-model",
    "unknown-bandit",
    "unknown-point",
    "unknown-decision",
    "unknown-policy",
    "unknown-job",
    "unknown-entry",
    "not-allowed-method",
    "conflict",
    "too-large",
    "too-slow",
    "head-too-large",
    "overloaded",
    "not-learned-yet",
    "unavailable",
    "internal",
]

KINDS: dict[Kind, tuple[int, str]] = {
    "malformed-request": (400, "The request is not HTTP as it should be"),
    "malformed-json": (400, "The body is not valid JSON"),
    "invalid-request": (422, "The request does not fit what is declared"),
    "foreign-page": (403, "Pages of others may not use this service"),
    "unauthorized": (401, "An API key is needed"),
    "forbidden": (403, "This API key is for something else"),
    "rate-limited": (429, "This API key asks too often"),
    "no-keys": (404, "The service has no API keys"),
    "unknown-key": (404, "No such API key"),
    "unknown-route": (404, "There is nothing at this address"),
    "unknown-model": (404, "No such model"),
    "unknown-bandit": (404, "No such bandit"),
    "unknown-point": (404, "No such decision point"),
    "unknown-decision": (404, "No such decision"),
    "unknown-policy": (404, "No such policy"),
    "unknown-job": (404, "No such job"),
    "unknown-entry": (404, "No such entry"),
    "not-allowed-method": (405, "This address does not answer that method"),
    "conflict": (409, "The request disagrees with what is stored"),
    "too-large": (413, "The body is too large"),
    "too-slow": (408, "The request did not arrive in time"),
    "head-too-large": (431, "The head of the request is too large"),
    "overloaded": (429, "Too many requests are waiting"),
    "not-learned-yet": (503, "The model has not learned that entry yet"),
    "unavailable": (503, "The log is out of reach"),
    "internal": (500, "The service failed"),
}


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field that is wrong: its path, what was given and what is allowed."""

    field: str
    allowed: str
    given: str = ""
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        given = f" (given: {self.given})" if self.given else ""
        return f"{self.field}: {self.allowed}{given}" if self.field else f"{self.allowed}{given}"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every answer that is not a success."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[Fault, ...] = ()


class ProblemError(Exception):
    """A request that is answered with problem details.

    Args:
        kind: One of `KINDS`; decides the status, the title and the type URI.
        detail: One sentence for a person: what is wrong and what to do.
        faults: The fields concerned.
        headers: Extra response headers, for instance `Retry-After`.
    """

    def __init__(self, kind: Kind, detail: str, *faults: Fault, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.faults = faults
        self.headers = headers or {}

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return KINDS[self.kind][0]

    def problem(self) -> Problem:
        """The body of the answer."""
        status, title = KINDS[self.kind]
        return Problem(f"urn:trimtab:problem:{self.kind}", title, status, self.detail, self.faults)


def failure() -> ProblemError:
    """What a client hears of a fault of the service itself: nothing of its insides."""
    return ProblemError("internal", "The service failed; its log has the reason.")


class Plain(str):
    """Words about what was given, shown as they are rather than as a JSON string."""

    __slots__ = ()


NOTHING = Plain("nothing")


def invalid(field: str, allowed: str, given: Any = msgspec.UNSET, *, known: tuple[str, ...] = ()) -> ProblemError:
    """A 422 about one field.

    >>> invalid("context.stock", "a number from 0 to 20", -1).detail
    'context.stock: a number from 0 to 20 (given: -1)'
    """
    fault = Fault(field, allowed, shown(given), known)
    return ProblemError("invalid-request", str(fault), fault)


def unknown(kind: Kind, field: str, name: str, known: tuple[str, ...]) -> ProblemError:
    """A 404 that says which names exist.

    >>> unknown("unknown-model", "model", "chrun", ("churn", "demand")).detail
    "There is no model 'chrun'; there are: churn, demand."
    """
    there = f"there are: {', '.join(known)}" if known else "there are none yet"
    fault = Fault(field, f"one of: {', '.join(known)}" if known else "nothing is declared yet", shown(name), known)
    return ProblemError(kind, f"There is no {field} {name!r}; {there}.", fault)


def shown(value: Any) -> str:
    """A value as JSON, cut to a readable length; empty where nothing was given."""
    if value is msgspec.UNSET:
        return ""
    if isinstance(value, Plain):
        return str(value)
    if isinstance(value, float) and value - value != 0:
        return "a number beyond 1.8e308"
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= _GIVEN_LENGTH else f"{text[:_GIVEN_LENGTH]}…"
