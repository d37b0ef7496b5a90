"""docs/security.md says what the program does: its bounds, its scopes, its commands."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer.main

from agents import probe
from online.memory_log import MemoryBlob, MemoryLog
from service.access.keys import SCOPES
from service.app import CONNECTIONS, IN_FLIGHT, create, operations_of
from service.cli import app
from service.http import bodies, protocol
from service.http.writer import WriterLimits
from service.manifest import parse
from service.settings import Settings

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "security.md").read_text()
COMMANDS = re.findall(r"^    (trimtab [^#\n]+)", TEXT, re.MULTILINE)


def row(first: str) -> str:
    found = re.search(rf"^\| {re.escape(first)} \|(.*)$", TEXT, re.MULTILINE)
    assert found is not None, first
    return found[1]


def test_the_bounds_are_those_of_the_program() -> None:
    assert f"{bodies.MOST >> 20} MiB; a bundle {probe.MAX_BYTES >> 20} MiB" in row("body")
    assert f"{bodies.SECONDS:g} s" in row("body to arrive")
    assert f"{protocol.HEAD_MOST >> 10} KiB, {protocol.Quick.head_s:g} s" in row("head")
    assert f"{protocol.Quick.silent_s:g} s" in row("silent connection")
    assert f"{CONNECTIONS}, {IN_FLIGHT}" in row("connections, requests at work")
    assert f"{WriterLimits().waiting}" in row("writes that wait")
    limits = f"{probe.MEMORY_BYTES >> 30} GiB, {probe.CPU_SECONDS} s of processor, {probe.SECONDS} s"
    assert limits in row("trial of a bundle")


def test_each_scope_opens_what_the_table_says(manifest) -> None:
    made = create(Settings(secret="s" * 32), parse(manifest), MemoryLog, MemoryBlob())
    operations = operations_of(made.state.api)
    assert [found for found in re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE) if found in SCOPES] == [
        *("decide", "predict", "ingest", "read", "operate", "admin")
    ]
    reading = {one.path for one in operations if one.method == "GET" and one.scope not in ("read", "none", "any")}
    assert reading == {"/v1/keys"}, "every GET but the list of keys is for `read`"
    named = {one.path for one in operations if one.scope in ("decide", "predict")}
    assert named == {
        *("/v1/decisions/{point}", "/v1/decisions/{point}/activate"),
        *("/v1/models/{model}/predict", "/v1/bandits/{bandit}/choose"),
    }
    told = {one.path.rpartition("/")[2] for one in operations if one.scope == "ingest"}
    assert told == {"events", "labels", "outcomes", "rewards"}
    ruled = {one.path.split("/")[2] for one in operations if one.scope == "admin"}
    assert ruled == {"keys", "models", "points"}
    free = {one.path for one in operations if one.scope == "none"}
    assert all(f"`{path}`" in TEXT for path in free)


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_one_that_the_program_understands(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, line
        command, words = found, words[1:]
    command.make_context(command.name, [word for word in words if word])


def test_the_document_shows_commands() -> None:
    assert len(COMMANDS) >= 9
