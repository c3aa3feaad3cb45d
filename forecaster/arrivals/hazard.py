"""What an arrival law answers: integrated hazards for the loops, chances and quantiles for people."""

import numpy as np

from forecaster.arrivals.gaps import N_CLASSES, SESSION_GAP_SECONDS, bin_of
from forecaster.arrivals.law import (
    BURST_REQUESTS,
    GAP_CLASS,
    LAST,
    PERIOD,
    PERIOD_CHANCE,
    SESSION_START,
    SESSIONS,
    STALE,
    WATCHED,
    ArrivalLaw,
)
from forecaster.arrivals.season import half_hour_of, refresh_season
from forecaster.arrivals.timer import TIMER_MISSES, timer_hazard
from forecaster.errors import BadSeries
from forecaster.series import FloatArray

OWN_WEIGHT_EVENTS = 0.3
"""Events that the prior hazard is worth per bin."""
CLASS_WEIGHT_EVENTS = 3.0
"""Events that the endpoint's own hazard is worth per bin of a class."""


def refresh(law: ArrivalLaw) -> None:
    """Recompute what is derived, if anything was learned since: the integrated hazards and the season's factors."""
    if law.marks[STALE] == 0.0:
        return
    law.marks[STALE] = 0.0
    refresh_hazards(law)
    refresh_season(law)


def refresh_hazards(law: ArrivalLaw) -> None:
    """Recompute the integrated hazard of each class at the gap edges."""
    for c in range(N_CLASSES):
        total = 0.0
        for b in range(len(law.edges) - 1):
            own = (law.events[0, b] + OWN_WEIGHT_EVENTS) / (
                law.exposure_seconds[0, b] + OWN_WEIGHT_EVENTS / law.prior_hazard[b]
            )
            hazard = (law.events[1 + c, b] + CLASS_WEIGHT_EVENTS) / (
                law.exposure_seconds[1 + c, b] + CLASS_WEIGHT_EVENTS / (own * law.prior_ratio[c, b])
            )
            total += hazard * (law.edges[b + 1] - law.edges[b])
            law.cumulative[c, b + 1] = total


def elapsed_at(law: ArrivalLaw, now: float) -> float:
    """Seconds since the last arrival, or since watching began if there was none; NaN if nobody watched."""
    since = law.marks[LAST]
    if np.isnan(since):
        since = law.marks[WATCHED]
    return float(now - since)


def requests_per_burst(law: ArrivalLaw) -> float:
    """Requests expected within the burst window of a session's first, that one included; 1.5 before any was seen."""
    return float((law.marks[BURST_REQUESTS] + 3.0) / (law.marks[SESSIONS] + 2.0))


def gap_hazard_integral(law: ArrivalLaw, gap_seconds: float) -> float:
    """The integrated hazard of a gap of that length, without the season; constant hazard beyond the last edge."""
    c = int(law.marks[GAP_CLASS])
    b = bin_of(law.edges, gap_seconds)
    width = law.edges[b + 1] - law.edges[b]
    share = (gap_seconds - law.edges[b]) / width
    low = law.cumulative[c, b]
    return float(low + share * (law.cumulative[c, b + 1] - low))


def hazard_between(law: ArrivalLaw, start: float, end: float) -> float:
    """Integrated hazard from `start` to `end`, both seconds after the last arrival; -log P(no arrival between).

    Exact for the piecewise-constant law: the season is applied half hour by half hour, to what lies beyond a session.
    The caller has called `refresh` since the law last learned.
    """
    last = law.marks[LAST]
    if np.isnan(last):
        last = law.marks[WATCHED]
    total = 0.0
    inside = 0.0
    low = gap_hazard_integral(law, start)
    at = start
    if at < SESSION_GAP_SECONDS:
        at = min(end, SESSION_GAP_SECONDS)
        high = gap_hazard_integral(law, at)
        total = high - low
        inside = total
        low = high
    while at < end:
        half_hour, ends = half_hour_of(law, last + at)
        until = min(end, ends - last)
        high = gap_hazard_integral(law, until)
        total += (high - low) * law.season_factor[half_hour]
        low = high
        at = until
    if law.marks[PERIOD] > 0.0 and last + end < law.marks[SESSION_START] + (TIMER_MISSES + 0.5) * law.marks[PERIOD]:
        # What is not the timer comes as before; the timer's own share of the gaps is taken out of the law's.
        total = inside + (total - inside) * (1.0 - law.marks[PERIOD_CHANCE])
        total += timer_hazard(law, last + start, last + end)
    return float(total)


# For people and for the other layers.


def survival(law: ArrivalLaw, elapsed_seconds: float, horizons_seconds: FloatArray) -> FloatArray:
    """P(no arrival within each horizon), given none for `elapsed_seconds` since the last; same shape as the horizons,
    within [0, 1], not rising with the horizon. Before the first arrival the law speaks from the start of the watch."""
    refresh(law)
    return np.array(
        [np.exp(-hazard_between(law, elapsed_seconds, elapsed_seconds + s)) for s in np.ravel(horizons_seconds)]
    ).reshape(np.shape(horizons_seconds))


def arrival_within(law: ArrivalLaw, elapsed_seconds: float, horizon_seconds: float) -> float:
    """P(at least one arrival within the horizon), given none for `elapsed_seconds` since the last."""
    refresh(law)
    return float(-np.expm1(-hazard_between(law, elapsed_seconds, elapsed_seconds + horizon_seconds)))


def next_arrival_quantile(law: ArrivalLaw, elapsed_seconds: float, level: float) -> float:
    """Seconds from now by which the next arrival has come with probability `level` in (0, 1); to within a second."""
    if not 0 < level < 1:
        raise BadSeries(f"next arrival: need a level in (0, 1), have {level}")
    refresh(law)
    wanted = -np.log1p(-level)
    high = 60.0
    while hazard_between(law, elapsed_seconds, elapsed_seconds + high) < wanted:
        high *= 2.0
    low = 0.0
    while high - low > 1.0:
        middle = (low + high) / 2
        if hazard_between(law, elapsed_seconds, elapsed_seconds + middle) < wanted:
            low = middle
        else:
            high = middle
    return high
