"""Demand as every setting of the family sees it, for many steps at once.

Row t is what a turn at the start of step t knows: bins before t, and models fitted before t. Rows are made once, with
the models of their time, and never again: the replayed past holds no hindsight.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from forecaster.lead import LeadModel
from forecaster.leadfeatures import DAY_SECONDS, DemandTape, demand_now, lead_targets, trailing_max
from forecaster.series import FloatArray
from scaler.core import rule
from scaler.domain.setting import Source
from scaler.simulator.compiled import IntArray, medians_of_minutes
from scaler.simulator.selfreplay.family import (
    COLUMN_LEVELS,
    FACTORS,
    GUARDS,
    N_FORECAST_COLUMNS,
    RESIDUAL_LEVELS,
    SEASONAL_LEVELS,
    Family,
)

PEAK_SECONDS = rule.PEAK_WINDOW_MINUTES * 60
MEDIAN_SAMPLES = 60
"""Both dip medians are over sixty minutes of their window: every one of an hour, every fourth of four hours."""
N_BUCKETS = 4
MIN_BUCKET_ROWS = 200
RESIDUAL_DAYS = 14
BEFORE_DATA_FACTOR = 1.3
"""What stands in for a forecast that nothing is known for yet: demand now with this margin."""


@dataclass(frozen=True, eq=False)
class Residuals:
    """Past changes of sqrt demand to the lead: by level of demand now, and around the same time of earlier days.

    `edges` (N_BUCKETS - 1,) part sqrt demand now; `changes` (N_BUCKETS, n_levels); `seasonal` (n_levels,) against the
    earlier days' demand.
    """

    edges: FloatArray
    changes: FloatArray
    seasonal: FloatArray | None


def fit_residuals(tape: DemandTape, lead_steps: int) -> Residuals | None:
    """From the last RESIDUAL_DAYS of the tape; None if less than MIN_BUCKET_ROWS changes are known.

    The first bucket is idle demand, the others are terciles of what is above it, so that a start out of a pause is not
    averaged away among the steps of a busy hour.
    """
    first = max(0, len(tape) - tape.steps(RESIDUAL_DAYS * DAY_SECONDS))
    rows = np.arange(first, len(tape))
    now, target = np.sqrt(demand_now(tape, rows)), np.sqrt(lead_targets(tape, rows, lead_steps))
    changes = target - now
    known = np.isfinite(changes)
    if known.sum() < MIN_BUCKET_ROWS:
        return None
    above = now[known & (now > 0)]
    edges = np.concatenate([[0.0], np.quantile(above, [1 / 3, 2 / 3])]) if len(above) else np.zeros(N_BUCKETS - 1)
    bucket = np.searchsorted(edges, now)
    every = np.quantile(changes[known], RESIDUAL_LEVELS)
    by_bucket = np.tile(every, (N_BUCKETS, 1))
    for b in range(N_BUCKETS):
        own = changes[known & (bucket == b)]
        if len(own) >= MIN_BUCKET_ROWS:
            by_bucket[b] = np.quantile(own, RESIDUAL_LEVELS)
    against = target - np.sqrt(earlier_days(tape, rows, lead_steps))
    against = against[np.isfinite(against)]
    seasonal = np.quantile(against, SEASONAL_LEVELS) if len(against) >= MIN_BUCKET_ROWS else None
    return Residuals(edges=edges, changes=by_bucket, seasonal=seasonal)


def earlier_days(tape: DemandTape, rows: IntArray, lead_steps: int) -> FloatArray:
    """Mean of the ten minutes around the lead one day and one week ago, of those that were seen; NaN if neither."""
    width = tape.steps(600)
    around = [tape.mean(tape.days_before(rows + lead_steps, days) + width // 2, width) for days in (1, 7)]
    seen = np.isfinite(around)
    return np.where(seen.any(axis=0), np.where(seen, around, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1), np.nan)


@dataclass(frozen=True, eq=False)
class BaseRows:
    """What is made once per row: `ahead` (n_columns, n) not yet held, `now` (n,), `peaks` (2, n), `floors` (n_guards,
    n)."""

    now: FloatArray
    ahead: FloatArray
    peaks: FloatArray
    floors: FloatArray


def base_rows(
    tape: DemandTape, first: int, last: int, lead_steps: int, model: LeadModel | None, residuals: Residuals | None
) -> BaseRows:
    """The rows first..last-1. Where demand now is not known everything is NaN; what no model covers yet is reactive."""
    rows = np.arange(first, last)
    now = demand_now(tape, rows)
    ahead = np.empty((len(COLUMN_LEVELS), last - first))
    ahead[:N_FORECAST_COLUMNS] = BEFORE_DATA_FACTOR * now
    recent = demand_now(tape, np.arange(first - tape.steps(PEAK_SECONDS) + 1, last))
    lately = trailing_max(recent, tape.steps(PEAK_SECONDS))[-(last - first) :]
    peaks = np.stack([lately, lately])
    if model is not None:
        quantiles, soon = model.predict(tape, first, last)
        ahead[_rows_of(Source.LEAD_MODEL)] = quantiles.T
        peaks[0] = soon
    if residuals is not None:
        ahead[_rows_of(Source.RESIDUAL)] = _residual_rows(residuals, now)
        if residuals.seasonal is not None:
            ahead[_rows_of(Source.SEASONAL)] = _seasonal_rows(
                residuals.seasonal, now, earlier_days(tape, rows, lead_steps)
            )
    ahead[_rows_of(Source.REACTIVE)] = np.array(FACTORS)[:, None] * now
    ahead[:, np.isnan(now)] = np.nan
    return BaseRows(now=now, ahead=ahead, peaks=peaks, floors=_floors(tape, first, last, now))


def _rows_of(source: Source) -> slice:
    members = [i for i, (own, _) in enumerate(COLUMN_LEVELS) if own is source]
    return slice(members[0], members[-1] + 1)


def _residual_rows(residuals: Residuals, now: FloatArray) -> FloatArray:
    bucket = np.searchsorted(residuals.edges, np.sqrt(np.nan_to_num(now)))
    return np.maximum(np.sqrt(now) + residuals.changes[bucket].T, 0.0) ** 2


def _seasonal_rows(changes: FloatArray, now: FloatArray, earlier: FloatArray) -> FloatArray:
    """Earlier days plus their usual difference; demand now with a margin where no earlier day was seen."""
    ahead = np.maximum(np.sqrt(earlier) + changes[:, None], 0.0) ** 2
    return np.where(np.isnan(ahead), BEFORE_DATA_FACTOR * now, ahead)


def _floors(tape: DemandTape, first: int, last: int, now: FloatArray) -> FloatArray:
    """Per guard, what to plan for when demand fell far below its median over the guard's window; 0: nothing."""
    floors = np.zeros((len(GUARDS), last - first))
    for g, window in enumerate(GUARDS):
        if window == timedelta(0):
            continue
        stride = max(1, tape.steps(window.total_seconds() / MEDIAN_SAMPLES))
        begin = first - stride * MEDIAN_SAMPLES
        minutes = demand_now(tape, np.arange(begin, last))
        medians = medians_of_minutes(minutes, first - begin, last - begin, stride, MEDIAN_SAMPLES)
        dips = now < rule.DIP_FRACTION * medians
        floors[g, dips] = rule.DIP_RETURN_FACTOR * medians[dips]
    return floors


def held(ahead: FloatArray, family: Family, n_rows: int) -> FloatArray:
    """The last `n_rows` of `ahead` (n_columns, n) under each hold: (n_holds * n_columns, n_rows).

    A step that was not seen (NaN) holds nothing.
    """
    parts = [trailing_max(ahead[:, -(n_rows + steps - 1) :], steps)[:, -n_rows:] for steps in family.holds_steps]
    return np.concatenate(parts)
