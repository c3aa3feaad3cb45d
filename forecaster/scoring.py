"""How good a quantile forecast was. NaN actuals (not seen) never count."""

from dataclasses import dataclass

import numpy as np

from forecaster.series import FloatArray


def pinball(actual: FloatArray, quantiles: FloatArray, levels: FloatArray) -> FloatArray:
    """The pinball loss of each quantile, shape of `quantiles`, which is that of `actual` plus (n_levels,).

    max(tau * (y - q), (tau - 1) * (y - q)) (Koenker & Bassett 1978): for tau = .9, y = 10, q = 8 it is 1.8;
    for q = 12 it is 0.2. NaN where the actual is NaN.
    """
    error = actual[..., None] - quantiles
    return np.maximum(levels * error, (levels - 1.0) * error)


def wql(actual: FloatArray, quantiles: FloatArray, levels: FloatArray) -> float:
    """Weighted quantile loss: mean over levels of 2 * sum(pinball) / sum(|actual|). NaN without any demand."""
    total = float(np.nansum(np.abs(actual)))
    if total == 0.0:
        return float("nan")
    losses = pinball(actual, quantiles, levels)
    return float(2.0 * np.nansum(losses) / total / len(levels))


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often demand stayed at or below the quantile of `level`.

    Demand that comes in whole requests has ties: of a correct quantile, P(y < q) <= level <= P(y <= q). So the share is
    an interval [`below`, `at_most`] and `deviation` is the signed distance of the level from it (0 inside; negative:
    demand exceeded the quantile too often). `band` is the half width of the central 95 % of a binomial share with
    `n_seen` independent trials; forecasts that overlap in time are not independent, so it is the least uncertainty.
    """

    level: float
    below: float
    at_most: float
    n_seen: int

    @property
    def deviation(self) -> float:
        return min(self.at_most - self.level, 0.0) + max(self.below - self.level, 0.0)

    @property
    def band(self) -> float:
        return float(1.96 * np.sqrt(self.level * (1 - self.level) / self.n_seen)) if self.n_seen else float("nan")


def coverage(actual: FloatArray, quantile: FloatArray, level: float) -> Coverage:
    """The coverage of one quantile over all seen actuals; shares are NaN if none was seen."""
    seen = np.isfinite(actual) & np.isfinite(quantile)
    n_seen = int(seen.sum())
    if n_seen == 0:
        return Coverage(level=level, below=float("nan"), at_most=float("nan"), n_seen=0)
    # A quantile a rounding error below a whole count is that count.
    tolerance = 1e-9 * np.maximum(np.abs(actual[seen]), 1e-12)
    gap = actual[seen] - quantile[seen]
    return Coverage(
        level=level,
        below=float(np.mean(gap < -tolerance)),
        at_most=float(np.mean(gap <= tolerance)),
        n_seen=n_seen,
    )


def pit(actual: FloatArray, quantiles: FloatArray, levels: FloatArray) -> FloatArray:
    """Probability integral transform: the level at which each actual lies, linear between levels, shape of `actual`.

    Below the lowest quantile the level is interpolated to 0 at demand 0; above the highest it is set half way to 1. At
    a tie (several quantiles equal to the actual) the middle of the tied levels is taken. NaN stays NaN.
    """
    flat_y = actual.reshape(-1)
    flat_q = quantiles.reshape(len(flat_y), len(levels))
    padded_levels = np.concatenate([[0.0], levels])
    padded = np.concatenate([np.zeros((len(flat_y), 1)), flat_q], axis=1)
    lowest = (padded < flat_y[:, None]).sum(axis=1)
    highest = (padded <= flat_y[:, None]).sum(axis=1)
    rows = np.arange(len(flat_y))
    left, right = np.maximum(lowest - 1, 0), np.minimum(lowest, len(levels))
    width = padded[rows, right] - padded[rows, left]
    share = np.where(width > 0, (flat_y - padded[rows, left]) / np.where(width > 0, width, 1.0), 0.0)
    between = padded_levels[left] + share * (padded_levels[right] - padded_levels[left])
    tied = 0.5 * (padded_levels[np.minimum(lowest, len(levels))] + padded_levels[np.maximum(highest - 1, 0)])
    result = np.where(highest > lowest, tied, between)
    result = np.where(lowest > len(levels), 0.5 * (1.0 + levels[-1]), result)
    return np.where(np.isfinite(flat_y), result, np.nan).reshape(actual.shape)


def mase(actual: FloatArray, median: FloatArray, history: FloatArray, season_steps: int) -> float:
    """Mean absolute error of the median over that of the seasonal naive on `history` (Hyndman & Koehler 2006).

    NaN if the history has no seen pair one season apart or the naive made no error.
    """
    if len(history) <= season_steps:
        return float("nan")
    errors = np.abs(history[season_steps:] - history[:-season_steps])
    if not np.any(np.isfinite(errors)):
        return float("nan")
    naive = float(np.nanmean(errors))
    missed = np.abs(actual - median)
    return float(np.nanmean(missed)) / naive if naive > 0 and np.any(np.isfinite(missed)) else float("nan")


@dataclass(frozen=True, kw_only=True)
class DecisionLoss:
    """What it would have cost to hold capacity at a quantile: replica-hours, and demand above it (units)."""

    replica_hours: float
    missed_demand: float


def decision_loss(
    actual: FloatArray, quantile: FloatArray, *, demand_per_replica: float, step_seconds: float, is_rate: bool = True
) -> DecisionLoss:
    """The cost of ceil(quantile / demand_per_replica) replicas in each bin, over the bins that were seen."""
    if not demand_per_replica > 0:
        raise ValueError(f"demand_per_replica: need > 0, have {demand_per_replica}")
    seen = np.isfinite(actual) & np.isfinite(quantile)
    replicas = np.ceil(quantile[seen] / demand_per_replica - 1e-9)
    missed = np.maximum(actual[seen] - replicas * demand_per_replica, 0.0)
    return DecisionLoss(
        replica_hours=float(replicas.sum() * step_seconds / 3600.0),
        missed_demand=float(missed.sum() * (step_seconds if is_rate else 1.0)),
    )
