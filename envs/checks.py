"""The laws of a world: run `check(world)` on your own.

Each law takes a world and a generator and raises AssertionError where it is broken.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.stats import chi2  # type: ignore[import-untyped]

from envs.dynamics import Action, Array, State, World, bounds

Law = Callable[[World, np.random.Generator], None]

_ROWS, _STEPS = 64, 40
_DRAWS, _PAIRS, _ENOUGH = 4_000, 6, 20
# Laws of chance are seeded; they fail a right world once in so many.
_UNLIKELY = 1e-6
_MOST_BRANCHES = 2_000


def random_actions(world: World, state: State, rng: np.random.Generator) -> Action:
    """Allowed actions (n,) or (n, factors), each equally likely."""
    allowed = world.allowed(state)
    parts = np.split(allowed, np.cumsum(world.actions.nvec)[:-1], axis=1)
    picks = [np.argmax(np.where(part, rng.random(part.shape), -1.0), axis=1) for part in parts]
    return picks[0] if len(picks) == 1 else np.stack(picks, axis=1)


def rollout(world: World, rng: np.random.Generator, n: int = _ROWS, steps: int = _STEPS) -> list[tuple[Any, ...]]:
    """(state, action, chance, following, reward, terminated) of some steps under random actions."""
    state, seen = world.initial(n, rng), []
    for _ in range(steps):
        action, chance = random_actions(world, state, rng), world.draw(n, rng)
        following, reward, terminated = world.step(state, action, chance)
        seen.append((state, action, chance, following, reward, terminated))
        state = np.where(terminated[:, None], world.initial(n, rng), following)
    return seen


def batch_equals_loop(world: World, rng: np.random.Generator) -> None:
    """A batch gives bit for bit what its rows give one by one."""
    for state, action, chance, *together in rollout(world, rng, 16, 12):
        for i in range(len(state)):
            row = slice(i, i + 1)
            alone = world.step(state[row], action[row], chance[row])
            for whole, one in zip(together, alone, strict=True):
                assert np.array_equal(whole[row], one), f"row {i} differs from the batch: {whole[row]} and {one}"


def rows_can_be_permuted(world: World, rng: np.random.Generator) -> None:
    """Permuting the rows permutes the results."""
    for state, action, chance, *together in rollout(world, rng):
        order = rng.permutation(len(state))
        for whole, moved in zip(together, world.step(state[order], action[order], chance[order]), strict=True):
            assert np.array_equal(whole[order], moved), "permuted rows give other results"


def same_seed_same_rollout(world: World, rng: np.random.Generator) -> None:
    """Equal seeds give equal rollouts."""
    seed = int(rng.integers(2**31))
    one, other = (rollout(world, np.random.default_rng(seed)) for _ in range(2))
    for left, right in zip(one, other, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True)), "equal seeds give other rollouts"


def inputs_are_not_changed(world: World, rng: np.random.Generator) -> None:
    """No function changes its arguments, and no result shares memory with them."""
    for state, action, chance, *_ in rollout(world, rng, steps=8):
        copies = state.copy(), np.copy(action), chance.copy()
        following, *_ = world.step(state, action, chance)
        world.outcome(state, action, chance)
        world.observe(state)
        world.expected_reward(state, action)
        for given, copy in zip((state, action, chance), copies, strict=True):
            assert np.array_equal(given, copy), "an argument was changed"
        assert not np.shares_memory(following, state), "the next state shares memory with the state"


def chance_is_uniform(world: World, rng: np.random.Generator) -> None:
    """Chance comes as numbers in [0, 1), as many in each row."""
    chance = world.draw(_ROWS, rng)
    assert chance.shape[0] == _ROWS, f"chance has {chance.shape[0]} rows for {_ROWS}"
    assert ((chance >= 0) & (chance < 1)).all(), "chance lies outside [0, 1)"


def observations_are_in_bounds(world: World, rng: np.random.Generator) -> None:
    """Observations are float32, as long as the context, finite and within its bounds, the last ones included."""
    low, high = bounds(world.context)
    for state, *_, following, _, _ in rollout(world, rng):
        for seen in (world.observe(state), world.observe(following)):
            assert seen.dtype == np.float32, f"observations are {seen.dtype}, not float32"
            assert seen.shape[1] == len(world.context), "observations are not as long as the context"
            assert np.isfinite(seen).all(), "an observation is not finite"
            assert ((seen >= low) & (seen <= high)).all(), "an observation is out of bounds"


def observations_show_the_state(world: World, rng: np.random.Generator) -> None:
    """States can be had back from observations, and the mask too."""
    for state, *_ in rollout(world, rng):
        seen = world.observe(state)
        assert np.array_equal(world.state_of(seen), state), "state_of(observe(state)) is another state"
        assert np.array_equal(world.allowed_of(seen), world.allowed(state)), "allowed_of differs from allowed"


def some_action_is_allowed(world: World, rng: np.random.Generator) -> None:
    """The mask is boolean, as wide as the action set, and never empty."""
    for state, *_ in rollout(world, rng):
        allowed = world.allowed(state)
        assert allowed.dtype == bool, f"masks are {allowed.dtype}, not bool"
        assert allowed.shape == (len(state), sum(world.actions.nvec)), "masks are not as wide as the action set"
        for part in np.split(allowed, np.cumsum(world.actions.nvec)[:-1], axis=1):
            assert part.any(axis=1).all(), "a state allows no action"


def rewards_follow_from_what_is_logged(world: World, rng: np.random.Generator) -> None:
    """`reward_of` on observation, action and outcome fields is the reward."""
    for state, action, chance, _, reward, _ in rollout(world, rng):
        fields = world.outcome(state, action, chance)
        missing = {field.name for field in world.outcomes} - set(fields)
        assert not missing, f"the outcome lacks {missing}"
        logged = world.reward_of(world.observe(state), action, fields)
        assert np.allclose(logged, reward, rtol=1e-6, atol=1e-6), "the logged reward is another one"


def horizons_are_kept(world: World, rng: np.random.Generator) -> None:
    """Episodes end by the horizon, and never where there is none."""
    if world.horizon is None:
        assert not any(step[-1].any() for step in rollout(world, rng)), "a world without horizon terminated"
        return
    state, over = world.initial(8, rng), np.zeros(8, bool)
    for _ in range(world.horizon):
        action = random_actions(world, state, rng)
        state, _, terminated = world.step(state, action, world.draw(8, rng))
        over |= terminated
    assert over.all(), f"an episode is not over after {world.horizon} steps"


def rewards_have_no_edge(world: World, rng: np.random.Generator) -> None:
    """The expected reward equals the mean over all branches, on ordinary and on the most extreme states.

    A table of costs that ended at some stock once let a learner earn what does not exist by going beyond it.
    """
    if not hasattr(world, "branches"):
        return
    states = np.concatenate([_extremes(world), *(step[0] for step in rollout(world, rng, 8, 10))])
    for state in (states, states[::-1]):
        action = random_actions(world, state, rng)
        for rows in np.array_split(np.arange(len(state)), max(1, len(state) // 8)):
            branches = _branches(world, state[rows], action[rows])
            if branches is None:
                return
            total = branches.probability.sum(axis=1)
            assert np.allclose(total, 1.0, atol=1e-9), f"probabilities of branches sum to {total}"
            mean = (branches.probability * branches.reward).sum(axis=1)
            expected = world.expected_reward(state[rows], action[rows])
            assert np.allclose(expected, mean, rtol=1e-8, atol=1e-8), (
                f"expected reward {expected}, over branches {mean}"
            )


def simulation_agrees_with_branches(world: World, rng: np.random.Generator) -> None:
    """Where a step leads, and what it earns on average, is as enumerated: chi-square, and a z test of the mean."""
    if not hasattr(world, "branches"):
        return
    states = np.concatenate([step[0] for step in rollout(world, rng, 4, 12)])
    for i in rng.choice(len(states), _PAIRS, replace=False):
        state = states[i : i + 1]
        action = random_actions(world, state, rng)
        branches = _branches(world, state, action)
        if branches is None:
            return
        many = np.repeat(state, _DRAWS, axis=0)
        following, reward, _ = world.step(many, np.repeat(action, _DRAWS, axis=0), world.draw(_DRAWS, rng))
        _same_places(branches.probability[0], branches.state[0], following)
        expected = world.expected_reward(state, action)[0]
        values, counts = np.unique(reward, return_counts=True)
        if len(values) > 1 and _DRAWS - counts.max() < _ENOUGH:
            continue  # Too few draws differ for their mean to be normal.
        # What is rare may not have been drawn at all: the spread over the branches counts too.
        spread = np.sqrt(branches.probability[0] @ (branches.reward[0] - expected) ** 2)
        error = max(float(reward.std()), float(spread), 1e-8 * abs(expected), 1e-9) / np.sqrt(_DRAWS)
        assert abs(reward.mean() - expected) < 5.5 * error, f"mean reward {reward.mean():.6g}, expected {expected:.6g}"


def parameters_by_row_equal_single_worlds(world: World, rng: np.random.Generator) -> None:
    """A world with other parameters in each row gives what each of these worlds gives alone."""
    base = world.params
    rows = 16
    factors = 0.3 + 1.4 * rng.random(rows)
    for name, width in world.tunable.items():
        if width > 1:
            continue
        values = float(np.mean(getattr(base, name))) * factors
        together = world.with_params({name: values})
        state = np.concatenate([step[0] for step in rollout(world, rng, 1, rows)])
        action, chance = random_actions(world, state, rng), world.draw(rows, rng)
        whole = together.step(state, action, chance)
        for i, value in enumerate(values):
            row = slice(i, i + 1)
            alone = world.with_params({name: float(value)}).step(state[row], action[row], chance[row])
            for left, right in zip(whole, alone, strict=True):
                assert np.allclose(left[row], right, rtol=1e-12), f"{name} by row gives another step than alone"


def _branches(world: Any, state: State, action: Action) -> Any:
    found = world.branches(state[:1], action[:1])
    if found.probability.shape[1] > _MOST_BRANCHES:
        return None
    return world.branches(state, action)


def _extremes(world: World) -> State:
    low, high = bounds(world.context)
    corners = np.stack([np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 1e3)])
    return world.state_of(corners.astype(np.float32))


def _same_places(probability: Array, states: State, following: State) -> None:
    known, index = np.unique(states, axis=0, return_inverse=True)
    expected = np.zeros(len(known))
    np.add.at(expected, index.ravel(), probability * len(following))
    place = {row.tobytes(): i for i, row in enumerate(known)}
    counts: Array = np.zeros(len(known))
    for row, count in zip(*np.unique(following, axis=0, return_counts=True), strict=True):
        assert row.tobytes() in place, f"the simulation reached {row}, which is not among the branches"
        counts[place[row.tobytes()]] += count
    _chi_square(counts, expected)


def _chi_square(counts: Array, expected: Array) -> None:
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum()).astype(np.float64)
    used = wanted > 0
    assert (observed[~used] == 0).all(), "the simulation reached what has no probability"
    if wanted[-1] < 5 and used.sum() > 1 and used[-1]:
        # What is rare even in sum has no chi-square law: a Poisson bound does.
        assert observed[-1] <= 5 + 10 * np.sqrt(wanted[-1] + 1), "the simulation reached rare states too often"
        used[-1] = False
    statistic = float((((observed - wanted) ** 2)[used] / wanted[used]).sum())
    degrees = int(used.sum()) - 1
    assert degrees < 1 or chi2.sf(statistic, degrees) > _UNLIKELY, (
        f"chi-square {statistic:.1f} with {degrees} degrees: the simulation does not follow the branches"
    )


LAWS: Mapping[str, Law] = {
    law.__name__: law
    for law in (
        batch_equals_loop,
        rows_can_be_permuted,
        same_seed_same_rollout,
        inputs_are_not_changed,
        chance_is_uniform,
        observations_are_in_bounds,
        observations_show_the_state,
        some_action_is_allowed,
        rewards_follow_from_what_is_logged,
        horizons_are_kept,
        rewards_have_no_edge,
        simulation_agrees_with_branches,
        parameters_by_row_equal_single_worlds,
    )
}


def check(world: World, seed: int = 0) -> None:
    """All laws on one world.

    Raises:
        AssertionError: the first law that is broken, with what was found.
    """
    for place, law in enumerate(LAWS.values()):
        law(world, np.random.default_rng([seed, place]))
