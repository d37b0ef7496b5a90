"""Presets: every one that is shipped is within its ranges, and what lies outside is refused by name."""

from dataclasses import fields
from typing import Any

import pytest

from agents.presets import ALGORITHMS, PRESETS, RANGES, Preset, preset
from agents.tune import read_preset


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("copies", 0, "at least 1"),
        ("batch", 0, "at least 1"),
        ("rollout", -1, "at least 1"),
        ("reward_scale", 0.0, "above 0"),
        ("learning_rate", -1.0, "above 0"),
        ("learning_rate", float("nan"), "above 0"),
        ("minutes", float("inf"), "above 0"),
        ("discount", 1.1, "0 to 1"),
        ("shaped_discount", -0.1, "0 to 1"),
        ("epsilon", 1.5, "0 to 1"),
        ("entropy", -0.1, "at least 0"),
        ("hidden", [64, 0], "at least 1"),
        ("hidden", [], "at least one"),
        ("temperatures", [], "at least one"),
        ("temperatures", [1.0, 0.0], "above 0"),
        ("softening", [10.0, 3.0], "least, then the most"),
        ("softening", [0.0, 3.0], "at least 1"),
        ("horizon", 0, "at least 1"),
        ("algo", "foo", "ppo, a2c, dqn, maskable-ppo"),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(setting: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        read_preset({"algo": "ppo", setting: value})
    assert setting in str(refused.value)


def test_every_numeric_setting_has_a_range() -> None:
    assert {field.name for field in fields(Preset)} - set(RANGES) == {"algo", "name", "shaped"}


def test_every_algorithm_has_a_preset_for_every_world() -> None:
    for world in PRESETS:
        assert tuple(preset(world, algo).algo for algo in ALGORITHMS) == ALGORITHMS
