"""What the same time of day brought on earlier days: no point, just the sample, so quantiles come for nothing.

The sample of a target are the bins within NEAR of the same local time on the last DAYS days; how far each day counts is
said in days.py. With days that do not repeat it is close to the distribution of the last days, with days that do it is
the daily shape with its spread.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from forecaster.calendar import IntArray
from forecaster.methods.base import LearnsNothing
from forecaster.methods.days import DAYS, day_counts, moved_here, unlike_day_counts
from forecaster.methods.means import PastMeans
from forecaster.methods.residual import last_seen, trailing_mean
from forecaster.panel import Panel
from forecaster.series import FloatArray

NEAR = timedelta(minutes=30)
SPACING = timedelta(minutes=2)
CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Climate(LearnsNothing):
    """The method, with up to three ways to bring earlier days to the present.

    `growth_trust` in 0..1 says how far they are rescaled to the present daily level. With `bend_seconds` the sample is
    multiplied by (the last hour / the same hour on the last days), clipped to a factor of three either way, to the
    power of exp(-lead / bend_seconds). With `move_seconds` each day is moved by how far the present lies above that day
    at the same time, on the root scale, times exp(-lead / move_seconds). What is unusual now fades.
    """

    name: str
    growth_trust: float = 0.0
    bend_seconds: float = 0.0
    move_seconds: float = 0.0

    def quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        out = np.empty((panel.n_series, len(origins), len(steps_ahead), len(levels)))
        shifts = _shifts(panel)
        at_once = max(CELLS_AT_ONCE // (panel.n_series * len(steps_ahead) * DAYS * len(shifts)), 1)
        for first in range(0, len(origins), at_once):
            some = origins[first : first + at_once]
            sample, weight = self._sample(panel, some, steps_ahead, shifts)
            out[:, first : first + at_once] = weighted_quantiles(sample, weight, levels)
        flat = last_seen(panel, origins)[..., None, None]
        return np.where(np.isnan(out), np.broadcast_to(flat, out.shape), out)

    def _sample(
        self, panel: Panel, origins: IntArray, steps_ahead: IntArray, shifts: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Values and weights, both (n_series, n_origins, n_ahead, n_sample); NaN and weight 0 where nothing is
        known."""
        targets = origins[:, None] + steps_ahead
        day = panel.steps(timedelta(days=1))
        level = trailing_mean(panel, origins, day)
        unlike = unlike_day_counts(panel, origins)
        means = PastMeans(panel) if self.move_seconds else None
        values, weights = [], []
        for lag in range(1, DAYS + 1):
            then = trailing_mean(panel, np.maximum(origins - lag * day, 1), day)
            both = (then > 0) & (level > 0)
            growth = np.clip(np.where(both, level / np.where(both, then, 1.0), 1.0), 1 / 3, 3.0) ** self.growth_trust
            same_place = panel.days_before(targets, lag)
            source = same_place[..., None] + shifts
            usable = (source >= 0) & (source < origins[:, None, None])
            seen = np.where(usable, panel.values[:, np.clip(source, 0, panel.n_steps - 1)], np.nan)
            seen *= growth[..., None, None]
            if means is not None:
                fading = np.exp(-steps_ahead * panel.step_seconds / self.move_seconds)
                move = moved_here(panel, means, origins, lag)[..., None] * fading
                seen = np.maximum(np.sqrt(seen) + move[..., None], 0.0) ** 2
            weight = day_counts(panel, origins, targets, same_place, lag, unlike)
            values.append(seen)
            weights.append(np.where(np.isnan(seen), 0.0, weight[..., None]))
        sample = np.concatenate(values, axis=-1)
        if self.bend_seconds:
            fading = np.exp(-steps_ahead * panel.step_seconds / self.bend_seconds)
            sample *= (_unusual(panel, origins, level)[..., None] ** fading)[..., None]
        return sample, np.concatenate(weights, axis=-1)


def _unusual(panel: Panel, origins: IntArray, level: FloatArray) -> FloatArray:
    """The last hour over the same hour on the last days, steadied by the daily level, (n_series, n_origins)."""
    hour = panel.steps(timedelta(hours=1))
    total, n_known = np.zeros((panel.n_series, len(origins))), np.zeros((panel.n_series, len(origins)))
    for lag in (1, 2, 3, 7):
        then = panel.days_before(origins, lag)
        mean = np.where(then >= hour, trailing_mean(panel, np.maximum(then, 1), hour), np.nan)
        total += np.nan_to_num(mean)
        n_known += np.isfinite(mean)
    steady = 0.1 * np.nan_to_num(level) + 3.0 / (panel.step_seconds * hour)
    now = trailing_mean(panel, origins, hour)
    ratio = (now + steady) / (total / np.maximum(n_known, 1) + steady)
    return np.where((n_known > 0) & np.isfinite(now), np.clip(ratio, 1 / 3, 3.0), 1.0)


def weighted_quantiles(sample: FloatArray, weight: FloatArray, levels: FloatArray) -> FloatArray:
    """Quantiles along the last axis by weight, (..., n_levels); NaN where all weights are 0."""
    order = np.argsort(sample, axis=-1)
    ordered = np.take_along_axis(sample, order, axis=-1)
    heavy = np.take_along_axis(weight, order, axis=-1)
    cumulative = np.cumsum(heavy, axis=-1)
    total = cumulative[..., -1:]
    middle = (cumulative - 0.5 * heavy) / np.where(total > 0, total, 1.0)
    last = np.maximum((heavy > 0).sum(axis=-1, keepdims=True) - 1, 0)
    out = np.empty((*sample.shape[:-1], len(levels)))
    for i, level in enumerate(levels):
        right = np.minimum((middle < level).sum(axis=-1, keepdims=True), last)
        left = np.maximum(right - 1, 0)
        low, high = np.take_along_axis(middle, left, axis=-1), np.take_along_axis(middle, right, axis=-1)
        share = np.clip(np.where(high > low, (level - low) / np.where(high > low, high - low, 1.0), 1.0), 0.0, 1.0)
        below, above = np.take_along_axis(ordered, left, axis=-1), np.take_along_axis(ordered, right, axis=-1)
        out[..., i] = (below + share * (above - below))[..., 0]
    return np.where(total > 0, out, np.nan)


def _shifts(panel: Panel) -> IntArray:
    near, spacing = round(NEAR / panel.step), panel.steps(SPACING)
    return np.arange(-(near // spacing) * spacing, near + 1, spacing, dtype=np.int64)
