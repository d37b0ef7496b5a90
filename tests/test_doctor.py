"""What is wrong with Redis is said in words of its own, with the cure: by the doctor and by readiness."""

import json
import socket
import threading
import time
from contextlib import suppress

import pytest
import redis
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from online.redis_client import RedisBlob, connect
from online.redis_log import RedisLog
from service.app import create
from service.cli import app
from service.manifest import parse
from service.outside import redis_state
from service.outside.redis_state import Checkup, Found, look
from service.settings import Settings

SECRET = "s" * 32


@pytest.fixture
def server(start_redis):
    """A Redis of this test's own, and its address."""
    running = start_redis()
    with connect(running.socket) as client:
        yield client, f"unix://{running.socket}"


def troubles(found):
    return {one.name: one.text for one in found if not one.ok}


def test_a_server_as_it_should_be_has_no_trouble(server):
    found = look(server[1], None)
    assert troubles(found) == {}
    assert {one.name for one in found} == {
        *("version", "memory", "role", "clock", "appendonly", "appendfsync", "writes"),
    }


def full(client):
    client.config_set("maxmemory", "1")


def replica(client):
    client.replicaof("127.0.0.1", 9)


def passworded(client):
    client.config_set("requirepass", "another")


def lazy(client):
    client.config_set("appendfsync", "everysec")


def volatile(client):
    client.config_set("appendonly", "no")


def evicting(client):
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", str(1 << 40))


TROUBLES = [
    (full, {"memory": "is full", "writes": "raise maxmemory"}),
    (replica, {"role": "read-only replica", "writes": "read-only"}),
    (passworded, {"password": "TRIMTAB_REDIS_PASSWORD"}),
    (lazy, {"appendfsync": "appendfsync always"}),
    (volatile, {"appendonly": "appendonly yes"}),
    (evicting, {"memory": "noeviction"}),
]


@pytest.mark.parametrize(("spoil", "told"), TROUBLES, ids=[spoil.__name__ for spoil, _ in TROUBLES])
def test_each_trouble_has_words_of_its_own_and_a_cure(server, spoil, told):
    client, url = server
    spoil(client)
    found = troubles(look(url, None))
    assert set(found) == set(told)
    for name, words in told.items():
        assert words in found[name]


def test_a_wrong_password_and_a_server_that_is_away_are_told_apart(server, tmp_path):
    passworded(server[0])
    assert "refuses the password" in troubles(look(server[1], "wrong"))["password"]
    assert troubles(look(server[1], "another")) == {}
    assert "start it" in troubles(look(f"unix://{tmp_path}/none.sock", None))["reachable"]
    assert "redis://host" in troubles(look("nonsense://x", None))["address"]


@pytest.mark.parametrize(("version", "ok"), [("6.0.16", False), ("5.0.7", False), ("6.2.1", True), ("8.6.3", True)])
def test_an_old_server_is_named_with_what_is_needed(version, ok):
    found = redis_state._version({"redis_version": version})
    assert found.ok is ok
    assert version in found.text
    assert ok or "6.2" in found.text


def test_whoever_asks_often_makes_redis_answer_once():
    asked = []
    checkup = Checkup(lambda: asked.append(1) or [Found("writes", False, "no")])
    assert all(checkup() == [("writes", False, "no")] for _ in range(100))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("spoil", "words"), [(full, "raise maxmemory"), (replica, "read-only"), (passworded, "refuses the password")]
)
def test_readiness_says_what_is_wrong_and_comes_back_by_itself(server, manifest, monkeypatch, spoil, words):
    client, url = server
    monkeypatch.setattr("service.routes.system._STALE_S", 0.3)
    made = create(
        Settings(secret=SECRET, redis=url), parse(manifest), lambda: RedisLog(connect(url)), RedisBlob(connect(url))
    )
    with TestClient(made) as api:
        assert eventually(lambda: api.get("/health/ready"), lambda answer: answer.is_success).status_code == 200
        checks = {one["name"]: one["ok"] for one in api.get("/v1/system/store").json()["checks"]}
        assert checks["writes"]
        assert checks["appendfsync"]
        spoil(client)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        answer = eventually(lambda: api.get("/health/ready"), lambda answer: words in answer.text)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        mended(client)
        assert eventually(lambda: api.get("/health/ready"), lambda answer: answer.is_success).status_code == 200


class Older:
    """A way to a Redis on which it says that it is an older one."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        self.told = b"redis_version:5.0.14"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.path)
                threading.Thread(target=self.carry, args=(client, server), daemon=True).start()
                threading.Thread(target=self.carry, args=(server, client), daemon=True).start()

    def carry(self, source, target):
        with suppress(OSError), source, target:
            while data := source.recv(1 << 20):
                target.sendall(data.replace(b"redis_version:6.2.14", self.told))


@pytest.fixture
def older(server):
    """The server behind something that makes it look old."""
    if server[0].info()["redis_version"] != "6.2.14":
        pytest.skip("another Redis than the one that comes along: its version cannot be dressed")
    made = Older(server[1].removeprefix("unix://"))
    yield made
    made.listener.close()


def test_a_server_that_is_too_old_is_named_by_readiness_and_doctor_though_it_answers(
    older, manifest, monkeypatch, tmp_path
):
    url = older.url
    made = create(
        Settings(secret=SECRET, redis=url), parse(manifest), lambda: RedisLog(connect(url)), RedisBlob(connect(url))
    )
    with TestClient(made) as api:
        answer = eventually(lambda: api.get("/health/ready"), lambda answer: "too old" in answer.text)
        assert answer.status_code == 503
        assert "Redis 5.0.14 is too old: use at least 6.2, better 8" in answer.json()["detail"]
        older.told = b"redis_version:6.2.14"
        assert eventually(lambda: api.get("/health/ready"), lambda answer: answer.is_success).status_code == 200
    older.told = b"redis_version:5.0.14"
    monkeypatch.setenv("TRIMTAB_REDIS", url)
    status, checks = doctor("--data", str(tmp_path))
    assert status == 1
    assert "Redis 5.0.14 is too old" in checks["redis version"]["text"]


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [
        (full, "redis writes", "raise maxmemory"),
        (replica, "redis role", "read-only replica"),
        (passworded, "redis password", "set TRIMTAB_REDIS_PASSWORD"),
    ],
)
def test_the_doctor_has_words_of_its_own_for_each_trouble(server, monkeypatch, tmp_path, spoil, name, words):
    spoil(server[0])
    monkeypatch.setenv("TRIMTAB_REDIS", server[1])
    status, checks = doctor("--data", str(tmp_path))
    assert status == 1
    assert words in checks[name]["text"]


def mended(client):
    client.config_set("requirepass", "")
    client.config_set("maxmemory", "0")
    client.replicaof("NO", "ONE")


def eventually(ask, is_so, within=15.0):
    deadline = time.monotonic() + within
    while not is_so(answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert is_so(answer), answer.text
    return answer


def doctor(*arguments):
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    return done.exit_code, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_the_doctor_looks_into_the_redis_of_the_environment(server, monkeypatch, tmp_path):
    monkeypatch.setenv("TRIMTAB_REDIS", server[1])
    status, checks = doctor("--data", str(tmp_path))
    assert status == 0
    assert checks["redis appendfsync"]["ok"]
    lazy(server[0])
    status, checks = doctor("--data", str(tmp_path))
    assert status == 1
    assert "loses up to a second" in checks["redis appendfsync"]["text"]


def test_the_doctor_looks_at_manifest_and_rights(tmp_path, monkeypatch):
    manifest = tmp_path / "trimtab.toml"
    manifest.write_text("[models.x]\ntask = 'wrong'\n")
    (tmp_path / "secret").write_text("s" * 32)
    (tmp_path / "secret").chmod(0o644)
    status, checks = doctor("--data", str(tmp_path), "--manifest", str(manifest))
    assert status == 1
    assert "models.x.task" in checks["manifest"]["text"]
    assert "chmod 600" in checks["rights"]["text"]
    monkeypatch.chdir(tmp_path)
    assert not doctor("--manifest", "none.toml")[1]["manifest"]["ok"]


def test_the_doctor_of_a_container_that_serves_asks_for_no_torch_and_looks_at_its_own_folder(
    server, monkeypatch, tmp_path
):
    monkeypatch.setattr("service.commands.doctor.find_spec", lambda name: None if name == "torch" else name)
    monkeypatch.setenv("TRIMTAB_DATA", str(tmp_path))
    status, checks = doctor()
    assert not checks["extras"]["ok"], "the whole service on one machine trains too"
    assert status == 1
    monkeypatch.setenv("TRIMTAB_REDIS", server[1])
    status, checks = doctor()
    assert checks["extras"]["ok"]
    assert "train" in checks["extras"]["text"]
    assert str(tmp_path) in checks["disk"]["text"]


def test_a_probe_leaves_nothing_behind(server):
    look(server[1], None)
    time.sleep(1.1)
    assert server[0].keys("trimtab:probe") == []
    assert isinstance(server[0], redis.Redis)
