"""Lineage: every training as an MLflow run in SQLite, with settings, curve, bundle and the state of the code."""

import json
import logging
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from agents.bundle import Bundle, BundleError, pack, unpack
from agents.curves import gaps

BUNDLE_FILE, CARD_FILE = "policy.bundle", "card.json"
CURVE, VALUES = "curve.gap", "curve.value"
MAX_PARAM = 5000


@dataclass(frozen=True)
class Run:
    """One training that was kept.

    Args:
        id: of the run.
        world, algo, digest: what was trained, and the name of its bundle.
        code: state of the code it ran from, empty where that is not known.
        at: seconds since 1970.
        metrics: what the policy was measured to do, as in its card.
    """

    id: str
    world: str
    algo: str
    digest: str
    code: str
    at: float
    metrics: dict[str, float]


class Lineage:
    """The runs kept in one folder: `runs.db`, and the artefacts beside it.

    Args:
        folder: made where it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # It tells of every table that it makes.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._artifacts = folder / "artifacts"
        self._client = MlflowClient(tracking_uri=f"sqlite:///{folder.resolve() / 'runs.db'}")

    def record(self, bundle: Bundle, code: str = "") -> str:
        """Keep a training, its settings, curve and bundle; the id of its run.

        Args:
            bundle: what came of it, with the curve in its card.
            code: state of the code it ran from (`code_state`).
        """
        card = bundle.card
        run = self._client.create_run(self._experiment(card.world), run_name=f"{card.algo} {bundle.digest[:12]}")
        run_id: str = run.info.run_id
        given = {
            "algo": card.algo,
            "preset": card.preset,
            "seed": card.seed,
            "params": card.params,
            "ranges": card.ranges,
        }
        params = [Param(name, json.dumps(value)[:MAX_PARAM]) for name, value in given.items()]
        tags = {"digest": bundle.digest, "code": code, **{f"version.{k}": v for k, v in card.versions.items()}}
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, card.steps) for name, value in card.metrics.items()]
        metrics += [Metric(CURVE, gap, now, steps) for steps, gap in gaps(card.curve)]
        metrics += [Metric(VALUES, point.value, now, point.steps) for point in card.curve if point.value is not None]
        self._client.log_batch(run_id, params=params, tags=[RunTag(k, str(v)) for k, v in tags.items()])
        self._client.log_batch(run_id, metrics=metrics)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, BUNDLE_FILE).write_bytes(pack(card, bundle.onnx, bundle.weights))
            Path(folder, CARD_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(card)))
            self._client.log_artifacts(run_id, folder)
        self._client.set_terminated(run_id)
        return run_id

    def restore(self, run_id: str) -> Bundle:
        """The bundle of a run, checked against its digest.

        Raises:
            BundleError: no such run, or one whose bundle was altered.
        """
        try:
            run = self._client.get_run(run_id)
            digest = run.data.tags["digest"]
            data = Path(unquote(urlsplit(run.info.artifact_uri).path), BUNDLE_FILE).read_bytes()
        except (MlflowException, KeyError, OSError) as error:
            raise BundleError(f"there is no run {run_id!r} with a bundle: {error}") from error
        bundle = unpack(data)
        if bundle.digest != digest:
            raise BundleError(f"run {run_id} recorded the bundle {digest}, its file holds {bundle.digest}")
        return bundle

    def curve(self, run_id: str) -> list[tuple[int, float]]:
        """Steps and gap to the optimum in percent, as far as the run told them."""
        return [(m.step, m.value) for m in self._client.get_metric_history(run_id, CURVE)]

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        names = {one.experiment_id: one.name for one in self._client.search_experiments()}
        found = self._client.search_runs(list(names), order_by=["attributes.start_time DESC"])
        return [
            Run(
                id=run.info.run_id,
                world=names[run.info.experiment_id],
                algo=json.loads(run.data.params.get("algo", '""')),
                digest=run.data.tags.get("digest", ""),
                code=run.data.tags.get("code", ""),
                at=run.info.start_time / 1000,
                metrics={name: value for name, value in run.data.metrics.items() if name not in (CURVE, VALUES)},
            )
            for run in found
        ]

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=self._artifacts.resolve().as_uri()))


def code_state(folder: Path) -> str:
    """The commit that a folder stands at, with `+` where files differ from it; empty outside a git checkout."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{commit}+" if changed else commit


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
