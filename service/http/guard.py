"""The guard against web pages of others: cross-site requests, and names that were made to point at this machine.

A browser on the operator's machine reaches a service that listens there. A page of somebody else must not be able to
make it act (cross-site request forgery), nor to read it under a name of its own that resolves to 127.0.0.1 (DNS
rebinding). Programs send no `Origin` and give an address or a local name, so they never notice.
"""

from collections.abc import Iterable
from ipaddress import ip_address

from service.http.problems import Fault, ProblemError, shown

_SAFE = ("GET", "HEAD", "OPTIONS")
_NAMES = 256
_LONGEST = 260
"""A name of 253 characters and its port: nothing longer is worth remembering."""


class Guard:
    """Looks at a request's `Host`, `Origin` and `Sec-Fetch-Site`.

    Args:
        any_host: Whether every name is this service's own: where the network keeps strangers out.
    """

    def __init__(self, any_host: bool) -> None:
        self._any_host = any_host
        self._good: set[bytes] = set()

    def refusal(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> ProblemError | None:
        """Why a request is not let in; `None` where it is."""
        host, origin, site, hosts = b"", b"", b"", 0
        for name, value in headers:
            if name == b"host":
                host, hosts = value, hosts + 1
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        if hosts > 1:
            # Whoever stands before the service may have looked at another one of them.
            fault = Fault("Host", "one header", f"{hosts} headers")
            return ProblemError("malformed-request", "A request names one host. Send one Host header.", fault)
        if host not in self._good and not self._knows(host):
            allowed = "an address, localhost, or a name without dots"
            detail = (
                f"The service listens for this machine alone and does not answer as {shown(host.decode('latin-1'))}. "
                "Use its address, or set TRIMTAB_TRUST_NETWORK=1 where the network itself keeps strangers out."
            )
            return ProblemError("foreign-page", detail, Fault("Host", allowed, shown(host.decode("latin-1"))))
        if not (origin or site) or method in _SAFE:
            return None
        if (origin and origin.partition(b"://")[2] != host) or site in (b"cross-site", b"same-site"):
            given = shown((origin or site).decode("latin-1"))
            detail = "A page of another site may not change anything here. Send the request from a program."
            return ProblemError("foreign-page", detail, Fault("Origin", "this service's own address, or none", given))
        return None

    def _knows(self, host: bytes) -> bool:
        if not (self._any_host or is_local(host.decode("latin-1"))):
            return False
        if len(host) <= _LONGEST:
            if len(self._good) >= _NAMES:
                self._good.clear()
            self._good.add(host)
        return True


def is_local(host: str) -> bool:
    """Whether a `Host` header can be meant for a service on this machine, and is no name that anybody can register.

    >>> [is_local(host) for host in ("localhost:8080", "127.0.0.1", "[::1]:8080", "api", "price.localhost", "")]
    [True, True, True, True, True, True]
    >>> [is_local(host) for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.")]
    [False, False, False, False]
    """
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if "." not in name and ":" not in name:
        return True
    if name.lower().endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
