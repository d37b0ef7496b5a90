"""The two Gymnasium shells: the same physics, seeding, autoreset, masks, parameters in the observation, pictures."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401  (registers the ids)
from envs import parsing, worlds
from envs.conditioning import Conditioning
from envs.dynamics import flattened
from envs.env import WorldEnv, WorldVectorEnv

IDS = {world: f"trimtab/{world.title().replace('-', '')}-v0" for world in worlds.WORLDS}


def test_every_world_is_registered():
    registered = {name for name in gymnasium.registry if name.startswith("trimtab/")}
    assert registered == set(IDS.values())


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_gymnasiums_own_checker_finds_nothing(world_id):
    check_env(gymnasium.make(IDS[world_id], render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_the_batch_and_the_single_copy_show_the_same_world(world_id):
    single, batch = gymnasium.make(IDS[world_id]), gymnasium.make_vec(IDS[world_id], num_envs=3)
    assert isinstance(batch.unwrapped, WorldVectorEnv)
    assert batch.single_observation_space == single.observation_space
    assert batch.single_action_space == single.action_space
    one, _ = single.reset(seed=5)
    many, _ = batch.reset(seed=5)
    assert many.shape == (3, len(one))
    assert np.array_equal(many[0], one)


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_a_batch_of_one_steps_as_the_single_copy_does(world_id):
    single, batch = WorldEnv(world_id), WorldVectorEnv(world_id, num_envs=1)
    single.reset(seed=8)
    batch.reset(seed=8)
    single.action_space.seed(1)
    for _ in range(30):
        mask = single.world.allowed(single._batch.state)[0]
        action = single.action_space.sample() if mask.all() else int(np.flatnonzero(mask)[-1])
        seen, reward, terminated, truncated, _ = single.step(action)
        together = batch.step(np.asarray(action)[None])
        assert (together[1][0], together[2][0], together[3][0]) == (reward, terminated, truncated)
        if terminated or truncated:
            assert np.array_equal(together[4]["final_obs"][0], seen)
            return
        assert np.array_equal(together[0][0], seen)


def test_equal_seeds_give_equal_episodes_and_other_seeds_others():
    def episode(seed):
        env = WorldEnv("pricing")
        env.reset(seed=seed)
        return [env.step(10)[1] for _ in range(15)]

    assert episode(1) == episode(1)
    assert episode(1) != episode(2)


def test_an_ended_episode_is_followed_by_the_next_in_the_same_step():
    env = WorldVectorEnv("pricing", {"stock": 2, "periods": 4}, num_envs=64)
    env.reset(seed=0)
    lengths = np.zeros(64, int)
    ended_early = False
    for _ in range(20):
        seen, _, terminated, truncated, infos = env.step(np.full(64, 5))
        lengths += 1
        assert not truncated.any()
        if not terminated.any():
            assert "final_obs" not in infos
            continue
        assert np.array_equal(infos["_final_obs"], terminated)
        final = infos["final_obs"][terminated]
        assert ((final[:, 0] == 0) | (final[:, 1] == 4)).all()
        assert (seen[terminated] == [2, 0]).all()
        assert np.array_equal(infos["final_steps"][terminated], lengths[terminated])
        ended_early |= bool((lengths[terminated] < 4).any())
        lengths[terminated] = 0
    assert ended_early


def test_worlds_without_an_end_are_truncated_by_the_shells_alone():
    env = WorldVectorEnv("inventory", num_envs=2, max_steps=3)
    env.reset(seed=0)
    cut = [env.step(np.array([4, 5]))[2:4] for _ in range(6)]
    assert [bool(truncated.all()) for _, truncated in cut] == [False, False, True, False, False, True]
    assert not any(terminated.any() for terminated, _ in cut)


def test_some_rows_can_be_reset_alone():
    env = WorldVectorEnv("pricing", num_envs=3)
    env.reset(seed=0)
    env.step(np.array([0, 0, 0]))
    seen, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert seen[:, 1].tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("shown", ["hidden", "physical", "scaled"])
def test_parameters_of_a_range_are_drawn_for_each_episode_and_shown(shown):
    ranges = {"volume": (1.0, 5.0), "sensitivity": (0.5, 2.0)}
    env = WorldVectorEnv("pricing", {"periods": 3}, num_envs=500, ranges=ranges, shown=shown)
    first, _ = env.reset(seed=0)
    assert env.observation_space.contains(first)
    volume = env.world.params.volume[:, 0]
    assert ((volume >= 1) & (volume <= 5)).all()
    # Log-uniform: half of the draws lie below the geometric mean.
    assert np.mean(volume < np.sqrt(5)) == pytest.approx(0.5, abs=0.07)
    if shown == "physical":
        assert first[:, 2] == pytest.approx(volume, rel=1e-6)
    if shown == "scaled":
        assert first[:, 2] == pytest.approx(2 * np.log(volume) / np.log(5) - 1, abs=1e-6)
    for _ in range(3):
        env.step(np.full(500, 20))
    assert (env.world.params.volume[:, 0] != volume).all()


def test_a_list_takes_one_column_for_each_entry():
    world = worlds.make("maintenance")
    several = Conditioning(world, {"wear": (0.05, 0.5), "setup_cost": (0.2, 6.0)})
    assert [field.name for field in several.fields] == ["wear[0]", "wear[1]", "wear[2]", "wear[3]", "setup_cost"]
    values = several.draw(7, np.random.default_rng(0))
    varied = several.world_of(values)
    assert np.array_equal(varied.params.wear, values[:, :4])
    assert np.array_equal(varied.params.setup_cost[:, 0], values[:, 4])
    assert several.unscaled(several.scaled(values)) == pytest.approx(values)


def test_a_parameter_that_cannot_vary_is_refused():
    with pytest.raises(worlds.ParamsError, match="volume, sensitivity"):
        Conditioning(worlds.make("pricing"), {"stock": (1.0, 5.0)})
    with pytest.raises(worlds.ParamsError, match="ascend"):
        worlds.make("pricing", ranges={"volume": (5.0, 1.0)})


def test_masks_and_outcomes_come_with_the_info():
    env = WorldEnv("replacement", {"max_age": 3, "scale": 1000.0})
    _, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == [1, 1]
    for _ in range(3):
        *_, info = env.step(0)
    assert info["action_mask"].tolist() == [0, 1]
    assert info["failed"] == 0


def test_an_action_outside_the_space_is_refused():
    env = WorldEnv("pricing")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="Discrete"):
        env.step(41)


def test_any_price_makes_a_continuous_action():
    env = WorldEnv("pricing", {"prices": "any"})
    env.reset(seed=0)
    _, reward, *_, info = env.step(np.array(1.25))
    assert reward == 1.25 * info["sold"]


def test_params_go_with_a_name_only():
    with pytest.raises(ValueError, match="leave them out"):
        WorldEnv(worlds.make("pricing"), {"stock": 3})


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_pictures_and_text_show_every_entry(world_id):
    env = WorldEnv(world_id, render_mode="rgb_array")
    env.reset(seed=0)
    image = env.render()
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert len(np.unique(image.reshape(-1, 3), axis=0)) >= 3
    words = WorldEnv(world_id, render_mode="ansi")
    words.reset(seed=0)
    shown = words.render()
    assert all(field.name in shown for field in words.world.context)


def test_a_picture_follows_the_state():
    env = WorldEnv("pricing", {"stock": 3}, render_mode="rgb_array")
    env.reset(seed=0)
    full = env.render()
    while env._batch.state[0, 0] == 3:
        env.step(0)
    blue = np.array([59, 130, 189], np.uint8)
    assert (env.render()[34:56] == blue).all(axis=2).sum() < (full[34:56] == blue).all(axis=2).sum()


def test_lists_are_spread_over_names():
    assert flattened({"on_hand": 3, "pipeline": [5, 4]}) == {"on_hand": 3, "pipeline[0]": 5, "pipeline[1]": 4}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0.5:1.5:0.5", [0.5, 1.0, 1.5]),
        ("[1, 2]", [1.0, 2.0]),
        ([1, 2.5], [1.0, 2.5]),
        ({"geometric": [1, 4, 3]}, [1.0, 2.0, 4.0]),
        ('{"geometric": [1, 4, 3]}', [1.0, 2.0, 4.0]),
    ],
)
def test_a_ladder_has_several_written_forms(given, expected):
    assert parsing.ladder("prices", given) == pytest.approx(np.array(expected))


def test_text_from_the_command_line_is_understood():
    world = worlds.make("maintenance", {"wear": "[0.1, 0.2]", "crews": "1", "jump": "0.3"})
    assert world.params.components == 2
    assert world.params.jump == 0.3
    with pytest.raises(worlds.ParamsError, match="crews is 'one'"):
        worlds.make("maintenance", {"crews": "one"})


def test_an_unknown_world_is_refused_with_those_there_are():
    with pytest.raises(worlds.ParamsError, match="pricing, pricing-replenished"):
        worlds.make("prices")


@pytest.mark.parametrize("world_id", worlds.WORLDS)
def test_every_world_says_what_it_is(world_id):
    kind = worlds.WORLDS[world_id]
    assert set(kind.defaults) == {field.name for field in kind.parameters}
    assert all((kind.doc, kind.timing, kind.source))
    documentation = type(worlds.make(world_id)).__doc__ or ""
    for heading in (
        "Description:",
        "Action Space:",
        "Observation Space:",
        "Rewards:",
        "Starting State:",
        "Episode End:",
        "Source:",
    ):
        assert heading in documentation
