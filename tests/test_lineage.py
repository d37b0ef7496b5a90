"""A training is kept with its curve, its bundle and the state of the code, and comes back as a served policy."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from agents.bundle import BundleError, CurvePoint, pack, unpack
from agents.lineage import Lineage, code_state
from agents.runtime import load
from agents.tabular import write_out
from envs.worlds import make

CURVE = (CurvePoint(0, 10.0, 0.1, 2.0), CurvePoint(1000, 9.0, 0.2, 2.1), CurvePoint(2000, 8.0, 0.3, 2.2))


# MLflow 3 asks SQLAlchemy 2.1 for a loader strategy that is on its way out.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_a_training_comes_back_as_a_served_policy(tmp_path: Path) -> None:
    world = make("pricing", {"stock": 3, "periods": 4, "prices": "0.5:2:0.5"})
    exact = write_out(world, "exact")
    bundle = unpack(pack(replace(exact.card, curve=CURVE), exact.onnx))
    lineage = Lineage(tmp_path)
    run = lineage.record(bundle, "abc+")
    restored = Lineage(tmp_path).restore(run)
    assert restored == bundle
    assert load(restored).probabilities(np.array([[3.0, 0.0]]), np.ones((1, 4), bool)).sum() == pytest.approx(1)
    assert lineage.curve(run) == [(0, 10.0), (1000, 9.0), (2000, 8.0)]
    (kept,) = lineage.runs()
    assert (kept.id, kept.world, kept.algo, kept.digest, kept.code) == (run, "pricing", "exact", bundle.digest, "abc+")
    assert kept.metrics == bundle.card.metrics
    with pytest.raises(BundleError, match="no run"):
        lineage.restore("0" * 32)
    (file,) = tmp_path.rglob("policy.bundle")
    file.write_bytes(pack(exact.card, exact.onnx))
    with pytest.raises(BundleError, match="recorded the bundle"):
        lineage.restore(run)


def test_the_state_of_the_code_says_whether_files_differ(tmp_path: Path) -> None:
    assert code_state(tmp_path) == ""
    (tmp_path / "a").write_text("one")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "a"], [*who, "commit", "-qm", "m"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    clean = code_state(tmp_path)
    assert len(clean) == 40
    (tmp_path / "a").write_text("two")
    assert code_state(tmp_path) == f"{clean}+"
