"""Means of the past: of what was seen, the same however much else is asked for."""

import numpy as np

from forecaster.methods.means import PastMeans
from forecaster.methods.residual import trailing_mean
from tests.forecaster.samples import a_panel

VALUES = np.array([[1e9, 0.3, np.nan, 0.5, 0.0, 0.0, np.nan, np.nan, 2.0]])


def test_what_was_not_seen_counts_neither_as_demand_nor_as_time() -> None:
    first, last = np.array([1, 4, 6, -5, 8]), np.array([4, 6, 8, 0, 20])
    expected = [[(0.3 + 0.5) / 2, 0.0, np.nan, np.nan, 2.0]]
    np.testing.assert_allclose(PastMeans(a_panel(VALUES)).between(first, last), expected, rtol=1e-6)


def test_zeros_after_large_demand_have_a_mean_of_zero_to_the_last_bit() -> None:
    assert PastMeans(a_panel(VALUES)).between(np.array([4]), np.array([6])) == 0.0


def test_the_trailing_mean_is_that_of_the_stretch_before_each_origin() -> None:
    counts = np.random.default_rng(0).poisson(20.0, (3, 400)).astype(np.float64)
    counts[:, 50:90] = np.nan
    panel, origins = a_panel(counts), np.array([1, 60, 95, 400])
    told = trailing_mean(panel, origins, 30)
    expected = [[np.nanmean(row[max(end - 30, 0) : end]) for end in origins] for row in counts]
    np.testing.assert_allclose(told, expected)
    np.testing.assert_allclose(told, PastMeans(panel).between(origins - 30, origins))
