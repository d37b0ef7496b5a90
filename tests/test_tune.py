"""A search starts from the preset, can be resumed, prunes, and gives its best back as a preset."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from agents.presets import PRICING, Preset
from agents.tune import StudyError, as_toml, read_preset, tune
from envs.worlds import make

WORLD = make("pricing", {"stock": 3, "periods": 4, "prices": "0.5:2:0.25"})


def scored(score: Callable[[Preset], float]) -> Callable[..., SimpleNamespace]:
    """A training that takes no time: a bundle with this gap."""

    def trained(_: object, settings: Preset, **__: object) -> SimpleNamespace:
        return SimpleNamespace(card=SimpleNamespace(metrics={"gap": score(settings)}))

    return trained


def test_a_search_goes_on_where_it_stopped_and_gives_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    seen: list[tuple[int, float | None]] = []
    first = tune(WORLD, trials=3, steps=9000, study=file, told=lambda n, best: seen.append((n, best)) is None)
    assert first.trials == 3
    assert [number for number, _ in seen] == [0, 1, 2]
    second = tune(WORLD, trials=2, steps=9000, study=file)
    assert second.trials == 5
    assert second.score <= first.score
    assert second.preset.name == "pricing-tuned"
    assert read_preset(tomllib.loads(as_toml(second))) == second.preset


def test_the_first_trial_is_the_preset_itself() -> None:
    found = tune(WORLD, trials=1, steps=9000)
    assert found.preset.learning_rate == PRICING.learning_rate
    assert found.preset.reward_scale == PRICING.reward_scale
    assert found.preset.hidden == PRICING.hidden
    assert found.importance == {}


@pytest.mark.parametrize(
    ("params", "changes"),
    [({"stock": 4}, {}), ({}, {"steps": 6000}), ({}, {"seed": 1}), ({}, {"ranges": {"sensitivity": (1.0, 2.0)}})],
)
def test_a_study_of_another_search_is_refused(
    tmp_path: Path, params: dict[str, int], changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.tune.train", scored(lambda _: 1.0))
    file = tmp_path / "study.db"
    tune(WORLD, trials=1, steps=9000, study=file)
    world = make("pricing", {"stock": 3, "periods": 4, "prices": "0.5:2:0.25"} | params)
    with pytest.raises(StudyError, match="another file"):
        tune(world, **({"trials": 1, "steps": 9000, "study": file} | changes))  # type: ignore[arg-type]


def test_a_file_that_is_no_study_is_named(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text("world = 'pricing'\n" * 100)
    with pytest.raises(StudyError, match=r"card\.toml is no study"):
        tune(WORLD, trials=1, steps=9000, study=tmp_path / "card.toml")


def test_a_training_that_diverges_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Preset] = []

    def diverging(settings: Preset) -> float:
        seen.append(settings)
        if len(seen) == 2:
            raise ValueError("the logits are not finite")
        return float(len(seen))

    monkeypatch.setattr("agents.tune.train", scored(diverging))
    found = tune(WORLD, trials=3, steps=9000)
    assert (found.trials, found.score) == (3, 1.0)


def test_a_search_killed_in_its_first_trial_begins_with_the_preset_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Preset] = []

    def killed(settings: Preset) -> float:
        seen.append(settings)
        if len(seen) == 1:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr("agents.tune.train", scored(killed))
    with pytest.raises(KeyboardInterrupt):
        tune(WORLD, trials=1, steps=9000, study=tmp_path / "study.db")
    tune(WORLD, trials=1, steps=9000, study=tmp_path / "study.db")
    assert [settings.learning_rate for settings in seen] == [PRICING.learning_rate] * 2


def test_a_search_can_be_stopped() -> None:
    assert tune(WORLD, trials=50, steps=9000, told=lambda number, _: number < 1).trials == 2


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['speed'\]"):
        read_preset({"algo": "ppo", "speed": 3})
    with pytest.raises(ValueError, match=r"\$\.batch"):
        read_preset({"algo": "ppo", "batch": "large"})
