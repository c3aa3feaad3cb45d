"""What is known at an origin about a target, in units of the endpoint's own scale: the input of learnt methods.

Everything but the scale itself is divided by it, so that endpoints of all sizes share one model. `scale` is the mean
of the last day, at least a tenth of the mean of the last week, plus a fraction of one unit per bin.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from forecaster.calendar import DAY_SECONDS, IntArray
from forecaster.methods.days import days_from_here
from forecaster.methods.means import PastMeans
from forecaster.methods.residual import last_seen
from forecaster.panel import Panel
from forecaster.series import FloatArray

MEANS_MINUTES = (5, 10, 20, 30, 60, 120, 240, 480, 1440)
SLICES_MINUTES = ((20, 10), (30, 20), (60, 30), (120, 60), (240, 180))  # means between a and b minutes ago
SEASON_DAYS = (1, 2, 7)
EXTREMES_MINUTES = 120
UNSEEN = -1.0  # trees split it off; demand is never negative
LEAST_UNITS_PER_BIN = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """`features` (n_series, n_origins, n_ahead, n_features), float32, UNSEEN where unknown; `last` and `scale`
    (n_series, n_origins), in demand units, NaN where nothing was seen; `profile` (n_series, n_origins, n_ahead)."""

    features: np.ndarray
    last: FloatArray
    scale: FloatArray
    profile: FloatArray


def known_at(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> Known:
    """What is known at each origin about each target; nothing at or after an origin is read."""
    means = PastMeans(panel)
    day = means.between(origins - _steps(panel, 1440), origins)
    week = means.between(origins - _steps(panel, 7 * 1440), origins)
    scale = np.maximum(np.nan_to_num(day), 0.1 * np.nan_to_num(week)) + LEAST_UNITS_PER_BIN / panel.step_seconds
    last = last_seen(panel, origins)
    profile = days_from_here(panel, origins, steps_ahead)
    at_origin = [last, *_recent_means(panel, means, origins), *_extremes(panel, origins), week]
    in_scale = [column[..., None] / scale[..., None] for column in at_origin]
    per_target = [column / scale[..., None] for column in [*_seasons(panel, means, origins, steps_ahead), profile]]
    plain = [np.log(scale)[..., None], _idle(panel, origins)[..., None], *_clock(panel, origins, steps_ahead)]
    shape = (panel.n_series, len(origins), len(steps_ahead))
    features = np.empty((*shape, len(in_scale) + len(per_target) + len(plain)), dtype=np.float32)
    for i, column in enumerate([*in_scale, *per_target, *plain]):
        features[..., i] = np.nan_to_num(column, nan=UNSEEN)
    return Known(features=features, last=last, scale=scale, profile=profile)


def _steps(panel: Panel, minutes: float) -> int:
    return panel.steps(timedelta(minutes=minutes))


def _recent_means(panel: Panel, means: PastMeans, origins: IntArray) -> list[FloatArray]:
    widths = [_steps(panel, minutes) for minutes in MEANS_MINUTES]
    columns = [means.between(origins - width, origins) for width in widths if width > 1]
    for older, newer in SLICES_MINUTES:
        old, new = _steps(panel, older), _steps(panel, newer)
        columns.append(means.between(origins - old, origins - (new if new < old else 0)))
    return columns


def _extremes(panel: Panel, origins: IntArray) -> list[FloatArray]:
    """Highest, lowest and standard deviation of the last EXTREMES_MINUTES."""
    bins = origins[:, None] - 1 - np.arange(_steps(panel, EXTREMES_MINUTES))
    window = np.where(bins >= 0, panel.values[:, np.maximum(bins, 0)], np.nan)
    seen = ~np.isnan(window)
    n_seen = seen.sum(axis=2)
    some = n_seen > 0
    mean = np.where(seen, window, 0.0).sum(axis=2) / np.maximum(n_seen, 1)
    spread = np.where(seen, (window - mean[..., None]) ** 2, 0.0).sum(axis=2) / np.maximum(n_seen, 1)
    highest = np.where(seen, window, -np.inf).max(axis=2)
    lowest = np.where(seen, window, np.inf).min(axis=2)
    return [np.where(some, column, np.nan) for column in (highest, lowest, np.sqrt(spread))]


def _seasons(panel: Panel, means: PastMeans, origins: IntArray, steps_ahead: IntArray) -> list[FloatArray]:
    """Per past day: demand around the target's local time (15 min and 2 h wide) and in the hour before the origin's."""
    targets = origins[:, None] + steps_ahead
    near, wide, hour = _steps(panel, 15) // 2, _steps(panel, 60), _steps(panel, 60)
    columns = []
    for days in SEASON_DAYS:
        source = panel.days_before(targets, days)
        for half in (near, wide):
            known = (source - half >= 0) & (source + half + 1 <= origins[:, None])
            columns.append(np.where(known, means.between(source - half, source + half + 1), np.nan))
        then = panel.days_before(origins, days)
        before = np.where(then >= hour, means.between(then - hour, then), np.nan)
        columns.append(np.repeat(before[..., None], len(steps_ahead), axis=2))
    return columns


def _idle(panel: Panel, origins: IntArray) -> FloatArray:
    """log(1 + bins since the last demand above 0), (n_series, n_origins)."""
    positive = np.nan_to_num(panel.values[:, : int(origins.max())]) > 0
    latest = np.maximum.accumulate(np.where(positive, np.arange(positive.shape[1]), -1), axis=1)
    return np.log1p(np.maximum(origins - 1 - latest[:, np.maximum(origins - 1, 0)], 0))


def _clock(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> list[FloatArray]:
    """Local time of day and day of the week of the target, whether that day is free, minute of the hour, and the
    lead."""
    targets = origins[:, None] + steps_ahead
    ahead = panel.local_seconds[np.minimum(targets, len(panel.local_seconds) - 1)]
    angle = 2.0 * np.pi * (ahead % DAY_SECONDS) / DAY_SECONDS
    free = panel.free_days[np.minimum(targets, len(panel.free_days) - 1)]
    lead = np.broadcast_to(np.log1p(steps_ahead * panel.step_seconds / 60.0), targets.shape)
    weekday = (ahead // DAY_SECONDS + 3) % 7
    columns = [np.sin(angle), np.cos(angle), weekday, free, ahead % 3600, lead]
    return [np.broadcast_to(column.astype(np.float64), (panel.n_series, *targets.shape)) for column in columns]
