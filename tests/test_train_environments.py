"""Any registered Gymnasium environment trains by its id, with its scaling inside the graph."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from agents.environments import look_at, train_environment
from agents.policy import sample
from agents.runtime import load
from agents.train import Progress


def test_cart_pole_is_learnt_and_served_from_raw_observations() -> None:
    told: list[Progress] = []
    bundle = train_environment("CartPole-v1", steps=40_000, seed=1, progress=lambda p: told.append(p) is None)
    assert bundle.card.world == "CartPole-v1"
    assert bundle.card.metrics["value"] > 150
    policy, rng = load(bundle), np.random.default_rng(1)
    env = gymnasium.make("CartPole-v1")
    row, _ = env.reset(seed=99)
    length, over = 0, False
    while not over:
        p = policy.probabilities(row[None], np.ones((1, 2), bool))[0]
        row, _, terminated, truncated, _ = env.step(sample(p, float(rng.random())))
        length, over = length + 1, terminated or truncated
    env.close()
    # Random play lasts 22 steps on average.
    assert length > 60
    assert told[-1].total == 40_000


def test_training_an_environment_leaves_nothing_among_the_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    train_environment("CartPole-v1", steps=300, seed=1)
    # torch's cache of compiled code, one for each user, is all that may be there.
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("torchinductor_")] == []


def test_bounds_that_mean_none_are_left_out_of_the_card() -> None:
    fields = look_at("CartPole-v1", 0).fields
    assert fields[1].low is None
    assert fields[0].high == pytest.approx(4.8)


@pytest.mark.parametrize(
    ("env_id", "message"), [("NoSuch-v0", "there is no environment"), ("Pendulum-v1", "Discrete are needed")]
)
def test_what_cannot_be_trained_is_refused_with_what_is_needed(env_id: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_environment(env_id, steps=100)
