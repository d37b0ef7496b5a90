"""The client for ordinary programs."""

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import httpx

from trimtab_client import calls, transport
from trimtab_client.answers import Decision, Prediction, Written
from trimtab_client.calls import Call
from trimtab_client.retry import Retry
from trimtab_client.transport import Again

T = TypeVar("T")


class Client:
    """A connection to a service. Requests are repeated, with the same ids, until one is answered or patience is over.

    May be shared by threads.

    Args:
        url: Address of the service, such as `http://127.0.0.1:8080`.
        api_key: Sent as a bearer token.
        timeout: Seconds that one try may take.
        retry: How often and how long a request is repeated.
        http: An `httpx.Client` to use instead of an own one: for proxies, certificates, tests.

    Raises:
        ValueError: no http or https address.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        retry: Retry | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._http = http or httpx.Client(
            base_url=transport.address(url), timeout=timeout, headers=transport.headers(api_key)
        )
        self._retry = retry or Retry()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[T], retry: Retry | None = None) -> T:
        """Carry out one request; `retry` instead of the client's own, for this one.

        Raises:
            RefusedError: The service said no.
            UnreachableError: No answer within the patience.
        """
        retry, started, attempt = retry or self._retry, time.monotonic(), 0
        while True:
            try:
                outcome = transport.answered(call, self._http.send(transport.request(self._http, call)))
            except httpx.TransportError as error:
                outcome = transport.failed(error)
            if not isinstance(outcome, Again):
                return outcome
            attempt += 1
            time.sleep(retry.pause(attempt, time.monotonic() - started, outcome.asked, outcome.reason))

    def decide(self, point: str, context: Mapping[str, float], **more: Any) -> Decision:
        """Ask a point for an action; `more` as in `calls.decide`. Raises as `send`."""
        return self.send(calls.decide(point, context, **more))

    def activate(self, point: str, id: str, **more: Any) -> dict[str, Any]:
        """Say that a deferred decision was used. Raises as `send`."""
        return self.send(calls.activate(point, id, **more))

    def outcome(self, point: str, id: str, value: float | None = None, **more: Any) -> Written:
        """Report what came of a decision; `more` as in `calls.outcome_line`. Raises as `send`."""
        return self.send(calls.outcome(point, id, value, **more))

    def outcomes(self, point: str, lines: Iterable[Mapping[str, Any]]) -> Written:
        """Report many outcomes, each made by `calls.outcome_line`: read `rejected`. Raises as `send`."""
        return self.send(calls.outcomes(point, lines))

    def predict(self, model: str, features: Mapping[str, Any], **more: Any) -> Prediction:
        """Ask a model for a prediction; `more` as in `calls.predict`. Raises as `send`."""
        return self.send(calls.predict(model, features, **more))

    def label(self, model: str, id: str, label: Any, **more: Any) -> Written:
        """Report the truth about a prediction or an event. Raises as `send`."""
        return self.send(calls.label(model, id, label, **more))

    def labels(self, model: str, lines: Iterable[Mapping[str, Any]]) -> Written:
        """Report many labels, each made by `calls.label_line`: read `rejected`. Raises as `send`."""
        return self.send(calls.labels(model, lines))

    def event(self, model: str, features: Mapping[str, Any], label: Any = None, **more: Any) -> Written:
        """Report something that happened; `more` as in `calls.event_line`. Raises as `send`."""
        return self.send(calls.event(model, features, label, **more))

    def events(self, model: str, lines: Iterable[Mapping[str, Any]]) -> Written:
        """Report many events, each made by `calls.event_line`: read `rejected`. Raises as `send`."""
        return self.send(calls.events(model, lines))

    def trace(self, point: str, id: str, **more: Any) -> dict[str, Any]:
        """Everything about one decision. Raises as `send`."""
        return self.send(calls.trace(point, id, **more))

    def report(self, point: str, **more: Any) -> dict[str, Any]:
        """Value per policy, with intervals. Raises as `send`."""
        return self.send(calls.report(point, **more))

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """A GET of any route. Raises as `send`."""
        return self.send(calls.look(path, **query))
