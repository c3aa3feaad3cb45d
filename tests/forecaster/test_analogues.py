"""Which past situations the forests learn from."""

from datetime import timedelta

import numpy as np

from forecaster.methods.analogues import MAX_ROWS, Base, training_rows
from tests.forecaster.samples import a_panel, daily_counts

TEN_MINUTES, ONE_MINUTE = timedelta(minutes=10), timedelta(minutes=1)


def n_rows(panel, minutes_ahead):
    lead = round(timedelta(minutes=minutes_ahead) / panel.step)
    return len(training_rows(panel, np.array([lead]), base=Base.ZERO)[1])


def test_at_long_leads_few_situations_count_with_the_bins_beside_the_target():
    panel = a_panel(daily_counts(6, TEN_MINUTES, mean_per_bin=50.0), TEN_MINUTES)
    one_hour, six_hours = n_rows(panel, 60), n_rows(panel, 360)
    assert one_hour == 5 * 144 + 108 - 6
    assert 2.9 < six_hours / (5 * 144 + 108 - 36) <= 3.0


def test_a_minute_grid_is_learnt_from_densely_but_never_from_more_than_so_many_rows():
    panel = a_panel(daily_counts(7, ONE_MINUTE, mean_per_bin=5.0), ONE_MINUTE)
    assert 0.9 * MAX_ROWS / 2 < n_rows(panel, 10) <= MAX_ROWS
    assert n_rows(panel, 360) <= MAX_ROWS
