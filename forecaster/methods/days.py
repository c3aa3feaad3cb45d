"""Earlier days as samples of a later one: how far each counts, and where it leads from here.

A day counts less the older it is, more on the same weekday (once two weeks are known), and less when one of the two is
a free day (weekend, holiday) and the other is not. How much less is not the same everywhere: an office's Saturday says
nothing about its Monday, and a batch of timers knows no weekend. So it is measured: hourly means of days at most
PAIRS_WITHIN apart are compared, and if days of unlike type are r times as far from each other as days of like type,
they count for r ** -SHARPNESS.
"""

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import DAY_SECONDS, IntArray
from forecaster.methods.means import PastMeans
from forecaster.methods.profile import BLOCK, block_means
from forecaster.methods.residual import last_seen, trailing_mean
from forecaster.panel import Panel
from forecaster.series import FloatArray

DAYS = 14
FADING_PER_DAY = 0.85
SAME_WEEKDAY = 3.0
PAIRS_WITHIN = 3  # days; farther apart, days differ for other reasons as well
SHARPNESS = 8.0
UNLIKE_UNSEEN = 1.3  # the r that is assumed before any is measured, worth PRIOR_PAIRS pairs of unlike days
PRIOR_PAIRS = 3.0
LEAST = 0.01
HOURS_KNOWN = 20  # of a day, for it to be compared
PRESENT = timedelta(minutes=30)
FROM_HERE_SECONDS = 12 * 3600.0


def unlike_day_counts(panel: Panel, origins: IntArray) -> FloatArray:
    """How far a day of the other type counts beside one of the same type, LEAST to 1, (n_series, n_origins).

    It follows from the local days that ended before each origin."""
    days, free = _hourly_roots(panel), _day_types(panel)
    apart = np.full((PAIRS_WITHIN, panel.n_series, len(free)), np.nan)
    alike = np.zeros((PAIRS_WITHIN, 1, len(free)), dtype=np.bool_)
    for lag in range(1, min(PAIRS_WITHIN, len(free) - 1) + 1):
        differences = np.abs(days[:, lag:] - days[:, :-lag])
        n_known = np.isfinite(differences).sum(axis=-1)
        mean = np.nansum(differences, axis=-1) / np.maximum(n_known, 1)
        apart[lag - 1, :, lag:] = np.where(n_known >= HOURS_KNOWN, mean, np.nan)
        alike[lag - 1, 0, lag:] = free[lag:] == free[:-lag]
    like, _ = _mean_so_far(np.where(alike, apart, np.nan))
    unlike, n_unlike = _mean_so_far(np.where(alike, np.nan, apart))
    known = (like > 0) & (unlike > 0)
    ratio = np.log(np.where(known, unlike, 1.0) / np.where(known, like, 1.0))
    seen = np.where(known, n_unlike / (n_unlike + PRIOR_PAIRS), 0.0)
    ratio = seen * ratio + (1.0 - seen) * np.log(UNLIKE_UNSEEN)
    counts = np.clip(np.exp(-SHARPNESS * ratio), LEAST, 1.0)
    local = panel.local_seconds // DAY_SECONDS
    today = local[np.minimum(origins, len(local) - 1)] - local[0]
    return np.asarray(counts[:, np.minimum(today, counts.shape[1] - 1)])


def day_counts(
    panel: Panel, origins: IntArray, targets: IntArray, source: IntArray, lag: int, unlike: FloatArray
) -> FloatArray:
    """How far the day `lag` days before the targets counts, (n_series, n_origins, n_ahead).

    `source` are the bins there, `unlike` is what unlike_day_counts says."""
    counts = np.where(panel.same_type(targets, source), 1.0, unlike[..., None])
    if lag % 7 == 0:
        counts = np.where(panel.week_is_known(origins)[:, None], SAME_WEEKDAY, counts)
    return np.asarray(FADING_PER_DAY**lag * counts)


def moved_here(panel: Panel, means: PastMeans, origins: IntArray, lag: int) -> FloatArray:
    """By how much the last PRESENT before each origin lies above the same half hour `lag` days earlier, on the root
    scale, 0 where one of them was not seen, (n_series, n_origins)."""
    width = panel.steps(PRESENT)
    then = panel.days_before(origins, lag)
    before = np.where(then >= width, means.between(then - width, then), np.nan)
    return np.asarray(np.nan_to_num(np.sqrt(means.between(origins - width, origins)) - np.sqrt(before)))


def blocks_before(panel: Panel, blocks: FloatArray, source: IntArray, origins: IntArray) -> FloatArray:
    """The block means around the bins `source` (n_origins, n_ahead) that ended before the origin, (n_series, n_origins,
    n_ahead), NaN elsewhere."""
    usable = (source >= 0) & (source + panel.steps(BLOCK) // 2 < origins[:, None])
    return np.where(usable, blocks[:, np.clip(source, 0, panel.n_steps - 1)], np.nan)


def days_from_here(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
    """A point: the mean of what the earlier days did, each moved to where the present is, the less the farther ahead,
    (n_series, n_origins, n_ahead); the mean of the last 24 hours where no day is known."""
    blocks, targets = block_means(panel), origins[:, None] + steps_ahead
    fading = np.exp(-steps_ahead * panel.step_seconds / FROM_HERE_SECONDS)
    unlike, means = unlike_day_counts(panel, origins), PastMeans(panel)
    total = np.zeros((panel.n_series, *targets.shape))
    weights = np.zeros_like(total)
    for lag in range(1, DAYS + 1):
        source = panel.days_before(targets, lag)
        seen = blocks_before(panel, blocks, source, origins)
        if np.isnan(seen).all():
            continue
        root = np.sqrt(seen) + moved_here(panel, means, origins, lag)[..., None] * fading
        weight = np.where(np.isfinite(root), day_counts(panel, origins, targets, source, lag, unlike), 0.0)
        total += weight * np.nan_to_num(root)
        weights += weight
    level = trailing_mean(panel, origins, panel.steps(timedelta(days=1)))
    flat = np.where(np.isnan(level), last_seen(panel, origins), level)[..., None]
    return np.where(weights > 0, np.maximum(total / np.where(weights > 0, weights, 1.0), 0.0) ** 2, flat)


def _hourly_roots(panel: Panel) -> FloatArray:
    """The root of the mean demand of each hour of each local day, (n_series, n_days, 24), NaN where none was seen."""
    local = panel.local_seconds[: panel.n_steps]
    hours = local // 3600 - local[0] // DAY_SECONDS * 24
    n_days = int(hours[-1]) // 24 + 1
    out = np.full((panel.n_series, n_days * 24), np.nan)
    for row, values in zip(out, panel.values, strict=True):
        seen = np.isfinite(values)
        n_seen = np.bincount(hours[seen], minlength=len(row))
        total = np.bincount(hours[seen], values[seen], minlength=len(row))
        some = n_seen > 0
        row[some] = np.sqrt(total[some] / n_seen[some])
    return out.reshape(panel.n_series, n_days, 24)


def _day_types(panel: Panel) -> NDArray[np.bool_]:
    """Whether each local day that the history touches is a free one, (n_days,)."""
    days = panel.local_seconds[: panel.n_steps] // DAY_SECONDS
    ends = np.append(np.flatnonzero(np.diff(days)), len(days) - 1)
    types = np.zeros(int(days[-1] - days[0]) + 1, dtype=np.bool_)
    types[days[ends] - days[0]] = panel.free_days[ends]
    return types


def _mean_so_far(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """From (n_lags, n_series, n_days): mean and count of what was seen before each day, (n_series, n_days + 1)."""
    seen = np.isfinite(values)
    zero = np.zeros((values.shape[1], 1))
    total = np.concatenate([zero, np.cumsum(np.where(seen, values, 0.0).sum(axis=0), axis=1)], axis=1)
    count = np.concatenate([zero, np.cumsum(seen.sum(axis=0), axis=1)], axis=1)
    return total / np.maximum(count, 1.0), count
