"""Estimates from logged seasons: published values of the policies, coverage where it can be had, refusal elsewhere."""

import numpy as np
import pytest

from agents.ope import report_episodes
from benchmarks.ope_episodes import LONG, SENSITIVITY, SHORT, VOLUME, Season, fitted, model, play, refused, smoothed

SEASON, LONG_SEASON = Season(*SHORT), Season(*LONG)


@pytest.mark.parametrize(
    ("season", "policy", "value"),
    [
        (SEASON, SEASON.smoothed(1.0, 0.25, 0.0), 7.0822),
        (SEASON, SEASON.smoothed(0.85, 0.25), 6.9404),
        (SEASON, SEASON.mostly(1.0, 0.05), 7.1216),
        (LONG_SEASON, LONG_SEASON.mostly(1.0, 0.05), 35.6774),
        (LONG_SEASON, LONG_SEASON.mostly(0.6, 0.2), 32.3109),
    ],
)
def test_the_policies_have_their_known_values_by_two_ways(season: Season, policy: np.ndarray, value: float) -> None:
    assert season.truth(policy) == pytest.approx(value, abs=6e-5)
    v, q = season.values(policy, VOLUME, SENSITIVITY)
    assert v[0, season.stock] == pytest.approx(season.truth(policy), rel=1e-12)
    assert (policy * q).sum(axis=2)[:, 1:] == pytest.approx(v[:, 1:])


def test_demand_is_recovered_from_sales_that_the_stock_cuts_off() -> None:
    log = play(SEASON, SEASON.mostly(0.6, 0.2), 50_000, np.random.default_rng(1))
    # Some seasons sell out: ignoring that would bias the volume downwards.
    assert (log.stock == 0).mean() > 0.1
    demand, covariance = fitted(SEASON, log)
    errors = np.sqrt(np.diag(covariance))
    assert (np.abs(demand - np.log([VOLUME, SENSITIVITY])) <= 3.5 * errors).all()
    assert errors.max() < 0.03


def test_smoothed_policies_over_ten_periods_are_covered() -> None:
    found = smoothed(60, 10_000)["estimators"]
    for name in ("sn-pdis", "dr", "model"):
        # Binomial(60, 0.95): 52 or fewer happen three times in a thousand.
        assert found[name]["coverage"] >= 53 / 60, name
    # Published spreads of the same problem over 200 logs: 0.226, 0.24 and 0.067.
    assert found["sn-pdis"]["sd"] < 0.3
    assert found["dr"]["sd"] < 0.32
    assert found["model"]["sd"] < 0.09


def test_a_fitted_demand_is_calibrated_with_nearly_greedy_policies_over_fifty_periods() -> None:
    found = model(60, 10_000, LONG)["estimators"]["model"]
    assert found["coverage"] >= 53 / 60
    # Published: 0.336 over 200 logs; a relative standard error of about 1 %.
    assert found["sd"] < 0.45


def test_epsilon_greedy_logs_of_fifty_periods_are_refused_at_any_size() -> None:
    assert refused(20, 10_000) == 1.0
    behaviour, target = LONG_SEASON.mostly(0.6, 0.2), LONG_SEASON.mostly(1.0, 0.05)
    log = play(LONG_SEASON, behaviour, 500_000, np.random.default_rng(2))
    found = report_episodes(log.episodes(target))
    assert found.verdict == "not enough evidence"
    assert found.diagnostics.effective < 50
    assert found.check.passed


@pytest.mark.long
def test_coverage_over_four_hundred_logs() -> None:
    found = smoothed(400, 10_000)["estimators"]
    assert min(found[name]["coverage"] for name in ("sn-pdis", "dr", "model")) >= 0.91
    assert model(400, 10_000)["estimators"]["model"]["coverage"] >= 0.91
    assert model(400, 10_000, LONG)["estimators"]["model"]["coverage"] >= 0.91
