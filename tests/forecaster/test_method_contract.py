"""Every registered method keeps the contract of forecaster.methods.base, whatever the history."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecaster.catalogue import ALL_METHODS
from forecaster.errors import ShortHistory
from forecaster.methods.registry import METHODS
from tests.forecaster.samples import a_panel, daily_counts

STEP = timedelta(minutes=30)  # coarse, so that learnt methods train in a blink
N_DAYS = 5.3
LEVELS = np.array([0.1, 0.5, 0.8, 0.9, 0.95, 0.99])
AHEAD = np.array([1, 3, 12])  # two buckets of leads
SAMPLE = daily_counts(N_DAYS, STEP)

HISTORIES = {
    "daily shape": SAMPLE,
    "gaps": np.where(np.arange(len(SAMPLE)) % 7 == 3, np.nan, SAMPLE),
    "a day unseen": np.where((np.arange(len(SAMPLE)) > 60) & (np.arange(len(SAMPLE)) < 109), np.nan, SAMPLE),
    "unseen at the end": np.where(np.arange(len(SAMPLE)) > len(SAMPLE) - 20, np.nan, SAMPLE),
    "constant": np.full(len(SAMPLE), 7.0),
    "all zero": np.zeros(len(SAMPLE)),
    "a single value": np.where(np.arange(len(SAMPLE)) == 100, 5.0, np.nan),
    "one spike": np.where(np.arange(len(SAMPLE)) == 100, 1e6, 1.0),
    "short": SAMPLE[:60],
    "three bins": SAMPLE[:3],
}


def forecast(name, values, origins=None, previous=None):
    panel = a_panel(values, STEP)
    fitted = ALL_METHODS[name].fit(panel, AHEAD, previous)
    asked = np.array([panel.n_steps]) if origins is None else origins
    return fitted.quantiles(panel, asked, AHEAD, LEVELS)


@pytest.mark.parametrize("name", ALL_METHODS)
@pytest.mark.parametrize("history", HISTORIES, ids=lambda label: label.replace(" ", "-"))
def test_quantiles_have_their_shape_and_never_cross_nor_fall_below_zero(name, history):
    try:
        quantiles = forecast(name, HISTORIES[history])
    except ShortHistory:
        assert history in ("short", "three bins", "a single value")
        return
    assert quantiles.shape == (1, 1, len(AHEAD), len(LEVELS))
    assert np.all(np.isfinite(quantiles))
    assert np.all(quantiles >= 0)
    assert np.all(np.diff(quantiles, axis=-1) >= 0)


@pytest.mark.parametrize("name", ALL_METHODS)
def test_a_constant_history_goes_on(name):
    quantiles = forecast(name, HISTORIES["constant"])
    assert quantiles[..., 1] == pytest.approx(7.0, rel=0.02)


@pytest.mark.parametrize("name", ALL_METHODS)
def test_an_idle_history_stays_idle(name):
    assert np.all(forecast(name, HISTORIES["all zero"]) == 0.0)


@pytest.mark.parametrize("name", ALL_METHODS)
def test_the_same_history_gives_the_same_forecast_to_the_last_bit(name):
    assert forecast(name, SAMPLE).tobytes() == forecast(name, SAMPLE.copy()).tobytes()


@pytest.mark.parametrize("name", ALL_METHODS)
def test_changing_the_future_never_changes_the_forecast(name):
    origin = len(SAMPLE) - 40
    changed = SAMPLE.copy()
    changed[origin:] = 1000.0 + np.arange(40)
    fitted = ALL_METHODS[name].fit(a_panel(SAMPLE[: origin - 10], STEP), AHEAD)
    told = [
        fitted.quantiles(a_panel(values, STEP), np.array([origin - 5, origin]), AHEAD, LEVELS)
        for values in (SAMPLE, changed)
    ]
    assert told[0].tobytes() == told[1].tobytes()


@pytest.mark.parametrize("name", METHODS)
def test_origins_are_forecast_alike_alone_and_together(name):
    panel = a_panel(SAMPLE, STEP)
    fitted = METHODS[name].fit(panel.until(200), AHEAD)
    together = fitted.quantiles(panel, np.array([210, 230]), AHEAD, LEVELS)
    alone = fitted.quantiles(panel.until(230), np.array([230]), AHEAD, LEVELS)
    np.testing.assert_allclose(together[:, 1], alone[:, 0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ALL_METHODS)
def test_what_was_learnt_survives_being_stored_as_arrays(name):
    panel = a_panel(SAMPLE, STEP)
    fitted = ALL_METHODS[name].fit(panel, AHEAD)
    arrays = fitted.arrays()
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in arrays.values())
    again = ALL_METHODS[name].restore(arrays)
    origins = np.array([panel.n_steps])
    np.testing.assert_allclose(
        again.quantiles(panel, origins, AHEAD, LEVELS), fitted.quantiles(panel, origins, AHEAD, LEVELS), rtol=1e-5
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_panel_of_many_has_a_row_for_each_endpoint(name):
    rows = np.stack([SAMPLE, np.full(len(SAMPLE), np.nan), 3 * SAMPLE])
    quantiles = forecast(name, rows)
    assert quantiles.shape[0] == 3
    assert np.all(np.isnan(quantiles[1]))
    assert np.all(np.isfinite(quantiles[[0, 2]]))


@pytest.mark.parametrize("name", ["persistence", "moving_mean", "seasonal_naive_day", "profile", "climate_scaled"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.lists(
        st.one_of(st.just(float("nan")), st.floats(0, 1e6, allow_subnormal=False)), min_size=1, max_size=150
    )
)
def test_any_history_with_something_seen_gives_finite_quantiles(name, values):
    quantiles = forecast(name, np.array(values))
    if np.any(np.isfinite(values)):
        assert np.all(np.isfinite(quantiles))
        assert np.all(np.diff(quantiles, axis=-1) >= 0)
        assert np.all(quantiles >= 0)
    else:
        assert np.all(np.isnan(quantiles))
