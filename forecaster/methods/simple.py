"""The simple rules that any other method has to beat: each is a point, wrapped in its own past errors."""

from datetime import timedelta

import numpy as np

from forecaster.calendar import IntArray
from forecaster.methods.residual import last_seen, trailing_mean
from forecaster.panel import Panel
from forecaster.series import FloatArray

MOVING_MEAN_WINDOW = timedelta(hours=1)


def persistence(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
    """The last seen value stays."""
    return np.repeat(last_seen(panel, origins)[..., None], len(steps_ahead), axis=2)


def moving_mean(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
    """The mean of the last hour stays; without anything seen in it, the last seen value."""
    mean = trailing_mean(panel, origins, panel.steps(MOVING_MEAN_WINDOW))
    return np.repeat(np.where(np.isnan(mean), last_seen(panel, origins), mean)[..., None], len(steps_ahead), axis=2)


def seasonal_naive_day(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
    """What was seen at the same local time on the last day known; else the mean of the last hour."""
    return _seasonal_naive(panel, origins, steps_ahead, 1)


def seasonal_naive_week(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
    """What was seen at the same local time a week before; else a day before; else the mean of the last hour."""
    return _seasonal_naive(panel, origins, steps_ahead, 7)


def _seasonal_naive(panel: Panel, origins: IntArray, steps_ahead: IntArray, n_days: int) -> FloatArray:
    targets = origins[:, None] + steps_ahead
    points = np.full((panel.n_series, *targets.shape), np.nan)
    lags = [n_days, n_days * 2] if n_days == 1 else [n_days, n_days * 2, 1, 2]
    for lag in lags:
        source = panel.days_before(targets, lag)
        usable = (source >= 0) & (source < origins[:, None])
        seen = np.where(usable, panel.values[:, np.clip(source, 0, panel.n_steps - 1)], np.nan)
        points = np.where(np.isnan(points), seen, points)
    return np.where(np.isnan(points), moving_mean(panel, origins, steps_ahead), points)
