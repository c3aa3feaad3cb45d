"""A series on other grids."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from forecaster.errors import BadSeries
from forecaster.series import DemandSeries, DemandUnit

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def a_series(*values: float, start: datetime = NOON) -> DemandSeries:
    return DemandSeries(unit=DemandUnit.REQUESTS, start=start, step=MINUTE, values=np.array(values))


def test_a_finer_grid_repeats_each_bin() -> None:
    found = a_series(1, np.nan).resampled(MINUTE / 4)
    assert (found.start, found.step) == (NOON, MINUTE / 4)
    np.testing.assert_array_equal(found.values, [1, 1, 1, 1, *[np.nan] * 4])


def test_a_coarser_grid_has_the_means_of_whole_bins_and_less_than_half_of_one_is_unknown() -> None:
    found = a_series(9, 1, 3, np.nan, 5, np.nan, np.nan, 7, start=NOON - MINUTE).resampled(2 * MINUTE)
    assert found.start == NOON
    np.testing.assert_array_equal(found.values, [2, 5, np.nan])


@pytest.mark.parametrize("step", [MINUTE * 1.5, MINUTE / 1.5])
def test_a_grid_that_bins_do_not_fit_is_refused(step: timedelta) -> None:
    with pytest.raises(BadSeries, match="need a multiple or an even part of 0:01:00"):
        a_series(1, 2).resampled(step)
