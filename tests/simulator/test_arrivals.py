from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecaster.series import DemandSeries, DemandUnit
from scaler.simulator.arrivals import covering_grid, spread
from tests.simulator.makers import MONDAY, a_series

STEP = timedelta(seconds=15)
BINS = [timedelta(seconds=57), timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=10), timedelta(seconds=10)]


@pytest.mark.parametrize("bin_length", BINS, ids=str)
@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(0, 5000), min_size=1, max_size=12), seed=st.integers(0, 9))
def test_the_steps_are_whole_numbers_that_add_up_to_all_bins(bin_length, counts, seed):
    series = a_series(counts, bin_length, MONDAY + timedelta(seconds=7))
    demand = spread(series, covering_grid(series.start, series.end, STEP), seed)
    assert demand.work.sum() == sum(counts)
    assert np.all(demand.work == np.rint(demand.work))
    assert np.all(demand.work >= 0)


def test_steps_that_lie_in_one_bin_only_add_up_to_that_bin():
    counts = [40, 7, 0, 1200]
    series = a_series(counts)
    demand = spread(series, covering_grid(series.start, series.end, STEP), 3)
    assert demand.work.reshape(4, 4).sum(axis=1).tolist() == counts


def test_changing_one_bin_changes_no_other():
    before, after = a_series([30, 31, 32, 33]), a_series([30, 31, 500, 33])
    grid = covering_grid(before.start, before.end, STEP)
    one, other = spread(before, grid, 5, "a").work, spread(after, grid, 5, "a").work
    assert np.array_equal(np.delete(one, slice(8, 12)), np.delete(other, slice(8, 12)))


def test_the_same_seed_repeats_and_another_seed_or_endpoint_differs():
    series = a_series([100] * 20)
    grid = covering_grid(series.start, series.end, STEP)
    first = spread(series, grid, 1, "a").work
    assert np.array_equal(first, spread(series, grid, 1, "a").work)
    assert not np.array_equal(first, spread(series, grid, 2, "a").work)
    assert not np.array_equal(first, spread(series, grid, 1, "b").work)


def test_a_missing_bin_is_not_seen_and_brings_nothing():
    series = DemandSeries(unit=DemandUnit.REQUESTS, start=MONDAY, step=timedelta(minutes=1), values=[1.0, np.nan, 1.0])
    demand = spread(series, covering_grid(series.start, series.end, STEP), 0)
    assert np.isnan(demand.values()[4:8]).all()
    assert demand.work[4:8].sum() == 0
    assert not np.isnan(demand.values()[[*range(4), *range(8, 12)]]).any()


def test_a_concurrency_level_holds_in_every_step_of_its_bin():
    series = DemandSeries(unit=DemandUnit.CONCURRENCY, start=MONDAY, step=timedelta(minutes=1), values=[3.5, 2.0])
    demand = spread(series, covering_grid(series.start, series.end, STEP), 0)
    assert demand.values().tolist() == pytest.approx([3.5] * 4 + [2.0] * 4)


def test_the_grid_is_aligned_to_the_epoch_and_covers_the_span():
    grid = covering_grid(MONDAY + timedelta(seconds=7), MONDAY + timedelta(seconds=64), STEP)
    assert (grid.start, grid.end) == (MONDAY, MONDAY + timedelta(seconds=75))
    assert grid.index(MONDAY + timedelta(seconds=16)) == 2
