"""Settings: read once from the environment, refused with the variable's name, carried to children whole."""

import os
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from online.memory_log import MemoryLog
from service import settings
from service.access.keys import Issued, digest
from service.access.ledger import KeyLog
from service.access.reach import check_reach
from service.settings import Settings, SettingsError

SECRET = "0123456789abcdef0123"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TRIMTAB_")]:
        monkeypatch.delenv(name)


def test_the_environment_is_read_and_what_is_given_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_PORT", "9000")
    monkeypatch.setenv("TRIMTAB_SECRET", SECRET)
    monkeypatch.setenv("TRIMTAB_LOG_LEVEL", "warning")
    assert settings.read().port == 9000
    assert settings.read(port=9001, host=None).port == 9001
    assert settings.read().log_level == "warning"


def test_a_child_reads_back_the_settings_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(
        data=Path("/x y"), redis="unix:///s", redis_password=SecretStr("p"), secret=SecretStr(SECRET), port=1234
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert settings.read() == given


def test_settings_are_a_value() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings(secret=SecretStr(SECRET)).port = 1  # type: ignore[misc]


def test_secrets_are_not_shown() -> None:
    shown = repr(Settings(secret=SecretStr(SECRET), redis_password=SecretStr("hush hush")))
    assert SECRET not in shown
    assert "hush" not in shown


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PORT", "99999", "TRIMTAB_PORT: .*65535.*got '99999'"),
        ("PORT", "eighty", "TRIMTAB_PORT: .*integer"),
        ("LOG_LEVEL", "loud", "TRIMTAB_LOG_LEVEL: .*'debug'"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_SECRET", SECRET)
    monkeypatch.setenv(f"TRIMTAB_{name}", value)
    with pytest.raises(SettingsError, match=told):
        settings.read()


def test_a_short_secret_is_refused_without_being_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_SECRET", "too-short")
    with pytest.raises(SettingsError, match="TRIMTAB_SECRET") as refused:
        settings.read()
    assert "too-short" not in str(refused.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "example.org"])
def test_an_address_that_others_reach_is_refused_while_there_are_no_keys(host: str) -> None:
    log = MemoryLog()
    with pytest.raises(SettingsError, match=r"TRIMTAB_HOST.*127\.0\.0\.1"):
        check_reach(settings.read(host=host, secret=SECRET), log)
    check_reach(settings.read(host=host, secret=SECRET, trust_network=True), log)
    issued = Issued("k1", digest("s" * 43), ("admin",), (), None, 0.0, "ana", "the first")
    KeyLog(log, SECRET.encode()).append("k1", issued)
    check_reach(settings.read(host=host, secret=SECRET), log)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_a_loopback_address_is_allowed(host: str) -> None:
    assert settings.read(host=host, secret=SECRET).host == host


def test_the_url_is_one_that_a_client_here_can_use() -> None:
    assert settings.read(host="::1", port=1, secret=SECRET).url == "http://[::1]:1"
    assert settings.read(host="0.0.0.0", port=1, secret=SECRET, trust_network=True).url == "http://127.0.0.1:1"


def test_the_data_folder_keeps_one_secret_for_itself_alone(tmp_path: Path) -> None:
    first = settings.read(data=tmp_path / "data").secret
    assert len(first.get_secret_value()) >= 32
    assert settings.read(data=tmp_path / "data").secret == first
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["secret"]
