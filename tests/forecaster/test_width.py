"""The pool's spread is stretched by what would lately have cost least."""

import numpy as np
import pytest

from forecaster.auto import POOL_LEVELS
from forecaster.width import stretch_factors, stretch_losses, stretched

N = 200
SCORES = np.array([-1.28, 0.0, 0.84, 1.28, 1.64, 2.33])  # of POOL_LEVELS, for a normal law
HALF_LIFE = 4 * 48.0


def factor_after(outcome_spread, n_known=N, when=N, seed=0):
    """One lead, quantiles of a normal law of spread 1 around 10 on the tracking scale, outcomes of another spread."""
    rng = np.random.default_rng(seed)
    quantiles = np.broadcast_to(10.0 + SCORES, (1, N, 1, len(SCORES)))
    actual = 10.0 + outcome_spread * rng.standard_normal((1, N, 1))
    actual[:, n_known:] = np.nan
    losses = stretch_losses(quantiles, actual, np.ones((1, N, 1, 1)), POOL_LEVELS)
    made = np.arange(N)
    return stretch_factors(losses, made, made[:, None] + 1, np.array([when]), HALF_LIFE)[0, 0, 0, 0]


@pytest.mark.parametrize(
    ("outcome_spread", "low", "high"),
    [(0.5, 0.5, 0.9), (1.0, 0.95, 1.05), (2.0, 1.1, 2.0)],
    ids=["wide", "right", "narrow"],
)
def test_the_factor_leads_towards_the_spread_of_what_came(outcome_spread, low, high):
    assert low < factor_after(outcome_spread) < high


def test_without_an_outcome_the_spread_stays():
    assert factor_after(0.5, n_known=0) == pytest.approx(1.0)


def test_a_few_outcomes_move_it_little():
    assert 0.85 < factor_after(0.5, n_known=4) < 1.0


def test_an_outcome_counts_from_when_it_is_known():
    assert factor_after(0.5, when=0) == pytest.approx(1.0)


def test_a_forecast_that_was_exact_is_not_stretched():
    quantiles = np.full((1, N, 1, len(SCORES)), 3.0)
    losses = stretch_losses(quantiles, np.full((1, N, 1), 3.0), np.ones((1, N, 1, 1)), POOL_LEVELS)
    made = np.arange(N)
    assert stretch_factors(losses, made, made[:, None] + 1, np.array([N]), HALF_LIFE) == pytest.approx(1.0)


def test_stretching_keeps_the_median():
    quantiles = np.array([1.0, 3.0, 5.0, 6.0, 7.0, 9.0])
    assert stretched(quantiles, POOL_LEVELS, np.array([0.5])).tolist() == [2.0, 3.0, 4.0, 4.5, 5.0, 6.0]
