"""The way to Redis: a client, scripts and named blobs.

No command is ever repeated by the client library: a repeated XADD is a doubled entry, so only callers repeat, with the
same ids.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from online.log import LogUnavailable


def connect(address: str, password: str | None = None, timeout: float = 5.0) -> redis.Redis:
    """A client that never repeats a command by itself.

    Args:
        address: A URL (``redis://``, ``rediss://``, ``unix://``) or the path of a unix socket.
        password: Takes the place of one in the URL.
        timeout: Seconds to wait for an answer; waiting reads must be shorter.
    """
    url = f"unix://{address}" if address.startswith("/") else address
    options: dict[str, Any] = {} if password is None else {"password": password}
    return redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        health_check_interval=0,
        protocol=2,
        **options,
    )


@contextmanager
def unavailable(doing: str) -> Iterator[None]:
    """Turns any failure of Redis into `LogUnavailable`, saying what was being done."""
    try:
        yield
    except redis.RedisError as error:
        raise LogUnavailable(f"Redis failed to {doing}: {error}") from error


class Sent:
    """Commands on their way, on a connection of their own: Redis works on them while the caller does something else."""

    def __init__(self, client: redis.Redis, commands: Sequence[tuple[str | bytes | int, ...]]) -> None:
        self._pool = cast(Any, client.connection_pool)
        self._connection = self._pool.get_connection()
        self._due = len(commands)
        self._found: list[Any] = []
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
        except BaseException:
            self.drop()
            raise

    def wait(self) -> None:
        """Wait for the answers. Raises nothing: what failed is said by `answers`."""
        while self._due:
            self._due -= 1
            try:
                self._found.append(self._connection.read_response())
            except redis.ResponseError as error:
                # The answers behind it must be read all the same: the connection is used again.
                self._found.append(error)
            except redis.RedisError as error:
                self._found.append(error)
                self.drop()
                return
            if not self._due:
                self._pool.release(self._connection)

    def answers(self) -> list[Any]:
        """What Redis said to each command, as bytes; raises the first error among them."""
        self.wait()
        for answer in self._found:
            if isinstance(answer, redis.RedisError):
                raise answer
        return self._found

    def drop(self) -> None:
        """Never ask for the answers."""
        if self._due:
            self._due = 0
            self._connection.disconnect()
            self._pool.release(self._connection)


class Script:
    """A Lua script, loaded anew whenever a restarted Redis has forgotten it."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._client = client
        self._text = (resources.files("online") / "scripts" / f"{name}.lua").read_text()
        self._sha = ""

    def __call__(self, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        if self._sha:
            try:
                return self._client.evalsha(self._sha, len(keys), *keys, *arguments)
            except redis.exceptions.NoScriptError:
                pass
        self._load()
        return self._client.evalsha(self._sha, len(keys), *keys, *arguments)

    def send(self, keys: Sequence[str], *arguments: str | bytes | int) -> Sent:
        """A call on its way, of a script that a Redis restarted in this moment may not know."""
        if not self._sha:
            self._load()
        return Sent(self._client, [("EVALSHA", self._sha, len(keys), *keys, *arguments)])

    def forget(self) -> None:
        """Load the script anew before the next call."""
        self._sha = ""

    def _load(self) -> None:
        self._sha = self._client.script_load(self._text)


class RedisBlob:
    """A `Blob` in Redis: a key per name, and one sorted set that lists them."""

    _ROOT = "trimtab:{blobs}"

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def put(self, name: str, data: bytes) -> None:
        """Store, replacing what was there."""
        with unavailable(f"store {name!r}"), self._client.pipeline(transaction=True) as pipeline:
            pipeline.set(f"{self._ROOT}:{name}", data)
            pipeline.zadd(self._ROOT, {name: 0})
            pipeline.execute()

    def get(self, name: str) -> bytes | None:
        """What is stored under a name."""
        with unavailable(f"fetch {name!r}"):
            return cast(bytes | None, self._client.get(f"{self._ROOT}:{name}"))

    def names(self, prefix: str) -> list[str]:
        """All names that begin so, sorted."""
        with unavailable(f"list {prefix!r}"):
            low, high = (f"[{prefix}", f"({prefix}\U0010ffff") if prefix else ("-", "+")
            return [name.decode() for name in cast(list[bytes], self._client.zrangebylex(self._ROOT, low, high))]

    def delete(self, name: str) -> None:
        """Forget a name."""
        with unavailable(f"delete {name!r}"), self._client.pipeline(transaction=True) as pipeline:
            pipeline.delete(f"{self._ROOT}:{name}")
            pipeline.zrem(self._ROOT, name)
            pipeline.execute()
