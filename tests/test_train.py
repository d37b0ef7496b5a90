"""Training reaches the optimum, says how far it is, can be stopped, and gives a bundle that is what was trained."""

import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.baselines import BASELINES
from agents.baselines import make as make_baseline
from agents.bundle import Bundle, BundleError
from agents.checkpoint import CheckpointError
from agents.environments import train_environment
from agents.evaluate import evaluate, simulate
from agents.networks import SHARPNESS, LadderHead, PriceHead, dump_weights, load_weights
from agents.presets import PRICING, preset
from agents.ranges import Family
from agents.runtime import load
from agents.selection import Score, Selection, starts_of
from agents.train import Progress, StartError, require_agreement, train
from agents.vecenv import WorldVecEnv
from envs import exact
from envs.dynamics import World
from envs.worlds import make

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def world() -> World:
    return make("pricing", {"stock": 8, "periods": 15, "prices": {"geometric": [0.25, 6.0, 21]}})


@pytest.fixture(scope="module")
def told() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def bundle(world: World, told: list[Progress]) -> Bundle:
    return train(world, steps=130_000, seed=1, progress=lambda progress: told.append(progress) is None)


def test_a_few_seconds_beat_the_best_fixed_price_as_served(world: World, bundle: Bundle) -> None:
    served = evaluate(load(bundle), world)
    optimum = exact.solve(world).value
    best_fixed = max(
        exact.policy_value(world, np.tile(np.eye(21)[index], (len(exact.states(world)), 1))) for index in range(21)
    )
    assert served.method == "exact"
    assert best_fixed < served.value <= optimum
    assert 100 * (1 - served.value / optimum) < 2


def test_the_card_says_what_was_measured_of_what_is_served(world: World, bundle: Bundle) -> None:
    card, served = bundle.card, evaluate(load(bundle), world).value
    optimum = exact.solve(world).value
    assert card.metrics["value"] == pytest.approx(served, abs=1e-5)
    assert card.metrics["gap"] == pytest.approx(100 * (1 - served / optimum), abs=1e-4)
    assert card.metrics["gap_greedy"] <= card.metrics["gap"] + 0.5
    assert (card.world, card.algo, card.preset, card.seed, card.steps) == ("pricing", "ppo", "pricing", 1, 130_048)
    assert [entry.name for entry in card.observation] == ["stock", "period"]
    assert (card.actions.n, card.actions.values) == (21, tuple(world.actions.values.tolist()))  # type: ignore[union-attr]
    assert make("pricing", card.params).params.stock == 8


def test_the_exact_value_and_the_simulation_agree(world: World, bundle: Bundle) -> None:
    policy = load(bundle)
    simulated = simulate(policy, world, 20_000, seed=3)
    assert simulated.returns is not None
    error = float(simulated.returns.std()) / 20_000**0.5
    assert abs(simulated.value - evaluate(policy, world).value) < 4 * error


def test_progress_tells_steps_rate_gap_and_time_left(told: list[Progress], bundle: Bundle) -> None:
    assert bundle.card.steps > 0
    assert told, "two seconds of training must have said something"
    last = told[-1]
    assert 0 < last.steps <= last.total == 130_000
    assert last.rate > 0
    assert last.seconds_left >= 0
    assert last.gap is not None


def test_progress_can_end_the_training(world: World) -> None:
    began = time.monotonic()
    found = train(world, minutes=10, progress=lambda _: False)
    assert time.monotonic() - began < 60
    assert found.card.steps > 0


def test_the_same_seed_and_steps_give_the_same_policy(world: World) -> None:
    first, second = (train(world, steps=16_000, seed=5) for _ in range(2))
    assert first.onnx == second.onnx
    assert first.weights == second.weights


class KilledError(Exception):
    """Ends a training in the middle, as a kill would."""


@pytest.mark.parametrize(("algo", "steps"), [("ppo", 48_000), ("dqn", 16_000)])
def test_a_training_that_was_killed_goes_on_to_the_same_policy(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algo: str, steps: int
) -> None:
    monkeypatch.setattr("agents.train.SAVE_SECONDS", 0.0 if algo == "ppo" else 0.1)
    monkeypatch.setattr("agents.train.PROGRESS_SECONDS", 0.0)
    file = tmp_path / "training"
    unbroken = train(world, algo=algo, steps=steps, seed=3)

    def kill(progress: Progress) -> bool:
        if progress.steps > 0.8 * steps and file.exists():
            raise KilledError
        return True

    with pytest.raises(KilledError):
        train(world, algo=algo, steps=steps, seed=3, checkpoint=file, progress=kill)
    assert file.exists()
    seen: list[int] = []
    resumed = train(
        world,
        algo=algo,
        steps=steps,
        seed=3,
        checkpoint=file,
        progress=lambda progress: seen.append(progress.steps) is None,
    )
    assert seen[0] > 0.3 * steps
    assert resumed.onnx == unbroken.onnx
    assert resumed.weights == unbroken.weights
    assert not file.exists()


def test_a_checkpoint_of_another_training_is_refused(world: World, tmp_path: Path) -> None:
    file = tmp_path / "training"
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="remove it"):
        train(world, steps=100, checkpoint=file)


def test_a_warm_start_begins_where_the_other_policy_ended(bundle: Bundle) -> None:
    shifted = make("pricing", {**bundle.card.params, "sensitivity": 1.2})
    warm = train(shifted, steps=16_000, seed=2, start=bundle)
    cold = train(shifted, steps=16_000, seed=2)
    assert warm.card.digests["start"] == bundle.digest
    assert warm.card.metrics["gap"] < cold.card.metrics["gap"]


def test_a_start_of_another_shape_is_refused(bundle: Bundle) -> None:
    other = make("pricing", {"prices": "1:1.2:0.1"})
    with pytest.raises(StartError, match="has 21 actions, pricing with these parameters has 3 actions"):
        train(other, steps=100, start=bundle)


def test_a_start_that_cannot_be_gone_on_from_is_refused_in_words(world: World, bundle: Bundle) -> None:
    with pytest.raises(StartError, match="give one for 'inventory'"):
        train(make("inventory", {}), steps=100, start=bundle)
    with pytest.raises(StartError, match="learned by ppo, from which dqn cannot go on"):
        train(world, algo="dqn", steps=100, start=bundle)
    with pytest.raises(StartError, match=r"table \(exact\), which never learned"):
        train(world, steps=100, start=train(world, algo="exact"))
    narrower = replace(preset("pricing"), hidden=(8, 8))
    with pytest.raises(StartError, match="same world and preset"):
        train(world, narrower, steps=100, start=bundle)


def test_over_ranges_the_policy_follows_the_parameters_it_is_told(world: World) -> None:
    ranges = {"volume": (1.5, 5.0), "sensitivity": (0.6, 1.6)}
    found = train(world, steps=200_000, seed=1, ranges=ranges)
    card = found.card
    assert card.ranges == ranges
    assert card.conditioned == ("volume", "sensitivity")
    policy = load(found)
    for values in ((2.0, 0.7), (4.0, 1.5)):
        there = make("pricing", {**card.params, "volume": values[0], "sensitivity": values[1]})
        optimum = exact.solve(there).value
        assert 100 * (1 - evaluate(policy, there).value / optimum) < 4
    # It is the start for any of these worlds, and as good there at once.
    assert train(there, steps=300, start=found).card.metrics["gap"] < 4


@pytest.mark.parametrize("algo", ["a2c", "maskable-ppo", "dqn"])
def test_the_other_algorithms_learn_and_serve_what_they_are(world: World, algo: str) -> None:
    found = train(world, algo=algo, steps=40_000, seed=1)
    policy = load(found)
    assert found.card.output == ("values" if algo == "dqn" else "logits")
    assert found.card.metrics["gap"] < 12
    assert evaluate(policy, world).value == pytest.approx(found.card.metrics["value"], abs=1e-5)
    served = policy.probabilities(np.array([[8.0, 0.0]]), np.ones((1, 21), bool))
    assert (np.count_nonzero(served) == 1) == (algo == "dqn")


def test_the_exact_optimum_is_a_bundle_too(world: World) -> None:
    found = train(world, algo="exact")
    assert found.card.kind == "table"
    assert found.card.metrics["gap"] == pytest.approx(0, abs=1e-9)
    assert evaluate(load(found), world).value == pytest.approx(exact.solve(world).value, rel=1e-9)


def test_every_baseline_is_a_bundle_too(world: World) -> None:
    for name in BASELINES["pricing"]:
        found = train(world, algo=name)
        assert found.card.algo == name
        assert evaluate(load(found), world).value == pytest.approx(evaluate(make_baseline(name, world), world).value)


def test_two_budgets_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        train(world, steps=10, minutes=1)


@pytest.mark.parametrize("budget", [{"steps": 0}, {"steps": -5}, {"minutes": 0}, {"minutes": np.nan}])
def test_a_budget_in_which_nothing_is_learned_is_refused(world: World, budget: dict[str, Any]) -> None:
    for fit in (partial(train, world), partial(train_environment, "CartPole-v1")):
        with pytest.raises(ValueError, match=r"leave it out"):
            fit(**budget)


def test_an_unknown_algorithm_names_those_that_exist() -> None:
    with pytest.raises(ValueError, match="ppo"):
        preset("pricing", "sarsa")


def test_the_preset_of_pricing_is_the_default() -> None:
    assert preset("pricing") is PRICING


def test_neighbours_on_the_ladder_learn_together() -> None:
    head = LadderHead(4, 41, 16)
    bumps = head.get_buffer("bumps").numpy()
    assert bumps.sum(axis=0) == pytest.approx(np.full(41, SHARPNESS))
    overlap = (bumps[:, 20] @ bumps[:, 21]) / (bumps[:, 20] @ bumps[:, 20])
    assert overlap > 0.9


def test_what_is_learned_of_prices_holds_for_any_sensitivity() -> None:
    ladder = np.geomspace(0.5, 5.0, 21)
    head, shifted = PriceHead(4, 16, ladder), PriceHead(4, 16, 1.7 * ladder)
    torch.nn.init.normal_(head.linear.weight)
    shifted.load_state_dict(head.state_dict())
    latent, none = torch.randn(3, 4), torch.zeros(3, 1)
    given = head(torch.cat([latent, none + np.log(1.7)], dim=1))
    assert given.detach().numpy() == pytest.approx(shifted(torch.cat([latent, none], dim=1)).detach().numpy(), abs=1e-4)


def test_a_policy_for_one_sensitivity_is_as_good_at_another_at_once(bundle: Bundle) -> None:
    shifted = make("pricing", {**bundle.card.params, "sensitivity": 1.5})
    assert train(shifted, steps=300, start=bundle).card.metrics["gap"] < bundle.card.metrics["gap"] + 0.5


def test_a_temperature_at_which_the_graph_disagrees_gives_way_to_a_higher_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def disagree_once(bundle: Bundle, actor: torch.nn.Module, seed: int) -> None:
        tried.append(bundle.card.temperature)
        if len(tried) == 1:
            raise BundleError("the exported graph differs")
        require_agreement(bundle, actor, seed)

    monkeypatch.setattr("agents.train.require_agreement", disagree_once)
    found = train(world, steps=16_000, seed=1)
    assert tried[0] < tried[1] == found.card.temperature


def test_of_values_that_cannot_be_told_apart_the_newer_one_is_kept() -> None:
    older = Score(-2.0, None, 0.15, error=0.01)
    assert Score(-2.005, None, 0.15, error=0.01).beats(older)
    assert not Score(-2.05, None, 0.15, error=0.01).beats(older)
    assert not Score(-2.0, 1.0, 0.15).beats(Score(-2.0, 1.0, 0.15))


@pytest.mark.parametrize("diverged", [Score(np.nan, None, 1.0), Score(3.0, np.nan, 1.0), Score(np.nan, np.nan, 1.0)])
def test_what_diverged_is_never_kept_and_gives_way_to_any_number(diverged: Score) -> None:
    poor = Score(-9.0, 80.0, 1.0)
    assert not diverged.beats(None)
    assert not diverged.beats(poor)
    assert poor.beats(diverged)


def test_where_nothing_can_be_earned_there_is_no_gap(world: World) -> None:
    selection = Selection(Family(world, {}), 0)
    selection.optima = [0.0]
    found = selection.score(lambda observation: np.zeros((len(observation), 21), np.float32), 1.0)
    assert found.gap is None
    assert found.value > 0


def test_an_unending_world_goes_on_where_every_start_would_be_the_same() -> None:
    settings = replace(preset("maintenance"), copies=4, horizon=3)
    wear = np.linspace(0.08, 0.27, 20).tolist()
    worlds = [make("maintenance", {"wear": values, "choice": "worst"}) for values in (wear, [0.1, 0.2])]
    ended = []
    for made in worlds:
        env = WorldVecEnv(Family(made, {}), settings, 0, starts_of(made))
        env.reset()
        steps = []
        for _ in range(6):
            env.step_async(np.zeros(4))
            steps.append(bool(env.step_wait()[2].any()))
        ended.append(any(steps))
    assert ended == [False, True]


def test_weights_of_another_network_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"linear\.weight"):
        load_weights(LadderHead(4, 41, 8), dump_weights(LadderHead(4, 41, 16)))


def test_training_gives_no_warning_in_a_process_of_its_own() -> None:
    program = (
        "from agents.train import train; from envs.worlds import make;"
        "print(train(make('pricing', {'stock': 3, 'periods': 5}), steps=8000).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 64
    assert done.stderr == ""


@pytest.mark.parametrize("algo", ["ppo", "a2c", "maskable-ppo", "dqn"])
def test_a_training_leaves_nothing_among_the_temporary_files(
    world: World, algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    train(world, algo=algo, steps=300, seed=1)
    # torch's cache of compiled code, one for each user, is all that may be there.
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("torchinductor_")] == []


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_reaches_its_ladders_optimum(seed: int) -> None:
    demo = make("pricing", {"prices": {"geometric": [0.1, 8.0, 41]}})
    found = train(demo, minutes=60 / 60, seed=seed, clock=time.process_time)
    assert found.card.metrics["gap"] < 0.7
    assert found.card.metrics["gap_greedy"] < 0.5
