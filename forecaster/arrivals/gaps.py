"""Gaps between arrivals: the bins that hazards are learned in, and the classes that tell bursts from pauses."""

import numpy as np

from forecaster.series import FloatArray

SESSION_GAP_SECONDS = 300.0
"""A longer gap ends a session; the season counts session starts."""
CLASS_LIMITS_SECONDS = (120.0, 900.0)
N_CLASSES = 3
LONGEST_GAP_SECONDS = 7 * 86400.0


def gap_edges() -> FloatArray:
    """Edges of the gap bins in seconds: 0, 30, +15 while 0.12 x edge <= 15, then x 1.12, up to 7 days."""
    edges = [0.0, 30.0]
    while edges[-1] < LONGEST_GAP_SECONDS:
        edges.append(edges[-1] + max(15.0, 0.12 * edges[-1]))
    edges[-1] = LONGEST_GAP_SECONDS
    return np.array(edges)


def gap_class(gap_seconds: float) -> int:
    """0 for a short gap, 1 for a middling one, 2 for a long one."""
    if gap_seconds < CLASS_LIMITS_SECONDS[0]:
        return 0
    return 1 if gap_seconds < CLASS_LIMITS_SECONDS[1] else 2


def bin_of(edges: FloatArray, gap_seconds: float) -> int:
    """The bin that holds the gap; the last bin holds everything longer too."""
    low = 0
    high = len(edges) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if edges[middle] <= gap_seconds:
            low = middle
        else:
            high = middle
    return low
