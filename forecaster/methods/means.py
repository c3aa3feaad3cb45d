"""Means of what was seen in any stretch of the past."""

import numpy as np

from forecaster.calendar import IntArray
from forecaster.panel import Panel
from forecaster.series import FloatArray


class PastMeans:
    """Means of what was seen in any stretch of bins, O(1) each after one pass over the panel, or over its bins
    [first, last) where nothing else is asked for.

    Sums run from `first`: what comes after a stretch does not change its mean, not even in the last bit. As demand is
    >= 0 they never fall, and over a stretch of zeros they stand still: its mean is 0, not what rounding left.
    """

    def __init__(self, panel: Panel, first: int = 0, last: int | None = None) -> None:
        values = panel.values[:, first:last]
        seen = ~np.isnan(values)
        zero = np.zeros((panel.n_series, 1))
        self._totals = np.concatenate([zero, np.cumsum(np.where(seen, values, 0.0), axis=1)], axis=1)
        self._counts = np.concatenate([zero, np.cumsum(seen, axis=1)], axis=1)
        self._first = first

    def between(self, first: IntArray, last: IntArray) -> FloatArray:
        """Mean over bins [first, last), shape (n_series, *first.shape); NaN if none was seen."""
        begin, end = self._within(first), self._within(last)
        n_seen = self._counts[:, end] - self._counts[:, begin]
        total = self._totals[:, end] - self._totals[:, begin]
        return np.where(n_seen > 0, total / np.maximum(n_seen, 1), np.nan)

    def _within(self, bins: IntArray) -> IntArray:
        # np.minimum and np.maximum: np.clip takes a third of a short call's time.
        return np.asarray(np.minimum(np.maximum(bins - self._first, 0), self._totals.shape[1] - 1))
