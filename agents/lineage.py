"""Lineage: every training as an MLflow run in SQLite, with settings, curve, bundle and the state of the code."""

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from agents.bundle import Bundle, BundleError, pack, unpack
from agents.train import Progress

BUNDLE_FILE, CARD_FILE = "policy.bundle", "card.json"
MAX_PARAM = 5000


class Lineage:
    """The runs kept in one folder: `runs.db`, and the artefacts beside it.

    Args:
        folder: made where it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._artifacts = folder / "artifacts"
        self._client = MlflowClient(tracking_uri=f"sqlite:///{folder.resolve() / 'runs.db'}")

    def record(self, bundle: Bundle, curve: Sequence[Progress], code: str = "") -> str:
        """Keep a training; the id of its run.

        Args:
            bundle: what came of it.
            curve: what it told on the way.
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
        metrics += [Metric("curve.gap", p.gap, now, p.steps) for p in curve if p.gap is not None]
        metrics += [Metric("curve.value", p.value, now, p.steps) for p in curve if p.value is not None]
        self._client.log_batch(run_id, params=params, tags=[RunTag(k, str(v)) for k, v in tags.items()])
        # MLflow takes at most 1,000 metrics at once.
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(run_id, metrics=metrics[start : start + 1000])
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
            digest = self._client.get_run(run_id).data.tags["digest"]
            with tempfile.TemporaryDirectory() as folder:
                data = Path(self._client.download_artifacts(run_id, BUNDLE_FILE, folder)).read_bytes()
        except (MlflowException, KeyError) as error:
            raise BundleError(f"there is no run {run_id!r} with a bundle: {error}") from error
        bundle = unpack(data)
        if bundle.digest != digest:
            raise BundleError(f"run {run_id} recorded the bundle {digest}, its file holds {bundle.digest}")
        return bundle

    def curve(self, run_id: str) -> list[tuple[int, float]]:
        """Steps and gap to the optimum in percent, as far as the run told them."""
        return [(m.step, m.value) for m in self._client.get_metric_history(run_id, "curve.gap")]

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
