"""The same weekday, steadied: half what it brought in the weeks before, half where the last days lead from here.

A shop's Friday is like no other working day, but one Friday is a small sample. The plain seasonal naive of a week
repeats that one day with its noise and its level; the days alone know no Friday.
"""

import numpy as np

from forecaster.calendar import IntArray
from forecaster.methods.days import FADING_PER_DAY, blocks_before, days_from_here
from forecaster.methods.profile import block_means
from forecaster.panel import Panel
from forecaster.series import FloatArray

WEEKS = 2
SHARE_OF_WEEKDAY = 0.5


def same_weekday(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
    """The mean, on the root scale, of what was seen around the same local time in the last WEEKS weeks, newer ones
    counting more, and of days_from_here; that alone where no week is known. Shape (n_series, n_origins, n_ahead)."""
    blocks, targets = block_means(panel), origins[:, None] + steps_ahead
    total = np.zeros((panel.n_series, *targets.shape))
    weights = np.zeros_like(total)
    for lag in range(7, 7 * WEEKS + 1, 7):
        seen = blocks_before(panel, blocks, panel.days_before(targets, lag), origins)
        weight = np.where(np.isfinite(seen), FADING_PER_DAY**lag, 0.0)
        total += weight * np.sqrt(np.nan_to_num(seen))
        weights += weight
    days = np.sqrt(days_from_here(panel, origins, steps_ahead))
    weekday = np.where(weights > 0, total / np.where(weights > 0, weights, 1.0), days)
    return np.asarray((SHARE_OF_WEEKDAY * weekday + (1.0 - SHARE_OF_WEEKDAY) * days) ** 2)
