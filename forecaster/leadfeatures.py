"""What the lead-time model looks at, on the control grid.

Every number is a function of a bounded window before the row, from exact integer sums: a row computed alone in the
running service equals, bit for bit, the same row computed among thousands when a week is replayed.
"""

import numpy as np
from numpy.typing import NDArray

from forecaster.series import FloatArray

IntArray = NDArray[np.int64]

RESOLUTION = 1e6
"""Sums are kept in whole millionths of a demand unit per second: exact in 64 bits up to 1e6 units/s for a year."""
MINUTE_SECONDS, HOUR_SECONDS, DAY_SECONDS = 60, 3600, 86_400
MEAN_WINDOWS = (1, 2, 8, 20, 40, 80, 240, 960)
PEAK_WINDOWS = (20, 80, 240)
PERIODS_SECONDS = (300, 600, 3600)
"""Cron-like load repeats within these: 5, 10 and 60 minutes."""
TYPICAL_DAYS = 7
HISTORY_DAYS = TYPICAL_DAYS + 1
"""No feature reaches further back than this."""
FLOOR_SHARE = 1e-9
LONGEST_GAP_STEPS = 960


class DemandTape:
    """Demand of one endpoint on the control grid, with running sums. Bin i covers [start + i*step, start + (i+1)*step).

    `values` has shape (n,), units per second (or a level), NaN = not seen. `start_seconds` is since the epoch.
    """

    def __init__(self, values: FloatArray, start_seconds: float, step_seconds: float) -> None:
        self.step_seconds = step_seconds
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
    mean = tape.mean(rows, tape.steps(TYPICAL_DAYS * DAY_SECONDS))
    return np.maximum(np.nan_to_num(mean), FLOOR_SHARE)


def lead_features(tape: DemandTape, first: int, last: int, lead_steps: int) -> FloatArray:
    """Features of the rows first..last-1, (n_rows, n_features), NaN where not known. Row t uses bins before t only."""
    rows = np.arange(first, last)
    scale = typical_demand(tape, rows)
    now = np.sqrt(demand_now(tape, rows) / scale)
    columns = [now, np.log(scale)]
    for width in MEAN_WINDOWS:
        columns.append(np.sqrt(tape.mean(rows, width) / scale) - now)
    columns += _slopes(tape, rows, scale)
    columns += _peaks(tape, first, last, scale, now)
    columns += _gaps(tape, first, last, scale)
    columns += _phases(tape, rows, lead_steps)
    columns += _earlier_days(tape, rows, scale, lead_steps)
    return np.column_stack(columns)


def _slopes(tape: DemandTape, rows: IntArray, scale: FloatArray) -> list[FloatArray]:
    """How the mean of a window differs from that of the window before it."""
    return [
        np.sqrt(tape.mean(rows, width) / scale) - np.sqrt(tape.mean(rows - width, width) / scale)
        for width in (4, 20, 80)
    ]


def _peaks(tape: DemandTape, first: int, last: int, scale: FloatArray, now: FloatArray) -> list[FloatArray]:
    """Highest and lowest minute of the last 5, 20 and 60 minutes, and the highest minute of the week by hours."""
    widest = max(PEAK_WINDOWS)
    minutes = demand_now(tape, np.arange(first - widest + 1, last))
    columns = []
    for width in PEAK_WINDOWS:
        highest = trailing_max(minutes, width)[widest - 1 :]
        lowest = -trailing_max(-minutes, width)[widest - 1 :]
        columns += [np.sqrt(_finite(highest) / scale) - now, np.sqrt(_finite(lowest) / scale) - now]
    return columns


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, np.nan)


def _gaps(tape: DemandTape, first: int, last: int, scale: FloatArray) -> list[FloatArray]:
    """Steps since demand was last 0 and last above 0 (capped), and the five-minute level before the present gap."""
    begin = max(first - LONGEST_GAP_STEPS, 0)
    window = tape.values[begin : max(last - 1, 0)]
    steps = np.arange(begin, begin + len(window))
    columns, latest_above = [], np.full(last - first, -1)
    for is_it in (window == 0, window > 0):
        latest = np.maximum.accumulate(np.where(is_it, steps, begin - LONGEST_GAP_STEPS)) if len(window) else steps
        rows = np.arange(first, last) - 1 - begin
        at = latest[np.maximum(rows, 0)] if len(window) else np.full(last - first, -LONGEST_GAP_STEPS)
        since = np.minimum(np.arange(first, last) - 1 - at, LONGEST_GAP_STEPS)
        columns.append(np.where(rows >= 0, since, LONGEST_GAP_STEPS).astype(np.float64))
        latest_above = at
    before_gap = tape.mean(np.maximum(latest_above + 1, 0), 20)
    inside = columns[1] > 0
    columns.append(np.where(inside & (columns[1] < LONGEST_GAP_STEPS), np.sqrt(before_gap / scale), np.nan))
    return columns


def _phases(tape: DemandTape, rows: IntArray, lead_steps: int) -> list[FloatArray]:
    """Where the lead stands within 5, 10 and 60 minutes, and in the day."""
    ahead = tape.start_seconds + (rows + lead_steps) * tape.step_seconds
    angle = 2 * np.pi * (ahead % DAY_SECONDS) / DAY_SECONDS
    return [*(ahead % period for period in PERIODS_SECONDS), np.sin(angle).astype(float), np.cos(angle).astype(float)]


def _earlier_days(tape: DemandTape, rows: IntArray, scale: FloatArray, lead_steps: int) -> list[FloatArray]:
    """Demand around the lead one day, two days and a week ago, and its change since "now" of that day."""
    columns = []
    for days in (1, 2, 7):
        lag = tape.steps(days * DAY_SECONDS)
        around = np.sqrt(tape.mean(rows + lead_steps - lag + 4, 8) / scale)
        wide = np.sqrt(tape.mean(rows + lead_steps - lag + 20, 40) / scale)
        then = np.sqrt(tape.mean(rows - lag, 40) / scale)
        columns += [around, wide - then]
    return columns


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
    highest = _finite(trailing_max(minutes, window)[window - 1 :])
    return np.where(rows + width + window - 1 <= len(tape), highest, np.nan)
