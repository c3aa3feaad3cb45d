"""Quantiles for rules that give a point: the empirical quantiles of their own past errors.

Model-based intervals of exponential smoothing and Theta are far off on telemetry (on BOOM, AutoETS scores a CRPS of
1.98 times seasonal naive at a MASE of 0.84); errors that were really made are not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from forecaster.calendar import IntArray
from forecaster.methods.base import LearnsNothing
from forecaster.methods.means import PastMeans
from forecaster.panel import Panel
from forecaster.series import FloatArray

PointRule = Callable[[Panel, IntArray, IntArray], FloatArray]
"""(panel, origins, steps_ahead) -> points (n_series, n_origins, n_ahead), from bins before each origin only; NaN =
none."""

# Errors are measured at these leads and interpolated between, so that a day at one minute costs sixteen leads, not
# 1440.
LEAD_GRID_SECONDS = (
    0,
    60,
    180,
    300,
    600,
    1200,
    1800,
    3600,
    7200,
    14_400,
    21_600,
    43_200,
    64_800,
    86_400,
    172_800,
    604_800,
)
CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class ErrorWindow:
    """Which past errors count: those of origins every `stride` within `span` before the origin.

    With `relative`, errors are measured in units of the square root of (point + typical demand), so that they widen
    with the level as demand does.
    """

    span: timedelta = timedelta(days=7)
    stride: timedelta = timedelta(minutes=10)
    relative: bool = False


@dataclass(frozen=True)
class ResidualMethod(LearnsNothing):
    """A point rule wrapped in the empirical quantiles of its own rolling errors. Nothing is learnt beforehand."""

    name: str
    rule: PointRule
    window: ErrorWindow = field(default_factory=ErrorWindow)

    def quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        rows_at_once = max(CELLS_AT_ONCE // max(len(origins) * len(steps_ahead) * len(levels), panel.n_steps), 1)
        out = np.empty((panel.n_series, len(origins), len(steps_ahead), len(levels)))
        for first in range(0, panel.n_series, rows_at_once):
            some = slice(first, first + rows_at_once)
            part = panel if rows_at_once >= panel.n_series else _rows(panel, some)
            out[some] = self._quantiles(part, origins, steps_ahead, levels)
        return out

    def _quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        points = self.rule(panel, origins, steps_ahead)
        grid = lead_grid(panel, steps_ahead)
        errors = self._error_quantiles(panel, origins, grid, levels)
        if len(grid) != len(steps_ahead) or np.any(grid != steps_ahead):
            errors = interpolate_leads(errors, grid, steps_ahead)
        if self.window.relative:
            errors *= np.sqrt(points + typical_demand(panel, origins)[..., None])[..., None]
        errors += points[..., None]
        return np.maximum(errors, 0.0, out=errors)

    def _error_quantiles(self, panel: Panel, origins: IntArray, grid: IntArray, levels: FloatArray) -> FloatArray:
        """Quantiles of the past errors of each lead, (n_series, n_origins, n_grid, n_levels), 0 where none is known."""
        stride, span = panel.steps(self.window.stride), panel.steps(self.window.span)
        oldest = max(int(origins.min()) - span - int(grid.max()), 1)
        past = np.arange(-(-oldest // stride) * stride, int(origins.max()) + 1, stride)
        out = np.full((panel.n_series, len(origins), len(grid), len(levels)), np.nan)
        if len(past) == 0:
            return np.zeros_like(out)
        errors = self._errors(panel, past, grid)
        for k, lead in enumerate(grid):
            for i, origin in enumerate(origins):
                first = np.searchsorted(past, origin - lead - span)
                last = np.searchsorted(past, origin - lead)  # the target bin past + lead ended by the origin
                if last - first > 0:
                    out[:, i, k] = quantiles_of(errors[:, first:last, k], levels)
        return _filled_leads(out, grid)

    def _errors(self, panel: Panel, past: IntArray, grid: IntArray) -> FloatArray:
        points = self.rule(panel, past, grid)
        targets = past[:, None] + grid
        known = targets < panel.n_steps
        actual = np.where(known, panel.values[:, np.minimum(targets, panel.n_steps - 1)], np.nan)
        errors = actual - points
        if self.window.relative:
            errors /= np.sqrt(points + typical_demand(panel, past)[..., None])
        return np.asarray(errors)


def typical_demand(panel: Panel, origins: IntArray) -> FloatArray:
    """The mean demand of the seven days before each origin plus one unit per bin, shape (n_series, n_origins), > 0."""
    return trailing_mean(panel, origins, panel.steps(timedelta(days=7))) + 1.0 / panel.step_seconds


def trailing_mean(panel: Panel, origins: IntArray, width: int) -> FloatArray:
    """Mean of the seen values among the `width` bins before each origin, (n_series, n_origins); NaN if none was
    seen."""
    means = PastMeans(panel, max(int(origins.min()) - width, 0), int(origins.max()))
    return means.between(origins - width, origins)


def last_seen(panel: Panel, origins: IntArray) -> FloatArray:
    """The last seen value before each origin, shape (n_series, n_origins); NaN if nothing was seen."""
    seen = ~np.isnan(panel.values[:, : int(origins.max())])
    index = np.where(seen, np.arange(seen.shape[1]), -1)
    latest = np.maximum.accumulate(index, axis=1)
    at = latest[:, np.maximum(origins - 1, 0)]
    rows = np.arange(panel.n_series)[:, None]
    return np.where((at >= 0) & (origins > 0), panel.values[rows, np.maximum(at, 0)], np.nan)


def quantiles_of(sample: FloatArray, levels: FloatArray) -> FloatArray:
    """Empirical quantiles along axis 1 of (n_series, n_errors), NaN left out: (n_series, n_levels).

    The plotting position is (i - 1/2) / n: with n errors the levels below 1/2n and above 1 - 1/2n take the extremes.
    """
    ordered = np.sort(sample, axis=1)  # NaN last
    n_seen = (~np.isnan(ordered)).sum(axis=1, keepdims=True)
    position = np.clip(n_seen * levels - 0.5, 0.0, np.maximum(n_seen - 1, 0))
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(n_seen - 1, 0))
    below, above = np.take_along_axis(ordered, low, axis=1), np.take_along_axis(ordered, high, axis=1)
    return np.where(n_seen > 0, below + (position - low) * (above - below), np.nan)


def lead_grid(panel: Panel, steps_ahead: IntArray) -> IntArray:
    """The leads (steps) at which errors are measured: all of them if few, else the grid up to the last asked for."""
    if len(steps_ahead) <= len(LEAD_GRID_SECONDS):
        return np.unique(steps_ahead)
    grid = np.unique(np.round(np.array(LEAD_GRID_SECONDS) / panel.step_seconds).astype(np.int64))
    last = int(steps_ahead.max())
    return np.unique(np.concatenate([grid[grid < last], [int(steps_ahead.min()), last]]))


def interpolate_leads(values: FloatArray, grid: IntArray, steps_ahead: IntArray) -> FloatArray:
    """`values` (n_series, n_origins, n_grid, n_levels) linear in log(1 + lead) at `steps_ahead`."""
    x, at = np.log1p(grid.astype(np.float64)), np.log1p(steps_ahead.astype(np.float64))
    right = np.clip(np.searchsorted(x, at), 1, max(len(x) - 1, 1))
    if len(x) == 1:
        return np.repeat(values, len(at), axis=2)
    share = np.clip((at - x[right - 1]) / (x[right] - x[right - 1]), 0.0, 1.0)[:, None]
    return np.asarray(values[:, :, right - 1] * (1.0 - share) + values[:, :, right] * share)


def _filled_leads(quantiles: FloatArray, grid: IntArray) -> FloatArray:
    """Leads without a known error take those of the next shorter lead, widened like a random walk; 0 if there is
    none."""
    for k in range(1, len(grid)):
        missing = np.isnan(quantiles[:, :, k])
        widened = quantiles[:, :, k - 1] * np.sqrt((grid[k] + 1.0) / (grid[k - 1] + 1.0))
        quantiles[:, :, k] = np.where(missing, widened, quantiles[:, :, k])
    for k in range(len(grid) - 2, -1, -1):
        missing = np.isnan(quantiles[:, :, k])
        quantiles[:, :, k] = np.where(missing, quantiles[:, :, k + 1], quantiles[:, :, k])
    return np.asarray(np.nan_to_num(quantiles))


def _rows(panel: Panel, some: slice) -> Panel:
    return Panel(
        keys=panel.keys[some],
        start=panel.start,
        step=panel.step,
        values=panel.values[some],
        calendar=panel.calendar,
    )
