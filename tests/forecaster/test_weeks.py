"""A weekly season counts only when two full weeks of it have been seen."""

from datetime import timedelta

import numpy as np
import pytest

from forecaster.methods.registry import METHODS
from tests.forecaster.samples import a_panel

STEP = timedelta(minutes=10)
DAY = 144
LEVELS = np.array([0.5, 0.9])


def weeks_with_a_busy_seventh_day(n_days):
    """Ten a bin, but a hundred on the days a week and two weeks before the one that comes."""
    values = np.full(n_days * DAY, 10.0)
    for days_ago in (7, 14):
        if n_days >= days_ago:
            values[(n_days - days_ago) * DAY :][:DAY] = 100.0
    return a_panel(values, STEP)


def ahead(method, n_days):
    panel, lead = weeks_with_a_busy_seventh_day(n_days), np.array([72])
    return METHODS[method].fit(panel, lead).quantiles(panel, np.array([panel.n_steps]), lead, LEVELS)[0, 0, 0]


@pytest.mark.parametrize("method", ["climate_bent", "climate_scaled"])
def test_the_sample_prefers_the_same_weekday_once_two_weeks_are_known(method):
    assert ahead(method, 11)[1] < 20.0
    assert ahead(method, 16)[1] > 50.0


def test_the_profile_leans_less_on_the_day_a_week_ago_until_two_weeks_are_known():
    early, later = ahead("profile", 13)[0], ahead("profile", 15)[0]
    assert 10.0 < early < 0.75 * later


def test_two_weeks_are_known_from_the_bin_on_that_ends_them():
    panel = weeks_with_a_busy_seventh_day(15)
    assert panel.week_is_known(np.array([14 * DAY - 1, 14 * DAY])).tolist() == [False, True]
