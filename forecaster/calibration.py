"""Calibration on line: whatever the model, the share of outcomes above a quantile becomes what it says.

Each lead and level has an offset theta, in units of the endpoint's scale, that is added to the published quantile. Whenever
an outcome becomes known the offset moves by

    theta <- theta + gamma * (1{y > published} - (1 - level))

(quantile tracking: Gibbs & Candes 2021; Angelopoulos, Candes & Tibshirani 2023). For any sequence of outcomes the share of
misses tends to 1 - level, at a rate of O(1 / (gamma T)). A lead of a day is calibrated with outcomes a day late.
"""

from dataclasses import dataclass

import numpy as np

from forecaster.calendar import IntArray
from forecaster.series import FloatArray


@dataclass(frozen=True, kw_only=True)
class TrackingRule:
    """`rate` times the typical absolute error of the median (on the tracking scale) is gamma."""

    rate: float = 0.05
    memory: float = 0.98


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """Past forecasts on the tracking scale, on which demand = max(x, 0)**2 * unit.

    `quantiles` (n_series, n_past, n_leads, n_levels) before any offset, `actual` (n_series, n_past, n_leads), NaN where not
    seen; `unit` (n_series, n_past, 1, 1); `made` (n_past,) the bins of issue and `ended` (n_past, n_leads) the first bin at
    which the outcome is known. `lattice` (n_series,) is the demand of one whole request per bin for series that come in
    whole requests, NaN for others: a quantile is then published to the nearest whole one.
    """

    quantiles: FloatArray
    actual: FloatArray
    unit: FloatArray
    made: IntArray
    ended: IntArray
    lattice: FloatArray


def tracked_offsets(past: Published, levels: FloatArray, rule: TrackingRule, when: IntArray) -> FloatArray:
    """The offset in force at each bin of `when`, (n_series, n_when, n_leads, n_levels); `when` holds all of past.made."""
    n_series, n_past, n_leads, n_levels = past.quantiles.shape
    in_force = np.zeros((n_series, len(when), n_leads, n_levels))
    of_past = np.searchsorted(when, past.made)
    theta = np.zeros((n_series, n_leads, n_levels))
    size, weight = np.zeros((n_series, n_leads)), np.zeros((n_series, n_leads))
    n_known = np.zeros(n_leads, dtype=np.int64)
    middle = int(np.argmin(np.abs(levels - 0.5)))
    for i, now in enumerate(when):
        while True:
            j = np.minimum(n_known, n_past - 1)
            k = np.flatnonzero((n_known < n_past) & (past.ended[j, np.arange(n_leads)] <= now))
            if len(k) == 0:
                break
            j = j[k]
            n_known[k] += 1
            raw = past.quantiles[:, j, k] + in_force[:, of_past[j], k]
            actual = past.actual[:, j, k]
            seen = np.isfinite(actual) & np.isfinite(raw).all(axis=-1)
            error = np.abs(np.where(seen, actual - raw[..., middle], 0.0))
            weight[:, k] = np.where(seen, rule.memory * weight[:, k] + 1.0, weight[:, k])
            size[:, k] = np.where(seen, rule.memory * size[:, k] + error, size[:, k])
            gamma = rule.rate * (size[:, k] / np.maximum(weight[:, k], 1.0))[..., None]
            missed = _is_above(actual, raw, past.unit[:, j, 0], past.lattice)
            move = gamma * (missed - (1.0 - levels))
            # Below zero demand there is nothing to gain: without this the offset would run away while endpoints idle.
            move = np.where((move < 0) & (raw <= 0), 0.0, move)
            theta[:, k] += np.where(seen[..., None], move, 0.0)
        in_force[:, i] = theta
    return in_force


def on_lattice(demand: FloatArray, lattice: FloatArray) -> FloatArray:
    """Quantiles (n_series, ...) to the nearest whole request where a series comes in whole ones, else as they are.

    The pinball loss of a demand that comes in whole requests is least at a whole one.
    """
    one = lattice.reshape(-1, *[1] * (demand.ndim - 1))
    return np.where(np.isnan(one), demand, np.rint(demand / np.where(np.isnan(one), 1.0, one)) * np.nan_to_num(one))


def _is_above(actual: FloatArray, raw: FloatArray, unit: FloatArray, lattice: FloatArray) -> FloatArray:
    """1 where the outcome is above the published quantile, (n_series, n_leads, n_levels)."""
    said = on_lattice(np.maximum(raw, 0.0) ** 2 * unit, lattice)
    came = np.maximum(actual, 0.0)[..., None] ** 2 * unit
    return (came > said * (1.0 + 1e-9) + 1e-12).astype(np.float64)
