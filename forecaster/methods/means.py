"""Means of what was seen in any stretch of the past."""

import numpy as np

from forecaster.calendar import IntArray
from forecaster.panel import Panel
from forecaster.series import FloatArray


class PastMeans:
    """Means of what was seen in any stretch of bins, O(1) each after one pass over the panel.

    Sums run from the start of the history: what comes after a stretch does not change its mean, not even in the last
    bit.
    """

    def __init__(self, panel: Panel) -> None:
        seen = ~np.isnan(panel.values)
        zero = np.zeros((panel.n_series, 1))
        self._totals = np.concatenate([zero, np.cumsum(np.where(seen, panel.values, 0.0), axis=1)], axis=1)
        self._counts = np.concatenate([zero, np.cumsum(seen, axis=1)], axis=1)
        self._n_steps = panel.n_steps

    def between(self, first: IntArray, last: IntArray) -> FloatArray:
        """Mean over bins [first, last), shape (n_series, *first.shape); NaN if none was seen."""
        begin, end = np.clip(first, 0, self._n_steps), np.clip(last, 0, self._n_steps)
        n_seen = self._counts[:, end] - self._counts[:, begin]
        total = np.maximum(self._totals[:, end] - self._totals[:, begin], 0.0)
        # Differences of long running sums leave dust where the true sum is 0.
        total = np.where(total < 1e-12 * np.abs(self._totals[:, end]), 0.0, total)
        return np.where(n_seen > 0, total / np.maximum(n_seen, 1), np.nan)
