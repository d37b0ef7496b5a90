"""The world outside: everybody meets the same customers, and the oracle is the exact optimum."""

import numpy as np
import pytest

from envs.dynamics import ParamsError
from service.outside.episodes import (
    FIXED,
    FROZEN,
    ORACLE,
    Account,
    Episode,
    Outside,
    Regime,
    Timeline,
    hidden_world,
    regime,
)
from service.outside.episodes import changed as changed_world

PARAMS = {"stock": 20, "periods": 50, "volume": 2.718281828, "sensitivity": 1, "prices": "0.5:4.25:0.25"}


@pytest.fixture(scope="module")
def calm() -> Regime:
    return regime(hidden_world("pricing", PARAMS, {}, {}))


@pytest.fixture(scope="module")
def changed() -> Regime:
    return regime(changed_world(hidden_world("pricing", PARAMS, {}, {}), {"sensitivity": 2}), 500, {"sensitivity": 2})


def play(outside: Outside, rounds: int, choose: str, now: int = 0) -> list[Episode]:
    """Episodes that ended while everybody played by one rival's rule."""
    ended: list[Episode] = []
    held = outside.regimes[now]
    for _ in range(rounds):
        seen = np.array([list(context.values()) for context in outside.observe()], np.float32)
        actions = held.oracle(seen).tolist() if choose == ORACLE else [held.fixed] * len(seen)
        ended += outside.step(actions, [now] * len(seen))[1]
    return ended


def test_the_rivals_of_a_regime_are_its_exact_optimum_and_its_best_fixed_price(calm: Regime) -> None:
    assert calm.oracle_value == pytest.approx(36.283158, abs=5e-7)
    assert calm.fixed_value == pytest.approx(34.7032, abs=5e-5)
    assert calm.fixed_action == 2.0


def test_parameters_that_cannot_be_do_not_come_to_the_hidden_world() -> None:
    world = hidden_world("pricing", PARAMS, {}, {})
    for changes, told in (({"sensitivity": -2}, "sensitivity is -2"), ({"stock": 3}, "'stock' cannot change")):
        with pytest.raises(ParamsError, match=told):
            changed_world(world, changes)


@pytest.mark.parametrize("rule", [FIXED, ORACLE])
def test_whoever_plays_like_a_rival_earns_exactly_what_the_rival_would_have(rule: str, calm: Regime) -> None:
    outside = Outside([calm], entities=3, seed=7)
    ended = play(outside, 120, rule)
    assert len(ended) >= 6
    for episode in ended:
        assert episode.earned == outside.rivals(episode)[rule]


def test_the_same_seed_meets_the_same_customers_and_another_seed_meets_others(calm: Regime) -> None:
    runs = [[e.earned for e in play(Outside([calm], 2, seed), 110, FIXED)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_an_entity_meets_the_same_customers_however_many_others_there_are(calm: Regime) -> None:
    alone = [e.earned for e in play(Outside([calm], 1, 3), 110, FIXED) if e.entity == 0]
    among = [e.earned for e in play(Outside([calm], 5, 3), 110, FIXED) if e.entity == 0]
    assert alone == among


def test_the_mean_of_the_oracle_is_the_exact_value_within_its_error(calm: Regime) -> None:
    # 400 episodes; an episode's standard deviation is 4.41 (published), so five standard errors are 1.1.
    outside = Outside([calm], entities=100, seed=11)
    values = [outside.rivals(Episode(entity, number, [0])) for entity in range(100) for number in range(4)]
    assert np.mean([value[ORACLE] for value in values]) == pytest.approx(calm.oracle_value, abs=5 * 4.41 / 20)
    assert np.mean([value[ORACLE] - value[FIXED] for value in values]) > 0.5


def test_after_a_change_the_frozen_optimum_falls_behind_the_oracle_and_the_new_fixed_price(
    calm: Regime, changed: Regime
) -> None:
    outside = Outside([calm, changed], entities=1, seed=5)
    account = Account()
    for number in range(200):
        episode = Episode(0, number, [1])
        account.add(episode, outside.rivals(episode))
    assert account.rivals[FROZEN] < 0.8 * account.rivals[ORACLE]
    assert account.rivals[FROZEN] < account.rivals[FIXED] < account.rivals[ORACLE]


def test_rivals_see_a_change_in_the_period_in_which_it_came(calm: Regime, changed: Regime) -> None:
    outside = Outside([calm, changed], entities=1, seed=5)
    before, after = Episode(0, 0, [0] * 50), Episode(0, 0, [1] * 50)
    late = Episode(0, 0, [0] * 49 + [1])
    assert late.regime is None
    assert outside.rivals(late)[ORACLE] == pytest.approx(outside.rivals(before)[ORACLE], abs=calm.fixed_action * 3)
    assert outside.rivals(late)[ORACLE] > outside.rivals(after)[ORACLE]


def test_an_account_without_episodes_has_no_shares() -> None:
    account = Account()
    assert account.share(ORACLE) is None
    assert account.per_episode() is None


def test_a_hidden_world_keeps_the_actions_of_the_point() -> None:
    # Without prices the ladder is derived from the sensitivity: the point's own, whatever the hidden one is.
    declared = {"stock": 5, "periods": 10}
    nominal = hidden_world("pricing", declared, {}, {})
    hidden = hidden_world("pricing", declared, {}, {"sensitivity": 3.0, "stock": 4})
    assert hidden.actions.values.tolist() == nominal.actions.values.tolist()
    assert hidden.params.stock == 4
    assert np.all(hidden.params.sensitivity == 3.0)
    with pytest.raises(ParamsError, match="ladder"):
        hidden_world("pricing", declared, {}, {"prices": [1.0, 2.0]})


def test_what_cannot_change_while_the_world_runs_is_named() -> None:
    with pytest.raises(ParamsError, match=r"'stock' cannot change.*sensitivity"):
        changed_world(hidden_world("pricing", PARAMS, {}, {}), {"stock": 3})


def test_a_world_that_never_ends_is_played_in_episodes_of_equal_length_for_everybody() -> None:
    held = regime(hidden_world("replacement", {}, {}, {}))
    outside = Outside([held], entities=2, seed=1, length=100)
    ended = play(outside, 300, ORACLE)
    assert [len(episode.regimes) for episode in ended] == [100] * 6
    for episode in ended:
        rivals = outside.rivals(episode)
        assert episode.earned == rivals[ORACLE]
    many = [outside.rivals(Episode(entity, 0, [0]))[ORACLE] / 100 for entity in range(60)]
    # An average reward per period; the spread of the sample gives its own error.
    assert np.mean(many) == pytest.approx(held.oracle_value, abs=5 * np.std(many) / 60**0.5 + 0.05)


def test_an_outcome_has_the_fields_that_a_point_of_the_world_takes() -> None:
    shelf = {"mean": 1.0, "lead_time": 1, "max_order": 3, "capacity": 8}
    held = regime(hidden_world("inventory", shelf, {}, {}))
    fields, _ = Outside([held], entities=1, seed=1).step([0], [0])
    assert list(fields[0]) == ["sold"]


def test_a_timeline_keeps_every_episode_in_few_stretches_however_long_it_runs() -> None:
    timeline = Timeline(10, most=4)
    for last in range(0, 300, 7):
        timeline.add(last, Episode(0, last, [0], 1.0), {FIXED: 0.5, FROZEN: 0.5, ORACLE: 2.0})
    rows = timeline.rows()
    assert timeline.width == 80
    assert [since for since, _ in rows] == [0, 80, 160, 240]
    assert [account.episodes for _, account in rows] == [12, 11, 12, 8]
    assert all(account.share(ORACLE) == pytest.approx(0.5) for _, account in rows)
