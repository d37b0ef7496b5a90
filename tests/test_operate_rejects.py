"""`trimtab rejects`: list what a learner has set aside, mend one of these events and bring it back."""

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from typer.testing import CliRunner

from service.cli import app


@pytest.fixture
def url(service) -> Iterator[str]:
    """The service of the tests, on a port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(service.client.app, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


def trimtab(*arguments: str):
    return CliRunner().invoke(app, ["rejects", "churn", *arguments])


def test_a_rejected_event_is_listed_mended_and_brought_back(service, url):
    assert trimtab("--url", url).stdout.strip() == "nothing was set aside"
    service.post("/v1/models/churn/labels", {"id": "p1", "label": True})
    service.settle()
    service.clock.now += 400
    service.post("/v1/models/churn/events", {"id": "p2", "features": {"x": 1.0}})
    service.settle()
    listed = trimtab("--url", url)
    assert "no prediction waits under its id" in listed.stdout
    (reject,) = json.loads(trimtab("--url", url, "--json").stdout)["rejects"]
    assert reject["entry"] in listed.stdout
    service.post("/v1/models/churn/events", {"id": "p1", "features": {"x": 1.0}})
    mended = ["--replay", reject["entry"], "--event", '{"label": false}', "--reason", "told wrongly", "--json"]
    done = trimtab("--url", url, *mended)
    assert done.exit_code == 0, done.output
    service.settle()
    assert trimtab("--url", url).stdout.strip() == "nothing was set aside"
    assert service.get("/v1/models/churn")["counts"]["labelled"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--event", "{}"], "--replay ENTRY"),
        (["--replay", "1-1", "--event", "{x"], "give JSON such as"),
        (["--replay", "1-1", "--event", "@/nowhere"], "No such file"),
    ],
)
def test_what_cannot_be_brought_back_is_said_with_status_2(arguments, told):
    done = trimtab(*arguments)
    assert done.exit_code == 2
    assert told in done.stderr
