"""`trimtab tune WORLD`: what a study that goes on is told, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from agents.presets import PRICING
from agents.tune import StudyError, Tuned
from service.commands import tune
from service.commands.output import UsageError

GIVEN: dict[str, Any] = {
    "world": "pricing",
    "algo": "ppo",
    "params": "",
    "ranges": "",
    "trials": 2,
    "steps": 100,
    "seed": 0,
    "study": None,
    "as_json": False,
}


def test_trials_are_counted_from_one_also_where_a_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def searched(*_: object, told: Any, **__: object) -> Tuned:
        told(2, 1.5)
        told(3, 1.5)
        return Tuned(PRICING, 1.5, 4, 0, {})

    monkeypatch.setattr(tune, "tune", searched)
    tune.run(**GIVEN, out=tmp_path / "found.toml")
    said = "".join(capsys.readouterr())
    assert "trial 1 of 2 (trial 3 of the study)" in said
    assert "trial 2 of 2 (trial 4 of the study)" in said
    assert "no picture" in said


def test_a_study_of_something_else_is_a_mistake_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(*_: object, **__: object) -> Tuned:
        raise StudyError("card.toml is no study")

    monkeypatch.setattr(tune, "tune", searched)
    with pytest.raises(UsageError, match="no study"):
        tune.run(**GIVEN, out=tmp_path / "found.toml")
