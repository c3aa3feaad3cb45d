"""How wide the pool's forecast is: its spread, stretched by what would lately have cost least.

The mean of many methods' quantiles is wider than it need be where they agree, and narrower where they err together.
Quantile tracking finds that out level by level, slowly; one factor for all levels is learnt from every outcome. Each
factor of a grid has the pinball loss that it would have had; the one applied is the mean over a prior around 1 that is
re-weighed by

    exp(-SHARPNESS * (loss / loss at factor 1 - 1))

with losses forgotten by HALF_LIFE and steadied by PRIOR_FORECASTS at no difference. All on the tracking scale.
"""

from datetime import timedelta

import numpy as np

from forecaster.calendar import IntArray
from forecaster.scoring import pinball
from forecaster.selection import known_losses
from forecaster.series import FloatArray

SHARPNESS = 10.0
HALF_LIFE = timedelta(days=4)
PRIOR_FORECASTS = 48.0
LOG_FACTORS = np.linspace(-0.7, 0.7, 15)
PRIOR = np.exp(-0.5 * (LOG_FACTORS / 0.25) ** 2)
NEUTRAL = len(LOG_FACTORS) // 2


def stretched(quantiles: FloatArray, levels: FloatArray, factors: FloatArray) -> FloatArray:
    """Quantiles (..., n_levels) with their distances from the median times `factors` (broadcast against (..., 1))."""
    median = quantiles[..., [int(np.argmin(np.abs(levels - 0.5)))]]
    return np.asarray(median + factors * (quantiles - median))


def stretch_losses(quantiles: FloatArray, actual: FloatArray, unit: FloatArray, levels: FloatArray) -> FloatArray:
    """The mean pinball loss at each factor of the grid, (n_series, n_past, n_leads, n_factors), in demand.

    `quantiles` (n_series, n_past, n_leads, n_levels) and `actual` (n_series, n_past, n_leads) on the tracking scale, on
    which demand = max(x, 0)**2 * unit; `unit` (n_series, n_past, 1, 1).
    """
    demand = actual**2 * unit[..., 0]
    losses = [
        pinball(demand, np.maximum(stretched(quantiles, levels, factor), 0.0) ** 2 * unit, levels).mean(axis=-1)
        for factor in np.exp(LOG_FACTORS)
    ]
    return np.stack(losses, axis=-1)


def stretch_factors(
    losses: FloatArray, made: IntArray, ended: IntArray, when: IntArray, bins_per_half_life: float
) -> FloatArray:
    """The factor in force at each bin of `when`, (n_series, n_when, n_leads, 1), from what was known by then."""
    count, total = known_losses(losses, made, ended, when, bins_per_half_life)
    known = count[..., [NEUTRAL]] > 0
    neutral = total[..., [NEUTRAL]] / np.where(known, count[..., [NEUTRAL]], 1.0)
    steadied = (total + PRIOR_FORECASTS * neutral) / (count + PRIOR_FORECASTS)
    told = known & (neutral > 0)
    ratio = np.where(told, steadied / np.where(told, neutral, 1.0), 1.0)
    weights = PRIOR * np.exp(-SHARPNESS * (ratio - 1.0))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.asarray(np.exp((weights * LOG_FACTORS).sum(axis=-1, keepdims=True)))
