"""Off-policy evaluation: enumerated problems to the last digits, known coverage, and refusals where the log is mute."""

import itertools

import numpy as np
import pytest

from agents import estimators
from agents.ope import Decisions, Episodes, decisions_needed, effective_size, report, report_episodes

PRICES = np.arange(0.5, 4.26, 0.25)
SEGMENTS = np.array([[0.6, 1.4], [1.0, 1.0], [1.4, 0.8], [0.8, 0.6]])
SALES = np.e * SEGMENTS[:, :1] * np.exp(-SEGMENTS[:, 1:] * PRICES)
REVENUE = PRICES * SALES


def softened(best: np.ndarray, spread: float, floor: float = 0.05) -> np.ndarray:
    """Gaussian in the price around the best index of each segment, with an even floor; (4, 16)."""
    weight = np.exp(-0.5 * ((PRICES - PRICES[best][:, None]) / spread) ** 2)
    return (1 - floor) * weight / weight.sum(1, keepdims=True) + floor / len(PRICES)


def mostly(best: np.ndarray, epsilon: float) -> np.ndarray:
    return (1 - epsilon) * np.eye(len(PRICES))[best] + epsilon / len(PRICES)


OPTIMAL = REVENUE.argmax(axis=1)
# The logged policy believes in a sensitivity of 1.3 times the true one.
MISTAKEN = (PRICES * np.exp(-1.3 * SEGMENTS[:, 1:] * PRICES)).argmax(axis=1)
LOGGED, TARGET = softened(MISTAKEN, 0.5), softened(OPTIMAL, 0.3)
TRUTH = float((TARGET * REVENUE).sum(axis=1).mean())


def one_step_log(
    rng: np.random.Generator, n: int, behaviour: np.ndarray = LOGGED, target: np.ndarray = TARGET
) -> tuple[Decisions, np.ndarray]:
    segment = rng.integers(0, 4, n)
    cumulative = behaviour.cumsum(axis=1)[segment]
    action = (cumulative <= rng.random(n)[:, None] * cumulative[:, -1:]).sum(axis=1)
    reward = PRICES[action] * rng.poisson(SALES[segment, action])
    log = Decisions(SEGMENTS[segment], action, behaviour[segment, action], reward, behaviour[segment])
    return log, target[segment]


# A problem small enough to enumerate: two contexts, three actions, a reward for each pair.
SMALL_B = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
SMALL_T = np.array([[0.2, 0.2, 0.6], [0.7, 0.1, 0.2]])
SMALL_R = np.array([[1.0, -2.0, 4.0], [0.5, 3.0, -1.0]])
SMALL_V = 0.5 * float((SMALL_T * SMALL_R).sum())


def expectation_over_all_logs(estimate: object, n: int = 3) -> float:
    """Expected value of an estimator over every log of n decisions, each context being as likely."""
    total = 0.0
    for units in itertools.product(itertools.product(range(2), range(3)), repeat=n):
        context, action = (np.array(part) for part in zip(*units, strict=True))
        chance = float(np.prod(0.5 * SMALL_B[context, action]))
        weight = SMALL_T[context, action] / SMALL_B[context, action]
        total += chance * estimate(context, action, SMALL_R[context, action], weight)  # type: ignore[operator]
    return total


def test_ips_is_unbiased_over_every_possible_log() -> None:
    expected = expectation_over_all_logs(lambda _c, _a, r, w: estimators.ips(r, w).value)
    assert expected == pytest.approx(SMALL_V, abs=1e-12)


@pytest.mark.parametrize("error", [0.0, 5.0, -3.0])
def test_dr_is_unbiased_over_every_possible_log_whatever_its_model(error: float) -> None:
    model = SMALL_R + error * np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])

    def dr(context: np.ndarray, action: np.ndarray, reward: np.ndarray, weight: np.ndarray) -> float | None:
        return estimators.doubly_robust(reward, weight, action, SMALL_T[context], model[context]).value

    assert expectation_over_all_logs(dr) == pytest.approx(SMALL_V, abs=1e-12)


def test_every_estimator_equals_the_hand_computation_on_three_decisions() -> None:
    reward, weight = np.array([4.0, -2.0, 3.0]), np.array([3.0, 0.5, 0.25])
    assert estimators.ips(reward, weight).value == pytest.approx((12 - 1 + 0.75) / 3, abs=1e-12)
    assert estimators.snips(reward, weight).value == pytest.approx(11.75 / 3.75, abs=1e-12)
    assert estimators.clipped_ips(reward, weight, 1.0).value == pytest.approx((4 - 1 + 0.75) / 3, abs=1e-12)
    assert estimators.clipped_snips(reward, weight, 1.0).value == pytest.approx(3.75 / 1.75, abs=1e-12)
    # Influence of SNIPS: v + w (r − v) / mean(w), v = 47/15.
    v = 47 / 15
    spread = np.std(weight * (reward - v) / 1.25, ddof=1) / 3**0.5
    assert estimators.snips(reward, weight).se == pytest.approx(spread, abs=1e-12)


def test_clipping_says_how_much_probability_it_cuts() -> None:
    assert "50.00%" in estimators.clipped_ips(np.ones(4), np.array([3.0, 0.5, 0.5, 0.0]), 1.0).note


def episode_log() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every sequence of two binary decisions with rewards that depend on both; (sequence, reward, ratio, chance)."""
    behaviour, target = np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([[0.2, 0.8], [0.9, 0.1]])
    sequences = np.array(list(itertools.product(range(2), repeat=2)))
    first, second = sequences.T
    reward = np.column_stack([1.0 + 2 * first, 3.0 * first - second])
    ratio = np.column_stack([target[0, first] / behaviour[0, first], target[1, second] / behaviour[1, second]])
    chance = behaviour[0, first] * behaviour[1, second]
    return sequences, reward, ratio, chance


EPISODE_TRUTH = (1 + 2 * 0.8) + 0.9 * (3 * 0.8 - 0.1)


@pytest.mark.parametrize("estimator", [estimators.trajectory_is, estimators.per_decision_is])
def test_episode_estimators_are_unbiased_over_every_sequence(estimator: object) -> None:
    _, reward, ratio, chance = episode_log()
    values = [
        estimator(reward[i : i + 1], ratio[i : i + 1], 0.9).value  # type: ignore[operator]
        for i in range(4)
    ]
    assert float(chance @ np.array(values)) == pytest.approx(EPISODE_TRUTH, abs=1e-12)


def test_sequential_dr_is_unbiased_over_every_sequence_with_a_wrong_model() -> None:
    _, reward, ratio, chance = episode_log()
    rng = np.random.default_rng(1)
    # Q of a wrong model at (first action) and (first, second action); V is its mean under the target.
    q_first, q_second = rng.normal(size=2), rng.normal(size=(2, 2))
    v_second = q_second @ np.array([0.9, 0.1])
    values = []
    for i, (first, second) in enumerate(itertools.product(range(2), repeat=2)):
        value = np.array([[q_first @ np.array([0.2, 0.8]), v_second[first]]])
        action_value = np.array([[q_first[first], q_second[first, second]]])
        found = estimators.sequential_doubly_robust(reward[i : i + 1], ratio[i : i + 1], value, action_value, 0.9)
        values.append(found.value)
    assert float(chance @ np.array(values)) == pytest.approx(EPISODE_TRUTH, abs=1e-12)


def test_self_normalised_per_decision_weights_equal_the_hand_computation() -> None:
    reward, ratio = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[2.0, 0.5], [1.0, 3.0]])
    expected = (2 * 1 + 1 * 3) / 3 + (1 * 2 + 3 * 0) / 4
    assert estimators.self_normalised_per_decision_is(reward, ratio).value == pytest.approx(expected, abs=1e-12)


def test_no_surviving_match_is_not_identifiable_instead_of_zero_by_zero() -> None:
    nothing = np.zeros(4)
    for estimate in (estimators.ips(np.ones(4), nothing), estimators.snips(np.ones(4), nothing)):
        assert estimate.value is None
        assert estimate.note.startswith("not identifiable")
    dead = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert "from period 1 on" in estimators.self_normalised_per_decision_is(np.ones((2, 2)), dead).note
    log = Decisions(np.zeros((60, 1)), np.zeros(60, int), np.ones(60), np.ones(60))
    found = report(log, np.tile([0.0, 1.0], (60, 1)))
    assert found.verdict == "not enough evidence"
    assert found.gain.value is None


def test_the_model_based_interval_is_the_delta_method_of_a_known_function() -> None:
    covariance = np.array([[0.04, 0.01], [0.01, 0.09]])
    found = estimators.model_based(lambda x: float(x[0] ** 2 * x[1]), np.array([3.0, 2.0]), covariance)
    gradient = np.array([12.0, 9.0])
    assert found.value == pytest.approx(18.0)
    assert found.se == pytest.approx(float(np.sqrt(gradient @ covariance @ gradient)), rel=1e-6)


def test_the_effective_size_of_equal_weights_is_their_number() -> None:
    assert effective_size(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_size(np.zeros(3)) == 0.0


def test_the_logged_problem_is_the_published_one() -> None:
    weight = TARGET / LOGGED
    second = (PRICES**2 * SALES + REVENUE**2) * TARGET**2 / LOGGED
    assert pytest.approx(1.078, abs=5e-4) == TRUTH
    assert weight.max() == pytest.approx(3.4, abs=0.05)
    assert np.sqrt(second.sum(axis=1).mean() - TRUTH**2) == pytest.approx(1.886, abs=1e-3)


def coverage(repetitions: int) -> dict[str, tuple[float, float]]:
    """Share of intervals that hold the truth, and the mean half-width as a share of the value, by estimator."""
    hits: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    for seed in range(repetitions):
        log, target = one_step_log(np.random.default_rng([5, seed]), 10_000)
        for name, estimate in report(log, target).estimates.items():
            assert estimate.interval is not None
            low, high = estimate.interval
            hits.setdefault(name, []).append(low <= TRUTH <= high)
            widths.setdefault(name, []).append((high - low) / 2 / TRUTH)
    return {name: (float(np.mean(hits[name])), float(np.mean(widths[name]))) for name in hits}


def test_intervals_of_snips_and_dr_cover_and_are_narrow() -> None:
    found = coverage(60)
    for name in ("snips", "dr"):
        # Binomial(60, 0.95): 52 or fewer happen three times in a thousand.
        assert found[name][0] >= 53 / 60
        assert found[name][1] <= 0.033


@pytest.mark.long
def test_intervals_of_snips_and_dr_cover_over_four_hundred_logs() -> None:
    found = coverage(400)
    for name in ("snips", "dr"):
        assert found[name][0] >= 0.91
        assert found[name][1] <= 0.033


def test_a_better_and_a_worse_target_are_told_apart_by_the_verdict() -> None:
    log, target = one_step_log(np.random.default_rng(1), 20_000)
    found = report(log, target, tolerance=0.01)
    assert found.verdict == "better"
    assert found.check.passed
    assert found.diagnostics.mean_weight == pytest.approx(1, abs=0.03)
    poor, poor_target = one_step_log(np.random.default_rng(2), 20_000, TARGET, softened(MISTAKEN, 0.5))
    assert report(poor, poor_target, tolerance=0.01).verdict == "worse"


def test_the_same_target_is_rarely_evidence_of_anything() -> None:
    verdicts = []
    for seed in range(100):
        log, target = one_step_log(np.random.default_rng([3, seed]), 2000, LOGGED, LOGGED)
        verdicts.append(report(log, target).verdict)
    # A 95 % interval leaves out the truth five times in a hundred; Binomial(100, 0.05): 13 or more once in 700.
    assert verdicts.count("not enough evidence") >= 88


@pytest.mark.parametrize("corruption", ["shifted", "constant", "softmax"])
@pytest.mark.parametrize("whole", [True, False])
def test_corrupted_propensities_are_noticed(corruption: str, whole: bool) -> None:
    noticed = 0
    for seed in range(100):
        log, target = one_step_log(np.random.default_rng([7, seed]), 10_000)
        scores = np.exp(2 * REVENUE) / np.exp(2 * REVENUE).sum(axis=1, keepdims=True)
        segment = (log.context[:, None] == SEGMENTS).all(axis=2).argmax(axis=1)
        wrong = {
            "shifted": np.roll(log.propensity, 1),
            "constant": np.full(len(log.action), log.propensity.mean()),
            "softmax": scores[segment, log.action],
        }[corruption]
        behaviour = scores[segment] if corruption == "softmax" else log.behaviour
        bad = Decisions(log.context, log.action, wrong, log.reward, behaviour if whole else None)
        found = report(bad, target)
        noticed += not found.check.passed and found.verdict == "not enough evidence"
    assert noticed >= 99


@pytest.mark.parametrize("epsilon", [0.2, 0.5, 1.0])
def test_true_propensities_pass_the_self_check(epsilon: float) -> None:
    failed = 0
    for seed in range(200):
        behaviour = mostly(MISTAKEN, epsilon)
        log, target = one_step_log(np.random.default_rng([8, seed]), 5000, behaviour)
        failed += not report(log, target).check.passed
    assert failed == 0


def test_a_target_that_does_what_was_never_possible_is_refused() -> None:
    behaviour = np.eye(16)[MISTAKEN] * 0.5 + np.eye(16)[MISTAKEN + 1] * 0.5
    log, target = one_step_log(np.random.default_rng(4), 5000, behaviour, mostly(OPTIMAL, 0.5))
    found = report(log, target)
    assert found.verdict == "not enough evidence"
    assert any("never possible" in reason for reason in found.reasons)


def test_one_decision_that_carries_the_estimate_is_refused() -> None:
    propensity = np.full(1000, 1.0)
    propensity[0] = 0.001
    action = np.zeros(1000, int)
    action[0] = 1
    found = report(Decisions(np.zeros((1000, 1)), action, propensity, np.ones(1000)), np.tile([0.5, 0.5], (1000, 1)))
    assert found.verdict == "not enough evidence"
    assert any("one unit carries" in reason for reason in found.reasons)


def test_long_episodes_with_greedy_logs_are_refused() -> None:
    rng = np.random.default_rng(6)
    n, periods, actions = 200, 50, 16
    action = np.where(rng.random((n, periods)) < 0.8, 0, rng.integers(0, actions, (n, periods)))
    propensity = np.where(action == 0, 0.8 + 0.2 / actions, 0.2 / actions)
    target = np.where(action == 1, 0.95 + 0.05 / actions, 0.05 / actions)
    log = Episodes(rng.random((n, periods)), propensity, target, np.ones((n, periods), bool))
    found = report_episodes(log)
    assert found.verdict == "not enough evidence"
    assert any("at least 50 are needed" in reason for reason in found.reasons)


def test_short_episodes_near_the_logged_policy_are_judged() -> None:
    rng = np.random.default_rng(7)
    n, periods = 4000, 4
    action = (rng.random((n, periods)) < 0.5).astype(int)
    log = Episodes(
        action + rng.normal(0, 0.5, (n, periods)),
        np.full((n, periods), 0.5),
        np.where(action == 1, 0.7, 0.3),
        np.ones((n, periods), bool),
    )
    found = report_episodes(log)
    assert found.verdict == "better"
    estimate = found.estimates["sn-pdis"]
    assert estimate.value == pytest.approx(4 * 0.7, abs=4 * (estimate.se or 0))


def test_rewards_after_the_end_of_an_episode_do_not_count() -> None:
    active = np.array([[True, False], [True, True]])
    log = Episodes(np.array([[1.0, 99.0], [1.0, 1.0]]), np.full((2, 2), 0.5), np.full((2, 2), 0.5), active)
    assert report_episodes(log).logged.value == pytest.approx(1.5)


def test_ridge_recovers_an_additive_reward() -> None:
    rng = np.random.default_rng(9)
    context, action = rng.normal(size=(4000, 2)), rng.integers(0, 3, 4000)
    truth = context @ np.array([1.0, -2.0])
    predict = estimators.ridge(context, action, truth + action, 3)
    assert np.abs(predict(context[:50]) - (truth[:50, None] + np.arange(3))).max() < 0.05


def test_predictions_are_cross_fitted() -> None:
    context, action = np.zeros((4, 1)), np.zeros(4, int)
    predicted = estimators.cross_fit(context, action, np.array([1.0, 10.0, 3.0, 20.0]), 1, estimators.cell_means)
    assert predicted[:, 0].tolist() == [11.5, 11.5, 5.5, 5.5]


def test_neighbours_of_one_key_are_predicted_from_other_keys() -> None:
    # One key's rows follow one another: its own reward must not come back as its prediction.
    context, action = np.zeros((40, 1)), np.zeros(40, int)
    predicted = estimators.cross_fit(context, action, np.repeat([0.0, 1.0], 20), 1, estimators.cell_means)
    assert predicted[:, 0].tolist() == [1.0] * 20 + [0.0] * 20


def test_a_negative_zero_is_the_zero_of_its_cell() -> None:
    context = np.array([[0.0], [0.0], [1.0], [1.0]])
    predict = estimators.cell_means(context, np.zeros(4, int), np.array([1.0, 1.0, 5.0, 5.0]), 1)
    assert predict(np.array([[-0.0], [0.0]])).tolist() == [[1.0], [1.0]]
    assert estimators.cell_means(-context, np.zeros(4, int), np.ones(4), 1)(np.array([[0.0]])).tolist() == [[1.0]]


def test_the_announced_sample_size_is_the_textbook_one() -> None:
    # (1.95996 + 0.84162)² · (10 / 1)² = 784.89
    assert decisions_needed(1.0, 10.0) == 785


@pytest.mark.parametrize(
    ("propensity", "reward", "message"),
    [([0.0, 1.0], [1.0, 1.0], "propensity 0.0 of decision 0"), ([1.0, 1.0], [1.0, np.nan], "reward of decision 1")],
)
def test_impossible_logs_are_refused(propensity: list[float], reward: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Decisions(np.zeros((2, 1)), np.zeros(2, int), np.array(propensity), np.array(reward))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], "of decision 0: give probabilities that sum to 1"),
        ([[0.5, 0.5], [1.5, -0.5]], "of decision 1"),
        ([[0.5, 0.5], [np.nan, 0.5]], "of decision 1"),
        ([[0.5, 0.5]], r"shape \(1, 2\)"),
        ([[1.0], [1.0]], "at least 2 actions"),
        ([1.0, 0.0], r"shape \(2,\)"),
    ],
)
def test_a_target_that_is_no_distribution_is_refused(target: list[object], message: str) -> None:
    log = Decisions(np.zeros((2, 1)), np.array([0, 1]), np.full(2, 0.5), np.ones(2))
    with pytest.raises(ValueError, match=message):
        report(log, np.array(target))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": [[0.5, 0.0], [0.5, 0.5]]}, "propensity 0.0 of episode 0, period 1"),
        ({"propensity": [[0.5, 0.5], [1.2, 0.5]]}, "propensity 1.2 of episode 1, period 0"),
        ({"target": [[0.5, np.nan], [0.5, 0.5]]}, "target nan of episode 0, period 1"),
        ({"target": [[0.5, 0.5], [-0.1, 0.5]]}, "target -0.1 of episode 1"),
        ({"reward": [[np.inf, 1.0], [1.0, 1.0]]}, "reward inf of episode 0"),
        ({"reward": [[1.0], [1.0]]}, "shapes"),
    ],
)
def test_impossible_episodes_are_refused(changes: dict[str, list[list[float]]], message: str) -> None:
    half = [[0.5, 0.5], [0.5, 0.5]]
    given = {"reward": half, "propensity": half, "target": half} | changes
    with pytest.raises(ValueError, match=message):
        Episodes(active=np.ones((2, 2), bool), **{name: np.array(part) for name, part in given.items()})


def test_what_an_episode_holds_after_its_end_is_not_looked_at() -> None:
    active = np.array([[True, False], [True, True]])
    rest = np.array([[0.5, np.nan], [0.5, 0.5]])
    assert report_episodes(Episodes(rest, rest, rest, active)).logged.value == pytest.approx(0.75)
