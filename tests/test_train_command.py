"""`trimtab train` keeps what was cut, says what is kept, and takes no two options that contradict one another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.bundle import Bundle, pack
from agents.tabular import write_out
from envs.worlds import make
from service.commands import train
from service.commands.output import CommandError, UsageError

SMALL = "stock=3,periods=4,prices=0.5:2:0.5"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(world: str = "pricing", **changes: Any) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("algo", "preset", "steps", "minutes", "start", "out", "data", "register"), None
    )
    given = {"params": SMALL if world == "pricing" else "", "ranges": "", "seed": 0, "resume": False, "url": ""}
    train.run(world, **{**nothing, **given, "as_json": True, **changes})


def cut(leaving: bytes | None) -> Callable[..., Bundle]:
    """A training that Ctrl-C ends, before or after its first checkpoint."""

    def fit(*_: Any, checkpoint: Path | None = None, **__: Any) -> Bundle:
        if leaving is not None and checkpoint is not None:
            checkpoint.write_bytes(leaving)
        raise KeyboardInterrupt

    return fit


def test_a_training_that_is_cut_names_resume_only_where_a_checkpoint_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.train.train", cut(None))
    with pytest.raises(CommandError, match="nothing is kept"):
        call(steps=100)
    monkeypatch.setattr("service.commands.train.train_environment", cut(b"never"))
    with pytest.raises(CommandError, match="nothing is kept"):
        call("CartPole-v1", steps=100)
    monkeypatch.setattr("agents.train.train", cut(b"so far"))
    with pytest.raises(CommandError, match="--resume goes on"):
        call(steps=100)


def test_what_a_cut_training_left_is_neither_deleted_nor_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.train.train", cut(b"so far"))
    for name in ("price.v1", "price.v2", "price.checkpoint"):
        with pytest.raises(CommandError, match="--resume goes on"):
            call(steps=100, out=Path(name))
    left = [Path(f"{name}.checkpoint") for name in ("price.v1", "price.v2", "price.checkpoint")]
    assert sorted(Path().iterdir()) == sorted(left)
    with pytest.raises(UsageError, match=r"price\.v1\.checkpoint .* go on with --resume, or delete it"):
        call(steps=100, out=Path("price.v1"))
    assert left[0].read_bytes() == b"so far"
    with pytest.raises(CommandError, match="--resume goes on"):
        call(steps=100, out=Path("price.v1"), resume=True)
    with pytest.raises(UsageError, match=r"no price\.v3\.checkpoint to resume from"):
        call(steps=100, out=Path("price.v3"), resume=True)


def test_an_algorithm_that_is_not_the_presets_is_refused() -> None:
    Path("found.toml").write_text('algo = "ppo"\nname = "found"\n')
    with pytest.raises(UsageError, match=r"--algo dqn was given, and found\.toml is a preset for ppo"):
        call(algo="dqn", preset=Path("found.toml"), steps=100)


def test_a_start_that_does_not_fit_is_wrong_usage() -> None:
    other = write_out(make("pricing", {"stock": 3, "periods": 4, "prices": "0.5:2:0.5"}), "exact")
    Path("other.trimtab").write_bytes(pack(other.card, other.onnx, other.weights))
    with pytest.raises(UsageError, match="for 'pricing': give one for 'inventory'"):
        call("inventory", start=Path("other.trimtab"), steps=100)
