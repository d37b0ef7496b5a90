"""The containers of compose and Kubernetes as processes of this machine: the same commands, the same variables."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
SECRETS = {
    "TRIMTAB_SECRET": "canary-secret-of-the-service-1234567",
    "REDIS_PASSWORD": "canary-password-of-redis-1234567",
    "GRAFANA_PASSWORD": "canary-password-of-grafana",
    "METRICS_KEY": "",
}
_IN_CLUSTER = {"secret": SECRETS["TRIMTAB_SECRET"], "redis-password": SECRETS["REDIS_PASSWORD"]}


class Container(NamedTuple):
    """One container as its file describes it: the whole command, and every variable."""

    command: list[str]
    environment: dict[str, str]


def of_compose() -> dict[str, Container]:
    """Those that run our own programs or Redis, by service."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    wanted = ("redis", "api", "learner", "adapter", "console")
    return {
        name: Container(
            _entry(services[name]["image"]) + [word.replace("$$", "$") for word in services[name]["command"]],
            {key: _filled(str(value)) for key, value in services[name].get("environment", {}).items()},
        )
        for name in wanted
    }


def of_kubernetes() -> dict[str, Container]:
    """Each workload's container."""
    kustomization = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    maps = {one["name"]: one for one in kustomization["configMapGenerator"]}
    found: dict[str, Container] = {}
    for file in kustomization["resources"]:
        for thing in yaml.safe_load_all((DEPLOY / file).read_text()):
            if thing["kind"] in ("Deployment", "StatefulSet"):
                (only,) = thing["spec"]["template"]["spec"]["containers"]
                names = [source["configMapRef"]["name"] for source in only.get("envFrom", [])]
                given = dict(line.split("=", 1) for name in names for line in maps[name]["literals"])
                given |= {one["name"]: _value(one) for one in only["env"]}
                command = only.get("command") or _entry(only["image"]) + only["args"]
                found[thing["metadata"]["name"]] = Container(command, given)
    return found


def _entry(image: str) -> list[str]:
    """What the image of the Dockerfile runs; that of others runs what it is told."""
    if not image.startswith("trimtab"):
        return []
    entries = set(re.findall(r'^ENTRYPOINT \["(\w+)"\]$', (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert entries == {"trimtab"}
    return ["trimtab"]


def _filled(text: str) -> str:
    """A value with `${NAME:?..}` taken from the secrets, and `${NAME:-default}`."""
    return re.sub(r"\$\{(\w+):[?-][^}]*\}", lambda found: SECRETS[found[1]], text)


def _value(variable: Mapping[str, Any]) -> str:
    return str(variable["value"]) if "value" in variable else _IN_CLUSTER[variable["valueFrom"]["secretKeyRef"]["key"]]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Machine:
    """One machine in place of a network of containers: names become ports, mounted folders become folders."""

    def __init__(self, folder: Path, containers: dict[str, Container], redis_server: str) -> None:
        self.folder = folder
        self.containers = containers
        self.ports = {"redis": free_port()}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "bin").mkdir()
        (folder / "bin" / "redis-server").symlink_to(redis_server)
        config = (DEPLOY / "redis.conf").read_text().replace("dir /data", f"dir {folder}")
        (folder / "redis.conf").write_text(f"{config}\nport {self.ports['redis']}\nbind 127.0.0.1\n")

    def placed(self, text: str) -> str:
        """A command's word or a variable's value, with this machine's places in it."""
        places = {
            "redis:6379": f"127.0.0.1:{self.ports['redis']}",
            "api:8080": f"127.0.0.1:{self.ports.get('api-1')}",
            "/etc/redis/redis.conf": str(self.folder / "redis.conf"),
            "/etc/trimtab/trimtab.toml": str(ROOT / "trimtab.toml"),
        }
        for there, here in places.items():
            text = text.replace(there, here)
        return text

    def environment(self, name: str, replica: str) -> dict[str, str]:
        """A container's variables; where to find programs, and a port and a folder of its own, besides."""
        given = {key: self.placed(value) for key, value in self.containers[name].environment.items()}
        if "TRIMTAB_DATA" in given:
            data = self.folder / replica
            data.mkdir(exist_ok=True)
            given["TRIMTAB_DATA"] = str(data)
        port = {"api": "TRIMTAB_PORT", "console": "TRIMTAB_CONSOLE_PORT"}.get(name)
        if port is not None:
            self.ports.setdefault(replica, free_port())
            given[port] = str(self.ports[replica])
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "OMP_NUM_THREADS": "1", **given}

    def start(self, name: str, replica: str = "") -> None:
        """Starts one container."""
        replica = replica or name
        command = [self.placed(word) for word in self.containers[name].command]
        environment = self.environment(name, replica)
        with (self.folder / f"{replica}.log").open("ab") as log:
            self.running[replica] = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def run(self, name: str, replica: str, *arguments: str) -> str:
        """What a command says that is typed into a running container."""
        done = subprocess.run(
            arguments,
            env=self.environment(name, replica),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def url(self, replica: str) -> str:
        return f"http://127.0.0.1:{self.ports[replica]}"

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.folder.rglob("*.log"))

    def stop(self, within: float) -> dict[str, int]:
        """Exit statuses after SIGTERM, the outermost first, as a platform that stops everything sends it."""
        for process in self.running.values():
            process.terminate()
        deadline = time.monotonic() + within
        return {
            name: process.wait(max(0.1, deadline - time.monotonic()))
            for name, process in reversed(self.running.items())
        }

    def clean_up(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def eventually(holds: Callable[[], bool], within: float = 120.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False
