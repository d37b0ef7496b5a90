"""The OpenAPI document is true: whatever schemathesis makes of it, every answer is one that the document names."""

import re
import subprocess
import sys
import threading
import time

import pytest
import uvicorn

from online.memory_log import MemoryBlob, MemoryLog
from service.access.keys import own_token
from service.app import create
from service.manifest import parse
from service.settings import Settings

SECRET = "s" * 32
SWITCHED_OFF = {
    "positive_data_acceptance": "rules beyond JSON Schema (a key where there are keys, a time that is not ahead, "
    "actions that exist, an intact bundle) refuse what the schema alone would let in, with a 422 that says so",
    "use_after_free": "DELETE on a job cancels it; the job stays, to be looked at",
}


@pytest.fixture
def url(request):
    manifest = request.getfixturevalue("manifest")
    log, blob = MemoryLog(), MemoryBlob()
    app = create(Settings(secret=SECRET), parse(manifest), lambda: log, blob)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


NAMED = """
[parameters]
"path.point" = "price"
"path.model" = "churn"
"""


def without(*methods):
    return [word for method in methods for word in ("--exclude-method", method)]


RUNS = [
    # Names that nobody declared, then those of the manifest. What changes or ends a point or a model comes last: it
    # changes what the document says of their paths.
    ("", without("PUT", "DELETE")),
    (NAMED, without("PUT", "DELETE")),
    (NAMED, without("GET", "POST")),
    ("", without("GET", "POST")),
]


TAGS = (("decisions", "bandits"), ("models",), ("points", "system"), ("policies", "jobs", "access"))
"""Asked side by side: most of the time goes into waiting until what was changed is served."""


def ask(url, folder, config, chosen):
    """How many requests schemathesis made; every answer must have been one that the document names."""
    asking = []
    for number, tags in enumerate(TAGS):
        place = folder / f"{len(list(folder.iterdir()))}-{number}"
        place.mkdir()
        (place / "schemathesis.toml").write_text(config)
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *chosen,
            *(word for tag in tags for word in ("--include-tag", tag)),
            "--exclude-path", "/v1/feed",  # it never ends
            "--header", f"authorization: Bearer {own_token(SECRET.encode(), 'local')}",  # keys are made on the way
            "--exclude-checks", ",".join(SWITCHED_OFF), "--seed", "1", "--warnings", "off", "--no-color",
        ]  # fmt: skip
        asking.append(subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    made = 0
    for process in asking:
        said, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, said[-6000:]
        counted = re.search(r"([\d,]+) generated", said)
        made += 0 if counted is None else int(counted[1].replace(",", ""))
    return made


@pytest.mark.parametrize(
    ("phases", "examples", "runs", "least"),
    [
        ("examples,coverage,fuzzing,stateful", 3, RUNS[1:3], 300),
        pytest.param("examples,coverage,fuzzing", 130, RUNS, 20_000, marks=pytest.mark.long),
    ],
    ids=["some", "20,000"],
)
@pytest.mark.timeout(1600)
def test_no_answer_but_a_documented_one_and_never_a_5xx(
    url, tmp_path, record_testsuite_property, phases, examples, runs, least
):
    made = 0
    for config, chosen in runs:
        made += ask(url, tmp_path, config, ["--phases", phases, "--max-examples", str(examples), *chosen])
    assert made >= least, f"{made} requests"
    record_testsuite_property("requests", made)
