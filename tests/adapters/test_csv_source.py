"""Recorded series answer as a metrics server would: nothing of the future, and unknown is NaN."""

from datetime import timedelta

import numpy as np

from forecaster.series import DemandSeries, DemandUnit
from scaler.adapters.csv_source import CsvSource, on_grid
from tests.builders import MINUTE, NOON, SECOND, a_policy

TURN = 15 * SECOND


def a_series(*per_second: float, start_offset: timedelta = timedelta(0)) -> DemandSeries:
    return DemandSeries(
        unit=DemandUnit.REQUESTS, start=NOON + start_offset, step=MINUTE, values=np.array(per_second, dtype=float)
    )


def test_finer_bins_repeat_and_coarser_bins_average() -> None:
    series = a_series(1, 3, np.nan, 5)
    np.testing.assert_allclose(on_grid(series, NOON, NOON + MINUTE, TURN).values, [1, 1, 1, 1])
    np.testing.assert_allclose(on_grid(series, NOON, NOON + 4 * MINUTE, 2 * MINUTE).values, [2, 5])


def test_bins_outside_the_recording_are_nan() -> None:
    found = on_grid(a_series(1, 2), NOON - MINUTE, NOON + 3 * MINUTE, MINUTE)
    np.testing.assert_allclose(found.values, [np.nan, 1, 2, np.nan])


def test_a_series_off_the_grid_is_weighted_by_time() -> None:
    found = on_grid(a_series(1, 3, start_offset=30 * SECOND), NOON, NOON + 2 * MINUTE, MINUTE)
    np.testing.assert_allclose(found.values, [1, 2])


def test_history_holds_only_whole_bins_that_had_ended() -> None:
    source = CsvSource({a_policy().endpoint: a_series(1, 2, 3)}, turn=TURN, recent_span=2 * MINUTE)
    history = source.history([a_policy(), a_policy(name="other")], NOON, NOON + 119 * SECOND, MINUTE)
    assert list(history) == [a_policy().endpoint]
    np.testing.assert_allclose(history[a_policy().endpoint].values, [1])


def test_a_reading_ends_with_the_last_finished_bin() -> None:
    source = CsvSource({a_policy().endpoint: a_series(1, 2, 3)}, turn=TURN, recent_span=2 * MINUTE)
    reading = source.read([a_policy()], NOON + 150 * SECOND)[a_policy().endpoint]
    assert reading.recent.end == NOON + 2 * MINUTE
    np.testing.assert_allclose(reading.recent.values, [1, 1, 2, 2, 2, 2])
    assert np.isnan(reading.queue)


def test_after_the_recording_the_endpoint_is_unknown_not_idle() -> None:
    source = CsvSource({a_policy().endpoint: a_series(1, 2, 3)}, turn=TURN, recent_span=10 * MINUTE)
    assert source.read([a_policy()], NOON + 6 * MINUTE) == {}
