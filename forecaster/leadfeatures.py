"""What the lead-time model looks at, on the control grid.

Every number is a function of a bounded window before the row, from exact integer sums: a row computed alone in the
running service equals, bit for bit, the same row computed among thousands when a week is replayed. Sums go on with each
bin, and a row is one compiled pass over them: thousands of endpoints are looked at in well under a second.
"""

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import DemandCalendar, free_days, offset_changes
from forecaster.kernels import kernel
from forecaster.series import FloatArray

IntArray = NDArray[np.int64]

RESOLUTION = 1e6
"""Sums are kept in whole millionths of a demand unit per second: exact in 64 bits up to 1e6 units/s for a year."""
MINUTE_SECONDS, HOUR_SECONDS, DAY_SECONDS = 60, 3600, 86_400
MEAN_WINDOWS = (1, 2, 8, 20, 40, 80, 240, 960)
PEAK_WINDOWS = (20, 80, 240)
SLOPE_WINDOWS = (4, 20, 80)
EARLIER_DAYS = (1, 2, 7)
PERIODS_SECONDS = (300, 600, 3600)
"""Cron-like load repeats within these: 5, 10 and 60 minutes."""
TYPICAL_DAYS = 7
HISTORY_DAYS = TYPICAL_DAYS + 1
"""No feature reaches further back than this."""
FLOOR_SHARE = 1e-9
LONGEST_GAP_STEPS = 960
N_FEATURES = 11 + len(MEAN_WINDOWS) + len(SLOPE_WINDOWS) + 2 * len(PEAK_WINDOWS) + 3 * len(EARLIER_DAYS)
OF_FREE_DAYS = [N_FEATURES - 1 - 3 * i for i in range(len(EARLIER_DAYS) + 1)]
"""The columns that tell free days."""


class DemandTape:
    """Demand of one endpoint on the control grid, with running sums. Bin i covers [start + i*step, start + (i+1)*step).

    `values` has shape (n,), units per second (or a level), NaN = not seen. `start_seconds` is since the epoch. Local
    time and free days are those of `calendar`.
    """

    def __init__(
        self,
        values: FloatArray,
        start_seconds: float,
        step_seconds: float,
        calendar: DemandCalendar | None = None,
    ) -> None:
        self.step_seconds = step_seconds
        self.calendar = calendar or DemandCalendar()
        self.zone = offset_changes(self.calendar.timezone)
        self.start_seconds = start_seconds
        self._n = 0
        self._values = np.empty(max(len(values), 16))
        self._total = np.zeros(len(self._values) + 1, dtype=np.int64)
        self._seen = np.zeros(len(self._values) + 1, dtype=np.int64)
        self.append(values)

    def __len__(self) -> int:
        return self._n

    @property
    def values(self) -> FloatArray:
        return self._values[: self._n]

    def steps(self, seconds: float) -> int:
        """How many bins `seconds` take, at least one."""
        return max(1, round(seconds / self.step_seconds))

    def days_before(self, bins: IntArray, days: int) -> IntArray:
        """The bins at the same local time `days` earlier, negative before the tape; as Panel.days_before: across a
        change of summer time an hour more or less than days * 24 h."""
        return np.asarray(_days_before(bins, (self.start_seconds, self.step_seconds), self.zone, days))

    def append(self, values: FloatArray) -> None:
        """Add bins at the end; amortised constant time a bin."""
        n, more = self._n, len(values)
        if n + more > len(self._values):
            room = max(2 * len(self._values), n + more)
            self._values = np.concatenate([self._values[:n], np.empty(room - n)])
            self._total = np.concatenate([self._total[: n + 1], np.zeros(room - n, dtype=np.int64)])
            self._seen = np.concatenate([self._seen[: n + 1], np.zeros(room - n, dtype=np.int64)])
        self._values[n : n + more] = values
        known = ~np.isnan(values)
        whole = np.rint(np.where(known, values, 0.0) * RESOLUTION).astype(np.int64)
        self._total[n + 1 : n + more + 1] = self._total[n] + np.cumsum(whole)
        self._seen[n + 1 : n + more + 1] = self._seen[n] + np.cumsum(known)
        self._n = n + more

    def sums(self) -> tuple[FloatArray, IntArray, IntArray]:
        """The values (n,), and before each bin (n + 1,) the sum of them, in RESOLUTION, and how many were seen."""
        return self.values, self._total[: self._n + 1], self._seen[: self._n + 1]

    def mean(self, end: IntArray, width: int) -> FloatArray:
        """Mean of the seen bins among the `width` before each `end`; NaN where none was seen or none exists."""
        # np.minimum and np.maximum: np.clip takes most of a row's time.
        last = np.minimum(np.maximum(end, 0), self._n)
        first = np.minimum(np.maximum(end - width, 0), self._n)
        n_seen = self._seen[last] - self._seen[first]
        total = self._total[last] - self._total[first]
        return np.where(n_seen > 0, total / (np.maximum(n_seen, 1) * RESOLUTION), np.nan)


def trailing_max(values: FloatArray, width: int) -> FloatArray:
    """Maximum over the last axis of the `width` values up to and including each; NaN counts as not seen (-inf)."""
    best = np.where(np.isnan(values), -np.inf, values)
    reach = 1
    while reach < width and reach < values.shape[-1]:
        shift = min(reach, width - reach)
        best[..., shift:] = np.maximum(best[..., shift:], best[..., :-shift])
        reach += shift
    return best


def demand_now(tape: DemandTape, rows: IntArray) -> FloatArray:
    """Mean demand of the last full minute before each row; NaN where nothing of it was seen."""
    return tape.mean(rows, tape.steps(MINUTE_SECONDS))


def typical_demand(tape: DemandTape, rows: IntArray) -> FloatArray:
    """Mean of the week before each row, never quite 0: the scale of everything."""
    return np.fmax(tape.mean(rows, tape.steps(TYPICAL_DAYS * DAY_SECONDS)), FLOOR_SHARE)


def lead_features(tape: DemandTape, first: int, last: int, lead_steps: int) -> FloatArray:
    """Features of the rows first..last-1, (n_rows, n_features), NaN where not known. Row t uses bins before t only.

    By column: demand now and the scale; how means of MEAN_WINDOWS differ from now; how windows differ from those before
    them; the highest and the lowest minute of PEAK_WINDOWS; steps since demand was last 0 and last above 0, and the
    level before the present gap; where the lead stands in 5, 10, 60 minutes and in the local day, and whether that day
    is free; for each of EARLIER_DAYS demand around the lead's local time, its change since "now" of that day, and
    whether that day is of the lead's type, free or working.
    """
    out = np.empty((max(last - first, 0), N_FEATURES))
    spans = (tape.steps(MINUTE_SECONDS), tape.steps(TYPICAL_DAYS * DAY_SECONDS))
    clock = (tape.start_seconds, tape.step_seconds)
    _fill(tape.sums(), clock, tape.zone, _free_from(tape, first, last, lead_steps), first, lead_steps, spans, out)
    return out


def _free_from(tape: DemandTape, first: int, last: int, lead_steps: int) -> tuple[int, NDArray[np.bool_]]:
    """A local day, and whether it and those after it are free: all that the rows first..last-1 ask for. Local days are
    within one of those of UTC."""
    begin, end = (
        int((tape.start_seconds + (row + lead_steps) * tape.step_seconds) // DAY_SECONDS) for row in (first, last)
    )
    begin -= max(EARLIER_DAYS) + 1
    return begin, free_days(tape.calendar.holidays_of, begin, end + 2 - begin)


@kernel(error_model="numpy")
def _fill(  # type: ignore[no-untyped-def]
    sums, clock, zone, free_from, first, lead_steps, spans, out
):
    values = sums[0]
    first_day, free = free_from
    minute, week = spans
    zero, above = _latest(values, first, True), _latest(values, first, False)
    for i in range(len(out)):
        row = first + i
        if row > 0 and i > 0:
            zero = row - 1 if values[row - 1] == 0 else zero
            above = row - 1 if values[row - 1] > 0 else above
        typical = _mean(sums, row, week)
        scale = typical if typical > FLOOR_SHARE else FLOOR_SHARE
        now = np.sqrt(_mean(sums, row, minute) / scale)
        out[i, 0], out[i, 1] = now, np.log(scale)
        at = 2
        for width in MEAN_WINDOWS:
            out[i, at] = np.sqrt(_mean(sums, row, width) / scale) - now
            at += 1
        for width in SLOPE_WINDOWS:
            out[i, at] = np.sqrt(_mean(sums, row, width) / scale) - np.sqrt(_mean(sums, row - width, width) / scale)
            at += 1
        at = _fill_peaks(sums, row, minute, scale, now, out[i], at)
        at = _fill_gap(sums, row, zero, above, scale, out[i], at)
        ahead = clock[0] + (row + lead_steps) * clock[1]
        for period in PERIODS_SECONDS:
            out[i, at] = ahead % period
            at += 1
        local = ahead + _offset_at(ahead, zone)
        day = int(local // DAY_SECONDS) - first_day
        angle = 2 * np.pi * (local % DAY_SECONDS) / DAY_SECONDS
        out[i, at], out[i, at + 1], out[i, at + 2] = np.sin(angle), np.cos(angle), free[day]
        at += 3
        for days in EARLIER_DAYS:
            there = _day_before(row + lead_steps, clock, zone, days)
            then = np.sqrt(_mean(sums, there - lead_steps, 40) / scale)
            out[i, at] = np.sqrt(_mean(sums, there + 4, 8) / scale)
            out[i, at + 1] = np.sqrt(_mean(sums, there + 20, 40) / scale) - then
            out[i, at + 2] = free[day - days] == free[day]
            at += 3


@kernel(error_model="numpy")
def _day_before(at, clock, zone, days):  # type: ignore[no-untyped-def]
    """As DemandTape.days_before, for one bin."""
    start, step = clock
    when = start + at * step
    drift = _offset_at(when, zone) - _offset_at(when - days * DAY_SECONDS, zone)
    return at - max(1, round(days * DAY_SECONDS / step)) + round(drift / step)


@kernel(error_model="numpy")
def _offset_at(when, zone):  # type: ignore[no-untyped-def]
    """Seconds that local time is ahead of UTC."""
    edges, offsets = zone
    return offsets[np.searchsorted(edges, when, side="right") - 1] if len(offsets) > 1 else offsets[0]


@kernel(error_model="numpy")
def _days_before(bins, clock, zone, days):  # type: ignore[no-untyped-def]
    earlier = np.empty_like(bins)
    for i in range(len(bins)):
        earlier[i] = _day_before(bins[i], clock, zone, days)
    return earlier


@kernel(error_model="numpy")
def _mean(sums, end, width):  # type: ignore[no-untyped-def]
    """As DemandTape.mean, for one end."""
    values, total, seen = sums
    last = min(max(end, 0), len(values))
    first = min(max(end - width, 0), len(values))
    n_seen = seen[last] - seen[first]
    return (total[last] - total[first]) / (n_seen * RESOLUTION) if n_seen > 0 else np.nan


@kernel(error_model="numpy")
def _latest(values, row, is_zero):  # type: ignore[no-untyped-def]
    """The last bin before `row` with demand of 0, or above 0; far back if it lies beyond LONGEST_GAP_STEPS."""
    for at in range(row - 1, max(row - 1 - LONGEST_GAP_STEPS, -1), -1):
        if (values[at] == 0) if is_zero else (values[at] > 0):
            return at
    return row - 1 - LONGEST_GAP_STEPS


@kernel(error_model="numpy")
def _fill_peaks(sums, row, minute, scale, now, out, at):  # type: ignore[no-untyped-def]
    highest, lowest = np.nan, np.nan
    back = 0
    for width in PEAK_WINDOWS:
        while back < width:
            value = _mean(sums, row - back, minute)
            if not highest >= value and not np.isnan(value):
                highest = value
            if not lowest <= value and not np.isnan(value):
                lowest = value
            back += 1
        out[at], out[at + 1] = np.sqrt(highest / scale) - now, np.sqrt(lowest / scale) - now
        at += 2
    return at


@kernel(error_model="numpy")
def _fill_gap(sums, row, zero, above, scale, out, at):  # type: ignore[no-untyped-def]
    out[at] = min(row - 1 - zero, LONGEST_GAP_STEPS)
    since = min(row - 1 - above, LONGEST_GAP_STEPS)
    out[at + 1] = since
    in_gap = 0 < since < LONGEST_GAP_STEPS
    out[at + 2] = np.sqrt(_mean(sums, above + 1, 20) / scale) if in_gap else np.nan
    return at + 3


def lead_targets(tape: DemandTape, rows: IntArray, lead_steps: int) -> FloatArray:
    """Demand in the minute that begins one lead after each row; NaN where it has not ended or was not seen."""
    width = tape.steps(MINUTE_SECONDS)
    ahead = tape.mean(rows + lead_steps + width, width)
    return np.where(rows + lead_steps + width <= len(tape), ahead, np.nan)


def peak_targets(tape: DemandTape, first: int, last: int, window_seconds: float) -> FloatArray:
    """The highest minute that begins within `window_seconds` after each row first..last-1; NaN where not yet known."""
    width, window = tape.steps(MINUTE_SECONDS), tape.steps(window_seconds)
    rows = np.arange(first, last)
    minutes = demand_now(tape, np.arange(first + width, last + width + window - 1))
    highest = trailing_max(minutes, window)[window - 1 :]
    return np.where((rows + width + window - 1 <= len(tape)) & np.isfinite(highest), highest, np.nan)
