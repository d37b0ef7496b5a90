"""What the console is told from outside: which service, where to listen, who may come in."""

from typing import Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.settings import SettingsError, is_loopback

PREFIX = "TRIMTAB_CONSOLE_"


class ConsoleSettings(BaseSettings):
    """Settings of the console, from the environment variables `TRIMTAB_CONSOLE_*`.

    >>> ConsoleSettings(port=9001).open_to_all
    True
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    url: str = Field("http://127.0.0.1:8080", description="address of the service")
    host: str = Field("127.0.0.1", description="address the console listens on")
    port: int = Field(8081, ge=0, le=65535, description="port the console listens on; 0: any free one")
    trust_network: bool = Field(False, description="allow a host that others can reach, e.g. inside a container")
    https: bool = Field(False, description="people come by HTTPS, through a proxy: the log-in travels by nothing else")
    operator_token: SecretStr | None = Field(None, min_length=16, description="opens the console to act")
    read_token: SecretStr | None = Field(None, min_length=16, description="opens the console to look")

    @model_validator(mode="after")
    def _stays_private(self) -> Self:
        if not self.trust_network and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} can be reached by others: use 127.0.0.1, or set {PREFIX}TRUST_NETWORK=1 where the "
                f"network itself keeps strangers out"
            )
        return self

    @property
    def open_to_all(self) -> bool:
        """Whether nobody is asked for a token of the console's own."""
        return self.operator_token is None and self.read_token is None


def read(**given: object) -> ConsoleSettings:
    """Settings from the environment, with `given` on top.

    Raises:
        SettingsError: a value is not allowed.
    """
    try:
        return ConsoleSettings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]  # checked by pydantic
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from None


def _explain(problem: object) -> str:
    told = dict(problem)  # type: ignore[call-overload]  # pydantic's own error dictionary
    where = "".join(f"{PREFIX}{str(name).upper()}: " for name in told["loc"][:1])
    return where + str(told["msg"]).removeprefix("Value error, ")
