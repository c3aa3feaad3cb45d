"""Calibration on line: whatever the model, the share of outcomes above a quantile becomes what it says.

Each lead and level has an offset theta, in units of the forecast's own spread on the root scale, that is added to the
quantile. Whenever an outcome becomes known the offset moves by

    theta <- theta + gamma * (1{y > published} - (1 - level))

(quantile tracking: Gibbs & Candes 2021; Angelopoulos, Candes & Tibshirani 2023). For any sequence of outcomes the
share of misses tends to 1 - level, at a rate of O(1 / (gamma T)). A lead of a day is calibrated with outcomes a day
late.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import IntArray
from forecaster.series import FloatArray


@dataclass(frozen=True, kw_only=True)
class TrackingRule:
    """gamma, in units of the forecast's own spread; `alarmed_rate` while demand has left its regime.

    Outcomes of long leads that overlap tell much the same: beyond two strides of the ledger gamma shrinks with
    (2 strides / lead) ** slowing, or a bad day would be answered by a day of quantiles that are far off the other way.
    """

    rate: float = 0.015
    alarmed_rate: float = 0.03
    slowing: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """Past forecasts on the tracking scale, on which demand = max(x, 0)**2 * unit.

    `quantiles` (n_series, n_past, n_leads, n_levels) before any offset, `actual` (n_series, n_past, n_leads), NaN
    where not seen; `unit` (n_series, n_past, 1, 1); `made` (n_past,) the bins of issue and `ended` (n_past, n_leads)
    the first bin at which the outcome is known. `lattice` (n_series,) is the demand of one whole request per bin for
    series that come in whole requests, NaN for others: a quantile is then published to the nearest whole one.
    """

    quantiles: FloatArray
    actual: FloatArray
    unit: FloatArray
    made: IntArray
    ended: IntArray
    lattice: FloatArray


@dataclass(frozen=True, kw_only=True)
class AlarmRule:
    """A bet against the forecast: the stake grows by 1 + bet * (1{outside} - probability) with each outcome at the
    shortest lead, and never falls below 1. If quantiles are right it rarely exceeds `threshold` (an e-process: Ville's
    inequality); three outcomes in a row above the .95 quantile do. An alarm lasts `lasting_bins`."""

    upper_level: float = 0.95
    lower_level: float = 0.1
    upper_bet: float = 5.0
    lower_bet: float = 3.0
    threshold: float = 100.0


def alarmed(
    past: Published, levels: FloatArray, rule: AlarmRule, when: IntArray, lasting_bins: int, lead_bins: int
) -> NDArray[np.bool_]:
    """Whether an alarm is on at each bin of `when`: demand has left its regime (a level shift, a new model version),
    (n_series, n_when)."""
    out = np.zeros((len(past.actual), len(when)), dtype=np.bool_)
    if len(past.made) == 0:
        return out
    # The shortest leads follow any level at once and never lose their bets; longer ones tell late.
    ahead = past.ended[0] - past.made[0]
    lead = int(np.argmin(np.abs(np.log(ahead / lead_bins))))
    high = int(np.argmin(np.abs(levels - rule.upper_level)))
    low = int(np.argmin(np.abs(levels - rule.lower_level)))
    demand = on_lattice(np.maximum(past.quantiles[:, :, lead], 0.0) ** 2 * past.unit[:, :, 0], past.lattice)
    actual = past.actual[:, :, lead] ** 2 * past.unit[:, :, 0, 0]
    above = (actual > demand[..., high]).astype(np.float64) - (1.0 - levels[high])
    below = (actual < demand[..., low]).astype(np.float64) - levels[low]
    seen = np.isfinite(actual) & np.isfinite(demand[..., high])
    stakes = np.ones((2, len(actual)))
    since = np.full(len(actual), -np.inf)
    n_known, n_past = 0, len(past.made)
    for i, now in enumerate(when):
        while n_known < n_past and past.ended[n_known, lead] <= now:
            j = n_known
            n_known += 1
            grown = stakes * np.stack([1.0 + rule.upper_bet * above[:, j], 1.0 + rule.lower_bet * below[:, j]])
            stakes = np.where(seen[:, j], np.maximum(grown, 1.0), stakes)
            lost = (stakes > rule.threshold).any(axis=0)
            since = np.where(lost, past.ended[j, lead], since)
            stakes = np.where(lost, 1.0, stakes)
        out[:, i] = now - since <= lasting_bins
    return out


def tracked_offsets(
    past: Published,
    levels: FloatArray,
    rule: TrackingRule,
    when: IntArray,
    alarms: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """The offset in force at each bin of `when`, (n_series, n_when, n_leads, n_levels); `when` holds all of past.made.

    While an alarm (n_series, n_when) is on, offsets move at alarmed_rate.
    """
    n_series, n_past, n_leads, n_levels = past.quantiles.shape
    in_force = np.zeros((n_series, len(when), n_leads, n_levels))
    if n_past == 0:
        return in_force
    of_past = np.searchsorted(when, past.made)
    width = spread(past.quantiles, levels)
    theta = np.zeros((n_series, n_leads, n_levels))
    n_known = np.zeros(n_leads, dtype=np.int64)
    stride = float(np.median(np.diff(past.made))) if n_past > 1 else 1.0
    slower = np.minimum(2.0 * stride / (past.ended[0] - past.made[0]), 1.0) ** rule.slowing
    for i, now in enumerate(when):
        rate = rule.rate if alarms is None else np.where(alarms[:, i], rule.alarmed_rate, rule.rate)[:, None, None]
        while True:
            j = np.minimum(n_known, n_past - 1)
            k = np.flatnonzero((n_known < n_past) & (past.ended[j, np.arange(n_leads)] <= now))
            if len(k) == 0:
                break
            j = j[k]
            n_known[k] += 1
            raw = past.quantiles[:, j, k] + in_force[:, of_past[j], k] * width[:, j, k]
            actual = past.actual[:, j, k]
            seen = np.isfinite(actual) & np.isfinite(raw).all(axis=-1)
            missed = _is_above(actual, raw, past.unit[:, j, 0], past.lattice)
            move = rate * slower[k, None] * (missed - (1.0 - levels))
            # Below zero demand there is nothing to gain: without this the offset would run away while endpoints idle.
            move = np.where((move < 0) & (raw <= 0), 0.0, move)
            theta[:, k] += np.where(seen[..., None], move, 0.0)
        in_force[:, i] = theta
    return in_force


def spread(quantiles: FloatArray, levels: FloatArray) -> FloatArray:
    """The unit of offsets: the distance of the .1 and .95 quantiles on the tracking scale, (..., 1). Where a forecast
    is certain (idle) it is 0 and so is the correction."""
    low, high = int(np.argmin(np.abs(levels - 0.1))), int(np.argmin(np.abs(levels - 0.95)))
    return np.maximum(quantiles[..., high, None] - quantiles[..., low, None], 0.0)


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
