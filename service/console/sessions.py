"""Who looks: sessions of people who logged in, and what their keys let them do."""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from service.console.reader import Reader, Unreachable
from service.console.settings import ConsoleSettings
from service.outside.client import ServiceError

COOKIE = "trimtab_console"
LASTS_S = 12 * 3600.0
WHO = "/v1/me"

_MOST = 1000
_ACTING = frozenset({"operate", "admin"})


@dataclass(frozen=True, eq=False)
class Session:
    """One person's way in.

    Attributes:
        scopes: What the key may do, in the words of the service.
        reader: Reads the service with that person's key.
    """

    id: str
    name: str
    scopes: frozenset[str]
    reader: Reader
    until: float

    @property
    def acts(self) -> bool:
        """Whether orders may be given: the service decides, buttons only follow."""
        return bool(self.scopes & _ACTING)


class Access:
    """Lets people in.

    A service that has keys says by `GET /v1/me` what a key may do. One that has none is open to this machine; the
    console may then ask for a token of its own, one to act or one to look.
    """

    def __init__(self, settings: ConsoleSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._open = Reader(settings.url)

    @property
    def https(self) -> bool:
        """Whether a proxy stands in front that speaks HTTPS."""
        return self._settings.https

    async def session(self, cookie: str | None) -> Session | None:
        """The session of a browser; `None` where it must log in first."""
        found = self._sessions.get(cookie or "")
        if found is not None and found.until > self._clock():
            return found
        if not self._settings.open_to_all:
            return None
        try:
            await self._open.get(WHO, fresh_s=5.0)
        except Unreachable:
            # Nobody can say who is asked for a key: there is nothing to see and nothing to do but wait.
            return self._nobody(frozenset())
        except ServiceError as error:
            return self._nobody(frozenset({"operate"})) if error.status == 404 else None
        return None

    async def admit(self, token: str) -> Session | None:
        """A new session for a key of the service or a token of the console; `None` for anything else.

        Raises:
            Unreachable: The service cannot be asked.
        """
        reader = Reader(self._settings.url, token)
        try:
            told = await reader.get(WHO, fresh_s=0.0)
        except ServiceError as error:
            await reader.close()
            # The service knows no keys: a token of the console's own is none of its business.
            role = self._role(token) if error.status == 404 else ""
            return await self._begin(role, frozenset({role}), self._open) if role else None
        except Unreachable:
            await reader.close()
            raise
        return await self._begin(str(told.get("key", "key")), frozenset(told.get("scopes", ())), reader)

    async def end(self, cookie: str | None) -> None:
        """Logs a browser out."""
        found = self._sessions.pop(cookie or "", None)
        if found is not None and found.reader is not self._open:
            await found.reader.close()

    def lives(self, session: Session) -> bool:
        """Whether the session may still be used: pages that stayed open ask before every order."""
        return session.until > self._clock() and (not session.id or session.id in self._sessions)

    def _role(self, token: str) -> str:
        known = {"operate": self._settings.operator_token, "read": self._settings.read_token}
        for name, secret in known.items():
            if secret is not None and hmac.compare_digest(secret.get_secret_value().encode(), token.encode()):
                return name
        return ""

    async def _begin(self, name: str, scopes: frozenset[str], reader: Reader) -> Session:
        session = Session(secrets.token_urlsafe(32), name, scopes, reader, self._clock() + LASTS_S)
        self._sessions[session.id] = session
        over = [old for old in self._sessions.values() if old.until <= self._clock()]
        for old in over or list(self._sessions.values())[: max(0, len(self._sessions) - _MOST)]:
            await self.end(old.id)
        return session

    def _nobody(self, scopes: frozenset[str]) -> Session:
        return Session("", "operator" if scopes else "", scopes, self._open, float("inf"))
