"""The adapter: a job becomes a policy, and a policy that beats the baseline in simulation becomes the release."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents import train
from agents.curves import gaps
from agents.lineage import Lineage
from online.events import Released
from online.log import Appended, Conflict, Draft, EntryId, LogUnavailable, Partition
from online.memory_log import MemoryBlob, MemoryLog
from service.deciding import feed
from service.deciding.feed import FEED
from service.deciding.jobs import Job
from service.deciding.registry import Registry
from service.deciding.releases import Hold
from service.manifest import Manifest, parse
from service.processes import trainer
from service.processes.trainer import Adapter

NOBODY = False
PRICE: dict[str, Any] = {
    "world": "pricing",
    "params": {"stock": 5, "periods": 10, "prices": "0.5:4.25:0.25"},
    "mode": "live",
    "baseline": 4.25,
}


def manifest(**changes: Any) -> Manifest:
    return parse({"points": {"price": PRICE | changes}})


class Flaky(MemoryLog):
    """A log whose answers to its first releases are lost: what was asked for happened all the same."""

    def __init__(self, inner: MemoryLog, failures: int) -> None:
        self.__dict__ = inner.__dict__
        self.failures = failures
        self.fails = False

    def append(self, partition: Partition, drafts: Sequence[Draft]) -> list[Appended | Conflict]:
        answer = super().append(partition, drafts)
        if self.fails and self.failures and partition.subject.startswith("releases:"):
            self.failures -= 1
            raise LogUnavailable("the answer is lost")
        return answer


class Bench:
    """An adapter over memory, with its registry and what it told."""

    def __init__(self, folder: Path, declared: Manifest, stopping: Callable[[], bool] = lambda: NOBODY) -> None:
        self.folder = folder
        self.log, self.blob = MemoryLog(), MemoryBlob()
        self.registry = Registry(self.log, self.blob, lambda: 1000.0)
        self.declared = declared
        self.adapter = self.another(stopping)

    def another(self, stopping: Callable[[], bool] = lambda: NOBODY) -> Adapter:
        return Adapter(self.log, self.blob, self.declared, self.folder, stopping)

    def submit(self, name: str, **params: Any) -> None:
        self.registry.submit(Job(name, "price", "train", params))

    def job(self, name: str) -> Job:
        found = self.registry.job(name)
        assert found is not None
        return found

    def notes(self) -> list[tuple[str, str]]:
        return [(note.kind, note.text) for _, note in feed.read(self.log, EntryId(0, 0), 1000)]


def test_a_policy_that_beats_the_baseline_is_registered_and_released_with_its_reason(tmp_path: Path) -> None:
    # The baseline asks the highest price of all, which almost nobody pays: any training beats it.
    bench = Bench(tmp_path, manifest())
    bench.submit("one", steps=20_000, seed=3)
    assert bench.adapter.turn()
    job = bench.job("one")
    assert (job.state, job.progress) == ("done", 1.0)
    assert job.detail["verdict"] == "better"
    assert job.detail["candidate"]["value"] > job.detail["others"]["fixed:4.25"]["value"]
    release = bench.registry.current("price", "live")
    assert release.incumbent == job.detail["digest"]
    assert release.actor == "adapter"
    assert "simulation" in release.reason
    assert bench.registry.bundle(release.incumbent).card.steps >= 20_000
    assert [kind for kind, _ in bench.notes() if kind != "progress"] == ["training", "released"]


# MLflow 3 asks SQLAlchemy 2.1 for a loader strategy that is on its way out.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_a_training_leaves_its_curve_with_the_bundle_and_itself_in_the_lineage(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest(mode="apprentice"))
    lineage = tmp_path / "lineage"
    adapter = Adapter(
        bench.log, bench.blob, manifest(), tmp_path, lambda: NOBODY, keep=lambda bundle: trainer.keep(bundle, lineage)
    )
    bench.submit("one", steps=30_000, seed=3)
    assert adapter.turn()
    detail = bench.job("one").detail
    curve = gaps(bench.registry.bundle(detail["digest"]).card.curve)
    assert curve[-1][1] < curve[0][1]
    (kept,) = Lineage(lineage).runs()
    assert (kept.id, kept.digest) == (detail["run"], detail["digest"])
    assert Lineage(lineage).curve(kept.id) == curve


def test_a_lineage_that_fails_costs_no_policy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "lineage").write_text("no folder")
    bench = Bench(tmp_path, manifest(mode="apprentice"))
    adapter = Adapter(
        bench.log,
        bench.blob,
        manifest(),
        tmp_path,
        lambda: NOBODY,
        keep=lambda bundle: trainer.keep(bundle, tmp_path / "lineage"),
    )
    bench.submit("one", algo="exact")
    assert adapter.turn()
    assert bench.job("one").state == "done"
    assert bench.job("one").detail["run"] is None
    assert "not in the lineage" in caplog.text


def test_a_better_policy_is_kept_but_not_released_while_somebody_holds_the_point(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest())
    bench.registry.hold("price", Hold(True, "ana", "audit", 1000.0), "h1")
    bench.submit("one", steps=20_000, seed=3)
    assert bench.adapter.turn()
    assert len(bench.registry.bundles("price")) == 1
    assert bench.registry.releases("price") == []
    assert any(kind == "held" and "ana holds price (audit)" in text for kind, text in bench.notes())


def test_a_policy_that_does_not_beat_the_baseline_is_kept_but_not_released(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest(baseline="best-fixed-price"))
    bench.submit("one", steps=1)
    assert bench.adapter.turn()
    assert bench.job("one").state == "done"
    assert bench.job("one").detail["verdict"] != "better"
    assert bench.registry.current("price", "live").incumbent is None
    assert [entry.digest for entry in bench.registry.bundles("price")] == [bench.job("one").detail["digest"]]
    assert bench.notes()[-1][0] == "held"


def test_a_policy_must_beat_what_serves_and_not_the_baseline_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest())
    bench.submit("best", algo="exact")
    assert bench.adapter.turn()
    best = bench.job("best").detail["digest"]
    assert bench.registry.current("price", "live").incumbent == best
    bench.submit("worse", steps=20_000, seed=3)
    assert bench.adapter.turn()
    detail = bench.job("worse").detail
    assert detail["candidate"]["value"] > detail["others"]["fixed:4.25"]["value"]
    assert detail["verdict"] == "worse"
    assert bench.registry.current("price", "live").incumbent == best
    assert bench.notes()[-1][0] == "held"


def test_a_policy_is_released_in_the_mode_that_an_operator_has_set(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest())
    off = Released(id="ann-1", point="price", bundle=None, mode="off", actor="ann", reason="holiday")
    bench.registry.release("price", off)
    bench.submit("one", algo="exact")
    assert bench.adapter.turn()
    release = bench.registry.current("price", "live")
    assert (release.mode, release.incumbent) == ("off", bench.job("one").detail["digest"])


def test_a_store_that_is_away_for_a_moment_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_AGAIN_S", 0.0)
    bench = Bench(tmp_path, manifest())
    log = Flaky(bench.log, failures=1)
    bench.submit("one", algo="exact")
    adapter = Adapter(log, bench.blob, bench.declared, tmp_path, lambda: NOBODY)
    log.fails = True
    assert adapter.turn()
    assert log.failures == 0
    assert bench.job("one").state == "done"
    assert len(bench.registry.releases("price")) == 1


def test_a_live_point_without_a_policy_asks_for_one_by_itself_and_only_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest())
    cut = bench.another(lambda: True)
    assert cut.turn()
    assert [(job.id, job.state) for job in bench.registry.jobs()] == [("first-price", "running")]
    bench.registry.cancel("first-price")
    assert not bench.another().turn(), "it asked again"
    assert len(bench.registry.jobs()) == 1


def test_a_live_point_for_which_a_training_is_asked_already_asks_for_no_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest())
    bench.submit("mine", steps=1)
    assert bench.adapter.turn()
    assert not bench.adapter.turn()
    assert [job.id for job in bench.registry.jobs()] == ["mine"]


@pytest.mark.parametrize("mode", ["off", "apprentice"])
def test_a_point_that_is_not_live_trains_only_when_told_to(mode: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest(mode=mode))
    assert not bench.adapter.turn()
    assert bench.registry.jobs() == []


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"steps": 1, "minutes": 1}, "one of them"),
        ({"steps": 0}, "more than 0"),
        ({"stepz": 1}, "stepz"),
        ({"algo": "magic", "steps": 1}, "magic"),
        ({"start": "0" * 64, "steps": 1}, "no bundle"),
        ({"ranges": {"colour": [1, 2]}, "steps": 1}, "colour"),
    ],
)
def test_a_job_that_cannot_be_done_fails_alone_and_says_why(
    params: dict[str, Any], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    bench = Bench(tmp_path, manifest(mode="apprentice"))
    bench.submit("bad", **params)
    bench.submit("good", steps=1)
    assert bench.adapter.turn()
    assert bench.job("bad").state == "failed"
    assert told in bench.job("bad").detail["error"]
    assert bench.notes()[-1][0] == "error"
    assert bench.adapter.turn()
    assert bench.job("good").state == "done"


def test_a_training_that_is_cut_short_is_taken_up_by_the_next_adapter(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest(), stopping=lambda: True)
    bench.submit("one", minutes=5.0)
    assert bench.adapter.turn()
    assert bench.job("one").state == "running"
    assert bench.registry.bundles("price") == []
    claimed = bench.registry.claim("adapter")
    assert claimed is not None
    assert claimed.id == "one"


def test_a_training_goes_on_from_its_checkpoint_and_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    bench = Bench(tmp_path, manifest(mode="apprentice"), stopping=lambda: True)
    bench.submit("one", steps=200_000)
    assert bench.adapter.turn()
    assert [path.name for path in tmp_path.glob("*.checkpoint")] == ["one.checkpoint"]
    cut_at = bench.job("one").detail["steps"]
    assert bench.another().turn()
    assert bench.job("one").state == "done"
    assert bench.registry.bundles("price")[0].card.steps >= 200_000 > cut_at
    shares = [float(text.split(":")[1].split("%")[0]) for kind, text in bench.notes() if kind == "progress"]
    assert shares == sorted(shares), "it began again"
    assert list(tmp_path.glob("*.checkpoint")) == []


def test_a_checkpoint_that_cannot_be_read_costs_time_and_not_the_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, manifest(mode="apprentice"))
    (tmp_path / "one.checkpoint").write_bytes(b"half a file")
    bench.submit("one", steps=1)
    assert bench.adapter.turn()
    assert bench.job("one").state == "done"
    assert "from the beginning" in caplog.text


def test_a_job_that_somebody_cancels_ends_at_its_next_word(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest(mode="apprentice"))
    asked = iter([False, False])

    def cancel_on_the_way() -> bool:
        bench.registry.cancel("one")
        return next(asked, False)

    adapter = bench.another(cancel_on_the_way)
    bench.submit("one", minutes=5.0)
    assert adapter.turn()
    assert bench.job("one").state == "cancelled"
    assert bench.registry.bundles("price") == []


def test_progress_is_told_on_the_way(tmp_path: Path) -> None:
    bench = Bench(tmp_path, manifest(mode="apprentice"))
    bench.submit("one", minutes=0.05)
    assert bench.adapter.turn()
    progress = [text for kind, text in bench.notes() if kind == "progress"]
    assert progress
    assert "below the optimum" in progress[-1]
    assert bench.log.length(FEED) == len(bench.notes())
