"""HTTPS by two flags, and a service that is stopped in the middle of its work."""

import asyncio
import signal
import ssl
import subprocess
import time
from collections import Counter

import httpx
import pytest
from running import QUIET, Run

from online.events import Decided, decode
from online.log import START, Partition
from online.redis_client import connect
from online.redis_log import RedisLog
from service.commands.doctor import _service
from service.processes.embedded import EmbeddedRedis, find_server
from service.processes.folder import DataFolder
from service.settings import SettingsError, read

BODY = {"key": "sku-1", "context": {"stock": 5, "period": 3}}
PATH = "/v1/decisions/price"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "trimtab.toml").write_text(QUIET)
    return tmp_path


@pytest.fixture
def start(folder):
    started = []

    def up(*arguments):
        started.append(Run("--port", "0", *arguments, cwd=folder))
        return started[-1]

    yield up
    for run in started:
        run.clean_up()


def certificate(folder):
    """A certificate of our own making, for 127.0.0.1."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost"]
    try:
        subprocess.run(
            [*command, "-addext", "subjectAltName=IP:127.0.0.1"], cwd=folder, check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return folder / "cert.pem", folder / "key.pem"


def test_two_flags_make_it_https_alone(start, folder, monkeypatch):
    cert, key = certificate(folder)
    run = start("--tls-cert", str(cert), "--tls-key", str(key))
    url = run.url()
    assert url.startswith("https://")
    trusting = ssl.create_default_context(cafile=str(cert))
    with httpx.Client(verify=trusting, trust_env=False) as client:
        answer = client.post(f"{url}{PATH}", json=BODY)
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(url, trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(url.replace("https", "http"), trust_env=False)
    assert "set SSL_CERT_FILE" in _service(url).text
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert _service(url).ok, _service(url).text
    assert run.stop() == 0


def test_half_of_what_tls_needs_is_refused(folder):
    cert, _ = certificate(folder)
    with pytest.raises(SettingsError, match="belong together"):
        read(secret="s" * 32, tls_certificate=cert)
    with pytest.raises(SettingsError, match="cannot be read"):
        read(secret="s" * 32, tls_certificate=cert, tls_key=folder / "none.pem")


async def hammer(url, seconds, noted):
    """Decisions, sixteen at a time, until nobody answers; what was acknowledged is noted."""

    async def one(worker):
        number = 0
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            while time.monotonic() < until:
                number += 1
                name = f"w{worker}-{number}"
                try:
                    answer = await client.post(PATH, json={**BODY, "id": name})
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    noted.append(name)

    until = time.monotonic() + seconds
    await asyncio.gather(*(one(worker) for worker in range(16)))


def stored(folder, partition):
    with DataFolder(folder / ".trimtab") as data, EmbeddedRedis(data, find_server()) as server:
        server.start()
        log = RedisLog(connect(server.url, server.password))
        found, cursor = Counter(), START
        while entries := log.read(partition, cursor, 1000):
            events = (decode(entry.payload) for entry in entries)
            found.update(event.id for event in events if isinstance(event, Decided))
            cursor = entries[-1].id
        return found


async def stopped_under_load(run, signals):
    noted = []
    load = asyncio.create_task(hammer(run.url(), 90, noted))
    while len(noted) < 64 and not load.done():
        await asyncio.sleep(0.05)
    started = time.monotonic()
    for pause, how in signals:
        await asyncio.sleep(pause)
        run.process.send_signal(how)
    status = await asyncio.to_thread(run.process.wait, 30)
    took = time.monotonic() - started
    await load
    return noted, status, took


@pytest.mark.parametrize(
    "signals",
    [
        [(0, signal.SIGTERM)],
        [(0, signal.SIGTERM), (0.3, signal.SIGTERM)],
        pytest.param([(0, signal.SIGINT)], marks=pytest.mark.long),
    ],
    ids=["SIGTERM", "SIGTERM twice", "Ctrl-C"],
)
def test_a_stop_under_load_loses_nothing_and_leaves_no_request_unanswered(start, folder, signals):
    run = start()
    noted, status, took = asyncio.run(stopped_under_load(run, signals))
    assert status == 0, run.text
    assert took < 10
    assert run.members() == set()
    assert len(noted) >= 64, "the signal came in the middle of the work"
    kept = stored(folder, Partition("point:price"))
    assert set(kept.values()) == {1}
    assert set(noted) <= set(kept)
    if len(signals) == 1:
        assert set(kept) == set(noted), "what was taken is answered; a second signal is in a hurry"


@pytest.mark.long
def test_a_stop_in_the_middle_of_commits_loses_nothing_and_the_next_start_goes_on(start):
    """The learner commits several times a second while events stream in: a signal finds it in the middle of one.

    The short test is in `test_shutdown`, with a store that stands still.
    """
    run = start()
    lines = "\n".join(f'{{"id": "e{n}", "features": {{"x": {n % 9}}}, "label": {n % 5}}}' for n in range(5000))
    headers = {"content-type": "application/x-ndjson"}
    sent = httpx.post(
        f"{run.url()}/v1/models/demand/events", content=lines, headers=headers, timeout=60, trust_env=False
    )
    assert sent.json()["accepted"] == 5000
    learner = run.member(" learner")
    started = time.monotonic()
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(30) == 0
    assert time.monotonic() - started < 10
    assert run.members() == set()
    assert learner not in run.members()
    again = start()
    assert again.eventually(lambda: again.get("/v1/models/demand")["learned"] == 5000), again.text
    assert again.stop() == 0
