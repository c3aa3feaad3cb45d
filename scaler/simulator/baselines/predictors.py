"""One-step predictors of the Dynamo planner: constant, ARIMA, Kalman.

Source: ai-dynamo/dynamo components/planner (load predictors). Each sees the counts of past adjustment intervals,
leading zeros skipped, and names the next one.
"""

from collections.abc import Sequence

import numpy as np

from forecaster.series import FloatArray

WINDOW = 50
FEWEST_KALMAN_POINTS = 5
Q_LEVEL, Q_TREND, R = 1.0, 0.1, 10.0


def constant(counts: Sequence[float]) -> float:
    """The last value."""
    return counts[-1]


def arima(counts: Sequence[float]) -> float:
    """Non-seasonal ARIMA(p, d, 0), p <= 3, d <= 1, chosen by AIC; the last value with fewer than ten points or when the
    forecast is not finite.

    The original searches p, d, q by maximum likelihood (pmdarima.auto_arima), which takes a second per call;
    conditional least squares without moving-average terms takes microseconds and predicts one step about as well.
    """
    known = np.array(counts[-WINDOW:], dtype=np.float64)
    if len(known) < 10 or np.ptp(known) == 0:
        return float(known[-1])
    best, found = np.inf, float(known[-1])
    for differences in (0, 1):
        series = np.diff(known) if differences else known
        for order in range(4):
            aic, forecast = _autoregression(series, order)
            if aic < best and np.isfinite(forecast):
                best, found = aic, forecast + (float(known[-1]) if differences else 0.0)
    return max(0.0, found)


def _autoregression(series: FloatArray, order: int) -> tuple[float, float]:
    """(AIC, next value) of an autoregression with intercept, fitted on the points from the fourth on so that orders
    compare."""
    target = series[3:]
    lags = [series[3 - lag : len(series) - lag] for lag in range(1, order + 1)]
    design = np.column_stack([np.ones(len(target)), *lags])
    coefficients = np.linalg.lstsq(design, target, rcond=None)[0]
    rest = target - design @ coefficients
    variance = max(float(rest @ rest) / len(target), 1e-9)
    newest = np.concatenate([[1.0], series[::-1][:order]])
    return len(target) * float(np.log(variance)) + 2.0 * (order + 1), float(newest @ coefficients)


def kalman(counts: Sequence[float]) -> float:
    """Local linear trend (process noise 1.0 and 0.1, measurement noise 10), one step ahead; the last value with fewer
    than five points."""
    known = counts[-WINDOW:]
    if len(known) < FEWEST_KALMAN_POINTS:
        return float(known[-1])
    level, trend = float(known[0]), 0.0
    p11, p12, p22 = 1.0, 0.0, 1.0
    for seen in known[1:]:
        level += trend
        p11, p12, p22 = p11 + 2.0 * p12 + p22 + Q_LEVEL, p12 + p22, p22 + Q_TREND
        gain_level, gain_trend = p11 / (p11 + R), p12 / (p11 + R)
        surprise = seen - level
        level, trend = level + gain_level * surprise, trend + gain_trend * surprise
        p11, p12, p22 = (1.0 - gain_level) * p11, (1.0 - gain_level) * p12, p22 - gain_trend * p12
    return max(0.0, level + trend)
