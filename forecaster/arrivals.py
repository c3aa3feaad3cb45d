"""When does the next request come? The arrival law of one sparse endpoint, learned one arrival at a time.

A Markov renewal process with a daily season: the hazard of the next arrival depends on the time since the last one,
on how long the gap before that was (bursts and pauses differ), and, outside sessions, on the half hour of the local
day. A timer (a job that comes every N minutes) adds an atom at its period. Little data is shrunk: an endpoint's class
hazards towards its own pooled hazard, that towards a prior (`default_prior`, or `pooled_prior` of a fleet), with
weights in events.

The functions here are plain loops over the arrays of `ArrivalLaw`, so that a compiler for numerical Python can compile
the same code that the cycle calls. Times are seconds since the epoch, UTC; only the season looks at local time, by the
table that forecaster.calendar makes. Nothing reads a clock.

Sources: hazards with Gamma-Poisson shrinkage are the posterior means of piecewise-constant hazards (Kalbfleisch and
Prentice, The Statistical Analysis of Failure Time Data, ch. 3); hour-of-day factors as in Shahrad et al., ATC 2020.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from forecaster.calendar import offset_changes
from forecaster.errors import BadSeries
from forecaster.series import FloatArray

SESSION_GAP_SECONDS = 300.0
"""A longer gap ends a session; the season counts session starts."""
CLASS_LIMITS_SECONDS = (120.0, 900.0)
N_CLASSES = 3
HALF_HOUR_SECONDS = 1800.0
N_HALF_HOURS = 48
DAY_SECONDS = 86400.0
LONGEST_GAP_SECONDS = 7 * DAY_SECONDS
OWN_WEIGHT_EVENTS = 0.3
"""Events that the prior hazard is worth per bin."""
CLASS_WEIGHT_EVENTS = 3.0
SEASON_WEIGHT_STARTS = 6.0
POOL_WEIGHT_EVENTS = 5.0
POOL_WEIGHT_STARTS = 20.0

N_STARTS = 8
"""The timer detector looks at the seven intervals between the last eight session starts ..."""
TIMER_INTERVALS = 5
"""... and believes in a timer if this many of them are within ..."""
TIMER_TOLERANCE_FRACTION = 0.05
"""... this share (or the least width) of their median."""
TIMER_LEAST_WIDTH_SECONDS = 30.0
TIMER_MISSES = 2
"""A timer that failed to fire this many times in a row is not believed until it shows again."""

LAST, GAP_CLASS, BLIND, N_GAPS, SESSIONS, SESSION_START, BURST_REQUESTS, BURST_WINDOW, WATCHED, STALE = range(10)
PERIOD, PERIOD_WIDTH, PERIOD_CHANCE = 10, 11, 12
N_MARKS = 13


def gap_edges() -> FloatArray:
    """Edges of the gap bins in seconds: 0, 30, +15 while 0.12 x edge <= 15, then x 1.12, up to 7 days."""
    edges = [0.0, 30.0]
    while edges[-1] < LONGEST_GAP_SECONDS:
        edges.append(edges[-1] + max(15.0, 0.12 * edges[-1]))
    edges[-1] = LONGEST_GAP_SECONDS
    return np.array(edges)


class ArrivalPrior(NamedTuple):
    """What is believed of an endpoint before its first request.

    `hazard` (n_bins,) per second; `class_ratio` (3, n_bins): hazard after a short, middling or long gap over the pooled
    one; `season` (48,): factor by half hour of the local day, mean about 1.
    """

    hazard: FloatArray
    class_ratio: FloatArray
    season: FloatArray


class ArrivalLaw(NamedTuple):
    """The law's arrays; `observe` changes them in place, `copy_law` keeps an earlier state.

    `exposure_seconds` and `events` are (1 + 3, n_bins): all gaps, then by class of the gap before. `season` is (2, 48):
    session starts and idle seconds by half hour of the local day, which `zone_edges` (n + 1,) and `zone_offsets` (n,)
    tell, see calendar.offset_changes. Derived from these: `cumulative` (3, n_bins + 1), the
    integrated hazard at the gap edges by class, and `season_factor` (48,). `starts` (8,) holds the last session starts,
    oldest first, NaN where there were fewer. `marks` holds scalars, see LAST ... PERIOD_CHANCE.
    """

    edges: FloatArray
    exposure_seconds: FloatArray
    events: FloatArray
    season: FloatArray
    cumulative: FloatArray
    season_factor: FloatArray
    starts: FloatArray
    marks: FloatArray
    prior_hazard: FloatArray
    prior_ratio: FloatArray
    prior_season: FloatArray
    zone_edges: FloatArray
    zone_offsets: FloatArray


def default_prior() -> ArrivalPrior:
    """No fleet known: hazard max(0.40 / (t + 33 s), 1 / 3 days) at the middle of each bin, no classes, no season."""
    edges = gap_edges()
    middle = (edges[:-1] + edges[1:]) / 2
    hazard = np.maximum(0.40 / (middle + 33.0), 1.0 / (3 * DAY_SECONDS))
    return ArrivalPrior(hazard, np.ones((N_CLASSES, len(middle))), np.ones(N_HALF_HOURS))


def new_law(burst_window_seconds: float, prior: ArrivalPrior | None = None, timezone: str = "UTC") -> ArrivalLaw:
    """A law that has seen nothing. `burst_window_seconds` (the start-up time) is the window of `requests_per_burst`;
    its days are those of `timezone`."""
    if not burst_window_seconds > 0:
        raise BadSeries(f"arrival law: need a burst window > 0 seconds, have {burst_window_seconds}")
    prior = prior or default_prior()
    zone_edges, zone_offsets = offset_changes(timezone)
    edges = gap_edges()
    n_bins = len(edges) - 1
    marks = np.zeros(N_MARKS)
    marks[LAST] = marks[SESSION_START] = marks[WATCHED] = np.nan
    marks[GAP_CLASS] = N_CLASSES - 1
    marks[BURST_WINDOW] = burst_window_seconds
    marks[STALE] = 1.0
    law = ArrivalLaw(
        edges=edges,
        exposure_seconds=np.zeros((1 + N_CLASSES, n_bins)),
        events=np.zeros((1 + N_CLASSES, n_bins)),
        season=np.zeros((2, N_HALF_HOURS)),
        cumulative=np.zeros((N_CLASSES, n_bins + 1)),
        season_factor=np.ones(N_HALF_HOURS),
        starts=np.full(N_STARTS, np.nan),
        marks=marks,
        prior_hazard=prior.hazard.copy(),
        prior_ratio=prior.class_ratio.copy(),
        prior_season=prior.season.copy(),
        zone_edges=zone_edges.copy(),
        zone_offsets=zone_offsets.copy(),
    )
    refresh(law)
    return law


def copy_law(law: ArrivalLaw) -> ArrivalLaw:
    """The same law in arrays of its own."""
    return ArrivalLaw(*(part.copy() for part in law))


def law_arrays(law: ArrivalLaw) -> dict[str, FloatArray]:
    """The law as named arrays, for a store without pickle."""
    return {name: part.copy() for name, part in law._asdict().items()}


def law_from_arrays(arrays: Mapping[str, FloatArray]) -> ArrivalLaw:
    """The law that `law_arrays` wrote. Raise BadSeries if a part is absent or of another shape."""
    fresh = new_law(1.0)._asdict()
    n_offsets = np.size(arrays.get("zone_offsets", 0.0))  # zones differ in how often they changed
    wanted = {name: part.shape for name, part in fresh.items()}
    wanted |= {"zone_edges": (n_offsets + 1,), "zone_offsets": (n_offsets,)}
    for name, needed in wanted.items():
        shape = np.shape(arrays[name]) if name in arrays else None
        if shape != needed:
            raise BadSeries(f"arrival law: {name} needs shape {needed}, have {shape}")
    return ArrivalLaw(**{name: np.array(arrays[name], dtype=np.float64) for name in fresh})


def pooled_prior(laws: Sequence[ArrivalLaw]) -> ArrivalPrior:
    """What a fleet teaches about an endpoint without a past of its own; with no gaps seen, the default prior.

    Each law weighs its gaps to the power -1/2, so that neither its busiest members nor their number rule the pool. The
    laws may only hold what was known when the prior is used.
    """
    default = default_prior()
    counts = np.array([law.marks[N_GAPS] for law in laws])
    known = [law for law, n in zip(laws, counts, strict=True) if n > 0]
    if not known:
        return default
    weights = counts[counts > 0] ** -0.5
    weights /= weights.mean()
    events = np.tensordot(weights, [law.events for law in known], axes=1)
    exposure = np.tensordot(weights, [law.exposure_seconds for law in known], axes=1)
    hazard = (events[0] + POOL_WEIGHT_EVENTS) / (exposure[0] + POOL_WEIGHT_EVENTS / default.hazard)
    ratio = (events[1:] + POOL_WEIGHT_EVENTS) / (exposure[1:] * hazard + POOL_WEIGHT_EVENTS)
    season = np.tensordot(weights, [law.season for law in known], axes=1)
    rates = [law.season[0].sum() / max(law.season[1].sum(), 1.0) for law in known]
    expected = np.tensordot(weights * rates, [law.season[1] for law in known], axes=1)
    factor = (season[0] + POOL_WEIGHT_STARTS) / (expected + POOL_WEIGHT_STARTS)
    return ArrivalPrior(hazard, ratio, factor)


# The plain functions: a compiler takes them as they stand.


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


def refresh(law: ArrivalLaw) -> None:
    """Recompute what is derived, if anything was learned since: the integrated hazards and the season's factors."""
    if law.marks[STALE] == 0.0:
        return
    law.marks[STALE] = 0.0
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
    n_starts = 0.0
    idle_seconds = 0.0
    for q in range(N_HALF_HOURS):
        n_starts += law.season[0, q]
        idle_seconds += law.season[1, q]
    rate = n_starts / idle_seconds if idle_seconds > 0.0 else 0.0
    for q in range(N_HALF_HOURS):
        before = (q - 1) % N_HALF_HOURS
        after = (q + 1) % N_HALF_HOURS
        starts = 0.5 * law.season[0, before] + law.season[0, q] + 0.5 * law.season[0, after]
        seconds = 0.5 * law.season[1, before] + law.season[1, q] + 0.5 * law.season[1, after]
        law.season_factor[q] = (starts + SEASON_WEIGHT_STARTS * law.prior_season[q]) / (
            seconds * rate + SEASON_WEIGHT_STARTS
        )


def half_hour_of(law: ArrivalLaw, when: float) -> tuple[int, float]:
    """The half hour of the local day that holds `when`, 0 to 47, and when it ends."""
    offset = law.zone_offsets[bin_of(law.zone_edges, when)]
    number = (when + offset) // HALF_HOUR_SECONDS
    return int(number) % N_HALF_HOURS, (number + 1.0) * HALF_HOUR_SECONDS - offset


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
    at = when - gap_seconds + SESSION_GAP_SECONDS
    while at < when:
        half_hour, ends = half_hour_of(law, at)
        until = min(when, ends)
        law.season[1, half_hour] += until - at
        at = until
    if gap_seconds >= SESSION_GAP_SECONDS:
        law.season[0, half_hour_of(law, when)[0]] += 1.0
    law.marks[N_GAPS] += 1.0
    law.marks[STALE] = 1.0


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


def elapsed_at(law: ArrivalLaw, now: float) -> float:
    """Seconds since the last arrival, or since watching began if there was none; NaN if nobody watched."""
    since = law.marks[LAST]
    if np.isnan(since):
        since = law.marks[WATCHED]
    return float(now - since)


def observe_steps(law: ArrivalLaw, start: float, step_seconds: float, requests: FloatArray) -> None:
    """Take in requests per step, (n_steps,), the first step starting at `start`; NaN: not seen. A step's requests are
    taken to arrive together at its start."""
    watch(law, start)
    for i in range(len(requests)):
        if np.isnan(requests[i]):
            miss(law)
        elif requests[i] > 0.0:
            observe(law, start + i * step_seconds, requests[i])


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
