"""A new level of demand: seen within an hour, and believed as far as it was right to believe it before.

A model fitted yesterday knows nothing of demand that is three times as high since an hour ago (a new model version, a
customer gained or lost). Told the past as if it had been at the new level, it does: a shifted season is a season again.
But half a burst looks the same. So what is told stands beside what is said plainly, weighed by how both did at earlier
changes of this endpoint's level.
"""

from datetime import timedelta

import numpy as np

from forecaster.calendar import IntArray
from forecaster.methods.residual import trailing_mean
from forecaster.panel import Panel
from forecaster.series import FloatArray

CLEAR_CHANGE, CLEAR_NOISE = 1.6, 2.0


def level_change(panel: Panel, origins: IntArray) -> tuple[FloatArray, IntArray]:
    """How far demand has left the level of the last days, and since which bin: both (n_series, n_origins).

    The factor is demand of the last hour over the same time on the three days before (mean of logarithms), and 1 unless
    the change is plain: every half hour since then CLEAR_CHANGE times beyond the highest (or lowest) of the three days,
    and the factor beyond CLEAR_NOISE times the usual spread of half hours from one day to the next.
    """
    half, day = panel.steps(timedelta(minutes=30)), panel.steps(timedelta(days=1))
    ends = origins[:, None] - half * np.arange(day // half)
    now, earlier = _half_hours(panel, ends, 0), np.stack([_half_hours(panel, ends, lag) for lag in (1, 2, 3)])
    beyond_highest, below_lowest = now - earlier.max(axis=0), earlier.min(axis=0) - now
    noise = _spread(earlier[0] - earlier[1])
    change = (now - earlier.mean(axis=0))[:, :, :2].mean(axis=2)
    gap = np.where((change > 0)[..., None], beyond_highest, below_lowest)
    n_since = np.cumprod(gap > np.log(CLEAR_CHANGE), axis=2).sum(axis=2)
    plain = (n_since >= 2) & (np.abs(change) > CLEAR_NOISE * noise)
    factor = np.where(plain, np.exp(np.clip(change, -2.3, 2.3)), 1.0)
    return factor, origins - half * np.where(plain, n_since, 0)


def _half_hours(panel: Panel, ends: IntArray, days_ago: int) -> FloatArray:
    """The logarithm of demand of the half hour before each end so many days ago, steadied by a few requests; NaN where
    nothing was seen, (n_series, *ends.shape)."""
    half = panel.steps(timedelta(minutes=30))
    then = panel.days_before(ends, days_ago) if days_ago else ends
    mean = trailing_mean(panel, np.maximum(then, 1).ravel(), half).reshape(panel.n_series, *ends.shape)
    steady = 3.0 / (panel.step_seconds * half)
    return np.where(then >= half, np.log(mean + steady), np.nan)


def _spread(changes: FloatArray) -> FloatArray:
    """Standard deviation of what was seen along the last axis; infinite where nothing was."""
    seen = np.isfinite(changes)
    n_seen = np.maximum(seen.sum(axis=-1), 1)
    mean = np.where(seen, changes, 0.0).sum(axis=-1) / n_seen
    squares = np.where(seen, (changes - mean[..., None]) ** 2, 0.0).sum(axis=-1)
    return np.where(seen.any(axis=-1), np.sqrt(squares / n_seen), np.inf)


def believing(plain: FloatArray, told: FloatArray, trust: FloatArray) -> FloatArray:
    """`trust` of what is told at a new level and the rest of what is said plainly; plain where nothing is told."""
    return np.where(np.isfinite(told), (1.0 - trust) * plain + trust * np.nan_to_num(told), plain)
