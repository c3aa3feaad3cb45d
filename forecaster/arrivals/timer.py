"""The timer of an arrival law: a job that comes every N minutes, narrower than the bins of the gaps could tell."""

import numpy as np

from forecaster.arrivals.law import N_STARTS, PERIOD, PERIOD_CHANCE, PERIOD_WIDTH, SESSION_START, ArrivalLaw
from forecaster.series import FloatArray

TIMER_INTERVALS = 5
"""A timer is believed in if this many of the intervals between the last N_STARTS session starts are within ..."""
TIMER_TOLERANCE_FRACTION = 0.05
"""... this share (or the least width) of their median."""
TIMER_LEAST_WIDTH_SECONDS = 30.0
TIMER_MISSES = 2
"""A timer that failed to fire this many times in a row is not believed until it shows again."""


def median_interval(starts: FloatArray) -> float:
    """The median of the (odd number of) intervals between the starts."""
    n = len(starts) - 1
    for i in range(n):
        one = starts[i + 1] - starts[i]
        below = 0
        same = 0
        for j in range(n):
            other = starts[j + 1] - starts[j]
            if other < one:
                below += 1
            elif other == one:
                same += 1
        if below <= n // 2 < below + same:
            return float(one)
    return np.nan


def find_timer(law: ArrivalLaw) -> None:
    """Note the period of the last session starts, or 0: with its half width and the chance that it fires next time.

    Example: starts at minutes 0, 60, 120, 181, 240, 300, 360, 405: six of seven intervals are within 5 % of 60 min.
    """
    starts = law.starts
    law.marks[PERIOD] = 0.0
    if np.isnan(starts[0]):
        return
    median = median_interval(starts)
    tolerance = max(TIMER_LEAST_WIDTH_SECONDS, TIMER_TOLERANCE_FRACTION * median)
    n = 0
    total = 0.0
    deviation = 0.0
    for i in range(N_STARTS - 1):
        away = starts[i + 1] - starts[i] - median
        if abs(away) <= tolerance:
            n += 1
            total += median + away
            deviation += abs(away)
    if n >= TIMER_INTERVALS:
        law.marks[PERIOD] = total / n
        law.marks[PERIOD_WIDTH] = max(TIMER_LEAST_WIDTH_SECONDS, 2.0 * deviation / n)
        law.marks[PERIOD_CHANCE] = (n + 1.0) / (N_STARTS + 1.0)


def timer_hazard(law: ArrivalLaw, start: float, end: float) -> float:
    """Integrated hazard of the timer's next firings from `start` to `end` (seconds since the epoch)."""
    period = law.marks[PERIOD]
    width = law.marks[PERIOD_WIDTH]
    weight = -np.log(1.0 - law.marks[PERIOD_CHANCE])
    total = 0.0
    for k in range(1, TIMER_MISSES + 1):
        due = law.marks[SESSION_START] + k * period
        overlap = min(end, due + width) - max(start, due - width)
        if overlap > 0.0:
            total += weight * overlap / (2.0 * width)
    return float(total)
