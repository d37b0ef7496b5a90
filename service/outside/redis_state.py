"""What a Redis server lacks to keep what it acknowledges: each trouble in words, with its cure."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import redis

from online.redis_client import connect

OLDEST = (6, 2)
VERSION = "version"
_NEARLY = 0.9
_CLOCKS_S = 2.0
_PROBE = "trimtab:probe"
_TIMEOUT_S = 2.0
_CONFIG = "see deploy/redis.conf"


class Found(NamedTuple):
    """One thing that was looked at: `text` says how it is, and the cure where it is not `ok`."""

    name: str
    ok: bool
    text: str


def look(url: str, password: str | None) -> list[Found]:
    """Everything about a server that matters, the first trouble that explains the others last where it is fatal."""
    try:
        with connect(url, password, _TIMEOUT_S) as client:
            client.ping()
            info = cast(Mapping[str, Any], client.info())
            found = [_version(info), _memory(info), _role(info), _clock(client)]
            return [*found, *_persistence(client), _writes(client)]
    except redis.AuthenticationError as error:
        return [Found("password", False, f"Redis refuses the password ({error}): set TRIMTAB_REDIS_PASSWORD")]
    except redis.BusyLoadingError:
        return [Found("reachable", False, "Redis is still reading its file back: wait, a gigabyte takes some seconds")]
    except (redis.ConnectionError, redis.TimeoutError) as error:
        return [Found("reachable", False, f"Redis does not answer ({error}): start it, or mend TRIMTAB_REDIS")]
    except redis.ResponseError as error:
        if "NOAUTH" in str(error) or "WRONGPASS" in str(error):
            return [Found("password", False, f"Redis refuses the password ({error}): set TRIMTAB_REDIS_PASSWORD")]
        return [Found("rights", False, f"Redis refuses a command ({error}): give the user the rights of {_CONFIG}")]
    except ValueError as error:
        return [Found("address", False, f"TRIMTAB_REDIS is no address ({error}): such as redis://host:6379/0")]


class Checkup:
    """What `look` found of one server, looked up at most once in a while however often it is asked.

    Args:
        look: As `look`, of one server.
    """

    def __init__(self, look: Callable[[], list[Found]], every_s: float = 2.0) -> None:
        self._look, self._every_s = look, every_s
        self._at = float("-inf")
        self._found: list[Found] = []

    def __call__(self) -> list[Found]:
        """Everything that was looked at, with what is wrong."""
        if time.monotonic() - self._at > self._every_s:
            self._at = time.monotonic()
            self._found = self._look()
        return self._found


def _version(info: Mapping[str, Any]) -> Found:
    told = str(info.get("redis_version", "0"))
    version = tuple(int(part) for part in told.split(".")[:2] if part.isdigit())
    if version < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return Found(VERSION, False, f"Redis {told} is too old: use at least {wanted}, better 8")
    return Found(VERSION, True, f"Redis {told}")


def _memory(info: Mapping[str, Any]) -> Found:
    used, most, policy = int(info["used_memory"]), int(info["maxmemory"]), str(info.get("maxmemory_policy", ""))
    if most and policy != "noeviction":
        return Found(
            "memory", False, f"Redis may evict what it acknowledged ({policy}): set maxmemory-policy noeviction"
        )
    if most and used >= most:
        return Found("memory", False, f"Redis is full ({_mib(used)} of {_mib(most)}): raise maxmemory, or trim the log")
    if most and used >= _NEARLY * most:
        return Found("memory", False, f"Redis is nearly full ({_mib(used)} of {_mib(most)}): raise maxmemory in time")
    return Found("memory", True, f"{_mib(used)} in use, {_mib(most) if most else 'no limit'}")


def _role(info: Mapping[str, Any]) -> Found:
    if info.get("role") != "master":
        return Found(
            "role", False, "this Redis is a read-only replica: give the address of its primary in TRIMTAB_REDIS"
        )
    return Found("role", True, "primary")


def _clock(client: redis.Redis) -> Found:
    seconds, micros = client.time()
    apart = seconds + micros / 1e6 - time.time()
    if abs(apart) > _CLOCKS_S:
        return Found("clock", False, f"the clock of Redis is {apart:+.1f} s from this one: let both follow NTP")
    return Found("clock", True, f"within {max(abs(apart), 0.001):.3f} s of this one")


def _persistence(client: redis.Redis) -> Iterator[Found]:
    for name, wanted, why in (
        ("appendonly", "yes", "keeps nothing that it acknowledges"),
        ("appendfsync", "always", "loses up to a second of what it acknowledges"),
    ):
        given = cast(Mapping[str, str], client.config_get(name)).get(name, "unknown")
        ok = given == wanted
        yield Found(name, ok, given if ok else f"with {name} {given}, Redis {why}: set {name} {wanted} ({_CONFIG})")


def _writes(client: redis.Redis) -> Found:
    try:
        client.set(_PROBE, b"", px=1000)
    except redis.ReadOnlyError:
        return Found("writes", False, "Redis is read-only: give the address of its primary in TRIMTAB_REDIS")
    except redis.OutOfMemoryError:
        return Found("writes", False, "Redis refuses writes since its memory is full: raise maxmemory, or trim the log")
    except redis.ResponseError as error:
        return Found("writes", False, f"Redis refuses writes ({error}): look into its log, is its disk full?")
    return Found("writes", True, "accepted")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
