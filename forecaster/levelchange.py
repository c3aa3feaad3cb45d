"""A new level of demand: seen within an hour, kept while it stays, believed as far as it was right to believe before.

A model fitted yesterday knows nothing of demand that is three times as high since an hour ago (a new model version, a
customer gained or lost). Told the past as if it had been at the new level, it does: a shifted season is a season again.
But half a burst looks the same. So what is told stands beside what is said plainly, weighed by how both did at earlier
changes of this endpoint's level.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import IntArray
from forecaster.methods.residual import trailing_mean
from forecaster.panel import Panel
from forecaster.series import FloatArray

HALF_HOUR, DAY = timedelta(minutes=30), timedelta(days=1)
USUAL_DAYS = 3  # the level of the last days: the same time on so many days before
CLEAR_CHANGE, CLEAR_NOISE = 1.6, 2.0
REMEMBERED = 8  # half hours for which a change that was plain is kept while it stays
LATELY = 4  # half hours that say whether it stays
STEADY_REQUESTS = 3.0
MOST_LOG_CHANGE = 2.3
WIDER, WIDER_REACH_HOURS = 0.3, 12.0
N_ROUNDS = 2  # where a change began depends on its size, and the other way round: the second round settles it


@dataclass(frozen=True, kw_only=True, eq=False)
class HalfHours:
    """Demand by the half hour, the newest first, ending at each origin, (n_series, n_origins, n_halves), NaN unseen.

    `demand` itself and `usual`, the mean at the same time on the days before, both steadied by a few requests;
    `deviation` is the difference of their logarithms (of the mean of logarithms); `beyond` how far it lies outside all
    of those days, above the highest or below the lowest; `unrest` the difference of the two days before.
    """

    demand: FloatArray
    usual: FloatArray
    deviation: FloatArray
    beyond: FloatArray
    unrest: FloatArray


def level_change(panel: Panel, origins: IntArray) -> tuple[FloatArray, IntArray]:
    """How far demand has left the level of the last days, and since which bin: both (n_series, n_origins).

    The factor is 1 where no change is plain. It is plain after an hour of which both halves lie CLEAR_CHANGE times
    beyond all of the three days before at that time, and together more than CLEAR_NOISE standard deviations of half
    hours from one day to the next; and for four hours from then on while half of it stays, on the mean of them all and
    of the last two hours. It began where a step between the two levels fits best (the maximum of the sum of deviations
    beyond half the step); the factor is demand since then over the usual demand of the same time.
    """
    per_day = panel.steps(DAY) // panel.steps(HALF_HOUR)
    halves = _half_hours(panel, origins, per_day + REMEMBERED)
    step = _plain_change(halves, per_day)
    plain = np.isfinite(step)
    deviation = halves.deviation[..., :per_day]
    seen = np.isfinite(deviation)
    n_since = np.ones(step.shape, dtype=np.int64)
    for _ in range(N_ROUNDS):
        sign, size = np.sign(step)[..., None], np.abs(step)[..., None]
        gained = np.where(seen & plain[..., None], sign * deviation - 0.5 * size, 0.0)
        n_since = np.cumsum(gained, axis=-1).argmax(axis=-1) + 1
        since = seen & (np.arange(per_day) < n_since[..., None])
        now = np.where(since, halves.demand[..., :per_day], 0.0).sum(axis=-1)
        usual = np.where(since, halves.usual[..., :per_day], 0.0).sum(axis=-1)
        known = plain & (now > 0) & (usual > 0)
        ratio = np.log(np.where(known, now, 1.0) / np.where(known, usual, 1.0))
        step = np.where(known, np.clip(ratio, -MOST_LOG_CHANGE, MOST_LOG_CHANGE), step)
    plain &= np.abs(step) > 0.5 * np.log(CLEAR_CHANGE)
    factor = np.where(plain, np.exp(np.where(plain, step, 0.0)), 1.0)
    return factor, origins - panel.steps(HALF_HOUR) * np.where(plain, n_since, 0)


def _half_hours(panel: Panel, origins: IntArray, n_halves: int) -> HalfHours:
    half = panel.steps(HALF_HOUR)
    ends = origins[:, None] - half * np.arange(n_halves)
    steady = STEADY_REQUESTS / (panel.step_seconds * half)
    demand, *earlier = (_means(panel, ends, days) + steady for days in range(USUAL_DAYS + 1))
    before = np.stack(earlier)
    logs = np.log(before)
    now = np.log(demand)
    return HalfHours(
        demand=demand,
        usual=before.mean(axis=0),
        deviation=now - logs.mean(axis=0),
        beyond=np.maximum(now - logs.max(axis=0), logs.min(axis=0) - now),
        unrest=logs[0] - logs[1],
    )


def _means(panel: Panel, ends: IntArray, days_ago: int) -> FloatArray:
    """Mean demand of the half hour before each end so many days ago, (n_series, *ends.shape); NaN where nothing was
    seen."""
    half = panel.steps(HALF_HOUR)
    then = panel.days_before(ends, days_ago) if days_ago else ends
    mean = trailing_mean(panel, np.maximum(then, 1).ravel(), half).reshape(panel.n_series, *ends.shape)
    return np.where(then >= half, mean, np.nan)


def _plain_change(halves: HalfHours, per_day: int) -> FloatArray:
    """The logarithm of the newest change that was plain and stays, NaN without one, (n_series, n_origins)."""
    before = np.arange(REMEMBERED)
    deviation = np.nan_to_num(halves.deviation)
    hour = 0.5 * (deviation[..., :REMEMBERED] + deviation[..., 1 : REMEMBERED + 1])
    clear = halves.beyond > np.log(CLEAR_CHANGE)
    noise = np.stack([_spread(halves.unrest[..., i : i + per_day]) for i in before], axis=-1)
    plain = clear[..., :REMEMBERED] & clear[..., 1 : REMEMBERED + 1] & (np.abs(hour) > CLEAR_NOISE * noise)
    since = np.cumsum(deviation[..., :REMEMBERED], axis=-1)
    mean_since = np.concatenate([hour[..., :1], since[..., :-1] / before[1:]], axis=-1)
    lately = np.where(before < LATELY, mean_since, mean_since[..., [LATELY]])
    stays = plain & (np.minimum(mean_since * np.sign(hour), lately * np.sign(hour)) >= 0.5 * np.abs(hour))
    newest = np.take_along_axis(hour, stays.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return np.where(stays.any(axis=-1), newest, np.nan)


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


def wider_above(quantiles: FloatArray, levels: FloatArray, changed: NDArray[np.bool_], hours: FloatArray) -> FloatArray:
    """Quantiles above the median farther from it where demand has `changed`, by WIDER of the distance, the less the
    longer the lead.

    `quantiles` (n_series, n_origins, n_leads, n_levels), `changed` (n_series, n_origins), `hours` (n_leads,) to the
    target. Nobody knows yet how far the new level goes, and too few replicas cost more than too many.
    """
    median = quantiles[..., [int(np.argmin(np.abs(levels - 0.5)))]]
    share = np.where(changed[..., None], WIDER * np.exp(-hours / WIDER_REACH_HOURS), 0.0)[..., None]
    return np.asarray(quantiles + share * np.maximum(quantiles - median, 0.0))
