"""Honest demand: broken stretches are not learnt, real quiet is left alone."""

from datetime import timedelta

import numpy as np
import pytest

from forecaster.repair import repaired
from tests.forecaster.samples import a_series, daily_counts

STEP = timedelta(minutes=10)


def test_half_an_hour_of_nothing_at_noon_is_an_outage():
    counts = daily_counts(6, STEP, mean_per_bin=100)
    counts[3 * 144 + 30 : 3 * 144 + 33] = 0
    result = repaired(a_series(counts))
    assert np.flatnonzero(np.isnan(result.series.values)).tolist() == [3 * 144 + 30, 3 * 144 + 31, 3 * 144 + 32]
    assert len(result.notes) == 1


def test_nights_that_are_idle_every_night_are_no_outage():
    counts = daily_counts(6, STEP, mean_per_bin=100).reshape(6, 144)
    counts[:, 100:120] = 0
    assert repaired(a_series(counts.reshape(-1))).notes == ()


def test_a_single_bin_a_hundred_times_too_high_is_not_learnt():
    counts = daily_counts(6, STEP, mean_per_bin=100)
    counts[300] = 50_000
    assert np.flatnonzero(np.isnan(repaired(a_series(counts)).series.values)).tolist() == [300]


@pytest.mark.parametrize("level", [0.0, 50_000.0], ids=["gaps", "bursts"])
def test_what_comes_every_day_sooner_or_later_by_minutes_is_learnt(level):
    counts = daily_counts(8, STEP, mean_per_bin=100).reshape(8, 144)
    for day, late in enumerate([0, 3, 1, 4, 2, 5, 0, 3]):
        counts[day, 30 + late] = level
    assert repaired(a_series(counts.reshape(-1))).notes == ()


def test_what_happens_now_is_never_called_broken():
    counts = daily_counts(6, STEP, mean_per_bin=100)
    counts[-4:] = 0
    counts[-1] = 90_000
    assert repaired(a_series(counts)).notes == ()


@pytest.mark.parametrize("days", [1, 2, 7])
def test_bins_of_days_hold_no_time_of_day_and_are_left_alone(days):
    series = a_series(np.full(20, 1e6), timedelta(days=days))
    assert repaired(series).notes == ()
