"""The mean of the last days of the target's type, working or free: Monday follows Friday, and Saturday last Sunday.

FLAIR averages the last days of the same type and found no smarter shape to be better.
"""

import numpy as np

from forecaster.calendar import IntArray
from forecaster.methods.days import DAYS
from forecaster.methods.profile import block_means
from forecaster.methods.simple import seasonal_naive_day
from forecaster.panel import Panel
from forecaster.series import FloatArray

DAYS_OF_TYPE = 3
FADING = 0.7


def same_day_type(panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
    """What was seen at the same local time on the last DAYS_OF_TYPE days of the type, newer ones counting more; without
    one in DAYS, the seasonal naive of a day. Shape (n_series, n_origins, n_ahead)."""
    targets = origins[:, None] + steps_ahead
    blocks = block_means(panel)
    total = np.zeros((panel.n_series, *targets.shape))
    weights, found = np.zeros_like(total), np.zeros_like(total)
    for lag in range(1, DAYS + 1):
        source = panel.days_before(targets, lag)
        usable = (source >= 0) & (source < origins[:, None]) & panel.same_type(targets, source)
        seen = np.where(usable, blocks[:, np.clip(source, 0, panel.n_steps - 1)], np.nan)
        taken = np.isfinite(seen) & (found < DAYS_OF_TYPE)
        weight = np.where(taken, FADING**found, 0.0)
        total += weight * np.nan_to_num(seen)
        weights += weight
        found += taken
    naive = seasonal_naive_day(panel, origins, steps_ahead)
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1.0), naive)
