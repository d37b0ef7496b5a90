"""The data folder has one holder, and the embedded Redis keeps what it acknowledged."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from service.processes.embedded import EmbeddedError, EmbeddedRedis, ServerBinary, find_server
from service.processes.folder import DataFolder, FolderInUseError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    with DataFolder(tmp_path / "data") as held:
        yield held


def test_an_acknowledged_write_survives_a_kill(folder: DataFolder) -> None:
    with EmbeddedRedis(folder, find_server()) as server:
        server.start()
        with server.client() as client:
            client.xadd("stream", {"n": "1"})
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        server.start()
        with server.client() as client:
            assert client.xlen("stream") == 1


def test_it_appends_always_evicts_never_and_listens_on_its_socket_alone(folder: DataFolder) -> None:
    with EmbeddedRedis(folder, find_server()) as server:
        server.start()
        with server.client() as client:
            config = client.config_get("*")
        assert config["appendfsync"] == "always"
        assert config["maxmemory-policy"] == "noeviction"
        assert config["port"] == "0"
        assert config["save"] == ""
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        assert len(os.fsencode(server.socket)) <= 100


def test_nothing_is_granted_without_the_password_or_to_the_dangerous_commands(folder: DataFolder) -> None:
    with EmbeddedRedis(folder, find_server()) as server:
        server.start()
        with redis.Redis(unix_socket_path=str(server.socket)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with server.client() as client:
            for forbidden in ("FLUSHALL", "KEYS *", "CONFIG SET appendonly no", "DEBUG SLEEP 0", "MONITOR"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*forbidden.split())
        assert server.process is not None
        command_line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().decode()
        assert server.password not in command_line


def test_it_works_where_the_path_is_long_and_full_of_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 150) / 'it\'s a "folder" # with\\odd é characters'
    with DataFolder(path) as folder, EmbeddedRedis(folder, find_server()) as server:
        server.start()
        with server.client() as client:
            client.set("name", "value")
        server.stop()
        server.start()
        with server.client() as client:
            assert client.get("name") == b"value"


def test_nothing_is_left_in_the_temporary_folder(folder: DataFolder) -> None:
    with EmbeddedRedis(folder, find_server()) as server:
        server.start()
        home = server.socket.parent
        assert home.exists()
    assert not home.exists()


def test_a_second_holder_is_refused_at_once_and_told_by_whom(folder: DataFolder) -> None:
    started = time.monotonic()
    with pytest.raises(FolderInUseError, match=rf"in use by process {os.getpid()}.*--data"):
        DataFolder(folder.path)
    assert time.monotonic() - started < 0.5


def test_an_orphaned_server_still_holds_the_folder_and_its_end_frees_it(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from service.processes.embedded import EmbeddedRedis, find_server
from service.processes.folder import DataFolder
server = EmbeddedRedis(DataFolder(Path(sys.argv[1])), find_server())
server.start()
print(server.process.pid, server.socket.parent, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, home = starter.stdout.readline().split()
        starter.kill()
    try:
        with pytest.raises(FolderInUseError, match="a Redis that is still stopping"):
            DataFolder(tmp_path, patience=0.2)
    finally:
        os.kill(int(pid), signal.SIGTERM)
    with DataFolder(tmp_path):
        assert not Path(home).exists(), "the socket's folder outlived both"


def test_a_folder_written_by_a_newer_server_is_refused(folder: DataFolder) -> None:
    (folder.path / "redis.version").write_text("7.0.15\n")
    with pytest.raises(EmbeddedError, match=r"written by Redis 7\.0\.15.*start empty.*TRIMTAB_REDIS_SERVER"):
        EmbeddedRedis(folder, ServerBinary(Path("/usr/bin/redis-server"), (6, 2, 14)))
    with EmbeddedRedis(folder, ServerBinary(Path("/usr/bin/redis-server"), (7, 0, 15))):
        pass


def test_the_version_that_wrote_a_folder_is_recorded(folder: DataFolder) -> None:
    server = find_server()
    with EmbeddedRedis(folder, server) as embedded:
        embedded.start()
    assert (folder.path / "redis.version").read_text().strip() == ".".join(map(str, server.version))


def test_a_server_that_cannot_load_its_files_says_so(folder: DataFolder) -> None:
    (folder.path / "redis").mkdir()
    (folder.path / "redis" / "appendonly.aof").write_bytes(b"*3\r\n$3\r\nSET\r\nbroken in the middle" * 3)
    with (
        EmbeddedRedis(folder, find_server()) as server,
        pytest.raises(EmbeddedError, match=r"(?s)ended.*redis\.log.*AOF"),
    ):
        server.start()


def test_a_program_that_is_no_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="does not run"):
        find_server(tmp_path / "missing")
    with pytest.raises(EmbeddedError, match="does not say which redis-server"):
        find_server(Path("/bin/echo"))
