"""Level times shape: the default plan for a day, vectorised over thousands of endpoints.

A rank-1 model of the matrix day x time of day (the idea of FLAIR: averages of the last same-type days are hard to beat
as a shape). The point for a target is the mean of what was seen at the same local time on the last days, each day
rescaled to the present level, bent towards the present by

    point(t + h) = profile(t + h) * rho_t ** exp(-h / TAU),  rho_t = (seen in the last half hour + c) / (profile there
    + c)

with rho clipped to [0.2, 5] (Barista's compensator). Errors widen with the square root of demand.
"""

from datetime import timedelta

import numpy as np

from forecaster.calendar import IntArray
from forecaster.methods.residual import last_seen, trailing_mean
from forecaster.panel import Panel
from forecaster.series import FloatArray

DAY_WEIGHTS = {1: 1.0, 2: 0.7, 3: 0.5, 7: 1.0, 14: 0.6}
"""The days that say what a day is like, by how many days ago they were, and how much each counts."""
UNKNOWN_WEEK_WEIGHT = 0.5  # until two weeks are known, the day a week ago is one of the older days
OTHER_DAY_TYPE_WEIGHT = 0.25  # a working day says little about a holiday
PRESENT = timedelta(minutes=30)
TAU_SECONDS = 2.5 * 3600
GROWTH_TRUST = 0.5  # how far a change of the daily level is believed to last
BLOCK = timedelta(minutes=10)  # the shape is averaged over blocks: single minutes are noise


def level_times_shape(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
    """The point rule of the profile, shape (n_series, n_origins, n_ahead); falls to the present level without a day."""
    blocks = block_means(panel)
    level = _level(panel, origins)
    targets = origins[:, None] + steps_ahead
    profile = _profile(panel, blocks, origins, targets, level)
    present_width = panel.steps(PRESENT)
    recent = np.maximum(origins[:, None] - 1 - np.arange(0, present_width, panel.steps(BLOCK)), 0)
    expected = _profile(panel, blocks, origins, recent, level).mean(axis=2)
    seen = trailing_mean(panel, origins, present_width)
    seen = np.where(np.isnan(seen), last_seen(panel, origins), seen)
    steadied = 0.05 * np.nan_to_num(level) + 1.0 / (panel.step_seconds * present_width)
    rho = np.clip((seen + steadied) / (expected + steadied), 0.2, 5.0)
    fading = np.exp(-steps_ahead * panel.step_seconds / TAU_SECONDS)
    return np.asarray(profile * np.exp(np.log(rho)[..., None] * fading))


def _profile(panel: Panel, blocks: FloatArray, origins: IntArray, targets: IntArray, level: FloatArray) -> FloatArray:
    """Mean of the last days at the same local time, each at the present level, (n_series, n_origins, n_ahead)."""
    half = panel.steps(BLOCK) // 2
    total = np.zeros((panel.n_series, *targets.shape))
    weights = np.zeros_like(total)
    for lag, weight in DAY_WEIGHTS.items():
        source = panel.days_before(targets, lag)
        usable = (source >= 0) & (source + half < origins[:, None])
        if not usable.any():
            continue
        seen = blocks[:, np.clip(source, 0, panel.n_steps - 1)]
        then = _level(panel, np.maximum(origins - panel.steps(timedelta(days=lag)), 1))
        both = (then > 0) & (level > 0)
        ratio = np.where(both, level / np.where(both, then, 1.0), 1.0)
        growth = np.clip(ratio, 1 / 3, 3.0) ** GROWTH_TRUST
        trusted = weight * trust_in_day(panel, origins, lag)
        weight_here = np.where(usable & ~np.isnan(seen), trusted[:, None], 0.0)
        if panel.calendar.holidays_of:
            weight_here *= np.where(panel.same_type(targets, source), 1.0, OTHER_DAY_TYPE_WEIGHT)
        total += weight_here * np.nan_to_num(seen) * growth[..., None]
        weights += weight_here
    flat = np.where(np.isnan(level), last_seen(panel, origins), level)[..., None]
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1.0), flat)


def trust_in_day(panel: Panel, origins: IntArray, lag: int) -> FloatArray:
    """How far the weight of the day `lag` days ago counts at each origin, (n_origins,)."""
    return np.where(panel.week_is_known(origins) | (lag % 7 > 0), 1.0, UNKNOWN_WEEK_WEIGHT)


def _level(panel: Panel, origins: IntArray) -> FloatArray:
    """The mean of the 24 hours before each origin, (n_series, n_origins)."""
    return trailing_mean(panel, origins, panel.steps(timedelta(days=1)))


def block_means(panel: Panel) -> FloatArray:
    """Centred means over BLOCK of what was seen, shape of the values; the values themselves on a grid as coarse."""
    width = panel.steps(BLOCK)
    if width == 1:
        return panel.values
    half = width // 2
    seen = ~np.isnan(panel.values)
    zero = np.zeros((panel.n_series, 1))
    totals = np.concatenate([zero, np.cumsum(np.where(seen, panel.values, 0.0), axis=1)], axis=1)
    counts = np.concatenate([zero, np.cumsum(seen, axis=1)], axis=1)
    begin = np.maximum(np.arange(panel.n_steps) - half, 0)
    end = np.minimum(np.arange(panel.n_steps) + half + 1, panel.n_steps)
    n_seen = counts[:, end] - counts[:, begin]
    return np.where(n_seen > 0, np.maximum(totals[:, end] - totals[:, begin], 0.0) / np.maximum(n_seen, 1), np.nan)
