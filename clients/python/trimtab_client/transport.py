"""What both clients share about HTTP: how a response becomes an answer, a reason to try again, or an error."""

from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from trimtab_client.calls import Call
from trimtab_client.errors import RefusedError
from trimtab_client.retry import worth_repeating

T = TypeVar("T")


@dataclass(frozen=True)
class Again:
    """The request is to be repeated.

    Attributes:
        reason: Why.
        asked: Seconds that the service asked for, or 0.
    """

    reason: str
    asked: float = 0.0


def address(url: str) -> str:
    """The address, if it can be one.

    Raises:
        ValueError: no http or https address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a service: give one such as http://127.0.0.1:8080")
    return url


def headers(api_key: str | None) -> dict[str, str]:
    """What each request says about itself."""
    named = {"accept": "application/json", "user-agent": "trimtab-client"}
    return named | ({"authorization": f"Bearer {api_key}"} if api_key else {})


def request(http: httpx.Client | httpx.AsyncClient, call: Call[T]) -> httpx.Request:
    """The call as a request; the content type belongs to a body alone."""
    named = {"content-type": call.media_type} if call.body is not None else None
    return http.build_request(call.method, call.path, content=call.body, headers=named)


def failed(error: httpx.TransportError) -> Again:
    """No response came."""
    return Again(f"{type(error).__name__}: {error}".rstrip(": "))


def answered(call: Call[T], response: httpx.Response) -> T | Again:
    """The answer, or that it is to be tried again.

    Raises:
        RefusedError: The service said no.
    """
    if response.is_success:
        try:
            return call.read(response.json())
        except (ValueError, LookupError, TypeError, AttributeError):
            # Something between here and the service has answered in its place.
            return Again(f"{response.status_code} with a body that is no answer: {response.text[:100]}")
    try:
        problem = response.json()
    except ValueError:
        problem = {"detail": response.text[:300]}
    title, detail = str(problem.get("title", response.reason_phrase)), str(problem.get("detail", ""))
    if worth_repeating(response.status_code):
        return Again(f"{response.status_code} {title}: {detail}", _seconds(response.headers.get("retry-after", "")))
    raise RefusedError(response.status_code, title, detail, list(problem.get("errors", [])))


def _seconds(text: str) -> float:
    try:
        return max(float(text), 0.0)
    except ValueError:
        return 0.0
