"""A search starts from the preset, can be resumed, prunes, and gives its best back as a preset."""

import tomllib
from pathlib import Path

import pytest

from agents.presets import PRICING
from agents.tune import as_toml, read_preset, tune
from envs.worlds import make

WORLD = make("pricing", {"stock": 3, "periods": 4, "prices": "0.5:2:0.25"})


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


def test_a_search_can_be_stopped() -> None:
    assert tune(WORLD, trials=50, steps=9000, told=lambda number, _: number < 1).trials == 2


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['speed'\]"):
        read_preset({"algo": "ppo", "speed": 3})
    with pytest.raises(ValueError, match=r"\$\.batch"):
        read_preset({"algo": "ppo", "batch": "large"})
