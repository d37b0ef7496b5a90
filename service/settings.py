"""What a process of the service is told from outside: read once, passed down as a value."""

import os
import secrets
import tempfile
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ARCHIVE = "archive"
"""Folder, within the data folder, of what learners copy out of the log."""

_PREFIX = "TRIMTAB_"


class SettingsError(ValueError):
    """The settings cannot be used; the message names the variable, what it held and what is allowed."""


class Settings(BaseSettings):
    """Settings of one process, from the environment variables `TRIMTAB_*`.

    >>> settings = Settings(secret="not-so-secret-but-long-enough", port=9000)
    >>> settings.url, settings.redis is None
    ('http://127.0.0.1:9000', True)
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    data: Path = Field(Path(".trimtab"), description="folder that holds everything the service stores")
    manifest: Path = Field(Path("trimtab.toml"), description="models and points to serve")
    redis: str | None = Field(
        None, description="URL of a Redis server; unset: the embedded one, started by `trimtab up`"
    )
    redis_password: SecretStr | None = Field(None, description="password of that server")
    redis_server: Path | None = Field(None, description="redis-server to embed instead of the one that comes along")
    window: int = Field(1_000_000, ge=1_000, description="ids remembered per log partition, about half a kilobyte each")
    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(8080, ge=0, le=65535, description="port the API listens on; 0: any free one")
    trust_network: bool = Field(False, description="answer whoever reaches the host, as long as there are no API keys")
    tls_certificate: Path | None = Field(None, description="certificate (PEM, with its chain): serves HTTPS")
    tls_key: Path | None = Field(None, description="private key of that certificate (PEM)")
    secret: SecretStr = Field(
        min_length=16, max_length=64, description="key of draws and of stored state; kept by the data folder"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _has_both_of_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError(f"{_PREFIX}TLS_CERTIFICATE and {_PREFIX}TLS_KEY belong together: give both, or none")
        for path in (self.tls_certificate, self.tls_key):
            if path is not None and not os.access(path, os.R_OK):
                raise ValueError(f"{path} cannot be read: {_PREFIX}TLS_CERTIFICATE and {_PREFIX}TLS_KEY name PEM files")
        return self

    @property
    def url(self) -> str:
        """Where a client on this machine finds the API."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        scheme = "http" if self.tls_certificate is None else "https"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The settings as variables for a child process (secrets travel here, never on a command line)."""
        values = {name: _plain(getattr(self, name)) for name in type(self).model_fields}
        return {f"{_PREFIX}{name.upper()}": value for name, value in values.items() if value is not None}


def _plain(value: Any) -> str | None:
    if value is None:
        return None
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def read(**given: Any) -> Settings:
    """Settings from the environment, with `given` on top; a missing secret is taken from the data folder.

    Raises:
        SettingsError: a value is not allowed.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if "secret" not in values and not os.environ.get(f"{_PREFIX}SECRET"):
        folder = values.get("data", os.environ.get(f"{_PREFIX}DATA", Settings.model_fields["data"].default))
        values["secret"] = secret_of(Path(folder))
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from None


def _explain(problem: Any) -> str:
    where = "".join(f"{_PREFIX}{str(name).upper()}: " for name in problem["loc"][:1])
    message = problem["msg"].removeprefix("Value error, ")
    hidden = problem["loc"][:1] in {("secret",), ("redis_password",)}
    return f"{where}{message}" if not where or hidden else f"{where}{message}, got {problem['input']!r}"


def secret_of(folder: Path) -> str:
    """The data folder's secret (`folder/secret`, mode 0600), made on first use.

    Two processes that start at once agree: the file appears complete or not at all.
    """
    path = folder / "secret"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".secret-", delete=False) as draft:
            draft.write(secrets.token_urlsafe(32))
            draft.flush()
            os.fsync(draft.fileno())
        try:
            os.link(draft.name, path)
        except FileExistsError:
            pass
        finally:
            Path(draft.name).unlink()
    return path.read_text().strip()
