"""Arrivals go into an arrival law: one at a time, or as requests per step."""

import numpy as np

from forecaster.arrivals.gaps import SESSION_GAP_SECONDS, bin_of, gap_class
from forecaster.arrivals.law import (
    BLIND,
    BURST_REQUESTS,
    BURST_WINDOW,
    GAP_CLASS,
    LAST,
    N_GAPS,
    N_STARTS,
    SESSION_START,
    SESSIONS,
    STALE,
    WATCHED,
    ArrivalLaw,
)
from forecaster.arrivals.season import learn_half_hours
from forecaster.arrivals.timer import find_timer
from forecaster.series import FloatArray


def watch(law: ArrivalLaw, when: float) -> None:
    """Note the time from which on arrivals would have been seen; the first call counts."""
    if np.isnan(law.marks[WATCHED]):
        law.marks[WATCHED] = when


def observe(law: ArrivalLaw, when: float, requests: float) -> None:
    """Take in `requests` that arrived together at `when` (seconds since the epoch, not before the last one)."""
    watch(law, when)
    marks = law.marks
    gap = when - marks[LAST]
    is_start = np.isnan(marks[LAST]) or gap >= SESSION_GAP_SECONDS
    if gap > 0:
        if marks[BLIND] == 0.0:
            learn_gap(law, gap, when)
        marks[GAP_CLASS] = gap_class(gap)
    if is_start:
        marks[SESSIONS] += 1.0
        marks[SESSION_START] = when
        for i in range(N_STARTS - 1):
            law.starts[i] = law.starts[i + 1]
        law.starts[N_STARTS - 1] = when
        find_timer(law)
    if when - marks[SESSION_START] < marks[BURST_WINDOW]:
        marks[BURST_REQUESTS] += requests
    marks[LAST] = when
    marks[BLIND] = 0.0


def miss(law: ArrivalLaw) -> None:
    """Demand was not seen for a while: the gap that is open now is not learned, for a request may have hidden in it."""
    law.marks[BLIND] = 1.0


def observe_steps(law: ArrivalLaw, start: float, step_seconds: float, requests: FloatArray) -> None:
    """Take in requests per step, (n_steps,), the first step starting at `start`; NaN: not seen. A step's requests are
    taken to arrive together at its start."""
    watch(law, start)
    for i in range(len(requests)):
        if np.isnan(requests[i]):
            miss(law)
        elif requests[i] > 0.0:
            observe(law, start + i * step_seconds, requests[i])


def learn_gap(law: ArrivalLaw, gap_seconds: float, when: float) -> None:
    """Add one finished gap that ended at `when`: exposure to the bins it spans, an event to the one it ended in."""
    c = 1 + int(law.marks[GAP_CLASS])
    b = bin_of(law.edges, gap_seconds)
    for i in range(b):
        width = law.edges[i + 1] - law.edges[i]
        law.exposure_seconds[0, i] += width
        law.exposure_seconds[c, i] += width
    law.exposure_seconds[0, b] += gap_seconds - law.edges[b]
    law.exposure_seconds[c, b] += gap_seconds - law.edges[b]
    law.events[0, b] += 1.0
    law.events[c, b] += 1.0
    learn_half_hours(law, gap_seconds, when)
    law.marks[N_GAPS] += 1.0
    law.marks[STALE] = 1.0
