"""The programs of docs/clients.md, run as they stand against a real service that asks for a key."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from running import QUIET, Run

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "clients" / "python"
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs" / "clients.md").read_text(), re.MULTILINE | re.DOTALL)
INTERPRETERS = {
    "python": ([sys.executable], ".py"),
    "bash": (["bash"], ".sh"),
    "javascript": (["node"], ".mjs"),
    "r": (["Rscript"], ".R"),
}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, str]]:
    """A service, and a key of its point."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "trimtab.toml").write_text(QUIET)
    run = Run("--port", "0", cwd=folder)
    try:
        admin = made(run, "", name="ana", scopes=["admin"])
        yield run, made(run, admin, name="shop", scopes=["decide", "ingest"], subjects=["point:price"])
    finally:
        run.clean_up()


def made(run: Run, admin: str, **order: object) -> str:
    headers = {"authorization": f"Bearer {admin}"} if admin else {}
    body = {**order, "reason": "to try it"}
    answer = httpx.post(f"{run.url()}/v1/keys", json=body, headers=headers, trust_env=False)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def program(language: str, text: str, folder: Path) -> list[str]:
    """The command that runs a snippet; skips where its interpreter is not installed."""
    command, ending = INTERPRETERS[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    packages = ["Rscript", "-e", "library(httr2); library(jsonlite)"]
    if language == "r" and subprocess.run(packages, capture_output=True).returncode:
        pytest.skip("the packages httr2 and jsonlite of R are not installed")
    if language == "bash" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    path = folder / f"snippet{ending}"
    path.write_text(text)
    return [*command, str(path)]


@pytest.mark.parametrize(
    "number", range(len(SNIPPETS)), ids=[f"{language}-{place}" for place, (language, _) in enumerate(SNIPPETS)]
)
def test_each_program_of_the_document_decides_and_reports(keyed: tuple[Run, str], tmp_path: Path, number: int) -> None:
    run, key = keyed
    language, text = SNIPPETS[number]
    environment = os.environ | {"TRIMTAB_URL": run.url(), "TRIMTAB_KEY": key, "PYTHONPATH": str(CLIENT)}
    command = program(language, text, tmp_path)
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert key not in done.stdout + done.stderr
    if language == "bash":
        decision, outcome = map(json.loads, done.stdout.splitlines())
        assert 0 < decision["propensity"] <= 1
        assert outcome["accepted"] == 1
    elif "AsyncClient" in text:
        assert float(done.stdout) == 20.0, "the rule that serves chooses with probability one"
    else:
        first, second = done.stdout.splitlines()
        assert float(first.split()[1]) == 1.0
        assert second == ("0 waiting" if language == "python" else "1 accepted")


@pytest.mark.parametrize("language", ["bash", "javascript", "r"])
def test_a_program_that_is_refused_fails_with_the_service_s_own_words(
    keyed: tuple[Run, str], tmp_path: Path, language: str
) -> None:
    text = next(text for name, text in SNIPPETS if name == language)
    environment = os.environ | {"TRIMTAB_URL": keyed[0].url(), "TRIMTAB_KEY": "tt_nobody_wrong"}
    command = program(language, text, tmp_path)
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "send a valid API key" in done.stdout + done.stderr


def test_the_document_has_a_program_for_each_language() -> None:
    assert {language for language, _ in SNIPPETS} == set(INTERPRETERS)
