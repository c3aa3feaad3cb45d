"""Calibration on line: whatever the model, the share of outcomes above a quantile becomes what it says.

Each lead and level has an offset theta, in units of the endpoint's scale, that is added to the published quantile. Whenever
an outcome becomes known the offset moves by

    theta <- theta + gamma * (1{y > published} - (1 - level))

(quantile tracking: Gibbs & Candes 2021; Angelopoulos, Candes & Tibshirani 2023). For any sequence of outcomes the share of
misses tends to 1 - level, at a rate of O(1 / (gamma T)). Outcomes at a tie count half, as the quantile of whole counts is a
tie by nature. A lead of a day is calibrated with outcomes a day late.
"""

from dataclasses import dataclass

import numpy as np

from forecaster.calendar import IntArray
from forecaster.series import FloatArray


@dataclass(frozen=True, kw_only=True)
class TrackingRule:
    """`rate` scales gamma, which is rate * the typical absolute error of the median on the tracking scale."""

    rate: float = 0.05
    limit: float = 3.0


def tracked_offsets(
    published: FloatArray,
    actual: FloatArray,
    made: IntArray,
    ended: IntArray,
    levels: FloatArray,
    rule: TrackingRule,
    when: IntArray,
) -> FloatArray:
    """The offset in force at each bin of `when`, (n_series, n_when, n_leads, n_levels); `when` holds all of `made`.

    `published` are the quantiles before the offset and `actual` (n_series, n_past, n_leads) the outcomes, both on the
    tracking scale; `ended` (n_past, n_leads) says from which bin on an outcome is known.
    """
    in_force = np.zeros((len(published), len(when), *published.shape[2:]))
    of_past = np.searchsorted(when, made)
    theta = np.zeros_like(published[:, 0])
    size = np.zeros(theta.shape[:2])
    weight = np.zeros(theta.shape[:2])
    n_known = np.zeros(theta.shape[1], dtype=np.int64)
    n_past, n_leads = ended.shape
    median = int(np.argmin(np.abs(levels - 0.5)))
    for i, now in enumerate(when):
        for k in range(n_leads):
            while n_known[k] < n_past and ended[n_known[k], k] <= now:
                j = n_known[k]
                n_known[k] += 1
                gap = actual[:, j, k, None] - published[:, j, k] - in_force[:, of_past[j], k]
                seen = np.isfinite(gap).all(axis=-1)
                error = np.abs(np.where(seen, gap[:, median], 0.0))
                weight[:, k] = np.where(seen, 0.98 * weight[:, k] + 1.0, weight[:, k])
                size[:, k] = np.where(seen, 0.98 * size[:, k] + error, size[:, k])
                gamma = rule.rate * (size[:, k] / np.maximum(weight[:, k], 1.0))[:, None]
                missed = np.where(np.abs(gap) < 1e-9, 1.0 - levels, (gap > 0).astype(np.float64))
                move = gamma * (missed - (1.0 - levels))
                theta[:, k] = np.where(seen[:, None], theta[:, k] + move, theta[:, k])
        in_force[:, i] = theta
    return in_force
